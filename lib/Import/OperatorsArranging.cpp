//===- OperatorsArranging.cpp - ONNX operators that rearrange and pad -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

//===----------------------------------------------------------------------===//
// Padding
//===----------------------------------------------------------------------===//

namespace {
struct Padding {
  int64_t low = 0, high = 0;
};
} // namespace

static FailureOr<SmallVector<Padding>> paddingOf(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  FailureOr<SmallVector<int64_t, 8>> pads = node.integers(1, "the pads"), axes = llvm::to_vector<8>(llvm::seq<int64_t>(0, rank));
  if (failed(pads))
    return failure();
  if (node.has(3)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(3, "the axes");
    if (failed(named) || failed(node.axes(*named, rank)))
      return failure();
    axes->clear();
    for (int64_t axis : *named)
      axes->push_back(axis < 0 ? axis + rank : axis);
  }
  const size_t count = axes->size();
  if (pads->size() != 2 * count)
    return node.error("has " + Twine(pads->size()) + " pads for " + Twine(count) + " axes");
  SmallVector<Padding> padding(rank);
  for (size_t i = 0; i < count; ++i) {
    padding[(*axes)[i]] = {(*pads)[i], (*pads)[count + i]};
    const int64_t size = node.shape(0)[(*axes)[i]];
    for (int64_t pad : {(*pads)[i], (*pads)[count + i]})
      if (pad > mostElementsOfResult || pad < -size)
        return node.error("pads axis " + Twine((*axes)[i]) + ", which has " + Twine(size) + " elements, by " + Twine(pad));
  }
  return padding;
}

/// Which element of n a place in the padded axis repeats.
static int64_t paddedFrom(StringRef mode, int64_t place, int64_t n) {
  if (mode == "edge")
    return std::min(std::max<int64_t>(place, 0), n - 1);
  const int64_t period = mode == "wrap" ? n : std::max<int64_t>(1, 2 * (n - 1));
  int64_t at = place % period;
  if (at < 0)
    at += period;
  return at < n ? at : period - at;
}

LogicalResult lowerPad(NodeImporter &node) {
  FailureOr<SmallVector<Padding>> padding = paddingOf(node);
  if (failed(padding))
    return failure();
  StringRef mode = node.attribute("mode", StringRef("constant"));
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap")
    return node.error("mode is '" + mode + "', but it must be constant, reflect, edge or wrap");
  Shape shape(node.shape(0));
  for (int64_t axis = 0; axis < node.rank(0); ++axis)
    shape[axis] += (*padding)[axis].low + (*padding)[axis].high;
  Emit emit(node);
  if (failed(emit.checkSize(shape)))
    return failure();
  Value value = node.operand(0), fill;
  if (!value)
    return failure();
  if (mode != "constant") {
    for (int64_t axis = 0; axis < node.rank(0); ++axis) {
      const auto [low, high] = (*padding)[axis];
      if (low == 0 && high == 0)
        continue;
      constexpr int64_t mostPlaces = int64_t(1) << 22;
      if (shape[axis] > mostPlaces)
        return node.error("makes an axis of " + Twine(shape[axis]) + " elements; at most " + Twine(mostPlaces) + " are supported where they repeat others");
      SmallVector<int64_t> places;
      for (int64_t i = 0; i < shape[axis]; ++i)
        places.push_back(paddedFrom(mode, i - low, node.shape(0)[axis]));
      if (!(value = emit.take({value}, axis, places)))
        return failure();
    }
    node.result(0, value);
    return success();
  }

  std::optional<Scalar> known = Scalar();
  if (node.has(2)) {
    if (countElements(node.shape(2)) != 1 || node.element(2) != node.element(0))
      return node.error("pads with a value " + describe(node.shape(2)) + " that is not one element of the data's type");
    known = node.constant(2) ? node.constant(2)->asSplat() : std::nullopt;
    if (!known || known->integer != 0 || known->real != 0 || std::isnan(known->real)) {
      known.reset();
      if (!(fill = node.operand(2)))
        return failure();
      fill = emit.reshape(fill, {});
    }
  }
  // Negative pads cut.
  Shape starts(node.rank(0), 0);
  for (int64_t axis = 0; axis < node.rank(0); ++axis) {
    const auto [low, high] = (*padding)[axis];
    const int64_t cutLow = std::max<int64_t>(0, -low), cutHigh = std::max<int64_t>(0, -high), size = node.shape(0)[axis] - cutLow - cutHigh;
    if (size < 1)
      return node.error("cuts " + Twine(cutLow) + " and " + Twine(cutHigh) + " elements of axis " + Twine(axis) + ", which has " + Twine(node.shape(0)[axis]));
    value = emit.slice(value, axis, cutLow, size);
    starts[axis] = std::max<int64_t>(0, low);
  }
  if (Emit::shapeOf(value) == ArrayRef(shape)) {
    node.result(0, value);
    return success();
  }
  if (known) { // zeros around
    node.result(0, train::SliceGradOp::create(node.builder, node.loc, node.type(shape, node.element(0)), value, starts, SmallVector<int64_t>(node.rank(0), 1)));
    return success();
  }
  for (int64_t axis = 0; axis < node.rank(0); ++axis) {
    SmallVector<Value> parts = {value};
    for (auto [pad, front] : {std::pair((*padding)[axis].low, true), std::pair((*padding)[axis].high, false)}) {
      if (pad <= 0)
        continue;
      Shape part(Emit::shapeOf(value));
      part[axis] = pad;
      parts.insert(front ? parts.begin() : parts.end(), emit.broadcast(fill, part));
    }
    value = emit.concat(parts, axis);
  }
  node.result(0, value);
  return success();
}

LogicalResult lowerCenterCropPad(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> sizes = node.integers(1, "the shape");
  if (failed(sizes))
    return failure();
  SmallVector<int64_t, 8> axes = llvm::to_vector<8>(llvm::seq<int64_t>(0, node.rank(0)));
  if (auto named = node.attributeInts("axes")) {
    if (failed(node.axes(*named, node.rank(0))))
      return failure();
    axes = *named;
  }
  if (axes.size() != sizes->size())
    return node.error("has " + Twine(sizes->size()) + " sizes for " + Twine(axes.size()) + " axes");
  Value value = node.operand(0);
  if (!value)
    return failure();
  Emit emit(node);
  Shape padded(node.shape(0)), starts(node.rank(0), 0);
  for (auto [named, size] : llvm::zip(axes, *sizes)) {
    const int64_t axis = named < 0 ? named + node.rank(0) : named, had = node.shape(0)[axis];
    padded[axis] = size;
    if (size > had)
      starts[axis] = (size - had) / 2;
  }
  if (failed(emit.checkSize(padded)))
    return failure();
  for (int64_t axis = 0; axis < node.rank(0); ++axis)
    if (padded[axis] < node.shape(0)[axis])
      value = emit.slice(value, axis, (node.shape(0)[axis] - padded[axis]) / 2, padded[axis]);
  if (Emit::shapeOf(value) != ArrayRef(padded))
    value = train::SliceGradOp::create(node.builder, node.loc, node.type(padded, node.element(0)), value, starts, SmallVector<int64_t>(node.rank(0), 1));
  node.result(0, value);
  return success();
}

//===----------------------------------------------------------------------===//
// Repeating and rearranging
//===----------------------------------------------------------------------===//

LogicalResult lowerTile(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> repeats = node.integers(1, "the repeats");
  if (failed(repeats))
    return failure();
  if (static_cast<int64_t>(repeats->size()) != node.rank(0))
    return node.error("has " + Twine(repeats->size()) + " repeats for " + Twine(node.rank(0)) + " axes");
  // Each axis behind one that is repeated: [r, n] is one axis of r * n.
  Shape split, spread, shape;
  for (auto [size, times] : llvm::zip(node.shape(0), *repeats)) {
    if (times < 0 || times > mostElementsOfResult)
      return node.error("repeats an axis " + Twine(times) + " times");
    if (times != 1) {
      split.push_back(1);
      spread.push_back(times);
    }
    split.push_back(size);
    spread.push_back(size);
    if (__builtin_mul_overflow(size, times, &shape.emplace_back()))
      return node.error("repeats an axis of " + Twine(size) + " elements " + Twine(times) + " times");
  }
  Emit emit(node);
  if (failed(emit.checkSize(shape)))
    return failure();
  if (ArrayRef(shape) == node.shape(0)) {
    node.forward(0, 0);
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, emit.reshape(emit.broadcast(emit.reshape(input, split), spread), shape));
  return success();
}

LogicalResult lowerDepthToSpace(NodeImporter &node) {
  const int64_t block = node.attribute("blocksize", int64_t(0));
  const bool toSpace = node.proto.op_type() == "DepthToSpace";
  StringRef mode = node.attribute("mode", StringRef("DCR"));
  ArrayRef<int64_t> s = node.shape(0);
  const bool fits = s.size() == 4 && block >= 1 && block <= (1 << 20) && (toSpace ? s[1] % (block * block) == 0 : s[2] % block == 0 && s[3] % block == 0);
  if (!fits || (mode != "DCR" && mode != "CRD"))
    return node.error("a blocksize of " + Twine(block) + " and mode '" + mode + "' do not fit an input " + describe(s));
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  if (!toSpace) { // the other way round, depth-column-row
    Value split = emit.transpose(emit.reshape(input, {s[0], s[1], s[2] / block, block, s[3] / block, block}), {0, 3, 5, 1, 2, 4});
    node.result(0, emit.reshape(split, {s[0], s[1] * block * block, s[2] / block, s[3] / block}));
    return success();
  }
  const int64_t depth = s[1] / (block * block);
  Value split = mode == "DCR" ? emit.transpose(emit.reshape(input, {s[0], block, block, depth, s[2], s[3]}), {0, 3, 4, 1, 5, 2})
                              : emit.transpose(emit.reshape(input, {s[0], depth, block, block, s[2], s[3]}), {0, 1, 4, 2, 5, 3});
  node.result(0, emit.reshape(split, {s[0], depth, s[2] * block, s[3] * block}));
  return success();
}

LogicalResult lowerCol2Im(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> image = node.integers(1, "the image's shape"), block = node.integers(2, "the block's shape");
  if (failed(image) || failed(block))
    return failure();
  const size_t axes = image->size();
  auto attribute = [&](const char *name, size_t count, int64_t otherwise) { return node.attributeInts(name).value_or(SmallVector<int64_t, 8>(count, otherwise)); };
  SmallVector<int64_t, 8> dilations = attribute("dilations", axes, 1), strides = attribute("strides", axes, 1), pads = attribute("pads", 2 * axes, 0);
  if (block->size() != axes || dilations.size() != axes || strides.size() != axes || pads.size() != 2 * axes || axes == 0 || node.rank(0) != 3)
    return node.error("an input " + describe(node.shape(0)) + ", an image " + describe(*image) + ", a block " + describe(*block) + " and their strides, dilations and pads do not agree");
  // Each place of the block adds its columns to a strided part of the padded image.
  Shape padded, columns;
  int64_t places = 1;
  for (size_t i = 0; i < axes; ++i) {
    constexpr int64_t most = int64_t(1) << 31;
    if ((*image)[i] < 1 || (*block)[i] < 1 || strides[i] < 1 || dilations[i] < 1 || pads[i] < 0 || pads[axes + i] < 0 ||
        std::max({(*image)[i], (*block)[i], strides[i], dilations[i], pads[i], pads[axes + i]}) > most)
      return node.error("has an image, block, stride, dilation or pad that is out of range on axis " + Twine(i));
    padded.push_back((*image)[i] + pads[i] + pads[axes + i]);
    columns.push_back((padded[i] - dilations[i] * ((*block)[i] - 1) - 1) / strides[i] + 1);
    places *= (*block)[i];
    constexpr int64_t mostPlaces = 1024;
    if (places > mostPlaces)
      return node.error("has a block " + describe(*block) + "; at most " + Twine(mostPlaces) + " elements are supported");
    if (padded[i] - dilations[i] * ((*block)[i] - 1) - 1 < 0)
      return node.error("a block " + describe(*block) + " does not fit an image " + describe(*image));
  }
  const int64_t batch = node.shape(0)[0];
  if (node.shape(0)[1] % places != 0 || countElements(columns) != node.shape(0)[2])
    return node.error("an input " + describe(node.shape(0)) + " does not hold the " + Twine(places) + " x " + Twine(countElements(columns)) + " columns of an image " + describe(*image));
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  const int64_t channels = node.shape(0)[1] / places;
  Shape whole = {batch, channels}, part = {batch, channels};
  whole.append(padded);
  part.append(columns);
  if (failed(emit.checkSize(whole)))
    return failure();
  input = emit.reshape(input, {batch, channels, places, node.shape(0)[2]});
  Value sum;
  for (int64_t place = 0; place < places; ++place) {
    Shape starts(axes + 2, 0), steps(axes + 2, 1);
    for (int64_t i = static_cast<int64_t>(axes) - 1, rest = place; i >= 0; rest /= (*block)[i], --i) {
      starts[2 + i] = rest % (*block)[i] * dilations[i];
      steps[2 + i] = strides[i];
    }
    Value column = emit.reshape(emit.slice(input, 2, place, 1), part);
    Value placed = train::SliceGradOp::create(node.builder, node.loc, node.type(whole, node.element(0)), column, starts, steps);
    sum = sum ? emit.add(sum, placed) : placed;
  }
  for (size_t i = 0; i < axes; ++i)
    sum = emit.slice(sum, 2 + i, pads[i], (*image)[i]);
  node.result(0, sum);
  return success();
}

//===----------------------------------------------------------------------===//
// Values by place
//===----------------------------------------------------------------------===//

LogicalResult lowerEyeLike(NodeImporter &node) {
  if (node.rank(0) != 2)
    return node.error("needs a matrix, but got an input " + describe(node.shape(0)));
  Type element = node.element(0);
  if (node.find("dtype")) {
    element = convertElementType(node.attribute("dtype", int64_t(0)), node.builder.getContext());
    if (!element)
      return node.error("has the element type " + Twine(node.attribute("dtype", int64_t(0))) + ", which is not supported");
  }
  const int64_t k = std::min(std::max<int64_t>(node.attribute("k", int64_t(0)), -(int64_t(1) << 40)), int64_t(1) << 40);
  Emit emit(node);
  Value on = emit.compare(train::ComparePredicate::eq, emit.iota(2, 1, node.shape(0)[1]), emit.iota(2, 0, node.shape(0)[0], k));
  node.result(0, emit.cast(on, element));
  return success();
}

LogicalResult lowerTrilu(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  if (rank < 2)
    return node.error("needs a matrix, but got an input " + describe(node.shape(0)));
  const bool upper = node.attribute("upper", int64_t(1)) != 0;
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  Value kept;
  if (node.has(1) && !node.constant(1)) {
    Value k = node.operand(1);
    if (!k)
      return failure();
    if (!isa<IntegerType>(node.element(1)) || countElements(node.shape(1)) != 1)
      return node.error("k must be one integer");
    Value limit = emit.add(emit.iota(2, 0, node.shape(0)[rank - 2]), emit.reshape(emit.cast(k, emit.i64), {}));
    kept = emit.compare(upper ? train::ComparePredicate::ge : train::ComparePredicate::le, emit.iota(2, 1, node.shape(0)[rank - 1]), limit);
  } else {
    int64_t k = 0;
    if (node.has(1)) {
      FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "k");
      if (failed(named))
        return failure();
      if (named->size() != 1)
        return node.error("k must be one integer");
      k = std::min(std::max<int64_t>(named->front(), -(int64_t(1) << 40)), int64_t(1) << 40);
    }
    Tensor mask;
    mask.element = node.builder.getI1Type();
    mask.shape.assign(node.shape(0).take_back(2).begin(), node.shape(0).take_back(2).end());
    mask.constant = Constant::triangle(Element::Bool, mask.shape, upper ? k - 1 : k, {!upper, 0}, {upper, 0});
    kept = node.graph.materialize(mask, /*full=*/false);
  }
  node.result(0, train::SelectOp::create(node.builder, node.loc, input.getType(), kept, input, emit.number(node.element(0), 0)));
  return success();
}

LogicalResult lowerWindow(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> size = node.integers(0, "the size");
  if (failed(size))
    return failure();
  Type element = convertElementType(node.attribute("output_datatype", int64_t(1)), node.builder.getContext());
  if (size->size() != 1 || size->front() < 1 || size->front() > (int64_t(1) << 24) || !element || element.isInteger(1))
    return node.error("has the size " + describe(*size) + " and the element type " + Twine(node.attribute("output_datatype", int64_t(1))) + ", expected one number between 1 and 2^24, and numbers");
  const int64_t n = size->front();
  const bool periodic = node.attribute("periodic", int64_t(1)) != 0;
  StringRef op = node.proto.op_type();
  const double a0 = op == "HannWindow" ? 0.5 : op == "HammingWindow" ? 25.0 / 46.0 : 0.42, a2 = op == "BlackmanWindow" ? 0.08 : 0, a1 = op == "BlackmanWindow" ? 0.5 : 1 - a0;
  const double period = std::max<int64_t>(1, periodic ? n : n - 1);
  Emit emit(node);
  Type f32 = node.builder.getF32Type();
  Value angle = emit.mul(emit.cast(emit.iota(1, 0, n), f32), 2 * M_PI / period);
  Value window = emit.sub(emit.number(f32, a0), emit.mul(emit.unary<train::CosOp>(angle), a1));
  if (a2 != 0)
    window = emit.add(window, emit.mul(emit.unary<train::CosOp>(emit.mul(angle, 2.0)), a2));
  node.result(0, emit.cast(window, element));
  return success();
}

} // namespace zopt::importer
