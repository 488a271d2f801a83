//===- OperatorsStateful.cpp - linear attention and causal convolution ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Operators of opset 27 that carry a state from one call to the next. In training it begins as zeros or as an operand, and what it becomes is an output like others.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>

using namespace mlir;

namespace zopt::importer {

/// [B, T, H * D] as [B, H, T, D].
static Value unpack(Emit &k, Value x, int64_t heads) {
  const Shape shape(k.shapeOf(x));
  return k.transpose(k.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

/// The recurrence, step by step: S = e^g S + k (beta (v - S^T k))^T, and q^T S is what comes out. A sequence is written out, so that its length is limited.
LogicalResult lowerLinearAttention(NodeImporter &node) {
  constexpr int64_t most = 512;
  const int64_t heads = node.attribute("q_num_heads", int64_t(0)), groups = node.attribute("kv_num_heads", int64_t(0));
  StringRef rule = node.attribute("update_rule", StringRef("gated_delta"));
  const bool gates = rule == "gated" || rule == "gated_delta", corrects = rule == "delta" || rule == "gated_delta";
  if (!gates && !corrects && rule != "linear")
    return node.error("update_rule is '" + rule + "', but it must be linear, gated, delta or gated_delta");
  if (groups < 1 || heads < 1 || heads % groups)
    return node.error("q_num_heads is " + Twine(heads) + ", but it must be a multiple of kv_num_heads, " + Twine(groups));
  if (node.inputs() < 3 || node.has(4) != gates || node.has(5) != corrects)
    return node.error("with update_rule " + rule + " needs " + (gates ? "a decay" : "no decay") + " and " + (corrects ? "a beta" : "no beta"));
  for (int i = 0; i < node.inputs(); ++i)
    if (node.has(i) && (!isa<FloatType>(node.element(i)) || node.element(i) != node.element(0) || (i != 3 && node.rank(i) != 3)))
      return node.error("operand " + Twine(i) + " must be floats [batch, length, size] of the first operand's type");
  const int64_t batch = node.shape(0)[0], length = node.shape(0)[1], dk = node.shape(0)[2] / heads, dv = node.shape(2)[2] / groups;
  auto fits = [&](int i, int64_t size) { return !node.has(i) || node.shape(i) == ArrayRef<int64_t>({batch, length, size}); };
  if (!fits(0, heads * dk) || !fits(1, groups * dk) || !fits(2, groups * dv) || !(fits(4, groups) || fits(4, groups * dk)) || !(fits(5, groups) || fits(5, 1)))
    return node.error("operands of shapes " + describe(node.shape(0)) + ", " + describe(node.shape(1)) + ", " + describe(node.shape(2)) + " do not fit one another, their decay or their beta");
  if (node.has(3) && node.shape(3) != ArrayRef<int64_t>({batch, groups, dk, dv}))
    return node.error("a past state of shape " + describe(node.shape(3)) + " is not " + describe({batch, groups, dk, dv}));
  if (length < 1 || length > most)
    return node.error("of " + Twine(length) + " positions is not supported: up to " + Twine(most) + " are");

  Emit k(node);
  Value operands[6];
  for (int i = 0; i < 6; ++i)
    if (node.has(i) && !(operands[i] = node.operand(i)))
      return failure();
  Value q = unpack(k, operands[0], heads), key = unpack(k, operands[1], groups), v = unpack(k, operands[2], groups);
  // By rows of the state, or the same for all of them; and one number a head, or for all heads.
  Value decay = gates ? k.unary<train::ExpOp>(unpack(k, operands[4], groups)) : Value();
  Value beta = corrects ? k.transpose(k.reshape(operands[5], {batch, length, node.shape(5)[2], 1}), {0, 2, 1, 3}) : Value();
  Value state = operands[3] ? operands[3] : train::splat(node.builder, node.loc, node.type({batch, groups, dk, dv}, node.element(0)), 0);
  const double asked = node.attribute("scale", 0.0), scale = asked != 0 ? asked : 1 / std::sqrt(static_cast<double>(dk));
  auto product = [&](Value lhs, Value rhs, bool transposeLhs, double factor) -> Value {
    Shape shape(k.shapeOf(lhs));
    shape[2] = k.shapeOf(lhs)[transposeLhs ? 3 : 2];
    shape[3] = k.shapeOf(rhs)[3];
    return train::MatmulOp::create(node.builder, node.loc, node.type(shape, node.element(0)), lhs, rhs, /*bias=*/Value(), transposeLhs, false, APFloat(factor));
  };
  SmallVector<Value> outputs;
  for (int64_t t = 0; t < length; ++t) {
    Value kt = k.slice(key, 2, t, 1), vt = k.slice(v, 2, t, 1); // [B, G, 1, size]
    if (gates) {
      Value gt = k.slice(decay, 2, t, 1);
      state = k.mul(state, k.reshape(gt, {batch, groups, k.shapeOf(gt)[3], 1}));
    }
    if (corrects)
      vt = k.mul(k.sub(vt, product(kt, state, false, 1)), k.slice(beta, 2, t, 1));
    state = k.add(state, k.mul(k.reshape(kt, {batch, groups, dk, 1}), vt));
    Value qt = k.reshape(k.slice(q, 2, t, 1), {batch, groups, heads / groups, dk});
    outputs.push_back(k.reshape(product(qt, state, false, scale), {batch, 1, heads * dv}));
  }
  node.result(0, outputs.size() == 1 ? outputs[0] : k.concat(outputs, 1));
  node.result(1, state);
  return success();
}

/// A depthwise convolution of [batch, channels, length] that sees k - 1 positions before each: as many products as it has taps.
LogicalResult lowerCausalConv(NodeImporter &node) {
  if (node.inputs() < 2 || node.rank(0) != 3 || node.rank(1) != 3 || node.shape(1)[0] != node.shape(0)[1] || node.shape(1)[1] != 1 || node.shape(1)[2] < 1)
    return node.error("needs an input [batch, channels, length] and weights [channels, 1, taps]");
  StringRef activation = node.attribute("activation", StringRef("none"));
  if (activation != "none" && activation != "silu" && activation != "swish")
    return node.error("activation is '" + activation + "', but it must be none, silu or swish");
  const int64_t batch = node.shape(0)[0], channels = node.shape(0)[1], length = node.shape(0)[2], taps = node.shape(1)[2];
  for (int i = 0; i < node.inputs(); ++i)
    if (node.has(i) && (!isa<FloatType>(node.element(i)) || node.element(i) != node.element(0)))
      return node.error("operand " + Twine(i) + " must be floats of the first operand's type");
  if ((node.has(2) && node.shape(2) != ArrayRef(channels)) || (node.has(3) && node.shape(3) != ArrayRef<int64_t>({batch, channels, taps - 1})))
    return node.error("a bias or a past state does not fit " + Twine(channels) + " channels and " + Twine(taps) + " taps");
  Value x = node.operand(0), weights = x ? node.operand(1) : Value(), bias = weights && node.has(2) ? node.operand(2) : Value();
  if (!weights || (node.has(2) && !bias))
    return failure();
  Emit k(node);
  Value padded = x;
  if (taps > 1) {
    Value before = node.has(3) ? node.operand(3) : train::splat(node.builder, node.loc, node.type({batch, channels, taps - 1}, node.element(0)), 0);
    if (!before)
      return failure();
    padded = k.concat({before, x}, 2);
  }
  Value result;
  for (int64_t tap = 0; tap < taps; ++tap) {
    Value weight = k.reshape(k.slice(weights, 2, tap, 1), {1, channels, 1});
    Value term = k.mul(k.slice(padded, 2, tap, length), weight);
    result = result ? k.add(result, term) : term;
  }
  if (bias)
    result = k.add(result, k.reshape(bias, {1, channels, 1}));
  node.result(0, activation == "none" ? result : k.unary<train::SiluOp>(result));
  if (node.wants(1) && taps > 1)
    node.result(1, k.slice(padded, 2, length, taps - 1));
  else if (node.wants(1))
    node.result(1, Constant::splat(convertElement(node.element(0)), {batch, channels, 0}, {}), node.element(0));
  return success();
}

} // namespace zopt::importer
