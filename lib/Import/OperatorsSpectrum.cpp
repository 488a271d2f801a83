//===- OperatorsSpectrum.cpp - bands of a spectrum -------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// MelWeightMatrix: known when the model is imported, a literal where it is small and else computed from the edges of
// its bands where it is used.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

namespace {

/// Triangles over the places of a one-sided spectrum: band i rises from edges[i], is 1 at edges[i + 1] and falls to
/// edges[i + 2].
struct MelBands {
  int64_t places, bands;
  SmallVector<int64_t> edges;
  Type element;
};

} // namespace

static FailureOr<MelBands> readBands(NodeImporter &node) {
  double numbers[5];
  for (int i = 0; i < 5; ++i) {
    std::optional<Scalar> scalar = node.inputs() == 5 && node.constant(i) ? node.constant(i)->asSplat() : std::nullopt;
    if (!scalar)
      return node.error("needs five numbers that are known when the model is imported");
    numbers[i] = node.constant(i)->isInteger() ? static_cast<double>(scalar->integer) : scalar->real;
  }
  auto [bands, length, rate, low, high] = numbers;
  constexpr double mostBands = 4096, longest = 1 << 20;
  const int32_t type = static_cast<int32_t>(node.attribute("output_datatype", int64_t(onnx::TensorProto::FLOAT)));
  Type element = convertElementType(type, node.builder.getContext());
  // NaN fails too.
  const bool fits = bands >= 1 && bands <= mostBands && length >= 1 && length <= longest && rate >= 1 && low >= 0 &&
                    high >= low && std::isfinite(high) && element && !element.isInteger(1);
  if (!fits)
    return node.error("cannot make " + std::to_string(bands) + " bands over a transform of " + std::to_string(length) +
                      " elements, as " + elementTypeName(type) + ": up to " + Twine(static_cast<int64_t>(mostBands)) +
                      " bands between two frequencies are supported");
  MelBands mel{static_cast<int64_t>(length) / 2 + 1, static_cast<int64_t>(bands), {}, element};
  auto toMel = [](double hertz) { return 2595 * std::log1p(hertz / 700) / std::log(10.0); };
  const double begin = toMel(low), step = (toMel(high) - begin) / (bands + 2);
  for (int64_t i = 0; i < mel.bands + 2; ++i) {
    const double hertz = 700 * std::expm1((static_cast<double>(i) * step + begin) / 2595 * std::log(10.0));
    mel.edges.push_back(static_cast<int64_t>(std::min(std::floor((length + 1) * hertz / rate), 0x1p40)));
  }
  return mel;
}

static double weightOf(const MelBands &mel, int64_t place, int64_t band) {
  const int64_t left = mel.edges[band], peak = mel.edges[band + 1], right = mel.edges[band + 2];
  if (place == peak)
    return 1;
  if (place > peak && place < right)
    return static_cast<double>(right - place) / static_cast<double>(right - peak);
  if (place >= left && place < peak)
    return static_cast<double>(place - left) / static_cast<double>(peak - left);
  return 0;
}

bool foldMelWeightMatrix(NodeImporter &node) {
  FailureOr<MelBands> mel = readBands(node);
  if (failed(mel))
    return true; // said
  const Element element = convertElement(mel->element);
  if (mel->places * mel->bands > Constant::mostElements(element))
    return false;
  std::vector<Scalar> values;
  for (int64_t place = 0; place < mel->places; ++place)
    for (int64_t band = 0; band < mel->bands; ++band) {
      const double weight = weightOf(*mel, place, band);
      values.push_back(isa<FloatType>(mel->element)
                           ? Scalar{0, mel->element.isF32() ? static_cast<float>(weight) : weight}
                           : Scalar{static_cast<int64_t>(weight), 0});
    }
  const Shape shape = {mel->places, mel->bands};
  node.result(0, Constant(element, shape, shape, std::move(values)), mel->element);
  return true;
}

LogicalResult lowerMelWeightMatrix(NodeImporter &node) {
  FailureOr<MelBands> mel = readBands(node);
  if (failed(mel))
    return failure();
  Emit emit(node);
  Value edges[3], distances[2];
  for (int64_t i = 0; i < 3; ++i)
    if (!(edges[i] = emit.table(ArrayRef(mel->edges).slice(i, mel->bands))))
      return failure();
  const Type real = isa<FloatType>(mel->element) ? mel->element : Type(node.builder.getF32Type());
  Value place = emit.iota(2, 0, mel->places);
  auto [left, peak, right] = edges;
  // No division by zero where two edges are one place: the other branch is taken there.
  for (int64_t i = 0; i < 2; ++i)
    distances[i] = emit.cast(emit.max(emit.sub(edges[i + 1], edges[i]), emit.number(1)), real);
  auto share = [&](Value from, Value to, Value distance) {
    return emit.div(emit.cast(emit.sub(from, to), real), distance);
  };
  Value zero = emit.number(real, 0), one = emit.number(real, 1);
  Value rise = emit.select(emit.compare(ComparePredicate::ge, place, left), share(place, left, distances[0]), zero);
  Value fall = emit.select(emit.compare(ComparePredicate::lt, place, right), share(right, place, distances[1]), zero);
  Value beside = emit.select(emit.compare(ComparePredicate::lt, place, peak), rise, fall);
  node.result(0, emit.cast(emit.select(emit.compare(ComparePredicate::eq, place, peak), one, beside), mel->element));
  return success();
}

} // namespace zopt::importer
