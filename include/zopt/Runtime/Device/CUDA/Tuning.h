//===- Tuning.h - algorithms of matrix products -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// zrun --autotune: times cuBLASLt's algorithms for every distinct product of a Program on this machine's GPU. The choices become part of the final plan, so results never depend on what was timed by another run; the plan
// says for which library and GPU they were made, and is refused elsewhere.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_TUNING_H
#define ZOPT_RUNTIME_DEVICE_CUDA_TUNING_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

struct MatmulTuning {
  std::vector<int64_t> algorithms;               // one a Matmul command of the Program, in its order
  std::string library, device;                   // "cublasLt 13.1.0", "NVIDIA H100 80GB HBM3"
  int64_t products = 0;                          // distinct ones
  double milliseconds = 0, firstMilliseconds = 0; // of all products of a step: by these algorithms, by the library's first choices
};

/// Takes the first GPU and the memory that the Program plans, which is refused as a run would refuse it. To be called in a process that forks no more.
Result<MatmulTuning> tuneMatmuls(const Program &program);

/// Refuses a Program whose algorithms were chosen for another GPU or, where `library` is given, another library.
Status checkTuning(const Program &program, const std::string &device, const std::string &library = "");

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DEVICE_CUDA_TUNING_H
