//===- RaiseStochasticDepth.cpp - raise dropout of whole branches ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stochastic depth (Huang et al., "Deep Networks with Stochastic Depth", 2016) keeps the branch of a sample with
// probability p and divides it by p. It is written with random numbers u of [0, 1): [u < p] / p, or floor(u + p) times
// the branch divided by p. As a dropout of ones it is what evaluation leaves out.
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"
#include <cmath>

namespace zopt {
#define GEN_PASS_DEF_RAISESTOCHASTICDEPTH
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// 1 with a probability, else 0.
struct Kept {
  UniformOp numbers;
  double probability;
};

} // namespace

static Value skipCasts(Value value) {
  while (auto cast = value.getDefiningOp<CastOp>())
    value = cast.getInput();
  return value;
}

/// Between floats only: a cast to an integer would round.
static UniformOp findNumbers(Value value) {
  for (auto cast = value.getDefiningOp<CastOp>(); cast; cast = value.getDefiningOp<CastOp>()) {
    if (!isa<FloatType>(getTensorType(cast.getInput()).getElementType()))
      return {};
    value = cast.getInput();
  }
  return value.getDefiningOp<UniformOp>();
}

static std::optional<Kept> matchKept(Value value) {
  if (!isa<FloatType>(getTensorType(value).getElementType()))
    return std::nullopt;
  value = skipCasts(value);
  UniformOp numbers;
  std::optional<double> probability;
  if (auto compare = value.getDefiningOp<CompareOp>()) {
    if (compare.getPredicate() == ComparePredicate::lt || compare.getPredicate() == ComparePredicate::le) {
      numbers = findNumbers(compare.getLhs());
      probability = getSplat(compare.getRhs());
    }
  } else if (auto floor = value.getDefiningOp<FloorOp>()) {
    auto add = floor.getInput().getDefiningOp<AddOp>();
    for (Value operand : add ? ValueRange(add->getOperands()) : ValueRange())
      if (!numbers) {
        numbers = findNumbers(operand);
        probability = getSplat(getOther(add, operand));
      }
  }
  if (!numbers || !probability || !(*probability > 0 && *probability < 1) ||
      getTensorType(value).getShape() != numbers.getType().getShape() || !getSplat(numbers.getInput()))
    return std::nullopt;
  return Kept{numbers, *probability};
}

/// Whether multiplying by `factor` divides by the probability; both went through fp32.
static bool divides(double factor, double probability) { return std::abs(factor * probability - 1) < 1e-6; }

static Value makeDropout(OpBuilder &builder, Location loc, Kept kept, Type element) {
  Value ones = broadcast(builder, loc, scalar(builder, loc, element, 1), kept.numbers.getType().getShape());
  return DropoutOp::create(builder, loc, ones.getType(), ones, ValueRange(),
                           builder.getF64FloatAttr(1 - kept.probability), kept.numbers.getIdAttr(),
                           DenseI64ArrayAttr());
}

namespace {

struct RaiseStochasticDepthPass : zopt::impl::RaiseStochasticDepthBase<RaiseStochasticDepthPass> {
  void runOnOperation() override {
    bool changed = false;
    for (Block &block : getOperation().getBody())
      for (Operation &op : block)
        changed |= raise(&op);
    if (changed)
      eraseDeadOps(getOperation());
  }

private:
  static bool raise(Operation *op) {
    if (!isa<MulOp, DivOp>(op))
      return false;
    Value result = op->getResult(0);
    OpBuilder builder(op);
    Type element = getTensorType(result).getElementType();
    // [u < p] / p
    if (std::optional<Scaling> scaling = matchScaling(result))
      if (std::optional<Kept> kept = matchKept(scaling->source); kept && divides(scaling->factor, kept->probability)) {
        result.replaceAllUsesWith(makeDropout(builder, op->getLoc(), *kept, element));
        return true;
      }
    // branch / p * floor(u + p)
    auto mul = dyn_cast<MulOp>(op);
    for (Value operand : mul ? ValueRange(mul->getOperands()) : ValueRange()) {
      std::optional<Kept> kept = matchKept(operand);
      std::optional<Scaling> scaling = kept ? matchScaling(getOther(mul, operand)) : std::nullopt;
      if (!scaling || !divides(scaling->factor, kept->probability))
        continue;
      Value dropout = makeDropout(builder, op->getLoc(), *kept, element);
      result.replaceAllUsesWith(train::mul(builder, op->getLoc(), scaling->source, dropout));
      return true;
    }
    return false;
  }
};

} // namespace
