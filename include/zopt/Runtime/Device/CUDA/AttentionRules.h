//===- AttentionRules.h - attention that cuDNN takes ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which attention runs on CUDA without copying an operand, in how many calls, and in how much workspace. Needs neither a GPU nor NVIDIA's headers.
//
// Supported
//   types      query, key, value, output and their gradients all bf16 or all f16; lse f32.
//   layouts    [batch, heads, positions, width], unit stride on width, every other stride a multiple of 8 elements (views of a packed [batch, positions, 3, heads, width] too), addresses multiples
//              of 16 bytes. lse is dense. Gradients may have layouts of their own.
//   sizes      width a multiple of 8 up to 128; heads of key and value equal and dividing those of query.
//   causal     as many queries as keys, or, without a mask, fewer queries.
//   mask       of the compute type, added to the scaled scores; axes of size 1 broadcast over batch, heads and queries; unit stride on keys. It gets no gradient. For the gradient
//              it has a row for each query: with one row for all queries, cuDNN's gradients were wrong on an H100 where its outputs were right.
//
// On GPUs of compute capability 9.0 the gradient is made by kernels of ours where `ownKernels` is set (lib/Runtime/Device/CUDA/AttentionGradient.cu): without a mask, for heads that are 64 or 128 wide.
//
// Elsewhere by a deterministic algorithm of the library, which writes the gradients of the scores of all heads of a call into its workspace, instead of adding to the query gradient with atomics. So
// that this stays within a planned size, the command is run in equal parts: over batches, and where one batch is too much, over heads.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_ATTENTIONRULES_H
#define ZOPT_RUNTIME_DEVICE_CUDA_ATTENTIONRULES_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>

namespace zopt::runtime::cuda {

struct AttentionOptions {
  /// False: the faster gradient that adds to the query gradient with atomics. For comparison only: nothing that trains uses it.
  bool deterministic = true;
  /// What the gradients of the scores of a call may take; a part is never less than one key head of one batch.
  int64_t scoreBytesLimit = int64_t(9) << 29;
};

/// A command cut into equal parts of `batches` batches and `keyHeads` key heads, with their query heads.
struct AttentionParts {
  int64_t batches = 1, keyHeads = 1;
  int64_t calls = 1;
  int64_t scratchBytes = 0; // planned, for the largest part
};

/// An input error says which rule the command (Attention or AttentionGrad) breaks.
Result<AttentionParts> planAttention(const Command &command, const AttentionOptions &options = {});

/// Of the kernels of ours, workspace: counters, and for each head and tile of so many queries their statistics.
constexpr int64_t kAttentionGradientCounterBytes = 256, kAttentionGradientTile = 64, kAttentionGradientStatisticsBytes = 512;

/// Whether the kernels of ours take a gradient (AttentionGrad).
bool takesOwnAttentionGradient(Command command);

/// Whether planAttention() succeeds.
bool supportsAttention(const Command &command);

/// Workspace to plan: an upper bound of what the library asks for. 0 where the command is not supported.
int64_t attentionScratchBytes(const Command &command);

/// Where a tensor of Command::tensors stands, and how many there are without a mask.
struct AttentionTensors {
  enum { Query, Key, Value, Output, Lse, Mask }; // Attention
  enum { GradQuery, GradKey, GradValue, GradOutput, GradLse, Cotangent, QueryGradient, KeyGradient, ValueGradient, GradMask }; // AttentionGrad
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_RUNTIME_DEVICE_CUDA_ATTENTIONRULES_H
