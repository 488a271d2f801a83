//===- AttentionRulesTest.cpp - which attention cuDNN takes ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/AttentionRules.h"
#include "zopt/Runtime/Core/DataType.h"
#include <gtest/gtest.h>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;

namespace {

/// Heads between positions and width, as a projection leaves them.
MatmulOperand headsOf(int64_t batch, int64_t heads, int64_t positions, int64_t width) { return {DataType::BF16, {batch, heads, positions, width}, {positions * heads * width, width, heads * width, 1}}; }

Command attention(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries, int64_t keys, int64_t width) {
  Command command;
  command.kind = Command::Kind::Attention;
  command.causal = true;
  command.tensors = {headsOf(batch, heads, queries, width), headsOf(batch, keyHeads, keys, width), headsOf(batch, keyHeads, keys, width), headsOf(batch, heads, queries, width)};
  command.tensors.push_back({DataType::F32, {batch, heads, queries, 1}, {heads * queries, queries, 1, 1}});
  return command;
}

Command gradientOf(Command command) {
  command.kind = Command::Kind::AttentionGrad;
  const std::vector<MatmulOperand> of = command.tensors;
  command.tensors.insert(command.tensors.begin() + 5, {of[3], of[0], of[1], of[2]});
  return command;
}

std::string refusalOf(const Command &command) {
  Result<AttentionParts> parts = planAttention(command);
  return parts.failed() ? parts.getStatus().message() : "";
}

template <typename Change>
std::string refusalWith(Command command, Change change) {
  change(command);
  return refusalOf(command);
}

TEST(AttentionRules, TakesGroupedHeadsOfEveryPlannedWidth) {
  for (int64_t width : {64, 80, 96, 128})
    for (int64_t keyHeads : {1, 4, 8}) {
      Command command = attention(2, 8, keyHeads, 100, 100, width);
      EXPECT_EQ(refusalOf(command), "");
      EXPECT_EQ(refusalOf(gradientOf(command)), "");
    }
}

TEST(AttentionRules, TakesViewsOfPackedHeads) {
  const int64_t B = 2, H = 3, T = 64, D = 64;
  Command command = attention(B, H, H, T, T, D);
  for (int i = 0; i < 3; ++i)
    command.tensors[size_t(i)].strides = {T * 3 * H * D, D, 3 * H * D, 1};
  command.byteOffsets = {0, H * D * 2, 2 * H * D * 2, 0, 0, 0};
  EXPECT_EQ(refusalOf(command), "");
  command.byteOffsets[1] = 8;
  EXPECT_EQ(refusalOf(command), "tensor 1 of attention starts at byte 8, which is not a multiple of 16");
}

TEST(AttentionRules, RefusesWhatMustBeCopiedOrDecomposed) {
  const Command command = attention(2, 8, 4, 64, 64, 64), gradient = gradientOf(command);
  EXPECT_EQ(refusalOf(attention(2, 8, 3, 64, 64, 64)), "attention with 8 query heads and 3 key heads");
  EXPECT_EQ(refusalOf(attention(2, 8, 4, 64, 64, 160)), "attention with heads of 160; the library has multiples of 8 up to 128");
  EXPECT_EQ(refusalOf(attention(2, 8, 4, 64, 64, 20)), "attention with heads of 20; the library has multiples of 8 up to 128");
  EXPECT_EQ(refusalOf(attention(2, 8, 4, 65, 64, 64)), "causal attention of 65 queries and 64 keys");
  EXPECT_EQ(refusalOf(attention(2, 8, 4, 63, 64, 64)), "");
  EXPECT_EQ(refusalWith(command, [](Command &c) { c.tensors[0].type = DataType::F32; }), "attention in f32; the library has bf16 and f16");
  EXPECT_EQ(refusalWith(command, [](Command &c) { c.tensors[1].strides = {4, 4, 1, 64}; }), "key of attention has no unit stride on its width");
  EXPECT_EQ(refusalWith(command, [](Command &c) { c.tensors[2].strides[2] = 68; }), "value of attention has stride 68, which is not a positive multiple of 8");
  EXPECT_EQ(refusalWith(gradient, [](Command &c) { c.tensors[7].shape[1] = 8; }), "the gradient of key of attention is [2, 8, 64, 64], not [2, 4, 64, 64]");
  EXPECT_EQ(refusalWith(gradient, [](Command &c) { c.tensors[4].strides[1] = 128; }), "lse of attention is f32 [2, 8, 64, 1], not a dense f32 [2, 8, 64, 1]");
  EXPECT_EQ(refusalWith(command, [](Command &c) { c.tensors.pop_back(); }), "attention has 4 tensors, not 5 and a mask");
}

TEST(AttentionRules, AMaskBroadcastsOverBatchHeadsAndQueries) {
  auto masked = [](std::vector<int64_t> shape, std::vector<int64_t> strides) {
    return refusalWith(attention(2, 8, 4, 64, 64, 64), [&](Command &c) { c.tensors.push_back({DataType::BF16, shape, strides}); });
  };
  EXPECT_EQ(masked({2, 8, 64, 64}, {32768, 4096, 64, 1}), "");
  EXPECT_EQ(masked({2, 1, 1, 64}, {64, 64, 64, 1}), "");
  EXPECT_EQ(masked({64, 64}, {64, 1}), "");
  EXPECT_EQ(masked({64, 64}, {1, 64}), "the mask of attention has no unit stride on its keys");
  EXPECT_EQ(masked({3, 1, 64, 64}, {4096, 4096, 64, 1}), "the mask of attention is [3, 1, 64, 64], which does not broadcast to [2, 8, 64, 64]");
  EXPECT_EQ(masked({2, 1, 64, 1}, {64, 64, 1, 1}), "the mask of attention is [2, 1, 64, 1], which does not broadcast to [2, 8, 64, 64]");
  EXPECT_EQ(refusalWith(attention(2, 8, 4, 32, 64, 64), [](Command &c) { c.tensors.push_back({DataType::BF16, {32, 64}, {64, 1}}); }), "causal attention of 32 queries and 64 keys with a mask");
}

TEST(AttentionRules, TheMaskOfAGradientHasARowForEachQuery) {
  auto masked = [](int64_t queries, std::vector<int64_t> shape, std::vector<int64_t> strides) {
    return refusalWith(gradientOf(attention(2, 8, 4, queries, queries, 64)), [&](Command &c) { c.tensors.push_back({DataType::BF16, shape, strides}); });
  };
  EXPECT_EQ(masked(64, {2, 8, 64, 64}, {32768, 4096, 64, 1}), "");
  EXPECT_EQ(masked(64, {2, 1, 64, 64}, {4096, 4096, 64, 1}), "");
  EXPECT_EQ(masked(64, {64, 64}, {64, 1}), "");
  EXPECT_EQ(masked(1, {2, 1, 1, 1}, {1, 1, 1, 1}), "");
  EXPECT_EQ(masked(64, {2, 1, 1, 64}, {64, 64, 64, 1}), "the gradient of attention with a mask [2, 1, 1, 64], which has one row for all queries; the library has such masks only forward");
  EXPECT_EQ(masked(64, {64}, {1}), "the gradient of attention with a mask [64], which has one row for all queries; the library has such masks only forward");
}

TEST(AttentionRules, PartsCoverTheCommandAndKeepToTheLimit) {
  AttentionOptions options;
  for (int64_t batch : {1, 6, 7})
    for (int64_t keyHeads : {1, 4, 6})
      for (int64_t limit : {1, 300'000, 1'000'000, 1'000'000'000}) {
        options.scoreBytesLimit = limit;
        Result<AttentionParts> parts = planAttention(gradientOf(attention(batch, 2 * keyHeads, keyHeads, 128, 128, 64)), options);
        ASSERT_FALSE(parts.failed());
        EXPECT_EQ(batch % parts->batches, 0);
        EXPECT_EQ(keyHeads % parts->keyHeads, 0);
        EXPECT_EQ(parts->calls * parts->batches * parts->keyHeads, batch * keyHeads);
        // lse of a part must be dense, so heads are cut only within one batch.
        EXPECT_TRUE(parts->keyHeads == keyHeads || parts->batches == 1);
        const int64_t scores = 2 * 128 * 128 * 2; // of one key head
        EXPECT_TRUE(parts->batches * parts->keyHeads * scores <= limit || (parts->batches == 1 && parts->keyHeads == 1));
      }
}

TEST(AttentionRules, ScratchCoversTheGradientsOfTheScores) {
  Command command = attention(32, 12, 12, 1024, 1024, 64);
  EXPECT_LT(attentionScratchBytes(command), 2 << 20);
  AttentionOptions options;
  options.scoreBytesLimit = 512 << 20; // half of the batches
  Result<AttentionParts> parts = planAttention(gradientOf(command), options);
  ASSERT_FALSE(parts.failed());
  EXPECT_EQ(parts->calls, 2);
  const int64_t planned = parts->scratchBytes, scores = int64_t(16) * 12 * 1024 * 1024 * 2;
  EXPECT_GE(planned, scores + 16 * 12 * 1024 * 4);
  EXPECT_LT(planned, scores + (8 << 20));
  EXPECT_EQ(attentionScratchBytes(attention(2, 8, 3, 64, 64, 64)), 0);
}

TEST(AttentionRules, OwnKernelsTakeHeadsOf64And128WithoutAMask) {
  for (int64_t width : {64, 80, 96, 128}) {
    Command command = gradientOf(attention(2, 8, 4, 100, 100, width));
    EXPECT_EQ(takesOwnAttentionGradient(command), width == 64 || width == 128);
    command.ownKernels = true;
    EXPECT_EQ(refusalOf(command), width == 64 || width == 128 ? "" : concat("the gradient of attention with heads of ", width, ", for which there are no kernels"));
  }
  Command forward = attention(2, 8, 4, 100, 100, 64);
  EXPECT_FALSE(takesOwnAttentionGradient(forward));
  Command masked = gradientOf(attention(2, 8, 8, 64, 64, 64));
  masked.tensors.push_back({DataType::BF16, {64, 64}, {64, 1}});
  EXPECT_FALSE(takesOwnAttentionGradient(masked));
  masked.ownKernels = true;
  EXPECT_EQ(refusalOf(masked), "the gradient of attention with a mask, for which there are no kernels");
}

TEST(AttentionRules, OwnKernelsNeedNoWorkspaceOfTheSizeOfTheScores) {
  Command command = gradientOf(attention(4, 32, 4, 4097, 4097, 64));
  command.ownKernels = true;
  EXPECT_EQ(attentionScratchBytes(command), 256 + 4 * 32 * 65 * 512); // 4097 queries are 65 tiles
}

} // namespace
