//===- OperatorsAttention.cpp - Attention -----------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// train.attention where it says all that the node does; products and a softmax where scores are soft-capped, are an
// output, or have a bias that trains.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include "llvm/ADT/SetVector.h"
#include <cmath>

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

namespace {

class AttentionImporter {
public:
  explicit AttentionImporter(NodeImporter &node) : node(node), emit(node), element(node.element(0)) {}
  LogicalResult run();

private:
  LogicalResult readOperands();
  LogicalResult readMasks();
  /// Positions that the causal rule, the window and padded lengths show, or null.
  FailureOr<Value> visiblePositions();
  Value offsetOfQueries();
  void both(Value &visible, Value other) { visible = visible ? emit.logicalAnd(visible, other) : other; }
  /// The scores' softmax and product written out; sets the scores' output.
  FailureOr<Value> writeOut();
  Value merge(Value heads) {
    const Shape shape(Emit::shapeOf(heads));
    return emit.reshape(emit.transpose(heads, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
  }

  NodeImporter &node;
  Emit emit;
  Type element;
  Value query, key, value, visible, bias;
  Shape q, k, v;
  int64_t past = 0;
  bool causal = false; ///< left to train.attention
  double scale = 1, softcap = 0;
};

} // namespace

LogicalResult AttentionImporter::readOperands() {
  if (node.inputs() < 3)
    return node.error("has " + Twine(node.inputs()) + " operands");
  if (failed(emit.checkNotEmpty({0, 1, 2, 4, 5})))
    return failure();
  for (int i = 0; i < 3; ++i)
    if (!node.has(i) || !isa<FloatType>(node.element(i)) || (i == 1 && node.element(i) != element) ||
        node.rank(i) != node.rank(0) || (node.rank(i) != 3 && node.rank(i) != 4))
      return node.error("needs queries and keys of one float type, and values, with three or four axes each");
  Value values[3];
  for (int i = 0; i < 3; ++i) {
    if (!(values[i] = node.operand(i)))
      return failure();
    values[i] = emit.cast(values[i], element);
    if (node.rank(0) == 4)
      continue;
    const char *name = i == 0 ? "q_num_heads" : "kv_num_heads";
    const int64_t heads = node.attribute(name, int64_t(0));
    const Shape shape(node.shape(i));
    if (heads < 1 || shape[2] % heads)
      return node.error(Twine(name) + " is " + Twine(heads) + ", but operand " + Twine(i) + " is " + describe(shape));
    values[i] = emit.transpose(emit.reshape(values[i], {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
  }
  if (node.has(4) != node.has(5) || (node.has(6) && node.has(4)))
    return node.error("needs past keys and values together, and without padded lengths");
  for (int i = 4; i <= 5 && node.has(i); ++i) {
    Value cache = node.operand(i), &present = values[i - 3];
    if (!cache)
      return failure();
    const Shape a(node.shape(i)), b(Emit::shapeOf(present));
    if (a.size() != 4 || node.element(i) != node.element(i == 4 ? 1 : 2) || a[0] != b[0] || a[1] != b[1] ||
        a[3] != b[3] || a[2] != node.shape(4)[2])
      return node.error(Twine(i == 4 ? "past keys " : "past values ") + describe(a) + " do not fit " + describe(b));
    past = a[2];
    present = emit.concat({emit.cast(cache, element), present}, 2);
  }
  query = values[0];
  key = values[1];
  value = values[2];
  q.assign(Emit::shapeOf(query).begin(), Emit::shapeOf(query).end());
  k.assign(Emit::shapeOf(key).begin(), Emit::shapeOf(key).end());
  v.assign(Emit::shapeOf(value).begin(), Emit::shapeOf(value).end());
  if (k[0] != q[0] || v[0] != q[0] || k[1] != v[1] || q[1] % k[1] || k[2] != v[2] || k[3] != q[3])
    return node.error("queries " + describe(q) + ", keys " + describe(k) + " and values " + describe(v) +
                      " do not fit");
  node.result(1, key);
  node.result(2, emit.cast(value, node.element(2)));
  return success();
}

/// How many keys come before the first query: a number, or [B, 1, 1, 1].
Value AttentionImporter::offsetOfQueries() {
  if (!node.has(6))
    return emit.number(past);
  Value lengths = node.operand(6);
  return lengths ? emit.sub(emit.reshape(emit.cast(lengths, emit.i64), {q[0], 1, 1, 1}), emit.number(q[2])) : lengths;
}

FailureOr<Value> AttentionImporter::visiblePositions() {
  Value result;
  const bool isCausal = node.attribute("is_causal", int64_t(0)) != 0;
  const int64_t left = node.attribute("left_window_size", int64_t(-1)),
                right = node.attribute("right_window_size", int64_t(-1));
  if (left < -1 || right < -1)
    return node.error("has windows of " + Twine(left) + " and " + Twine(right) + ", expected at least -1");
  if (node.has(6) && (!isa<IntegerType>(node.element(6)) || node.shape(6) != ArrayRef<int64_t>({q[0]})))
    return node.error("nonpad_kv_seqlen is " + describe(node.shape(6)) + ", expected an integer for each of " +
                      Twine(q[0]) + " sequences");
  causal = isCausal && !node.has(6) && q[2] + past == k[2];
  if ((isCausal && !causal) || left >= 0 || right >= 0) {
    Value offset = offsetOfQueries();
    if (!offset)
      return failure();
    Value row = emit.add(emit.iota(4, 2, q[2]), offset), column = emit.iota(4, 3, k[2]);
    if (isCausal && !causal)
      both(result, emit.compare(ComparePredicate::le, column, row));
    if (left >= 0)
      both(result, emit.compare(ComparePredicate::ge, column, emit.sub(row, emit.number(left))));
    if (right >= 0)
      both(result, emit.compare(ComparePredicate::le, column, emit.add(row, emit.number(right))));
  }
  if (node.has(6)) {
    Value lengths = node.operand(6);
    if (!lengths)
      return failure();
    both(result, emit.compare(ComparePredicate::lt, emit.iota(4, 3, k[2]),
                              emit.reshape(emit.cast(lengths, emit.i64), {q[0], 1, 1, 1})));
  }
  return result;
}

LogicalResult AttentionImporter::readMasks() {
  FailureOr<Value> positions = visiblePositions();
  if (failed(positions))
    return failure();
  visible = *positions;
  if (!node.has(3))
    return success();
  const bool truth = node.element(3).isInteger(1);
  Shape shape(node.shape(3));
  const Shape scores = {q[0], q[1], q[2], k[2]};
  const int64_t lacks = shape.empty() ? 0 : k[2] - shape.back();
  const bool padded = lacks > 0 && shape.back() != 1; // keys that the mask does not reach are hidden
  if (padded)
    shape.back() = k[2];
  std::optional<Shape> fits = broadcast(shape, scores);
  if (!fits || *fits != scores)
    return node.error("a mask " + describe(node.shape(3)) + " does not fit scores " + describe(scores));
  Value mask = padded ? node.operand(3) : node.broadcastingOperand(3);
  if (!mask)
    return failure();
  if (!truth) // is added
    mask = emit.cast(mask, element);
  if (padded) {
    Shape rest(node.shape(3));
    rest.back() = lacks;
    mask = emit.concat(
        {mask, emit.broadcast(truth ? emit.number(node.element(3), 0) : emit.number(element, -INFINITY), rest)},
        rest.size() - 1);
  }
  if (truth)
    both(visible, mask);
  else
    bias = mask;
  return success();
}

/// Whether a value is computed from a parameter: then it trains.
static bool dependsOnParameter(Value value) {
  llvm::SmallSetVector<Value, 16> pending;
  pending.insert(value);
  for (size_t i = 0; i < pending.size(); ++i) {
    Operation *op = pending[i].getDefiningOp();
    if (!op)
      continue;
    if (isa<train::ReadStateOp>(op))
      return true;
    for (Value operand : op->getOperands())
      pending.insert(operand);
  }
  return false;
}

FailureOr<Value> AttentionImporter::writeOut() {
  const int64_t mode = node.attribute("qk_matmul_output_mode", int64_t(0));
  if (mode < 0 || mode > 3)
    return node.error("qk_matmul_output_mode is " + Twine(mode) + ", but it must be between 0 and 3");
  const Shape shape = {q[0], q[1], q[2], k[2]};
  Value scores = train::MatmulOp::create(node.builder, node.loc, node.type(shape, element), query, emit.repeatHeads(key, q[1]),
                                         /*bias=*/Value(), false, true, APFloat(scale));
  Value shown = scores;
  if (softcap > 0) {
    scores = emit.mul(emit.unary<train::TanhOp>(emit.mul(scores, 1 / softcap)), softcap);
    shown = scores;
  }
  Value hidden = emit.number(element, -INFINITY), zero = emit.number(element, 0);
  if (causal)
    both(visible, emit.compare(ComparePredicate::le, emit.iota(4, 3, k[2]), emit.iota(4, 2, q[2], past)));
  Value masked = bias ? emit.add(scores, bias) : scores;
  if (visible)
    masked = emit.select(visible, masked, hidden);
  if (mode == 2)
    shown = masked;
  // A row that sees nothing gives zeros.
  Value empty;
  if (visible || bias) {
    Value seen = bias ? bias : emit.broadcast(zero, {1, 1, 1, 1});
    if (visible)
      seen = emit.select(visible, seen, hidden);
    Shape full(Emit::shapeOf(seen));
    while (full.size() < 4)
      full.insert(full.begin(), 1);
    seen = emit.reshape(seen, full);
    full.back() = 1;
    Value most =
        train::ReduceMaxOp::create(node.builder, node.loc, node.type(full, element), seen, ArrayRef<int64_t>{3}, true);
    empty = emit.compare(ComparePredicate::eq, most, hidden);
    masked = emit.select(empty, zero, masked);
  }
  Value probabilities = emit.unary<train::SoftmaxOp>(masked);
  if (empty)
    probabilities = emit.select(empty, zero, probabilities);
  node.result(3, mode == 3 ? probabilities : shown);
  return Value(train::MatmulOp::create(node.builder, node.loc, node.type({q[0], q[1], q[2], v[3]}, element),
                                       probabilities, emit.repeatHeads(value, q[1]), /*bias=*/Value(), false, false, APFloat(1.0)));
}

LogicalResult AttentionImporter::run() {
  if (failed(readOperands()) || failed(readMasks()))
    return failure();
  scale = node.attribute("scale", 1.0 / std::sqrt(static_cast<double>(q[3])));
  softcap = node.attribute("softcap", 0.0);
  Value result;
  if (softcap > 0 || node.wants(3) || (bias && dependsOnParameter(bias))) {
    FailureOr<Value> written = writeOut();
    if (failed(written))
      return failure();
    result = *written;
  } else {
    Value mask = bias && visible ? emit.select(visible, bias, emit.number(element, -INFINITY)) : bias ? bias : visible;
    auto attention = train::AttentionOp::create(node.builder, node.loc, node.type({q[0], q[1], q[2], v[3]}, element),
                                                node.type({q[0], q[1], q[2]}, train::getComputeType(element)), query,
                                                key, value, mask, APFloat(scale), causal);
    result = attention.getResult();
  }
  node.result(0, node.rank(0) == 3 ? merge(result) : result);
  return success();
}

LogicalResult lowerAttention(NodeImporter &node) { return AttentionImporter(node).run(); }

} // namespace zopt::importer
