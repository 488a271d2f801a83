//===- MinCut.cpp - minimum cut of a directed network -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MinCut.h"
#include <algorithm>

using namespace zopt;

void MinCut::addEdge(int64_t from, int64_t to, int64_t capacity) {
  edgesOf[from].push_back(edges.size());
  edges.push_back({to, capacity});
  edgesOf[to].push_back(edges.size());
  edges.push_back({from, 0});
}

bool MinCut::findLevels(int64_t source, int64_t sink) {
  levels.assign(edgesOf.size(), -1);
  levels[source] = 0;
  std::vector<int64_t> queue = {source};
  for (size_t head = 0; head < queue.size(); ++head)
    for (int64_t edge : edgesOf[queue[head]])
      if (edges[edge].remaining > 0 && levels[edges[edge].to] < 0) {
        levels[edges[edge].to] = levels[queue[head]] + 1;
        queue.push_back(edges[edge].to);
      }
  return levels[sink] >= 0;
}

/// Depth-first along the levels with the path in a vector: a chain of 100 000 ops must not overflow a stack.
void MinCut::addBlockingFlow(int64_t source, int64_t sink) {
  nextEdge.assign(edgesOf.size(), 0);
  std::vector<int64_t> path; // edges
  auto end = [&] { return path.empty() ? source : edges[path.back()].to; };
  while (true) {
    int64_t node = end();
    if (node == sink) {
      int64_t flow = kUnlimited;
      for (int64_t edge : path)
        flow = std::min(flow, edges[edge].remaining);
      for (int64_t edge : path) {
        edges[edge].remaining -= flow;
        edges[edge ^ 1].remaining += flow;
      }
      // On from where the first edge is full.
      path.erase(llvm::find_if(path, [&](int64_t edge) { return edges[edge].remaining == 0; }), path.end());
      continue;
    }
    int64_t &next = nextEdge[node];
    for (; next < int64_t(edgesOf[node].size()); ++next) {
      const Edge &edge = edges[edgesOf[node][next]];
      if (edge.remaining > 0 && levels[edge.to] == levels[node] + 1)
        break;
    }
    if (next < int64_t(edgesOf[node].size())) {
      path.push_back(edgesOf[node][next]);
      continue;
    }
    if (path.empty())
      return;
    // A dead end: its edge is not tried again.
    path.pop_back();
    ++nextEdge[end()];
  }
}

llvm::BitVector MinCut::findSinkSide(int64_t source, int64_t sink) {
  while (findLevels(source, sink))
    addBlockingFlow(source, sink);
  // Whoever can still send something to the sink.
  llvm::BitVector side(edgesOf.size());
  side.set(sink);
  std::vector<int64_t> queue = {sink};
  for (size_t head = 0; head < queue.size(); ++head)
    for (int64_t edge : edgesOf[queue[head]]) {
      int64_t from = edges[edge].to;
      if (edges[edge ^ 1].remaining > 0 && !side.test(from)) {
        side.set(from);
        queue.push_back(from);
      }
    }
  return side;
}
