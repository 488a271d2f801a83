//===- LowerKernels.h - from plan.kernel to LLVM IR ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/PlanToProgram.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/PatternMatch.h"
#include "llvm/ADT/ArrayRef.h"

namespace zopt {

/// Expands transcendental functions of fp32 and conversions of bf16 into arithmetic, and sends the rest to the C library.
void populateMathExpansionPatterns(mlir::RewritePatternSet &patterns);

/// Loads the dialects that lowering makes, and registers what translation needs. Before any `lowerKernels` in this context.
void loadLoweringDialects(mlir::MLIRContext *context);

/// A module in the LLVM dialect with one function `void symbol(ptr arguments, i64 begin, i64 end)` for each kernel, named by getKernelSymbol. Thread-safe.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> lowerKernels(llvm::ArrayRef<plan::KernelOp> kernels);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
