//===- OperatorsRandom.cpp - ONNX operators that draw random numbers -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All draw as Dropout does, from --seed and the sample's position in the global batch, so that they depend neither on
// ranks nor on recomputation; a node's own seed is not used. What has a shape and no operand draws for each sample
// where its first axis is the batch, and else the same for all.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

/// Numbers in [0, 1) in the shape of `like`.
static Value draw(Emit &emit, Value like, Type element) {
  return train::UniformOp::create(emit.b, emit.loc, RankedTensorType::get(Emit::shapeOf(like), element), like,
                                  ValueRange(), emit.b.getI64IntegerAttr(emit.node.graph.dropouts++),
                                  DenseI64ArrayAttr());
}

/// A value that tells the shape: operand 0, or zeros of a known shape.
static Value shapeOfResult(Emit &emit, bool isLike) {
  NodeImporter &node = emit.node;
  if (isLike && !node.constant(0))
    return node.operand(0);
  Shape shape;
  if (isLike) {
    shape.assign(node.shape(0).begin(), node.shape(0).end());
  } else {
    std::optional<SmallVector<int64_t, 8>> named = node.attributeInts("shape");
    if (!named) {
      (void)node.error("has no shape");
      return {};
    }
    shape.assign(named->begin(), named->end());
  }
  if (failed(emit.checkSize(shape)))
    return {};
  return emit.broadcast(emit.number(emit.b.getF32Type(), 0), shape);
}

static LogicalResult lowerMultinomial(NodeImporter &node) {
  const int32_t type = static_cast<int32_t>(node.attribute("dtype", int64_t(onnx::TensorProto::INT32)));
  const int64_t samples = node.attribute("sample_size", int64_t(1));
  if (failed(Emit(node).checkNotEmpty({0})))
    return failure();
  if (node.inputs() != 1 || node.rank(0) != 2 || !isa<FloatType>(node.element(0)) || samples < 1 ||
      (type != onnx::TensorProto::INT32 && type != onnx::TensorProto::INT64))
    return node.error("cannot draw " + Twine(samples) + " samples of " + describe(node.shape(0)) + " as " +
                      elementTypeName(type) + ": logarithms [batch, classes] and integers are expected");
  const Shape shape = {node.shape(0)[0], samples, node.shape(0)[1]};
  Emit emit(node);
  Value input = node.operand(0);
  if (!input || failed(emit.checkSize(shape)))
    return failure();
  // The largest of logarithms that have noise added is distributed as they say (Gumbel).
  Value logits = emit.broadcast(emit.reshape(input, {shape[0], 1, shape[2]}), shape);
  auto minusLog = [&](Value x) { return emit.unary<train::NegOp>(emit.unary<train::LogOp>(x)); };
  Value noise = minusLog(minusLog(draw(emit, logits, node.element(0))));
  Value drawn = emit.reshape(emit.argMax(emit.add(logits, noise), 2, /*last=*/false), {shape[0], samples});
  node.result(0, emit.cast(drawn, convertElementType(type, node.builder.getContext())));
  return success();
}

LogicalResult lowerRandom(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  if (op == "Multinomial")
    return lowerMultinomial(node);
  const bool isLike = op.ends_with("Like") || op == "Bernoulli";
  if (isLike && failed(Emit(node).checkNotEmpty({0})))
    return failure();
  if (isLike ? node.inputs() != 1 : node.inputs() != 0)
    return node.error("has " + Twine(node.inputs()) + " operands");
  Type element = isLike ? node.element(0) : Type(node.builder.getF32Type());
  if (node.find("dtype")) {
    const int32_t type = static_cast<int32_t>(node.attribute("dtype", int64_t(0)));
    element = convertElementType(type, node.builder.getContext());
    if (!element)
      return node.error("makes the element type " + elementTypeName(type) + ", which is not supported");
  }
  Emit emit(node);
  if (op == "Bernoulli") {
    if (!isa<FloatType>(node.element(0)))
      return node.error("needs a tensor of probabilities");
    Value probability = node.operand(0);
    if (!probability)
      return failure();
    // 1 is certain, also where the compute precision rounds a number that is drawn up to 1.
    Value hit =
        emit.logicalOr(emit.compare(ComparePredicate::lt, draw(emit, probability, node.element(0)), probability),
                       emit.compare(ComparePredicate::ge, probability, 1.0));
    node.result(0, emit.cast(hit, element));
    return success();
  }
  if (!isa<FloatType>(element))
    return node.error("must make floats");
  Value like = shapeOfResult(emit, isLike);
  if (!like)
    return failure();
  Value uniform = draw(emit, like, element);
  if (op.starts_with("RandomUniform")) {
    const double low = node.attribute("low", 0.0), high = node.attribute("high", 1.0);
    node.result(0, emit.add(emit.mul(uniform, high - low), low));
    return success();
  }
  // Box and Muller: a radius, of a number in (0, 1], and an angle.
  Value radius =
      emit.unary<train::SqrtOp>(emit.mul(emit.unary<train::LogOp>(emit.sub(emit.number(element, 1), uniform)), -2.0));
  Value normal = emit.mul(radius, emit.unary<train::CosOp>(emit.mul(draw(emit, like, element), 2 * M_PI)));
  node.result(0, emit.add(emit.mul(normal, node.attribute("scale", 1.0)), node.attribute("mean", 0.0)));
  return success();
}

} // namespace zopt::importer
