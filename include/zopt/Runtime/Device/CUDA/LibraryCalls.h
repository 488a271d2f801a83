//===- LibraryCalls.h - products and attention on CUDA ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Matmul by cuBLASLt and Attention by cuDNN. All work is queued on the caller's stream and may be captured in a CUDA graph.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H
#define ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <memory>

// As cuda.h declares them, so that users of this header need no NVIDIA headers.
typedef struct CUstream_st *CUstream;
typedef unsigned long long CUdeviceptr;

namespace zopt::runtime::cuda {

/// The loaded libraries and their handles. Not for use from two threads at once.
class LibraryContext {
public:
  static Result<std::unique_ptr<LibraryContext>> create();
  ~LibraryContext();
};

/// A product ready to run. It refers to the context.
class DeviceMatmul {
public:
  virtual ~DeviceMatmul();
  /// `buffers` in the order of Command::buffers; byte offsets applied, 0 where absent. Queues the work and returns.
  virtual Status run(CUstream stream, const CUdeviceptr *buffers) = 0;
};
Result<std::unique_ptr<DeviceMatmul>> createMatmul(LibraryContext &context, const Command &command, int64_t scratchBytes);

/// Attention or its gradient, ready to run. It refers to the context.
class DeviceAttention {
public:
  virtual ~DeviceAttention();
  virtual Status run(CUstream stream, const CUdeviceptr *buffers) = 0;
};
Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &context, const Command &command, int64_t scratchBytes);

} // namespace zopt::runtime::cuda

#endif // ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H
