//===- CrossEntropy.cpp - kernels of cross_entropy and its gradient --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include <array>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

/// The label of a row, whether it counts, and the label as an index. The runtime has checked the data's labels; the clamp keeps any other inside the row.
static std::tuple<Value, Value> loadLabel(KernelBuilder &kernel, const View &labels, ValueRange at, int64_t ignoreIndex, int64_t classes) {
  OpBuilder &b = kernel.builder;
  Value label = kernel.loadScalar(labels, at);
  Value counted = arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ne, label, kernel.constant(b.getIntegerAttr(label.getType(), ignoreIndex)));
  Value place = arith::IndexCastOp::create(b, kernel.loc, b.getIndexType(), label);
  place = arith::MaxSIOp::create(b, kernel.loc, place, kernel.index(0));
  return {counted, arith::MinSIOp::create(b, kernel.loc, place, kernel.index(classes - 1))};
}

/// The sums of all rows' losses and counts, in f64, in an order that depends on the number of rows alone, rounded once.
static void addSums(Context &context, Type type, int64_t count, std::array<unsigned, 2> rows, unsigned lossArgument, unsigned countArgument) {
  Type result = context.layouts[lossArgument].elementType;
  KernelBuilder kernel(context.context(), "cross_entropy_sums", context.target);
  View losses = kernel.linear(rows[0], type, count), counts = kernel.linear(rows[1], type, count);
  View loss = kernel.linear(lossArgument, result, 1, /*write=*/true), counted = kernel.linear(countArgument, result, 1, /*write=*/true);
  kernel.spreadRow(count);
  kernel.begin(1, 1);
  Type f64 = kernel.builder.getF64Type();
  SmallVector<Value> sums = kernel.reduceRow(count, {Combine::Sum, Combine::Sum}, f64, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    return {kernel.convert(kernel.load(losses, i, lanes), f64), kernel.convert(kernel.load(counts, i, lanes), f64)};
  });
  kernel.storeRoundedScalar(sums[0], loss, kernel.index(0));
  kernel.storeRoundedScalar(sums[1], counted, kernel.index(0));
  context.add(kernel);
}

/// Whether logits are of 16 bits: what is computed from them need not be exact to the last bit of fp32.
static bool isNarrow(const View &logits) { return logits.elementType.getIntOrFloatBitWidth() == 16; }

namespace {

/// The kernel of every row's loss and count (0 or 1), and the launch that sums them, which cross_entropy and cross_entropy_step share.
class LossRows {
public:
  /// `rows` has the logits and the labels first.
  LossRows(Context &context, StringRef name, const Rows &rows, double smoothing)
      : context(context), kernel(context.context(), name, context.target), rows(rows), type(train::getComputeType(context.operand(0).elementType)), smoothing(smoothing) {
    int64_t bytes = rows.count() * type.getIntOrFloatBitWidth() / 8;
    sums = {context.addWorkspace(bytes), context.addWorkspace(bytes)};
    for (const Access &access : rows.accesses)
      views.push_back(kernel.argument(access, rows.shape()));
  }
  /// Once all further arguments are declared: opens the loop over rows.
  void begin(int64_t ignoreIndex) {
    losses = kernel.linear(sums[0], type, rows.count(), /*write=*/true);
    counts = kernel.linear(sums[1], type, rows.count(), /*write=*/true);
    kernel.spreadRow(rows.n);
    outer = kernel.begin(rows.count(), grainFor(rows.n));
    at = kernel.delinearize(outer, rows.outer);
    at.push_back(kernel.index(0));
    std::tie(counted, place) = loadLabel(kernel, views[1], at, ignoreIndex, rows.n);
  }
  Value load(Value i, Lanes lanes, KernelBuilder::Source source = KernelBuilder::Source::Memory) {
    at.back() = i;
    return kernel.convert(kernel.loadFrom(source, kept, views[0], at, lanes), type);
  }
  /// GPU: for kernels that read the row again.
  void keep() { kept = kernel.keepRow(rows.n, views[0].elementType); }
  std::pair<Value, Value> reduceLogSumExp() {
    return kernel.reduceLogSumExp(rows.n, type, isNarrow(views[0]), kept, [&](Value i, Lanes lanes, KernelBuilder::Source source) { return load(i, lanes, source); });
  }
  Value loadLabelLogit() {
    at.back() = place;
    return kernel.loadComputeScalar(views[0], at);
  }
  Value sumLogits() {
    return kernel.reduceRow(rows.n, Combine::Sum, type, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {load(i, lanes)}; })[0];
  }
  /// `logitSum` is asked for where labels are smoothed.
  void storeLoss(Value lse, Value labelLogit, Value logitSum) {
    Value loss = kernel.subF(lse, labelLogit), zero = kernel.scalar(0, type);
    if (smoothing != 0) {
      Value mean = kernel.divF(logitSum, kernel.scalar(rows.n, type));
      loss = kernel.addF(kernel.mulF(kernel.scalar(1 - smoothing, type), loss), kernel.mulF(kernel.scalar(smoothing, type), kernel.subF(lse, mean)));
    }
    kernel.storeScalar(arith::SelectOp::create(kernel.builder, kernel.loc, counted, loss, zero), losses, outer);
    kernel.storeScalar(arith::SelectOp::create(kernel.builder, kernel.loc, counted, kernel.scalar(1, type), zero), counts, outer);
  }
  void finish(unsigned lossResult, unsigned countResult) {
    context.add(kernel);
    addSums(context, type, rows.count(), sums, context.resultArgument(lossResult), context.resultArgument(countResult));
  }

  Context &context;
  KernelBuilder kernel;
  Rows rows;
  Type type;
  double smoothing;
  SmallVector<View> views;
  SmallVector<Value> at; // the row's coordinates, and the last place that was asked for
  Value counted, place;  // whether the row counts, and its label
  KernelBuilder::KeptRow kept;

private:
  std::array<unsigned, 2> sums;
  View losses, counts;
  Value outer;
};

} // namespace

/// Two kernels: every row's loss, count (0 or 1) and log-sum-exp; then the sums of losses and counts, in f64, in an order that depends on the number of rows alone, rounded once. Bytes moved: the
/// logits once (a row stays in the cache for its second pass).
LogicalResult kernels::generateCrossEntropy(Context &context, train::CrossEntropyOp op) {
  double smoothing = op.getLabelSmoothing().convertToDouble();
  Rows rows(context.operand(0).shape, {rowAccess(0, context.operand(0)), perRowAccess(1, context.operand(1)), perRowAccess(context.resultArgument(2), context.result(2), true)});
  LossRows row(context, "cross_entropy_rows", rows, smoothing);
  KernelBuilder &kernel = row.kernel;
  row.begin(op.getIgnoreIndex());
  Value max, sum, logitSum;
  if (kernel.isGpu()) { // a long row does not stay in a cache
    std::tie(max, sum) = row.reduceLogSumExp();
    if (smoothing != 0)
      logitSum = row.sumLogits();
  } else {
    SmallVector<Combine> kinds = {Combine::Max};
    if (smoothing != 0)
      kinds.push_back(Combine::Sum);
    SmallVector<Value> first = kernel.reduceRow(rows.n, kinds, row.type, [&](Value i, Lanes lanes) { return SmallVector<Value>(kinds.size(), row.load(i, lanes)); });
    max = first.front();
    logitSum = first.back();
    Value maxes = kernel.broadcast(max);
    sum = kernel.reduceRow(rows.n, Combine::Sum, row.type, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {kernel.expF(kernel.subF(row.load(i, lanes), maxes))}; })[0];
  }
  Value lse = kernel.addF(max, kernel.logF(sum));
  row.storeLoss(lse, row.loadLabelLogit(), logitSum);
  row.at.back() = kernel.index(0);
  kernel.storeRoundedScalar(lse, row.views[2], row.at);
  row.finish(0, 1);
  return success();
}

namespace {
struct RowScalars {
  Value lse, scale, place, labelLogit; // place: the label's
};
} // namespace

/// GPU: the gradient of a counted row, as if no element were the label's; then the thread that wrote the label's element writes it again.
static void writeGradRow(KernelBuilder &kernel, const View &logits, const View &result, SmallVector<Value> at, int64_t n, RowScalars row, double smoothing, const KernelBuilder::KeptRow &kept = {}) {
  Type type = row.lse.getType();
  const bool narrow = isNarrow(logits);
  Value lses = kernel.broadcast(row.lse), scales = kernel.broadcast(row.scale), others = kernel.splat(smoothing / n, type);
  kernel.forLanesOfKept(n, kept, [&](Value i, Lanes lanes, KernelBuilder::Source source) {
    at.back() = i;
    Value p = kernel.expOfDifference(kernel.convert(kernel.loadFrom(source, kept, logits, at, lanes), type), lses, narrow);
    if (smoothing != 0)
      p = kernel.subF(p, others);
    kernel.storeRounded(kernel.mulF(p, scales), result, at, lanes);
  });
  kernel.ifThen(kernel.owns(row.place), [&] {
    at.back() = row.place;
    Value p = kernel.subF(kernel.expOfDifference(row.labelLogit, row.lse, narrow), kernel.scalar(1 - smoothing + smoothing / n, type));
    kernel.storeHere(kernel.convert(kernel.mulF(p, row.scale), result.elementType), result, at);
  });
}

/// Bytes moved: logits and result once.
LogicalResult kernels::generateCrossEntropyGrad(Context &context, train::CrossEntropyGradOp op) {
  const TensorLayout &logits = context.operand(0), &scaleLayout = context.operand(3);
  Type type = train::getComputeType(logits.elementType);
  double smoothing = op.getLabelSmoothing().convertToDouble();
  Rows rows(logits.shape, {rowAccess(0, logits), perRowAccess(1, context.operand(1)), perRowAccess(2, context.operand(2)),
                           rowAccess(context.resultArgument(0), context.result(0), true)});
  KernelBuilder kernel(context.context(), "cross_entropy_grad", context.target);
  OpBuilder &b = kernel.builder;
  SmallVector<View> views;
  for (const Access &access : rows.accesses)
    views.push_back(kernel.argument(access, rows.shape()));
  View scaleView = kernel.linear(3, scaleLayout.elementType, 1);
  kernel.spreadElements(rows.n);
  Value outer = kernel.begin(rows.count(), grainFor(rows.n));
  SmallVector<Value> at = kernel.delinearize(outer, rows.outer);
  at.push_back(kernel.index(0));
  Value counted, place;
  std::tie(counted, place) = loadLabel(kernel, views[1], at, op.getIgnoreIndex(), rows.n);
  Value lse = kernel.convert(kernel.loadScalar(views[2], at), type);
  Value scale = kernel.convert(kernel.loadScalar(scaleView, kernel.index(0)), type);
  Value uniform = kernel.scalar(smoothing / rows.n, type), target = kernel.scalar(1 - smoothing, type);

  auto branch = scf::IfOp::create(b, kernel.loc, counted, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  auto zeroRow = [&] {
    kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
      at.back() = i;
      kernel.storeRounded(kernel.splat(0, type), views[3], at, lanes);
    });
  };
  if (kernel.isGpu()) {
    at.back() = place;
    Value labelLogit = kernel.loadComputeScalar(views[0], at); // before the row is written, which may be in place
    writeGradRow(kernel, views[0], views[3], at, rows.n, {lse, scale, place, labelLogit}, smoothing);
    b.setInsertionPointToStart(branch.elseBlock());
    zeroRow();
    context.add(kernel);
    return success();
  }
  // The row without the label's share, then the label's element over it: read before the row is written, which may be in place.
  at.back() = place;
  Value labelProbability = kernel.expF(kernel.subF(kernel.loadComputeScalar(views[0], at), lse));
  Value lses = kernel.broadcast(lse), scales = kernel.broadcast(scale), uniforms = kernel.broadcast(uniform);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    at.back() = i;
    Value p = kernel.expF(kernel.subF(kernel.loadCompute(views[0], at, lanes), lses));
    if (smoothing != 0)
      p = kernel.subF(p, uniforms);
    kernel.storeRounded(kernel.mulF(p, scales), views[3], at, lanes);
  });
  if (smoothing != 0)
    labelProbability = kernel.subF(labelProbability, uniform);
  at.back() = place;
  kernel.storeRoundedScalar(kernel.mulF(kernel.subF(labelProbability, target), scale), views[3], at);

  b.setInsertionPointToStart(branch.elseBlock());
  zeroRow();
  context.add(kernel);
  return success();
}

/// One kernel for a row's loss and gradient, and the sums. Bytes moved: logits once from memory (the second pass over a row finds it in a cache), result once.
LogicalResult kernels::generateCrossEntropyStep(Context &context, train::CrossEntropyStepOp op) {
  if (!context.isGpu())
    return op.emitOpError("is for GPUs: elsewhere cross_entropy and its gradient are ops of their own");
  Rows rows(context.operand(0).shape, {rowAccess(0, context.operand(0)), perRowAccess(1, context.operand(1)), rowAccess(context.resultArgument(0), context.result(0), true)});
  double smoothing = op.getLabelSmoothing().convertToDouble();
  LossRows row(context, "cross_entropy_step", rows, smoothing);
  KernelBuilder &kernel = row.kernel;
  OpBuilder &b = kernel.builder;
  View scaleView = kernel.linear(2, context.operand(2).elementType, 1);
  row.begin(op.getIgnoreIndex());
  Value scale = kernel.convert(kernel.loadScalar(scaleView, kernel.index(0)), row.type);
  // Read before the reduction, behind which the row may be written over.
  Value labelLogit = row.loadLabelLogit();
  row.keep();
  auto [max, relative] = row.reduceLogSumExp();
  Value lse = kernel.addF(max, kernel.logF(relative));
  row.storeLoss(lse, labelLogit, smoothing != 0 ? row.sumLogits() : Value());
  {
    auto branch = scf::IfOp::create(b, kernel.loc, row.counted, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    writeGradRow(kernel, row.views[0], row.views[2], row.at, rows.n, {lse, scale, row.place, labelLogit}, smoothing, row.kept);
    b.setInsertionPointToStart(branch.elseBlock());
    kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
      row.at.back() = i;
      kernel.storeRounded(kernel.splat(0, row.type), row.views[2], row.at, lanes);
    });
  }
  row.finish(1, 2);
  return success();
}

/// Two kernels: whether each row counts and no logit beats its label's; the sum of that. Bytes moved: the logits once.
LogicalResult kernels::generateCountCorrect(Context &context, train::CountCorrectOp op) {
  const TensorLayout &logits = context.operand(0);
  Type type = train::getComputeType(logits.elementType);
  Rows rows(logits.shape, {rowAccess(0, logits), perRowAccess(1, context.operand(1))});
  const unsigned workspace = context.addWorkspace(rows.count() * type.getIntOrFloatBitWidth() / 8);
  {
    KernelBuilder kernel(context.context(), "correct_rows", context.target);
    OpBuilder &b = kernel.builder;
    View values = kernel.argument(rows.accesses[0], rows.shape()), labels = kernel.argument(rows.accesses[1], rows.shape());
    View correct = kernel.linear(workspace, type, rows.count(), /*write=*/true);
    kernel.spreadRow(rows.n);
    Value outer = kernel.begin(rows.count(), grainFor(rows.n));
    SmallVector<Value> at = kernel.delinearize(outer, rows.outer);
    at.push_back(kernel.index(0));
    Value counted, place;
    std::tie(counted, place) = loadLabel(kernel, labels, at, op.getIgnoreIndex(), rows.n);
    at.back() = place;
    Value label = kernel.loadComputeScalar(values, at), labelLanes = kernel.broadcast(label);
    Type i32 = b.getI32Type();
    Value numbers = kernel.laneNumbers(i32), ones = kernel.splat(1, type), zeros = kernel.splat(0, type);
    Value better = kernel.reduceRow(rows.n, Combine::Sum, type, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      at.back() = i;
      Value x = kernel.loadCompute(values, at, lanes);
      // Unordered too: a NaN is no logit to be beaten.
      Value above = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::UGT, x, labelLanes);
      Value equal = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OEQ, x, labelLanes);
      Value distance = arith::IndexCastOp::create(b, kernel.loc, i32, arith::SubIOp::create(b, kernel.loc, place, i));
      Value isBefore = arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::slt, numbers, kernel.broadcast(distance));
      Value beats = arith::OrIOp::create(b, kernel.loc, above, arith::AndIOp::create(b, kernel.loc, equal, isBefore));
      return {arith::SelectOp::create(b, kernel.loc, beats, ones, zeros)};
    })[0];
    Value isBest = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OEQ, better, kernel.scalar(0, type));
    Value isCorrect = arith::AndIOp::create(b, kernel.loc, counted, isBest);
    kernel.storeScalar(arith::SelectOp::create(b, kernel.loc, isCorrect, kernel.scalar(1, type), kernel.scalar(0, type)), correct, outer);
    context.add(kernel);
  }
  KernelBuilder kernel(context.context(), "correct_sum", context.target);
  View correct = kernel.linear(workspace, type, rows.count()), count = kernel.linear(context.resultArgument(0), context.result(0).elementType, 1, /*write=*/true);
  kernel.spreadRow(rows.count());
  kernel.begin(1, 1);
  Type f64 = kernel.builder.getF64Type();
  Value sum = kernel.reduceRow(rows.count(), Combine::Sum, f64, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {kernel.convert(kernel.load(correct, i, lanes), f64)}; })[0];
  kernel.storeRoundedScalar(sum, count, kernel.index(0));
  context.add(kernel);
  return success();
}
