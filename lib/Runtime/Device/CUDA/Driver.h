//===- Driver.h - the CUDA driver, loaded at run time -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// libcuda's functions as a table, which a driver of tests can stand in for. cuMemAlloc, cuMemFree and their relatives for pinned memory are hooked: what the calling thread's rank has allocated is
// counted, so that the measured peak is what was really asked for.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_DRIVER_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_DRIVER_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <cuda.h>
#include <string>

// cuda.h maps some names to versioned ones: every mention below goes through those macros.
#define ZOPT_CUDA_FUNCTIONS(X)                                                                                         \
  X(cuInit)                                                                                                            \
  X(cuGetErrorName)                                                                                                    \
  X(cuGetErrorString)                                                                                                  \
  X(cuDeviceGetCount)                                                                                                  \
  X(cuDeviceGet)                                                                                                       \
  X(cuDeviceGetName)                                                                                                   \
  X(cuDeviceGetUuid)                                                                                                   \
  X(cuDeviceTotalMem)                                                                                                  \
  X(cuDeviceGetAttribute)                                                                                              \
  X(cuDevicePrimaryCtxRetain)                                                                                          \
  X(cuDevicePrimaryCtxRelease)                                                                                         \
  X(cuCtxSetCurrent)                                                                                                   \
  X(cuCtxGetStreamPriorityRange)                                                                                       \
  X(cuMemGetInfo)                                                                                                      \
  X(cuMemAlloc)                                                                                                        \
  X(cuMemFree)                                                                                                         \
  X(cuIpcGetMemHandle)                                                                                                 \
  X(cuIpcOpenMemHandle)                                                                                                \
  X(cuIpcCloseMemHandle)                                                                                               \
  X(cuMemAllocHost)                                                                                                    \
  X(cuMemFreeHost)                                                                                                     \
  X(cuMemcpyHtoDAsync)                                                                                                 \
  X(cuMemcpyDtoHAsync)                                                                                                 \
  X(cuMemcpyDtoDAsync)                                                                                                 \
  X(cuMemsetD8Async)                                                                                                   \
  X(cuStreamCreateWithPriority)                                                                                        \
  X(cuStreamDestroy)                                                                                                   \
  X(cuStreamQuery)                                                                                                     \
  X(cuStreamWaitEvent)                                                                                                 \
  X(cuStreamBeginCapture)                                                                                              \
  X(cuStreamEndCapture)                                                                                                \
  X(cuStreamWriteValue32)                                                                                              \
  X(cuStreamBatchMemOp)                                                                                                \
  X(cuEventCreate)                                                                                                     \
  X(cuEventDestroy)                                                                                                    \
  X(cuEventRecord)                                                                                                     \
  X(cuEventRecordWithFlags)                                                                                            \
  X(cuEventQuery)                                                                                                      \
  X(cuEventElapsedTime)                                                                                                \
  X(cuGraphInstantiate)                                                                                                \
  X(cuGraphDestroy)                                                                                                    \
  X(cuGraphLaunch)                                                                                                     \
  X(cuGraphExecDestroy)                                                                                                \
  X(cuModuleLoadDataEx)                                                                                                \
  X(cuModuleUnload)                                                                                                    \
  X(cuModuleGetFunction)                                                                                               \
  X(cuFuncSetAttribute)                                                                                                \
  X(cuLaunchKernel)                                                                                                    \
  X(cuTensorMapEncodeTiled)

namespace zopt::runtime::cuda {

struct Driver {
#define ZOPT_CUDA_MEMBER(name) decltype(&::name) name = nullptr;
  ZOPT_CUDA_FUNCTIONS(ZOPT_CUDA_MEMBER)
#undef ZOPT_CUDA_MEMBER
  /// cuMemAlloc and cuMemFree without the count: for what is communication's, and reported with NCCL's memory.
  decltype(&::cuMemAlloc) uncountedMemAlloc = nullptr;
  decltype(&::cuMemFree) uncountedMemFree = nullptr;
  int version = 0;  // 13000 for CUDA 13.0
  std::string file; // that it was loaded from

  /// Loads and initializes the driver, once a process; afterwards the same answer. Refuses drivers older than kOldestDriver.
  static Result<const Driver *> load();

  /// The Status of a call that failed, with the driver's name and text of the error, and what helps.
  Status error(const char *call, CUresult code) const;
};

/// Bytes that the calling thread's rank has allocated.
struct AllocationCounts {
  int64_t device = 0, devicePeak = 0;
  int64_t pinned = 0, pinnedPeak = 0;
};
AllocationCounts &allocationCounts();

} // namespace zopt::runtime::cuda

/// Calls a function of the driver and returns from the enclosing function with its error.
#define ZOPT_CUDA(driver, function, ...)                                                                               \
  do {                                                                                                                 \
    if (CUresult zoptCode = (driver).function(__VA_ARGS__); zoptCode != CUDA_SUCCESS)                                  \
      return (driver).error(#function, zoptCode);                                                                      \
  } while (false)

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_DRIVER_H
