//===- GpuHarness.h - memory, streams and timing on a GPU -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For benchmark programs: a failing call of the driver ends the program with its text.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_BENCHMARKS_GPU_GPUHARNESS_H
#define ZOPT_BENCHMARKS_GPU_GPUHARNESS_H

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include <functional>
#include <string>
#include <vector>

namespace zopt::benchmark {

using namespace zopt::runtime;

/// Device 0, its primary context and a stream of its own.
class Gpu {
public:
  Gpu();
  ~Gpu();
  Gpu(const Gpu &) = delete;
  Gpu &operator=(const Gpu &) = delete;

  std::string name() const;
  CUstream stream() const;
  CUdeviceptr allocate(int64_t bytes);
  void release(CUdeviceptr address);
  // Each waits until it is done.
  void upload(CUdeviceptr to, const void *from, int64_t bytes);
  void download(void *to, CUdeviceptr from, int64_t bytes);
  void copy(CUdeviceptr to, CUdeviceptr from, int64_t bytes);
  void fill(CUdeviceptr to, unsigned char byte, int64_t bytes);
  void synchronize();

  /// Random values in [-1, 1), which repeat after 64 MiB.
  void randomize(CUdeviceptr to, DataType type, int64_t bytes);

  /// Median milliseconds of work(0), work(1), ..., each between two events, none of which is waited for before the last. Two runs go before. `runs` 0: as many as take about 100 ms, 5 to 20.
  Result<double> medianMilliseconds(int runs, const std::function<Status(int run)> &work);

  /// Captures what work() queues on the stream in a graph and launches that twice.
  Status replay(const std::function<Status()> &work);

private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation;
};

/// Device memory for as long as the object lives.
class Memory {
public:
  Memory() = default;
  Memory(Gpu &gpu, int64_t bytes) : gpu(&gpu), address(gpu.allocate(bytes)), bytes(bytes) {}
  Memory(Memory &&other) noexcept { swap(other); }
  Memory &operator=(Memory &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Memory() {
    if (address)
      gpu->release(address);
  }
  CUdeviceptr get() const { return address; }
  int64_t size() const { return bytes; }

private:
  void swap(Memory &other) {
    std::swap(gpu, other.gpu);
    std::swap(address, other.address);
    std::swap(bytes, other.bytes);
  }
  Gpu *gpu = nullptr;
  CUdeviceptr address = 0;
  int64_t bytes = 0;
};

/// Elements from the first to one past the last of an operand.
int64_t spanOf(const MatmulOperand &operand);
/// Row-major strides, or with the last two axes exchanged in memory; `pitch` (0: dense) elements from a row (column) to the next.
MatmulOperand matrixOperand(DataType type, std::vector<int64_t> shape, bool transposed = false, int64_t pitch = 0);

/// Pseudo-random numbers that are the same everywhere.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  /// In [-1, 1).
  double symmetric() { return double(int64_t(next()) >> 11) * (1.0 / (int64_t(1) << 52)); }

private:
  uint64_t state;
};

/// Storage of an operand on the host, in its own type.
struct HostTensor {
  MatmulOperand layout;
  std::vector<char> bytes;

  HostTensor() = default;
  explicit HostTensor(MatmulOperand operand) : layout(std::move(operand)), bytes(size_t(spanOf(layout) * sizeOf(layout.type))) {}
  void randomize(Random &random);
  double at(int64_t element) const { return loadAsDouble(layout.type, bytes.data(), element); }
};

/// Collects what failed, for the exit code and a list at the end.
struct Verdict {
  int checks = 0;
  std::vector<std::string> failures;
  /// Counts a check; returns "" or " FAIL".
  const char *check(bool good, const std::string &what);
};

// The parts of zopt-gpu-library-benchmark.
void checkMatmuls(Gpu &gpu, cuda::LibraryContext &context, Verdict &verdict);
void checkAttention(Gpu &gpu, cuda::LibraryContext &context, Verdict &verdict);
void compareWorkspaces(cuda::LibraryContext &context, Verdict &verdict);
void timeMatmuls(Gpu &gpu, cuda::LibraryContext &context);
void timeHead(Gpu &gpu, cuda::LibraryContext &context);
void timeAttention(Gpu &gpu, cuda::LibraryContext &context);

} // namespace zopt::benchmark

#endif // ZOPT_BENCHMARKS_GPU_GPUHARNESS_H
