//===- AttentionGradientLayout.h - what host and kernels agree on -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parameters of the kernels in AttentionGradient.cu, the sizes of their work and the layout of their shared memory. The kernels are compiled without any header of a library, and so is this.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENTLAYOUT_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENTLAYOUT_H

namespace zopt::runtime::cuda::attention_gradient {

/// A CUtensorMap, which the driver writes and the copy engine reads.
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

/// Tensors are [batch, heads, positions, width]; strides are in elements, of batch, head and position. Gradients are 16-bit like the rest.
struct Parameters {
  TensorMap queryBlock, cotangentBlock, outputBlock; // boxes of kBlock positions
  TensorMap keyTile, valueTile;                      // boxes of kTile positions
  TensorMap keyBlock, valueBlock;
  TensorMap queryTile, cotangentTile;
  const float *lse;      // [batch, heads, queries], dense: natural logarithms of the rows' sums
  float *statistics;     // workspace: for each head and tile of queries, kStatisticsBytes
  unsigned *counters;    // workspace: the next item of each kernel; 0 at launch
  unsigned short *queryGradient, *keyGradient, *valueGradient;
  long long queryGradientStrides[3], keyGradientStrides[3], valueGradientStrides[3];
  int batches, heads, keyHeads, queries, keys;
  int causal;            // a query sees the keys up to its place, counted from the end
  int queryGroup, keyGroup; // heads whose items are taken one after the other, so that their tensors stay in the L2 cache
  float scale, scaleLog2; // of scores; times log2(e)
};

constexpr int kTile = 64;      // positions that a warpgroup multiplies at once
constexpr int kSlice = 64;     // columns of a slice: 128 bytes, the widest swizzle
constexpr int kConsumers = 2;  // warpgroups that multiply; one more loads
constexpr int kBlock = kConsumers * kTile; // positions of an item
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kConsumerWarps = 4 * kConsumers;
constexpr unsigned kStatisticsBytes = kTile * 2 * 4; // of a tile: two rows' logarithms, then their sums, and so on
constexpr unsigned kRowBytes = 2 * kSlice;           // of a slice

/// Shared memory in bytes: what an item keeps, in `kSlots` places; what streams past it, in `kStages`; statistics; and barriers.
template <int kWidth, int kItemMatrices, int kSlotsOfNarrow, int kStagesOfNarrow, int kStagesOfWide, unsigned kStageStatistics>
struct SharedLayout {
  static constexpr int kSlots = kWidth <= 64 ? kSlotsOfNarrow : 1, kStages = kWidth <= 64 ? kStagesOfNarrow : kStagesOfWide, kSlices = kWidth / kSlice;
  static constexpr unsigned kItemSlice = kBlock * kRowBytes, kItemMatrix = kSlices * kItemSlice, kItemBytes = kItemMatrices * kItemMatrix;
  static constexpr unsigned kStageSlice = kTile * kRowBytes, kStageMatrix = kSlices * kStageSlice, kStageBytes = 2 * kStageMatrix;
  static constexpr unsigned kStage = kSlots * kItemBytes, kStatistics = kStage + kStages * kStageBytes;
  static constexpr unsigned kItems = kStatistics + (kStageStatistics ? kStages * kStageStatistics : kConsumers * kStatisticsBytes);
  static constexpr unsigned kItemFull = kItems + 16, kItemEmpty = kItemFull + 8 * kSlots, kStageFull = kItemEmpty + 8 * kSlots, kStageEmpty = kStageFull + 8 * kStages;
  static constexpr unsigned kBytes = kStageEmpty + 8 * kStages;
};

/// Keeps queries, cotangents and outputs; keys and values stream.
template <int kWidth> using QueryShared = SharedLayout<kWidth, 3, 2, 4, 3, 0>;
/// Keeps keys and values; queries and cotangents stream, with their statistics.
template <int kWidth> using KeyShared = SharedLayout<kWidth, 2, 2, 6, 4, kStatisticsBytes>;

} // namespace zopt::runtime::cuda::attention_gradient

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_ATTENTIONGRADIENTLAYOUT_H
