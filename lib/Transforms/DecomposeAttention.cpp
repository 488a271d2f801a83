//===- DecomposeAttention.cpp - attention as products --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_DECOMPOSEATTENTIONPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// The shapes of an attention, with the H/G heads of a group folded into the rows of its products.
struct Shapes {
  int64_t batch, heads, groups, rows, columns, width, valueWidth; // B, H, G, T, S, D, D'

  Shapes(Value query, Value key, Value value) {
    ArrayRef<int64_t> q = getTensorType(query).getShape(), k = getTensorType(key).getShape();
    batch = q[0], heads = q[1], groups = k[1], rows = q[2], columns = k[2], width = q[3];
    valueWidth = getTensorType(value).getShape()[3];
  }
  /// [B, H, T, last] and [B, G, (H/G) T, last]: views of one another.
  SmallVector<int64_t> perHead(int64_t last) const { return {batch, heads, rows, last}; }
  SmallVector<int64_t> perGroup(int64_t last) const { return {batch, groups, heads / groups * rows, last}; }
};

/// Writes the products of one attention.
class Products {
public:
  Products(OpBuilder &builder, Location loc, Shapes shapes) : builder(builder), loc(loc), shapes(shapes) {}

  Value fold(Value value) { return train::reshape(builder, loc, value, shapes.perGroup(getTensorType(value).getShape().back())); }
  Value unfold(Value value) { return train::reshape(builder, loc, value, shapes.perHead(getTensorType(value).getShape().back())); }

  Value multiply(Value lhs, bool transposeLhs, Value rhs, bool transposeRhs, Type elementType, double scale = 1.0) {
    ArrayRef<int64_t> a = getTensorType(lhs).getShape(), b = getTensorType(rhs).getShape();
    SmallVector<int64_t> shape = {shapes.batch, shapes.groups, a[transposeLhs ? 3 : 2], b[transposeRhs ? 2 : 3]};
    auto flag = [&](bool set) { return set ? builder.getUnitAttr() : UnitAttr(); };
    return MatmulOp::create(builder, loc, RankedTensorType::get(shape, elementType), lhs, rhs, /*bias=*/Value(), flag(transposeLhs), flag(transposeRhs),
                            builder.getF64FloatAttr(scale));
  }

  /// scale q k^T in the type that attention computes in, a row a query of each head.
  Value scores(Value query, Value key, double scale) {
    return unfold(multiply(fold(query), false, key, true, getComputeType(getTensorType(query).getElementType()), scale));
  }

private:
  OpBuilder &builder;
  Location loc;
  Shapes shapes;
};

void decompose(AttentionOp op) {
  OpBuilder builder(op);
  Type type = getTensorType(op.getQuery()).getElementType();
  Products products(builder, op.getLoc(), Shapes(op.getQuery(), op.getKey(), op.getValue()));
  Value scores = products.scores(op.getQuery(), op.getKey(), op.getScale().convertToDouble());
  auto probabilities = AttentionProbabilitiesOp::create(builder, op.getLoc(), getTensorType(scores).clone(type), op.getLse().getType(), scores, op.getMask(), op.getCausal());
  Value result = products.unfold(products.multiply(products.fold(probabilities.getResult()), false, op.getValue(), false, type));
  op->replaceAllUsesWith(ValueRange{result, probabilities.getLse()});
  op.erase();
}

void decompose(AttentionGradOp op) {
  OpBuilder builder(op);
  double scale = op.getScale().convertToDouble();
  Type type = getTensorType(op.getQuery()).getElementType();
  Products products(builder, op.getLoc(), Shapes(op.getQuery(), op.getKey(), op.getValue()));
  Value scores = products.scores(op.getQuery(), op.getKey(), scale);
  Value cotangent = products.fold(op.getCotangent());
  Value dp = products.unfold(products.multiply(cotangent, false, op.getValue(), true, getTensorType(scores).getElementType()));
  RankedTensorType pairs = getTensorType(scores).clone(type);
  auto grad = AttentionScoresGradOp::create(builder, op.getLoc(), pairs, pairs, scores, op.getMask(), op.getLse(), dp, op.getOutput(), op.getCotangent(), op.getCausal());
  Value ds = products.fold(grad.getScoresGrad()), p = products.fold(grad.getProbabilities());
  auto elementType = [](Value result) { return getTensorType(result).getElementType(); };
  Value dq = products.unfold(products.multiply(ds, false, op.getKey(), false, elementType(op.getQueryGrad()), scale));
  Value dk = products.multiply(ds, true, products.fold(op.getQuery()), false, elementType(op.getKeyGrad()), scale);
  Value dv = products.multiply(p, true, cotangent, false, elementType(op.getValueGrad()));
  op->replaceAllUsesWith(ValueRange{dq, dk, dv});
  op.erase();
}

/// Whether cuDNN has this attention: 16-bit tensors, widths that are multiples of 8 up to 128. Masks are left to products.
template <typename AttentionLike>
bool isInCudnn(AttentionLike op) {
  int64_t width = getTensorType(op.getQuery()).getShape()[3];
  return getTensorType(op.getQuery()).getElementType().getIntOrFloatBitWidth() == 16 && width % 8 == 0 && width <= 128 && getTensorType(op.getValue()).getShape()[3] == width && !op.getMask();
}

class DecomposeAttentionPass : public zopt::impl::DecomposeAttentionPassBase<DecomposeAttentionPass> {
public:
  using DecomposeAttentionPassBase::DecomposeAttentionPassBase;

  void runOnOperation() override {
    if (library != "none" && library != "cudnn") {
      getOperation().emitError("library is '") << std::string(library) << "', expected none or cudnn";
      return signalPassFailure();
    }
    // An attention and its gradient take the same way: what one keeps, the other reads.
    auto stays = [&](auto op) { return library == "cudnn" && isInCudnn(op); };
    for (Operation &op : llvm::make_early_inc_range(getOperation().getOps())) {
      if (auto attention = dyn_cast<AttentionOp>(op); attention && stays(attention))
        continue;
      if (auto gradient = dyn_cast<AttentionGradOp>(op); gradient && stays(gradient))
        continue;
      if (auto attention = dyn_cast<AttentionOp>(op))
        decompose(attention);
      else if (auto gradient = dyn_cast<AttentionGradOp>(op))
        decompose(gradient);
    }
  }
};

} // namespace
