//===- Attention.cpp - kernels of attention's softmax and of rotary --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Attention's products are contractions; what stands between them are rows of scores. With `causal` a row ends at its diagonal: only the blocks of 16 up to there are read and computed, the rest of
// the results is zeroed.
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

namespace {

/// A row of scores: which of its n elements are visible, and loops over them.
struct ScoreRow {
  KernelBuilder &kernel;
  Type type;
  View scores, mask;
  bool hasMask;
  SmallVector<Value> at; // b, h, t, place
  int64_t n;
  Value visible = {}; // causal: elements up to the diagonal, 0 to n; null: all

  ScoreRow(KernelBuilder &kernel, Type type, View scores, View mask, bool hasMask, Value outer, ArrayRef<int64_t> shape, bool causal)
      : kernel(kernel), type(type), scores(scores), mask(mask), hasMask(hasMask), n(shape[3]) {
    at = kernel.delinearize(outer, shape.drop_back());
    if (causal) {
      OpBuilder &b = kernel.builder;
      Value end = kernel.add(at[2], shape[3] - shape[2] + 1);
      end = arith::MaxSIOp::create(b, kernel.loc, end, kernel.index(0));
      visible = arith::MinSIOp::create(b, kernel.loc, end, kernel.index(n));
    }
    at.push_back(Value());
  }

  int64_t whole() const { return n / kCpuLanes * kCpuLanes; }
  /// A GPU's group works in steps: the end of those that have a visible element, and of all.
  Value visibleSteps() {
    int64_t step = kernel.getSpread().step();
    return kernel.mul(arith::DivUIOp::create(kernel.builder, kernel.loc, kernel.add(visible, step - 1), kernel.index(step)), step);
  }
  /// The end of the whole blocks that hold a visible element.
  Value visibleWhole() {
    OpBuilder &b = kernel.builder;
    Value rounded = kernel.mul(arith::DivUIOp::create(b, kernel.loc, kernel.add(visible, kCpuLanes - 1), kernel.index(kCpuLanes)), kCpuLanes);
    return arith::MinUIOp::create(b, kernel.loc, rounded, kernel.index(whole()));
  }
  Value restIsVisible() { return arith::CmpIOp::create(kernel.builder, kernel.loc, arith::CmpIPredicate::ugt, visible, kernel.index(whole())); }

  /// `body` on every block with a visible element, `otherwise` on the others.
  void forBlocks(KernelBuilder::LaneBody body, KernelBuilder::LaneBody otherwise) {
    if (!visible)
      return kernel.forLanes(n, body);
    if (kernel.isGpu()) {
      Value end = visibleSteps();
      kernel.forLanesBetween(kernel.index(0), end, n, body);
      return kernel.forLanesBetween(end, kernel.index(n), n, otherwise);
    }
    Value end = visibleWhole();
    kernel.forRange(kernel.index(0), end, kCpuLanes, [&](Value i) { body(i, Lanes{}); });
    kernel.forRange(end, kernel.index(whole()), kCpuLanes, [&](Value i) { otherwise(i, Lanes{}); });
    if (n == whole())
      return;
    OpBuilder &b = kernel.builder;
    auto rest = scf::IfOp::create(b, kernel.loc, restIsVisible(), /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(rest.thenBlock());
    body(kernel.index(whole()), Lanes{n - whole()});
    b.setInsertionPointToStart(rest.elseBlock());
    otherwise(kernel.index(whole()), Lanes{n - whole()});
  }

  /// The reduction of 16-lane terms over the visible blocks: partial results by place modulo 16.
  Value reduce(Combine kind, function_ref<Value(Value, Lanes)> terms) {
    if (!visible)
      return kernel.reduceRow(n, kind, type, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {terms(i, lanes)}; })[0];
    if (kernel.isGpu())
      return kernel.reduceLanesBetween(kind, kernel.index(0), visibleSteps(), n, type, terms);
    OpBuilder &b = kernel.builder;
    Value partial = kernel.identity(kind, type);
    auto step = [&](Value sum, Value i, Lanes lanes) -> Value {
      return kernel.combine(kind, sum, kernel.keepValid(terms(i, lanes), kernel.identity(kind, type), lanes));
    };
    if (whole() > 0) {
      auto loop = scf::ForOp::create(b, kernel.loc, kernel.index(0), visibleWhole(), kernel.index(kCpuLanes), partial);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      scf::YieldOp::create(b, kernel.loc, step(loop.getRegionIterArg(0), loop.getInductionVar(), Lanes{}));
      partial = loop.getResult(0);
    }
    if (n != whole()) {
      auto rest = scf::IfOp::create(b, kernel.loc, TypeRange(partial.getType()), restIsVisible(), /*withElseRegion=*/true);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(rest.thenBlock());
      scf::YieldOp::create(b, kernel.loc, step(partial, kernel.index(whole()), Lanes{n - whole()}));
      b.setInsertionPointToStart(rest.elseBlock());
      scf::YieldOp::create(b, kernel.loc, partial);
      partial = rest.getResult(0);
    }
    return kernel.horizontal(kind, partial);
  }

  Value load(const View &view, Value i, Lanes lanes) {
    at.back() = i;
    return kernel.convert(kernel.loadCompute(view, at, lanes), type);
  }
  void store(Value value, const View &view, Value i, Lanes lanes) {
    at.back() = i;
    kernel.storeRounded(value, view, at, lanes);
  }

  /// The score plus its mask, -infinity where it is not visible.
  Value maskedScore(Value i, Lanes lanes) {
    OpBuilder &b = kernel.builder;
    Value score = load(scores, i, lanes), hidden = kernel.splat(-std::numeric_limits<double>::infinity(), type);
    if (hasMask && mask.elementType.isInteger(1))
      score = arith::SelectOp::create(b, kernel.loc, kernel.load(mask, at, lanes), score, hidden);
    else if (hasMask)
      score = kernel.addF(score, load(mask, i, lanes));
    if (!visible)
      return score;
    Type i32 = b.getI32Type();
    Value places = arith::AddIOp::create(b, kernel.loc, kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, i32, i)), kernel.laneNumbers(i32));
    Value end = kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, i32, visible));
    return arith::SelectOp::create(b, kernel.loc, arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::slt, places, end), score, hidden);
  }

  /// `value`, or 0 where it is -infinity: what a row that sees nothing subtracts, so that its exponentials are 0.
  Value finiteOrZero(Value value) {
    OpBuilder &b = kernel.builder;
    Value nothing = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OEQ, value, kernel.scalar(-std::numeric_limits<double>::infinity(), type));
    return arith::SelectOp::create(b, kernel.loc, nothing, kernel.scalar(0, type), value);
  }
};

} // namespace

/// Bytes moved: scores once (the visible part), result once.
LogicalResult kernels::generateAttentionProbabilities(Context &context, train::AttentionProbabilitiesOp op) {
  const TensorLayout &scores = context.operand(0), &result = context.result(0);
  bool hasMask = static_cast<bool>(op.getMask());
  KernelBuilder kernel(context.context(), "attention_probabilities", context.target);
  View scoresView = kernel.argument(rowAccess(0, scores), scores.shape), mask;
  if (hasMask)
    mask = kernel.argument(broadcastAccess(1, context.operand(1), scores.shape), scores.shape);
  View resultView = kernel.argument(rowAccess(context.resultArgument(0), result, true), scores.shape);
  View lseView = kernel.argument(perRowAccess(context.resultArgument(1), context.result(1), true), scores.shape);
  Type type = train::getComputeType(scores.elementType);
  kernel.spreadRow(scores.shape.back());
  Value outer = kernel.begin(countElements(ArrayRef(scores.shape).drop_back()), grainFor(scores.shape.back()));
  ScoreRow row(kernel, type, scoresView, mask, hasMask, outer, scores.shape, op.getCausal());

  Value max = row.finiteOrZero(row.reduce(Combine::Max, [&](Value i, Lanes lanes) { return row.maskedScore(i, lanes); }));
  Value maxes = kernel.broadcast(max);
  // e^(score - max) is kept in the result where that holds it exactly.
  bool keeps = result.elementType == type && !kernel.isGpu();
  auto exponential = [&](Value i, Lanes lanes) { return kernel.expF(kernel.subF(row.maskedScore(i, lanes), maxes)); };
  Value sum = row.reduce(Combine::Sum, [&](Value i, Lanes lanes) {
    Value e = exponential(i, lanes);
    if (keeps)
      row.store(e, resultView, i, lanes);
    return e;
  });
  OpBuilder &b = kernel.builder;
  Value zero = kernel.scalar(0, type);
  Value sees = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::UNE, sum, zero);
  Value factor = kernel.broadcast(arith::SelectOp::create(b, kernel.loc, sees, kernel.divF(kernel.scalar(1, type), sum), zero));
  row.forBlocks(
      [&](Value i, Lanes lanes) {
        Value e = keeps ? row.load(resultView, i, lanes) : exponential(i, lanes);
        row.store(kernel.mulF(e, factor), resultView, i, lanes);
      },
      [&](Value i, Lanes lanes) { row.store(kernel.splat(0, type), resultView, i, lanes); });
  row.at.back() = kernel.index(0);
  kernel.storeRoundedScalar(kernel.addF(max, kernel.logF(sum)), lseView, row.at);
  context.add(kernel);
  return success();
}

/// Bytes moved: scores and dp once (the visible part), both results once, output and cotangent once.
LogicalResult kernels::generateAttentionScoresGrad(Context &context, train::AttentionScoresGradOp op) {
  bool hasMask = static_cast<bool>(op.getMask());
  unsigned next = hasMask ? 2 : 1;
  unsigned lseOperand = next++, dpOperand = next++, outputOperand = next++, cotangentOperand = next++;
  const TensorLayout &scores = context.operand(0), &output = context.operand(outputOperand), &cotangent = context.operand(cotangentOperand);
  KernelBuilder kernel(context.context(), "attention_scores_grad", context.target);
  View scoresView = kernel.argument(rowAccess(0, scores), scores.shape), mask;
  if (hasMask)
    mask = kernel.argument(broadcastAccess(1, context.operand(1), scores.shape), scores.shape);
  View lseView = kernel.argument(perRowAccess(lseOperand, context.operand(lseOperand)), scores.shape);
  View dpView = kernel.argument(rowAccess(dpOperand, context.operand(dpOperand)), scores.shape);
  View outputView = kernel.argument(rowAccess(outputOperand, output), output.shape);
  View cotangentView = kernel.argument(rowAccess(cotangentOperand, cotangent), cotangent.shape);
  View probabilities = kernel.argument(rowAccess(context.resultArgument(0), context.result(0), true), scores.shape);
  View grad = kernel.argument(rowAccess(context.resultArgument(1), context.result(1), true), scores.shape);
  Type type = train::getComputeType(scores.elementType);
  kernel.spreadRow(scores.shape.back());
  Value outer = kernel.begin(countElements(ArrayRef(scores.shape).drop_back()), grainFor(scores.shape.back()));
  ScoreRow row(kernel, type, scoresView, mask, hasMask, outer, scores.shape, op.getCausal());

  Value delta = kernel.broadcast(kernel.reduceRow(output.shape.back(), Combine::Sum, type, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    return {kernel.mulF(row.load(outputView, i, lanes), row.load(cotangentView, i, lanes))};
  })[0]);
  row.at.back() = kernel.index(0);
  Value lse = kernel.broadcast(row.finiteOrZero(kernel.convert(kernel.loadScalar(lseView, row.at), type)));
  row.forBlocks(
      [&](Value i, Lanes lanes) {
        Value p = kernel.expF(kernel.subF(row.maskedScore(i, lanes), lse));
        Value ds = kernel.mulF(p, kernel.subF(row.load(dpView, i, lanes), delta));
        row.store(p, probabilities, i, lanes);
        row.store(ds, grad, i, lanes);
      },
      [&](Value i, Lanes lanes) {
        row.store(kernel.splat(0, type), probabilities, i, lanes);
        row.store(kernel.splat(0, type), grad, i, lanes);
      });
  context.add(kernel);
  return success();
}

/// Elementwise over pairs: each half of input and result is an access of its own. Bytes moved: input and result once.
LogicalResult kernels::generateRotary(Context &context, train::RotaryOp op) {
  SmallVector<int64_t> shape = context.operand(0).shape;
  int64_t half = shape.back() / 2;
  shape.back() = half;
  auto halfOf = [&](unsigned argument, const TensorLayout &layout, bool second, bool write) {
    Access access = rowAccess(argument, layout, write);
    int64_t stride = layout.strides.back();
    access.offset = !second ? 0 : op.getInterleaved() ? stride : half * stride;
    if (op.getInterleaved())
      access.strides.back() *= 2;
    return access;
  };
  Type elementType = context.operand(0).elementType, type = train::getComputeType(elementType);
  generateElementwise(context, "rotary", shape,
                      {halfOf(0, context.operand(0), false, false), halfOf(0, context.operand(0), true, false), broadcastAccess(1, context.operand(1), shape),
                       broadcastAccess(2, context.operand(2), shape), halfOf(3, context.result(0), false, true), halfOf(3, context.result(0), true, true)},
                      [&](KernelBuilder &kernel, ArrayRef<Value> loaded) -> SmallVector<Value> {
                        SmallVector<Value> v = llvm::map_to_vector(loaded, [&](Value value) { return kernel.convert(value, type); });
                        Value x1 = v[0], x2 = v[1], cosine = v[2], sine = v[3];
                        Value a = kernel.mulF(x1, cosine), b = kernel.mulF(x2, sine), c = kernel.mulF(x2, cosine), d = kernel.mulF(x1, sine);
                        Value first = op.getInverse() ? kernel.addF(a, b) : kernel.subF(a, b);
                        Value second = op.getInverse() ? kernel.subF(c, d) : kernel.addF(c, d);
                        return {kernel.convert(first, elementType), kernel.convert(second, elementType)};
                      });
  return success();
}
