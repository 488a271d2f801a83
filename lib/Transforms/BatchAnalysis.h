//===- BatchAnalysis.h - where samples lie in values -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Finds for each value of a forward graph which sample of the micro-batch each element belongs to. Inputs have their
// samples along the first axis; from there it follows ops. Axes that hold samples and something else ([batch * length,
// width]) are understood: samples are a factor of an axis.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_BATCHANALYSIS_H
#define ZOPT_LIB_TRANSFORMS_BATCHANALYSIS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "zopt/Dialect/Train/Train.h"

namespace zopt {

/// The samples of a value of any shape.
struct SamplePlace {
  enum class Kind {
    Shared, ///< the same for all samples
    Apart,  ///< row-major element p belongs to sample (p / inner) % batch
    Mixed,  ///< elements that depend on several samples, or samples that no single factor of an axis tells apart
  };
  Kind kind = Kind::Shared;
  int64_t inner = 1;                ///< Apart
  mlir::Operation *cause = nullptr; ///< Mixed: the op that mixed them

  static SamplePlace shared() { return {}; }
  static SamplePlace apart(int64_t inner) { return {Kind::Apart, inner, nullptr}; }
  static SamplePlace mixed(mlir::Operation *cause) { return {Kind::Mixed, 1, cause}; }
};

class BatchAnalysis {
public:
  /// `batch`: samples of a micro-batch. Of a batch of one, every value that depends on an input is the sample's.
  BatchAnalysis(mlir::func::FuncOp forward, int64_t batch);
  SamplePlace lookup(mlir::Value value) const { return places.lookup(value); }

private:
  SamplePlace follow(mlir::Operation *op, mlir::Value result);

  const int64_t batch;
  llvm::DenseMap<mlir::Value, SamplePlace> places; // asked, never walked
};

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_BATCHANALYSIS_H
