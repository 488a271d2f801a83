//===- FoldMovement.cpp - shapes, and movement of known tensors -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fold.h"

#include <limits>

using namespace mlir;

namespace zopt::importer {

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

static FailureOr<Shape> requestedShape(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> request = node.integers(1, "the shape");
  if (failed(request))
    return failure();
  const bool allowZero = node.attribute("allowzero", int64_t(0)) != 0;
  ArrayRef<int64_t> input = node.shape(0);
  Shape shape;
  int64_t open = -1, rest = 1;
  for (auto [i, size] : llvm::enumerate(*request)) {
    if (size == -1) {
      if (open >= 0)
        return node.error("the shape " + describe(*request) + " leaves more than one axis open");
      open = i;
      shape.push_back(1);
      continue;
    }
    if (size == 0 && !allowZero) {
      if (i >= input.size())
        return node.error("the shape " + describe(*request) + " copies axis " + Twine(i) + " of an input with " + Twine(input.size()) + " axes");
      size = input[i];
    }
    if (size < 0)
      return node.error("the shape " + describe(*request) + " has a negative size");
    shape.push_back(size);
  }
  rest = countElements(shape);
  const int64_t count = countElements(input);
  if (open >= 0 && rest > 0 && count % rest == 0)
    shape[open] = count / rest;
  if (countElements(shape) != count)
    return node.error("an input " + describe(input) + " of " + Twine(count) + " elements cannot be reshaped to " + describe(*request));
  return shape;
}

/// Axes are an operand since opset 13, an attribute before.
static FailureOr<SmallVector<int64_t, 8>> namedAxes(NodeImporter &node) {
  if (std::optional<SmallVector<int64_t, 8>> named = node.attributeInts("axes"))
    return *named;
  if (!node.has(1))
    return node.error("has no axes");
  return node.integers(1, "the axes");
}

FailureOr<Shape> reshapedShape(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  if (op == "Reshape")
    return requestedShape(node);
  ArrayRef<int64_t> input = node.shape(0);
  const int64_t rank = input.size();
  if (op == "Flatten") {
    const int64_t axis = node.attribute("axis", int64_t(1));
    if (axis < -rank || axis > rank)
      return node.error("axis " + Twine(axis) + " is out of range for " + Twine(rank) + " axes");
    const int64_t at = axis < 0 ? axis + rank : axis;
    return Shape{countElements(input.take_front(at)), countElements(input.drop_front(at))};
  }
  if (op == "Squeeze") {
    Shape shape;
    SmallVector<int64_t, 8> axes;
    if (node.has(1) || node.find("axes")) {
      FailureOr<SmallVector<int64_t, 8>> named = namedAxes(node);
      if (failed(named) || failed(named = node.axes(*named, rank)))
        return failure();
      axes = *named;
    } else {
      for (int64_t i = 0; i < rank; ++i)
        if (input[i] == 1)
          axes.push_back(i);
    }
    for (int64_t i = 0; i < rank; ++i) {
      if (!llvm::is_contained(axes, i))
        shape.push_back(input[i]);
      else if (input[i] != 1)
        return node.error("axis " + Twine(i) + " of " + describe(input) + " cannot be squeezed: its size is not 1");
    }
    return shape;
  }
  // Unsqueeze
  FailureOr<SmallVector<int64_t, 8>> axes = namedAxes(node);
  if (failed(axes) || failed(axes = node.axes(*axes, rank + static_cast<int64_t>(axes->size()))))
    return failure();
  Shape shape(input.begin(), input.end());
  for (int64_t axis : *axes)
    shape.insert(shape.begin() + axis, 1);
  return shape;
}

FailureOr<SliceBounds> sliceBounds(NodeImporter &node) {
  ArrayRef<int64_t> input = node.shape(0);
  const int64_t rank = input.size();
  FailureOr<SmallVector<int64_t, 8>> starts = node.integers(1, "the starts"), ends = node.integers(2, "the ends");
  if (failed(starts) || failed(ends))
    return failure();
  SmallVector<int64_t, 8> axes = llvm::to_vector<8>(llvm::seq<int64_t>(0, starts->size())), steps(starts->size(), 1);
  if (node.has(3)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(3, "the axes");
    if (failed(named))
      return failure();
    axes = *named;
  }
  if (node.has(4)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(4, "the steps");
    if (failed(named))
      return failure();
    steps = *named;
  }
  if (ends->size() != starts->size() || axes.size() != starts->size() || steps.size() != starts->size())
    return node.error("has " + Twine(starts->size()) + " starts, " + Twine(ends->size()) + " ends, " + Twine(axes.size()) + " axes and " + Twine(steps.size()) + " steps");
  SliceBounds bounds{Shape(rank, 0), Shape(rank, 1), Shape(input.begin(), input.end())};
  for (size_t i = 0; i < axes.size(); ++i) {
    FailureOr<int64_t> axis = node.axis(axes[i], rank);
    if (failed(axis))
      return failure();
    const int64_t size = input[*axis], step = steps[i];
    if (step == 0 || step == std::numeric_limits<int64_t>::min())
      return node.error("step " + Twine(step) + " is not a step");
    auto clamp = [&](int64_t at, int64_t low, int64_t high) { return std::min(std::max(at < 0 ? (at < -size ? low : at + size) : at, low), high); };
    const int64_t start = step > 0 ? clamp((*starts)[i], 0, size) : clamp((*starts)[i], 0, size - 1), end = step > 0 ? clamp((*ends)[i], 0, size) : clamp((*ends)[i], -1, size - 1);
    const int64_t span = step > 0 ? end - start : start - end, stride = step > 0 ? step : -step;
    bounds.starts[*axis] = start;
    bounds.steps[*axis] = step;
    bounds.sizes[*axis] = span <= 0 ? 0 : (span - 1) / stride + 1;
    if (bounds.sizes[*axis] <= 1)
      bounds.steps[*axis] = 1;
  }
  return bounds;
}

FailureOr<SmallVector<int64_t, 8>> splitSizes(NodeImporter &node, int64_t axis) {
  const int64_t size = node.shape(0)[axis];
  SmallVector<int64_t, 8> sizes;
  if (node.has(1)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "the sizes of the parts");
    if (failed(named))
      return failure();
    sizes = *named;
  } else if (std::optional<SmallVector<int64_t, 8>> named = node.attributeInts("split")) { // before opset 13
    sizes = *named;
  } else {
    const int64_t outputs = node.proto.output_size(), parts = node.attribute("num_outputs", outputs);
    if (parts < 1 || parts != outputs)
      return node.error("num_outputs is " + Twine(parts) + ", and the node has " + Twine(outputs));
    const int64_t part = (size + parts - 1) / parts;
    for (int64_t i = 0; i < parts; ++i)
      sizes.push_back(std::max<int64_t>(0, std::min(part, size - i * part)));
  }
  int64_t sum = 0;
  for (int64_t s : sizes)
    if (s < 0 || __builtin_add_overflow(sum, s, &sum))
      return node.error("parts of sizes " + describe(sizes) + " do not make up axis " + Twine(axis) + " of size " + Twine(size));
  if (sum != size || static_cast<int>(sizes.size()) != node.proto.output_size())
    return node.error(Twine(node.proto.output_size()) + " parts of sizes " + describe(sizes) + " do not make up axis " + Twine(axis) + " of size " + Twine(size));
  return sizes;
}

FailureOr<SmallVector<int64_t, 8>> reduceAxes(NodeImporter &node) {
  SmallVector<int64_t, 8> axes;
  if (std::optional<SmallVector<int64_t, 8>> named = node.attributeInts("axes")) {
    axes = *named;
  } else if (node.has(1)) {
    FailureOr<SmallVector<int64_t, 8>> operand = node.integers(1, "the axes");
    if (failed(operand))
      return failure();
    axes = *operand;
  }
  if (axes.empty() && node.attribute("noop_with_empty_axes", int64_t(0)) == 0)
    axes = llvm::to_vector<8>(llvm::seq<int64_t>(0, node.rank(0)));
  return node.axes(axes, node.rank(0));
}

FailureOr<SmallVector<int64_t, 8>> transposition(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  std::optional<SmallVector<int64_t, 8>> named = node.attributeInts("perm");
  if (!named) {
    SmallVector<int64_t, 8> reversed;
    for (int64_t i = rank - 1; i >= 0; --i)
      reversed.push_back(i);
    return reversed;
  }
  SmallVector<int64_t, 8> sorted = *named;
  llvm::sort(sorted);
  if (!llvm::equal(sorted, llvm::seq<int64_t>(0, rank)))
    return node.error("perm " + describe(*named) + " does not permute the " + Twine(rank) + " axes of the input");
  return *named;
}

FailureOr<int32_t> castTarget(NodeImporter &node) {
  if (node.proto.op_type() == "Cast")
    return static_cast<int32_t>(node.attribute("to", int64_t(0)));
  Type like = node.element(1);
  if (like.isInteger(1))
    return static_cast<int32_t>(onnx::TensorProto::BOOL);
  if (like.isF64())
    return static_cast<int32_t>(onnx::TensorProto::DOUBLE);
  if (isa<FloatType>(like))
    return static_cast<int32_t>(onnx::TensorProto::FLOAT);
  const bool isUnsigned = like.isUnsignedInteger();
  switch (like.getIntOrFloatBitWidth()) {
  case 8:
    return static_cast<int32_t>(isUnsigned ? onnx::TensorProto::UINT8 : onnx::TensorProto::INT8);
  case 16:
    return static_cast<int32_t>(isUnsigned ? onnx::TensorProto::UINT16 : onnx::TensorProto::INT16);
  case 32:
    return static_cast<int32_t>(isUnsigned ? onnx::TensorProto::UINT32 : onnx::TensorProto::INT32);
  default:
    return static_cast<int32_t>(isUnsigned ? onnx::TensorProto::UINT64 : onnx::TensorProto::INT64);
  }
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// Calls body(index) for every index of `shape`, in row-major order.
template <typename Body> static void forEachIndex(ArrayRef<int64_t> shape, Body body) {
  const int64_t count = countElements(shape);
  Shape index(shape.size(), 0);
  for (int64_t n = 0; n < count; ++n) {
    body(ArrayRef<int64_t>(index));
    for (int64_t axis = static_cast<int64_t>(shape.size()) - 1; axis >= 0; --axis) {
      if (++index[axis] < shape[axis])
        break;
      index[axis] = 0;
    }
  }
}

/// A constant of the given stored shape whose element at each index is element(index).
template <typename Function> static std::optional<Constant> build(Element type, ArrayRef<int64_t> shape, ArrayRef<int64_t> stored, Function element) {
  const int64_t count = countElements(stored);
  if (count > Constant::mostElements(type))
    return std::nullopt;
  std::vector<Scalar> values;
  values.reserve(count);
  forEachIndex(stored, [&](ArrayRef<int64_t> index) { values.push_back(element(index)); });
  return Constant(type, shape, stored, std::move(values));
}

static bool set(NodeImporter &node, int i, const std::optional<Constant> &constant) {
  if (!constant)
    return false;
  node.result(i, *constant, node.element(0));
  return true;
}

/// The axes of size 1 of `shape`, left out.
static Shape withoutOnes(ArrayRef<int64_t> shape) {
  Shape result;
  llvm::copy_if(shape, std::back_inserter(result), [](int64_t size) { return size != 1; });
  return result;
}

static std::optional<Constant> reshape(const Constant &input, ArrayRef<int64_t> shape) {
  if (const std::optional<Constant::Triangle> &t = input.asTriangle(); t && shape.size() >= 2 && shape.take_back(2) == input.shape().take_back(2))
    return Constant::triangle(input.element(), shape, t->diagonal, t->inside, t->outside);
  if (!input.asTriangle()) {
    if (std::optional<Scalar> one = input.asSplat())
      return Constant::splat(input.element(), shape, *one);
    // Only axes of size 1 come and go: what does not change along an axis need not be written out.
    if (withoutOnes(shape) == withoutOnes(input.shape())) {
      Shape stored;
      size_t from = 0;
      for (int64_t size : shape) {
        if (size == 1) {
          stored.push_back(1);
          continue;
        }
        while (input.shape()[from] == 1)
          ++from;
        stored.push_back(input.stored()[from++]);
      }
      return Constant(input.element(), shape, stored, input.values().vec());
    }
  }
  std::optional<std::vector<Scalar>> values = input.expanded();
  if (!values)
    return std::nullopt;
  return Constant(input.element(), shape, shape, std::move(*values));
}

bool foldReshape(NodeImporter &node) {
  FailureOr<Shape> shape = reshapedShape(node);
  return succeeded(shape) && set(node, 0, reshape(*node.constant(0), *shape));
}

bool foldTranspose(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> permutation = transposition(node);
  if (failed(permutation))
    return false;
  const Constant &input = *node.constant(0);
  Shape shape, stored;
  const int64_t rank = permutation->size();
  for (int64_t axis : *permutation)
    shape.push_back(input.shape()[axis]);
  if (const std::optional<Constant::Triangle> &t = input.asTriangle()) {
    if ((*permutation)[rank - 1] == rank - 1 && (*permutation)[rank - 2] == rank - 2)
      return set(node, 0, Constant::triangle(input.element(), shape, t->diagonal, t->inside, t->outside));
    if ((*permutation)[rank - 1] == rank - 2 && (*permutation)[rank - 2] == rank - 1) // row <= column + d is not (column <= row - d - 1)
      return set(node, 0, Constant::triangle(input.element(), shape, -t->diagonal - 1, t->outside, t->inside));
    return false;
  }
  for (int64_t axis : *permutation)
    stored.push_back(input.stored()[axis]);
  Shape from(rank, 0);
  return set(node, 0, build(input.element(), shape, stored, [&](ArrayRef<int64_t> index) {
               for (int64_t i = 0; i < rank; ++i)
                 from[(*permutation)[i]] = index[i];
               return input.at(from);
             }));
}

bool foldExpand(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> request = node.integers(1, "the shape");
  if (failed(request))
    return false;
  std::optional<Shape> shape = broadcast(node.shape(0), *request);
  return shape && set(node, 0, node.constant(0)->broadcast(*shape));
}

bool foldConcat(NodeImporter &node) {
  const Constant &first = *node.constant(0);
  const onnx::AttributeProto *attribute = node.find("axis");
  if (!attribute)
    return false;
  FailureOr<int64_t> axis = node.axis(attribute->i(), first.rank());
  if (failed(axis))
    return false;
  Shape shape(first.shape().begin(), first.shape().end()), stored(first.rank(), 1);
  shape[*axis] = 0;
  SmallVector<Constant, 4> inputs;
  for (int i = 0; i < node.inputs(); ++i) {
    Constant input = *node.constant(i);
    if (input.rank() != first.rank() || input.element() != first.element())
      return false;
    if (input.asTriangle()) {
      std::optional<std::vector<Scalar>> values = input.expanded();
      if (!values)
        return false;
      input = Constant(input.element(), input.shape(), input.shape(), std::move(*values));
    }
    for (int64_t a = 0; a < first.rank(); ++a) {
      if (a != *axis && input.shape()[a] != first.shape()[a])
        return false;
      stored[a] = shape[a] == 0 ? 0 : std::max(stored[a], input.stored()[a]);
    }
    shape[*axis] += input.shape()[*axis];
    inputs.push_back(std::move(input));
  }
  stored[*axis] = shape[*axis];
  Shape at;
  return set(node, 0, build(first.element(), shape, stored, [&](ArrayRef<int64_t> index) {
               at.assign(index.begin(), index.end());
               const Constant *input = inputs.begin();
               while (at[*axis] >= input->shape()[*axis])
                 at[*axis] -= (input++)->shape()[*axis];
               return input->at(at);
             }));
}

std::optional<Constant> slice(const Constant &input, const SliceBounds &bounds) {
  const int64_t rank = input.rank();
  if (const std::optional<Constant::Triangle> &t = input.asTriangle()) {
    if (bounds.steps[rank - 1] != 1 || bounds.steps[rank - 2] != 1)
      return std::nullopt;
    return Constant::triangle(input.element(), bounds.sizes, t->diagonal + bounds.starts[rank - 2] - bounds.starts[rank - 1], t->inside, t->outside);
  }
  Shape stored;
  for (int64_t axis = 0; axis < rank; ++axis)
    stored.push_back(input.stored()[axis] == 1 && bounds.sizes[axis] > 0 ? 1 : bounds.sizes[axis]);
  Shape from(rank, 0);
  return build(input.element(), bounds.sizes, stored, [&](ArrayRef<int64_t> index) {
    for (int64_t axis = 0; axis < rank; ++axis)
      from[axis] = bounds.starts[axis] + index[axis] * bounds.steps[axis];
    return input.at(from);
  });
}

bool foldSlice(NodeImporter &node) {
  FailureOr<SliceBounds> bounds = sliceBounds(node);
  return succeeded(bounds) && set(node, 0, slice(*node.constant(0), *bounds));
}

bool foldSplit(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return false;
  FailureOr<SmallVector<int64_t, 8>> sizes = splitSizes(node, *axis);
  if (failed(sizes))
    return false;
  SmallVector<Constant, 4> parts;
  SliceBounds bounds{Shape(node.rank(0), 0), Shape(node.rank(0), 1), Shape(node.shape(0).begin(), node.shape(0).end())};
  for (int64_t size : *sizes) {
    bounds.sizes[*axis] = size;
    std::optional<Constant> part = slice(*node.constant(0), bounds);
    if (!part)
      return false;
    parts.push_back(std::move(*part));
    bounds.starts[*axis] += size;
  }
  for (auto [i, part] : llvm::enumerate(parts))
    node.result(i, part, node.element(0));
  return true;
}

bool foldGather(NodeImporter &node) {
  if (node.inputs() != 2)
    return false;
  const Constant &data = *node.constant(0), &indices = *node.constant(1);
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), data.rank());
  if (failed(axis) || data.asTriangle() || indices.asTriangle() || !indices.isInteger())
    return false;
  const int64_t size = data.shape()[*axis];
  if (llvm::any_of(indices.values(), [&](Scalar i) { return i.integer < -size || i.integer >= size; }))
    return false;
  Shape shape(data.shape().begin(), data.shape().begin() + *axis), stored(data.stored().begin(), data.stored().begin() + *axis);
  shape.append(indices.shape().begin(), indices.shape().end());
  stored.append(indices.stored().begin(), indices.stored().end());
  shape.append(data.shape().begin() + *axis + 1, data.shape().end());
  stored.append(data.stored().begin() + *axis + 1, data.stored().end());
  const int64_t inner = indices.rank();
  Shape from(data.rank(), 0);
  return set(node, 0, build(data.element(), shape, stored, [&](ArrayRef<int64_t> index) {
               const int64_t i = indices.at(index.slice(*axis, inner)).integer;
               for (int64_t a = 0; a < *axis; ++a)
                 from[a] = index[a];
               from[*axis] = i < 0 ? i + size : i;
               for (int64_t a = *axis + 1; a < data.rank(); ++a)
                 from[a] = index[a + inner - 1];
               return data.at(from);
             }));
}

bool foldGatherND(NodeImporter &node) {
  if (node.inputs() != 2 || node.attribute("batch_dims", int64_t(0)) != 0)
    return false;
  const Constant &data = *node.constant(0), &indices = *node.constant(1);
  if (data.asTriangle() || indices.asTriangle() || indices.rank() < 1)
    return false;
  const int64_t outer = indices.rank() - 1, depth = indices.shape().back();
  if (depth < 1 || depth > data.rank())
    return false;
  Shape shape(indices.shape().begin(), indices.shape().end() - 1), stored(indices.stored().begin(), indices.stored().end() - 1);
  shape.append(data.shape().begin() + depth, data.shape().end());
  stored.append(data.stored().begin() + depth, data.stored().end());
  bool inRange = true;
  Shape from(data.rank(), 0), at(outer + 1, 0);
  std::optional<Constant> result = build(data.element(), shape, stored, [&](ArrayRef<int64_t> index) -> Scalar {
    for (int64_t a = 0; a < outer; ++a)
      at[a] = index[a];
    for (int64_t k = 0; k < depth; ++k) {
      at[outer] = k;
      const int64_t i = indices.at(at).integer, size = data.shape()[k];
      if (i < -size || i >= size) {
        inRange = false;
        return {};
      }
      from[k] = i < 0 ? i + size : i;
    }
    for (int64_t a = depth; a < data.rank(); ++a)
      from[a] = index[a - depth + outer];
    return data.at(from);
  });
  return inRange && set(node, 0, result);
}

bool foldTile(NodeImporter &node) {
  if (node.inputs() != 2 || node.constant(0)->asTriangle())
    return false;
  FailureOr<SmallVector<int64_t, 8>> repeats = node.integers(1, "the repeats");
  const Constant &input = *node.constant(0);
  if (failed(repeats) || static_cast<int64_t>(repeats->size()) != input.rank() || llvm::any_of(*repeats, [](int64_t r) { return r < 0; }))
    return false;
  Shape shape, stored;
  for (int64_t axis = 0; axis < input.rank(); ++axis) {
    int64_t size;
    if (__builtin_mul_overflow(input.shape()[axis], (*repeats)[axis], &size))
      return false;
    shape.push_back(size);
    stored.push_back(input.stored()[axis] == 1 && size > 0 ? 1 : size);
  }
  Shape from(input.rank(), 0);
  return set(node, 0, build(input.element(), shape, stored, [&](ArrayRef<int64_t> index) {
               for (int64_t axis = 0; axis < input.rank(); ++axis)
                 from[axis] = index[axis] % input.shape()[axis];
               return input.at(from);
             }));
}

bool foldRange(NodeImporter &node) {
  if (node.inputs() != 3)
    return false;
  const std::optional<Scalar> start = node.constant(0)->asSplat(), limit = node.constant(1)->asSplat(), step = node.constant(2)->asSplat();
  if (!start || !limit || !step || !node.constant(0)->isInteger() || step->integer == 0)
    return false;
  int64_t span;
  if (__builtin_sub_overflow(limit->integer, start->integer, &span))
    return false;
  const int64_t s = step->integer, count = (span > 0) == (s > 0) && span != 0 ? (s > 0 ? (span - 1) / s + 1 : (span + 1) / s + 1) : 0;
  if (count > Constant::mostIntegers)
    return false;
  SmallVector<int64_t> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(start->integer + i * s);
  node.result(0, Constant::integers({count}, values), node.element(0));
  return true;
}

bool foldConstantOfShape(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> shape = node.integers(0, "the shape");
  if (failed(shape) || llvm::any_of(*shape, [](int64_t size) { return size < 0; }))
    return false;
  Type element = node.builder.getF32Type();
  Scalar value;
  if (const onnx::AttributeProto *attribute = node.find("value")) {
    const onnx::TensorProto &tensor = attribute->t();
    element = convertElementType(tensor.data_type(), node.builder.getContext());
    std::optional<Constant> one = element ? constantOf(tensor, {1}) : std::nullopt;
    if (!one || !one->asSplat())
      return false;
    value = *one->asSplat();
  }
  node.result(0, Constant::splat(convertElement(element), *shape, value), element);
  return true;
}

bool foldCumSum(NodeImporter &node) {
  if (node.inputs() != 2 || node.constant(0)->asTriangle())
    return false;
  const Constant &input = *node.constant(0);
  const std::optional<Scalar> named = node.constant(1)->asSplat();
  if (!named || !input.isInteger())
    return false;
  FailureOr<int64_t> axis = node.axis(named->integer, input.rank());
  if (failed(axis))
    return false;
  const bool exclusive = node.attribute("exclusive", int64_t(0)) != 0, reverse = node.attribute("reverse", int64_t(0)) != 0;
  // The summed axis is written out; the others stay as they are.
  Shape stored(input.stored().begin(), input.stored().end());
  stored[*axis] = input.shape()[*axis];
  const int64_t inner = countElements(ArrayRef(stored).drop_front(*axis + 1)), size = stored[*axis];
  std::vector<Scalar> values;
  if (countElements(stored) > Constant::mostIntegers || countElements(stored) == 0)
    return false;
  forEachIndex(stored, [&](ArrayRef<int64_t> index) { values.push_back(input.at(index)); });
  for (int64_t block = 0; block < static_cast<int64_t>(values.size()); block += inner * size)
    for (int64_t i = 0; i < inner; ++i) {
      uint64_t sum = 0;
      for (int64_t k = 0; k < size; ++k) {
        int64_t &element = values[block + (reverse ? size - 1 - k : k) * inner + i].integer;
        const uint64_t own = static_cast<uint64_t>(element);
        element = static_cast<int64_t>(exclusive ? sum : sum + own);
        sum += own;
      }
    }
  node.result(0, Constant(input.element(), input.shape(), stored, std::move(values)), node.element(0));
  return true;
}

bool foldTrilu(NodeImporter &node) {
  const Constant &input = *node.constant(0);
  const std::optional<Scalar> value = input.asSplat();
  if (!value || input.rank() < 2)
    return false;
  int64_t k = 0;
  if (node.has(1)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "k");
    if (failed(named) || named->size() != 1)
      return false;
    k = named->front();
  }
  // Lower: kept where column <= row + k. Upper: kept where column >= row + k, which is not (column <= row + k - 1).
  const bool upper = node.attribute("upper", int64_t(1)) != 0;
  if (k < -(int64_t(1) << 40) || k > (int64_t(1) << 40))
    return false;
  node.result(0, Constant::triangle(input.element(), input.shape(), upper ? k - 1 : k, upper ? Scalar{} : *value, upper ? *value : Scalar{}), node.element(0));
  return true;
}

bool foldReduce(NodeImporter &node) {
  const Constant &input = *node.constant(0);
  if (!input.isInteger())
    return false;
  FailureOr<SmallVector<int64_t, 8>> axes = reduceAxes(node);
  std::optional<std::vector<Scalar>> values = input.expanded();
  if (failed(axes) || !values || values->empty())
    return false;
  const bool keep = node.attribute("keepdims", int64_t(1)) != 0;
  Shape kept(input.shape().begin(), input.shape().end()), shape;
  for (int64_t axis : *axes)
    kept[axis] = 1;
  for (int64_t axis = 0; axis < input.rank(); ++axis)
    if (keep || !llvm::is_contained(*axes, axis))
      shape.push_back(kept[axis]);
  StringRef op = node.proto.op_type();
  std::vector<Scalar> results(countElements(kept));
  std::vector<bool> seen(results.size(), false);
  size_t n = 0;
  forEachIndex(input.shape(), [&](ArrayRef<int64_t> index) {
    const Scalar value = (*values)[n++];
    int64_t to = 0;
    for (int64_t axis = 0; axis < input.rank(); ++axis)
      to = to * kept[axis] + (kept[axis] == 1 ? 0 : index[axis]);
    int64_t &sum = results[to].integer;
    const uint64_t a = static_cast<uint64_t>(sum), b = static_cast<uint64_t>(value.integer);
    if (!seen[to])
      sum = value.integer;
    else
      sum = op == "ReduceSum" ? static_cast<int64_t>(a + b) : op == "ReduceProd" ? static_cast<int64_t>(a * b) : op == "ReduceMax" ? std::max(sum, value.integer) : std::min(sum, value.integer);
    seen[to] = true;
  });
  node.result(0, Constant(input.element(), shape, shape, std::move(results)), node.element(0));
  return true;
}

} // namespace zopt::importer
