//===- NoCuda.cpp - builds without CUDA's headers -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/Devices.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"

namespace zopt::runtime {

static constexpr const char *kProblem = "this zrun was built without CUDA's headers, so it has no target cuda: build it where CUDA 13 is installed, or give --target=cpu";

std::string describeDevices(bool) { return ""; }

DeviceProbe parseDevices(const std::string &) {
  DeviceProbe probe;
  probe.problem = kProblem;
  return probe;
}

std::shared_ptr<void> warmDevices(int) { return nullptr; }

Result<std::unique_ptr<Executor>> createCudaExecutor(const Program &, Communicator &, const ExecutorOptions &) { return inputError(kProblem); }

Result<MatmulTuning> tuneMatmuls(const Program &) { return inputError(kProblem); }

} // namespace zopt::runtime
