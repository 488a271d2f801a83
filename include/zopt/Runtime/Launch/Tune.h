//===- Tune.h - zrun --autotune ------------------------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_TUNE_H
#define ZOPT_RUNTIME_LAUNCH_TUNE_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"
#include <string>

namespace zopt::runtime {

/// Times the products of the Program at `path` in a child process, because a process that has used a GPU cannot fork ranks that do, and prints a line about it. Called while the process has one thread.
Result<MatmulTuning> tuneProgram(const std::string &plan, const std::string &path);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_TUNE_H
