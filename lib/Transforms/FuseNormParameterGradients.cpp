//===- FuseNormParameterGradients.cpp - column sums on a norm's gradient --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The gradient of a norm's input reads the input and the cotangent, and writes what the layer before it takes as
// cotangent. The gradients of gamma and beta sum the former over rows, that of the layer's bias the latter: beside the
// gradient they cost no pass over memory.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/STLExtras.h"

namespace zopt {
#define GEN_PASS_DEF_FUSENORMPARAMETERGRADIENTS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

struct FuseNormParameterGradientsPass : zopt::impl::FuseNormParameterGradientsBase<FuseNormParameterGradientsPass> {
  void runOnOperation() override {
    Block &block = getOperation().getBody().front();
    for (LayerNormGradOp gradient : llvm::to_vector(block.getOps<LayerNormGradOp>()))
      fuse<LayerNormGradOp, LayerNormParameterGradOp>(gradient);
    for (RMSNormGradOp gradient : llvm::to_vector(block.getOps<RMSNormGradOp>()))
      fuse<RMSNormGradOp, RMSNormParameterGradOp>(gradient);
  }

private:
  static bool isSameNorm(LayerNormGradOp a, LayerNormParameterGradOp b) {
    return a.getInput() == b.getInput() && a.getMean() == b.getMean() && a.getRstd() == b.getRstd() &&
           a.getCotangent() == b.getCotangent();
  }
  static bool isSameNorm(RMSNormGradOp a, RMSNormParameterGradOp b) {
    return a.getInput() == b.getInput() && a.getRstd() == b.getRstd() && a.getCotangent() == b.getCotangent();
  }

  /// Whether every operand of `op` is there before `place`, or nothing reads a result of it before.
  static bool isDefinedBefore(Operation *op, Operation *place) {
    return llvm::all_of(op->getOperands(), [&](Value operand) {
      return !operand.getDefiningOp() || operand.getDefiningOp()->isBeforeInBlock(place);
    });
  }
  static bool isReadBehind(Operation *op, Operation *place) {
    return llvm::all_of(op->getUsers(), [&](Operation *user) {
      return place->isBeforeInBlock(place->getBlock()->findAncestorOpInBlock(*user));
    });
  }

  /// The sum of a gradient over its rows: of all axes but the last.
  static ReduceSumOp findSum(Value gradient) {
    int64_t rank = getTensorType(gradient).getRank();
    for (Operation *user : gradient.getUsers())
      if (auto sum = dyn_cast<ReduceSumOp>(user); sum && sum->getBlock() == gradient.getDefiningOp()->getBlock() &&
                                                  getTensorType(sum.getResult()).getRank() == 1 &&
                                                  llvm::equal(sum.getAxes(), llvm::seq<int64_t>(0, rank - 1)))
        return sum;
    return {};
  }

  template <typename GradOp, typename ParameterGradOp>
  void fuse(GradOp gradient) {
    ParameterGradOp parameters;
    for (Operation *user : gradient.getCotangent().getUsers())
      if (auto op = dyn_cast<ParameterGradOp>(user);
          op && op->getBlock() == gradient->getBlock() && isSameNorm(gradient, op))
        parameters = op;
    // Where the gradient stands, or where the parameters' does.
    if (parameters && !isReadBehind(parameters, gradient)) {
      if (isDefinedBefore(gradient, parameters))
        gradient->moveBefore(parameters);
      else
        parameters = {};
    }
    ReduceSumOp sum = findSum(gradient.getResult());
    if (!parameters && !sum)
      return;

    OpBuilder builder(gradient);
    SmallVector<Type> types = {gradient.getResult().getType()};
    SmallVector<Location> locations = {gradient.getLoc()};
    SmallVector<int32_t> segments = {1};
    segments.append(std::is_same_v<GradOp, LayerNormGradOp> ? 2 : 1, parameters ? 1 : 0);
    segments.push_back(sum ? 1 : 0);
    if (parameters) {
      llvm::append_range(types, parameters->getResultTypes());
      locations.push_back(parameters.getLoc());
    }
    if (sum) {
      types.push_back(sum.getResult().getType());
      locations.push_back(sum.getLoc());
    }
    NamedAttrList attributes(gradient->getAttrs());
    attributes.set("resultSegmentSizes", builder.getDenseI32ArrayAttr(segments));
    auto fused =
        GradOp::create(builder, builder.getFusedLoc(locations), types, gradient->getOperands(), attributes.getAttrs());
    unsigned next = 0;
    gradient.getResult().replaceAllUsesWith(fused->getResult(next++));
    if (parameters)
      for (Value result : parameters->getResults())
        result.replaceAllUsesWith(fused->getResult(next++));
    if (sum)
      sum.getResult().replaceAllUsesWith(fused->getResult(next));
    if (parameters)
      parameters.erase();
    if (sum)
      sum.erase();
    gradient.erase();
  }
};

} // namespace
