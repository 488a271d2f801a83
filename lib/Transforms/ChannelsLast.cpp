//===- ChannelsLast.cpp - keep channels last between convolutions --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A convolution writes and reads tensors whose channels have a unit stride, so a transpose that brings them to the end moves nothing. Ops on its result that can work on the transposed tensor as well do that,
// and their results are known in both forms too.
//
//===----------------------------------------------------------------------===//

#include "ChannelOrder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/TypeSwitch.h"

namespace zopt {
#define GEN_PASS_DEF_CHANNELSLAST
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

constexpr int64_t kLeastRank = 3, kMostRank = 5;

SmallVector<int64_t> permute(ArrayRef<int64_t> values, ArrayRef<int64_t> order) {
  return llvm::map_to_vector(order, [&](int64_t axis) { return values[axis]; });
}

class Propagation {
public:
  void visit(Operation *op) {
    llvm::TypeSwitch<Operation *>(op)
        .Case<ConvOp, ConvInputGradOp, MaxPoolOp, MaxPoolGradOp, AveragePoolOp, AveragePoolGradOp>(
            [&](Operation *op) { anchor(op); })
        .Case([&](TransposeOp op) { bring(op); })
        .Case<ReduceSumOp, ReduceMeanOp, ReduceMaxOp>([&](auto op) { reduce(op); })
        .Case([&](ConcatOp op) { concat(op); })
        .Case([&](SliceOp op) { slice(op, op.getInput()); })
        .Case([&](SliceGradOp op) { slice(op, op.getCotangent()); })
        .Case([&](BroadcastOp op) { broadcast(op); })
        .Case([&](BatchStatisticsOp op) { statistics(op); })
        .Case([&](BatchNormSumsOp op) { sums(op); })
        .Default([&](Operation *op) {
          if (op->hasTrait<Elementwise>())
            elementwise(op);
        });
  }

private:
  bool isLast(Value value) const { return forms.contains(value); }

  void anchor(Operation *op) {
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    for (Value result : op->getResults())
      forms[result] = train::transpose(builder, op->getLoc(), result, getChannelsLastOrder(getTensorType(result).getRank()));
  }

  /// The graph's own way from channels last to convolutions (ConvNeXt's, behind a norm over channels). Of three axes it
  /// may as well be the way back.
  void bring(TransposeOp op) {
    const int64_t rank = op.getType().getRank();
    if (rank > kLeastRank && rank <= kMostRank && op.getPermutation() == ArrayRef<int64_t>(getChannelsFirstOrder(rank)))
      forms[op.getResult()] = op.getInput();
  }

  /// A tensor of `rank` axes (or fewer, by NumPy's rules) with channels last.
  Value getLast(OpBuilder &builder, Value value, int64_t rank) {
    if (Value known = forms.lookup(value))
      return known;
    RankedTensorType type = getTensorType(value);
    if (type.getRank() == 0)
      return value;
    SmallVector<int64_t> shape(rank - type.getRank(), 1);
    llvm::append_range(shape, type.getShape());
    if (auto constant = value.getDefiningOp<ConstantOp>())
      if (auto splat = dyn_cast<SplatElementsAttr>(constant.getValue())) {
        auto last = RankedTensorType::get(permute(shape, getChannelsLastOrder(rank)), type.getElementType());
        return ConstantOp::create(builder, value.getLoc(), last, splat.resizeSplat(last));
      }
    return train::transpose(builder, value.getLoc(), train::reshape(builder, value.getLoc(), value, shape), getChannelsLastOrder(rank));
  }

  /// Puts `made`, a tensor with channels last, in the place of `result`.
  void replace(OpBuilder &builder, Value result, Value made) {
    Operation *op = result.getDefiningOp();
    made.getDefiningOp()->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    Value back = train::transpose(builder, op->getLoc(), made, getChannelsFirstOrder(getTensorType(made).getRank()));
    forms[back] = made;
    result.replaceAllUsesWith(back);
  }

  RankedTensorType getLastType(Value value) {
    RankedTensorType type = getTensorType(value);
    return RankedTensorType::get(permute(type.getShape(), getChannelsLastOrder(type.getRank())), type.getElementType());
  }

  void elementwise(Operation *op) {
    const int64_t rank = getTensorType(op->getResult(0)).getRank();
    if (rank < kLeastRank || rank > kMostRank || op->getNumResults() != 1 || llvm::none_of(op->getOperands(), [&](Value operand) { return isLast(operand) && getTensorType(operand).getRank() == rank; }))
      return;
    OpBuilder builder(op);
    IRMapping mapping;
    for (Value operand : op->getOperands())
      if (!mapping.contains(operand))
        mapping.map(operand, getLast(builder, operand, rank));
    Operation *made = builder.clone(*op, mapping);
    made->getResult(0).setType(getLastType(op->getResult(0)));
    replace(builder, op->getResult(0), made->getResult(0));
  }

  /// Of a value for each channel, or for each channel of each sample.
  void broadcast(BroadcastOp op) {
    RankedTensorType from = getTensorType(op.getInput()), to = op.getType();
    const int64_t rank = to.getRank();
    if (rank < kLeastRank || rank > kMostRank || (from.getRank() > rank - 2 && llvm::any_of(from.getShape().take_back(rank - 2), [](int64_t size) { return size != 1; })) || from.getRank() <= rank - 2)
      return;
    OpBuilder builder(op);
    replace(builder, op.getResult(), BroadcastOp::create(builder, op.getLoc(), getLastType(op.getResult()), getLast(builder, op.getInput(), rank)));
  }

  /// [M, C] of a value with channels last, whose M places are all axes but the last.
  Value getRows(OpBuilder &builder, Value value) {
    Value last = forms.lookup(value);
    const int64_t channels = getTensorType(last).getShape().back();
    return train::reshape(builder, value.getLoc(), last, {getTensorType(last).getNumElements() / channels, channels});
  }

  /// Statistics of a channel are over all other axes, wherever they are.
  void statistics(BatchStatisticsOp op) {
    if (!isLast(op.getInput()))
      return;
    OpBuilder builder(op);
    op.getInputMutable().set(getRows(builder, op.getInput()));
  }

  void sums(BatchNormSumsOp op) {
    if (!isLast(op.getInput()) || !isLast(op.getCotangent()))
      return;
    OpBuilder builder(op);
    Value input = getRows(builder, op.getInput()), cotangent = getRows(builder, op.getCotangent());
    auto asVector = [&](Value value) { return train::reshape(builder, op.getLoc(), value, {getTensorType(value).getNumElements()}); };
    auto made = BatchNormSumsOp::create(builder, op.getLoc(), op.getSum().getType(), op.getProduct().getType(), input, asVector(op.getMean()), asVector(op.getVariance()), cotangent, op.getScale(), op.getShift(), op.getEpsilonAttr());
    made->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    op->replaceAllUsesWith(made);
  }

  template <typename Op>
  void reduce(Op op) {
    if (!isLast(op.getInput()))
      return;
    OpBuilder builder(op);
    Value input = forms.lookup(op.getInput());
    const int64_t rank = getTensorType(input).getRank();
    SmallVector<int64_t> order = getChannelsLastOrder(rank), axes, shape, left;
    for (int64_t axis = 0; axis < rank; ++axis) {
      const bool isReduced = llvm::is_contained(op.getAxes(), order[axis]);
      if (isReduced)
        axes.push_back(axis);
      if (!isReduced || op.getKeepdims())
        shape.push_back(isReduced ? 1 : getTensorType(input).getDimSize(axis));
      if (!isReduced)
        left.push_back(order[axis]);
    }
    auto made = Op::create(builder, op.getLoc(), RankedTensorType::get(shape, op.getType().getElementType()), input, axes, op.getKeepdims());
    if (op.getKeepdims())
      return replace(builder, op.getResult(), made.getResult());
    // What is left stands in the other order where space is left in front of the channels.
    made->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    SmallVector<int64_t> sorted = left, permutation;
    llvm::sort(sorted);
    for (int64_t axis : sorted)
      permutation.push_back(llvm::find(left, axis) - left.begin());
    op.getResult().replaceAllUsesWith(left == sorted ? made.getResult() : train::transpose(builder, op.getLoc(), made.getResult(), permutation));
  }

  void concat(ConcatOp op) {
    const int64_t rank = op.getType().getRank();
    if (rank < kLeastRank || rank > kMostRank || !llvm::all_of(op.getInputs(), [&](Value input) { return isLast(input); }))
      return;
    OpBuilder builder(op);
    SmallVector<Value> inputs = llvm::map_to_vector(op.getInputs(), [&](Value input) { return forms.lookup(input); });
    const int64_t axis = getChannelsFirstOrder(rank)[op.getAxis()];
    replace(builder, op.getResult(), ConcatOp::create(builder, op.getLoc(), getLastType(op.getResult()), inputs, axis));
  }

  template <typename Op>
  void slice(Op op, Value input) {
    if (!isLast(input))
      return;
    OpBuilder builder(op);
    SmallVector<int64_t> order = getChannelsLastOrder(op.getType().getRank());
    replace(builder, op.getResult(), Op::create(builder, op.getLoc(), getLastType(op.getResult()), forms.lookup(input), permute(op.getStarts(), order), permute(op.getStrides(), order)));
  }

  DenseMap<Value, Value> forms; ///< by a value: it with channels last, where that moves nothing
};

struct ChannelsLastPass : zopt::impl::ChannelsLastBase<ChannelsLastPass> {
  using ChannelsLastBase::ChannelsLastBase;

  static void split(ConvOp op) {
    Value bias = op.getBias();
    if (!bias)
      return;
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    op.getBiasMutable().clear();
    SmallVector<int64_t> shape(op.getType().getRank() - 1, 1);
    shape[0] = getTensorType(bias).getDimSize(0);
    Value addend = train::cast(builder, op.getLoc(), train::reshape(builder, op.getLoc(), bias, shape), op.getType().getElementType());
    Value sum = train::add(builder, op.getLoc(), op.getResult(), addend);
    op.getResult().replaceAllUsesExcept(sum, sum.getDefiningOp());
  }

  void runOnOperation() override {
    if (splitBias)
      getOperation().walk([](ConvOp op) { split(op); });
    Propagation propagation;
    if (!getOperation()
             .walk([](Operation *op) {
               return isa<ConvOp, ConvInputGradOp, MaxPoolOp, AveragePoolOp>(op) ? WalkResult::interrupt()
                                                                                 : WalkResult::advance();
             })
             .wasInterrupted())
      return;
    for (Block &block : getOperation().getBody())
      for (Operation &op : llvm::make_early_inc_range(block))
        propagation.visit(&op);
  }
};

} // namespace
