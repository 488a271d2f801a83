//===- ChannelOrder.h - permutations to channels last and back ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Transforms. For tensors of at least two axes.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_CHANNELORDER_H
#define ZOPT_LIB_TRANSFORMS_CHANNELORDER_H

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/SmallVector.h"

namespace zopt {

/// Batch, space, channels: axis i of the form with channels last is axis order[i] of the other.
inline llvm::SmallVector<int64_t> getChannelsLastOrder(int64_t rank) {
  llvm::SmallVector<int64_t> order = {0};
  llvm::append_range(order, llvm::seq<int64_t>(2, rank));
  order.push_back(1);
  return order;
}

/// Batch, channels, space from batch, space, channels.
inline llvm::SmallVector<int64_t> getChannelsFirstOrder(int64_t rank) {
  llvm::SmallVector<int64_t> order = {0, rank - 1};
  llvm::append_range(order, llvm::seq<int64_t>(1, rank - 1));
  return order;
}

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_CHANNELORDER_H
