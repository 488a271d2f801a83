//===- RankOrderSum.h - sums over ranks, in rank order ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The one place where gradients of several ranks are added, shared by every CPU communicator, so that they all give the same bits.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_RANKORDERSUM_H
#define ZOPT_RUNTIME_COMM_RANKORDERSUM_H

#include "zopt/Runtime/Core/Program.h"
#include <cstdint>

namespace zopt::runtime {

/// destination[i] = round(parts[0][i] + parts[1][i] + ... + parts[world - 1][i]), added from left to right in fp32 (f64 where the source is f64) and rounded once to the destination's type.
/// With `accumulate`, round(destination[i] + the sum) in the same precision. Float types only. `destination` may be the start of one of the parts, if the types are the same.
void sumInRankOrder(const void *const *parts, int world, int64_t count, DataType sourceType, void *destination, DataType destinationType, bool accumulate);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_RANKORDERSUM_H
