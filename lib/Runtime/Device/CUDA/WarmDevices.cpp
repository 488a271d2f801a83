//===- WarmDevices.cpp - contexts and libraries ahead of their use --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceContext.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include <algorithm>
#include <cstdlib>
#include <thread>

namespace zopt::runtime {

using namespace cuda;

namespace {

struct Warmth {
  const Driver &driver;
  std::vector<CUcontext> contexts; // by ordinal; null: not made
  std::vector<std::thread> threads;

  Warmth(const Driver &driver, int devices) : driver(driver), contexts(size_t(devices)) {
    for (int ordinal = 0; ordinal < devices; ++ordinal)
      threads.emplace_back([this, ordinal] {
        CUdevice device = 0;
        CUcontext context = nullptr;
        if (this->driver.cuDeviceGet(&device, ordinal) == CUDA_SUCCESS &&
            this->driver.cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS)
          contexts[size_t(ordinal)] = context;
      });
    threads.emplace_back(LibraryContext::preload);
  }
  ~Warmth() {
    for (std::thread &thread : threads)
      thread.join();
    for (int ordinal = 0; ordinal < int(contexts.size()); ++ordinal)
      if (CUdevice device = 0; contexts[size_t(ordinal)] && driver.cuDeviceGet(&device, ordinal) == CUDA_SUCCESS)
        driver.cuDevicePrimaryCtxRelease(device);
  }
};

} // namespace

std::shared_ptr<void> warmDevices(int ranks) {
  Result<const Driver *> driver = Driver::load();
  int count = 0;
  if (driver.failed() || (*driver)->cuDeviceGetCount(&count) != CUDA_SUCCESS || count == 0)
    return nullptr;
  int devices = 0;
  for (int rank = 0; rank < ranks; ++rank)
    devices = std::max(devices, DeviceContext::ordinalOf(rank, count) + 1);
  // As NCCL gets it later, but before threads read the environment.
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  return std::make_shared<Warmth>(**driver, devices);
}

} // namespace zopt::runtime
