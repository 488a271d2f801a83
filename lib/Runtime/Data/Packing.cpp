//===- Packing.cpp - several rows in one sample ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Packing.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>

namespace zopt::runtime {

std::vector<int64_t> packRows(const std::vector<int64_t> &lengths, int64_t room) {
  std::vector<int64_t> samples, left; // of each row; room of each sample
  samples.reserve(lengths.size());
  for (int64_t length : lengths) {
    int64_t sample = std::max<int64_t>(0, int64_t(left.size()) - kOpenSamples);
    while (sample < int64_t(left.size()) && left[size_t(sample)] < length)
      ++sample;
    if (sample == int64_t(left.size()))
      left.push_back(room);
    left[size_t(sample)] -= length;
    samples.push_back(sample);
  }
  return samples;
}

bool isPairMask(const Input &input, int64_t sequence) {
  const std::vector<int64_t> &shape = input.shape;
  return input.name == "attention_mask" && input.kind == InputKind::Input &&
         (shape.size() == 3 || (shape.size() == 4 && shape[1] == 1)) && shape.back() == sequence &&
         shape[shape.size() - 2] == sequence;
}

/// What is added to the score of a pair that must not be: e to it is 0 in every type, whatever the score.
static double hiddenIn(DataType type) { return type == DataType::F16 ? -65504 : -1e30; }

void storePairMask(DataType type, void *destination, const std::vector<int64_t> &lengths, int64_t sequence, bool causal) {
  const bool added = isFloat(type);
  auto store = [&](int64_t from, int64_t to, bool sees) {
    if (added)
      storeDouble(type, destination, from * sequence + to, sees ? 0 : hiddenIn(type));
    else
      storeInteger(type, destination, from * sequence + to, sees);
  };
  int64_t begin = 0, row = 0;
  for (int64_t from = 0; from < sequence; ++from) {
    while (row < int64_t(lengths.size()) && from >= begin + lengths[size_t(row)])
      begin += lengths[size_t(row++)];
    const bool isRow = row < int64_t(lengths.size());
    const int64_t first = isRow ? begin : from, last = isRow && !causal ? begin + lengths[size_t(row)] - 1 : from;
    for (int64_t to = 0; to < sequence; ++to)
      store(from, to, to >= first && to <= last);
  }
}

} // namespace zopt::runtime
