//===- PackArena.cpp - offsets for buffers with lifetimes ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Best fit by decreasing size (Pisarchyk and Lee, 2020: "greedy by size"): the largest item first, each into the
// smallest hole among those that are live with it. An item's neighbours in time come from lists, one a stretch of time.
// Below the height up to which some time of the item has no hole there is none for it, and neighbours that end there
// are not looked at: what is kept for backward lies one on the other, so that a long chain takes little more than
// linear time (but where a parameter's gradients are kept apart for each of its many uses, items above them are looked
// at, and the whole is quadratic).
//
//===----------------------------------------------------------------------===//

#include "PackArena.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/MathExtras.h"
#include <limits>
#include <tuple>

using namespace llvm;
using namespace zopt;

namespace {

/// Placed items by time: a tree over time, halved at each level. An item stands in the O(log n) nodes that tile its
/// life; it meets another where one's node contains the other's.
class PlacedByTime {
public:
  explicit PlacedByTime(int64_t times) {
    while (leaves < times)
      leaves *= 2;
    whole.resize(2 * leaves);
    partial.resize(2 * leaves);
  }

  void insert(const PackedItem *item) { insert(1, 0, leaves, item); }

  /// Appends every item that is live somewhere in [first, last] and ends above `floor`; some of them more than once.
  void collect(int64_t first, int64_t last, int64_t floor, SmallVectorImpl<const PackedItem *> &found) const {
    collect(1, 0, leaves, first, last, floor, found);
  }

private:
  /// By offset and, as they are live together, by end.
  using Items = SmallVector<const PackedItem *, 2>;

  template <typename List>
  static auto firstAbove(List &items, int64_t floor) {
    return llvm::partition_point(items, [&](const PackedItem *item) { return item->offset + item->bytes <= floor; });
  }

  void insert(size_t node, int64_t begin, int64_t end, const PackedItem *item) {
    if (item->first <= begin && end - 1 <= item->last) {
      whole[node].insert(firstAbove(whole[node], item->offset), item);
      return;
    }
    partial[node] = true;
    int64_t middle = (begin + end) / 2;
    if (item->first < middle)
      insert(2 * node, begin, middle, item);
    if (item->last >= middle)
      insert(2 * node + 1, middle, end, item);
  }

  void collect(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, int64_t floor,
               SmallVectorImpl<const PackedItem *> &found) const {
    const Items &items = whole[node];
    found.append(firstAbove(items, floor), items.end());
    if (!partial[node])
      return;
    int64_t middle = (begin + end) / 2;
    if (first < middle)
      collect(2 * node, begin, middle, first, last, floor, found);
    if (last >= middle)
      collect(2 * node + 1, middle, end, first, last, floor, found);
  }

  int64_t leaves = 1;
  std::vector<Items> whole;  // that live through all of a node's time
  std::vector<bool> partial; // whether a node below has items
};

/// For each time a height up to which placed items leave no hole (not the highest such: an item that fills a hole is
/// not joined with what lies above it). A maximum in each node of a tree over time; where it is above both of its
/// halves', those times of the halves that have their maximum are yet to be raised to it.
class Filled {
public:
  Filled(int64_t times, int64_t bottom) {
    while (leaves < times)
      leaves *= 2;
    most.assign(2 * leaves, bottom);
  }

  /// Of the times in [first, last].
  int64_t highest(int64_t first, int64_t last) { return visit(1, 0, leaves, first, last, kNothing, kNothing); }

  /// [offset, end) is taken at the times in [first, last], of which none is filled above `offset`.
  void take(int64_t first, int64_t last, int64_t offset, int64_t end) { visit(1, 0, leaves, first, last, offset, end); }

private:
  static constexpr int64_t kNothing = -1;

  /// Raises the times that are filled up to `from` to `to`; the maximum of the times in [first, last].
  int64_t visit(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, int64_t from, int64_t to) {
    if (first <= begin && end - 1 <= last) {
      if (most[node] == from)
        most[node] = to;
      return most[node];
    }
    int64_t &lower = most[2 * node], &upper = most[2 * node + 1];
    const int64_t below = std::max(lower, upper);
    if (lower == below)
      lower = most[node];
    if (upper == below)
      upper = most[node];
    const int64_t middle = (begin + end) / 2;
    int64_t found = kNothing;
    if (first < middle)
      found = visit(2 * node, begin, middle, first, last, from, to);
    if (last >= middle)
      found = std::max(found, visit(2 * node + 1, middle, end, first, last, from, to));
    most[node] = std::max(lower, upper);
    return found;
  }

  int64_t leaves = 1;
  std::vector<int64_t> most;
};

/// Placed items by offset, in blocks, so that one is put in its place without moving all behind it.
class PlacedByOffset {
public:
  struct Entry {
    int64_t offset, bytes, first, last;
  };

  void insert(const PackedItem &item) {
    Entry entry{item.offset, item.bytes, item.first, item.last};
    auto block =
        llvm::partition_point(blocks, [&](const std::vector<Entry> &b) { return b.back().offset < entry.offset; });
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
  Filled filled(times, llvm::alignTo(base, alignment));
  SmallVector<const PackedItem *> live;
  int64_t highest = base;
  for (auto [count, index] : llvm::enumerate(order)) {
    PackedItem &item = items[index];
    int64_t cursor = filled.highest(item.first, item.last), best = -1, bestHole = 0;
    auto pass = [&](int64_t offset, int64_t bytes) {
      int64_t hole = offset - cursor;
      if (hole >= item.bytes && (best < 0 || hole < bestHole)) {
        best = cursor;
        bestHole = hole;
      }
      cursor = std::max<int64_t>(cursor, llvm::alignTo(offset + bytes, alignment));
    };
    live.clear();
    placed.collect(item.first, item.last, cursor, live);
    // Few neighbours are sorted; where a large part of all lives (what backward reads of a net that was written out
    // over time), all are walked as they lie.
    if (live.size() < 64 || live.size() * 16 < count) {
      llvm::sort(live, [](const PackedItem *a, const PackedItem *b) { return a->offset < b->offset; });
      for (const PackedItem *other : live)
        pass(other->offset, other->bytes);
    } else {
      sorted.forEachLive(item.first, item.last, pass);
    }
    item.offset = best >= 0 ? best : cursor;
    highest = std::max(highest, item.offset + item.bytes);
    filled.take(item.first, item.last, item.offset, llvm::alignTo(item.offset + item.bytes, alignment));
    placed.insert(&item);
    sorted.insert(item);
  }
  return highest;
}
