//===- AttentionGradient.h - the gradients of attention on Hopper -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs commands with `ownKernels` by the kernels of AttentionGradient.cu, whose PTX is part of the program.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENT_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENT_H

#include "Driver.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include <map>
#include <memory>
#include <utility>

namespace zopt::runtime::cuda {

/// "bf16_64": type and width of the heads, which end the kernels' names.
std::string attentionGradientName(DataType type, int64_t width);
/// The PTX of both kernels; empty where there are none for that type and width.
const char *attentionGradientPtx(DataType type, int64_t width);

/// The kernels of the current context, one module for each type and width. They outlive what prepare() makes.
class AttentionGradientKernels {
public:
  AttentionGradientKernels(const Driver &driver, CUdevice device) : driver(driver), device(device) {}
  ~AttentionGradientKernels();
  AttentionGradientKernels(const AttentionGradientKernels &) = delete;
  AttentionGradientKernels &operator=(const AttentionGradientKernels &) = delete;

  /// Compiles what the command needs. Refuses devices that are not of compute capability 9.0.
  Status load(const Command &command);

  /// `buffers` as DeviceAttention::run takes them, which must be given the same.
  Result<std::unique_ptr<DeviceAttention>> prepare(const Command &command, const CUdeviceptr *buffers, int64_t scratchBytes);

private:
  struct Entry {
    CUmodule module = nullptr;
    CUfunction query = nullptr, keyValue = nullptr;
  };
  const Driver &driver;
  CUdevice device;
  int multiprocessors = 0;
  std::map<std::pair<DataType, int64_t>, Entry> entries;
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENT_H
