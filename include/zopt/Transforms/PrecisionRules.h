//===- PrecisionRules.h - what each op computes in -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The table by which zopt-mixed-precision lowers, and that docs/Precision.md shows.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_PRECISIONRULES_H
#define ZOPT_TRANSFORMS_PRECISIONRULES_H

#include "mlir/IR/Operation.h"
#include "llvm/Support/raw_ostream.h"

namespace zopt {

/// What ops do under bf16 and fp16 where they meet activations. `operands` and `results` are about floats: those that
/// are not named are in the compute type.
struct PrecisionRule {
  const char *ops;      ///< of the train dialect, separated by spaces
  const char *operands; ///< for the table
  unsigned own;         ///< operands that keep a type of their own, a bit each
  const char *inside;   ///< for the table: arithmetic and sums
  const char *results;  ///< for the table
  unsigned statistics;  ///< results in the type that the op computes in, a bit each
};

/// The rule of an op of the train dialect; null where there is none.
const PrecisionRule *findPrecisionRule(llvm::StringRef nameWithoutDialect);

/// Whether an operand is read in a precision of its own beside lowered ones.
bool keepsOperand(mlir::OpOperand &operand);
/// Whether a result is a statistic, in the type that its op computes in.
bool isStatistic(mlir::OpResult result);

/// `--list-precision`: the table, in Markdown. Fails, naming them, where ops that `context` has registered are not in
/// it.
llvm::LogicalResult listPrecision(mlir::MLIRContext *context, llvm::raw_ostream &os);

} // namespace zopt

#endif // ZOPT_TRANSFORMS_PRECISIONRULES_H
