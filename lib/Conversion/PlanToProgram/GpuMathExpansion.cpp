//===- GpuMathExpansion.cpp - f64 functions, powers and quotients for GPUs -===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a CPU takes from the C library. f64 is for tests: its functions are accurate to 1e-14 and not made for speed; pow to |y log x| ulp. An fp32 power is computed in f64.
//
//===----------------------------------------------------------------------===//

#include "FloatMath.h"
#include "LowerKernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"
#include <limits>
#include <vector>

using namespace mlir;
using namespace zopt;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct F64 : FloatMath<double> {
  Value both(Value x, Value y) { return arith::AndIOp::create(b, loc, x, y); }

  /// x = n log 2 + f; Taylor's series of e^f up to f^13, whose rest is 2^-57; scaled by 2^n in two exact steps.
  Value exp(Value x) {
    x = select(compare(arith::CmpFPredicate::OGT, x, c(710.0)), c(710.0), x);
    x = select(compare(arith::CmpFPredicate::OLT, x, c(-746.0)), c(-746.0), x);
    constexpr double kMagic = 6755399441055744.0; // 1.5 * 2^52
    Value shifted = fma(x, c(1.4426950408889634), c(kMagic));
    Value n = sub(shifted, c(kMagic));
    Value f = fma(n, c(-6.93147180369123816490e-01), x);
    f = fma(n, c(-1.90821492927058770002e-10), f);
    double factorial = 6227020800.0; // 13!
    Value r = c(1 / factorial);
    for (int k = 13; k > 0; --k) {
      factorial /= k;
      r = fma(r, f, c(1 / factorial));
    }
    Value exponent = subI(asInt(shifted), i(0x4338000000000000));
    Value first = arith::ShRSIOp::create(b, loc, exponent, i(1)), second = subI(exponent, first);
    auto power = [&](Value e) { return asFloat(arith::ShLIOp::create(b, loc, addI(e, i(1023)), i(52))); };
    return mul(mul(r, power(first)), power(second));
  }

  /// a = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = f - s (f - R) by fdlibm's polynomial in s = f / (2 + f), f = m - 1.
  Value log(Value a) {
    Value subnormal = compare(arith::CmpFPredicate::OLT, a, c(2.2250738585072014e-308));
    Value bits = asInt(select(subnormal, mul(a, c(18014398509481984.0)), a)); // 2^54
    Value e = arith::ShRSIOp::create(b, loc, subI(bits, i(0x3FE6A09E667F3BCD)), i(52));
    Value m = asFloat(subI(bits, arith::ShLIOp::create(b, loc, e, i(52))));
    Value exponent = add(arith::SIToFPOp::create(b, loc, type, e), select(subnormal, c(-54), c(0)));
    Value f = sub(m, c(1)), s = div(f, add(c(2), f)), z = mul(s, s), half = mul(c(0.5), mul(f, f));
    Value r = c(1.479819860511658591e-01);
    for (double coefficient : {1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01})
      r = fma(r, z, c(coefficient));
    r = mul(r, z);
    Value low = fma(exponent, c(1.90821492927058770002e-10), mul(s, add(half, r)));
    Value result = fma(exponent, c(6.93147180369123816490e-01), sub(f, sub(half, low)));
    Value special = select(compare(arith::CmpFPredicate::OLT, a, c(0)), c(std::numeric_limits<double>::quiet_NaN()), a);
    special = select(compare(arith::CmpFPredicate::OEQ, a, c(0)), c(-kInfinity), special);
    return select(both(compare(arith::CmpFPredicate::OGT, a, c(0)), compare(arith::CmpFPredicate::OLT, a, c(kInfinity))), result, special);
  }

  /// log(u) x / (u - 1) with u = 1 + x rounded, and e^x - 1 as (u - 1) x / log(u) with u = e^x rounded: the errors of u cancel.
  Value log1p(Value x) {
    Value u = add(x, c(1)), error = sub(u, c(1));
    Value result = select(compare(arith::CmpFPredicate::OEQ, error, c(0)), x, mul(log(u), div(x, error)));
    return select(compare(arith::CmpFPredicate::OEQ, u, c(kInfinity)), u, result);
  }
  Value expm1(Value x) {
    Value u = exp(x), error = sub(u, c(1));
    Value result = select(compare(arith::CmpFPredicate::OEQ, u, c(1)), x, mul(error, div(x, log(u))));
    Value limits = arith::OrIOp::create(b, loc, compare(arith::CmpFPredicate::OEQ, error, c(-1)), compare(arith::CmpFPredicate::OEQ, u, c(kInfinity)));
    return select(limits, error, result);
  }

  /// |x| reduced by the angles whose tangents are 1/2, 1, 3/2 and infinity, then fdlibm's polynomial.
  Value atan(Value x) {
    struct Step {
      double from, tangent, high, low; // angle = high + low
    };
    constexpr Step kSteps[] = {{0.4375, 0.5, 4.63647609000806093515e-01, 2.26987774529616870924e-17}, {0.6875, 1, 7.85398163397448278999e-01, 3.06161699786838301793e-17}, {1.1875, 1.5, 9.82793723247329054082e-01, 1.39033110312309984516e-17}};
    Value magnitude = abs(x), t = magnitude, high = c(0), low = c(0);
    for (const Step &step : kSteps) {
      Value beyond = compare(arith::CmpFPredicate::OGE, magnitude, c(step.from));
      t = select(beyond, div(sub(magnitude, c(step.tangent)), fma(magnitude, c(step.tangent), c(1))), t);
      high = select(beyond, c(step.high), high);
      low = select(beyond, c(step.low), low);
    }
    Value far = compare(arith::CmpFPredicate::OGE, magnitude, c(2.4375));
    t = select(far, div(c(-1), magnitude), t);
    high = select(far, c(1.57079632679489655800e+00), high);
    low = select(far, c(6.12323399573676603587e-17), low);
    Value z = mul(t, t), p = c(1.62858201153657823623e-02);
    for (double coefficient : {-3.65315727442169155270e-02, 4.97687799461593236017e-02, -5.83357013379057348645e-02, 6.66107313738753120669e-02, -7.69187620504482999495e-02, 9.09088713343650656196e-02, -1.11111104054623557880e-01, 1.42857142725034663711e-01, -1.99999999998764832476e-01, 3.33333333333329318027e-01})
      p = fma(p, z, c(coefficient));
    Value result = sub(high, sub(sub(mul(t, mul(z, p)), low), t));
    return math::CopySignOp::create(b, loc, result, x);
  }
  Value asin(Value x) { return atan(div(x, math::SqrtOp::create(b, loc, mul(sub(c(1), x), add(c(1), x))))); }
  Value acos(Value x) {
    Value half = atan(math::SqrtOp::create(b, loc, div(sub(c(1), x), add(c(1), x))));
    return add(half, half);
  }

  Value tanh(Value x) {
    Value twice = add(abs(x), abs(x)), u = exp(twice), error = sub(u, c(1));
    Value minusOne = select(compare(arith::CmpFPredicate::OEQ, error, c(0)), twice, mul(error, div(twice, log(u))));
    Value near = div(minusOne, add(minusOne, c(2))), far = sub(c(1), div(c(2), add(u, c(1))));
    return math::CopySignOp::create(b, loc, select(compare(arith::CmpFPredicate::OLT, abs(x), c(1)), near, far), x);
  }

  /// 2 x e^-xx / sqrt(pi) times the sum of (2 xx)^k / (2k + 1)!!, whose terms are all positive; 1 beyond 6.
  Value erf(Value x) {
    Value magnitude = arith::MinimumFOp::create(b, loc, abs(x), c(6)), z = mul(magnitude, magnitude);
    std::vector<double> coefficients = {1};
    for (int k = 1; k < 150; ++k)
      coefficients.push_back(coefficients.back() * 2 / (2 * k + 1));
    Value sum = c(coefficients.back());
    for (size_t k = coefficients.size() - 1; k-- > 0;)
      sum = fma(sum, z, c(coefficients[k]));
    Value result = mul(mul(mul(magnitude, c(1.1283791670955126)), sum), exp(sub(c(0), z)));
    return math::CopySignOp::create(b, loc, arith::MinimumFOp::create(b, loc, result, c(1)), x);
  }

  /// x = n pi/2 + r with 160 bits of pi/2; Taylor's series in r.
  Value sinOrCos(Value x, bool cosine) {
    Value n = math::RoundEvenOp::create(b, loc, mul(x, c(0.63661977236758138)));
    Value r = fma(n, c(-1.5707963267948966), x);
    r = fma(n, c(-6.123233995736766e-17), r);
    r = fma(n, c(1.4973849048591833e-33), r);
    if (cosine)
      n = add(n, c(1));
    Value quadrant = sub(n, mul(c(4), math::FloorOp::create(b, loc, mul(n, c(0.25)))));
    Value z = mul(r, r), odd = c(0), even = c(0);
    double factorial = 1;
    SmallVector<double> inverses; // of k!, with the signs of both series
    for (int k = 0; k < 20; factorial *= ++k)
      inverses.push_back((k / 2 % 2 ? -1 : 1) / factorial);
    for (int k = 18; k >= 0; k -= 2) {
      even = fma(even, z, c(inverses[k]));
      odd = fma(odd, z, c(inverses[k + 1]));
    }
    auto is = [&](double value) { return compare(arith::CmpFPredicate::OEQ, quadrant, c(value)); };
    Value result = select(arith::OrIOp::create(b, loc, is(1), is(3)), even, mul(odd, r));
    return select(compare(arith::CmpFPredicate::OGE, quadrant, c(2)), sub(c(0), result), result);
  }
  Value sin(Value x) { return sinOrCos(x, false); }
  Value cos(Value x) { return sinOrCos(x, true); }

  /// e^(y log |x|) with the sign and the limits of C's pow.
  Value pow(Value x, Value y) {
    using arith::CmpFPredicate;
    Value result = exp(mul(y, log(abs(x))));
    Value halfY = mul(y, c(0.5));
    Value isInteger = compare(CmpFPredicate::OEQ, math::FloorOp::create(b, loc, y), y);
    Value isEven = compare(CmpFPredicate::OEQ, math::FloorOp::create(b, loc, halfY), halfY);
    Value negative = compare(CmpFPredicate::OLT, x, c(0));
    Value odd = select(both(isInteger, compare(CmpFPredicate::UNE, select(isEven, c(1), c(0)), c(1))), c(1), c(0));
    Value isOdd = compare(CmpFPredicate::OEQ, odd, c(1));
    result = select(isOdd, math::CopySignOp::create(b, loc, result, x), result);
    result = select(both(negative, both(compare(CmpFPredicate::UNE, select(isInteger, c(1), c(0)), c(1)), compare(CmpFPredicate::OGT, x, c(-kInfinity)))),
                    c(std::numeric_limits<double>::quiet_NaN()), result);
    // 0 * infinity in the exponent: |x| = 1 with y infinite, and y = 0 or x = 1 with anything.
    Value isOne = compare(CmpFPredicate::OEQ, abs(x), c(1));
    result = select(both(isOne, compare(CmpFPredicate::OEQ, abs(y), c(kInfinity))), c(1), result);
    result = select(compare(CmpFPredicate::OEQ, x, c(1)), c(1), result);
    return select(compare(CmpFPredicate::OEQ, y, c(0)), c(1), result);
  }
};

template <typename OpTy, Value (F64::*Expand)(Value)>
struct ExpandF64 : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    if (!getElementTypeOrSelf(op.getType()).isF64())
      return failure();
    F64 f{{rewriter, op.getLoc(), op.getType()}};
    rewriter.replaceOp(op, (f.*Expand)(op.getOperand()));
    return success();
  }
};

struct ExpandPow : OpRewritePattern<math::PowFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::PowFOp op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    F64 f{{rewriter, loc, op.getType()}};
    if (getElementTypeOrSelf(op.getType()).isF64()) {
      rewriter.replaceOp(op, f.pow(op.getLhs(), op.getRhs()));
      return success();
    }
    f.type = f.withElement(rewriter.getF64Type());
    Value wide = f.pow(arith::ExtFOp::create(rewriter, loc, f.type, op.getLhs()), arith::ExtFOp::create(rewriter, loc, f.type, op.getRhs()));
    rewriter.replaceOpWithNewOp<arith::TruncFOp>(op, op.getType(), wide);
    return success();
  }
};

/// The value of an intrinsic function of fp32 for each element.
Value callEach(PatternRewriter &rewriter, Location loc, StringRef intrinsic, ValueRange operands) {
  auto vector = dyn_cast<VectorType>(operands[0].getType());
  auto call = [&](ValueRange scalars) { return LLVM::CallIntrinsicOp::create(rewriter, loc, rewriter.getF32Type(), rewriter.getStringAttr(intrinsic), scalars).getResults(); };
  if (!vector)
    return call(operands);
  SmallVector<Value> elements;
  for (int64_t lane = 0; lane < vector.getNumElements(); ++lane) {
    SmallVector<Value> scalars;
    for (Value operand : operands)
      scalars.push_back(vector::ExtractOp::create(rewriter, loc, operand, lane));
    elements.push_back(call(scalars));
  }
  return vector::FromElementsOp::create(rewriter, loc, vector, elements);
}

struct ExpandExp2 : OpRewritePattern<math::Exp2Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::Exp2Op op, PatternRewriter &rewriter) const override {
    if (!getElementTypeOrSelf(op.getType()).isF32())
      return failure();
    rewriter.replaceOp(op, callEach(rewriter, op.getLoc(), "llvm.nvvm.ex2.approx.ftz.f32", op.getOperand()));
    return success();
  }
};

/// What is done for each element, by the reciprocal and a scaling: 2 ulp in 6 instructions instead of a correct rounding in 9 and a branch. Below a sum with 1 (a logistic function, say) the
/// reciprocal needs no scaling: 1 ulp in one. Scalars, one a row, stay correctly rounded.
struct ExpandVectorDivision : OpRewritePattern<arith::DivFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::DivFOp op, PatternRewriter &rewriter) const override {
    auto vector = dyn_cast<VectorType>(op.getType());
    if (!vector || !vector.getElementType().isF32())
      return failure();
    Location loc = op.getLoc();
    auto isOne = [](Value value) {
      DenseFPElementsAttr elements;
      return matchPattern(value, m_Constant(&elements)) && elements.isSplat() && elements.getSplatValue<APFloat>().isExactlyValue(1);
    };
    auto sum = op.getRhs().getDefiningOp<arith::AddFOp>();
    if (sum && (isOne(sum.getLhs()) || isOne(sum.getRhs()))) {
      Value reciprocal = callEach(rewriter, loc, "llvm.nvvm.rcp.approx.ftz.f", sum.getResult());
      if (isOne(op.getLhs()))
        rewriter.replaceOp(op, reciprocal);
      else
        rewriter.replaceOpWithNewOp<arith::MulFOp>(op, op.getLhs(), reciprocal);
      return success();
    }
    rewriter.replaceOp(op, callEach(rewriter, loc, "llvm.nvvm.div.full", {op.getLhs(), op.getRhs()}));
    return success();
  }
};

} // namespace

void zopt::populateGpuMathExpansionPatterns(RewritePatternSet &patterns) {
  MLIRContext *context = patterns.getContext();
  populateF32ExpansionPatterns(patterns, /*gpu=*/true);
  patterns.add<ExpandF64<math::ExpOp, &F64::exp>, ExpandF64<math::LogOp, &F64::log>, ExpandF64<math::Log1pOp, &F64::log1p>, ExpandF64<math::TanhOp, &F64::tanh>,
               ExpandF64<math::ErfOp, &F64::erf>, ExpandF64<math::SinOp, &F64::sin>, ExpandF64<math::CosOp, &F64::cos>, ExpandPow, ExpandF64<math::ExpM1Op, &F64::expm1>,
               ExpandF64<math::AtanOp, &F64::atan>, ExpandF64<math::AsinOp, &F64::asin>, ExpandF64<math::AcosOp, &F64::acos>>(context);
}

void zopt::populateGpuInstructionPatterns(RewritePatternSet &patterns) { patterns.add<ExpandExp2, ExpandVectorDivision>(patterns.getContext()); }
