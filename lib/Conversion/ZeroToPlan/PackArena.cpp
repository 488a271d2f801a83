//===- PackArena.cpp - offsets for buffers with lifetimes ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Best fit by decreasing size (Pisarchyk and Lee, 2020: "greedy by size"): the largest item first, each into the smallest hole among those that are live with it. An item's neighbours in time come from
// lists, one a stretch of time; long-lived items are rare, so that the lists stay short and the whole is near linear.
//
//===----------------------------------------------------------------------===//

#include "PackArena.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/MathExtras.h"
#include <tuple>

using namespace llvm;
using namespace zopt;

namespace {

/// Placed items by time: a tree over time, halved at each level. An item stands in the O(log n) nodes that tile its life; it meets another where one's node contains the other's.
class PlacedByTime {
public:
  explicit PlacedByTime(int64_t times) {
    while (leaves < times)
      leaves *= 2;
    whole.resize(2 * leaves);
    partial.resize(2 * leaves);
  }

  void insert(const PackedItem *item) { insert(1, 0, leaves, item); }

  /// Appends every item that is live somewhere in [first, last]; some of them more than once.
  void collect(int64_t first, int64_t last, SmallVectorImpl<const PackedItem *> &found) const { collect(1, 0, leaves, first, last, found); }

private:
  void insert(size_t node, int64_t begin, int64_t end, const PackedItem *item) {
    if (item->first <= begin && end - 1 <= item->last) {
      whole[node].push_back(item);
      return;
    }
    partial[node] = true;
    int64_t middle = (begin + end) / 2;
    if (item->first < middle)
      insert(2 * node, begin, middle, item);
    if (item->last >= middle)
      insert(2 * node + 1, middle, end, item);
  }

  void collect(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, SmallVectorImpl<const PackedItem *> &found) const {
    found.append(whole[node].begin(), whole[node].end());
    if (!partial[node])
      return;
    int64_t middle = (begin + end) / 2;
    if (first < middle)
      collect(2 * node, begin, middle, first, last, found);
    if (last >= middle)
      collect(2 * node + 1, middle, end, first, last, found);
  }

  int64_t leaves = 1;
  std::vector<SmallVector<const PackedItem *, 2>> whole; // that live through all of a node's time
  std::vector<bool> partial;                             // whether a node below has items
};

} // namespace

int64_t zopt::packArena(MutableArrayRef<PackedItem> items, int64_t base, int64_t alignment) {
  int64_t times = 1;
  for (const PackedItem &item : items)
    times = std::max(times, item.last + 1);
  SmallVector<size_t> order = llvm::to_vector(llvm::seq<size_t>(0, items.size()));
  llvm::sort(order, [&](size_t a, size_t b) {
    int64_t lifeA = items[a].last - items[a].first, lifeB = items[b].last - items[b].first;
    return std::make_tuple(-items[a].bytes, -lifeA, a) < std::make_tuple(-items[b].bytes, -lifeB, b);
  });

  PlacedByTime placed(times);
  SmallVector<const PackedItem *> live;
  int64_t highest = base;
  for (size_t index : order) {
    PackedItem &item = items[index];
    live.clear();
    placed.collect(item.first, item.last, live);
    llvm::sort(live, [](const PackedItem *a, const PackedItem *b) { return a->offset < b->offset; });
    int64_t cursor = llvm::alignTo(base, alignment), best = -1, bestHole = 0;
    for (const PackedItem *other : live) {
      int64_t hole = other->offset - cursor;
      if (hole >= item.bytes && (best < 0 || hole < bestHole)) {
        best = cursor;
        bestHole = hole;
      }
      cursor = std::max<int64_t>(cursor, llvm::alignTo(other->offset + other->bytes, alignment));
    }
    item.offset = best >= 0 ? best : cursor;
    highest = std::max(highest, item.offset + item.bytes);
    placed.insert(&item);
  }
  return highest;
}
