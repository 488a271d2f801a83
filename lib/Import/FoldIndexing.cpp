//===- FoldIndexing.cpp - known tensors read and written by index ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"

#include <map>

using namespace mlir;

namespace zopt::importer {

/// Elements of a result that is folded here: shape arithmetic and small tables.
static constexpr int64_t mostFolded = int64_t(1) << 16;

static std::optional<std::vector<Scalar>> small(NodeImporter &node, int i) {
  if (!node.constant(i) || countElements(node.shape(i)) > mostFolded)
    return std::nullopt;
  return node.constant(i)->expanded();
}

static bool setResult(NodeImporter &node, int i, Element element, Type type, ArrayRef<int64_t> shape, std::vector<Scalar> values) {
  if (static_cast<int64_t>(values.size()) > std::min(mostFolded, Constant::mostElements(element)) || values.empty())
    return false;
  node.result(i, Constant(element, shape, shape, std::move(values)), type);
  return true;
}

static bool advance(Shape &at, ArrayRef<int64_t> shape) {
  for (int64_t axis = static_cast<int64_t>(shape.size()) - 1; axis >= 0; --axis) {
    if (++at[axis] < shape[axis])
      return true;
    at[axis] = 0;
  }
  return false;
}

bool foldPad(NodeImporter &node) {
  if (node.attribute("mode", StringRef("constant")) != "constant" || node.has(3))
    return false;
  std::optional<std::vector<Scalar>> data = small(node, 0);
  std::optional<SmallVector<int64_t, 8>> pads = node.constant(1)->asIntegers();
  std::optional<Scalar> fill = node.has(2) ? node.constant(2)->asSplat() : Scalar();
  const int64_t rank = node.rank(0);
  if (!data || !pads || !fill || static_cast<int64_t>(pads->size()) != 2 * rank || (node.has(2) && node.element(2) != node.element(0)))
    return false;
  Shape shape(node.shape(0)), at(rank, 0);
  for (int64_t axis = 0; axis < rank; ++axis) {
    if (std::abs((*pads)[axis]) > mostFolded || std::abs((*pads)[rank + axis]) > mostFolded)
      return false;
    shape[axis] += (*pads)[axis] + (*pads)[rank + axis];
  }
  if (llvm::any_of(shape, [](int64_t size) { return size < 1; }) || countElements(shape) > mostFolded)
    return false;
  const Shape strides = rowMajorStrides(node.shape(0));
  std::vector<Scalar> values;
  do {
    int64_t from = 0;
    bool inside = true;
    for (int64_t axis = 0; axis < rank; ++axis) {
      const int64_t place = at[axis] - (*pads)[axis];
      inside &= place >= 0 && place < node.shape(0)[axis];
      from += place * strides[axis];
    }
    values.push_back(inside ? (*data)[from] : *fill);
  } while (advance(at, shape));
  return setResult(node, 0, node.constant(0)->element(), node.element(0), shape, std::move(values));
}

/// The place of element `at` of indices in data, along an axis; nothing where it is out of range.
static std::optional<int64_t> placeAlong(ArrayRef<int64_t> at, int64_t index, ArrayRef<int64_t> data, ArrayRef<int64_t> strides, int64_t axis) {
  if (index < -data[axis] || index >= data[axis])
    return std::nullopt;
  int64_t place = 0;
  for (size_t a = 0; a < at.size(); ++a)
    place += strides[a] * (static_cast<int64_t>(a) != axis ? at[a] : index < 0 ? index + data[axis] : index);
  return place;
}

static std::optional<int64_t> elementAxis(NodeImporter &node) {
  const int64_t rank = node.rank(0), named = node.attribute("axis", int64_t(0)), axis = named < 0 ? named + rank : named;
  bool fits = axis >= 0 && axis < rank && node.rank(1) == rank && node.constant(1)->isInteger();
  for (int64_t a = 0; fits && a < rank; ++a)
    fits = a == axis || node.shape(1)[a] <= node.shape(0)[a];
  return fits ? std::optional(axis) : std::nullopt;
}

bool foldGatherElements(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0), indices = small(node, 1);
  std::optional<int64_t> axis = data && indices ? elementAxis(node) : std::nullopt;
  if (!axis || indices->empty())
    return false;
  const Shape strides = rowMajorStrides(node.shape(0));
  Shape at(node.rank(1), 0);
  std::vector<Scalar> values;
  do {
    std::optional<int64_t> place = placeAlong(at, (*indices)[values.size()].integer, node.shape(0), strides, *axis);
    if (!place)
      return false;
    values.push_back((*data)[*place]);
  } while (advance(at, node.shape(1)));
  return setResult(node, 0, node.constant(0)->element(), node.element(0), node.shape(1), std::move(values));
}

bool foldScatter(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0), indices = small(node, 1), updates = small(node, 2);
  StringRef reduction = node.attribute("reduction", StringRef("none"));
  if (!data || !indices || !updates || !node.constant(1)->isInteger() || indices->empty() || node.element(2) != node.element(0))
    return false;
  if (reduction != "none" && (reduction != "add" || node.constant(0)->element() != Element::Integer))
    return false;
  auto write = [&](int64_t place, Scalar update) {
    if (reduction == "add")
      update.integer += (*data)[place].integer;
    (*data)[place] = update;
  };
  const Shape strides = rowMajorStrides(node.shape(0));
  if (node.proto.op_type() == "ScatterElements") {
    std::optional<int64_t> axis = elementAxis(node);
    if (!axis || node.shape(2) != node.shape(1))
      return false;
    Shape at(node.rank(1), 0);
    size_t i = 0;
    do {
      std::optional<int64_t> place = placeAlong(at, (*indices)[i].integer, node.shape(0), strides, *axis);
      if (!place)
        return false;
      write(*place, (*updates)[i++]);
    } while (advance(at, node.shape(1)));
  } else {
    const int64_t tuple = node.rank(1) ? node.shape(1).back() : 0;
    if (tuple < 1 || tuple > node.rank(0))
      return false;
    const int64_t inner = countElements(node.shape(0).drop_front(tuple));
    if (static_cast<int64_t>(indices->size()) / tuple * inner != static_cast<int64_t>(updates->size()))
      return false;
    for (size_t i = 0; i * tuple < indices->size(); ++i) {
      int64_t place = 0;
      for (int64_t j = 0; j < tuple; ++j) {
        const int64_t index = (*indices)[i * tuple + j].integer, size = node.shape(0)[j];
        if (index < -size || index >= size)
          return false;
        place += (index < 0 ? index + size : index) * strides[j];
      }
      for (int64_t j = 0; j < inner; ++j)
        write(place + j, (*updates)[i * inner + j]);
    }
  }
  return setResult(node, 0, node.constant(0)->element(), node.element(0), node.shape(0), std::move(*data));
}

bool foldCompress(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0), condition = small(node, 1);
  if (!data || !condition || node.find("axis"))
    return false; // along an axis it is a slice or a gather
  std::vector<Scalar> values;
  for (size_t i = 0; i < std::min(data->size(), condition->size()); ++i)
    if ((*condition)[i].integer)
      values.push_back((*data)[i]);
  const int64_t count = values.size();
  return setResult(node, 0, node.constant(0)->element(), node.element(0), {count}, std::move(values));
}

bool foldNonZero(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0);
  const int64_t rank = node.rank(0);
  if (!data || rank == 0 || data->empty())
    return false;
  SmallVector<Shape> found;
  Shape at(rank, 0);
  size_t i = 0;
  do {
    const Scalar value = (*data)[i++];
    if (value.integer != 0 || value.real != 0)
      found.push_back(at);
  } while (advance(at, node.shape(0)));
  std::vector<Scalar> values;
  for (int64_t axis = 0; axis < rank; ++axis)
    for (const Shape &place : found)
      values.push_back({place[axis], 0});
  return setResult(node, 0, Element::Integer, node.builder.getI64Type(), {rank, static_cast<int64_t>(found.size())}, std::move(values));
}

bool foldUnique(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0);
  if (!data || data->empty() || (node.find("axis") && node.rank(0) != 1))
    return false;
  const bool real = !node.constant(0)->isInteger(), sorted = node.attribute("sorted", int64_t(1)) != 0;
  if (real && llvm::any_of(*data, [](Scalar s) { return s.real != s.real; }))
    return false;
  std::map<std::pair<int64_t, double>, int64_t> numbers; // by value: which unique one
  struct Found {
    Scalar value;
    int64_t first, count;
  };
  std::vector<Found> unique;
  std::vector<int64_t> inverse;
  for (auto [i, value] : llvm::enumerate(*data)) {
    auto [it, isNew] = numbers.try_emplace({value.integer, value.real}, unique.size());
    if (isNew)
      unique.push_back({value, static_cast<int64_t>(i), 0});
    ++unique[it->second].count;
    inverse.push_back(it->second);
  }
  std::vector<int64_t> order(unique.size()), rank(unique.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  if (sorted)
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return real ? unique[a].value.real < unique[b].value.real : unique[a].value.integer < unique[b].value.integer; });
  for (size_t i = 0; i < order.size(); ++i)
    rank[order[i]] = i;
  std::vector<Scalar> values, firsts, inverses, counts;
  for (int64_t i : order) {
    values.push_back(unique[i].value);
    firsts.push_back({unique[i].first, 0});
    counts.push_back({unique[i].count, 0});
  }
  for (int64_t i : inverse)
    inverses.push_back({rank[i], 0});
  const int64_t count = values.size(), all = inverse.size();
  Type i64 = node.builder.getI64Type();
  return setResult(node, 0, node.constant(0)->element(), node.element(0), {count}, std::move(values)) && setResult(node, 1, Element::Integer, i64, {count}, std::move(firsts)) &&
         setResult(node, 2, Element::Integer, i64, {all}, std::move(inverses)) && setResult(node, 3, Element::Integer, i64, {count}, std::move(counts));
}

} // namespace zopt::importer
