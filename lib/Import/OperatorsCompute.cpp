//===- OperatorsCompute.cpp - contractions, reductions, norms, attention --------===//
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

static LogicalResult needFloats(NodeImporter &node) {
  for (int i = 0; i < node.inputs(); ++i)
    if (node.has(i) && !isa<FloatType>(node.element(i)))
      return node.error("operand " + Twine(i) + " must be floats");
  return success();
}

/// lhs [..., m, k] times rhs [..., k, n]. Products of integers are no contraction of a library: they are spread out and summed.
static Value multiply(NodeImporter &node, Value lhs, Value rhs, ArrayRef<int64_t> result) {
  Emit k(node);
  if (isa<FloatType>(k.elementOf(lhs)))
    return train::MatmulOp::create(node.builder, node.loc, node.type(result, k.elementOf(lhs)), lhs, rhs, /*bias=*/Value(), false, false, APFloat(1.0));
  Shape a(k.shapeOf(lhs)), b(k.shapeOf(rhs)), spread(result);
  a.push_back(1);
  b.insert(b.end() - 2, 1);
  spread.insert(spread.end() - 1, a[a.size() - 2]);
  Value products = k.broadcast(k.mul(k.reshape(lhs, a), k.reshape(rhs, b)), spread);
  return k.reshape(k.sum(products, static_cast<int64_t>(spread.size()) - 2), result);
}

LogicalResult lowerMatMul(NodeImporter &node) {
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (node.element(0).isInteger(1))
    return node.error("needs numbers, but got bools");
  if (node.element(0) != node.element(1))
    return node.error("operands have different element types");
  Value lhs = node.operand(0), rhs = lhs ? node.operand(1) : Value();
  if (!rhs)
    return failure();
  Shape a(node.shape(0)), b(node.shape(1));
  const bool vectorA = a.size() == 1, vectorB = b.size() == 1;
  if (a.empty() || b.empty())
    return node.error("needs operands of at least one axis");
  if (vectorA)
    a.insert(a.begin(), 1);
  if (vectorB)
    b.push_back(1);
  std::optional<Shape> batch = broadcast(ArrayRef(a).drop_back(2), ArrayRef(b).drop_back(2));
  if (!batch || a.back() != b[b.size() - 2])
    return node.error("operands of shapes " + describe(node.shape(0)) + " and " + describe(node.shape(1)) + " cannot be multiplied");
  Shape shape = *batch;
  shape.push_back(a[a.size() - 2]);
  shape.push_back(b.back());
  Value result = multiply(node, node.reshape(lhs, a), node.reshape(rhs, b), shape);
  if (vectorA)
    shape.erase(shape.end() - 2);
  if (vectorB)
    shape.pop_back();
  node.result(0, node.reshape(result, shape));
  return success();
}

LogicalResult lowerGemm(NodeImporter &node) {
  if (node.inputs() < 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  for (int i = 1; i < node.inputs(); ++i)
    if (node.has(i) && node.element(i) != node.element(0))
      return node.error("operands have different element types");
  if (node.rank(0) != 2 || node.rank(1) != 2)
    return node.error("needs matrices, but got operands of shapes " + describe(node.shape(0)) + " and " + describe(node.shape(1)));
  const bool transposeA = node.attribute("transA", int64_t(0)) != 0, transposeB = node.attribute("transB", int64_t(0)) != 0;
  const int64_t m = node.shape(0)[transposeA], k = node.shape(0)[!transposeA], n = node.shape(1)[!transposeB];
  if (k != node.shape(1)[transposeB])
    return node.error("operands of shapes " + describe(node.shape(0)) + " and " + describe(node.shape(1)) + (transposeA ? " (transA)" : "") + (transposeB ? " (transB)" : "") + " cannot be multiplied");
  const double alpha = node.attribute("alpha", 1.0), beta = node.attribute("beta", 1.0);
  Value lhs = node.operand(0), rhs = lhs ? node.operand(1) : Value(), bias, addend;
  if (!rhs)
    return failure();
  const bool isFloat = isa<FloatType>(node.element(0));
  if (!isFloat && (alpha != std::trunc(alpha) || beta != std::trunc(beta)))
    return node.error("alpha is " + std::to_string(alpha) + " and beta " + std::to_string(beta) + ", but integers have integral factors");
  Emit compose(node);
  if (node.has(2) && beta != 0) {
    std::optional<Shape> both = broadcast(node.shape(2), {m, n});
    if (!both || *both != Shape({m, n}))
      return node.error("C of shape " + describe(node.shape(2)) + " does not broadcast to " + describe({m, n}));
    Value c = node.operand(2);
    if (!c)
      return failure();
    c = compose.mul(c, beta);
    const bool vector = isFloat && countElements(node.shape(2)) == n && node.rank(2) >= 1 && node.shape(2).back() == n;
    (vector ? bias : addend) = vector ? node.reshape(c, {n}) : c;
  }
  Value result;
  if (isFloat)
    result = train::MatmulOp::create(node.builder, node.loc, node.type({m, n}, node.element(0)), lhs, rhs, bias, transposeA, transposeB, APFloat(alpha));
  else
    result = compose.mul(multiply(node, transposeA ? compose.transpose(lhs, {1, 0}) : lhs, transposeB ? compose.transpose(rhs, {1, 0}) : rhs, {m, n}), alpha);
  if (addend)
    result = node.binary<train::AddOp>(result, addend);
  node.result(0, result);
  return success();
}

/// Rows of a norm over the axes from `axis` on: the input as [.., row], scale and bias as vectors. Norms of the last axis, the usual case, reshape nothing.
namespace {
struct Rows {
  Value input, scale, bias;
  int64_t size;
};
} // namespace

static FailureOr<Rows> normRows(NodeImporter &node) {
  const int64_t rank = node.rank(0);
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(-1)), rank);
  if (failed(axis) || failed(needFloats(node)))
    return failure();
  Shape outer(node.shape(0).take_front(*axis));
  const int64_t size = countElements(node.shape(0).drop_front(*axis));
  outer.push_back(size);
  Rows rows;
  rows.size = size;
  Value *vectors[] = {nullptr, &rows.scale, &rows.bias};
  rows.input = node.operand(0);
  if (!rows.input)
    return failure();
  rows.input = node.reshape(rows.input, outer);
  for (int i = 1; i <= 2; ++i) {
    if (!node.has(i))
      continue;
    std::optional<Shape> both = broadcast(node.shape(i), node.shape(0).drop_front(*axis));
    if (!both || ArrayRef(*both) != node.shape(0).drop_front(*axis))
      return node.error("operand " + Twine(i) + " of shape " + describe(node.shape(i)) + " does not fit the normalized axes " + describe(node.shape(0).drop_front(*axis)));
    Value value = node.operand(i);
    if (!value)
      return failure();
    *vectors[i] = node.reshape(node.broadcastTo(value, *both), {size});
  }
  return rows;
}

FailureOr<Type> statisticsType(NodeImporter &node) {
  const int64_t stash = node.attribute("stash_type", int64_t(1));
  Type type = convertElementType(static_cast<int32_t>(stash), node.builder.getContext());
  if (!type || !isa<FloatType>(type))
    return node.error("stash_type is " + elementTypeName(static_cast<int32_t>(stash)) +
                      ", but it must be a float type");
  return type.isF64() ? type : node.element(0);
}

LogicalResult lowerLayerNormalization(NodeImporter &node) {
  if (node.inputs() < 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  FailureOr<Type> inside = statisticsType(node);
  FailureOr<Rows> rows = failed(inside) ? FailureOr<Rows>(failure()) : normRows(node);
  if (failed(rows))
    return failure();
  for (Value *value : {&rows->input, &rows->scale, &rows->bias})
    if (*value)
      *value = train::cast(node.builder, node.loc, *value, *inside);
  auto type = cast<RankedTensorType>(rows->input.getType());
  RankedTensorType statistics = node.type(type.getShape().drop_back(), train::getComputeType(type.getElementType()));
  auto norm = train::LayerNormOp::create(node.builder, node.loc, type, statistics, statistics, rows->input, rows->scale, rows->bias, APFloat(node.attribute("epsilon", double(1e-5f))));
  node.result(0, node.reshape(train::cast(node.builder, node.loc, norm.getResult(), node.element(0)), node.shape(0)));
  // Mean and InvStdDev keep the normalized axes with size 1.
  Shape kept(node.shape(0));
  const int64_t axis = *node.axis(node.attribute("axis", int64_t(-1)), node.rank(0));
  std::fill(kept.begin() + axis, kept.end(), 1);
  if (node.wants(1))
    node.result(1, node.reshape(norm.getMean(), kept));
  if (node.wants(2))
    node.result(2, node.reshape(norm.getRstd(), kept));
  return success();
}

LogicalResult lowerRMSNormalization(NodeImporter &node) {
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  FailureOr<Type> inside = statisticsType(node);
  FailureOr<Rows> rows = failed(inside) ? FailureOr<Rows>(failure()) : normRows(node);
  if (failed(rows))
    return failure();
  for (Value *value : {&rows->input, &rows->scale, &rows->bias})
    if (*value)
      *value = train::cast(node.builder, node.loc, *value, *inside);
  auto type = cast<RankedTensorType>(rows->input.getType());
  RankedTensorType statistics = node.type(type.getShape().drop_back(), train::getComputeType(type.getElementType()));
  auto norm = train::RMSNormOp::create(node.builder, node.loc, type, statistics, rows->input, rows->scale, APFloat(node.attribute("epsilon", double(1e-5f))));
  node.result(0, node.reshape(train::cast(node.builder, node.loc, norm.getResult(), node.element(0)), node.shape(0)));
  return success();
}

/// [B, T, H * D] as [B, H, T, D].
static Value splitHeads(NodeImporter &node, Value value, int64_t heads) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(value.getType()).getShape();
  return node.transpose(node.reshape(value, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

static Value mergeHeads(NodeImporter &node, Value value) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(value.getType()).getShape();
  return node.reshape(node.transpose(value, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
}

LogicalResult lowerRotaryEmbedding(NodeImporter &node) {
  if (node.inputs() < 3 || node.inputs() > 4)
    return node.error("has " + Twine(node.inputs()) + " operands");
  const int64_t rank = node.rank(0), heads = node.attribute("num_heads", int64_t(0));
  if (rank != 4 && !(rank == 3 && heads > 0 && node.shape(0)[2] % heads == 0))
    return node.error("needs an input [batch, heads, length, size], or [batch, length, heads * size] with num_heads, but got " + describe(node.shape(0)));
  if (!isa<FloatType>(node.element(0)) || node.element(1) != node.element(0) || node.element(2) != node.element(0) || node.shape(1) != node.shape(2))
    return node.error("needs cos and sin caches of one shape and of the input's element type");
  Value input = node.operand(0), cos = input ? node.operand(1) : Value(), sin = cos ? node.operand(2) : Value();
  if (!sin)
    return failure();
  if (rank == 3)
    input = splitHeads(node, input, heads);
  Shape shape(cast<RankedTensorType>(input.getType()).getShape());
  const int64_t size = shape[3], asked = node.attribute("rotary_embedding_dim", int64_t(0)), rotated = asked ? asked : size;
  if (rotated < 2 || rotated % 2 || rotated > size)
    return node.error("rotary_embedding_dim is " + Twine(rotated) + ", but heads have " + Twine(size) + " elements");
  if (node.has(3)) {
    // Caches by position: [positions, size / 2], read at position_ids [batch, length].
    Value positions = node.operand(3);
    if (!positions)
      return failure();
    if (node.rank(1) != 2 || node.rank(3) != 2 || isa<FloatType>(node.element(3)))
      return node.error("needs caches [positions, size / 2] and position_ids [batch, length]");
    const Shape read{node.shape(3)[0], node.shape(3)[1], node.shape(1)[1]};
    cos = train::GatherOp::create(node.builder, node.loc, node.type(read, node.element(1)), cos, positions, 0);
    sin = train::GatherOp::create(node.builder, node.loc, node.type(read, node.element(1)), sin, positions, 0);
  }
  // The caches' batch may be 1 (PyTorch writes it so).
  ArrayRef<int64_t> cache = cast<RankedTensorType>(cos.getType()).getShape();
  if (cache.size() != 3 || (cache[0] != 1 && cache[0] != shape[0]) || cache[1] != shape[2] || cache[2] != rotated / 2)
    return node.error("cos and sin of shape " + describe(cache) + " do not fit heads " + describe(shape));
  const Shape spread{cache[0], 1, cache[1], cache[2]};
  cos = node.reshape(cos, spread);
  sin = node.reshape(sin, spread);
  const bool interleaved = node.attribute("interleaved", int64_t(0)) != 0;
  Value rotatedPart = input, rest;
  const Shape zeros(4, 0), ones(4, 1);
  if (rotated < size) {
    Shape head = shape, tail = shape, starts = zeros;
    head[3] = rotated;
    tail[3] = size - rotated;
    starts[3] = rotated;
    rotatedPart = train::SliceOp::create(node.builder, node.loc, node.type(head, node.element(0)), input, zeros, ones);
    rest = train::SliceOp::create(node.builder, node.loc, node.type(tail, node.element(0)), input, starts, ones);
  }
  Value result = train::RotaryOp::create(node.builder, node.loc, rotatedPart.getType(), rotatedPart, cos, sin, interleaved, /*inverse=*/false);
  if (rest)
    result = train::ConcatOp::create(node.builder, node.loc, node.type(shape, node.element(0)), ValueRange{result, rest}, 3);
  node.result(0, rank == 3 ? mergeHeads(node, result) : result);
  return success();
}

} // namespace zopt::importer
