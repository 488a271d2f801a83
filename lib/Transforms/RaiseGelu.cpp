//===- RaiseGelu.cpp - raise the Gaussian error linear unit --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Hendrycks and Gimpel, "Gaussian Error Linear Units": x Phi(x), with Phi by erf or by tanh of a cubic. The spellings are many, so the match is one of polynomials: with u the
// result of erf or tanh, its argument must be a certain polynomial in x, and what is made of u must be x/2 + x u/2.
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"
#include <array>
#include <cmath>

namespace zopt {
#define GEN_PASS_DEF_RAISEGELU
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// Sum of c[i][j] x^i u^j.
struct Polynomial {
  static constexpr int mostX = 3, mostU = 1;
  std::array<std::array<double, mostU + 1>, mostX + 1> c{};

  static Polynomial constant(double value) {
    Polynomial result;
    result.c[0][0] = value;
    return result;
  }
  static Polynomial monomial(int x, int u, double factor = 1.0) {
    Polynomial result;
    result.c[x][u] = factor;
    return result;
  }

  bool isConstant() const { return isNear(constant(c[0][0])); }

  Polynomial scaled(double factor) const {
    Polynomial result = *this;
    for (auto &row : result.c)
      for (double &value : row)
        value *= factor;
    return result;
  }

  Polynomial operator+(const Polynomial &other) const {
    Polynomial result = *this;
    for (int i = 0; i <= mostX; ++i)
      for (int j = 0; j <= mostU; ++j)
        result.c[i][j] += other.c[i][j];
    return result;
  }

  /// Nothing where the degree is too high.
  std::optional<Polynomial> operator*(const Polynomial &other) const {
    Polynomial result;
    for (int i = 0; i <= mostX; ++i)
      for (int j = 0; j <= mostU; ++j)
        for (int k = 0; k <= mostX && c[i][j] != 0.0; ++k)
          for (int l = 0; l <= mostU; ++l) {
            if (other.c[k][l] == 0.0)
              continue;
            if (i + k > mostX || j + l > mostU)
              return std::nullopt;
            result.c[i + k][j + l] += c[i][j] * other.c[k][l];
          }
    return result;
  }

  /// Constants were rounded to fp32, some of them twice, before they came into the graph.
  bool isNear(const Polynomial &other) const {
    for (int i = 0; i <= mostX; ++i)
      for (int j = 0; j <= mostU; ++j)
        if (!(std::abs(c[i][j] - other.c[i][j]) <= 1e-6 * std::abs(other.c[i][j])))
          return false;
    return true;
  }
};

/// Expands values in x and u; both have the same type, and so has everything but constants.
class Expansion {
public:
  Expansion(Value x, Value u) : x(x), u(u) {}

  std::optional<Polynomial> expand(Value value) {
    if (value == x)
      return Polynomial::monomial(1, 0);
    if (value == u)
      return Polynomial::monomial(0, 1);
    if (std::optional<double> splat = getSplat(value))
      return Polynomial::constant(*splat);
    Operation *op = value.getDefiningOp();
    if (!op || value.getType() != x.getType() || !isa<AddOp, SubOp, MulOp, DivOp, PowOp, NegOp>(op) || visits++ == mostVisits)
      return std::nullopt;
    std::optional<Polynomial> a = expand(op->getOperand(0));
    if (!a)
      return std::nullopt;
    if (isa<NegOp>(op))
      return a->scaled(-1.0);
    std::optional<Polynomial> b = expand(op->getOperand(1));
    if (!b)
      return std::nullopt;
    if (isa<AddOp>(op))
      return *a + *b;
    if (isa<SubOp>(op))
      return *a + b->scaled(-1.0);
    if (isa<MulOp>(op))
      return *a * *b;
    if (!b->isConstant())
      return std::nullopt;
    double number = b->c[0][0];
    if (isa<DivOp>(op))
      return number == 0.0 ? std::nullopt : std::optional(a->scaled(1.0 / number));
    // Pow: a small whole exponent.
    if (number != 1.0 && number != 2.0 && number != 3.0)
      return std::nullopt;
    std::optional<Polynomial> power = a;
    for (int i = 1; i < static_cast<int>(number) && power; ++i)
      power = *power * *a;
    return power;
  }

private:
  static constexpr int mostVisits = 32;
  Value x, u;
  int visits = 0;
};

} // namespace

/// x where `argument` is `expected` of it.
static Value findVariable(Value argument, const Polynomial &expected) {
  // What the argument is computed from, nearest first; x is one of a handful.
  SmallVector<Value> candidates = {argument};
  for (size_t i = 0; i < candidates.size() && candidates.size() < 16; ++i) {
    Value candidate = candidates[i];
    std::optional<Polynomial> polynomial = Expansion(candidate, Value()).expand(argument);
    if (polynomial && polynomial->isNear(expected))
      return candidate;
    if (Operation *op = candidate.getDefiningOp(); op && isa<AddOp, SubOp, MulOp, DivOp, PowOp, NegOp>(op))
      for (Value operand : op->getOperands())
        if (operand.getType() == argument.getType() && !getSplat(operand) && !llvm::is_contained(candidates, operand))
          candidates.push_back(operand);
  }
  return {};
}

/// The op that computes x/2 + x u/2, where `u` has no other use than to get there.
static Operation *findResult(Value x, Value u) {
  Polynomial expected = Polynomial::monomial(1, 0, 0.5) + Polynomial::monomial(1, 1, 0.5);
  Value value = u;
  for (int step = 0; step < 4 && value.hasOneUse(); ++step) {
    Operation *user = *value.getUsers().begin();
    if (!isa<AddOp, SubOp, MulOp, DivOp>(user) || user->getResult(0).getType() != x.getType())
      return nullptr;
    value = user->getResult(0);
    std::optional<Polynomial> polynomial = Expansion(x, u).expand(value);
    if (polynomial && polynomial->isNear(expected))
      return user;
  }
  return nullptr;
}

namespace {

struct RaiseGeluPass : zopt::impl::RaiseGeluBase<RaiseGeluPass> {
  void runOnOperation() override {
    const double sqrtTwoOverPi = std::sqrt(2.0 / M_PI);
    const Polynomial erfArgument = Polynomial::monomial(1, 0, std::sqrt(0.5));
    const Polynomial tanhArgument = Polynomial::monomial(1, 0, sqrtTwoOverPi) + Polynomial::monomial(3, 0, 0.044715 * sqrtTwoOverPi);
    bool changed = false;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        if (!isa<ErfOp, TanhOp>(op))
          continue;
        Value x = findVariable(op.getOperand(0), isa<ErfOp>(op) ? erfArgument : tanhArgument);
        Operation *result = x ? findResult(x, op.getResult(0)) : nullptr;
        if (!result)
          continue;
        OpBuilder builder(result);
        result->getResult(0).replaceAllUsesWith(
            GeluOp::create(builder, result->getLoc(), x, isa<ErfOp>(op) ? GeluApproximation::none : GeluApproximation::tanh));
        changed = true;
      }
    }
    if (changed)
      eraseDeadOps(getOperation());
    else
      markAllAnalysesPreserved();
  }
};

} // namespace
