//===- FakeCuda.h - a driver without a GPU ----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stands in for libcuda.so.1 and libnccl.so.2, in the host's memory, so that the CUDA executor is tested where there is no GPU. It is as unkind as a real driver may be:
// nothing that is queued runs before somebody asks for it; what no event orders runs in a random order (FAKE_CUDA_SEED), inside graphs too; host memory is read and written when a copy runs, not when it is
// queued, and must be pinned; a capture refuses what CUDA refuses, unjoined streams above all. Kernels are looked up by name: those of TinyProgram, and the sums over ranks.
//
// Environment, read at each use:
//   FAKE_CUDA_VERSION   what cuDriverGetVersion says (13000)
//   FAKE_CUDA_DEVICES   how many devices there are (1)
//   FAKE_CUDA_NAME      what they are called ("Fake GPU")
//   FAKE_CUDA_MEMORY    bytes of each (1 GiB)
//   FAKE_CUDA_CAPABILITY  the major number of their compute capability (9)
//   FAKE_CUDA_FAIL      "cuLaunchKernel:3:700": the third call from then on returns error 700; "kernel:3:700": the third kernel that runs fails so, which every later call tells
//   FAKE_CUDA_UNKNOWN_KERNELS  1: kernels that it does not know are taken, and do nothing
//   FAKE_CUDA_IPC_SHIFT bytes that memory of another rank is mapped beside its place
//   FAKE_CUDA_HANG      not empty: nothing that is queued comes to its end
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_FAKECUDA_H
#define ZOPT_TEST_UNIT_RUNTIME_FAKECUDA_H

#include <cstdint>
#include <cuda.h>
#include <functional>

namespace fake {

/// Queues work of a library; it returns false as long as it cannot go on, and is then called again. Captured like everything else.
CUresult enqueue(CUstream stream, std::function<bool()> body);
/// The process's one lock; queued work runs under it.
void lock();
void unlock();

} // namespace fake

/// The same for libraries that are loaded as modules and find these by dlsym: queued work, and how long the device is busy with it, which events tell.
extern "C" CUresult fakeCudaEnqueue(CUstream stream, const std::function<bool()> *body);
extern "C" void fakeCudaSpend(double microseconds);

/// For tests, by dlsym: how often things have happened since the library was loaded.
struct FakeCudaCounts {
  int64_t launches, graphLaunches, captures, copiesIn, copiesOut, deviceBytes, pinnedBytes, collectives, opened, mapped,
      retained;
};
extern "C" FakeCudaCounts fakeCudaCounts();

#endif // ZOPT_TEST_UNIT_RUNTIME_FAKECUDA_H
