//===- RaisingPatterns.cpp - what the raising passes share ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "mlir/IR/OperationSupport.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

std::optional<double> zopt::getSplat(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<ReshapeOp, BroadcastOp>(op))
      break;
    value = op->getOperand(0);
  }
  auto constant = value.getDefiningOp<ConstantOp>();
  if (!constant)
    return std::nullopt;
  auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
  if (!elements || !elements.isSplat())
    return std::nullopt;
  if (isa<FloatType>(elements.getElementType())) {
    APFloat number = elements.getSplatValue<APFloat>();
    bool losesInfo;
    number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
    return number.convertToDouble();
  }
  if (auto integer = dyn_cast<IntegerType>(elements.getElementType())) {
    APInt number = elements.getSplatValue<APInt>();
    return integer.getWidth() == 1 ? number.getZExtValue() : static_cast<double>(number.getSExtValue());
  }
  return std::nullopt;
}

bool zopt::isSplat(Value value, double expected) {
  std::optional<double> splat = getSplat(value);
  return splat && *splat == expected;
}

std::optional<Scaling> zopt::matchScaling(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !isa<MulOp, DivOp>(op) || !isa<FloatType>(getTensorType(value).getElementType()))
    return std::nullopt;
  for (unsigned source : {0u, 1u}) {
    if (source == 1 && isa<DivOp>(op))
      break;
    std::optional<double> factor = getSplat(op->getOperand(1 - source));
    if (!factor || op->getOperand(source).getType() != value.getType())
      continue;
    if (isa<DivOp>(op))
      factor = 1.0 / *factor;
    // A zero or infinite factor says something else than a scale does (0 * inf).
    if (std::isfinite(*factor) && *factor != 0.0)
      return Scaling{op->getOperand(source), *factor};
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

/// Exporters repeat a handful of ops, never whole layers: `depth` bounds what a comparison can cost.
static bool isSameValue(Value a, Value b, unsigned depth) {
  if (a == b)
    return true;
  Operation *x = a.getDefiningOp(), *y = b.getDefiningOp();
  if (depth == 0 || !x || !y || cast<OpResult>(a).getResultNumber() != cast<OpResult>(b).getResultNumber() || !isMemoryEffectFree(x))
    return false;
  auto sameOperand = [&](Value l, Value r) { return success(isSameValue(l, r, depth - 1)); };
  return OperationEquivalence::isEquivalentTo(x, y, sameOperand, /*markEquivalent=*/nullptr, OperationEquivalence::IgnoreLocations);
}

bool zopt::isSameValue(Value a, Value b) { return ::isSameValue(a, b, /*depth=*/4); }

Value zopt::matchRowMean(Value value) {
  RankedTensorType type = getTensorType(value);
  // Without keepdims a reshape puts the axis back.
  if (auto reshape = value.getDefiningOp<ReshapeOp>()) {
    SmallVector<int64_t> kept(getTensorType(reshape.getInput()).getShape());
    kept.push_back(1);
    if (type.getShape() == ArrayRef<int64_t>(kept))
      value = reshape.getInput();
  }
  auto mean = value.getDefiningOp<ReduceMeanOp>();
  if (!mean)
    return {};
  RankedTensorType input = getTensorType(mean.getInput());
  bool lastAxis = mean.getAxes().size() == 1 && mean.getAxes()[0] == input.getRank() - 1;
  if (!lastAxis || type.getRank() != input.getRank() || type.getElementType() != input.getElementType())
    return {};
  return mean.getInput();
}

/// x where the value is x^2 of the same type.
static Value matchSquare(Value value) {
  if (auto pow = value.getDefiningOp<PowOp>())
    return isSplat(pow.getRhs(), 2.0) && pow.getLhs().getType() == value.getType() ? pow.getLhs() : Value();
  if (auto mul = value.getDefiningOp<MulOp>())
    return mul.getLhs() == mul.getRhs() ? mul.getLhs() : Value();
  return {};
}

namespace {
/// mean(squared^2) + epsilon.
struct MeanSquare {
  Value squared;
  double epsilon;
};
} // namespace

static std::optional<MeanSquare> matchMeanSquare(Value value) {
  double epsilon = 0.0;
  if (auto add = value.getDefiningOp<AddOp>()) {
    for (Value operand : {add.getLhs(), add.getRhs()}) {
      Value other = getOther(add, operand);
      if (std::optional<double> splat = getSplat(operand); splat && other.getType() == value.getType()) {
        epsilon = *splat;
        value = other;
        break;
      }
    }
  }
  Value squares = matchRowMean(value);
  if (!squares || epsilon < 0.0)
    return std::nullopt;
  Value squared = matchSquare(squares);
  if (!squared)
    return std::nullopt;
  return MeanSquare{squared, epsilon};
}

/// Whether the value is the root (`inverse`: one over the root) of what is returned.
static Value matchRoot(Value value, bool inverse) {
  if (!inverse) {
    if (auto sqrt = value.getDefiningOp<SqrtOp>())
      return sqrt.getInput();
    if (auto pow = value.getDefiningOp<PowOp>(); pow && isSplat(pow.getRhs(), 0.5) && pow.getLhs().getType() == value.getType())
      return pow.getLhs();
    return {};
  }
  if (auto rsqrt = value.getDefiningOp<RsqrtOp>())
    return rsqrt.getInput();
  if (auto reciprocal = value.getDefiningOp<ReciprocalOp>())
    return matchRoot(reciprocal.getInput(), /*inverse=*/false);
  if (auto div = value.getDefiningOp<DivOp>(); div && isSplat(div.getLhs(), 1.0) && div.getRhs().getType() == value.getType())
    return matchRoot(div.getRhs(), /*inverse=*/false);
  if (auto pow = value.getDefiningOp<PowOp>(); pow && isSplat(pow.getRhs(), -0.5) && pow.getLhs().getType() == value.getType())
    return pow.getLhs();
  return {};
}

std::optional<DivisionByRoot> zopt::matchDivisionByRoot(Operation *op) {
  if (!isa<MulOp, DivOp>(op))
    return std::nullopt;
  for (unsigned numerator : {0u, 1u}) {
    if (numerator == 1 && isa<DivOp>(op))
      break;
    Value radicand = matchRoot(op->getOperand(1 - numerator), /*inverse=*/isa<MulOp>(op));
    if (!radicand || op->getOperand(numerator).getType() != op->getResult(0).getType())
      continue;
    std::optional<MeanSquare> mean = matchMeanSquare(radicand);
    if (mean && mean->squared.getType() == op->getResult(0).getType())
      return DivisionByRoot{op->getOperand(numerator), mean->squared, mean->epsilon};
  }
  return std::nullopt;
}

bool zopt::isVector(Value value, int64_t size) {
  RankedTensorType type = getTensorType(value);
  if (type.getRank() == 0 || type.getShape().back() != size || type.getNumElements() != size)
    return false;
  while (getTensorType(value).getRank() != 1) {
    Operation *op = value.getDefiningOp();
    if (!op || !isa<ReshapeOp, CastOp>(op))
      return op && isa<ReadStateOp, ConstantOp>(op);
    value = op->getOperand(0);
  }
  return true;
}

Value zopt::asVector(OpBuilder &builder, Location loc, Value value) {
  if (auto reshape = value.getDefiningOp<ReshapeOp>(); reshape && getTensorType(reshape.getInput()).getRank() == 1)
    return reshape.getInput();
  return reshape(builder, loc, value, getTensorType(value).getShape().take_back());
}

Value zopt::getOther(Operation *op, Value operand) { return op->getOperand(0) == operand ? op->getOperand(1) : op->getOperand(0); }

Value zopt::exchangeLastAxes(OpBuilder &builder, Location loc, Value value) {
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, getTensorType(value).getRank()));
  if (auto transpose = value.getDefiningOp<TransposeOp>()) {
    llvm::copy(transpose.getPermutation(), permutation.begin());
    value = transpose.getInput();
  }
  std::swap(permutation.back(), permutation[permutation.size() - 2]);
  if (llvm::is_sorted(permutation))
    return value;
  return transpose(builder, loc, value, permutation);
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

bool GradientReach::reaches(Value start) {
  auto isFloat = [](Value value) { return isa<FloatType>(getElementTypeOrSelf(value.getType())); };
  Operation *root = start.getDefiningOp();
  if (!root || !isFloat(start))
    return false;
  // Depth first, without recursion: masks can hang on long chains. An op is known once its operands are.
  SmallVector<std::pair<Operation *, unsigned>> stack;
  auto open = [&](Operation *op) {
    if (auto read = dyn_cast<ReadStateOp>(op)) {
      auto state = SymbolTable::lookupNearestSymbolFrom<StateOp>(read, read.getStateAttr());
      known[op] = !state || state.getTrained();
    } else {
      known[op] = false;
      stack.push_back({op, 0});
    }
  };
  if (!known.contains(root))
    open(root);
  while (!stack.empty()) {
    auto &[op, next] = stack.back();
    if (next == op->getNumOperands() || known[op]) {
      bool reached = known[op];
      stack.pop_back();
      if (reached && !stack.empty())
        known[stack.back().first] = true;
      continue;
    }
    Value operand = op->getOperand(next++);
    Operation *producer = operand.getDefiningOp();
    if (!producer || !isFloat(operand))
      continue;
    auto found = known.find(producer);
    if (found == known.end()) {
      Operation *user = op;
      open(producer);
      if (known[producer])
        known[user] = true;
    } else if (found->second) {
      known[op] = true;
    }
  }
  return known[root];
}

void zopt::eraseDeadOps(func::FuncOp function) {
  for (Block &block : function.getBody())
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (isOpTriviallyDead(&op))
        op.erase();
}
