//===- Devices.h - GPUs, as the rest of the runtime sees them ---*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which GPUs there are, and the executor that runs on one. Nothing of CUDA is needed to include this; a build without CUDA's headers says so where it is asked to run.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_DEVICES_H
#define ZOPT_RUNTIME_DEVICE_CUDA_DEVICES_H

#include "zopt/Runtime/Core/Executor.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

struct DeviceFacts {
  std::string name;
  int major = 0, minor = 0;
  int64_t totalBytes = 0;
  int64_t freeBytes = -1; ///< -1: not asked
  std::string chip() const { return concat("sm_", major, minor); }
};

struct DeviceProbe {
  bool hasDriver = false; ///< libcuda is there, usable or not
  std::string problem; ///< why there is no device that could be used: no driver, one too old, no device
  int driverVersion = 0; ///< 13000 for CUDA 13.0; 0: no driver
  std::vector<DeviceFacts> devices; ///< those that CUDA_VISIBLE_DEVICES leaves
};

/// What the driver says of the devices, as text for parseDevices(). Initializes it in this process, which then cannot
/// fork ones that use devices. `withFree` makes a context on every device.
std::string describeDevices(bool withFree = false);
DeviceProbe parseDevices(const std::string &text);

/// In threads, makes the contexts of the devices that `ranks` ranks of this process will take, and loads the libraries
/// that programs of CUDA usually need. What fails is left to createCudaExecutor(), which tells it. The contexts are
/// held, and the threads waited for, until what is returned is dropped.
std::shared_ptr<void> warmDevices(int ranks);

/// The executor of Program::target cuda. Each rank takes the device of its place among the ranks of its machine, modulo their number. Every rank calls it, and all fail together.
Result<std::unique_ptr<Executor>> createCudaExecutor(const Program &program, Communicator &communicator, const ExecutorOptions &options);

/// The oldest driver that is taken, as cuDriverGetVersion tells it.
constexpr int kOldestDriver = 13000;

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DEVICE_CUDA_DEVICES_H
