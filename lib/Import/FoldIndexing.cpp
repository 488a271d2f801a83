//===- FoldIndexing.cpp - known tensors read and written by index ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"

#include <cmath>
#include <limits>
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

static bool setResult(NodeImporter &node, int i, Element element, Type type, ArrayRef<int64_t> shape,
                      std::vector<Scalar> values) {
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

std::optional<int64_t> rangeLength(NodeImporter &node) {
  const Scalar start = *node.constant(0)->asSplat(), limit = *node.constant(1)->asSplat(),
               step = *node.constant(2)->asSplat();
  double count;
  if (node.constant(0)->isInteger()) {
    int64_t span;
    if (step.integer == 0 || step.integer == std::numeric_limits<int64_t>::min() ||
        __builtin_sub_overflow(limit.integer, start.integer, &span))
      return std::nullopt;
    const int64_t s = step.integer;
    count = span != 0 && (span > 0) == (s > 0) ? static_cast<double>((span - (s > 0 ? 1 : -1)) / s + 1) : 0;
  } else {
    count = std::ceil((limit.real - start.real) / step.real);
  }
  if (!(count <= static_cast<double>(mostElementsOfResult))) // a NaN too
    return std::nullopt;
  return std::max<int64_t>(0, static_cast<int64_t>(count));
}

bool foldFloatRange(NodeImporter &node) {
  if (foldRange(node))
    return true;
  for (int i = 0; i < 3; ++i)
    if (!node.has(i) || node.constant(i)->isInteger() || !node.constant(i)->asSplat() ||
        node.element(i) != node.element(0))
      return false;
  const std::optional<int64_t> count = rangeLength(node);
  if (!count || *count > Constant::mostFloats)
    return false;
  const double start = node.constant(0)->asSplat()->real, step = node.constant(2)->asSplat()->real;
  std::vector<Scalar> values;
  for (int64_t i = 0; i < *count; ++i)
    values.push_back({0, start + i * step});
  return setResult(node, 0, node.constant(0)->element(), node.element(0), {*count}, std::move(values));
}

bool foldPad(NodeImporter &node) {
  if (node.attribute("mode", StringRef("constant")) != "constant" || node.has(3))
    return false;
  std::optional<std::vector<Scalar>> data = small(node, 0);
  std::optional<SmallVector<int64_t, 8>> pads = node.constant(1)->asIntegers();
  std::optional<Scalar> fill = node.has(2) ? node.constant(2)->asSplat() : Scalar();
  const int64_t rank = node.rank(0);
  if (!data || !pads || !fill || static_cast<int64_t>(pads->size()) != 2 * rank ||
      (node.has(2) && node.element(2) != node.element(0)))
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
static std::optional<int64_t> placeAlong(ArrayRef<int64_t> at, int64_t index, ArrayRef<int64_t> data,
                                         ArrayRef<int64_t> strides, int64_t axis) {
  if (index < -data[axis] || index >= data[axis])
    return std::nullopt;
  int64_t place = 0;
  for (size_t a = 0; a < at.size(); ++a)
    place += strides[a] * (static_cast<int64_t>(a) != axis ? at[a] : index < 0 ? index + data[axis] : index);
  return place;
}

static std::optional<int64_t> elementAxis(NodeImporter &node) {
  const int64_t rank = node.rank(0), named = node.attribute("axis", int64_t(0)),
                axis = named < 0 ? named + rank : named;
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
  if (!data || !indices || !updates || !node.constant(1)->isInteger() || indices->empty() ||
      node.element(2) != node.element(0))
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
  return setResult(node, 0, Element::Integer, node.builder.getI64Type(), {rank, static_cast<int64_t>(found.size())},
                   std::move(values));
}

bool foldUnique(NodeImporter &node) {
  std::optional<std::vector<Scalar>> data = small(node, 0);
  if (!data || data->empty())
    return false;
  const bool real = !node.constant(0)->isInteger(), sorted = node.attribute("sorted", int64_t(1)) != 0;
  if (real && llvm::any_of(*data, [](Scalar s) { return s.real != s.real; }))
    return false;
  // What is unique: single elements, or slices along an axis, compared element by element in row-major order.
  int64_t before = 1, size = data->size(), behind = 1;
  Shape shape = {size};
  size_t axis = 0;
  if (node.find("axis")) {
    FailureOr<int64_t> named = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
    if (failed(named))
      return false;
    axis = *named;
    shape.assign(node.shape(0).begin(), node.shape(0).end());
    before = countElements(ArrayRef(shape).take_front(axis));
    size = shape[axis];
    behind = countElements(ArrayRef(shape).drop_front(axis + 1));
  }
  using Key = std::vector<std::pair<int64_t, double>>;
  std::map<Key, int64_t> numbers; // which unique one
  std::vector<Key> unique;
  std::vector<int64_t> firsts, counts, inverse;
  for (int64_t i = 0; i < size; ++i) {
    Key key;
    for (int64_t outer = 0; outer < before; ++outer)
      for (int64_t inner = 0; inner < behind; ++inner) {
        const Scalar &value = (*data)[(outer * size + i) * behind + inner];
        key.push_back({value.integer, value.real});
      }
    auto [it, isNew] = numbers.try_emplace(key, unique.size());
    if (isNew) {
      unique.push_back(std::move(key));
      firsts.push_back(i);
      counts.push_back(0);
    }
    ++counts[it->second];
    inverse.push_back(it->second);
  }
  std::vector<int64_t> order(unique.size()), rank(unique.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  if (sorted)
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return unique[a] < unique[b]; });
  for (size_t i = 0; i < order.size(); ++i)
    rank[order[i]] = i;
  const int64_t count = order.size();
  std::vector<Scalar> values(before * count * behind);
  for (int64_t place = 0; place < count; ++place)
    for (int64_t outer = 0; outer < before; ++outer)
      for (int64_t inner = 0; inner < behind; ++inner) {
        const auto &[integer, number] = unique[order[place]][outer * behind + inner];
        values[(outer * count + place) * behind + inner] = Scalar{integer, number};
      }
  shape[axis] = count;
  auto integers = [](const std::vector<int64_t> &numbers) {
    std::vector<Scalar> scalars;
    for (int64_t number : numbers)
      scalars.push_back({number, 0});
    return scalars;
  };
  auto arranged = [&](const std::vector<int64_t> &numbers) {
    std::vector<int64_t> result;
    for (int64_t i : order)
      result.push_back(numbers[i]);
    return integers(result);
  };
  for (int64_t &which : inverse)
    which = rank[which];
  Type i64 = node.builder.getI64Type();
  return setResult(node, 0, node.constant(0)->element(), node.element(0), shape, std::move(values)) &&
         setResult(node, 1, Element::Integer, i64, {count}, arranged(firsts)) &&
         setResult(node, 2, Element::Integer, i64, {size}, integers(inverse)) &&
         setResult(node, 3, Element::Integer, i64, {count}, arranged(counts));
}

} // namespace zopt::importer
