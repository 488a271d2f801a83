//===- PackArena.cpp - offsets for buffers with lifetimes ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Best fit by decreasing size (Pisarchyk and Lee, 2020: "greedy by size"): the largest item first, each into the
// smallest hole among those that are live with it. What these take comes from a tree over time, as stretches of the
// arena: what is kept for backward lies one on the other and is one stretch, and so is what lives one after the other
// in one place, so that long chains take little more than linear time.
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

/// What is taken of the arena: stretches by offset, which neither overlap nor touch.
struct Stretch {
  int64_t begin, end;
};
using Taken = SmallVector<Stretch, 0>;

void take(Taken &taken, Stretch added) {
  Stretch *first = llvm::partition_point(taken, [&](const Stretch &s) { return s.end < added.begin; });
  Stretch *last = std::partition_point(first, taken.end(), [&](const Stretch &s) { return s.begin <= added.end; });
  if (first == last) {
    taken.insert(first, added);
    return;
  }
  *first = {std::min(first->begin, added.begin), std::max(std::prev(last)->end, added.end)};
  taken.erase(std::next(first), last);
}

/// What is taken when: a tree over time, halved at each level. A life is tiled by O(log n) nodes.
class TakenByTime {
public:
  explicit TakenByTime(int64_t times) {
    while (leaves < times)
      leaves *= 2;
    always.resize(2 * leaves);
    sometimes.resize(2 * leaves);
  }

  void insert(int64_t first, int64_t last, Stretch stretch) { insert(1, 0, leaves, first, last, stretch); }

  /// Appends what is taken at some time in [first, last], in no order, some of it more than once.
  void collect(int64_t first, int64_t last, Taken &found) const { collect(1, 0, leaves, first, last, found); }

private:
  void insert(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, Stretch stretch) {
    take(sometimes[node], stretch);
    if (first <= begin && end - 1 <= last) {
      take(always[node], stretch);
      return;
    }
    int64_t middle = (begin + end) / 2;
    if (first < middle)
      insert(2 * node, begin, middle, first, last, stretch);
    if (last >= middle)
      insert(2 * node + 1, middle, end, first, last, stretch);
  }

  void collect(size_t node, int64_t begin, int64_t end, int64_t first, int64_t last, Taken &found) const {
    if (first <= begin && end - 1 <= last) {
      found.append(sometimes[node]);
      return;
    }
    found.append(always[node]);
    int64_t middle = (begin + end) / 2;
    if (first < middle)
      collect(2 * node, begin, middle, first, last, found);
    if (last >= middle)
      collect(2 * node + 1, middle, end, first, last, found);
  }

  int64_t leaves = 1;
  std::vector<Taken> always;    // through all of a node's time
  std::vector<Taken> sometimes; // at some of it
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

  TakenByTime placed(times);
  Taken taken;
  int64_t highest = base;
  for (size_t index : order) {
    PackedItem &item = items[index];
    int64_t cursor = llvm::alignTo(base, alignment), best = -1, bestHole = 0;
    taken.clear();
    placed.collect(item.first, item.last, taken);
    llvm::sort(taken, [](const Stretch &a, const Stretch &b) { return a.begin < b.begin; });
    for (const Stretch &stretch : taken) {
      int64_t hole = stretch.begin - cursor;
      if (hole >= item.bytes && (best < 0 || hole < bestHole)) {
        best = cursor;
        bestHole = hole;
      }
      cursor = std::max(cursor, stretch.end);
    }
    item.offset = best >= 0 ? best : cursor;
    highest = std::max(highest, item.offset + item.bytes);
    if (item.bytes > 0)
      placed.insert(item.first, item.last,
                    {item.offset, static_cast<int64_t>(llvm::alignTo(item.offset + item.bytes, alignment))});
  }
  return highest;
}
