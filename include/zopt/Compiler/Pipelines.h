//===- Pipelines.h - the compiler's table of contents ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Pipelines are built as text, so that what `--print-pipeline` prints is what runs.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_PIPELINES_H
#define ZOPT_COMPILER_PIPELINES_H

#include "zopt/Compiler/Options.h"
#include "llvm/ADT/StringRef.h"
#include <string>

namespace zopt {

/// Passes from the forward level to a portable plan (the explicit level), comma-separated.
std::string buildStepPipeline(const StepOptions &options, const BatchOptions &batch);

/// Passes from a portable plan to a final one, comma-separated.
std::string buildSpecializePipeline(const FinalPlanOptions &options);

/// A value as the lists of zopt-record-settings hold it.
std::string encodeSetting(llvm::StringRef value);

/// Registers every pass of zopt with MLIR's pass registry. Idempotent.
void registerAllPasses();

} // namespace zopt

#endif // ZOPT_COMPILER_PIPELINES_H
