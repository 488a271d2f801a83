//===- FoldElementwise.cpp - elementwise ONNX operators on known tensors --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fold.h"

#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace mlir;

namespace zopt::importer {

namespace {

enum class Unary {
  Abs,
  Ceil,
  Cos,
  Erf,
  Exp,
  Floor,
  Log,
  Neg,
  Not,
  Reciprocal,
  Relu,
  Sigmoid,
  Sign,
  Sin,
  Sqrt,
  Tanh,
  IsNaN
};

int64_t wrap(uint64_t value) { return static_cast<int64_t>(value); }

double evaluate(Unary op, double x) {
  switch (op) {
  case Unary::Abs:
    return std::fabs(x);
  case Unary::Ceil:
    return std::ceil(x);
  case Unary::Cos:
    return std::cos(x);
  case Unary::Erf:
    return std::erf(x);
  case Unary::Exp:
    return std::exp(x);
  case Unary::Floor:
    return std::floor(x);
  case Unary::Log:
    return std::log(x);
  case Unary::Neg:
    return -x;
  case Unary::Reciprocal:
    return 1 / x;
  case Unary::Relu:
    return x < 0 ? 0 : x;
  case Unary::Sigmoid:
    return 1 / (1 + std::exp(-x));
  case Unary::Sign:
    return x > 0 ? 1 : x < 0 ? -1 : x;
  case Unary::Sin:
    return std::sin(x);
  case Unary::Sqrt:
    return std::sqrt(x);
  case Unary::Tanh:
    return std::tanh(x);
  case Unary::Not:
  case Unary::IsNaN:
    break;
  }
  return x;
}

enum class Binary { Add, Sub, Mul, Div, Mod, Pow, Max, Min, And, Or, Xor, Equal, Less, LessOrEqual, Greater, GreaterOrEqual };

std::optional<Binary> binaryOf(StringRef op) {
  return llvm::StringSwitch<std::optional<Binary>>(op)
      .Case("Add", Binary::Add)
      .Case("Sub", Binary::Sub)
      .Case("Mul", Binary::Mul)
      .Case("Div", Binary::Div)
      .Case("Mod", Binary::Mod)
      .Case("Pow", Binary::Pow)
      .Case("Max", Binary::Max)
      .Case("Min", Binary::Min)
      .Case("And", Binary::And)
      .Case("Or", Binary::Or)
      .Case("Xor", Binary::Xor)
      .Case("Equal", Binary::Equal)
      .Case("Less", Binary::Less)
      .Case("LessOrEqual", Binary::LessOrEqual)
      .Case("Greater", Binary::Greater)
      .Case("GreaterOrEqual", Binary::GreaterOrEqual)
      .Default(std::nullopt);
}

bool isComparison(Binary op) { return op >= Binary::Equal; }

int64_t evaluate(Binary op, int64_t x, int64_t y) {
  const uint64_t a = static_cast<uint64_t>(x), b = static_cast<uint64_t>(y);
  switch (op) {
  case Binary::Add:
    return wrap(a + b);
  case Binary::Sub:
    return wrap(a - b);
  case Binary::Mul:
    return wrap(a * b);
  case Binary::Div: // truncates; y is not 0 (checked)
    return y == -1 ? wrap(0 - a) : x / y;
  case Binary::Mod: { // the divisor's sign, as Python has it
    if (y == -1)
      return 0;
    const int64_t r = x % y;
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
  }
  case Binary::Pow: {
    if (y < 0)
      return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
    uint64_t result = 1, base = a;
    for (uint64_t n = b; n; n >>= 1, base *= base)
      if (n & 1)
        result *= base;
    return wrap(result);
  }
  case Binary::Max:
    return std::max(x, y);
  case Binary::Min:
    return std::min(x, y);
  case Binary::And:
    return x && y;
  case Binary::Or:
    return x || y;
  case Binary::Xor:
    return !x != !y;
  case Binary::Equal:
    return x == y;
  case Binary::Less:
    return x < y;
  case Binary::LessOrEqual:
    return x <= y;
  case Binary::Greater:
    return x > y;
  case Binary::GreaterOrEqual:
    return x >= y;
  }
  return 0;
}

double evaluateReal(Binary op, double x, double y) {
  switch (op) {
  case Binary::Add:
    return x + y;
  case Binary::Sub:
    return x - y;
  case Binary::Mul:
    return x * y;
  case Binary::Div:
    return x / y;
  case Binary::Mod:
    return std::fmod(x, y);
  case Binary::Pow:
    return std::pow(x, y);
  case Binary::Max:
    return x != x || y != y ? x + y : std::max(x, y);
  case Binary::Min:
    return x != x || y != y ? x + y : std::min(x, y);
  default:
    return 0;
  }
}

bool compareReal(Binary op, double x, double y) {
  switch (op) {
  case Binary::Equal:
    return x == y;
  case Binary::Less:
    return x < y;
  case Binary::LessOrEqual:
    return x <= y;
  case Binary::Greater:
    return x > y;
  case Binary::GreaterOrEqual:
    return x >= y;
  default:
    return false;
  }
}

std::optional<Constant> apply(Binary op, const Constant &a, const Constant &b) {
  // Both operands have one type in ONNX; Pow's exponent may have another.
  if (op == Binary::Pow && a.isInteger() != b.isInteger())
  {
    // An integral exponent; fractional powers of integers are not shape arithmetic.
    if (a.isInteger() && (b.asTriangle() || llvm::any_of(b.values(), [](Scalar y) { return !(std::trunc(y.real) == y.real && std::fabs(y.real) < 1e9); })))
      return std::nullopt;
    return apply(op, a, b.cast(a.element()));
  }
  if (a.element() != b.element())
    return std::nullopt;
  if (a.isInteger()) {
    if ((op == Binary::Div || op == Binary::Mod) && (b.asTriangle() || llvm::any_of(b.values(), [](Scalar y) { return y.integer == 0; })))
      return std::nullopt;
    const Element result = isComparison(op) || op == Binary::And || op == Binary::Or || op == Binary::Xor ? Element::Bool : a.element();
    return mapElements(a, b, result, [op](Scalar x, Scalar y) { return Scalar{evaluate(op, x.integer, y.integer), 0}; });
  }
  if (isComparison(op))
    return mapElements(a, b, Element::Bool, [op](Scalar x, Scalar y) { return Scalar{compareReal(op, x.real, y.real), 0}; });
  return mapElements(a, b, a.element(), [op](Scalar x, Scalar y) { return Scalar{0, evaluateReal(op, x.real, y.real)}; });
}

Type elementOf(NodeImporter &node, const Constant &constant, Type operand) {
  return constant.element() == Element::Bool ? node.builder.getI1Type() : operand;
}

} // namespace

bool foldUnary(NodeImporter &node) {
  if (node.inputs() != 1)
    return false;
  const auto op = llvm::StringSwitch<std::optional<Unary>>(node.proto.op_type())
                      .Case("Abs", Unary::Abs)
                      .Case("Ceil", Unary::Ceil)
                      .Case("Cos", Unary::Cos)
                      .Case("Erf", Unary::Erf)
                      .Case("Exp", Unary::Exp)
                      .Case("Floor", Unary::Floor)
                      .Case("Log", Unary::Log)
                      .Case("Neg", Unary::Neg)
                      .Case("Not", Unary::Not)
                      .Case("Reciprocal", Unary::Reciprocal)
                      .Case("Relu", Unary::Relu)
                      .Case("Sigmoid", Unary::Sigmoid)
                      .Case("Sign", Unary::Sign)
                      .Case("Sin", Unary::Sin)
                      .Case("Sqrt", Unary::Sqrt)
                      .Case("Tanh", Unary::Tanh)
                      .Case("IsNaN", Unary::IsNaN)
                      .Default(std::nullopt);
  const Constant &input = *node.constant(0);
  std::optional<Constant> result;
  if (!op)
    return false;
  if (*op == Unary::IsNaN)
    result = mapElements(input, Element::Bool, [](Scalar x) { return Scalar{x.real != x.real, 0}; });
  else if (*op == Unary::Not && input.element() == Element::Bool)
    result = mapElements(input, Element::Bool, [](Scalar x) { return Scalar{!x.integer, 0}; });
  else if (!input.isInteger())
    result = mapElements(input, input.element(), [&](Scalar x) { return Scalar{0, evaluate(*op, x.real)}; });
  else if (*op == Unary::Neg)
    result = mapElements(input, input.element(), [](Scalar x) { return Scalar{wrap(0 - static_cast<uint64_t>(x.integer)), 0}; });
  else if (*op == Unary::Abs)
    result = mapElements(input, input.element(), [](Scalar x) { return Scalar{x.integer < 0 ? wrap(0 - static_cast<uint64_t>(x.integer)) : x.integer, 0}; });
  else if (*op == Unary::Relu && !node.element(0).isUnsignedInteger())
    result = mapElements(input, input.element(), [](Scalar x) { return Scalar{std::max<int64_t>(x.integer, 0), 0}; });
  else if (*op == Unary::Sign)
    result = mapElements(input, input.element(), [](Scalar x) { return Scalar{(x.integer > 0) - (x.integer < 0), 0}; });
  if (!result)
    return false;
  node.result(0, *result, elementOf(node, *result, node.element(0)));
  return true;
}

bool foldBinary(NodeImporter &node) {
  const std::optional<Binary> op = binaryOf(node.proto.op_type());
  const bool variadic = op == Binary::Max || op == Binary::Min;
  if (!op || node.inputs() < (variadic ? 1 : 2) || (!variadic && node.inputs() != 2))
    return false;
  // The folder's integers are signed, and % takes the divisor's sign.
  for (int i = 0; i < node.inputs(); ++i)
    if (node.element(i).isUnsignedInteger() && node.element(i).isInteger(64) && (node.constant(i)->asTriangle() || llvm::any_of(node.constant(i)->values(), [](Scalar x) { return x.integer < 0; })))
      return false;
  if (op == Binary::Mod && node.constant(0)->isInteger() && node.attribute("fmod", int64_t(0)) != 0)
    return false;
  std::optional<Constant> result = *node.constant(0);
  for (int i = 1; i < node.inputs() && result; ++i)
    result = apply(*op, *result, *node.constant(i));
  if (!result)
    return false;
  node.result(0, *result, elementOf(node, *result, node.element(0)));
  return true;
}

bool foldWhere(NodeImporter &node) {
  if (node.inputs() != 3)
    return false;
  const Constant &condition = *node.constant(0), &a = *node.constant(1), &b = *node.constant(2);
  if (condition.element() != Element::Bool || a.element() != b.element())
    return false;
  std::optional<Shape> shape = broadcast(condition.shape(), a.shape());
  if (shape)
    shape = broadcast(*shape, b.shape());
  if (!shape)
    return false;
  std::optional<Constant> result;
  const std::optional<Scalar> x = a.asSplat(), y = b.asSplat();
  if (std::optional<Scalar> one = condition.asSplat())
    result = (one->integer ? a : b).broadcast(*shape);
  else if (x && y && condition.shape() == ArrayRef(*shape))
    result = mapElements(condition, a.element(), [&](Scalar c) { return c.integer ? *x : *y; });
  else {
    std::optional<std::vector<Scalar>> c = condition.broadcast(*shape).expanded(), p = a.broadcast(*shape).expanded(), q = b.broadcast(*shape).expanded();
    if (!c || !p || !q)
      return false;
    for (size_t i = 0; i < c->size(); ++i)
      (*p)[i] = (*c)[i].integer ? (*p)[i] : (*q)[i];
    result = Constant(a.element(), *shape, *shape, std::move(*p));
  }
  if (!result)
    return false;
  node.result(0, *result, node.element(1));
  return true;
}

bool foldCast(NodeImporter &node) {
  FailureOr<int32_t> target = castTarget(node);
  if (failed(target))
    return false;
  Type element = convertElementType(*target, node.builder.getContext());
  if (!element)
    return false;
  node.result(0, node.constant(0)->cast(convertElement(element)), element);
  return true;
}

} // namespace zopt::importer
