//===- NodeImporter.cpp - what an operator sees of its node --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Importer.h"
#include "Limits.h"
#include "Weights.h"

using namespace mlir;

namespace zopt::importer {

static StringAttr nodeName(const onnx::NodeProto &node, MLIRContext *context) {
  return StringAttr::get(context, !node.name().empty() || node.output_size() == 0 ? node.name() : node.output(0));
}

NodeImporter::NodeImporter(GraphImporter &graph, const onnx::NodeProto &node) : graph(graph), proto(node), builder(graph.builder), loc(NameLoc::get(nodeName(node, graph.context))) {}

LogicalResult NodeImporter::error(const Twine &message) {
  graph.problems.error(nodeName(proto, graph.context), message);
  return failure();
}

const Tensor &NodeImporter::input(int i) const { return *graph.find(proto.input(i)); }

FailureOr<SmallVector<int64_t, 8>> NodeImporter::integers(int i, const char *what) {
  const Constant *value = constant(i);
  if (!value)
    return error(Twine("operand ") + Twine(i) + " (" + what + ") depends on the data, but it must be known when the model is imported");
  if (std::optional<SmallVector<int64_t, 8>> values = value->asIntegers())
    return *values;
  return error(Twine("operand ") + Twine(i) + " (" + what + ") must hold integers");
}

const onnx::AttributeProto *NodeImporter::find(StringRef name) {
  for (const onnx::AttributeProto &attribute : proto.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

/// The attribute of that name if it is there and of that type; a wrong type is reported.
static const onnx::AttributeProto *findTyped(NodeImporter &node, StringRef name, onnx::AttributeProto::AttributeType type, const char *what) {
  const onnx::AttributeProto *found = node.find(name);
  if (!found || found->type() == type)
    return found;
  (void)node.error("attribute '" + name + "' must be " + what);
  return nullptr;
}

int64_t NodeImporter::attribute(StringRef name, int64_t otherwise) {
  const onnx::AttributeProto *found = findTyped(*this, name, onnx::AttributeProto::INT, "an integer");
  return found ? found->i() : otherwise;
}

double NodeImporter::attribute(StringRef name, double otherwise) {
  const onnx::AttributeProto *found = findTyped(*this, name, onnx::AttributeProto::FLOAT, "a float");
  return found ? static_cast<double>(found->f()) : otherwise;
}

StringRef NodeImporter::attribute(StringRef name, StringRef otherwise) {
  const onnx::AttributeProto *found = findTyped(*this, name, onnx::AttributeProto::STRING, "a string");
  return found ? StringRef(found->s()) : otherwise;
}

std::optional<SmallVector<int64_t, 8>> NodeImporter::attributeInts(StringRef name) {
  const onnx::AttributeProto *found = findTyped(*this, name, onnx::AttributeProto::INTS, "a list of integers");
  if (!found)
    return std::nullopt;
  return SmallVector<int64_t, 8>(found->ints().begin(), found->ints().end());
}

FailureOr<int64_t> NodeImporter::axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    return error("axis " + Twine(axis) + " is out of range for " + Twine(rank) + " axes");
  return axis < 0 ? axis + rank : axis;
}

FailureOr<SmallVector<int64_t, 8>> NodeImporter::axes(ArrayRef<int64_t> axes, int64_t rank) {
  SmallVector<int64_t, 8> result;
  for (int64_t a : axes) {
    FailureOr<int64_t> one = axis(a, rank);
    if (failed(one))
      return failure();
    result.push_back(*one);
  }
  llvm::sort(result);
  if (std::adjacent_find(result.begin(), result.end()) != result.end())
    return error("the axes " + describe(axes) + " name one axis twice");
  return result;
}

Value NodeImporter::operand(int i) { return graph.materialize(*graph.find(proto.input(i)), /*full=*/true); }
Value NodeImporter::broadcastingOperand(int i) { return graph.materialize(*graph.find(proto.input(i)), /*full=*/false); }

void NodeImporter::result(int i, Value value) {
  if (!wants(i))
    return;
  auto type = cast<RankedTensorType>(value.getType());
  if (isTooLarge(type.getShape())) {
    (void)error("makes a tensor " + describe(type.getShape()) + ", which is too large");
    return;
  }
  Tensor &tensor = graph.tensors[proto.output(i)];
  tensor.element = type.getElementType();
  tensor.shape.assign(type.getShape().begin(), type.getShape().end());
  // A tensor of no element is known.
  if (type.getNumElements() == 0)
    tensor.constant = Constant::splat(convertElement(tensor.element), tensor.shape, {});
  else
    tensor.value = value;
}

void NodeImporter::empty(int i, ArrayRef<int64_t> shape, Type element) {
  result(i, Constant::splat(convertElement(element), shape, {}), element);
}

/// Integers as their type holds them: the folder computes in 64 bits.
static Constant wrapped(Constant constant, Type element) {
  auto type = dyn_cast<IntegerType>(element);
  if (!type || type.getWidth() == 1 || type.getWidth() == 64)
    return constant;
  auto wrap = [&](Scalar value) {
    APInt bits = APInt(64, static_cast<uint64_t>(value.integer)).trunc(type.getWidth());
    return Scalar{type.isUnsigned() ? static_cast<int64_t>(bits.getZExtValue()) : bits.getSExtValue(), 0};
  };
  if (!constant.asTriangle() && llvm::all_of(constant.values(), [&](Scalar value) { return wrap(value) == value; }))
    return constant;
  return *mapElements(constant, constant.element(), wrap);
}

void NodeImporter::result(int i, Constant constant, Type element) {
  if (!wants(i))
    return;
  constant = wrapped(std::move(constant), element);
  Tensor &tensor = graph.tensors[proto.output(i)];
  tensor.element = element;
  tensor.shape.assign(constant.shape().begin(), constant.shape().end());
  tensor.constant = std::move(constant);
}

void NodeImporter::forward(int i, int j) {
  if (!wants(i))
    return;
  Tensor &from = *graph.find(proto.input(j)), &to = graph.tensors[proto.output(i)];
  to.element = from.element;
  to.shape = from.shape;
  to.constant = from.constant;
  to.value = from.value;
  to.sequence = from.sequence;
  to.none = from.none;
  to.alias = from.alias ? from.alias : &from; // chains of names stay short
}

Value NodeImporter::reshape(Value value, ArrayRef<int64_t> shape) {
  auto from = cast<RankedTensorType>(value.getType());
  if (from.getShape() == shape)
    return value;
  return train::ReshapeOp::create(builder, loc, type(shape, from.getElementType()), value);
}

Value NodeImporter::transpose(Value value, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return value;
  auto from = cast<RankedTensorType>(value.getType());
  Shape shape;
  for (int64_t axis : permutation)
    shape.push_back(from.getDimSize(axis));
  return train::TransposeOp::create(builder, loc, type(shape, from.getElementType()), value, permutation);
}

Value NodeImporter::broadcastTo(Value value, ArrayRef<int64_t> shape) {
  auto from = cast<RankedTensorType>(value.getType());
  if (from.getShape() == shape)
    return value;
  return train::BroadcastOp::create(builder, loc, type(shape, from.getElementType()), value);
}

Value NodeImporter::splat(double value, Type element) {
  RankedTensorType scalar = RankedTensorType::get({}, element);
  return train::ConstantOp::create(builder, loc, scalar, DenseElementsAttr::get(scalar, FloatAttr::get(element, isa<Float32Type>(element) ? static_cast<float>(value) : value)));
}

} // namespace zopt::importer
