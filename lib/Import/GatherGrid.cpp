//===- GatherGrid.cpp - GatherND over a grid of indices is a broadcast -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// transformers looks a padding mask [B, S] up at (b, s) for every b, head, row and column: GatherND with B * T * S tuples, each of whose numbers counts along one axis of the result or stays the same.
//
//===----------------------------------------------------------------------===//

#include "Operators.h"
#include "zopt/Dialect/Train/Train.h"

using namespace mlir;

namespace zopt::importer {

namespace {
/// What one number of the tuples does: counts along `axis` of the result, from 0 by 1, or is `fixed` where axis is -1.
struct Coordinate {
  int64_t axis = -1, fixed = 0;
};
} // namespace

/// Coordinate k of the tuples, if it is one of these.
static std::optional<Coordinate> findCoordinate(const Constant &indices, int64_t k, int64_t size) {
  ArrayRef<int64_t> stored = indices.stored();
  const int64_t outer = indices.rank() - 1;
  Shape at(indices.rank(), 0);
  at[outer] = k;
  const int64_t first = indices.at(at).integer;
  SmallVector<bool, 6> counts(outer, true);
  for (int64_t a = 0; a < outer; ++a)
    counts[a] = stored[a] == size && size > 1;
  bool isFixed = true;
  while (true) {
    const int64_t value = indices.at(at).integer;
    isFixed &= value == first;
    for (int64_t a = 0; a < outer; ++a)
      counts[a] &= value == at[a];
    if (!isFixed && llvm::none_of(counts, [](bool c) { return c; }))
      return std::nullopt;
    int64_t a = outer - 1;
    while (a >= 0 && ++at[a] >= stored[a])
      at[a--] = 0;
    if (a < 0)
      break;
  }
  if (isFixed) {
    if (first < -size || first >= size)
      return std::nullopt;
    return Coordinate{-1, first < 0 ? first + size : first};
  }
  for (int64_t a = 0; a < outer; ++a)
    if (counts[a])
      return Coordinate{a, 0};
  return std::nullopt;
}

Value gatherGrid(NodeImporter &node) {
  const Constant *indices = node.constant(1);
  if (node.inputs() != 2 || !indices || !indices->isInteger() || indices->asTriangle() || indices->rank() < 1 || node.attribute("batch_dims", int64_t(0)) != 0)
    return {};
  ArrayRef<int64_t> data = node.shape(0);
  const int64_t outer = indices->rank() - 1, depth = indices->shape().back(), rank = data.size();
  if (depth < 1 || depth > rank || countElements(indices->shape()) == 0 || countElements(data) == 0)
    return {};

  // For each axis of the result, the axis of data that lies along it.
  Shape shape(indices->shape().drop_back());
  shape.append(data.begin() + depth, data.end());
  SmallVector<int64_t, 8> source(shape.size(), -1);
  Shape starts(rank, 0), sizes(data), steps(rank, 1);
  for (int64_t k = 0; k < depth; ++k) {
    std::optional<Coordinate> coordinate = findCoordinate(*indices, k, data[k]);
    if (!coordinate)
      return {};
    if (coordinate->axis < 0) {
      starts[k] = coordinate->fixed;
      sizes[k] = 1;
    } else if (std::exchange(source[coordinate->axis], k) >= 0) {
      return {}; // a diagonal
    }
  }
  for (int64_t a = depth; a < rank; ++a)
    source[outer + a - depth] = a;

  Value value = node.operand(0);
  if (!value)
    return {};
  if (sizes != Shape(data))
    value = train::SliceOp::create(node.builder, node.loc, node.type(sizes, node.element(0)), value, starts, steps);
  SmallVector<int64_t, 8> permutation;
  Shape narrow;
  for (size_t a = 0; a < shape.size(); ++a) {
    narrow.push_back(source[a] < 0 ? 1 : sizes[source[a]]);
    if (source[a] >= 0)
      permutation.push_back(source[a]);
  }
  for (int64_t k = 0; k < depth; ++k)
    if (!llvm::is_contained(permutation, k))
      permutation.push_back(k); // of one element
  return node.broadcastTo(node.reshape(node.transpose(value, permutation), narrow), shape);
}

} // namespace zopt::importer
