//===- OperatorsSampling.cpp - ONNX operators that sample at run-time places ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Operators.h"
#include "Sampling.h"

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

static Value floorOf(Emit &emit, Value x) { return emit.unary<train::FloorOp>(x); }

/// x in [low, high]; a NaN becomes low. Outside, no gradient flows.
static Value clip(Emit &emit, Value x, double low, double high) {
  Value least = emit.number(Emit::elementOf(x), low), most = emit.number(Emit::elementOf(x), high);
  x = emit.select(emit.compare(ComparePredicate::gt, x, least), x, least);
  return emit.select(emit.compare(ComparePredicate::lt, x, most), x, most);
}

static Value isOdd(Emit &emit, Value whole) {
  return emit.compare(ComparePredicate::ne, emit.sub(whole, emit.mul(floorOf(emit, emit.mul(whole, 0.5)), 2.0)),
                      emit.number(Emit::elementOf(whole), 0));
}

static Value reflect(Emit &emit, Value x, const SampledAxis &axis) {
  if (axis.high <= axis.low)
    return emit.mul(x, 0.0);
  Value distance = emit.unary<train::AbsOp>(emit.sub(x, axis.low));
  Value times = floorOf(emit, emit.div(distance, axis.high - axis.low)),
        rest = emit.sub(distance, emit.mul(times, axis.high - axis.low));
  return emit.select(isOdd(emit, times), emit.sub(emit.number(Emit::elementOf(x), axis.high), rest),
                     emit.add(rest, axis.low));
}

/// To the nearest whole number, the even one of two that are as near.
static Value roundToEven(Emit &emit, Value x) {
  Value up = floorOf(emit, emit.add(x, 0.5));
  Value tie = emit.compare(ComparePredicate::eq, emit.sub(up, x), emit.number(Emit::elementOf(x), 0.5));
  return emit.select(emit.logicalAnd(tie, isOdd(emit, up)), emit.sub(up, 1.0), up);
}

/// The element at a whole coordinate, under a padding mode.
static Neighbour elementAt(Emit &emit, Value whole, const SampledAxis &axis, StringRef padding) {
  Neighbour n;
  if (padding == "zeros")
    n.inside = emit.logicalAnd(emit.compare(ComparePredicate::ge, whole, emit.number(Emit::elementOf(whole), 0)),
                         emit.compare(ComparePredicate::le, whole, emit.number(Emit::elementOf(whole), axis.size - 1)));
  if (padding == "reflection")
    whole = reflect(emit, whole, axis);
  n.place = emit.cast(clip(emit, whole, 0, axis.size - 1), emit.i64);
  return n;
}

SmallVector<Neighbour> neighbours(Emit &emit, Value x, const SampledAxis &axis, StringRef mode, StringRef padding) {
  FullPrecision keep(emit);
  // Nearest and linear sampling move the coordinate itself, cubic sampling each neighbour.
  if (mode != "cubic") {
    if (padding == "reflection")
      x = reflect(emit, x, axis);
    if (padding != "zeros")
      x = clip(emit, x, 0, axis.size - 1);
  }
  if (mode == "nearest")
    return {elementAt(emit, roundToEven(emit, x), axis, padding)};
  Value left = floorOf(emit, x), t = emit.sub(x, left), rest = emit.sub(emit.number(Emit::elementOf(t), 1), t);
  SmallVector<Value> weights = {rest, t};
  if (mode == "cubic") {
    constexpr double A = -0.75;
    auto near = [&](Value d) { return emit.add(emit.mul(emit.mul(emit.sub(emit.mul(d, A + 2), A + 3), d), d), 1.0); };
    auto far = [&](Value d) {
      return emit.sub(emit.mul(emit.add(emit.mul(emit.sub(emit.mul(d, A), 5 * A), d), 8 * A), d), 4 * A);
    };
    weights = {far(emit.add(t, 1.0)), near(t), near(rest), far(emit.add(rest, 1.0))};
  }
  SmallVector<Neighbour> result;
  for (auto [i, weight] : llvm::enumerate(weights)) {
    const double shift = static_cast<double>(i) - (mode == "cubic" ? 1 : 0);
    Neighbour n = elementAt(emit, shift ? emit.add(left, shift) : left, axis, padding);
    n.weight = weight;
    result.push_back(n);
  }
  return result;
}

Value sampleRows(Emit &emit, Value rows, Value first, ArrayRef<SmallVector<Neighbour>> axes, ArrayRef<int64_t> sizes) {
  const Shape strides = rowMajorStrides(sizes);
  Type element = Emit::elementOf(rows);
  SmallVector<size_t> at(axes.size(), 0);
  Value sum;
  while (true) {
    Value place = first, weight, inside;
    for (size_t axis = 0; axis < axes.size(); ++axis) {
      const Neighbour &n = axes[axis][at[axis]];
      place = emit.add(place, emit.mul(n.place, emit.number(strides[axis])));
      if (n.weight)
        weight = weight ? emit.mul(weight, n.weight) : n.weight;
      if (n.inside)
        inside = inside ? emit.logicalAnd(inside, n.inside) : n.inside;
    }
    Value term = emit.gather(rows, place);
    Shape spread(Emit::shapeOf(place));
    spread.push_back(1);
    if (inside && weight)
      weight = emit.select(inside, weight, emit.number(element, 0));
    if (weight)
      term = emit.mul(term, emit.reshape(weight, spread));
    else if (inside)
      term = emit.select(emit.reshape(inside, spread), term, emit.number(element, 0));
    sum = sum ? emit.add(sum, term) : term;
    size_t axis = axes.size();
    while (axis > 0 && ++at[axis - 1] == axes[axis - 1].size())
      at[--axis] = 0;
    if (axis == 0)
      return sum;
  }
}

Value channelRows(Emit &emit, Value images) {
  const Shape shape(Emit::shapeOf(images));
  const int64_t places = countElements(ArrayRef(shape).drop_front(2));
  return emit.reshape(emit.transpose(emit.reshape(images, {shape[0], shape[1], places}), {0, 2, 1}),
                      {shape[0] * places, shape[1]});
}

LogicalResult lowerGridSample(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  StringRef mode = node.attribute("mode", StringRef("linear")),
            padding = node.attribute("padding_mode", StringRef("zeros"));
  mode = mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : mode;
  const bool corners = node.attribute("align_corners", int64_t(0)) != 0;
  const int64_t spatial = node.rank(0) - 2;
  bool fits = node.inputs() == 2 && spatial >= 1 && spatial <= 3 && node.rank(1) == node.rank(0) &&
              node.shape(1).back() == spatial && node.shape(1)[0] == node.shape(0)[0] &&
              isa<FloatType>(node.element(1));
  if (!fits || (mode != "linear" && mode != "nearest" && mode != "cubic") ||
      (padding != "zeros" && padding != "border" && padding != "reflection"))
    return node.error("cannot sample " + describe(node.shape(0)) + " at " + describe(node.shape(1)) + " with mode '" +
                      mode + "' and padding_mode '" + padding +
                      "': images of one to three axes and floats as a grid are supported");
  Value images = node.operand(0), grid = images ? node.operand(1) : Value();
  if (!grid)
    return failure();
  Emit emit(node);
  // The wider of both types.
  const Type inside = node.element(1).isF64() ? node.element(1) : realType(node.element(0));
  images = emit.cast(images, inside);
  grid = emit.cast(grid, inside);
  const int64_t batch = node.shape(0)[0];
  ArrayRef<int64_t> sizes = node.shape(0).drop_front(2), out = node.shape(1).drop_front(1).drop_back(1);
  const int64_t count = countElements(out), places = countElements(sizes);
  grid = emit.reshape(grid, {batch, count, spatial});
  SmallVector<SmallVector<Neighbour>> axes;
  for (int64_t axis = 0; axis < spatial; ++axis) {
    FullPrecision keep(emit);
    const double size = sizes[axis];
    Value x = emit.add(emit.pick(grid, 2, spatial - 1 - axis), 1.0); // the grid names axes from the last one on
    x = corners ? emit.mul(x, (size - 1) / 2) : emit.mul(emit.sub(emit.mul(x, size), 1.0), 0.5);
    axes.push_back(
        neighbours(emit, x, {sizes[axis], corners ? 0 : -0.5, corners ? size - 1 : size - 0.5}, mode, padding));
  }
  Value sampled = sampleRows(emit, channelRows(emit, images), emit.iota(2, 0, batch, 0, places), axes, sizes);
  Shape shape = {batch, node.shape(0)[1]};
  shape.append(out.begin(), out.end());
  node.result(0, roundTo(emit, emit.reshape(emit.transpose(sampled, {0, 2, 1}), shape), node.element(0)));
  return success();
}

LogicalResult lowerAffineGrid(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> size = node.integers(1, "the size");
  if (failed(size))
    return failure();
  const int64_t spatial = static_cast<int64_t>(size->size()) - 2;
  const bool corners = node.attribute("align_corners", int64_t(0)) != 0;
  if ((spatial != 2 && spatial != 3) || node.rank(0) != 3 || node.shape(0)[1] != spatial ||
      node.shape(0)[2] != spatial + 1 || (*size)[0] != node.shape(0)[0] || !isa<FloatType>(node.element(0)))
    return node.error("matrices " + describe(node.shape(0)) + " do not transform a grid of the size " +
                      describe(*size));
  Value theta = node.operand(0);
  if (!theta)
    return failure();
  Emit emit(node);
  ArrayRef<int64_t> sizes = ArrayRef(*size).drop_front(2);
  Shape shape = {(*size)[0]};
  shape.append(sizes.begin(), sizes.end());
  shape.push_back(spatial);
  if (failed(emit.checkSize(shape)))
    return failure();
  // Homogeneous coordinates [places, spatial + 1]: those of the last axis first, then 1.
  const Type element = node.element(0);
  Shape column(sizes);
  column.push_back(1);
  SmallVector<Value> columns;
  for (int64_t axis = spatial - 1; axis >= 0; --axis) {
    const double n = sizes[axis];
    // The one place of an axis of 1 lies in the middle, as in PyTorch.
    const double step = !corners ? 2 / n : n > 1 ? 2 / (n - 1) : 0, start = !corners ? 1 / n - 1 : n > 1 ? -1 : 0;
    Value x = emit.add(emit.mul(emit.cast(emit.iota(spatial + 1, axis, sizes[axis]), element), step), start);
    columns.push_back(emit.broadcast(x, column));
  }
  columns.push_back(emit.broadcast(emit.number(element, 1), column));
  const int64_t places = countElements(sizes);
  Value base = emit.reshape(emit.concat(columns, spatial), {places, spatial + 1});
  Value grid = train::MatmulOp::create(node.builder, node.loc, node.type({shape[0], places, spatial}, element), base,
                                       theta, /*bias=*/Value(), false, true, APFloat(1.0));
  node.result(0, emit.reshape(grid, shape));
  return success();
}

//===----------------------------------------------------------------------===//
// RoiAlign
//===----------------------------------------------------------------------===//

LogicalResult lowerRoiAlign(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  StringRef mode = node.attribute("mode", StringRef("avg")),
            coordinates =
                node.attribute("coordinate_transformation_mode",
                               node.graph.opset >= 16 ? StringRef("half_pixel") : StringRef("output_half_pixel"));
  const int64_t height = node.attribute("output_height", int64_t(1)),
                width = node.attribute("output_width", int64_t(1)),
                ratio = node.attribute("sampling_ratio", int64_t(0));
  const double scale = node.attribute("spatial_scale", 1.0);
  if (node.inputs() != 3 || node.rank(0) != 4 || node.rank(1) != 2 || node.shape(1)[1] != 4 || node.rank(2) != 1 ||
      node.shape(2)[0] != node.shape(1)[0] || !isa<FloatType>(node.element(0)) || node.element(1) != node.element(0) ||
      (mode != "avg" && mode != "max") || height < 1 || width < 1 || height > 4096 || width > 4096)
    return node.error("cannot align regions " + describe(node.shape(1)) + " of " + describe(node.shape(0)) +
                      " with mode '" + mode + "' to " + Twine(height) + " x " + Twine(width));
  if (ratio < 1 || ratio > 64)
    return node.error("has the sampling_ratio " + Twine(ratio) +
                      ": the number of samples depends on the data; 1 to 64 are supported");
  Value images = node.operand(0), regions = images ? node.operand(1) : Value(),
        batch = regions ? node.operand(2) : Value();
  if (!batch)
    return failure();
  Emit emit(node);
  const bool half = coordinates == "half_pixel";
  const int64_t count = node.shape(1)[0], samples = height * ratio * width * ratio;
  ArrayRef<int64_t> sizes = node.shape(0).drop_front(2);
  SmallVector<SmallVector<Neighbour>> axes;
  Value visible;
  for (int64_t axis = 0; axis < 2; ++axis) {
    FullPrecision keep(emit);
    const int64_t cells = axis == 0 ? height : width;
    auto edge = [&](int64_t column) {
      Value x = emit.reshape(emit.mul(emit.pick(regions, 1, column), scale), {count, 1});
      return half ? emit.sub(x, 0.5) : x;
    };
    Value start = edge(1 - axis), extent = emit.sub(edge(3 - axis), start);
    if (!half)
      extent = emit.max(extent, 1.0);
    // Sample i of cells * ratio lies in the middle of its part.
    Value steps = emit.add(emit.cast(emit.iota(2, 1, cells * ratio), node.element(0)), 0.5);
    Value x =
        emit.add(start, emit.mul(emit.div(extent, static_cast<double>(cells * ratio)), steps)); // [R, cells * ratio]
    const double size = sizes[axis];
    Value inside = emit.logicalAnd(emit.compare(ComparePredicate::ge, x, emit.number(node.element(0), -1)),
                             emit.compare(ComparePredicate::le, x, emit.number(node.element(0), size)));
    // [R, samples], the rows' samples outermost.
    Shape grid = {count, 1, 1}, whole = {count, height * ratio, width * ratio};
    grid[1 + axis] = cells * ratio;
    auto spread = [&](Value v) { return emit.reshape(emit.broadcast(emit.reshape(v, grid), whole), {count, samples}); };
    inside = spread(inside);
    visible = visible ? emit.logicalAnd(visible, inside) : inside;
    axes.push_back(
        neighbours(emit, spread(clip(emit, x, 0, size - 1)), {sizes[axis], 0, size - 1}, "linear", "border"));
  }
  Value first =
      emit.mul(emit.reshape(emit.normalize(batch, node.shape(0)[0]), {count, 1}), emit.number(sizes[0] * sizes[1]));
  const int64_t channels = node.shape(0)[1];
  const Shape parts = {count, height, ratio, width, ratio, channels};
  Value result;
  auto reduce = [&](Value sampled, bool largest) {
    Value split = emit.reshape(sampled, parts);
    const SmallVector<int64_t> over = {2, 4};
    if (!largest)
      return emit.mul(emit.sumAway(split, over), 1.0 / (ratio * ratio));
    return Value(train::ReduceMaxOp::create(
        node.builder, node.loc, node.type({count, height, width, channels}, node.element(0)), split, over, false));
  };
  Shape mask = {count, samples, 1};
  Value zero = emit.number(node.element(0), 0);
  if (mode == "avg") {
    Value sampled = sampleRows(emit, channelRows(emit, images), first, axes, sizes);
    result = reduce(emit.select(emit.reshape(visible, mask), sampled, zero), false);
  } else {
    // The largest of the weighted neighbours, not of their sums.
    Value rows = channelRows(emit, images);
    for (const Neighbour &y : axes[0])
      for (const Neighbour &x : axes[1]) {
        const SmallVector<Neighbour> ys = {y}, xs = {x};
        Value one = reduce(
            emit.select(emit.reshape(visible, mask), sampleRows(emit, rows, first, {ys, xs}, sizes), zero), true);
        result = result ? emit.max(result, one) : one;
      }
  }
  node.result(0, emit.transpose(result, {0, 3, 1, 2}));
  return success();
}

//===----------------------------------------------------------------------===//
// MaxRoiPool
//===----------------------------------------------------------------------===//

/// Regions [R, 5] are (image, x1, y1, x2, y2), rounded to elements and both ends included; cells of a region that is
/// cut into a grid overlap where its size is no multiple. A cell without elements is 0.
LogicalResult lowerMaxRoiPool(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  std::optional<SmallVector<int64_t, 8>> pooled = node.attributeInts("pooled_shape");
  constexpr int64_t mostCells = 64; // an op each
  if (node.inputs() != 2 || node.rank(0) != 4 || node.rank(1) != 2 || node.shape(1)[1] != 5 ||
      !isa<FloatType>(node.element(0)) || node.element(1) != node.element(0) || !pooled || pooled->size() != 2 ||
      llvm::any_of(*pooled, [](int64_t cells) { return cells < 1 || cells > mostCells; }))
    return node.error("cannot pool regions " + describe(node.shape(1)) + " of " + describe(node.shape(0)) + " to " +
                      (pooled ? describe(*pooled) : std::string("no pooled_shape")) + ": up to " + Twine(mostCells) +
                      " cells an axis are supported");
  Value images = node.operand(0), regions = images ? node.operand(1) : Value();
  if (!regions)
    return failure();
  Emit emit(node);
  const Type element = node.element(0);
  const int64_t count = node.shape(1)[0];
  Value number;
  {
    FullPrecision keep(emit);
    number = emit.normalize(emit.pick(regions, 1, 0), node.shape(0)[0]);
  }
  Value whole = emit.gather(images, number); // [R, C, H, W]
  // The columns of each cell first, then the rows: of each axis [R, cells] bounds.
  Value result = whole, empty;
  for (int64_t axis : {3, 2}) {
    const int64_t cells = (*pooled)[axis - 2], size = node.shape(0)[axis];
    std::optional<FullPrecision> keep(std::in_place, emit);
    auto edge = [&](int64_t column) {
      Value x = emit.mul(emit.pick(regions, 1, column), node.attribute("spatial_scale", 1.0));
      return floorOf(emit, emit.add(emit.reshape(x, {count, 1}), 0.5));
    };
    Value start = edge(axis == 3 ? 1 : 2), end = edge(axis == 3 ? 3 : 4);
    Value step = emit.div(emit.max(emit.add(emit.sub(end, start), 1.0), 1.0), static_cast<double>(cells));
    Value cell = emit.cast(emit.iota(2, 1, cells), element);
    auto bound = [&](Value x) { return clip(emit, emit.add(x, start), 0, size); };
    Value low = bound(floorOf(emit, emit.mul(cell, step))),
          high = bound(emit.unary<train::CeilOp>(emit.mul(emit.add(cell, 1.0), step)));
    Value place = emit.cast(emit.iota(4, axis, size), element);
    SmallVector<Value> insides, parts;
    for (int64_t i = 0; i < cells; ++i) {
      auto of = [&](Value bounds) { return emit.reshape(emit.pick(bounds, 1, i), {count, 1, 1, 1}); };
      insides.push_back(emit.logicalAnd(emit.compare(ComparePredicate::ge, place, of(low)),
                                        emit.compare(ComparePredicate::lt, place, of(high))));
    }
    Shape grid = {count, 1, 1, 1};
    grid[axis] = cells;
    Value none = emit.reshape(emit.compare(ComparePredicate::ge, low, high), grid);
    keep.reset();
    for (Value inside : insides)
      parts.push_back(emit.largest(emit.select(inside, result, emit.number(element, -INFINITY)), {axis}));
    result = emit.concat(parts, axis);
    empty = empty ? emit.logicalOr(empty, none) : none;
  }
  node.result(0, emit.select(empty, emit.number(element, 0), result));
  return success();
}

} // namespace zopt::importer
