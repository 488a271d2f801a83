//===- LossBuilder.h - terms of a loss as ops --------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_LOSSBUILDER_H
#define ZOPT_LIB_TRANSFORMS_LOSSBUILDER_H

#include "StepStates.h"
#include "zopt/Transforms/LossTerms.h"

namespace zopt {

/// A loss as a sum over `positions` label positions, of which `count` (a scalar) are counted. With weights of classes
/// each position counts as much as its label's weight.
struct Loss {
  mlir::Value sum;
  mlir::Value count;
  int64_t positions = 0;
  bool ignores = false;    ///< whether count can differ from positions
  bool weighted = false;   ///< whether count is a sum of weights, which may be below 1
  mlir::Value labels = {}; ///< that were counted, where some can be ignored
  bool isEmpty = false;    ///< whether count can be 0 though it is that of a mean (1 otherwise): a micro-batch in which
                           ///< all labels are ignored has none
};

/// The function that the importer left of `--loss=onnx:FILE`: inputs are the model's outputs and inputs of the same
/// `train.name`, and labels; it has one result of one element.
constexpr llvm::StringLiteral kLossFunction = "loss";

struct LossSettings {
  std::string logits, labels;
  int64_t ignoreIndex = -100;
  double labelSmoothing = 0;
  int64_t classAxis = -1;
  llvm::SmallVector<double> classWeights, positiveWeights; ///< empty: none
};

/// Appends terms to `@forward`, before its terminator, and labels to its arguments. Reports problems at the function.
class LossBuilder {
public:
  LossBuilder(mlir::func::FuncOp forward, const LossSettings &settings);

  mlir::FailureOr<Loss> build(const LossTerm &term);

  /// The sum of terms. Where all of them count the same labels it is a sum over these; otherwise each term is its mean
  /// over this micro-batch (`count` is 1), and so is the sum.
  /// `parts` gets what each term adds, without its weight.
  Loss combine(llvm::ArrayRef<LossTerm> terms, llvm::ArrayRef<Loss> losses, llvm::SmallVectorImpl<mlir::Value> &parts);

  /// What a sum over counted labels is divided by for their mean: the count; 1 where nothing was counted, so that it
  /// adds 0.
  mlir::Value divisorOf(const Loss &loss);

  /// Outputs of the model that were the loss themselves.
  llvm::ArrayRef<mlir::Value> ownLosses() const { return own; }

private:
  /// An output of the graph.
  struct Output {
    llvm::StringRef name;
    mlir::Value value;
  };
  llvm::SmallVector<Output> outputs() const;
  mlir::FailureOr<Output> selectOutput(const LossTerm &term);
  mlir::FailureOr<Loss> buildCrossEntropy(const Output &output, llvm::StringRef labels);
  Loss buildWeightedCrossEntropy(mlir::Value logits, mlir::Value labels);
  mlir::FailureOr<Loss> buildElementwise(const Output &output, llvm::StringRef kind, llvm::StringRef labels);
  mlir::FailureOr<Loss> buildOutput(const Output &output);
  mlir::FailureOr<Loss> buildGraph(llvm::StringRef file);
  Loss takeMean(mlir::Value value);
  mlir::Value anyOf(llvm::ArrayRef<mlir::Value> counts);
  /// The label argument of that name: a new one, or that of an earlier term which reads the same.
  mlir::FailureOr<mlir::Value> addLabels(llvm::StringRef name, mlir::RankedTensorType type,
                                         llvm::ArrayRef<mlir::NamedAttribute> attributes);

  mlir::func::FuncOp forward;
  const LossSettings &settings;
  mlir::OpBuilder builder;
  llvm::SmallVector<mlir::Value> own;
};

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_LOSSBUILDER_H
