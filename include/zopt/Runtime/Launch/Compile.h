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
#include "zopt/Runtime/Launch/Options.h"
#include <string>

namespace zopt::runtime {

/// The handle of libZoptCompiler.so, or null and why. For child processes alone.
void *loadCompiler(std::string &problem);

/// Makes the Program for a world and gives its path; with --autotune and a GPU twice, the second time with the algorithms that were the fastest in between. Called while the process has one thread.
Result<std::string> compilePlan(const RunOptions &options, int worldSize, int threads);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_COMPILE_H
