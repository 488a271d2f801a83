//===- FloatMath.h - short names for arithmetic on one float type ---*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to MathExpansion.cpp and GpuMathExpansion.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_FLOATMATH_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_FLOATMATH_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/TypeUtilities.h"
#include <type_traits>

namespace zopt {

/// Writes arithmetic on values of one type: float or double as `Float` says, scalar or vector.
template <typename Float>
struct FloatMath {
  using Integer = std::conditional_t<std::is_same_v<Float, float>, int32_t, int64_t>; // as wide as the float
  using Value = mlir::Value;

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type type;

  mlir::Type integerType() const { return withElement(b.getIntegerType(8 * sizeof(Integer))); }
  mlir::Type withElement(mlir::Type element) const {
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(type))
      return vector.clone(element);
    return element;
  }
  Value constant(mlir::Type of, mlir::Attribute element) {
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(of))
      element = mlir::DenseElementsAttr::get(vector, element);
    return mlir::arith::ConstantOp::create(b, loc, llvm::cast<mlir::TypedAttr>(element));
  }
  Value c(Float value) { return constant(type, b.getFloatAttr(mlir::getElementTypeOrSelf(type), value)); }
  Value i(Integer value) {
    return constant(integerType(), b.getIntegerAttr(mlir::getElementTypeOrSelf(integerType()), value));
  }
  Value add(Value x, Value y) { return mlir::arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return mlir::arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return mlir::arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return mlir::arith::DivFOp::create(b, loc, x, y); }
  Value neg(Value x) { return mlir::arith::NegFOp::create(b, loc, x); }
  Value abs(Value x) { return mlir::math::AbsFOp::create(b, loc, x); }
  Value fma(Value x, Value y, Value z) { return mlir::math::FmaOp::create(b, loc, x, y, z); }
  Value compare(mlir::arith::CmpFPredicate predicate, Value x, Value y) {
    return mlir::arith::CmpFOp::create(b, loc, predicate, x, y);
  }
  Value select(Value condition, Value x, Value y) { return mlir::arith::SelectOp::create(b, loc, condition, x, y); }
  Value asInt(Value x) { return mlir::arith::BitcastOp::create(b, loc, integerType(), x); }
  Value asFloat(Value x) { return mlir::arith::BitcastOp::create(b, loc, type, x); }
  Value addI(Value x, Value y) { return mlir::arith::AddIOp::create(b, loc, x, y); }
  Value subI(Value x, Value y) { return mlir::arith::SubIOp::create(b, loc, x, y); }
};

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_FLOATMATH_H
