//===- RankOrderSum.cpp - sums over ranks, in rank order ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>

namespace zopt::runtime {

namespace {

/// Small enough that the sum of a block stays in the first-level cache while every rank's part is added.
constexpr int64_t kBlock = 2048;

template <typename Accumulator>
void addPart(DataType type, const void *part, int64_t begin, int64_t count, Accumulator *sum, bool first) {
  auto addAll = [&](auto convert) {
    if (first)
      for (int64_t i = 0; i < count; ++i)
        sum[i] = convert(begin + i);
    else
      for (int64_t i = 0; i < count; ++i)
        sum[i] += convert(begin + i);
  };
  switch (type) {
  case DataType::F32:
    return addAll([values = static_cast<const float *>(part)](int64_t i) { return Accumulator(values[i]); });
  case DataType::F64:
    return addAll([values = static_cast<const double *>(part)](int64_t i) { return Accumulator(values[i]); });
  case DataType::BF16:
    return addAll([values = static_cast<const uint16_t *>(part)](int64_t i) { return Accumulator(bfloat16ToFloat(values[i])); });
  default:
    return addAll([&](int64_t i) { return Accumulator(loadAsDouble(type, part, i)); });
  }
}

template <typename Accumulator>
void store(DataType type, void *destination, int64_t begin, int64_t count, const Accumulator *sum) {
  switch (type) {
  case DataType::F32: {
    float *values = static_cast<float *>(destination) + begin;
    for (int64_t i = 0; i < count; ++i)
      values[i] = float(sum[i]);
    return;
  }
  case DataType::F64: {
    double *values = static_cast<double *>(destination) + begin;
    for (int64_t i = 0; i < count; ++i)
      values[i] = double(sum[i]);
    return;
  }
  case DataType::BF16: {
    uint16_t *values = static_cast<uint16_t *>(destination) + begin;
    for (int64_t i = 0; i < count; ++i)
      values[i] = floatToBfloat16(float(sum[i]));
    return;
  }
  default:
    for (int64_t i = 0; i < count; ++i)
      storeDouble(type, destination, begin + i, double(sum[i]));
  }
}

template <typename Accumulator>
void sumBlocks(const void *const *parts, int world, int64_t count, DataType sourceType, void *destination, DataType destinationType, bool accumulate) {
  Accumulator sum[kBlock], before[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    int64_t size = std::min(kBlock, count - begin);
    for (int rank = 0; rank < world; ++rank)
      addPart(sourceType, parts[rank], begin, size, sum, rank == 0);
    if (accumulate) {
      addPart(destinationType, destination, begin, size, before, true);
      for (int64_t i = 0; i < size; ++i)
        sum[i] = before[i] + sum[i];
    }
    store(destinationType, destination, begin, size, sum);
  }
}

} // namespace

void sumInRankOrder(const void *const *parts, int world, int64_t count, DataType sourceType, void *destination, DataType destinationType, bool accumulate) {
  if (sourceType == DataType::F64 || destinationType == DataType::F64)
    sumBlocks<double>(parts, world, count, sourceType, destination, destinationType, accumulate);
  else
    sumBlocks<float>(parts, world, count, sourceType, destination, destinationType, accumulate);
}

} // namespace zopt::runtime
