//===- PadChannels.cpp - channels in whole vectors ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An image has three channels. Tensor cores want eight, so that the library either fills up a copy of its own or takes an
// algorithm that is ten times slower.
//
//===----------------------------------------------------------------------===//

#include "ChannelOrder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/Support/MathExtras.h"

namespace zopt {
#define GEN_PASS_DEF_PADCHANNELS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// Elements of 16 bytes.
static constexpr int64_t kUnit = 8;

static int64_t padded(int64_t channels) { return llvm::alignTo(channels, kUnit); }
static bool isNarrow(Value value) { return getTensorType(value).getElementTypeBitWidth() == 16; }

/// The tensor with `rows` along its first axis and `channels` along its second, zeros behind what it had.
static Value pad(OpBuilder &builder, Value value, int64_t rows, int64_t channels) {
  RankedTensorType type = getTensorType(value);
  const int64_t rank = type.getRank();
  if (type.getDimSize(0) == rows && type.getDimSize(1) == channels)
    return value;
  Location loc = value.getLoc();
  Value last = transpose(builder, loc, value, getChannelsLastOrder(rank));
  SmallVector<int64_t> shape(getTensorType(last).getShape());
  shape.front() = rows;
  shape.back() = channels;
  Value grown = SliceGradOp::create(builder, loc, RankedTensorType::get(shape, type.getElementType()), last, SmallVector<int64_t>(rank, 0), SmallVector<int64_t>(rank, 1));
  return transpose(builder, loc, grown, getChannelsFirstOrder(rank));
}

/// What the tensor had before it was padded, of `type`.
static Value cut(OpBuilder &builder, Value value, RankedTensorType type) {
  const int64_t rank = type.getRank();
  if (value.getType() == type)
    return value;
  Location loc = value.getLoc();
  Value last = transpose(builder, loc, value, getChannelsLastOrder(rank));
  SmallVector<int64_t> shape = llvm::map_to_vector(getChannelsLastOrder(rank), [&](int64_t axis) { return type.getDimSize(axis); });
  Value kept = SliceOp::create(builder, loc, RankedTensorType::get(shape, type.getElementType()), last, SmallVector<int64_t>(rank, 0), SmallVector<int64_t>(rank, 1));
  return transpose(builder, loc, kept, getChannelsFirstOrder(rank));
}

namespace {

struct PadChannelsPass : zopt::impl::PadChannelsBase<PadChannelsPass> {
  void runOnOperation() override {
    for (Block &block : getOperation().getBody())
      for (Operation &op : llvm::make_early_inc_range(block)) {
        if (auto conv = dyn_cast<ConvOp>(op))
          rewrite(&op, conv.getInput(), conv.getWeight(), conv.getResult());
        else if (auto grad = dyn_cast<ConvInputGradOp>(op))
          rewrite(&op, grad.getResult(), grad.getWeight(), grad.getCotangent());
        else if (auto grad = dyn_cast<ConvWeightGradOp>(op))
          rewrite(&op, grad.getInput(), grad.getResult(), grad.getCotangent());
      }
  }

private:
  /// One of the three is the op's result.
  static void rewrite(Operation *op, Value input, Value weight, Value output) {
    const int64_t channels = getTensorType(input).getDimSize(1), made = getTensorType(output).getDimSize(1);
    if (op->getAttrOfType<IntegerAttr>("groups").getInt() != 1 || !isNarrow(op->getOperand(0)) || !isNarrow(op->getOperand(1)) ||
        (channels % kUnit == 0 && made % kUnit == 0))
      return;
    OpBuilder builder(op);
    auto sizesOf = [&](Value value) -> std::pair<int64_t, int64_t> {
      if (value == weight)
        return {padded(made), padded(channels)};
      return {getTensorType(value).getDimSize(0), padded(value == input ? channels : made)};
    };
    Operation *wide = builder.clone(*op);
    for (OpOperand &operand : wide->getOpOperands()) {
      Value value = operand.get();
      if (getTensorType(value).getRank() == 1) { // a bias
        SmallVector<int64_t> zero = {0}, one = {1};
        operand.set(padded(made) == made ? value : Value(SliceGradOp::create(builder, op->getLoc(), getTensorType(value).clone({padded(made)}), value, zero, one)));
        continue;
      }
      auto [rows, columns] = sizesOf(value);
      builder.setInsertionPoint(wide);
      operand.set(pad(builder, value, rows, columns));
    }
    RankedTensorType type = getTensorType(op->getResult(0));
    auto [rows, columns] = sizesOf(op->getResult(0));
    SmallVector<int64_t> shape(type.getShape());
    shape[0] = rows;
    shape[1] = columns;
    wide->getResult(0).setType(type.clone(shape));
    builder.setInsertionPointAfter(wide);
    Value result = cut(builder, wide->getResult(0), type);
    if (result != wide->getResult(0))
      result.getDefiningOp()->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    op->getResult(0).replaceAllUsesWith(result);
    op->erase();
  }
};

} // namespace
