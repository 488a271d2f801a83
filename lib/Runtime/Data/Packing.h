//===- Packing.h - several rows in one sample ------------------ -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DATA_PACKING_H
#define ZOPT_LIB_RUNTIME_DATA_PACKING_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <vector>

namespace zopt::runtime {

/// Puts rows of `lengths` tokens (each at most `room`) into samples of `room` tokens: each into the first of the last kOpenSamples samples that were begun that has room for it, otherwise into a new one. So samples stand
/// in the order of their first rows. Gives the sample of each row.
std::vector<int64_t> packRows(const std::vector<int64_t> &lengths, int64_t room);
constexpr int64_t kOpenSamples = 64;

/// Whether an input is an attention mask over pairs of positions, [batch, sequence, sequence] or [batch, 1, sequence, sequence], which can keep packed rows apart. Boolean and integer ones are 1 where a position (the
/// second last axis) may look at another (the last), floating ones are added to the scores.
bool isPairMask(const Input &input, int64_t sequence);
/// Writes the mask of one sample of rows of `lengths` tokens, at `destination`: a position sees those of its own row, with `causal` up to itself; padding sees itself alone, so that its softmax has a term.
void storePairMask(DataType type, void *destination, const std::vector<int64_t> &lengths, int64_t sequence, bool causal);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_DATA_PACKING_H
