//===- OperatorsFlexAttention.cpp - attention with bodies of its own ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ai.onnx.preview's FlexAttention: its bodies, score_mod and prob_mod, are imported in the place where they stand, as
// branches of If are. What they make of the scores is raised to attention later where it is a mask or a bias.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

/// What the body of that name makes of `value`, which it may not change in shape and type; the value itself where there
/// is none.
static FailureOr<Value> modify(NodeImporter &node, StringRef name, Value value) {
  if (!node.find(name))
    return value;
  const onnx::GraphProto *body = node.graph.body(node.proto, name);
  if (!body || body->input_size() != 1 || body->output_size() != 1)
    return node.error("attribute '" + name + "' must be a graph of one input and one output");
  Tensor given;
  given.element = Emit::elementOf(value);
  given.shape.assign(Emit::shapeOf(value).begin(), Emit::shapeOf(value).end());
  given.value = value;
  SmallVector<Tensor *> outputs;
  if (!node.graph.importBody(*body, scopeOf(node) + "/" + name.str(), {node.graph.hide(std::move(given))}, outputs))
    return failure();
  const Tensor &made = *outputs[0];
  if (!made.element)
    return failure(); // its error was reported
  if (made.element != Emit::elementOf(value) || ArrayRef(made.shape) != Emit::shapeOf(value))
    return node.error("'" + name + "' makes " + describe(made.shape) + " of " + describe(Emit::shapeOf(value)) +
                      ", or changes its element type");
  Value result = node.graph.materialize(*outputs[0], /*full=*/true);
  if (!result)
    return failure();
  return result;
}

LogicalResult lowerFlexAttention(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1, 2})))
    return failure();
  bool fits = node.inputs() == 3;
  for (int i = 0; i < 3 && fits; ++i)
    fits = node.rank(i) == 4 && isa<FloatType>(node.element(i)) && node.element(i) == node.element(0);
  ArrayRef<int64_t> q = node.shape(0), k = node.shape(1), v = node.shape(2);
  if (!fits || q[0] != k[0] || q[0] != v[0] || q[3] != k[3] || k[1] != v[1] || k[2] != v[2] || q[1] % k[1] != 0)
    return node.error("queries " + describe(q) + ", keys " + describe(k) + " and values " + describe(v) +
                      " do not fit: floats [batch, heads, length, size] are expected");
  const Type element = node.element(0);
  Type inside = element; // of scores and probabilities; halves compute in fp32 anyway
  if (node.find("softmax_precision")) {
    const int64_t precision = node.attribute("softmax_precision", int64_t(0));
    inside = convertElementType(static_cast<int32_t>(precision), node.builder.getContext());
    if (!inside || !isa<FloatType>(inside))
      return node.error("softmax_precision is " + elementTypeName(static_cast<int32_t>(precision)) +
                        ", but it must be a float type");
  }
  Value query = node.operand(0), key = query ? node.operand(1) : Value(), value = key ? node.operand(2) : Value();
  if (!value)
    return failure();
  Emit emit(node);
  const APFloat scale(node.attribute("scale", 1.0 / std::sqrt(static_cast<double>(q[3]))));
  const RankedTensorType result = node.type({q[0], q[1], q[2], v[3]}, element);
  if (inside == element && !node.find("score_mod") && !node.find("prob_mod")) {
    auto attention = train::AttentionOp::create(node.builder, node.loc, result,
                                                node.type({q[0], q[1], q[2]}, train::getComputeType(element)), query,
                                                key, value, /*mask=*/Value(), scale, /*causal=*/false);
    node.result(0, attention.getResult());
    return success();
  }
  Value scores = train::MatmulOp::create(node.builder, node.loc, node.type({q[0], q[1], q[2], k[2]}, element), query,
                                         emit.repeatHeads(key, q[1]), /*bias=*/Value(), false, true, scale);
  FailureOr<Value> changed = modify(node, "score_mod", emit.cast(scores, inside));
  if (failed(changed))
    return failure();
  changed = modify(node, "prob_mod", emit.unary<train::SoftmaxOp>(*changed));
  if (failed(changed))
    return failure();
  node.result(0, train::MatmulOp::create(node.builder, node.loc, result, emit.cast(*changed, element), emit.repeatHeads(value, q[1]),
                                         /*bias=*/Value(), false, false, APFloat(1.0)));
  return success();
}

} // namespace zopt::importer
