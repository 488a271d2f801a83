//===- SampleOrder.cpp - which sample comes when --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/SampleOrder.h"

namespace zopt::runtime {

SampleOrder::SampleOrder(int64_t samples, bool shuffle, uint64_t seed) : samples(samples), shuffle(shuffle), seed(seed), halfBits(1) {
  while (halfBits < 32 && (uint64_t(1) << (2 * halfBits)) < uint64_t(samples))
    ++halfBits;
}

int64_t SampleOrder::at(int64_t epoch, int64_t position) const {
  if (!shuffle)
    return position;
  // A Feistel network is a permutation whatever its round function. It permutes fewer than 4 * samples numbers (or 4, for the smallest); those outside of [0, samples) are followed along
  // their cycle until it enters the range again, which leaves a permutation of the range. Narrow halves need more rounds than the usual 4 to look random.
  constexpr int rounds = 12;
  const uint64_t key = scramble(seed + 0x9e3779b97f4a7c15) ^ scramble(uint64_t(epoch) + 0xd1b54a32d192ed03);
  const uint64_t mask = (uint64_t(1) << halfBits) - 1;
  uint64_t value = uint64_t(position);
  do {
    uint64_t left = value >> halfBits, right = value & mask;
    for (int round = 0; round < rounds; ++round) {
      uint64_t next = left ^ (scramble(key + (uint64_t(round) << 32 | right) * 0x9e3779b97f4a7c15) & mask);
      left = right;
      right = next;
    }
    value = left << halfBits | right;
  } while (value >= uint64_t(samples));
  return int64_t(value);
}

} // namespace zopt::runtime
