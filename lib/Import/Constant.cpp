//===- Constant.cpp - tensors known at import ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Constant.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <algorithm>
#include <limits>

using llvm::ArrayRef;

namespace zopt::importer {

int64_t countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    if (size == 0 || __builtin_mul_overflow(count, size, &count))
      return size == 0 ? 0 : std::numeric_limits<int64_t>::max();
  return count;
}

std::optional<Shape> broadcast(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  Shape result(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < result.size(); ++i) {
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      return std::nullopt;
    result[result.size() - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

static Scalar rounded(Scalar value, Element element) {
  switch (element) {
  case Element::Bool:
    return {value.integer != 0, 0};
  case Element::Integer:
    return {value.integer, 0};
  case Element::Float:
    return {0, static_cast<double>(static_cast<float>(value.real))};
  case Element::Double:
    return {0, value.real};
  }
  return value;
}

/// Row-major strides, 0 for axes of size 1, aligned to `rank` trailing axes: how to walk `shape` along with a larger shape.
static Shape broadcastStrides(ArrayRef<int64_t> shape, size_t rank) {
  Shape strides(rank, 0);
  int64_t stride = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t size = shape[shape.size() - 1 - i];
    strides[rank - 1 - i] = size == 1 ? 0 : stride;
    stride *= size;
  }
  return strides;
}

/// Calls body(linear index into a, into b) for every index of `shape`, in row-major order.
template <typename Body> static void walk(ArrayRef<int64_t> shape, ArrayRef<int64_t> stridesA, ArrayRef<int64_t> stridesB, Body body) {
  const int64_t count = countElements(shape);
  Shape index(shape.size(), 0);
  int64_t a = 0, b = 0;
  for (int64_t n = 0; n < count; ++n) {
    body(a, b);
    for (int64_t axis = static_cast<int64_t>(shape.size()) - 1; axis >= 0; --axis) {
      a += stridesA[axis];
      b += stridesB[axis];
      if (++index[axis] < shape[axis])
        break;
      a -= stridesA[axis] * shape[axis];
      b -= stridesB[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

Constant::Constant(Element element, ArrayRef<int64_t> shape, ArrayRef<int64_t> stored, std::vector<Scalar> values) : type(element), logical(shape.begin(), shape.end()), kept(stored.begin(), stored.end()) {
  for (Scalar &value : values)
    value = rounded(value, element);
  data = std::make_shared<const std::vector<Scalar>>(std::move(values));
  dropAxes();
}

Constant Constant::splat(Element element, ArrayRef<int64_t> shape, Scalar value) {
  return Constant(element, shape, Shape(shape.size(), 1), {value});
}

Constant Constant::triangle(Element element, ArrayRef<int64_t> shape, int64_t diagonal, Scalar inside, Scalar outside) {
  inside = rounded(inside, element);
  outside = rounded(outside, element);
  const int64_t rows = shape[shape.size() - 2], columns = shape.back();
  // Triangles that cover all or nothing are splats.
  if (inside == outside || diagonal >= columns - 1)
    return splat(element, shape, inside);
  if (diagonal < 1 - rows)
    return splat(element, shape, outside);
  Constant result;
  result.type = element;
  result.logical.assign(shape.begin(), shape.end());
  result.triangular = Triangle{diagonal, inside, outside};
  return result;
}

Constant Constant::integers(ArrayRef<int64_t> shape, ArrayRef<int64_t> values) {
  std::vector<Scalar> elements;
  elements.reserve(values.size());
  for (int64_t value : values)
    elements.push_back({value, 0});
  return Constant(Element::Integer, shape, shape, std::move(elements));
}

void Constant::dropAxes() {
  if (data->empty())
    return;
  for (size_t axis = 0; axis < kept.size(); ++axis) {
    if (kept[axis] <= 1)
      continue;
    const int64_t inner = countElements(ArrayRef(kept).drop_front(axis + 1)), size = kept[axis], outer = static_cast<int64_t>(data->size()) / (inner * size);
    bool same = true;
    for (int64_t o = 0; o < outer && same; ++o) {
      const Scalar *block = data->data() + o * size * inner;
      for (int64_t i = inner; i < size * inner && same; ++i)
        same = block[i] == block[i - inner];
    }
    if (!same)
      continue;
    std::vector<Scalar> reduced;
    reduced.reserve(outer * inner);
    for (int64_t o = 0; o < outer; ++o)
      reduced.insert(reduced.end(), data->begin() + o * size * inner, data->begin() + o * size * inner + inner);
    data = std::make_shared<const std::vector<Scalar>>(std::move(reduced));
    kept[axis] = 1;
  }
}

std::optional<Scalar> Constant::asSplat() const {
  if (triangular || data->size() != 1)
    return std::nullopt;
  return data->front();
}

std::optional<Constant::Progression> Constant::asProgression() const {
  if (triangular || type != Element::Integer || data->size() < 2)
    return std::nullopt;
  int64_t axis = -1;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] == 1)
      continue;
    if (axis >= 0)
      return std::nullopt;
    axis = i;
  }
  int64_t step;
  if (__builtin_sub_overflow((*data)[1].integer, (*data)[0].integer, &step))
    return std::nullopt;
  for (size_t i = 1; i < data->size(); ++i) {
    int64_t difference;
    if (__builtin_sub_overflow((*data)[i].integer, (*data)[i - 1].integer, &difference) || difference != step)
      return std::nullopt;
  }
  return Progression{axis, data->front().integer, step};
}

std::optional<std::vector<Scalar>> Constant::expanded() const {
  const int64_t count = countElements(logical);
  if (count > mostElements(type))
    return std::nullopt;
  std::vector<Scalar> result;
  result.reserve(count);
  if (triangular) {
    const int64_t rows = logical[logical.size() - 2], columns = logical.back();
    for (int64_t n = 0; n < count; ++n) {
      const int64_t column = n % columns, row = n / columns % rows;
      result.push_back(column <= row + triangular->diagonal ? triangular->inside : triangular->outside);
    }
    return result;
  }
  const Shape strides = broadcastStrides(kept, logical.size());
  walk(logical, strides, strides, [&](int64_t a, int64_t) { result.push_back((*data)[a]); });
  return result;
}

std::optional<llvm::SmallVector<int64_t, 8>> Constant::asIntegers() const {
  if (!isInteger())
    return std::nullopt;
  std::optional<std::vector<Scalar>> elements = expanded();
  if (!elements)
    return std::nullopt;
  llvm::SmallVector<int64_t, 8> result;
  for (Scalar value : *elements)
    result.push_back(value.integer);
  return result;
}

Scalar Constant::at(ArrayRef<int64_t> index) const {
  int64_t linear = 0;
  for (size_t axis = 0; axis < kept.size(); ++axis)
    linear = linear * kept[axis] + (kept[axis] == 1 ? 0 : index[axis]);
  return (*data)[linear];
}

Constant Constant::broadcast(ArrayRef<int64_t> shape) const {
  Constant result = *this;
  result.logical.assign(shape.begin(), shape.end());
  if (!triangular)
    result.kept.insert(result.kept.begin(), shape.size() - logical.size(), 1);
  return result;
}

Constant Constant::cast(Element to) const {
  const bool fromInteger = isInteger(), toInteger = to == Element::Bool || to == Element::Integer;
  auto convert = [&](Scalar value) -> Scalar {
    if (fromInteger)
      return toInteger ? value : Scalar{0, static_cast<double>(value.integer)};
    if (!toInteger)
      return value;
    if (to == Element::Bool)
      return {value.real != 0, 0};
    // Out of range is undefined in ONNX; saturate rather than let C++ be undefined too.
    if (!(value.real > -9.2e18))
      return {value.real != value.real ? 0 : std::numeric_limits<int64_t>::min(), 0};
    return {value.real < 9.2e18 ? static_cast<int64_t>(value.real) : std::numeric_limits<int64_t>::max(), 0};
  };
  if (triangular)
    return triangle(to, logical, triangular->diagonal, convert(triangular->inside), convert(triangular->outside));
  std::vector<Scalar> values;
  values.reserve(data->size());
  for (Scalar value : *data)
    values.push_back(convert(value));
  return Constant(to, logical, kept, std::move(values));
}

std::optional<Constant> mapElements(const Constant &a, Element result, llvm::function_ref<Scalar(Scalar)> function) {
  if (const std::optional<Constant::Triangle> &t = a.asTriangle())
    return Constant::triangle(result, a.shape(), t->diagonal, function(t->inside), function(t->outside));
  if (static_cast<int64_t>(a.values().size()) > Constant::mostElements(result))
    return std::nullopt;
  std::vector<Scalar> values;
  values.reserve(a.values().size());
  for (Scalar value : a.values())
    values.push_back(function(value));
  return Constant(result, a.shape(), a.stored(), std::move(values));
}

/// The single axis that varies, of a dense constant aligned to `rank` axes; -1 where there is none or more than one.
static int64_t varyingAxis(const Constant &c, int64_t rank) {
  int64_t axis = -1;
  for (auto [i, size] : llvm::enumerate(c.stored())) {
    if (size == 1)
      continue;
    if (axis >= 0)
      return -1;
    axis = static_cast<int64_t>(i) + rank - c.rank();
  }
  return axis;
}

/// Comparisons of a column that counts rows with a row that counts columns (or the other way round): their value depends on column - row alone, so one look at each
/// diagonal tells whether they make a triangle.
static std::optional<Constant> compareProgressions(const Constant &a, const Constant &b, ArrayRef<int64_t> shape, llvm::function_ref<Scalar(Scalar, Scalar)> function) {
  const int64_t rank = shape.size(), row = rank - 2, column = rank - 1;
  const std::optional<Constant::Progression> pa = a.asProgression(), pb = b.asProgression();
  if (rank < 2 || !pa || !pb || pa->step != 1 || pb->step != 1)
    return std::nullopt;
  const int64_t axisA = varyingAxis(a, rank), axisB = varyingAxis(b, rank);
  if (!((axisA == row && axisB == column) || (axisA == column && axisB == row)))
    return std::nullopt;
  // value(d) for d = column index - row index: a and b step together along a diagonal, so all of it has one value.
  auto value = [&](int64_t d) {
    const int64_t r = d < 0 ? -d : 0, c = d < 0 ? 0 : d;
    const int64_t x = pa->start + (axisA == row ? r : c), y = pb->start + (axisB == row ? r : c);
    return function({x, 0}, {y, 0});
  };
  const int64_t lowest = 1 - shape[row], highest = shape[column] - 1;
  std::optional<int64_t> edge;
  for (int64_t d = lowest; d < highest; ++d) {
    if (value(d) == value(d + 1))
      continue;
    if (edge)
      return std::nullopt;
    edge = d;
  }
  if (!edge)
    return Constant::splat(Element::Bool, shape, value(lowest));
  return Constant::triangle(Element::Bool, shape, *edge, value(*edge), value(*edge + 1));
}

std::optional<Constant> mapElements(const Constant &a, const Constant &b, Element result, llvm::function_ref<Scalar(Scalar, Scalar)> function) {
  const std::optional<Shape> shape = broadcast(a.shape(), b.shape());
  if (!shape)
    return std::nullopt;
  const std::optional<Constant::Triangle> &ta = a.asTriangle(), &tb = b.asTriangle();
  if (ta || tb) {
    // A triangle stays one beside a splat or a triangle of the same matrix and diagonal.
    const std::optional<Scalar> sa = ta ? std::nullopt : a.asSplat(), sb = tb ? std::nullopt : b.asSplat();
    auto sameMatrix = [&](const Constant &c) { return c.rank() >= 2 && c.shape().take_back(2) == ArrayRef(*shape).take_back(2); };
    const bool closed = (!ta || sameMatrix(a)) && (!tb || sameMatrix(b)) && (ta || sa) && (tb || sb) && (!ta || !tb || ta->diagonal == tb->diagonal);
    if (!closed)
      return std::nullopt;
    return Constant::triangle(result, *shape, ta ? ta->diagonal : tb->diagonal, function(ta ? ta->inside : *sa, tb ? tb->inside : *sb), function(ta ? ta->outside : *sa, tb ? tb->outside : *sb));
  }
  if (result == Element::Bool && a.element() == Element::Integer && b.element() == Element::Integer)
    if (std::optional<Constant> triangle = compareProgressions(a, b, *shape, function))
      return triangle;

  Shape storedA(shape->size() - a.rank(), 1), storedB(shape->size() - b.rank(), 1);
  storedA.append(a.stored().begin(), a.stored().end());
  storedB.append(b.stored().begin(), b.stored().end());
  const std::optional<Shape> stored = broadcast(storedA, storedB);
  const int64_t count = countElements(*stored);
  if (count > Constant::mostElements(result))
    return std::nullopt;
  std::vector<Scalar> values;
  values.reserve(count);
  walk(*stored, broadcastStrides(storedA, stored->size()), broadcastStrides(storedB, stored->size()), [&](int64_t x, int64_t y) { values.push_back(function(a.values()[x], b.values()[y])); });
  return Constant(result, *shape, *stored, std::move(values));
}

} // namespace zopt::importer
