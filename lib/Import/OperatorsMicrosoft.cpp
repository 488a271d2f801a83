//===- OperatorsMicrosoft.cpp - operators that ONNX Runtime's optimizer writes ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Of the domain com.microsoft: fusions of standard operators, which mean what the operators did.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace zopt::importer {

using Predicate = train::ComparePredicate;

/// Reports operands that are no floats of one type.
static LogicalResult needOneFloatType(NodeImporter &node, int count) {
  for (int i = 0; i < std::min(count, node.inputs()); ++i)
    if (node.has(i) && (!isa<FloatType>(node.element(i)) || node.element(i) != node.element(0)))
      return node.error("operand " + Twine(i) + " must be floats of the first operand's type");
  return success();
}

LogicalResult lowerFusedMatMul(NodeImporter &node) {
  if (node.inputs() != 2 || !node.has(0) || !node.has(1))
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (failed(needOneFloatType(node, 2)))
    return failure();
  for (StringRef flag : {"transBatchA", "transBatchB"})
    if (node.attribute(flag, int64_t(0)) != 0)
      return node.error(flag + " is not supported");
  if (node.rank(0) < 2 || node.rank(1) < 2)
    return node.error("needs operands of at least two axes, but got " + describe(node.shape(0)) + " and " + describe(node.shape(1)));
  const bool transposeA = node.attribute("transA", int64_t(0)) != 0, transposeB = node.attribute("transB", int64_t(0)) != 0;
  ArrayRef<int64_t> a = node.shape(0), b = node.shape(1);
  std::optional<Shape> shape = broadcast(a.drop_back(2), b.drop_back(2));
  if (!shape || a[a.size() - (transposeA ? 2 : 1)] != b[b.size() - (transposeB ? 1 : 2)])
    return node.error("operands of shapes " + describe(a) + (transposeA ? " (transA)" : "") + " and " + describe(b) + (transposeB ? " (transB)" : "") + " cannot be multiplied");
  shape->push_back(a[a.size() - (transposeA ? 1 : 2)]);
  shape->push_back(b[b.size() - (transposeB ? 2 : 1)]);
  Value lhs = node.operand(0), rhs = lhs ? node.operand(1) : Value();
  if (!rhs)
    return failure();
  node.result(0, train::MatmulOp::create(node.builder, node.loc, node.type(*shape, node.element(0)), lhs, rhs, /*bias=*/Value(), transposeA, transposeB, APFloat(node.attribute("alpha", 1.0))));
  return success();
}

/// Gelu, BiasGelu (by erf) and FastGelu (by tanh), the last two of an input plus a bias.
LogicalResult lowerMicrosoftGelu(NodeImporter &node) {
  if (node.inputs() < 1 || node.inputs() > 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (failed(needOneFloatType(node, 2)))
    return failure();
  Value x = node.operand(0);
  if (x && node.has(1)) {
    if (broadcast(node.shape(0), node.shape(1)) != std::optional<Shape>(Shape(node.shape(0))))
      return node.error("a bias of shape " + describe(node.shape(1)) + " does not broadcast to " + describe(node.shape(0)));
    Value bias = node.broadcastingOperand(1);
    x = bias ? Emit(node).add(x, bias) : Value();
  }
  if (!x)
    return failure();
  const auto form = node.proto.op_type() == "FastGelu" ? train::GeluApproximation::tanh : train::GeluApproximation::none;
  node.result(0, train::GeluOp::create(node.builder, node.loc, x.getType(), x, form));
  return success();
}

/// A vector of the last axis' size, if operand i is one and can be had.
static FailureOr<Value> lastAxisVector(NodeImporter &node, int i) {
  if (!node.has(i))
    return Value();
  if (node.shape(i) != node.shape(0).take_back(1))
    return node.error("operand " + Twine(i) + " has shape " + describe(node.shape(i)) + ", expected " + describe(node.shape(0).take_back(1)));
  Value value = node.operand(i);
  return value ? FailureOr<Value>(value) : FailureOr<Value>(failure());
}

/// SkipLayerNormalization, SkipSimplifiedLayerNormalization: the norm over the last axis of input + skip (+ bias), and that sum.
LogicalResult lowerSkipNormalization(NodeImporter &node) {
  const bool simplified = node.proto.op_type() == "SkipSimplifiedLayerNormalization";
  const int biasIndex = simplified ? 3 : 4;
  if (node.inputs() < 3)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (failed(needOneFloatType(node, 5)))
    return failure();
  if (node.wants(1) || node.wants(2))
    return node.error("the outputs mean and inv_std_var are not supported");
  if (node.rank(0) < 1 || broadcast(node.shape(0), node.shape(1)) != std::optional<Shape>(Shape(node.shape(0))))
    return node.error("a skip of shape " + describe(node.shape(1)) + " does not broadcast to " + describe(node.shape(0)));
  FailureOr<Value> gamma = lastAxisVector(node, 2), beta = simplified ? FailureOr<Value>(Value()) : lastAxisVector(node, 3), bias = lastAxisVector(node, biasIndex);
  Value x = node.operand(0), skip = x ? node.operand(1) : Value();
  if (failed(gamma) || failed(beta) || failed(bias) || !skip)
    return failure();
  Emit k(node);
  Value sum = k.add(x, skip);
  if (*bias)
    sum = k.add(sum, *bias);
  const double epsilon = node.attribute("epsilon", double(1e-12f));
  RankedTensorType statistics = node.type(node.shape(0).drop_back(), train::getComputeType(node.element(0)));
  if (simplified)
    node.result(0, train::RMSNormOp::create(node.builder, node.loc, sum.getType(), statistics, sum, *gamma, APFloat(epsilon)).getResult());
  else
    node.result(0, train::LayerNormOp::create(node.builder, node.loc, sum.getType(), statistics, statistics, sum, *gamma, *beta, APFloat(epsilon)).getResult());
  node.result(3, sum);
  return success();
}

/// Norms of the last axis by root mean square: RMSNormalization under its older name.
LogicalResult lowerSimplifiedLayerNormalization(NodeImporter &node) {
  if (node.wants(1))
    return node.error("the output inv_std_var is not supported");
  return lowerRMSNormalization(node);
}

/// [batch, length, heads * size] as [batch, heads, length, size].
static Value splitHeads(Emit &k, Value x, int64_t heads) {
  ArrayRef<int64_t> shape = k.shapeOf(x);
  return k.transpose(k.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}
static Value mergeHeads(Emit &k, Value x) {
  ArrayRef<int64_t> shape = k.shapeOf(x);
  return k.reshape(k.transpose(x, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
}

/// com.microsoft.RotaryEmbedding: (input, position_ids, cos_cache, sin_cache).
LogicalResult lowerMicrosoftRotary(NodeImporter &node) {
  if (node.inputs() != 4)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (!isa<FloatType>(node.element(0)) || node.element(2) != node.element(0) || node.element(3) != node.element(0) || node.rank(2) != 2 || node.shape(2) != node.shape(3) || isa<FloatType>(node.element(1)))
    return node.error("needs caches [positions, size / 2] of the input's type and integer positions");
  const int64_t asked = node.attribute("rotary_embedding_dim", int64_t(0));
  int64_t heads = node.attribute("num_heads", int64_t(0));
  if (node.rank(0) == 3 && heads == 0 && asked == 0)
    heads = node.shape(0)[2] / (2 * node.shape(2)[1]);
  if (node.rank(0) != 4 && !(node.rank(0) == 3 && heads > 0 && node.shape(0)[2] % heads == 0))
    return node.error("needs an input [batch, heads, length, size], or [batch, length, heads * size] with num_heads, but got " + describe(node.shape(0)));
  Emit k(node);
  Value x = node.operand(0), positions = x ? node.operand(1) : Value(), cos = positions ? node.operand(2) : Value(), sin = cos ? node.operand(3) : Value();
  if (!sin)
    return failure();
  if (node.rank(0) == 3)
    x = splitHeads(k, x, heads);
  const Shape shape(k.shapeOf(x));
  const int64_t size = shape[3], rotated = 2 * node.shape(2)[1];
  if (rotated > size || (asked && asked != rotated))
    return node.error("caches " + describe(node.shape(2)) + " do not fit heads of " + Twine(size) + " elements and rotary_embedding_dim " + Twine(asked));
  Shape tables;
  if (countElements(node.shape(1)) == 1) { // the first position
    std::optional<Scalar> first = node.constant(1) ? node.constant(1)->asSplat() : std::nullopt;
    if (!first || first->integer < 0 || first->integer + shape[2] > node.shape(2)[0])
      return node.error("a single position must be known when the model is imported, and caches must reach " + Twine(shape[2]) + " positions further");
    cos = k.slice(cos, 0, first->integer, shape[2]);
    sin = k.slice(sin, 0, first->integer, shape[2]);
    tables = {1, 1, shape[2], rotated / 2};
  } else {
    if (node.shape(1) != ArrayRef<int64_t>({shape[0], shape[2]}))
      return node.error("positions of shape " + describe(node.shape(1)) + " do not fit an input " + describe(node.shape(0)));
    if (node.element(1).isUnsignedInteger())
      positions = k.cast(positions, node.builder.getI64Type());
    const Shape read{shape[0], shape[2], rotated / 2};
    cos = train::GatherOp::create(node.builder, node.loc, node.type(read, node.element(0)), cos, positions, 0);
    sin = train::GatherOp::create(node.builder, node.loc, node.type(read, node.element(0)), sin, positions, 0);
    tables = {shape[0], 1, shape[2], rotated / 2};
  }
  cos = k.reshape(cos, tables);
  sin = k.reshape(sin, tables);
  Value part = k.slice(x, 3, 0, rotated);
  Value result = train::RotaryOp::create(node.builder, node.loc, part.getType(), part, cos, sin, node.attribute("interleaved", int64_t(0)) != 0, /*inverse=*/false);
  if (rotated < size)
    result = k.concat({result, k.slice(x, 3, rotated, size - rotated)}, 3);
  node.result(0, node.rank(0) == 3 ? mergeHeads(k, result) : result);
  return success();
}

/// MultiHeadAttention of separate queries, keys and values, with no past: (query, key, value, bias, key_padding_mask, attention_bias).
LogicalResult lowerMultiHeadAttention(NodeImporter &node) {
  if (node.inputs() < 3 || !node.has(1) || !node.has(2))
    return node.error("packed queries, keys and values are not supported");
  for (int i = 6; i < node.inputs(); ++i)
    if (node.has(i))
      return node.error("past keys and values are not supported");
  for (int i = 1; i < node.proto.output_size(); ++i)
    if (node.wants(i))
      return node.error("present keys and values and the scores' output are not supported");
  const int64_t heads = node.attribute("num_heads", int64_t(0));
  Value values[3];
  Emit k(node);
  for (int i = 0; i < 3; ++i) {
    if (!isa<FloatType>(node.element(i)) || node.element(i) != node.element(0) || (node.rank(i) != 3 && !(i > 0 && node.rank(i) == 4)))
      return node.error("needs queries, keys and values [batch, length, size] of one float type, but operand " + Twine(i) + " is " + describe(node.shape(i)));
    if (node.rank(i) == 3 && (heads < 1 || node.shape(i)[2] % heads))
      return node.error("num_heads is " + Twine(heads) + ", but operand " + Twine(i) + " is " + describe(node.shape(i)));
    if (!(values[i] = node.operand(i)))
      return failure();
  }
  if (node.has(3)) { // of all three, one after the other
    int64_t sizes = 0;
    for (int i = 0; i < 3; ++i)
      sizes += node.rank(i) == 3 ? node.shape(i)[2] : 0;
    if (node.rank(1) != 3 || node.rank(2) != 3 || node.shape(3) != ArrayRef<int64_t>(sizes))
      return node.error("a bias of shape " + describe(node.shape(3)) + " does not fit queries, keys and values of " + Twine(sizes) + " columns together");
    Value bias = node.operand(3);
    if (!bias)
      return failure();
    for (int64_t i = 0, at = 0; i < 3; at += node.shape(i)[2], ++i)
      values[i] = k.add(values[i], k.slice(bias, 0, at, node.shape(i)[2]));
  }
  for (Value &value : values)
    if (k.rankOf(value) == 3)
      value = splitHeads(k, value, heads);
  const Shape q(k.shapeOf(values[0])), key(k.shapeOf(values[1])), v(k.shapeOf(values[2]));
  if (key[0] != q[0] || v[0] != q[0] || key[1] != q[1] || v[1] != q[1] || key[2] != v[2] || key[3] != q[3])
    return node.error("queries " + describe(q) + ", keys " + describe(key) + " and values " + describe(v) + " do not fit");
  const Shape scores{q[0], q[1], q[2], key[2]};
  Value mask;
  if (node.has(4)) { // 1 where a key is seen
    if (node.shape(4) != ArrayRef<int64_t>({q[0], key[2]}) || isa<FloatType>(node.element(4)))
      return node.error("key_padding_mask of shape " + describe(node.shape(4)) + " is not supported: integers [batch, keys] are");
    Value padding = node.operand(4);
    if (!padding)
      return failure();
    mask = k.reshape(k.compare(Predicate::ne, padding, 0.0), {q[0], 1, 1, key[2]});
  }
  if (node.has(5)) { // added to the scores
    std::optional<Shape> both = broadcast(node.shape(5), scores);
    if (!both || *both != scores || node.element(5) != node.element(0))
      return node.error("attention_bias of shape " + describe(node.shape(5)) + " does not fit scores " + describe(scores));
    Value added = node.broadcastingOperand(5);
    if (!added)
      return failure();
    mask = mask ? k.select(mask, added, k.c(added, -std::numeric_limits<double>::infinity())) : added;
  }
  const bool causal = node.attribute("unidirectional", int64_t(0)) != 0;
  if (causal && q[2] != key[2])
    return node.error("unidirectional with " + Twine(q[2]) + " queries and " + Twine(key[2]) + " keys is not supported");
  const double asked = node.attribute("scale", 0.0), scale = asked != 0 ? asked : 1 / std::sqrt(static_cast<double>(q[3]));
  auto attention = train::AttentionOp::create(node.builder, node.loc, node.type({q[0], q[1], q[2], v[3]}, node.element(0)), node.type({q[0], q[1], q[2]}, train::getComputeType(node.element(0))), values[0],
                                              values[1], values[2], mask, APFloat(scale), causal);
  node.result(0, mergeHeads(k, attention.getResult()));
  return success();
}

} // namespace zopt::importer
