//===- Collectives.h - collectives on device memory -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What Communicator.h says of collectives, on buffers of the device: each is queued on a stream and done when the stream has come past it. Two ways:
//
// - NCCL, which moves all data between GPUs. It sums only what it sums as we do, up to the order of the ranks: fp32 and f64 into the same type without an accumulator. Of everything else (bf16 sums in
//   fp32, accumulators in fp32) it carries the parts, to and from every rank, and RankSums adds them: the bits of Comm/MPI. Where ranks reach each other's memory, copies of the driver carry gathers and
//   all parts in its place (PeerCopies), and it sums scalars only.
// - Through the host: copied to pinned memory, exchanged by the rank's Communicator, copied back. It needs the host in the middle of a step, so steps are not captured. For ranks that share a GPU, and
//   for a rank on its own, who has nobody to talk to and stays on the device.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_COLLECTIVES_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_COLLECTIVES_H

#include "DeviceContext.h"
#include "RankSums.h"
#include "zopt/Runtime/Comm/Communicator.h"
#include <memory>

namespace zopt::runtime::cuda {

class DeviceCollectives {
public:
  virtual ~DeviceCollectives();
  virtual const char *name() const = 0;
  /// Whether the host takes part, so that a sequence with collectives cannot be captured.
  virtual bool needsHost() const = 0;
  /// Whether reductions have a stream of their own. Their sums wait for multiprocessors, which a gather that needs none should not wait for.
  virtual bool reducesApart() const { return false; }

  virtual Status allGather(const Collective &collective, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) = 0;
  virtual Status reduceScatter(const Collective &collective, CUstream stream, CUdeviceptr source, DataType sourceType, CUdeviceptr destination, DataType destinationType, CUdeviceptr workspace, int64_t elements,
                               bool accumulate) = 0;
  virtual Status allReduce(const Collective &collective, CUstream stream, CUdeviceptr buffer, DataType type, CUdeviceptr workspace, int64_t elements) = 0;
  virtual Status allReduceScalars(const std::string &label, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t count, DataType type) = 0;
  /// In place.
  virtual Status allReduceIntegers(const std::string &label, CUstream stream, CUdeviceptr values, int64_t count) = 0;

  /// Called once, by every rank, before the first collective: the arenas of `program`, which are idle and zero. All fail together.
  virtual Status connect(const Program & /*program*/, const std::vector<CUdeviceptr> & /*arenas*/) { return success(); }
  /// A warning about the way that was found, or nothing.
  virtual std::string remark() const { return ""; }
  /// Whether everything still stands, as far as can be seen without waiting.
  virtual Status health() { return success(); }
};

/// Through the host. `program` says how much pinned memory that takes.
Result<std::unique_ptr<DeviceCollectives>> makeStagedCollectives(DeviceContext &device, Communicator &communicator, const Program &program);

/// By NCCL: refused where ranks share a GPU. Every rank calls it, and all fail together.
Result<std::unique_ptr<DeviceCollectives>> makeNcclCollectives(DeviceContext &device, Communicator &communicator, const Program &program, double timeoutSeconds);

/// Loads the sums that the program's collectives need.
Status prepareSums(RankSums &sums, const Program &program);

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_COLLECTIVES_H
