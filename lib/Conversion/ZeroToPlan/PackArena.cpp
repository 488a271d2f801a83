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

/// Placed items by offset, in blocks, so that one is put in its place without moving all behind it.
class PlacedByOffset {
public:
  struct Entry {
    int64_t offset, bytes, first, last;
  };

  void insert(const PackedItem &item) {
    Entry entry{item.offset, item.bytes, item.first, item.last};
    auto block = llvm::partition_point(blocks, [&](const std::vector<Entry> &b) { return b.back().offset < entry.offset; });
    if (block == blocks.end()) {
      if (blocks.empty() || blocks.back().size() >= kBlock)
        blocks.emplace_back().reserve(kBlock);
      blocks.back().push_back(entry);
      return;
    }
    block->insert(llvm::partition_point(*block, [&](const Entry &e) { return e.offset < entry.offset; }), entry);
    if (block->size() < 2 * kBlock)
      return;
    std::vector<Entry> upper(block->begin() + kBlock, block->end());
    block->resize(kBlock);
    blocks.insert(std::next(block), std::move(upper));
  }

  template <typename Visit>
  void forEachLive(int64_t first, int64_t last, Visit visit) const {
    for (const std::vector<Entry> &block : blocks)
      for (const Entry &entry : block)
        if (entry.first <= last && first <= entry.last)
          visit(entry.offset, entry.bytes);
  }

private:
  static constexpr size_t kBlock = 512;
  std::vector<std::vector<Entry>> blocks;
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
  PlacedByOffset sorted;
  SmallVector<const PackedItem *> live;
  int64_t highest = base;
  for (auto [count, index] : llvm::enumerate(order)) {
    PackedItem &item = items[index];
    int64_t cursor = llvm::alignTo(base, alignment), best = -1, bestHole = 0;
    auto pass = [&](int64_t offset, int64_t bytes) {
      int64_t hole = offset - cursor;
      if (hole >= item.bytes && (best < 0 || hole < bestHole)) {
        best = cursor;
        bestHole = hole;
      }
      cursor = std::max<int64_t>(cursor, llvm::alignTo(offset + bytes, alignment));
    };
    live.clear();
    placed.collect(item.first, item.last, live);
    // Few neighbours are sorted; where a large part of all lives (what backward reads of a net that was written out over time), all are walked as they lie.
    if (live.size() < 64 || live.size() * 16 < count) {
      llvm::sort(live, [](const PackedItem *a, const PackedItem *b) { return a->offset < b->offset; });
      for (const PackedItem *other : live)
        pass(other->offset, other->bytes);
    } else {
      sorted.forEachLive(item.first, item.last, pass);
    }
    item.offset = best >= 0 ? best : cursor;
    highest = std::max(highest, item.offset + item.bytes);
    placed.insert(&item);
    sorted.insert(item);
  }
  return highest;
}
