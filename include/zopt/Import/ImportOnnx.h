//===- ImportOnnx.h - from an ONNX file to the forward level -----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_IMPORT_IMPORTONNX_H
#define ZOPT_IMPORT_IMPORTONNX_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace zopt {

/// Dropout and BatchNormalization: as exported, forced to training, forced to inference.
enum class TrainingMode { Keep, Train, Eval };

/// How a model is read (docs: INTERFACE `--bind`, `--batch-dim`, `--train-only`, `--freeze`, `--tie-weights`, `--training-mode`).
struct ImportOptions {
  int64_t microBatch = 1;             ///< value of the batch dimension; a static batch in the model wins and is said where it differs from an explicit one
  bool microBatchGiven = false;       ///< whether the user named `microBatch`: a static batch other than it is then an error
  llvm::StringMap<int64_t> binds;     ///< symbolic dimension -> size
  std::string batchDim;               ///< name of the batch dimension; empty: the leading symbolic dimension that all inputs share
  std::vector<std::string> trainOnly; ///< regular expressions or "@FILE" of names; empty: the default rule
  std::vector<std::string> freeze;    ///< the same: what is not trained
  bool tieWeights = false;            ///< initializers with equal content (also transposed copies) become one parameter
  TrainingMode trainingMode = TrainingMode::Keep;
  std::string planDirectory;          ///< weight paths are written relative to this folder; empty: relative to the model's own
  bool quiet = false;                 ///< no one-line summaries (remarks); warnings and errors stay
  llvm::StringMap<std::vector<int64_t>> inputShapes; ///< shapes of inputs, in place of those that the graph declares
  bool constantsOnly = false;         ///< no initializer is a parameter
};

/// Reads the ONNX model at `path` and returns a module of the forward level (docs/Levels.md), or null after errors. Every problem of the model is one diagnostic, all of them
/// at once; its location is a NameLoc "<file>:<node>". Remarks say what trains and how open dimensions were bound. `context` must have loaded the train and func dialects.
/// Weight bytes are never read into the IR; only `tieWeights` reads all of them.
mlir::OwningOpRef<mlir::ModuleOp> importOnnx(llvm::StringRef path, const ImportOptions &options, mlir::MLIRContext *context);

/// Reads the ONNX graph at `path`, a loss over outputs of `module` (what importOnnx made of the model), into it as `@loss`, with constants of its own as buffers. Inputs are matched by
/// name to the model's outputs, then to its inputs; the others are labels, of which at least the leading size is the micro-batch. Symbolic dimensions are those of the outputs, or of
/// `options.binds`. Every problem is a diagnostic, as above: among them a loss that is not one float, that reads no output, draws random numbers or normalizes by batch statistics.
llvm::LogicalResult importLoss(llvm::StringRef path, const ImportOptions &options, mlir::ModuleOp module);

/// `--list-parameters`: one line an initializer: name, type, trained or not, and why. Fails as importOnnx does.
llvm::LogicalResult listParameters(llvm::StringRef path, const ImportOptions &options, mlir::MLIRContext *context, llvm::raw_ostream &os);

/// `--list-ops`: the table of ONNX operators, the opsets in which they import, and whether a gradient flows through what they become.
void listOps(llvm::raw_ostream &os);

} // namespace zopt

#endif // ZOPT_IMPORT_IMPORTONNX_H
