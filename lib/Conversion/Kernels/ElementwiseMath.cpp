//===- ElementwiseMath.cpp - elementwise ops on vectors ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Arithmetic inside one op is in the compute type (fp32, or f64 for f64); the result is rounded once. Where a fused and an unfused kernel could take different ways (a constant that only one of
// them sees), the choice is made by value, at run time.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

namespace {

/// Short names for what the formulas below are made of. All values are vectors.
struct Math {
  KernelBuilder &k;
  Type type; // element type computed in

  OpBuilder &b() { return k.builder; }
  Value c(double value) { return k.splat(value, type); }
  Value add(Value x, Value y) { return k.addF(x, y); }
  Value sub(Value x, Value y) { return k.subF(x, y); }
  Value mul(Value x, Value y) { return k.mulF(x, y); }
  Value div(Value x, Value y) { return k.divF(x, y); }
  Value neg(Value x) { return arith::NegFOp::create(b(), k.loc, x); }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) { return arith::CmpFOp::create(b(), k.loc, predicate, x, y); }
  Value select(Value condition, Value x, Value y) { return arith::SelectOp::create(b(), k.loc, condition, x, y); }
  template <typename OpTy>
  Value unary(Value x) {
    return OpTy::create(b(), k.loc, x);
  }

  /// 1 / (1 + e^-x): e^-x overflows to infinity for very negative x, which gives the right 0.
  Value sigmoid(Value x) { return div(c(1), add(c(1), k.expF(neg(x)))); }

  /// The argument of GELU's tanh: sqrt(2/pi) (x + 0.044715 x^3).
  Value geluInner(Value x) {
    Value cube = mul(mul(x, x), x);
    return mul(c(std::sqrt(2 / M_PI)), add(x, mul(c(0.044715), cube)));
  }
  /// (1 + tanh(inner)) / 2 as a logistic function: one exponential and no cancellation near 0. For GPUs, whose memory-bound kernels have about 38 instructions an element.
  Value geluLogistic(Value x) {
    Value square = mul(x, x);
    return sigmoid(mul(x, add(c(2 * std::sqrt(2 / M_PI)), mul(c(2 * std::sqrt(2 / M_PI) * 0.044715), square))));
  }
  Value gelu(Value x, bool tanhForm) {
    if (tanhForm && k.isGpu())
      return mul(x, geluLogistic(x));
    Value inner = tanhForm ? unary<math::TanhOp>(geluInner(x)) : unary<math::ErfOp>(mul(x, c(M_SQRT1_2)));
    return mul(mul(c(0.5), x), add(c(1), inner));
  }
  /// d gelu(x) / dx.
  Value geluDerivative(Value x, bool tanhForm) {
    if (tanhForm && k.isGpu()) { // s + x s (1 - s) (2 inner)'
      Value s = geluLogistic(x);
      Value inner = add(c(2 * std::sqrt(2 / M_PI)), mul(c(6 * std::sqrt(2 / M_PI) * 0.044715), mul(x, x)));
      return add(s, mul(mul(mul(x, s), sub(c(1), s)), inner));
    }
    if (tanhForm) {
      Value t = unary<math::TanhOp>(geluInner(x));
      Value inner = mul(c(std::sqrt(2 / M_PI)), add(c(1), mul(c(3 * 0.044715), mul(x, x))));
      Value first = mul(c(0.5), add(c(1), t));
      Value second = mul(mul(mul(c(0.5), x), sub(c(1), mul(t, t))), inner);
      return add(first, second);
    }
    Value cdf = mul(c(0.5), add(c(1), unary<math::ErfOp>(mul(x, c(M_SQRT1_2)))));
    Value pdf = mul(c(1 / std::sqrt(2 * M_PI)), k.expF(mul(c(-0.5), mul(x, x))));
    return add(cdf, mul(x, pdf));
  }
  Value siluDerivative(Value x) {
    Value s = sigmoid(x);
    return mul(s, add(c(1), mul(x, sub(c(1), s))));
  }

  /// Squares and cubes are products, whatever the kernel knows of the exponent; other powers go to the math library.
  Value pow(Value x, Value y) {
    Value square = mul(x, x);
    Value literal = y;
    if (auto extension = y.getDefiningOp<arith::ExtFOp>())
      literal = extension.getIn();
    bool known = false;
    if (auto constant = literal.getDefiningOp<arith::ConstantOp>()) {
      double exponent = cast<DenseElementsAttr>(constant.getValue()).getSplatValue<APFloat>().convertToDouble();
      known = true;
      if (exponent == 2)
        return square;
      if (exponent == 3)
        return mul(square, x);
    }
    Value general = math::PowFOp::create(b(), k.loc, x, y);
    if (known)
      return general;
    Value result = select(compare(arith::CmpFPredicate::OEQ, y, c(3)), mul(square, x), general);
    return select(compare(arith::CmpFPredicate::OEQ, y, c(2)), square, result);
  }

  Value abs(Value x) { return unary<math::AbsFOp>(x); }
  Value sqrt(Value x) { return unary<math::SqrtOp>(x); }
  Value log1p(Value x) { return unary<math::Log1pOp>(x); }
  Value copysign(Value x, Value sign) { return math::CopySignOp::create(b(), k.loc, x, sign); }

  /// (e + e / (e + 1)) / 2 for e = e^|x| - 1, which does not cancel near 0; where e^|x| would overflow before the result does, by two factors e^(|x| / 2).
  Value sinh(Value x) {
    Value magnitude = abs(x), e = unary<math::ExpM1Op>(magnitude), half = k.expF(mul(c(0.5), magnitude));
    Value small = mul(c(0.5), add(e, div(e, add(e, c(1)))));
    return copysign(select(compare(arith::CmpFPredicate::OGT, magnitude, c(20)), mul(mul(c(0.5), half), half), small), x);
  }
  Value cosh(Value x) {
    Value magnitude = abs(x), e = k.expF(magnitude), half = k.expF(mul(c(0.5), magnitude));
    Value small = mul(c(0.5), add(e, div(c(1), e)));
    return select(compare(arith::CmpFPredicate::OGT, magnitude, c(20)), mul(mul(c(0.5), half), half), small);
  }
  /// log(|x| + sqrt(x^2 + 1)), as log(1 + |x| + x^2 / (1 + sqrt(x^2 + 1))); log(2 |x|) where 1 does not count.
  Value asinh(Value x) {
    Value magnitude = abs(x), square = mul(x, x);
    Value small = log1p(add(magnitude, div(square, add(c(1), sqrt(add(square, c(1)))))));
    Value large = add(k.logF(magnitude), c(M_LN2));
    return copysign(select(compare(arith::CmpFPredicate::OGT, magnitude, c(1e9)), large, small), x);
  }
  /// log(1 + t + sqrt(2 t + t^2)) for t = x - 1.
  Value acosh(Value x) {
    Value t = sub(x, c(1));
    Value small = log1p(add(t, sqrt(add(mul(c(2), t), mul(t, t)))));
    Value large = add(k.logF(x), c(M_LN2));
    return select(compare(arith::CmpFPredicate::OGT, x, c(1e9)), large, small);
  }
  /// log(1 + 2 |x| / (1 - |x|)) / 2.
  Value atanh(Value x) {
    Value magnitude = abs(x);
    return copysign(mul(c(0.5), log1p(div(mul(c(2), magnitude), sub(c(1), magnitude)))), x);
  }

  /// In f64: the quotient, rounded toward 0, may be off by one, and the rest is exact (a fused product); a rest beyond the divisor or of the wrong sign is set right. An infinite divisor leaves x.
  Value rem(Value x, Value y) {
    Type f64 = b().getF64Type();
    Value a = k.convert(x, f64), d = abs(k.convert(y, f64)), magnitude = abs(a);
    auto constant = [&](double value) { return k.splat(value, f64); };
    Value quotient = unary<math::FloorOp>(div(magnitude, d));
    Value rest = math::FmaOp::create(b(), k.loc, neg(quotient), d, magnitude);
    rest = select(compare(arith::CmpFPredicate::OLT, rest, constant(0)), add(rest, d), rest);
    rest = select(compare(arith::CmpFPredicate::OGE, rest, d), sub(rest, d), rest);
    Value infinite = compare(arith::CmpFPredicate::OEQ, d, constant(INFINITY));
    Value finite = compare(arith::CmpFPredicate::OLT, magnitude, constant(INFINITY));
    rest = select(arith::AndIOp::create(b(), k.loc, infinite, finite), magnitude, rest);
    return k.convert(copysign(rest, a), type);
  }
};

} // namespace

static Value emitFloatUnary(Math m, Operation *op, Value x) {
  using arith::CmpFPredicate;
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case([&](train::NegOp) { return m.neg(x); })
      .Case([&](train::AbsOp) { return m.unary<math::AbsFOp>(x); })
      .Case([&](train::SignOp) {
        Value sign = math::CopySignOp::create(m.b(), m.k.loc, m.c(1), x);
        // 0 and NaN pass through.
        return m.select(m.compare(CmpFPredicate::ONE, x, m.c(0)), sign, x);
      })
      .Case([&](train::ExpOp) { return m.k.expF(x); })
      .Case([&](train::LogOp) { return m.k.logF(x); })
      .Case([&](train::SqrtOp) { return m.unary<math::SqrtOp>(x); })
      .Case([&](train::RsqrtOp) { return m.div(m.c(1), m.unary<math::SqrtOp>(x)); })
      .Case([&](train::ReciprocalOp) { return m.div(m.c(1), x); })
      .Case([&](train::TanhOp) { return m.unary<math::TanhOp>(x); })
      .Case([&](train::SigmoidOp) { return m.sigmoid(x); })
      .Case([&](train::ErfOp) { return m.unary<math::ErfOp>(x); })
      .Case([&](train::SinOp) { return m.unary<math::SinOp>(x); })
      .Case([&](train::CosOp) { return m.unary<math::CosOp>(x); })
      .Case([&](train::ReluOp) { return m.k.maxF(x, m.c(0)); })
      .Case([&](train::SiluOp) { return m.mul(x, m.sigmoid(x)); })
      .Case([&](train::FloorOp) { return m.unary<math::FloorOp>(x); })
      .Case([&](train::CeilOp) { return m.unary<math::CeilOp>(x); })
      .Case([&](train::RoundOp) { return m.unary<math::RoundEvenOp>(x); })
      .Case([&](train::Expm1Op) { return m.unary<math::ExpM1Op>(x); })
      .Case([&](train::TanOp) { return m.div(m.unary<math::SinOp>(x), m.unary<math::CosOp>(x)); })
      .Case([&](train::AsinOp) { return m.unary<math::AsinOp>(x); })
      .Case([&](train::AcosOp) { return m.unary<math::AcosOp>(x); })
      .Case([&](train::AtanOp) { return m.unary<math::AtanOp>(x); })
      .Case([&](train::SinhOp) { return m.sinh(x); })
      .Case([&](train::CoshOp) { return m.cosh(x); })
      .Case([&](train::AsinhOp) { return m.asinh(x); })
      .Case([&](train::AcoshOp) { return m.acosh(x); })
      .Case([&](train::AtanhOp) { return m.atanh(x); })
      .Case([&](train::SoftplusOp) {
        Value small = m.k.expF(m.neg(m.unary<math::AbsFOp>(x)));
        return m.add(m.k.maxF(x, m.c(0)), m.unary<math::Log1pOp>(small));
      })
      .Case([&](train::GeluOp gelu) { return m.gelu(x, gelu.getApproximate() == train::GeluApproximation::tanh); })
      .Default([](Operation *) { return Value(); });
}

static Value emitFloatBinary(Math m, Operation *op, Value x, Value y) {
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case([&](train::AddOp) { return m.add(x, y); })
      .Case([&](train::SubOp) { return m.sub(x, y); })
      .Case([&](train::MulOp) { return m.mul(x, y); })
      .Case([&](train::DivOp) { return m.div(x, y); })
      .Case([&](train::PowOp) { return m.pow(x, y); })
      .Case([&](train::MaxOp) { return m.k.maxF(x, y); })
      .Case([&](train::MinOp) -> Value { return arith::MinimumFOp::create(m.b(), m.k.loc, x, y); })
      .Case([&](train::RemOp) { return m.rem(x, y); })
      .Case([&](train::GeluGradOp gelu) { return m.mul(y, m.geluDerivative(x, gelu.getApproximate() == train::GeluApproximation::tanh)); })
      .Case([&](train::SiluGradOp) { return m.mul(y, m.siluDerivative(x)); })
      .Case([&](train::ReluGradOp) { return m.select(m.compare(arith::CmpFPredicate::OGT, x, m.c(0)), y, m.c(0)); })
      .Case([&](train::TanhGradOp) { return m.mul(y, m.sub(m.c(1), m.mul(x, x))); })
      .Case([&](train::SigmoidGradOp) { return m.mul(m.mul(y, x), m.sub(m.c(1), x)); })
      .Case([&](train::ErfGradOp) { return m.mul(y, m.mul(m.c(M_2_SQRTPI), m.k.expF(m.neg(m.mul(x, x))))); })
      .Default([](Operation *) { return Value(); });
}

/// base^exponent by repeated squaring, wrapping. A negative exponent leaves 1, -1 or 0.
static Value emitIntegerPower(KernelBuilder &k, Value base, Value exponent, bool isUnsigned) {
  OpBuilder &b = k.builder;
  Location loc = k.loc;
  Type type = getElementTypeOrSelf(base.getType());
  auto c = [&](int64_t value) { return k.splatInt(value, type); };
  auto equal = [&](Value lhs, Value rhs) -> Value { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, lhs, rhs); };
  auto select = [&](Value condition, Value lhs, Value rhs) -> Value { return arith::SelectOp::create(b, loc, condition, lhs, rhs); };
  auto isOdd = [&](Value value) -> Value { return equal(arith::AndIOp::create(b, loc, value, c(1)), c(1)); };
  Value result = c(1), power = base, rest = exponent;
  for (unsigned bit = 0; bit < type.getIntOrFloatBitWidth(); ++bit) {
    result = select(isOdd(rest), arith::MulIOp::create(b, loc, result, power), result);
    power = arith::MulIOp::create(b, loc, power, power);
    rest = arith::ShRUIOp::create(b, loc, rest, c(1));
  }
  if (isUnsigned)
    return result;
  Value negative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, exponent, c(0));
  Value ofMinusOne = select(equal(base, c(-1)), select(isOdd(exponent), c(-1), c(1)), c(0));
  return select(negative, select(equal(base, c(1)), c(1), ofMinusOne), result);
}

static Value emitInteger(KernelBuilder &k, Operation *op, ArrayRef<Value> x) {
  const bool isUnsigned = getElementTypeOrSelf(op->getOperand(0).getType()).isUnsignedInteger();
  OpBuilder &b = k.builder;
  Location loc = k.loc;
  Type type = getElementTypeOrSelf(x[0].getType());
  auto c = [&](int64_t value) { return k.splatInt(value, type); };
  auto compare = [&](arith::CmpIPredicate predicate, Value lhs, Value rhs) -> Value { return arith::CmpIOp::create(b, loc, predicate, lhs, rhs); };
  auto select = [&](Value condition, Value lhs, Value rhs) -> Value { return arith::SelectOp::create(b, loc, condition, lhs, rhs); };
  // i1 is a truth value: 1, not -1.
  bool truth = type.isInteger(1);
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case([&](train::NegOp) -> Value { return arith::SubIOp::create(b, loc, c(0), x[0]); })
      .Case([&](train::AbsOp) { return isUnsigned ? x[0] : select(compare(arith::CmpIPredicate::slt, x[0], c(0)), arith::SubIOp::create(b, loc, c(0), x[0]), x[0]); })
      .Case([&](train::SignOp) {
        Value positive = select(compare(isUnsigned ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt, x[0], c(0)), c(1), c(0));
        if (isUnsigned)
          return positive;
        return select(compare(arith::CmpIPredicate::slt, x[0], c(0)), c(-1), positive);
      })
      .Case([&](train::ReluOp) -> Value { return isUnsigned ? x[0] : arith::MaxSIOp::create(b, loc, x[0], c(0)); })
      .Case([&](train::NotOp) -> Value { return arith::XOrIOp::create(b, loc, x[0], c(truth ? 1 : -1)); })
      .Case([&](train::AddOp) -> Value {
        if (truth)
          return arith::OrIOp::create(b, loc, x[0], x[1]);
        return arith::AddIOp::create(b, loc, x[0], x[1]);
      })
      .Case([&](train::SubOp) -> Value { return arith::SubIOp::create(b, loc, x[0], x[1]); })
      .Case([&](train::MulOp) -> Value { return arith::MulIOp::create(b, loc, x[0], x[1]); })
      .Case([&](train::DivOp) -> Value {
        // Division traps on x / 0 (also in lanes that hold no element) and on min / -1.
        if (isUnsigned)
          return arith::DivUIOp::create(b, loc, x[0], select(compare(arith::CmpIPredicate::eq, x[1], c(0)), c(1), x[1]));
        Value isZero = compare(arith::CmpIPredicate::eq, x[1], c(0)), isMinusOne = compare(arith::CmpIPredicate::eq, x[1], c(-1));
        Value divisor = select(arith::OrIOp::create(b, loc, isZero, isMinusOne), c(1), x[1]);
        Value quotient = arith::DivSIOp::create(b, loc, x[0], divisor);
        return select(isMinusOne, arith::SubIOp::create(b, loc, c(0), x[0]), quotient);
      })
      .Case([&](train::RemOp) -> Value {
        Value isZero = compare(arith::CmpIPredicate::eq, x[1], c(0));
        if (isUnsigned)
          return select(isZero, c(0), arith::RemUIOp::create(b, loc, x[0], select(isZero, c(1), x[1])));
        Value bad = arith::OrIOp::create(b, loc, isZero, compare(arith::CmpIPredicate::eq, x[1], c(-1)));
        return select(bad, c(0), arith::RemSIOp::create(b, loc, x[0], select(bad, c(1), x[1])));
      })
      .Case([&](train::PowOp) { return emitIntegerPower(k, x[0], x[1], isUnsigned); })
      .Case([&](train::ShiftLeftOp) -> Value {
        Value inside = compare(arith::CmpIPredicate::ult, x[1], c(type.getIntOrFloatBitWidth()));
        return select(inside, arith::ShLIOp::create(b, loc, x[0], select(inside, x[1], c(0))), c(0));
      })
      .Case([&](train::ShiftRightOp) -> Value {
        const int64_t width = type.getIntOrFloatBitWidth();
        Value inside = compare(arith::CmpIPredicate::ult, x[1], c(width));
        if (isUnsigned)
          return select(inside, arith::ShRUIOp::create(b, loc, x[0], select(inside, x[1], c(0))), c(0));
        return arith::ShRSIOp::create(b, loc, x[0], select(inside, x[1], c(width - 1)));
      })
      .Case([&](train::XorOp) -> Value { return arith::XOrIOp::create(b, loc, x[0], x[1]); })
      .Case([&](train::MaxOp) -> Value {
        if (isUnsigned || truth)
          return arith::MaxUIOp::create(b, loc, x[0], x[1]);
        return arith::MaxSIOp::create(b, loc, x[0], x[1]);
      })
      .Case([&](train::MinOp) -> Value {
        if (isUnsigned || truth)
          return arith::MinUIOp::create(b, loc, x[0], x[1]);
        return arith::MinSIOp::create(b, loc, x[0], x[1]);
      })
      .Case([&](train::AndOp) -> Value { return arith::AndIOp::create(b, loc, x[0], x[1]); })
      .Case([&](train::OrOp) -> Value { return arith::OrIOp::create(b, loc, x[0], x[1]); })
      .Default([](Operation *) { return Value(); });
}

/// `given` and `to` are the element types of the graph, which say what integers mean. Floats beyond an integer's range give whatever the hardware makes of them, negative ones too where it is unsigned.
static Value emitCast(KernelBuilder &k, Value x, Type given, Type to) {
  const bool fromUnsigned = given.isUnsignedInteger() || given.isInteger(1), toUnsigned = to.isUnsignedInteger();
  to = getSignless(to);
  OpBuilder &b = k.builder;
  Type from = getElementTypeOrSelf(x.getType());
  auto vector = [&](Type type) { return VectorType::get({k.lanes()}, type); };
  if (from == to)
    return x;
  if (isa<FloatType>(from) && isa<FloatType>(to))
    return k.convert(x, to);
  if (isa<FloatType>(from)) {
    x = k.convert(x, train::getComputeType(from));
    if (to.isInteger(1))
      return arith::CmpFOp::create(b, k.loc, arith::CmpFPredicate::UNE, x, k.splat(0, train::getComputeType(from)));
    // Through 64 bits, so that negative numbers and those of narrow types wrap as C's do.
    const bool widest = to.getIntOrFloatBitWidth() == 64;
    if (toUnsigned && widest) {
      Value low = arith::FPToSIOp::create(b, k.loc, vector(to), x), high = arith::FPToUIOp::create(b, k.loc, vector(to), x);
      Value isNegative = arith::CmpFOp::create(b, k.loc, arith::CmpFPredicate::OLT, x, k.splat(0, train::getComputeType(from)));
      return arith::SelectOp::create(b, k.loc, isNegative, low, high);
    }
    if (to.getIntOrFloatBitWidth() == 32 && !toUnsigned)
      return arith::FPToSIOp::create(b, k.loc, vector(to), x);
    Value wide = arith::FPToSIOp::create(b, k.loc, vector(b.getI64Type()), x);
    return widest ? wide : Value(arith::TruncIOp::create(b, k.loc, vector(to), wide));
  }
  if (isa<FloatType>(to)) {
    Type compute = train::getComputeType(to);
    Value value = fromUnsigned ? Value(arith::UIToFPOp::create(b, k.loc, vector(compute), x)) : Value(arith::SIToFPOp::create(b, k.loc, vector(compute), x));
    return k.convert(value, to);
  }
  if (to.isInteger(1))
    return arith::CmpIOp::create(b, k.loc, arith::CmpIPredicate::ne, x, k.splatInt(0, from));
  if (from.getIntOrFloatBitWidth() < to.getIntOrFloatBitWidth() && fromUnsigned)
    return arith::ExtUIOp::create(b, k.loc, vector(to), x);
  if (from.getIntOrFloatBitWidth() < to.getIntOrFloatBitWidth())
    return arith::ExtSIOp::create(b, k.loc, vector(to), x);
  return arith::TruncIOp::create(b, k.loc, vector(to), x);
}

static Value emitCompare(KernelBuilder &k, train::ComparePredicate predicate, Value x, Value y, bool isUnsigned) {
  Type type = getElementTypeOrSelf(x.getType());
  if (isa<FloatType>(type)) {
    static constexpr arith::CmpFPredicate kFloat[] = {arith::CmpFPredicate::OEQ, arith::CmpFPredicate::UNE, arith::CmpFPredicate::OLT,
                                                      arith::CmpFPredicate::OLE, arith::CmpFPredicate::OGT, arith::CmpFPredicate::OGE};
    Type compute = train::getComputeType(type);
    return arith::CmpFOp::create(k.builder, k.loc, kFloat[static_cast<int>(predicate)], k.convert(x, compute), k.convert(y, compute));
  }
  static constexpr arith::CmpIPredicate kSigned[] = {arith::CmpIPredicate::eq,  arith::CmpIPredicate::ne,  arith::CmpIPredicate::slt,
                                                     arith::CmpIPredicate::sle, arith::CmpIPredicate::sgt, arith::CmpIPredicate::sge};
  static constexpr arith::CmpIPredicate kUnsigned[] = {arith::CmpIPredicate::eq,  arith::CmpIPredicate::ne,  arith::CmpIPredicate::ult,
                                                       arith::CmpIPredicate::ule, arith::CmpIPredicate::ugt, arith::CmpIPredicate::uge};
  auto table = isUnsigned || type.isInteger(1) ? kUnsigned : kSigned;
  return arith::CmpIOp::create(k.builder, k.loc, table[static_cast<int>(predicate)], x, y);
}

static Value emitBitcast(KernelBuilder &k, Type format, Value x, Type to) {
  auto vector = [&](Type type) { return VectorType::get({k.lanes()}, type); };
  if (isa<IntegerType>(to))
    return arith::BitcastOp::create(k.builder, k.loc, vector(to), k.convert(x, format));
  return k.convert(arith::BitcastOp::create(k.builder, k.loc, vector(format), x), to);
}

Value kernels::emitElementwise(KernelBuilder &k, Operation *op, ArrayRef<Value> operands) {
  Type resultType = cast<RankedTensorType>(op->getResult(0).getType()).getElementType();
  if (isa<train::CastOp>(op))
    return emitCast(k, operands[0], getElementTypeOrSelf(op->getOperand(0).getType()), resultType);
  if (auto compare = dyn_cast<train::CompareOp>(op))
    return emitCompare(k, compare.getPredicate(), operands[0], operands[1], getElementTypeOrSelf(compare.getLhs().getType()).isUnsignedInteger());
  if (isa<train::SelectOp>(op))
    return arith::SelectOp::create(k.builder, k.loc, operands[0], operands[1], operands[2]);
  if (auto bits = dyn_cast<train::BitcastOp>(op))
    return emitBitcast(k, bits.getFormat(), operands[0], getSignless(resultType));
  Type type = getElementTypeOrSelf(operands[0].getType());
  if (isa<IntegerType>(type))
    return emitInteger(k, op, operands);
  Type compute = train::getComputeType(type);
  Value x = k.convert(operands[0], compute);
  if (isa<train::IsNaNOp>(op))
    return arith::CmpFOp::create(k.builder, k.loc, arith::CmpFPredicate::UNO, x, x);
  Math m{k, compute};
  Value result;
  if (operands.size() == 1)
    result = emitFloatUnary(m, op, x);
  else if (operands.size() == 2)
    result = emitFloatBinary(m, op, x, k.convert(operands[1], compute));
  return result ? k.convert(result, resultType) : result;
}
