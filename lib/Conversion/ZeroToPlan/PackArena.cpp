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
#include <limits>
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
    ascending.resize(2 * leaves, true);
  }

  void insert(const PackedItem *item) { insert(1, 0, leaves, item); }

  /// Appends every item that is live somewhere in [first, last] and ends above `floor`; some of them more than once, and some that end below.
  void collect(int64_t first, int64_t last, int64_t floor, SmallVectorImpl<const PackedItem *> &found) const { collect(1, 0, leaves, first, last, floor, found); }

private:
  void insert(size_t node, int64_t begin, int64_t end, const PackedItem *item) {
    if (item->first <= begin && end - 1 <= item->last) {
      ascending[node] = ascending[node] && (whole[node].empty() || whole[node].back()->offset <= item->offset);
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

  void collect(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, int64_t floor, SmallVectorImpl<const PackedItem *> &found) const {
    const auto *from = whole[node].begin();
    if (ascending[node])
      from = llvm::partition_point(whole[node], [&](const PackedItem *item) { return item->offset + item->bytes <= floor; });
    found.append(from, whole[node].end());
    if (!partial[node])
      return;
    int64_t middle = (begin + end) / 2;
    if (first < middle)
      collect(2 * node, begin, middle, first, last, floor, found);
    if (last >= middle)
      collect(2 * node + 1, middle, end, first, last, floor, found);
  }

  int64_t leaves = 1;
  std::vector<SmallVector<const PackedItem *, 2>> whole; // that live through all of a node's time
  std::vector<bool> partial;                             // whether a node below has items
  std::vector<bool> ascending;                           // whether a node's items lie one above the other in their order
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

/// A number for each time, over which ranges are changed and asked for their maximum, each in O(log n).
class Skyline {
public:
  explicit Skyline(int64_t times) {
    while (leaves < times)
      leaves *= 2;
    nodes.resize(2 * leaves);
  }

  /// Adds to each number in [first, last].
  void add(int64_t first, int64_t last, int64_t bytes) { change(1, 0, leaves, first, last, bytes, false); }
  /// Raises each number in [first, last] to at least `height`. One Skyline is either added to or raised.
  void raise(int64_t first, int64_t last, int64_t height) { change(1, 0, leaves, first, last, height, true); }
  int64_t maximum(int64_t first, int64_t last, bool raised) const { return maximum(1, 0, leaves, first, last, raised); }
  /// Of one that is raised.
  int64_t minimum(int64_t first, int64_t last) const { return minimum(1, 0, leaves, first, last); }

private:
  /// `all` counts for every time of the node; `most` and `least` are the extremes in it, without what nodes above say.
  struct Node {
    int64_t all = 0, most = 0, least = 0;
  };

  void change(size_t at, int64_t begin, int64_t end, int64_t first, int64_t last, int64_t value, bool raise) {
    Node &node = nodes[at];
    if (first <= begin && end - 1 <= last) {
      node.all = raise ? std::max(node.all, value) : node.all + value;
      node.most = raise ? std::max(node.most, value) : node.most + value;
      node.least = raise ? std::max(node.least, value) : node.least + value;
      return;
    }
    const int64_t middle = (begin + end) / 2;
    if (first < middle)
      change(2 * at, begin, middle, first, last, value, raise);
    if (last >= middle)
      change(2 * at + 1, middle, end, first, last, value, raise);
    const int64_t below = std::max(nodes[2 * at].most, nodes[2 * at + 1].most);
    node.most = raise ? std::max(node.all, below) : node.all + below;
    const int64_t lowest = std::min(nodes[2 * at].least, nodes[2 * at + 1].least);
    node.least = raise ? std::max(node.all, lowest) : node.all + lowest;
  }

  int64_t minimum(size_t at, int64_t begin, int64_t end, int64_t first, int64_t last) const {
    const Node &node = nodes[at];
    if (first <= begin && end - 1 <= last)
      return node.least;
    const int64_t middle = (begin + end) / 2;
    int64_t below = std::numeric_limits<int64_t>::max();
    if (first < middle)
      below = minimum(2 * at, begin, middle, first, last);
    if (last >= middle)
      below = std::min(below, minimum(2 * at + 1, middle, end, first, last));
    return std::max(node.all, below);
  }

  int64_t maximum(size_t at, int64_t begin, int64_t end, int64_t first, int64_t last, bool raised) const {
    const Node &node = nodes[at];
    if (first <= begin && end - 1 <= last)
      return node.most;
    const int64_t middle = (begin + end) / 2;
    int64_t below = 0;
    if (first < middle)
      below = maximum(2 * at, begin, middle, first, last, raised);
    if (last >= middle)
      below = std::max(below, maximum(2 * at + 1, middle, end, first, last, raised));
    return raised ? std::max(node.all, below) : node.all + below;
  }

  int64_t leaves = 1;
  std::vector<Node> nodes;
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
  // Items that are live at one time do not overlap: where their bytes add up to the highest end, there is no hole, and no neighbour is looked at. Up to `filledAt` a time has no hole either: where everything
  // is kept for backward, a short-lived item looks at its few neighbours above.
  Skyline bytesAt(times), endAt(times), filledAt(times);
  const int64_t bottom = llvm::alignTo(base, alignment);
  int64_t highest = base;
  for (auto [count, index] : llvm::enumerate(order)) {
    PackedItem &item = items[index];
    int64_t cursor = bottom, best = -1, bestHole = 0;
    auto pass = [&](int64_t offset, int64_t bytes) {
      int64_t hole = offset - cursor;
      if (hole >= item.bytes && (best < 0 || hole < bestHole)) {
        best = cursor;
        bestHole = hole;
      }
      cursor = std::max<int64_t>(cursor, llvm::alignTo(offset + bytes, alignment));
    };
    const int64_t end = endAt.maximum(item.first, item.last, /*raised=*/true);
    if (bytesAt.maximum(item.first, item.last, /*raised=*/false) == end) {
      cursor = bottom + end;
    } else {
      cursor = bottom + filledAt.maximum(item.first, item.last, /*raised=*/true);
      live.clear();
      placed.collect(item.first, item.last, cursor, live);
      // Few neighbours are sorted; where a large part of all lives (what backward reads of a net that was written out over time), all are walked as they lie.
      if (live.size() < 64 || live.size() * 16 < count) {
        llvm::sort(live, [](const PackedItem *a, const PackedItem *b) { return a->offset < b->offset; });
        for (const PackedItem *other : live)
          pass(other->offset, other->bytes);
      } else {
        sorted.forEachLive(item.first, item.last, pass);
      }
    }
    item.offset = best >= 0 ? best : cursor;
    const int64_t aligned = llvm::alignTo(item.offset + item.bytes, alignment) - item.offset;
    bytesAt.add(item.first, item.last, aligned);
    endAt.raise(item.first, item.last, item.offset + aligned - bottom);
    if (bottom + filledAt.minimum(item.first, item.last) >= item.offset)
      filledAt.raise(item.first, item.last, item.offset + aligned - bottom);
    highest = std::max(highest, item.offset + item.bytes);
    placed.insert(&item);
    sorted.insert(item);
  }
  return highest;
}
