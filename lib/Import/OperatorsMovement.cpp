//===- OperatorsMovement.cpp - ONNX operators that move elements ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fold.h"
#include "Operators.h"
#include "Weights.h"

using namespace mlir;

namespace zopt::importer {

LogicalResult lowerKnownOnly(NodeImporter &node) {
  for (int i = 0; i < node.inputs(); ++i)
    if (node.has(i) && !node.constant(i))
      return node.error(Twine("operator '") + node.proto.op_type() + "' is supported on values that are known at import (shapes, masks), but operand " + Twine(i) + " depends on the data");
  return node.error(Twine("operator '") + node.proto.op_type() + "' has operands that it is not defined for, or a result of more than " + Twine(Constant::mostIntegers) + " known elements");
}

LogicalResult lowerConstant(NodeImporter &node) {
  Builder &builder = node.builder;
  std::optional<Constant> value;
  Type element;
  if (const onnx::AttributeProto *tensor = node.find("value")) {
    Shape shape(tensor->t().dims().begin(), tensor->t().dims().end());
    element = convertElementType(tensor->t().data_type(), node.builder.getContext());
    if (element && llvm::none_of(shape, [](int64_t size) { return size < 0; }))
      value = constantOf(tensor->t(), shape);
  } else if (const onnx::AttributeProto *one = node.find("value_int")) {
    element = builder.getI64Type();
    value = Constant::integers({}, {one->i()});
  } else if (const onnx::AttributeProto *list = node.find("value_ints")) {
    element = builder.getI64Type();
    value = Constant::integers({list->ints_size()}, SmallVector<int64_t>(list->ints().begin(), list->ints().end()));
  } else if (const onnx::AttributeProto *real = node.find("value_float")) {
    element = builder.getF32Type();
    value = Constant::splat(Element::Float, {}, {0, real->f()});
  } else if (const onnx::AttributeProto *reals = node.find("value_floats")) {
    element = builder.getF32Type();
    std::vector<Scalar> values;
    for (float f : reals->floats())
      values.push_back({0, f});
    const int64_t count = values.size();
    value = Constant(Element::Float, {count}, {count}, std::move(values));
  }
  if (!value || !element)
    return node.error("has no value of a type and size that is supported");
  node.result(0, *value, element);
  return success();
}

LogicalResult lowerShape(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  auto bound = [&](int64_t at) { return std::min(std::max<int64_t>(at < 0 ? at + rank : at, 0), rank); };
  const int64_t start = bound(std::max(node.attribute("start", int64_t(0)), -rank)), end = bound(std::max(node.attribute("end", rank), -rank));
  ArrayRef<int64_t> sizes = node.shape(0).slice(start, std::max<int64_t>(0, end - start));
  node.result(0, Constant::integers({static_cast<int64_t>(sizes.size())}, sizes), node.builder.getI64Type());
  return success();
}

LogicalResult lowerSize(NodeImporter &node) {
  node.result(0, Constant::integers({}, {countElements(node.shape(0))}), node.builder.getI64Type());
  return success();
}

LogicalResult lowerReshape(NodeImporter &node) {
  FailureOr<Shape> shape = reshapedShape(node);
  if (failed(shape))
    return failure();
  if (ArrayRef(*shape) == node.shape(0)) {
    node.forward(0, 0);
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, node.reshape(input, *shape));
  return success();
}

LogicalResult lowerTranspose(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> permutation = transposition(node);
  if (failed(permutation))
    return failure();
  if (llvm::equal(*permutation, llvm::seq<int64_t>(0, permutation->size()))) {
    node.forward(0, 0);
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, node.transpose(input, *permutation));
  return success();
}

LogicalResult lowerExpand(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> request = node.integers(1, "the shape");
  if (failed(request))
    return failure();
  std::optional<Shape> shape = llvm::any_of(*request, [](int64_t size) { return size < 0; }) ? std::nullopt : broadcast(node.shape(0), *request);
  if (!shape)
    return node.error("an input " + describe(node.shape(0)) + " does not broadcast to " + describe(*request));
  if (ArrayRef(*shape) == node.shape(0)) {
    node.forward(0, 0);
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, node.broadcastTo(input, *shape));
  return success();
}

LogicalResult lowerConcat(NodeImporter &node) {
  if (node.inputs() == 0 || !node.find("axis"))
    return node.error("has no operands or no axis");
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return failure();
  Shape shape(node.shape(0));
  SmallVector<Value> values;
  int last = 0; // of those with elements
  for (int i = 0; i < node.inputs(); ++i) {
    bool fits = node.has(i) && node.rank(i) == node.rank(0) && node.element(i) == node.element(0);
    for (int64_t a = 0; fits && a < node.rank(0); ++a)
      fits = a == *axis || node.shape(i)[a] == node.shape(0)[a];
    if (!fits)
      return node.error("operand " + Twine(i) + (node.has(i) ? " of shape " + describe(node.shape(i)) : std::string(", which is missing,")) + " cannot be joined to one of " + describe(node.shape(0)) + " along axis " + Twine(*axis));
    if (i > 0)
      shape[*axis] += node.shape(i)[*axis];
    if (countElements(node.shape(i)) == 0) // adds nothing
      continue;
    Value value = node.operand(i);
    if (!value)
      return failure();
    values.push_back(value);
    last = i;
  }
  if (values.size() == 1) {
    node.forward(0, last);
    return success();
  }
  node.result(0, train::ConcatOp::create(node.builder, node.loc, node.type(shape, node.element(0)), values, *axis));
  return success();
}

LogicalResult lowerSlice(NodeImporter &node) {
  FailureOr<SliceBounds> bounds = sliceBounds(node);
  if (failed(bounds))
    return failure();
  if (ArrayRef(bounds->sizes) == node.shape(0) && llvm::all_of(bounds->steps, [](int64_t step) { return step == 1; })) {
    node.forward(0, 0);
    return success();
  }
  if (llvm::is_contained(bounds->sizes, 0)) {
    node.empty(0, bounds->sizes, node.element(0));
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, train::SliceOp::create(node.builder, node.loc, node.type(bounds->sizes, node.element(0)), input, bounds->starts, bounds->steps));
  return success();
}

LogicalResult lowerSplit(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return failure();
  FailureOr<SmallVector<int64_t, 8>> sizes = splitSizes(node, *axis);
  if (failed(sizes))
    return failure();
  Value input = node.operand(0);
  if (!input)
    return failure();
  Shape starts(node.rank(0), 0), shape(node.shape(0));
  const Shape steps(node.rank(0), 1);
  for (auto [i, size] : llvm::enumerate(*sizes)) {
    shape[*axis] = size;
    if (size == 0)
      node.empty(i, shape, node.element(0));
    else
      node.result(
          i, train::SliceOp::create(node.builder, node.loc, node.type(shape, node.element(0)), input, starts, steps));
    starts[*axis] += size;
  }
  return success();
}

LogicalResult lowerGather(NodeImporter &node) {
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return failure();
  if (isa<FloatType>(node.element(1)) || node.element(1).isInteger(1))
    return node.error("the indices must be integers");
  const int64_t size = node.shape(0)[*axis];
  Shape shape(node.shape(0).take_front(*axis));
  shape.append(node.shape(1).begin(), node.shape(1).end());
  shape.append(node.shape(0).begin() + *axis + 1, node.shape(0).end());

  if (const Constant *indices = node.constant(1)) {
    if (indices->asTriangle())
      return node.error("the indices are a mask");
    std::optional<Constant::Progression> line = indices->asProgression();
    if (line && line->step == 1 && line->start >= 0)
      node.graph.noteTable(indices->shape()[line->axis], size - line->start);
    for (Scalar index : indices->values())
      if (index.integer < -size || index.integer >= size)
        return node.error("reads row " + Twine(index.integer) + " of a table of " + Twine(size) + " rows: bind the dimension to less (--bind)");
    // Rows in order are a slice: position tables.
    const std::optional<Scalar> one = indices->asSplat();
    if ((line && line->start >= 0 && line->start + line->step * (indices->shape()[line->axis] - 1) >= 0) || one) {
      const int64_t count = line ? indices->shape()[line->axis] : 1;
      Value data = node.operand(0);
      if (!data)
        return failure();
      Shape starts(node.rank(0), 0), steps(node.rank(0), 1), sliced(node.shape(0));
      starts[*axis] = line ? line->start : one->integer < 0 ? one->integer + size : one->integer;
      steps[*axis] = line ? line->step : 1;
      sliced[*axis] = count;
      Value rows = data;
      if (sliced != Shape(node.shape(0)) || steps[*axis] != 1)
        rows = train::SliceOp::create(node.builder, node.loc, node.type(sliced, node.element(0)), data, starts, steps);
      Shape spread(node.shape(0).take_front(*axis));
      spread.append(indices->stored().begin(), indices->stored().end());
      spread.append(node.shape(0).begin() + *axis + 1, node.shape(0).end());
      node.result(0, node.broadcastTo(node.reshape(rows, spread), shape));
      return success();
    }
  }
  Value data = node.operand(0), indices = data ? node.operand(1) : Value();
  if (!indices)
    return failure();
  node.result(0, train::GatherOp::create(node.builder, node.loc, node.type(shape, node.element(0)), data, indices, *axis));
  return success();
}

} // namespace zopt::importer
