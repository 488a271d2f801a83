//===- OperatorsNorm.cpp - norms over groups, instances and batches --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

using namespace mlir;

namespace zopt::importer {

/// (x - mean) / sqrt(variance + epsilon) of each of `groups` groups of neighbouring channels of [N, C, ...].
static Value normalizeGroups(NodeImporter &node, Emit &k, Value x, int64_t groups, double epsilon) {
  ArrayRef<int64_t> shape = node.shape(0);
  const int64_t size = countElements(shape.drop_front(1)) / groups;
  Value rows = k.reshape(x, {shape[0], groups, size});
  RankedTensorType statistics = node.type({shape[0], groups}, train::getComputeType(k.elementOf(x)));
  auto norm = train::LayerNormOp::create(node.builder, node.loc, rows.getType(), statistics, statistics, rows, Value(), Value(), APFloat(epsilon));
  return k.reshape(norm.getResult(), shape);
}

/// A vector of channels, or of groups of them, beside [N, C, ...].
static Value perChannel(NodeImporter &node, Emit &k, Value vector, int64_t groups) {
  const int64_t channels = node.shape(0)[1];
  if (k.shapeOf(vector)[0] != channels)
    vector = k.reshape(k.broadcast(k.reshape(vector, {groups, 1}), {groups, channels / groups}), {channels});
  Shape shape(node.rank(0), 1);
  shape[1] = channels;
  return k.reshape(vector, shape);
}

/// GroupNormalization (before opset 21 with a scale and bias for each group) and InstanceNormalization, whose groups are channels.
LogicalResult lowerGroupNormalization(NodeImporter &node) {
  if (node.inputs() != 3)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (node.rank(0) < 2)
    return node.error("needs an input [batch, channels, ...], but got " + describe(node.shape(0)));
  const bool isInstance = node.proto.op_type() == "InstanceNormalization";
  const int64_t channels = node.shape(0)[1], groups = isInstance ? channels : node.attribute("num_groups", int64_t(0));
  if (groups < 1 || channels % groups)
    return node.error("num_groups is " + Twine(groups) + ", but the input has " + Twine(channels) + " channels");
  FailureOr<Type> inside = statisticsType(node);
  if (failed(inside))
    return failure();
  const int64_t length = !isInstance && node.graph.opset < 21 ? groups : channels;
  for (int i = 0; i < 3; ++i)
    if (!isa<FloatType>(node.element(i)) || node.element(i) != node.element(0))
      return node.error("needs operands of one float type");
  for (int i = 1; i < 3; ++i)
    if (node.shape(i) != ArrayRef<int64_t>(length))
      return node.error("operand " + Twine(i) + " has shape " + describe(node.shape(i)) + ", expected " + describe(length));
  Value x = node.operand(0), scale = x ? node.operand(1) : Value(), bias = scale ? node.operand(2) : Value();
  if (!bias)
    return failure();
  Emit k(node);
  Value norm = normalizeGroups(node, k, k.cast(x, *inside), groups, node.attribute("epsilon", double(1e-5f)));
  norm = k.add(k.mul(norm, perChannel(node, k, k.cast(scale, *inside), groups)),
               perChannel(node, k, k.cast(bias, *inside), groups));
  node.result(0, k.cast(norm, node.element(0)));
  return success();
}

/// (x - mean) / (deviation + 1e-9) over `axes`, as ONNX's function writes it.
LogicalResult lowerMeanVarianceNormalization(NodeImporter &node) {
  if (!isa<FloatType>(node.element(0)))
    return node.error("needs a float operand");
  SmallVector<int64_t, 8> named = node.attributeInts("axes").value_or(SmallVector<int64_t, 8>{0, 2, 3});
  FailureOr<SmallVector<int64_t, 8>> axes = node.axes(named, node.rank(0));
  if (failed(axes))
    return failure();
  Value x = node.operand(0);
  if (!x)
    return failure();
  Emit k(node);
  Value centered = k.sub(x, k.mean(x, *axes));
  Value deviation = k.unary<train::SqrtOp>(k.mean(k.mul(centered, centered), *axes));
  node.result(0, k.div(centered, k.add(deviation, double(1e-9f))));
  return success();
}

} // namespace zopt::importer
