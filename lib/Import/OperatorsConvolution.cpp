//===- OperatorsConvolution.cpp - convolution, pooling, norms over space --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Operators.h"
#include "Sampling.h"

#include <array>

using namespace mlir;

namespace zopt::importer {

namespace {

using Sizes = SmallVector<int64_t, 8>;

/// What convolution and pooling say about their windows, one entry an axis of space; pads: all begins, then all ends.
struct Window {
  Sizes size, strides, dilations, pads;
  std::string automatic; ///< NOTSET, SAME_UPPER, SAME_LOWER or VALID
  int64_t axes() const { return size.size(); }
  int64_t span(int64_t axis) const { return (size[axis] - 1) * dilations[axis] + 1; }
  int64_t begin(int64_t axis) const { return pads[axis]; }
  int64_t end(int64_t axis) const { return pads[axes() + axis]; }
};

constexpr int64_t kLargestAttribute = int64_t(1) << 31;

/// An attribute with `count` entries in [least, 2^31).
LogicalResult readSizes(NodeImporter &node, StringRef name, size_t count, int64_t least, int64_t otherwise, Sizes &values) {
  values = node.attributeInts(name).value_or(Sizes(count, otherwise));
  if (values.size() != count)
    return node.error("attribute '" + name + "' has " + Twine(values.size()) + " entries, expected " + Twine(count));
  for (int64_t value : values)
    if (value < least || value >= kLargestAttribute)
      return node.error("attribute '" + name + "' has the entry " + Twine(value) + (value < least ? ", but needs at least " + Twine(least) : Twine(", which is too large")));
  return success();
}

/// The first operand must be floats (or bytes, where they are said to do) [batch, channels, space...] with 1 to 3 axes
/// of space.
LogicalResult checkImage(NodeImporter &node, bool bytes = false) {
  for (int i = 0; i < node.inputs(); ++i)
    if (node.has(i) && !isa<FloatType>(node.element(i)) && !(bytes && node.element(i).getIntOrFloatBitWidth() == 8))
      return node.error("operand " + Twine(i) + " must be floats");
  if (node.inputs() == 0 || node.rank(0) < 3 || node.rank(0) > 5)
    return node.error("needs an input with 1 to 3 axes of space behind batch and channels, but it is " + (node.inputs() == 0 ? std::string("missing") : describe(node.shape(0))));
  if (llvm::is_contained(node.shape(0), 0))
    return node.error("has an empty input " + describe(node.shape(0)));
  return success();
}

/// Reads the window of `size`; pads of auto_pad are filled in for an input of `space`.
FailureOr<Window> readWindow(NodeImporter &node, ArrayRef<int64_t> size, ArrayRef<int64_t> space) {
  Window window;
  const size_t axes = space.size();
  window.size.assign(size.begin(), size.end());
  if (size.size() != axes || llvm::any_of(size, [](int64_t value) { return value < 1 || value >= kLargestAttribute; }))
    return node.error("has a window " + describe(size) + " for space " + describe(space));
  if (failed(readSizes(node, "strides", axes, 1, 1, window.strides)) || failed(readSizes(node, "dilations", axes, 1, 1, window.dilations)) || failed(readSizes(node, "pads", 2 * axes, 0, 0, window.pads)))
    return failure();
  window.automatic = node.attribute("auto_pad", StringRef("NOTSET")).str();
  if (window.automatic != "NOTSET" && window.automatic != "VALID" && window.automatic != "SAME_UPPER" && window.automatic != "SAME_LOWER")
    return node.error("auto_pad '" + window.automatic + "' is none of NOTSET, SAME_UPPER, SAME_LOWER and VALID");
  if (window.automatic == "NOTSET")
    return window;
  window.pads.assign(2 * axes, 0);
  if (window.automatic != "VALID")
    for (size_t axis = 0; axis < axes; ++axis) {
      const int64_t places = (space[axis] + window.strides[axis] - 1) / window.strides[axis];
      const int64_t total = std::max<int64_t>(0, (places - 1) * window.strides[axis] + window.span(axis) - space[axis]);
      const int64_t less = total / 2, more = total - less;
      window.pads[axis] = window.automatic == "SAME_UPPER" ? less : more;
      window.pads[axes + axis] = total - window.pads[axis];
    }
  return window;
}

/// Whether there is a bias that adds anything. PyTorch 2.14's exporter gives a convolution that has none zeros, and a
/// Conv3d those of the shape [channels, 2], which no runtime takes.
bool hasBias(NodeImporter &node, int bias) {
  if (!node.has(bias))
    return false;
  const Constant *known = node.constant(bias);
  std::optional<Scalar> splat = known ? known->asSplat() : std::nullopt;
  return !splat || splat->real != 0;
}

/// The weight [output channels, input channels of a group, window...] and the groups; operands are checked against each
/// other. For a transposed convolution the weight's first axis goes with the input. `bias`: which operand it is.
FailureOr<int64_t> checkWeight(NodeImporter &node, bool transposed, int bias) {
  if (node.inputs() < 2 || node.rank(1) != node.rank(0))
    return node.error("needs a weight with as many axes as the input " + describe(node.shape(0)));
  if (node.element(1) != node.element(0) || (node.has(bias) && node.element(bias) != node.element(0)))
    return node.error("operands have different element types");
  const int64_t groups = node.attribute("group", int64_t(1)), channels = node.shape(0)[1];
  ArrayRef<int64_t> weight = node.shape(1);
  const bool fits = groups >= 1 && groups <= channels && channels % groups == 0 && weight[0] >= 1 && weight[0] % groups == 0 && weight[1] >= 1 && (transposed ? weight[0] == channels : weight[1] == channels / groups);
  if (!fits)
    return node.error("an input " + describe(node.shape(0)) + " and a weight " + describe(weight) + " do not fit in " + Twine(groups) + " groups");
  if (std::optional<SmallVector<int64_t, 8>> kernel = node.attributeInts("kernel_shape"); kernel && ArrayRef<int64_t>(*kernel) != weight.drop_front(2))
    return node.error("kernel_shape is " + describe(*kernel) + ", but the weight is " + describe(weight));
  const int64_t outputs = transposed ? weight[1] * groups : weight[0];
  if (hasBias(node, bias) && node.shape(bias) != ArrayRef<int64_t>{outputs})
    return node.error("a bias " + describe(node.shape(bias)) + " does not fit " + Twine(outputs) + " output channels");
  return groups;
}

/// [channels, 1...], to broadcast over space.
Value overSpace(NodeImporter &node, Value vector, int64_t rank) {
  Shape shape(rank - 1, 1);
  shape[0] = cast<RankedTensorType>(vector.getType()).getDimSize(0);
  return node.reshape(vector, shape);
}

/// What Conv and ConvTranspose have alike.
struct Convolved {
  int64_t groups;
  Window window;
};

FailureOr<Convolved> readConvolved(NodeImporter &node, bool transposed, int bias = 2) {
  if (failed(checkImage(node)))
    return failure();
  FailureOr<int64_t> groups = checkWeight(node, transposed, bias);
  if (failed(groups))
    return failure();
  FailureOr<Window> window = readWindow(node, node.shape(1).drop_front(2), node.shape(0).drop_front(2));
  if (failed(window))
    return failure();
  return Convolved{*groups, *window};
}

/// The shape of what a convolution gives.
FailureOr<Shape> convolvedShape(NodeImporter &node, const Window &window) {
  ArrayRef<int64_t> space = node.shape(0).drop_front(2);
  Shape shape = {node.shape(0)[0], node.shape(1)[0]};
  for (int64_t axis = 0; axis < window.axes(); ++axis) {
    const int64_t room = space[axis] + window.begin(axis) + window.end(axis) - window.span(axis);
    if (room < 0)
      return node.error("a window " + describe(window.size) + " does not fit an input " + describe(node.shape(0)) +
                        " with pads " + describe(window.pads));
    shape.push_back(room / window.strides[axis] + 1);
  }
  return shape;
}

/// Their operands: input, weight, and the bias or null.
FailureOr<std::array<Value, 3>> readOperands(NodeImporter &node) {
  Value input = node.operand(0), weight = input ? node.operand(1) : Value(), bias = weight && hasBias(node, 2) ? node.operand(2) : Value();
  if (!weight || (hasBias(node, 2) && !bias))
    return failure();
  return std::array<Value, 3>{input, weight, bias};
}

} // namespace

LogicalResult lowerConv(NodeImporter &node) {
  FailureOr<Convolved> convolved = readConvolved(node, /*transposed=*/false);
  if (failed(convolved))
    return failure();
  const Window *window = &convolved->window;
  FailureOr<Shape> shape = convolvedShape(node, *window);
  if (failed(shape))
    return failure();
  FailureOr<std::array<Value, 3>> operands = readOperands(node);
  if (failed(operands))
    return failure();
  auto [input, weight, bias] = *operands;
  node.result(0, train::ConvOp::create(node.builder, node.loc, node.type(*shape, node.element(0)), input, weight, bias,
                                       window->strides, window->dilations, window->pads, convolved->groups));
  return success();
}

/// A convolution whose window elements are samples at places that are moved by `offset` (and weighted by `mask`):
/// samples of all windows, as columns, times the weight. The columns are as many numbers as the window has elements
/// times the output's places times the input's channels.
LogicalResult lowerDeformConv(NodeImporter &node) {
  FailureOr<Convolved> convolved = readConvolved(node, /*transposed=*/false, /*bias=*/3);
  if (failed(convolved))
    return failure();
  FailureOr<Shape> shape = convolvedShape(node, convolved->window);
  if (failed(shape))
    return failure();
  const Window &window = convolved->window;
  ArrayRef<int64_t> space = node.shape(0).drop_front(2), out = ArrayRef(*shape).drop_front(2);
  const int64_t batch = node.shape(0)[0], channels = node.shape(0)[1], axes = window.axes(), groups = convolved->groups,
                parts = node.attribute("offset_group", int64_t(1));
  const int64_t elements = countElements(window.size), places = countElements(out), pixels = countElements(space);
  if (parts < 1 || parts > channels || channels % parts != 0)
    return node.error("has the offset_group " + Twine(parts) + ", which does not divide " + Twine(channels) +
                      " channels");
  auto fits = [&](int i, int64_t each) {
    Shape expected = {batch, parts * elements * each};
    expected.append(out.begin(), out.end());
    return node.element(i) == node.element(0) && node.shape(i) == ArrayRef(expected);
  };
  if (!node.has(2) || !fits(2, axes) || (node.has(4) && !fits(4, 1)))
    return node.error("offsets " + (node.has(2) ? describe(node.shape(2)) : std::string("that are missing")) +
                      (node.has(4) ? " and a mask " + describe(node.shape(4)) : std::string()) + " do not fit " +
                      Twine(parts) + " groups of a window " + describe(window.size) + " and an output " +
                      describe(*shape));
  Emit emit(node);
  if (failed(emit.checkSize({batch, channels, elements, places})))
    return failure();
  Value input = node.operand(0), weight = input ? node.operand(1) : Value(),
        offset = weight ? node.operand(2) : Value(), bias = offset && node.has(3) ? node.operand(3) : Value(),
        mask = offset && node.has(4) ? node.operand(4) : Value();
  if (!offset || (node.has(3) && !bias) || (node.has(4) && !mask))
    return failure();
  const Type element = node.element(0);
  const int64_t images = batch * parts;
  offset = emit.reshape(offset, {images, elements, axes, places});
  SmallVector<SmallVector<Neighbour>> sampled;
  for (int64_t axis = 0; axis < axes; ++axis) {
    FullPrecision keep(emit);
    // Where a window element lies without its offset: [elements, places].
    Shape grid(window.size.begin(), window.size.end());
    grid.append(out.begin(), out.end());
    Value fixed = emit.add(emit.iota(2 * axes, axis, window.size[axis], 0, window.dilations[axis]),
                           emit.iota(2 * axes, axes + axis, out[axis], -window.begin(axis), window.strides[axis]));
    fixed = emit.cast(emit.reshape(emit.broadcast(fixed, grid), {elements, places}), element);
    Value x = emit.reshape(emit.add(emit.pick(offset, 2, axis), fixed), {images, elements * places});
    sampled.push_back(neighbours(emit, x, {space[axis], 0, static_cast<double>(space[axis] - 1)}, "linear", "zeros"));
  }
  Shape apart = {images, channels / parts};
  apart.append(space.begin(), space.end());
  Value columns = sampleRows(emit, channelRows(emit, emit.reshape(input, apart)), emit.iota(2, 0, images, 0, pixels),
                             sampled, space);
  if (mask)
    columns = emit.mul(columns, emit.reshape(mask, {images, elements * places, 1}));
  // [batch, groups, channels of a group * elements, places], as the weight has them.
  columns = emit.transpose(emit.reshape(columns, {images, elements, places, channels / parts}), {0, 3, 1, 2});
  const int64_t inner = channels / groups * elements, outputs = (*shape)[1];
  Value result;
  if (groups == 1)
    result = train::MatmulOp::create(
        node.builder, node.loc, node.type({batch, outputs, places}, element), emit.reshape(weight, {outputs, inner}),
        emit.reshape(columns, {batch, inner, places}), /*bias=*/Value(), false, false, APFloat(1.0));
  else
    result = train::MatmulOp::create(
        node.builder, node.loc, node.type({batch, groups, outputs / groups, places}, element),
        emit.reshape(weight, {groups, outputs / groups, inner}), emit.reshape(columns, {batch, groups, inner, places}),
        /*bias=*/Value(), false, false, APFloat(1.0));
  result = emit.reshape(result, *shape);
  node.result(0, bias ? emit.add(result, overSpace(node, bias, shape->size())) : result);
  return success();
}

LogicalResult lowerConvTranspose(NodeImporter &node) {
  FailureOr<Convolved> convolved = readConvolved(node, /*transposed=*/true);
  ArrayRef<int64_t> space = node.shape(0).drop_front(2);
  Sizes extra, wanted;
  if (failed(convolved) || failed(readSizes(node, "output_padding", space.size(), 0, 0, extra)))
    return failure();
  Window *window = &convolved->window;
  const bool isSame = window->automatic == "SAME_UPPER" || window->automatic == "SAME_LOWER";
  if (node.find("output_shape")) {
    if (failed(readSizes(node, "output_shape", space.size(), 1, 1, wanted)))
      return failure();
  } else if (isSame) {
    for (int64_t axis = 0; axis < window->axes(); ++axis)
      wanted.push_back(space[axis] * window->strides[axis]);
  }
  const int64_t axes = window->axes();
  Shape shape = {node.shape(0)[0], node.shape(1)[1] * convolved->groups};
  for (int64_t axis = 0; axis < axes; ++axis) {
    const int64_t whole = (space[axis] - 1) * window->strides[axis] + extra[axis] + window->span(axis);
    if (!wanted.empty()) {
      const int64_t total = whole - wanted[axis], half = llvm::divideFloorSigned(total, 2); // negative: places that no window reaches, more of them at the end
      window->pads[axis] = window->automatic == "SAME_UPPER" ? half : total - half;
      window->pads[axes + axis] = total - window->pads[axis];
    }
    const int64_t size = whole - window->begin(axis) - window->end(axis);
    if (size < 1)
      return node.error("pads " + describe(window->pads) + " leave no output of an input " + describe(node.shape(0)) + " and a window " + describe(window->size));
    shape.push_back(size);
    // A convolution of the output gives as many places as the input has: what is added at the end is not padded there.
    if (extra[axis] >= window->strides[axis])
      window->pads[axes + axis] -= extra[axis];
  }
  FailureOr<std::array<Value, 3>> operands = readOperands(node);
  if (failed(operands))
    return failure();
  auto [input, weight, bias] = *operands;
  Value result = train::ConvInputGradOp::create(node.builder, node.loc, node.type(shape, node.element(0)), weight, input, window->strides, window->dilations, window->pads, convolved->groups);
  if (bias)
    result = node.binary<train::AddOp>(result, overSpace(node, bias, shape.size()));
  node.result(0, result);
  return success();
}

/// Where the element at a place `k` of each window lies in the whole input, flat: in row-major order, or with the first
/// axis of space fastest.
static Value flatIndices(Emit &emit, Value k, const Window &window, ArrayRef<int64_t> input, bool columnMajor) {
  const int64_t axes = window.axes(), rank = axes + 2;
  ArrayRef<int64_t> space = input.drop_front(2), shape = Emit::shapeOf(k);
  const int64_t pixels = countElements(space);
  Value flat = emit.add(emit.iota(rank, 0, input[0], 0, input[1] * pixels), emit.iota(rank, 1, input[1], 0, pixels));
  int64_t stride = 1;
  SmallVector<int64_t> strides(axes);
  for (int64_t i = 0; i < axes; ++i) {
    const int64_t axis = columnMajor ? i : axes - 1 - i;
    strides[axis] = stride;
    stride *= space[axis];
  }
  for (int64_t axis = axes - 1; axis >= 0; --axis) {
    Value size = emit.number(window.size[axis]), within = axis ? emit.binary<train::RemOp>(k, size) : k;
    Value begin = emit.iota(rank, 2 + axis, shape[2 + axis], -window.begin(axis), window.strides[axis]);
    flat = emit.add(flat, emit.mul(emit.add(begin, emit.mul(within, emit.number(window.dilations[axis]))),
                                   emit.number(strides[axis])));
    k = axis ? emit.div(k, size) : k;
  }
  return flat;
}

LogicalResult lowerPool(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  if (failed(checkImage(node, /*bytes=*/op == "MaxPool")))
    return failure();
  ArrayRef<int64_t> space = node.shape(0).drop_front(2);
  std::optional<SmallVector<int64_t, 8>> kernel = node.attributeInts("kernel_shape");
  if (!kernel)
    return node.error("has no kernel_shape");
  FailureOr<Window> window = readWindow(node, *kernel, space);
  if (failed(window))
    return failure();
  const bool ceil = node.attribute("ceil_mode", int64_t(0)) != 0 && window->automatic == "NOTSET";
  const int64_t axes = window->axes();
  Shape shape = {node.shape(0)[0], node.shape(0)[1]};
  Sizes everything = window->pads; // a margin in which every window element lies
  for (int64_t axis = 0; axis < axes; ++axis) {
    const int64_t stride = window->strides[axis], span = window->span(axis), room = space[axis] + window->begin(axis) + window->end(axis) - span;
    if (room < 0)
      return node.error("a window " + describe(window->size) + " does not fit an input " + describe(node.shape(0)) + " with pads " + describe(window->pads));
    if (window->begin(axis) >= span || window->end(axis) >= span)
      return node.error("pads " + describe(window->pads) + " are not smaller than the window " + describe(window->size));
    int64_t places = room / stride + 1;
    // A last window that begins in the input, or in the pads before it, counts.
    if (ceil && room % stride != 0 && places * stride < space[axis] + window->begin(axis))
      ++places;
    shape.push_back(places);
    everything[axes + axis] = std::max(window->end(axis), (places - 1) * stride + span - window->begin(axis) - space[axis]);
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  // fp32 holds every byte.
  const bool bytes = !isa<FloatType>(node.element(0));
  Emit emit(node);
  if (bytes)
    input = emit.cast(input, node.builder.getF32Type());
  RankedTensorType type = node.type(shape, Emit::elementOf(input));
  auto average = [&](Value of, ArrayRef<int64_t> counted) -> Value {
    return train::AveragePoolOp::create(node.builder, node.loc, type, of, window->size, window->strides, window->dilations, window->pads, counted);
  };
  if (op == "MaxPool") {
    const int64_t elements = countElements(window->size);
    Type place = node.builder.getIntegerType(elements < 128 ? 8 : elements < kLargestAttribute ? 32 : 64);
    auto pool = train::MaxPoolOp::create(node.builder, node.loc, type, node.type(shape, place), input, window->size,
                                         window->strides, window->dilations, window->pads);
    node.result(0, bytes ? emit.cast(pool.getResult(), node.element(0)) : pool.getResult());
    if (node.wants(1))
      node.result(1, flatIndices(emit, emit.cast(pool.getIndices(), emit.i64), *window, node.shape(0),
                                 node.attribute("storage_order", int64_t(0)) != 0));
    return success();
  }
  if (op == "AveragePool") {
    const bool pads = node.attribute("count_include_pad", int64_t(0)) != 0;
    node.result(0, average(input, pads ? window->pads : Sizes(2 * axes, 0)));
    return success();
  }
  // LpPool: the root of the sum of powers, which is a mean over all window elements times their number.
  const int64_t p = node.attribute("p", int64_t(2));
  if (p < 1)
    return node.error("p is " + Twine(p) + ", but needs to be at least 1");
  Value power = p == 2 ? node.binary<train::MulOp>(input, input) : Value(train::AbsOp::create(node.builder, node.loc, input.getType(), input));
  if (p > 2)
    power = node.binary<train::PowOp>(power, node.splat(p, node.element(0)));
  Value sum = node.binary<train::MulOp>(average(power, everything), node.splat(countElements(window->size), node.element(0)));
  node.result(0, p == 1 ? sum : p == 2 ? Value(train::SqrtOp::create(node.builder, node.loc, type, sum)) : node.binary<train::PowOp>(sum, node.splat(1.0 / p, node.element(0))));
  return success();
}

LogicalResult lowerGlobalPool(NodeImporter &node) {
  if (node.inputs() != 1 || !isa<FloatType>(node.element(0)) || node.rank(0) < 3)
    return node.error("needs one float input with axes of space behind batch and channels");
  Value input = node.operand(0);
  if (!input)
    return failure();
  StringRef op = node.proto.op_type();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(2, node.rank(0)));
  Shape shape(node.rank(0), 1);
  shape[0] = node.shape(0)[0];
  shape[1] = node.shape(0)[1];
  RankedTensorType type = node.type(shape, node.element(0));
  if (op == "GlobalAveragePool") {
    node.result(0, train::ReduceMeanOp::create(node.builder, node.loc, type, input, axes, /*keepdims=*/true));
  } else if (op == "GlobalMaxPool") {
    node.result(0, train::ReduceMaxOp::create(node.builder, node.loc, type, input, axes, /*keepdims=*/true));
  } else {
    const int64_t p = node.attribute("p", int64_t(2));
    if (p < 1)
      return node.error("p is " + Twine(p) + ", but needs to be at least 1");
    Value power = p == 2 ? node.binary<train::MulOp>(input, input) : Value(train::AbsOp::create(node.builder, node.loc, input.getType(), input));
    if (p > 2)
      power = node.binary<train::PowOp>(power, node.splat(p, node.element(0)));
    Value sum = train::ReduceSumOp::create(node.builder, node.loc, type, power, axes, /*keepdims=*/true);
    node.result(0, p == 1 ? sum : p == 2 ? Value(train::SqrtOp::create(node.builder, node.loc, type, sum)) : node.binary<train::PowOp>(sum, node.splat(1.0 / p, node.element(0))));
  }
  return success();
}

LogicalResult lowerLRN(NodeImporter &node) {
  if (node.inputs() != 1 || !isa<FloatType>(node.element(0)) || node.rank(0) < 3 || llvm::is_contained(node.shape(0), 0))
    return node.error("needs one float input with axes of space behind batch and channels");
  const int64_t size = node.attribute("size", int64_t(0));
  if (size < 1 || size >= kLargestAttribute)
    return node.error("has the size " + Twine(size));
  Value input = node.operand(0);
  if (!input)
    return failure();
  // A mean over neighbouring channels: a window over the axis of channels, taken for space.
  ArrayRef<int64_t> shape = node.shape(0);
  Value squares = node.reshape(node.binary<train::MulOp>(input, input), {shape[0], 1, shape[1], countElements(shape.drop_front(2))});
  const int64_t before = (size - 1) / 2, after = size - 1 - before;
  Sizes ones = {1, 1}, pads = {before, 0, after, 0};
  Value mean = train::AveragePoolOp::create(node.builder, node.loc, squares.getType(), squares, Sizes{size, 1}, ones, ones, pads, pads);
  Value base = node.binary<train::AddOp>(node.binary<train::MulOp>(node.reshape(mean, shape), node.splat(node.attribute("alpha", 1e-4), node.element(0))), node.splat(node.attribute("bias", 1.0), node.element(0)));
  node.result(0, node.binary<train::DivOp>(input, node.binary<train::PowOp>(base, node.splat(node.attribute("beta", 0.75), node.element(0)))));
  return success();
}

} // namespace zopt::importer
