//===- PlanToProgram.h - from a final plan to what ranks load ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONVERSION_PLANTOPROGRAM_H
#define ZOPT_CONVERSION_PLANTOPROGRAM_H

#include "zopt/Runtime/Core/Program.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringRef.h"

namespace zopt {

/// Fills `program` from a verified final plan; `planHash` and `sharedObject` are the caller's. Emits an error on what a Program cannot hold.
mlir::LogicalResult convertPlanToProgram(mlir::ModuleOp finalPlan, runtime::Program &program);

/// Name of a kernel in the shared object or the PTX.
std::string getKernelSymbol(llvm::StringRef kernelName);

/// Compiles every plan.kernel for the plan's target and links them into a shared object at `path` (whole or not at all). Each exports
/// `void symbol(char *const *arguments, int64_t begin, int64_t end)`. `finalPlan` is left as it was. Numerics: no contraction, no reassociation.
/// For an NVIDIA GPU (triple nvptx64-nvidia-cuda) the file is PTX with one `.entry symbol` a kernel: a 64-bit pointer for each memref, floats by value, begin and end as i64. Numerics: products and
/// sums contract, exponentials and quotients of vectors are accurate to 3 ulp; the same bits every run.
mlir::LogicalResult compileKernels(mlir::ModuleOp finalPlan, llvm::StringRef path);

} // namespace zopt

#endif // ZOPT_CONVERSION_PLANTOPROGRAM_H
