//===- SampleOrder.h - which sample comes when ------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The order in which an epoch visits its samples: file order, or a permutation that seed and epoch alone determine. Ranks compute it independently, an element at a time, without a table.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DATA_SAMPLEORDER_H
#define ZOPT_RUNTIME_DATA_SAMPLEORDER_H

#include <cstdint>

namespace zopt::runtime {

/// A bijective scramble of 64 bits (splitmix64's finalizer).
inline uint64_t scramble(uint64_t value) {
  value ^= value >> 30;
  value *= 0xbf58476d1ce4e5b9;
  value ^= value >> 27;
  value *= 0x94d049bb133111eb;
  return value ^ value >> 31;
}

class SampleOrder {
public:
  /// An order of `samples` samples (at least one).
  SampleOrder(int64_t samples, bool shuffle, uint64_t seed);

  /// The sample at `position` of `epoch`, both counted from 0; position < samples.
  int64_t at(int64_t epoch, int64_t position) const;

private:
  int64_t samples;
  bool shuffle;
  uint64_t seed;
  int halfBits; // a Feistel network permutes numbers of twice as many bits
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DATA_SAMPLEORDER_H
