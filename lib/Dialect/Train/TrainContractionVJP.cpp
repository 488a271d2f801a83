//===- TrainContractionVJP.cpp - derivatives and costs of contractions ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

//===----------------------------------------------------------------------===//
// matmul
//===----------------------------------------------------------------------===//

namespace {
/// A matrix operand with its transpose flag.
struct Matrix {
  Value value;
  bool transposed;

  Matrix operator~() const { return {value, !transposed}; }
  RankedTensorType type() const { return getTensorType(value); }
  ArrayRef<int64_t> batch() const { return type().getShape().drop_back(2); }
  int64_t rows() const { return type().getShape().take_back(2)[transposed ? 1 : 0]; }
  int64_t columns() const { return type().getShape().take_back(2)[transposed ? 0 : 1]; }
};
} // namespace

/// scale * a x b, with the broadcast batch.
static Value product(OpBuilder &builder, Location loc, Matrix a, Matrix b, FloatAttr scale, Type elementType) {
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(a.batch(), b.batch());
  SmallVector<int64_t> dims = succeeded(shape) ? *shape : SmallVector<int64_t>(a.batch());
  dims.push_back(a.rows());
  dims.push_back(b.columns());
  auto flag = [&](bool set) { return set ? builder.getUnitAttr() : UnitAttr(); };
  return MatmulOp::create(builder, loc, RankedTensorType::get(dims, elementType), a.value, b.value, /*bias=*/Value(), flag(a.transposed), flag(b.transposed), scale);
}

static bool allOnes(ArrayRef<int64_t> shape) {
  return llvm::all_of(shape, [](int64_t size) { return size == 1; });
}

/// Merges batch and rows of a matrix that is not transposed: row-major, so a view.
static Matrix collapseRows(OpBuilder &builder, Location loc, Value value) {
  ArrayRef<int64_t> shape = getTensorType(value).getShape();
  return {train::reshape(builder, loc, value, {ShapedType::getNumElements(shape.drop_back()), shape.back()}), false};
}

Values MatmulOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Value dy = cotangents[0];
  Matrix lhs{getLhs(), getTransposeLhs()}, rhs{getRhs(), getTransposeRhs()};
  // Where the result is wider than the operands, the products of the derivative read the cotangent in the operands' type.
  Matrix grad{needed[0] || needed[1] ? train::cast(builder, loc, dy, lhs.type().getElementType()) : dy, false};
  FloatAttr scale = getScaleAttr();
  Values grads(getNumOperands());

  if (needed[0]) {
    // d op(lhs) = dy x op(rhs)^T, or transposed: op(rhs) x dy^T.
    Type type = lhs.type().getElementType();
    Value full = lhs.transposed ? product(builder, loc, rhs, ~grad, scale, type) : product(builder, loc, grad, ~rhs, scale, type);
    grads[0] = reduceTo(builder, loc, full, lhs.type().getShape());
  }
  if (needed[1]) {
    Type type = rhs.type().getElementType();
    Matrix left = lhs;
    // One matrix for the whole batch, a weight that is: batch and rows contract together, in one product that sums in fp32.
    if (allOnes(rhs.batch()) && !lhs.transposed && lhs.batch() == grad.batch() && !lhs.batch().empty()) {
      left = collapseRows(builder, loc, left.value);
      grad = collapseRows(builder, loc, grad.value);
    }
    // d op(rhs) = op(lhs)^T x dy, or transposed: dy^T x op(lhs).
    Value full = rhs.transposed ? product(builder, loc, ~grad, left, scale, type) : product(builder, loc, ~left, grad, scale, type);
    grads[1] = reduceTo(builder, loc, full, rhs.type().getShape());
  }
  if (getBias() && needed[2]) {
    Value sum = reduceTo(builder, loc, dy, getTensorType(getBias()).getShape());
    grads[2] = train::cast(builder, loc, sum, getTensorType(getBias()).getElementType());
  }
  return grads;
}

int64_t MatmulOp::getFlops() {
  ArrayRef<int64_t> lhs = getTensorType(getLhs()).getShape();
  int64_t inner = lhs[lhs.size() - (getTransposeLhs() ? 2 : 1)];
  int64_t elements = getTensorType(getResult()).getNumElements();
  return 2 * elements * inner + (getBias() ? elements : 0);
}

//===----------------------------------------------------------------------===//
// attention
//===----------------------------------------------------------------------===//

bool AttentionOp::isDifferentiable(unsigned index) { return index < 3; }

Values AttentionOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  if (cotangents[1]) {
    emitOpError("has no derivative through its result 'lse'");
    return {};
  }
  auto grad = AttentionGradOp::create(builder, getLoc(), getQuery().getType(), getKey().getType(), getValue().getType(), getQuery(), getKey(), getValue(),
                                      getMask(), getResult(), getLse(), cotangents[0], getScaleAttr(), getCausalAttr());
  Values grads(getNumOperands());
  for (unsigned i = 0; i < 3; ++i)
    if (needed[i])
      grads[i] = grad.getResult(i);
  return grads;
}

/// Flops of one product of scores' size with a head, q [B, H, T, D] and k [B, G, S, D]; half of them with a causal mask.
static int64_t scoresFlops(Value query, Value key, bool causal) {
  ArrayRef<int64_t> q = getTensorType(query).getShape(), k = getTensorType(key).getShape();
  return 2 * q[0] * q[1] * q[2] * q[3] * k[2] / (causal ? 2 : 1);
}

// Two products forward; five backward, of which one computes the scores again.
int64_t AttentionOp::getFlops() { return 2 * scoresFlops(getQuery(), getKey(), getCausal()); }
int64_t AttentionGradOp::getFlops() { return 5 * scoresFlops(getQuery(), getKey(), getCausal()); }

//===----------------------------------------------------------------------===//
// rotary
//===----------------------------------------------------------------------===//

bool RotaryOp::isDifferentiable(unsigned index) { return index == 0; }

Values RotaryOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {RotaryOp::create(builder, getLoc(), getType(), cotangents[0], getCos(), getSin(), getInterleaved(), !getInverse()), Value(), Value()};
}
