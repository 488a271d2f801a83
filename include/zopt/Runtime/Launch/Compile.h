//===- Compile.h - calls the compiler ---------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the compiler in a child process, which loads libZoptCompiler.so: no process that trains ever has MLIR in its memory, and a compiler that crashes is an error like any other.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_COMPILE_H
#define ZOPT_RUNTIME_LAUNCH_COMPILE_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Launch/Child.h"
#include "zopt/Runtime/Launch/Options.h"
#include <memory>
#include <string>

namespace zopt::runtime {

/// The handle of libZoptCompiler.so, or null and why. For child processes alone.
void *loadCompiler(std::string &problem);

/// A compiler that is loaded while the target is still looked for, or null where compilePlan() does better without.
/// Called while the process has one thread.
std::unique_ptr<Child> startCompiler(const RunOptions &options, int worldSize, int threads);

/// Makes the Program for a world and gives its path, by the compiler that was `started` for it or by a new one; with
/// --autotune and a GPU twice, the second time with the algorithms that were the fastest in between. Called while the
/// process has one thread.
Result<std::string> compilePlan(const RunOptions &options, int worldSize, int threads,
                                std::unique_ptr<Child> started = nullptr);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_COMPILE_H
