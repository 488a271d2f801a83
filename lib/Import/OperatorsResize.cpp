//===- OperatorsResize.cpp - Resize ----------------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Resizing goes axis by axis. Along one, every element of the result is a sum of a few elements times weights; both are
// known here, in f64, so the result is a sum of gathers (slices, where their places run evenly) times tables, and its
// gradient is theirs.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

namespace {

struct ResizeAttributes {
  StringRef mode, coordinates, nearest;
  double cubicA;
  bool antialias, excludeOutside;
  double extrapolation;
};

/// One axis: sizes, the scale, and the region of interest of tf_crop_and_resize.
struct ResizedAxis {
  int64_t axis, from, to;
  double scale, roiStart = 0, roiEnd = 1;
};

/// taps[k][j], weights[k][j]: element j of the result is the sum over k of input[taps[k][j]] * weights[k][j], plus
/// added[j].
struct Taps {
  SmallVector<SmallVector<int64_t>> places;
  SmallVector<SmallVector<double>> weights;
  SmallVector<double> added;
};

} // namespace

/// The place in the input that element j of the result is taken from.
static double sourceOf(const ResizeAttributes &a, const ResizedAxis &r, int64_t j) {
  const double from = r.from, width = r.scale * from;
  if (a.coordinates == "align_corners")
    return width == 1 ? 0 : j * (from - 1) / (width - 1);
  if (a.coordinates == "asymmetric")
    return j / r.scale;
  if (a.coordinates == "tf_crop_and_resize")
    return (width == 1 ? (r.roiEnd - r.roiStart) * (from - 1) / 2
                       : j * (r.roiEnd - r.roiStart) * (from - 1) / (width - 1)) +
           r.roiStart * (from - 1);
  if (a.coordinates == "pytorch_half_pixel" && width == 1)
    return -0.5;
  if (a.coordinates == "tf_half_pixel_for_nn") // of opset 11 alone
    return (j + 0.5) / r.scale;
  const double center = (j + 0.5) / r.scale - 0.5;
  return a.coordinates == "half_pixel_symmetric" ? from / 2 * (1 - r.to / width) + center : center;
}

/// Weights of the neighbours around a place that is `ratio` in (0, 1] behind the one on its left.
static SmallVector<double> weightsAt(const ResizeAttributes &a, double ratio, double scale) {
  const double A = a.cubicA, s = std::min(scale, 1.0);
  if (a.mode == "nearest") {
    const bool left = ratio != 1 && (a.nearest == "floor" || (a.nearest == "round_prefer_floor" && ratio <= 0.5) ||
                                     (a.nearest == "round_prefer_ceil" && ratio < 0.5));
    return {left ? 1.0 : 0.0, left ? 0.0 : 1.0};
  }
  auto cubic = [&](double x) {
    x = std::fabs(x);
    return x <= 1 ? ((A + 2) * x - (A + 3)) * x * x + 1 : x < 2 ? ((A * x - 5 * A) * x + 8 * A) * x - 4 * A : 0;
  };
  SmallVector<double> weights;
  if (a.mode == "linear" && !a.antialias)
    return {1 - ratio, ratio};
  if (a.mode == "cubic" && !a.antialias)
    return {cubic(ratio + 1), cubic(ratio), cubic(1 - ratio), cubic(2 - ratio)};
  const int64_t reach = a.mode == "linear" ? 1 : 2, start = static_cast<int64_t>(std::floor(-reach / s)) + 1,
                end = 2 - start;
  double sum = 0;
  for (int64_t i = start; i < end; ++i) {
    const double x = (i - ratio) * s;
    weights.push_back(a.mode == "linear" ? std::max(0.0, 1 - std::fabs(x)) : cubic(x));
    sum += weights.back();
  }
  for (double &weight : weights)
    weight /= sum;
  return weights;
}

static Taps tapsOf(const ResizeAttributes &a, const ResizedAxis &r) {
  Taps taps;
  for (int64_t j = 0; j < r.to; ++j) {
    const double x = sourceOf(a, r, j), left = std::floor(x);
    SmallVector<double> weights = weightsAt(a, x == left ? 1 : x - left, r.scale);
    const int64_t n = weights.size();
    // The n nearest elements, the smaller one of two that are as near.
    const int64_t first =
        static_cast<int64_t>(left) +
        (n % 2 == 0 ? (x == left ? -(n / 2) : 1 - n / 2) : (x - left <= 0.5 ? -((n - 1) / 2) : 1 - (n - 1) / 2));
    if (a.excludeOutside) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k)
        sum += weights[k] = first + k < 0 || first + k >= r.from ? 0 : weights[k];
      for (double &weight : weights)
        weight = sum == 0 ? 0 : weight / sum;
    }
    const bool outside = a.coordinates == "tf_crop_and_resize" && (x < 0 || x > r.from - 1);
    taps.places.resize(n);
    taps.weights.resize(n);
    for (int64_t k = 0; k < n; ++k) {
      taps.places[k].push_back(std::min(std::max<int64_t>(first + k, 0), r.from - 1));
      taps.weights[k].push_back(outside ? 0 : weights[k]);
    }
    taps.added.push_back(outside ? a.extrapolation : 0);
  }
  return taps;
}

/// A weight for each element along an axis; null (and an error) where there are too many.
static Value alongAxis(Emit &emit, ArrayRef<double> values, Type element, int64_t rank, int64_t axis) {
  if (llvm::all_of(values, [&](double value) { return value == values[0]; }))
    return emit.number(element, values[0]);
  Value table = emit.table(values, element);
  Shape shape(rank, 1);
  shape[axis] = values.size();
  return table ? emit.reshape(table, shape) : table;
}

static Value resizeAxis(Emit &emit, const ResizeAttributes &a, const ResizedAxis &r, Value x) {
  const int64_t rank = Emit::rankOf(x);
  const Type element = Emit::elementOf(x);
  Taps taps = tapsOf(a, r);
  const bool extrapolates = llvm::any_of(taps.added, [](double value) { return value != 0; });
  if (a.mode == "nearest") {
    SmallVector<int64_t> places;
    SmallVector<double> inside;
    for (int64_t j = 0; j < r.to; ++j) {
      places.push_back(taps.weights[0][j] != 0 ? taps.places[0][j] : taps.places[1][j]);
      inside.push_back(taps.weights[0][j] + taps.weights[1][j]);
    }
    Value result = emit.take({x}, r.axis, places);
    if (!result || !llvm::is_contained(inside, 0.0))
      return result;
    Value keeps = alongAxis(emit, inside, emit.b.getF32Type(), rank, r.axis);
    return keeps ? emit.select(emit.compare(train::ComparePredicate::ne, keeps, emit.number(emit.b.getF32Type(), 0)),
                               result, emit.number(element, a.extrapolation))
                 : keeps;
  }
  Value sum;
  for (auto [places, weights] : llvm::zip(taps.places, taps.weights)) {
    if (llvm::all_of(weights, [](double weight) { return weight == 0; }))
      continue;
    Value taken = emit.take({x}, r.axis, places),
          weight = taken ? alongAxis(emit, weights, element, rank, r.axis) : Value();
    if (!weight)
      return nullptr;
    Value term = emit.mul(taken, weight);
    sum = sum ? emit.add(sum, term) : term;
  }
  if (!sum) {
    Shape shape(Emit::shapeOf(x));
    shape[r.axis] = r.to;
    sum = emit.broadcast(emit.number(element, 0), shape);
  }
  if (!extrapolates)
    return sum;
  Value added = alongAxis(emit, taps.added, element, rank, r.axis);
  return added ? emit.add(sum, added) : added;
}

/// A known operand of floats; nothing where it is absent or empty.
static FailureOr<SmallVector<double>> floats(NodeImporter &node, int i, const char *what) {
  if (!node.has(i) || countElements(node.shape(i)) == 0)
    return SmallVector<double>();
  std::optional<std::vector<Scalar>> values =
      node.constant(i) && !node.constant(i)->isInteger() && countElements(node.shape(i)) <= 64
          ? node.constant(i)->expanded()
          : std::nullopt;
  if (!values)
    return node.error(Twine("operand ") + Twine(i) + " (" + what +
                      ") depends on the data, but it must be known when the model is imported");
  return llvm::map_to_vector<6>(*values, [](Scalar s) { return s.real; });
}

LogicalResult lowerResize(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  const bool old = node.proto.op_type() == "Upsample";
  ResizeAttributes a{
      node.attribute("mode", StringRef("nearest")),
      node.attribute("coordinate_transformation_mode", old ? StringRef("asymmetric") : StringRef("half_pixel")),
      node.attribute("nearest_mode", old ? StringRef("floor") : StringRef("round_prefer_floor")),
      node.attribute("cubic_coeff_a", -0.75),
      node.attribute("antialias", int64_t(0)) != 0,
      node.attribute("exclude_outside", int64_t(0)) != 0,
      node.attribute("extrapolation_value", 0.0)};
  auto oneOf = [](StringRef word, ArrayRef<StringRef> words) { return llvm::is_contained(words, word); };
  if (!oneOf(a.mode, {"nearest", "linear", "cubic"}) ||
      !oneOf(a.nearest, {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}) ||
      !oneOf(a.coordinates, {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                             "tf_half_pixel_for_nn", "tf_crop_and_resize"}))
    return node.error("has mode '" + a.mode + "', nearest_mode '" + a.nearest +
                      "' and coordinate_transformation_mode '" + a.coordinates + "', of which one is not supported");
  const Type inside = a.mode == "nearest" ? node.element(0) : realType(node.element(0));

  SmallVector<int64_t, 8> axes = llvm::to_vector<8>(llvm::seq<int64_t>(0, rank));
  if (auto named = node.attributeInts("axes")) {
    if (failed(node.axes(*named, rank)))
      return failure();
    axes.clear();
    for (int64_t axis : *named)
      axes.push_back(axis < 0 ? axis + rank : axis);
  }
  FailureOr<SmallVector<double>> roi = old ? SmallVector<double>() : floats(node, 1, "the region of interest"),
                                 scales = floats(node, old ? 1 : 2, "the scales");
  if (failed(roi) || failed(scales))
    return failure();
  SmallVector<int64_t, 8> sizes;
  if (node.has(3) && countElements(node.shape(3)) != 0) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(3, "the sizes");
    if (failed(named))
      return failure();
    sizes = *named;
  }
  const size_t count = axes.size();
  if (sizes.empty() == scales->empty() || (sizes.empty() ? scales->size() : sizes.size()) != count)
    return node.error("has " + Twine(scales->size()) + " scales and " + Twine(sizes.size()) + " sizes for " +
                      Twine(count) + " axes; it needs either");
  if (a.coordinates == "tf_crop_and_resize" && roi->size() != 2 * count)
    return node.error("has a region of interest of " + Twine(roi->size()) + " numbers for " + Twine(count) + " axes");

  StringRef policy = node.attribute("keep_aspect_ratio_policy", StringRef("stretch"));
  if (!oneOf(policy, {"stretch", "not_larger", "not_smaller"}))
    return node.error("keep_aspect_ratio_policy is '" + policy +
                      "', but it must be stretch, not_larger or not_smaller");
  if (failed(Emit(node).checkNotEmpty({0})))
    return failure();
  SmallVector<ResizedAxis> resized;
  Shape shape(node.shape(0));
  for (size_t i = 0; i < count; ++i) {
    ResizedAxis r{axes[i], node.shape(0)[axes[i]], 0, 1};
    if (sizes.empty()) {
      r.scale = (*scales)[i];
      if (!(r.scale > 0) || r.scale * r.from > 1e9)
        return node.error("scales axis " + Twine(r.axis) + " by " + std::to_string(r.scale));
      r.to = static_cast<int64_t>(r.scale * r.from);
    } else {
      r.to = sizes[i];
      r.scale = static_cast<double>(r.to) / r.from;
    }
    if (roi->size() == 2 * count) {
      r.roiStart = (*roi)[i];
      r.roiEnd = (*roi)[count + i];
    }
    resized.push_back(r);
  }
  if (!sizes.empty() && policy != "stretch") {
    double scale = resized[0].scale;
    for (const ResizedAxis &r : resized)
      scale = policy == "not_larger" ? std::min(scale, r.scale) : std::max(scale, r.scale);
    for (ResizedAxis &r : resized) {
      r.scale = scale;
      r.to = static_cast<int64_t>(scale * r.from + 0.5);
    }
  }
  for (const ResizedAxis &r : resized) {
    shape[r.axis] = r.to;
    constexpr int64_t mostTaps = 64;
    if (a.antialias && r.scale < 1 && 4 / r.scale > mostTaps)
      return node.error("shrinks axis " + Twine(r.axis) + " from " + Twine(r.from) + " to " + Twine(r.to) +
                        " elements with antialiasing; at most a factor of 16 is supported");
    if (r.to > (int64_t(1) << 20))
      return node.error("makes an axis of " + Twine(r.to) + " elements; at most 2^20 are supported");
  }
  Emit emit(node);
  if (failed(emit.checkSize(shape)))
    return failure();
  Value value = node.operand(0);
  if (value)
    value = emit.cast(value, inside);
  for (const ResizedAxis &r : resized) {
    if (!value)
      return failure();
    const bool same = r.to == r.from && std::fabs(r.scale - 1) <= 1e-9 &&
                      (a.coordinates != "tf_crop_and_resize" || (r.roiStart == 0 && r.roiEnd == 1));
    if (!same)
      value = resizeAxis(emit, a, r, value);
  }
  if (!value)
    return failure();
  node.result(0, roundTo(emit, value, node.element(0)));
  return success();
}

} // namespace zopt::importer
