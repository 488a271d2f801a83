//===- MinCut.h - minimum cut of a directed network --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_MINCUT_H
#define ZOPT_LIB_TRANSFORMS_MINCUT_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>
#include <limits>
#include <vector>

namespace zopt {

/// A network with capacities, and its minimum cut by Dinic's algorithm (Dinitz, Soviet Math. Doklady 11, 1970): levels
/// by breadth-first search, then a blocking flow; O(V^2 E) at worst, near linear in the long and narrow networks of
/// training graphs.
class MinCut {
public:
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max() / 4;

  explicit MinCut(int64_t nodes) : edgesOf(nodes) {}

  void addEdge(int64_t from, int64_t to, int64_t capacity);

  /// The nodes on the sink's side of the minimum cut that is nearest to the sink. No path of unlimited edges may lead
  /// from source to sink.
  llvm::BitVector findSinkSide(int64_t source, int64_t sink);

private:
  struct Edge {
    int64_t to, remaining; // edge i ^ 1 is its reverse
  };

  bool findLevels(int64_t source, int64_t sink);
  void addBlockingFlow(int64_t source, int64_t sink);

  std::vector<Edge> edges;
  std::vector<llvm::SmallVector<int64_t, 4>> edgesOf;
  std::vector<int64_t> levels, nextEdge;
};

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_MINCUT_H
