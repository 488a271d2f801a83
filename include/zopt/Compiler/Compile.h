//===- Compile.h - from a module to a plan -----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_COMPILE_H
#define ZOPT_COMPILER_COMPILE_H

#include "zopt/Compiler/Options.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"

namespace zopt {

/// Everything that a zopt module may hold.
void registerAllDialects(mlir::DialectRegistry &registry);

/// Unit attribute of a portable plan that was compiled with `--no-fuse`: it is specialized without fusion.
constexpr llvm::StringLiteral kNoFuseAttribute = "train.no_fuse";

/// The attribute `train.level` of a module: "forward", "step", "explicit", "final", or empty.
llvm::StringRef getLevel(mlir::ModuleOp module);

/// Runs the passes of a textual pipeline, without the `builtin.module(...)` around them. `configure` may add instrumentation (printing, timing) before it runs.
mlir::LogicalResult runPipeline(mlir::ModuleOp module, llvm::StringRef pipeline, llvm::function_ref<mlir::LogicalResult(mlir::PassManager &)> configure = {});

/// Number of CPUs that this process may use, at least 1.
int64_t usableCpus();

/// Threads a rank when the user named none: max(1, CPUs / world), the same for every way of starting ranks.
int64_t defaultThreads(int64_t worldSize);

} // namespace zopt

#endif // ZOPT_COMPILER_COMPILE_H
