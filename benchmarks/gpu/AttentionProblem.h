//===- AttentionProblem.h - attention commands to check and time -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_BENCHMARKS_GPU_ATTENTIONPROBLEM_H
#define ZOPT_BENCHMARKS_GPU_ATTENTIONPROBLEM_H

#include "GpuHarness.h"

namespace zopt::benchmark {

struct AttentionSizes {
  int64_t batch, heads, keyHeads, queries, keys, width;
  bool causal;
};

/// Of query, key, value and their gradients. Dense: [B, H, T, D]. Tokens: [B, T, H, D]. Packed: query, key and value in one [B, T, 3, H, D], each on its own storage here, so with the strides only.
enum class AttentionLayout { Dense, Tokens, Packed };
inline const char *nameOf(AttentionLayout layout) { return layout == AttentionLayout::Dense ? "dense" : layout == AttentionLayout::Tokens ? "tokens" : "packed"; }

struct AttentionProblem {
  Command forward, backward;
};

/// `mask`: "" for none, otherwise the axes on which it is not broadcast, of b, h and q.
AttentionProblem makeAttention(const AttentionSizes &sizes, AttentionLayout layout, DataType type, const std::string &mask);

/// The command ready to run on `buffers`: by the library, or by the runtime's kernels where it has `ownKernels`, which take these buffers only.
Result<std::unique_ptr<cuda::DeviceAttention>> makeDeviceAttention(cuda::LibraryContext &context, const Command &command, const CUdeviceptr *buffers, int64_t scratchBytes, const cuda::AttentionOptions &options);

} // namespace zopt::benchmark

#endif // ZOPT_BENCHMARKS_GPU_ATTENTIONPROBLEM_H
