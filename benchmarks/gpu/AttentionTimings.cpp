//===- AttentionTimings.cpp - attention of training steps on the GPU ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AttentionProblem.h"
#include <algorithm>
#include <cstdio>

namespace zopt::benchmark {

using namespace zopt::runtime::cuda;

namespace {

constexpr int64_t kMiB = int64_t(1) << 20;

/// Sets of tensors of a command, larger together than the caches.
class Buffers {
public:
  Buffers(Gpu &gpu, const Command &command) {
    int64_t bytes = 0;
    for (const MatmulOperand &operand : command.tensors)
      bytes += spanOf(operand) * sizeOf(operand.type);
    const int64_t count = std::clamp<int64_t>(256 * kMiB / bytes, 2, 4);
    for (int64_t i = 0; i < count; ++i) {
      std::vector<CUdeviceptr> set;
      for (const MatmulOperand &operand : command.tensors) {
        const int64_t size = spanOf(operand) * sizeOf(operand.type);
        memories.emplace_back(gpu, size);
        gpu.randomize(memories.back().get(), operand.type, size);
        set.push_back(memories.back().get());
      }
      set.insert(set.end(), {0, 0});
      sets.push_back(std::move(set));
    }
  }
  void setScratch(CUdeviceptr scratch) {
    for (std::vector<CUdeviceptr> &set : sets)
      set.back() = scratch;
  }
  const CUdeviceptr *operator[](int run) const { return sets[size_t(run) % sets.size()].data(); }

private:
  std::vector<Memory> memories;
  std::vector<std::vector<CUdeviceptr>> sets;
};

void timeCommand(Gpu &gpu, LibraryContext &context, const Command &command, Buffers &buffers, const char *name, const AttentionOptions &options, double flops) {
  Result<AttentionParts> parts = planAttention(command, options);
  Memory ownScratch(gpu, command.ownKernels && !parts.failed() ? parts->scratchBytes : 1);
  buffers.setScratch(ownScratch.get());
  Result<std::unique_ptr<DeviceAttention>> attention = makeDeviceAttention(context, command, buffers[0], int64_t(1) << 50, options);
  if (parts.failed() || attention.failed()) {
    std::printf("    %-22s %s\n", name, (parts.failed() ? parts.getStatus() : attention.getStatus()).message().c_str());
    return;
  }
  const int64_t wanted = (*attention)->workspaceBytes();
  if (wanted > (int64_t(24) << 30)) {
    std::printf("    %-22s wants %.0f MiB\n", name, double(wanted) / kMiB);
    return;
  }
  Memory scratch(gpu, command.ownKernels ? 1 : wanted + 1);
  if (!command.ownKernels)
    buffers.setScratch(scratch.get());
  Result<double> time = gpu.medianMilliseconds(0, [&](int run) { return (*attention)->run(gpu.stream(), buffers[run]); });
  if (time.failed())
    std::printf("    %-22s %s\n", name, time.getStatus().message().c_str());
  else
    std::printf("    %-22s %8.3f ms %6.0f TFLOP/s  %2ld calls, workspace %8.1f MiB\n", name, *time, flops / *time * 1e-9, long(parts->calls), double(wanted) / kMiB);
  std::fflush(stdout);
}

} // namespace

void timeAttention(Gpu &gpu, LibraryContext &context) {
  std::printf("attention, bf16, causal (half of the products counted)\n");
  struct Work {
    const char *name;
    AttentionSizes sizes;
    AttentionLayout layout;
  };
  const Work works[] = {
      {"gpt2-124m", {32, 12, 12, 1024, 1024, 64, true}, AttentionLayout::Packed},  {"gpt2-355m", {16, 16, 16, 1024, 1024, 64, true}, AttentionLayout::Packed},
      {"gpt2-1.5b", {8, 25, 25, 1024, 1024, 64, true}, AttentionLayout::Packed},   {"gpt2-124m short", {4, 12, 12, 512, 512, 64, true}, AttentionLayout::Packed},
      {"llama-1.1b", {4, 32, 4, 4096, 4096, 64, true}, AttentionLayout::Tokens},   {"llama-8b", {2, 32, 8, 4096, 4096, 128, true}, AttentionLayout::Tokens},
      {"gpt2-124m dense", {32, 12, 12, 1024, 1024, 64, true}, AttentionLayout::Dense},
  };
  for (const Work &work : works) {
    const AttentionSizes &sizes = work.sizes;
    AttentionProblem problem = makeAttention(sizes, work.layout, DataType::BF16, "");
    const double flops = 2.0 * double(sizes.batch) * double(sizes.heads) * double(sizes.queries) * double(sizes.keys) * double(sizes.width); // a product of the two, half of it seen
    std::printf("  %s B%ld H%ld/%ld T%ld D%ld %s\n", work.name, long(sizes.batch), long(sizes.heads), long(sizes.keyHeads), long(sizes.queries), long(sizes.width), nameOf(work.layout));
    {
      Buffers buffers(gpu, problem.forward);
      timeCommand(gpu, context, problem.forward, buffers, "forward", {}, flops);
    }
    Buffers buffers(gpu, problem.backward);
    for (int64_t limit : {128, 256, 512, 1024, 1 << 20}) {
      AttentionOptions options;
      options.scoreBytesLimit = limit * kMiB;
      timeCommand(gpu, context, problem.backward, buffers, limit == 1 << 20 ? "gradient, whole" : concat("gradient, ", limit, " MiB").c_str(), options, 2.5 * flops);
    }
    if (takesOwnAttentionGradient(problem.backward)) {
      Command own = problem.backward;
      own.ownKernels = true;
      timeCommand(gpu, context, own, buffers, "gradient, our kernels", {}, 2.5 * flops);
    }
    AttentionOptions atomics;
    atomics.deterministic = false;
    timeCommand(gpu, context, problem.backward, buffers, "gradient, atomics", atomics, 2.5 * flops);
  }
}

} // namespace zopt::benchmark
