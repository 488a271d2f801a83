//===- OperatorsMath.cpp - activations and functions of one number ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Attributes are fp32 in ONNX; a constant of the graph has the same number.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include "llvm/ADT/bit.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace zopt::importer {

using Predicate = train::ComparePredicate;

/// The operand of a function of one float; null where it is none.
static Value floatOperand(NodeImporter &node) {
  if (node.inputs() < 1 || !node.has(0)) {
    (void)node.error("has no operand");
    return nullptr;
  }
  if (!isa<FloatType>(node.element(0))) {
    (void)node.error("needs a float operand");
    return nullptr;
  }
  return node.operand(0);
}

/// x where x > 0, else scale (e^(x / width) - 1). The exponential sees no positive numbers, so that its derivative is finite wherever it does not count.
static Value exponentialUnit(Emit &k, Value x, double scale, double width) {
  Value positive = k.compare(Predicate::gt, x, 0.0);
  Value tail = k.select(positive, k.c(x, 0), x);
  if (width != 1)
    tail = k.div(tail, width);
  return k.select(positive, x, k.mul(k.unary<train::Expm1Op>(tail), scale));
}

Type realType(Type element) {
  if (isa<FloatType>(element))
    return element;
  Builder builder(element.getContext());
  return element.getIntOrFloatBitWidth() <= 16 ? builder.getF32Type() : builder.getF64Type();
}

Value roundTo(Emit &emit, Value x, Type element) {
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer || integer.getWidth() == 1)
    return emit.cast(x, element);
  const int64_t bits = integer.getWidth();
  x = emit.unary<train::RoundOp>(x);
  if (bits <= 32)
    x = integer.isUnsigned() ? emit.min(emit.max(x, 0.0), std::ldexp(1.0, bits) - 1)
                             : emit.min(emit.max(x, -std::ldexp(1.0, bits - 1)), std::ldexp(1.0, bits - 1) - 1);
  return emit.cast(x, element);
}

LogicalResult lowerActivation(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  const bool integers = op == "Shrink" && isa<IntegerType>(node.element(0)) && !node.element(0).isInteger(1);
  Value x = integers ? node.operand(0) : floatOperand(node);
  if (!x)
    return failure();
  Emit k(node);
  x = k.cast(x, realType(node.element(0)));
  auto alpha = [&](double otherwise) { return node.attribute("alpha", otherwise); };
  Value result;
  if (op == "Elu") {
    result = exponentialUnit(k, x, alpha(1.0), 1);
  } else if (op == "Celu") {
    result = exponentialUnit(k, x, alpha(1.0), alpha(1.0));
  } else if (op == "Selu") {
    const double gamma = node.attribute("gamma", double(1.05070102214813232421875f));
    result = k.mul(exponentialUnit(k, x, alpha(double(1.67326319217681884765625f)), 1), gamma);
  } else if (op == "LeakyRelu") {
    result = k.select(k.compare(Predicate::gt, x, 0.0), x, k.mul(x, alpha(double(0.01f))));
  } else if (op == "ThresholdedRelu") {
    result = k.select(k.compare(Predicate::le, x, alpha(1.0)), k.c(x, 0), x);
  } else if (op == "HardSigmoid") {
    Value line = k.add(k.mul(x, alpha(double(0.2f))), node.attribute("beta", 0.5));
    result = k.select(k.compare(Predicate::le, line, 0.0), k.c(x, 0), k.select(k.compare(Predicate::ge, line, 1.0), k.c(x, 1), line));
  } else if (op == "HardSwish") {
    Value middle = k.mul(x, k.add(k.div(x, 6.0), 0.5));
    result = k.select(k.compare(Predicate::lt, x, -3.0), k.c(x, 0), k.select(k.compare(Predicate::le, x, 3.0), middle, x));
  } else if (op == "Mish") {
    result = k.mul(x, k.unary<train::TanhOp>(k.unary<train::SoftplusOp>(x)));
  } else if (op == "Softsign") {
    result = k.div(x, k.add(k.unary<train::AbsOp>(x), 1.0));
  } else if (op == "Shrink") {
    const double lambda = node.attribute("lambd", 0.5), bias = node.attribute("bias", 0.0);
    Value outer = k.select(k.compare(Predicate::lt, x, 0.0), k.add(x, bias), k.add(x, -bias));
    result = k.select(k.compare(Predicate::le, k.unary<train::AbsOp>(x), lambda), k.c(x, 0), outer);
  } else { // Swish, and com.microsoft's QuickGelu
    const double slope = alpha(op == "QuickGelu" ? double(1.702f) : 1.0);
    result = slope == 1 ? k.unary<train::SiluOp>(x) : k.mul(x, k.unary<train::SigmoidOp>(k.mul(x, slope)));
  }
  node.result(0, k.cast(result, node.element(0)));
  return success();
}

LogicalResult lowerSwiGLU(NodeImporter &node) {
  if (node.inputs() != 2 || node.shape(0) != node.shape(1) || node.element(0) != node.element(1) || !isa<FloatType>(node.element(0)))
    return node.error("needs two float operands of one shape");
  Value gate = node.operand(0), linear = gate ? node.operand(1) : Value();
  if (!linear)
    return failure();
  Emit k(node);
  const double slope = node.attribute("alpha", 1.0);
  Value swish = slope == 1 ? k.unary<train::SiluOp>(gate) : k.mul(gate, k.unary<train::SigmoidOp>(k.mul(gate, slope)));
  node.result(0, k.mul(swish, linear));
  return success();
}

LogicalResult lowerPRelu(NodeImporter &node) {
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  std::optional<Shape> both = broadcast(node.shape(0), node.shape(1));
  if (!both || ArrayRef(*both) != node.shape(0))
    return node.error("slopes of shape " + describe(node.shape(1)) + " do not broadcast to " + describe(node.shape(0)));
  if (node.element(0) != node.element(1))
    return node.error("operands have different element types");
  Value x = node.operand(0), slope = x ? node.broadcastingOperand(1) : Value();
  if (!slope)
    return failure();
  Emit k(node);
  node.result(0, k.select(k.compare(Predicate::gt, x, 0.0), x, k.mul(x, slope)));
  return success();
}

LogicalResult lowerIsInf(NodeImporter &node) {
  Value x = floatOperand(node);
  if (!x)
    return failure();
  Emit k(node);
  const bool positive = node.attribute("detect_positive", int64_t(1)) != 0, negative = node.attribute("detect_negative", int64_t(1)) != 0;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (positive && negative)
    node.result(0, k.compare(Predicate::eq, k.unary<train::AbsOp>(x), infinity));
  else if (positive || negative)
    node.result(0, k.compare(Predicate::eq, x, positive ? infinity : -infinity));
  else
    node.result(0, Constant::splat(Element::Bool, node.shape(0), {0, 0}), node.builder.getI1Type());
  return success();
}

/// Floats with fmod: the dividend's sign. Otherwise the divisor's, as Python has it.
LogicalResult lowerMod(NodeImporter &node) {
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  std::optional<Shape> shape = broadcast(node.shape(0), node.shape(1));
  if (!shape || node.element(0) != node.element(1))
    return node.error("operands of shapes " + describe(node.shape(0)) + " and " + describe(node.shape(1)) + " do not broadcast, or their element types differ");
  Value a = node.broadcastingOperand(0), b = a ? node.broadcastingOperand(1) : Value();
  if (!b)
    return failure();
  Emit k(node);
  Value rest = k.binary<train::RemOp>(a, b);
  if (node.attribute("fmod", int64_t(0)) == 0 && !node.element(0).isUnsignedInteger()) {
    Value other = k.binary<train::XorOp>(k.compare(Predicate::lt, rest, 0.0), k.compare(Predicate::lt, b, 0.0));
    rest = k.select(k.logicalAnd(other, k.compare(Predicate::ne, rest, 0.0)), k.add(rest, b), rest);
  }
  node.result(0, node.broadcastTo(rest, *shape));
  return success();
}

/// By Laplace's expansion, every minor of the first rows once: 2^n of them, so that n is limited. It needs no pivots and has a derivative everywhere.
LogicalResult lowerDet(NodeImporter &node) {
  Value x = floatOperand(node);
  if (!x)
    return failure();
  constexpr int64_t most = 6;
  const int64_t rank = node.rank(0), n = rank < 2 ? 0 : node.shape(0).back();
  if (rank < 2 || node.shape(0)[rank - 2] != n)
    return node.error("needs square matrices, but got " + describe(node.shape(0)));
  if (n < 1 || n > most)
    return node.error("of matrices of " + Twine(n) + " rows is not supported: up to " + Twine(most) + " are");
  Emit k(node);
  std::vector<Value> minors(size_t(1) << n); // by the set of their columns; as many rows
  for (unsigned columns = 1; columns < minors.size(); ++columns) {
    const int64_t row = llvm::popcount(columns) - 1;
    int64_t place = 0; // of the column in the set
    for (int64_t column = 0; column < n; ++column) {
      if (!(columns >> column & 1))
        continue;
      Value term = k.slice(k.slice(x, rank - 2, row, 1), rank - 1, column, 1);
      if (Value minor = minors[columns & ~(1u << column)])
        term = k.mul(term, minor);
      Value &sum = minors[columns];
      const bool negative = (row + place) % 2 != 0;
      sum = !sum ? (negative ? k.unary<train::NegOp>(term) : term) : negative ? k.sub(sum, term) : k.add(sum, term);
      ++place;
    }
  }
  node.result(0, k.reshape(minors.back(), node.shape(0).drop_back(2)));
  return success();
}

} // namespace zopt::importer
