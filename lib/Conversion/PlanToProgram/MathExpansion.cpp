//===- MathExpansion.cpp - math ops in fp32 as polynomials -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// fp32 transcendental functions on any vector width, each with the same operations whatever the width, so that a masked tail, a scalar and a full vector give the same bits. Errors against the exact
// value, over all arguments (test/Unit/Conversion measures them): exp, log, tanh, erf, sin and cos below 2 ulp, log1p below 3. NaN, infinities and subnormals give what they give in the C library.
// f64, pow, and sin and cos of huge numbers go to the C library, one element at a time.
//
// A GPU has an instruction for 2^x, about 2 ulp on a reduced argument, and no C library: GpuMathExpansion.cpp has f64 and pow.
//
//===----------------------------------------------------------------------===//

#include "FloatMath.h"
#include "LowerKernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/PatternMatch.h"
#include <limits>

using namespace mlir;
using namespace zopt;

/// Calls `name`, a function of the C library (its fp32 form for fp32 operands), for each element of scalars or vectors.
static Value callLibrary(OpBuilder &b, Location loc, StringRef name, ValueRange operands) {
  Type type = operands[0].getType(), element = getElementTypeOrSelf(type);
  std::string symbol = element.isF32() ? (name + "f").str() : name.str();
  auto module = b.getInsertionBlock()->getParentOp()->getParentOfType<ModuleOp>();
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(symbol);
  if (!function) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    function = LLVM::LLVMFuncOp::create(b, loc, symbol, LLVM::LLVMFunctionType::get(element, SmallVector<Type>(operands.size(), element)));
  }
  auto vector = dyn_cast<VectorType>(type);
  if (!vector)
    return LLVM::CallOp::create(b, loc, function, operands).getResult();
  SmallVector<Value> elements;
  for (int64_t lane = 0; lane < vector.getNumElements(); ++lane) {
    SmallVector<Value> scalars;
    for (Value operand : operands)
      scalars.push_back(vector::ExtractOp::create(b, loc, operand, lane));
    elements.push_back(LLVM::CallOp::create(b, loc, function, scalars).getResult());
  }
  return vector::FromElementsOp::create(b, loc, vector, elements);
}

namespace {

struct F32 : FloatMath<float> {
  bool gpu = false;

  Value d(double value) { return constant(withElement(b.getF64Type()), b.getF64FloatAttr(value)); }
  Value copysign(Value x, Value sign) { return math::CopySignOp::create(b, loc, x, sign); }

  /// c[0] x^(n-1) + ... + c[n-1] by Horner's rule.
  Value polynomial(Value x, ArrayRef<float> coefficients) {
    Value result = c(coefficients.front());
    for (float coefficient : coefficients.drop_front())
      result = fma(result, x, c(coefficient));
    return result;
  }

  /// x = n log 2 + f with |f| <= log(2) / 2; a polynomial in f, scaled by 2^n in two exact steps, so that subnormal results round once. The clamps lie where the result is 0 and infinity.
  Value exp(Value x) {
    if (gpu)
      return expGpu(x);
    x = select(compare(arith::CmpFPredicate::OGT, x, c(89.0f)), c(89.0f), x);
    x = select(compare(arith::CmpFPredicate::OLT, x, c(-104.0f)), c(-104.0f), x);
    constexpr float kMagic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits
    Value shifted = fma(x, c(1.44269504f), c(kMagic));
    Value n = sub(shifted, c(kMagic));
    Value f = fma(n, c(-6.93145752e-1f), x);
    f = fma(n, c(-1.42860677e-6f), f);
    Value r = polynomial(f, {1.37805939e-3f, 8.37312452e-3f, 4.16695364e-2f, 1.66664720e-1f, 4.99999851e-1f, 1.0f, 1.0f});
    Value exponent = subI(asInt(shifted), i(0x4B400000));
    Value first = arith::ShRSIOp::create(b, loc, exponent, i(1)), second = subI(exponent, first);
    auto power = [&](Value e) { return asFloat(arith::ShLIOp::create(b, loc, addI(e, i(127)), i(23))); };
    return mul(mul(r, power(first)), power(second));
  }

  /// The instruction gives 2^t for t = x / log 2 rounded, and what rounding has cut off is a factor close to 1. Results below 2^-126 are 0.
  Value expGpu(Value x) {
    x = arith::MaximumFOp::create(b, loc, arith::MinimumFOp::create(b, loc, x, c(89.0f)), c(-104.0f));
    Value t = mul(x, c(1.44269502f));
    Value rest = fma(x, c(1.92596303e-8f), fma(x, c(1.44269502f), neg(t)));
    Value power = math::Exp2Op::create(b, loc, t, arith::FastMathFlags::afn);
    return mul(power, fma(rest, c(0.693147182f), c(1.0f)));
  }

  /// a = m 2^e with m in [2/3, 4/3): e log 2 + a polynomial in m - 1.
  Value log(Value a) {
    Value subnormal = compare(arith::CmpFPredicate::OLT, a, c(1.17549435e-38f));
    Value x = select(subnormal, mul(a, c(8388608.0f)), a);
    Value bits = asInt(x);
    Value e = arith::AndIOp::create(b, loc, subI(bits, i(0x3F2AAAAB)), i(static_cast<int32_t>(0xFF800000u)));
    Value m = asFloat(subI(bits, e));
    Value scale = fma(arith::SIToFPOp::create(b, loc, type, e), c(1.1920929e-7f), select(subnormal, c(-23.0f), c(0.0f)));
    Value f = sub(m, c(1.0f)), s = mul(f, f);
    Value even = polynomial(s, {-0.130310059f, -0.121483512f, -0.166846126f, -0.249996200f});
    Value odd = polynomial(s, {0.140869141f, 0.139814854f, 0.200120345f});
    Value r = fma(odd, f, even);
    r = fma(r, f, c(0.333331972f));
    r = fma(r, f, c(-0.5f));
    r = fma(r, s, f);
    r = fma(scale, c(0.693147182f), r);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    // Infinity and NaN stay; 0 and negative numbers have their limits.
    Value special = select(compare(arith::CmpFPredicate::OLT, a, c(0)), c(std::numeric_limits<float>::quiet_NaN()), a);
    special = select(compare(arith::CmpFPredicate::OEQ, a, c(0)), c(-kInfinity), special);
    Value regular = arith::AndIOp::create(b, loc, compare(arith::CmpFPredicate::OGT, a, c(0)), compare(arith::CmpFPredicate::OLT, a, c(kInfinity)));
    return select(regular, r, special);
  }

  /// log(u) for u = 1 + x rounded, times x / (u - 1), which undoes the rounding of u.
  Value log1p(Value x) {
    Value u = add(x, c(1.0f)), error = sub(u, c(1.0f));
    Value corrected = mul(log(u), div(x, error));
    Value result = select(compare(arith::CmpFPredicate::OEQ, error, c(0)), x, corrected);
    return select(compare(arith::CmpFPredicate::OEQ, u, c(std::numeric_limits<float>::infinity())), u, result);
  }

  /// (u - 1) x / log(u) for u = e^x rounded, which undoes the rounding of u.
  Value expm1(Value x) {
    Value u = exp(x), error = sub(u, c(1.0f));
    Value corrected = mul(error, div(x, log(u)));
    Value result = select(compare(arith::CmpFPredicate::OEQ, u, c(1.0f)), x, corrected);
    // Where log(u) is no use: -1 and infinity.
    Value limits = arith::OrIOp::create(b, loc, compare(arith::CmpFPredicate::OEQ, error, c(-1.0f)), compare(arith::CmpFPredicate::OEQ, u, c(std::numeric_limits<float>::infinity())));
    return select(limits, error, result);
  }

  /// A polynomial (Cephes) up to 1/2; pi/2 - 2 asin(sqrt((1 - |x|) / 2)) beyond.
  Value asin(Value x) {
    Value magnitude = abs(x), outer = compare(arith::CmpFPredicate::OGT, magnitude, c(0.5f));
    Value z = select(outer, mul(c(0.5f), sub(c(1.0f), magnitude)), mul(magnitude, magnitude));
    Value root = select(outer, math::SqrtOp::create(b, loc, z), magnitude);
    Value inner = fma(mul(asinPolynomial(z), z), root, root);
    return copysign(select(outer, sub(c(1.57079632679f), add(inner, inner)), inner), x);
  }
  Value asinPolynomial(Value z) { return polynomial(z, {4.2163199048e-2f, 2.4181311049e-2f, 4.5470025998e-2f, 7.4953002686e-2f, 1.6666752422e-1f}); }

  /// 2 asin(sqrt((1 - x) / 2)) near 1, which keeps small angles, the same from pi near -1, pi/2 - asin(x) between.
  Value acos(Value x) {
    Value magnitude = abs(x), outer = compare(arith::CmpFPredicate::OGT, magnitude, c(0.5f));
    Value z = select(outer, mul(c(0.5f), sub(c(1.0f), magnitude)), mul(x, x));
    Value root = select(outer, math::SqrtOp::create(b, loc, z), x);
    Value inner = fma(mul(asinPolynomial(z), z), root, root);
    Value near = add(inner, inner);
    near = select(compare(arith::CmpFPredicate::OLT, x, c(0)), sub(c(3.14159265358979f), near), near);
    return select(outer, near, sub(c(1.57079632679f), inner));
  }

  /// Reduced to |x| <= tan(pi/8) by angles of pi/4 and pi/2, then a polynomial (Cephes).
  Value atan(Value x) {
    Value magnitude = abs(x);
    Value far = compare(arith::CmpFPredicate::OGT, magnitude, c(2.414213562373095f)), middle = compare(arith::CmpFPredicate::OGT, magnitude, c(0.4142135623730950f));
    Value reduced = select(middle, div(sub(magnitude, c(1.0f)), add(magnitude, c(1.0f))), magnitude);
    reduced = select(far, div(c(-1.0f), magnitude), reduced);
    Value base = select(far, c(1.5707963267948966f), select(middle, c(0.7853981633974483f), c(0)));
    Value z = mul(reduced, reduced);
    Value p = polynomial(z, {8.05374449538e-2f, -1.38776856032e-1f, 1.99777106478e-1f, -3.33329491539e-1f});
    return copysign(add(base, fma(mul(p, z), reduced, reduced)), x);
  }

  /// A polynomial near 0, 1 - 2 / (e^2|x| + 1) elsewhere.
  Value tanh(Value x) {
    Value z = mul(x, x);
    Value near = polynomial(z, {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f});
    near = fma(mul(near, z), x, x);
    Value magnitude = abs(x);
    Value far = sub(c(1.0f), div(c(2.0f), add(exp(add(magnitude, magnitude)), c(1.0f))));
    return select(compare(arith::CmpFPredicate::OLT, magnitude, c(0.625f)), near, copysign(far, x));
  }

  /// A polynomial near 0, 1 - e^p(|x|) elsewhere.
  Value erf(Value x) {
    Value t = abs(x), s = mul(x, x);
    Value r = fma(c(-1.72853470e-5f), t, c(3.83197126e-4f));
    Value u = fma(c(-3.88396438e-3f), t, c(2.42546219e-2f));
    r = fma(r, s, u);
    r = fma(r, t, c(-1.06777877e-1f));
    r = fma(r, t, c(-6.34846687e-1f));
    r = fma(r, t, c(-1.28717512e-1f));
    r = fma(r, t, neg(t));
    Value far = copysign(sub(c(1.0f), exp(r)), x);
    // Beyond 4 the result is 1; there the polynomial is not a bound any more.
    far = select(compare(arith::CmpFPredicate::OGT, t, c(4.0f)), copysign(c(1.0f), x), far);
    Value near = polynomial(s, {-5.96761703e-4f, 4.99119423e-3f, -2.67681349e-2f, 1.12819925e-1f, -3.76125336e-1f, 1.28379166e-1f});
    near = fma(near, x, x);
    return select(compare(arith::CmpFPredicate::OGT, t, c(0.927734375f)), far, near);
  }

  /// x = n pi/2 + r with |r| <= pi/4; the reduction is in f64 (106 bits of pi/2), exact enough for |x| up to 10^9; what lies beyond goes to the C library, in a branch that is
  /// hardly ever taken. The quadrant is kept as a float: no conversion to an integer can overflow.
  Value sinOrCos(Value x, bool cosine) {
    Value wide = arith::ExtFOp::create(b, loc, withElement(b.getF64Type()), x);
    Value n = math::RoundEvenOp::create(b, loc, mul(wide, d(0.63661977236758138)));
    Value reduced = fma(n, d(-1.5707963267948966), wide);
    reduced = fma(n, d(-6.1232339957367660e-17), reduced);
    if (gpu)
      reduced = fma(n, d(1.4973849048591833e-33), reduced);
    Value r = arith::TruncFOp::create(b, loc, type, reduced);
    if (cosine)
      n = add(n, d(1));
    Value quadrant = sub(n, mul(d(4), math::FloorOp::create(b, loc, mul(n, d(0.25)))));
    Value z = mul(r, r);
    Value sine = polynomial(z, {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f});
    sine = fma(mul(sine, z), r, r);
    Value cos = polynomial(z, {2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f});
    cos = fma(mul(cos, z), z, fma(c(-0.5f), z, c(1.0f)));
    Value odd = arith::OrIOp::create(b, loc, compare(arith::CmpFPredicate::OEQ, quadrant, d(1)), compare(arith::CmpFPredicate::OEQ, quadrant, d(3)));
    Value result = select(odd, cos, sine);
    result = select(compare(arith::CmpFPredicate::OGE, quadrant, d(2)), neg(result), result);

    if (gpu)
      return result; // no library there: a third part of pi/2 keeps the error of the reduction below an ulp up to 10^15, beyond which neighbouring floats are many turns apart
    Value magnitude = abs(x);
    Value huge = arith::AndIOp::create(b, loc, compare(arith::CmpFPredicate::OGT, magnitude, c(1e9f)), compare(arith::CmpFPredicate::OLT, magnitude, c(std::numeric_limits<float>::infinity())));
    Value any = isa<VectorType>(type) ? Value(vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, huge)) : huge;
    auto branch = scf::IfOp::create(b, loc, TypeRange(type), any, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, loc, select(huge, callLibrary(b, loc, cosine ? "cos" : "sin", x), result));
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, result);
    return branch.getResult(0);
  }
};

template <typename OpTy, Value (*Expand)(F32 &, Value)>
struct ExpandF32 : OpRewritePattern<OpTy> {
  ExpandF32(MLIRContext *context, bool gpu) : OpRewritePattern<OpTy>(context), gpu(gpu) {}
  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    if (!getElementTypeOrSelf(op.getType()).isF32())
      return failure();
    F32 f{{rewriter, op.getLoc(), op.getType()}, gpu};
    rewriter.replaceOp(op, Expand(f, op.getOperand()));
    return success();
  }
  bool gpu;
};

/// Calls the C library, one element at a time.
template <typename OpTy>
struct CallLibrary : OpRewritePattern<OpTy> {
  CallLibrary(MLIRContext *context, StringRef name) : OpRewritePattern<OpTy>(context, /*benefit=*/0), name(name) {}

  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    Type element = getElementTypeOrSelf(op.getType());
    if (!element.isF32() && !element.isF64())
      return failure();
    rewriter.replaceOp(op, callLibrary(rewriter, op.getLoc(), name, op->getOperands()));
    return success();
  }
  std::string name;
};

Value expandExp(F32 &f, Value x) { return f.exp(x); }
Value expandLog(F32 &f, Value x) { return f.log(x); }
Value expandLog1p(F32 &f, Value x) { return f.log1p(x); }
Value expandExpm1(F32 &f, Value x) { return f.expm1(x); }
Value expandAsin(F32 &f, Value x) { return f.asin(x); }
Value expandAcos(F32 &f, Value x) { return f.acos(x); }
Value expandAtan(F32 &f, Value x) { return f.atan(x); }
Value expandTanh(F32 &f, Value x) { return f.tanh(x); }
Value expandErf(F32 &f, Value x) { return f.erf(x); }
Value expandSin(F32 &f, Value x) { return f.sinOrCos(x, false); }
Value expandCos(F32 &f, Value x) { return f.sinOrCos(x, true); }
Value expandRsqrt(F32 &f, Value x) { return f.div(f.c(1.0f), math::SqrtOp::create(f.b, f.loc, x)); }

} // namespace

void zopt::populateF32ExpansionPatterns(RewritePatternSet &patterns, bool gpu) {
  MLIRContext *context = patterns.getContext();
  patterns.add<ExpandF32<math::ExpOp, expandExp>, ExpandF32<math::LogOp, expandLog>, ExpandF32<math::Log1pOp, expandLog1p>, ExpandF32<math::TanhOp, expandTanh>,
               ExpandF32<math::ErfOp, expandErf>, ExpandF32<math::SinOp, expandSin>, ExpandF32<math::CosOp, expandCos>, ExpandF32<math::RsqrtOp, expandRsqrt>, ExpandF32<math::ExpM1Op, expandExpm1>,
               ExpandF32<math::AsinOp, expandAsin>, ExpandF32<math::AcosOp, expandAcos>, ExpandF32<math::AtanOp, expandAtan>>(context, gpu);
}

void zopt::populateMathExpansionPatterns(RewritePatternSet &patterns) {
  MLIRContext *context = patterns.getContext();
  populateF32ExpansionPatterns(patterns, /*gpu=*/false);
  patterns.add<CallLibrary<math::ExpOp>>(context, "exp");
  patterns.add<CallLibrary<math::LogOp>>(context, "log");
  patterns.add<CallLibrary<math::Log1pOp>>(context, "log1p");
  patterns.add<CallLibrary<math::TanhOp>>(context, "tanh");
  patterns.add<CallLibrary<math::ErfOp>>(context, "erf");
  patterns.add<CallLibrary<math::SinOp>>(context, "sin");
  patterns.add<CallLibrary<math::CosOp>>(context, "cos");
  patterns.add<CallLibrary<math::PowFOp>>(context, "pow");
  patterns.add<CallLibrary<math::ExpM1Op>>(context, "expm1");
  patterns.add<CallLibrary<math::AsinOp>>(context, "asin");
  patterns.add<CallLibrary<math::AcosOp>>(context, "acos");
  patterns.add<CallLibrary<math::AtanOp>>(context, "atan");
  // bf16 by integer operations: the instructions that some processors have flush subnormals.
  arith::populateExpandBFloat16Patterns(patterns);
}
