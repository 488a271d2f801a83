//===- TrainElementwiseVJP.cpp - derivatives of elementwise ops ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each derivative is written as train ops in the cotangent's element type. What a VJP reads of the forward op (operand or result) is a residual, so
// the result is preferred where it determines the derivative and is needed by the next op anyway (exp, sqrt, tanh, ...).
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

static Value negate(OpBuilder &builder, Location loc, Value value) {
  return NegOp::create(builder, loc, value.getType(), value);
}

static Value scale(OpBuilder &builder, Location loc, Value value, double factor) {
  return mul(builder, loc, value, scalar(builder, loc, getTensorType(value).getElementType(), factor));
}

static Value zero(OpBuilder &builder, Location loc, Value like) {
  return scalar(builder, loc, getTensorType(like).getElementType(), 0.0);
}

//===----------------------------------------------------------------------===//
// Unary
//===----------------------------------------------------------------------===//

Values NegOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {negate(builder, getLoc(), cotangents[0])};
}

Values AbsOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value sign = SignOp::create(builder, getLoc(), getInput().getType(), getInput());
  return {mul(builder, getLoc(), cotangents[0], sign)};
}

Values SignOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return {Value()}; }
Values FloorOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return {Value()}; }
Values CeilOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return {Value()}; }
Values RoundOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return {Value()}; }

Values ExpOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {mul(builder, getLoc(), cotangents[0], getResult())};
}

Values LogOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {div(builder, getLoc(), cotangents[0], getInput())};
}

Values SqrtOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {div(builder, getLoc(), cotangents[0], scale(builder, getLoc(), getResult(), 2.0))};
}

Values RsqrtOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Value square = mul(builder, loc, getResult(), getResult());
  return {mul(builder, loc, scale(builder, loc, cotangents[0], -0.5), mul(builder, loc, square, getResult()))};
}

Values ReciprocalOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  return {negate(builder, loc, mul(builder, loc, cotangents[0], mul(builder, loc, getResult(), getResult())))};
}

Values TanhOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {TanhGradOp::create(builder, getLoc(), getType(), getResult(), cotangents[0])};
}

Values SigmoidOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {SigmoidGradOp::create(builder, getLoc(), getType(), getResult(), cotangents[0])};
}

Values ErfOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {ErfGradOp::create(builder, getLoc(), getType(), getInput(), cotangents[0])};
}

Values SinOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value cosine = CosOp::create(builder, getLoc(), getType(), getInput());
  return {mul(builder, getLoc(), cotangents[0], cosine)};
}

Values CosOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value sine = SinOp::create(builder, getLoc(), getType(), getInput());
  return {negate(builder, getLoc(), mul(builder, getLoc(), cotangents[0], sine))};
}

Values ReluOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {ReluGradOp::create(builder, getLoc(), getType(), getResult(), cotangents[0])};
}

Values SiluOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {SiluGradOp::create(builder, getLoc(), getType(), getInput(), cotangents[0])};
}

Values SoftplusOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value sigmoid = SigmoidOp::create(builder, getLoc(), getType(), getInput());
  return {mul(builder, getLoc(), cotangents[0], sigmoid)};
}

Values GeluOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {GeluGradOp::create(builder, getLoc(), getType(), getInput(), cotangents[0], getApproximate())};
}

static Value one(OpBuilder &builder, Location loc, Value like) {
  return scalar(builder, loc, getTensorType(like).getElementType(), 1.0);
}

Values Expm1Op::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {mul(builder, getLoc(), cotangents[0], add(builder, getLoc(), getResult(), one(builder, getLoc(), getResult())))};
}

Values TanOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value square = mul(builder, getLoc(), getResult(), getResult());
  return {mul(builder, getLoc(), cotangents[0], add(builder, getLoc(), square, one(builder, getLoc(), square)))};
}

/// cotangent / sqrt(sign * x^2 + constant).
static Value overRoot(OpBuilder &builder, Location loc, Value cotangent, Value x, double sign, double constant) {
  Value square = mul(builder, loc, x, x);
  Value inner = sign < 0 ? sub(builder, loc, scalar(builder, loc, getTensorType(x).getElementType(), constant), square) : add(builder, loc, square, scalar(builder, loc, getTensorType(x).getElementType(), constant));
  return div(builder, loc, cotangent, SqrtOp::create(builder, loc, inner.getType(), inner));
}

Values AsinOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {overRoot(builder, getLoc(), cotangents[0], getInput(), -1, 1)};
}

Values AcosOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {negate(builder, getLoc(), overRoot(builder, getLoc(), cotangents[0], getInput(), -1, 1))};
}

Values AtanOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value square = mul(builder, getLoc(), getInput(), getInput());
  return {div(builder, getLoc(), cotangents[0], add(builder, getLoc(), square, one(builder, getLoc(), square)))};
}

Values SinhOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {mul(builder, getLoc(), cotangents[0], CoshOp::create(builder, getLoc(), getType(), getInput()))};
}

Values CoshOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {mul(builder, getLoc(), cotangents[0], SinhOp::create(builder, getLoc(), getType(), getInput()))};
}

Values AsinhOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {overRoot(builder, getLoc(), cotangents[0], getInput(), 1, 1)};
}

Values AcoshOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {overRoot(builder, getLoc(), cotangents[0], getInput(), 1, -1)};
}

Values AtanhOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Value square = mul(builder, getLoc(), getInput(), getInput());
  return {div(builder, getLoc(), cotangents[0], sub(builder, getLoc(), one(builder, getLoc(), square), square))};
}

Values CastOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {train::cast(builder, getLoc(), cotangents[0], getTensorType(getInput()).getElementType())};
}

//===----------------------------------------------------------------------===//
// Binary
//===----------------------------------------------------------------------===//

/// Sums the cotangent of an operand over the axes that it was broadcast along.
static Value toOperand(OpBuilder &builder, Location loc, Value cotangent, Value operand) {
  return reduceTo(builder, loc, cotangent, getTensorType(operand).getShape());
}

Values AddOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Values grads(2);
  for (unsigned i = 0; i < 2; ++i)
    if (needed[i])
      grads[i] = toOperand(builder, getLoc(), cotangents[0], getOperand(i));
  return grads;
}

Values SubOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Values grads(2);
  if (needed[0])
    grads[0] = toOperand(builder, getLoc(), cotangents[0], getLhs());
  if (needed[1])
    grads[1] = negate(builder, getLoc(), toOperand(builder, getLoc(), cotangents[0], getRhs()));
  return grads;
}

Values MulOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Values grads(2);
  for (unsigned i = 0; i < 2; ++i)
    if (needed[i])
      grads[i] = toOperand(builder, getLoc(), mul(builder, getLoc(), cotangents[0], getOperand(1 - i)), getOperand(i));
  return grads;
}

Values DivOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Values grads(2);
  if (needed[0])
    grads[0] = toOperand(builder, loc, div(builder, loc, cotangents[0], getRhs()), getLhs());
  if (needed[1]) {
    Value quotient = div(builder, loc, getResult(), getRhs());
    grads[1] = negate(builder, loc, toOperand(builder, loc, mul(builder, loc, cotangents[0], quotient), getRhs()));
  }
  return grads;
}

Values PowOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Type elementType = getTensorType(getLhs()).getElementType();
  Values grads(2);
  if (needed[0]) {
    // b * a^(b-1), and 0 where b is 0, also at a = 0. Small constant exponents need no power.
    DenseElementsAttr constant;
    Value slope;
    if (matchPattern(getRhs(), m_Constant(&constant)) && constant.isSplat() &&
        (constant.getSplatValue<APFloat>().isExactlyValue(2.0) || constant.getSplatValue<APFloat>().isExactlyValue(3.0))) {
      bool cube = constant.getSplatValue<APFloat>().isExactlyValue(3.0);
      Value power = cube ? mul(builder, loc, getLhs(), getLhs()) : getLhs();
      slope = mul(builder, loc, power, scalar(builder, loc, elementType, cube ? 3.0 : 2.0));
    } else {
      Value less = sub(builder, loc, getRhs(), scalar(builder, loc, elementType, 1.0));
      Value power = PowOp::create(builder, loc, getType(), getLhs(), less);
      Value isZero = compare(builder, loc, ComparePredicate::eq, getRhs(), zero(builder, loc, getRhs()));
      slope = select(builder, loc, isZero, zero(builder, loc, getRhs()), mul(builder, loc, getRhs(), power));
    }
    grads[0] = toOperand(builder, loc, mul(builder, loc, cotangents[0], slope), getLhs());
  }
  if (needed[1]) {
    // a^b * log(a), and 0 where a is 0 and b is not negative: the limit there, where the product is 0 * -inf.
    Value log = LogOp::create(builder, loc, getLhs().getType(), getLhs());
    Value slope = mul(builder, loc, getResult(), log);
    Value baseIsZero = compare(builder, loc, ComparePredicate::eq, getLhs(), zero(builder, loc, getLhs()));
    Value notNegative = compare(builder, loc, ComparePredicate::ge, getRhs(), zero(builder, loc, getRhs()));
    Value isZero = AndOp::create(builder, loc, getTensorType(getResult()).clone(builder.getI1Type()), baseIsZero, notNegative);
    slope = select(builder, loc, isZero, zero(builder, loc, slope), slope);
    grads[1] = toOperand(builder, loc, mul(builder, loc, cotangents[0], slope), getRhs());
  }
  return grads;
}

/// Of max and min: the cotangent goes to the operand that `wins`, half to each where they are equal.
static Values extremumVJP(OpBuilder &builder, Operation *op, ComparePredicate wins, Value cotangent, ArrayRef<bool> needed) {
  Location loc = op->getLoc();
  Values grads(2);
  Value equal = compare(builder, loc, ComparePredicate::eq, op->getOperand(0), op->getOperand(1));
  Value half = scale(builder, loc, cotangent, 0.5);
  for (unsigned i = 0; i < 2; ++i) {
    if (!needed[i])
      continue;
    Value won = compare(builder, loc, wins, op->getOperand(i), op->getOperand(1 - i));
    Value whole = select(builder, loc, won, cotangent, zero(builder, loc, cotangent));
    grads[i] = toOperand(builder, loc, select(builder, loc, equal, half, whole), op->getOperand(i));
  }
  return grads;
}

Values MaxOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return extremumVJP(builder, *this, ComparePredicate::gt, cotangents[0], needed);
}

Values MinOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return extremumVJP(builder, *this, ComparePredicate::lt, cotangents[0], needed);
}

Values RemOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Values grads(2);
  if (needed[0])
    grads[0] = toOperand(builder, loc, cotangents[0], getLhs());
  if (needed[1]) { // -trunc(a / b)
    Value quotient = div(builder, loc, getLhs(), getRhs());
    Value magnitude = AbsOp::create(builder, loc, quotient.getType(), quotient);
    Value whole = mul(builder, loc, FloorOp::create(builder, loc, quotient.getType(), magnitude), SignOp::create(builder, loc, quotient.getType(), quotient));
    grads[1] = negate(builder, loc, toOperand(builder, loc, mul(builder, loc, cotangents[0], whole), getRhs()));
  }
  return grads;
}

Values SelectOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Value none = zero(builder, loc, cotangents[0]);
  Values grads(3);
  if (needed[1])
    grads[1] = toOperand(builder, loc, select(builder, loc, getCondition(), cotangents[0], none), getOnTrue());
  if (needed[2])
    grads[2] = toOperand(builder, loc, select(builder, loc, getCondition(), none, cotangents[0]), getOnFalse());
  return grads;
}
