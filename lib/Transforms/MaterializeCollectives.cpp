//===- MaterializeCollectives.cpp - gathers, frees and reductions as ops -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where a bucket is gathered follows from the sequence of its uses alone. A range of uses of bucket b goes on over a gap while the gap uses one other bucket only. Then at most two buckets are gathered at
// a time: were a and b both held over a use of c, and a's last use before it the earlier one, then b's last use would be a second bucket in a's gap.
//
//===----------------------------------------------------------------------===//

#include "NewtonSchulz.h"
#include "ParameterUses.h"
#include "mlir/IR/IRMapping.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

namespace zopt {
#define GEN_PASS_DEF_MATERIALIZECOLLECTIVES
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

/// Where a parameter lives.
struct Home {
  zero::BucketOp bucket;
  int64_t segment;
};

/// One gather of a bucket: from its first to its last user.
struct Range {
  zero::BucketOp bucket;
  Operation *first = nullptr, *last = nullptr;
  zero::AllGatherOp gather;
  DenseMap<StringAttr, Value> views;
};

class GatherRanges {
public:
  GatherRanges(const DenseMap<StringAttr, Home> &homes) : homes(homes) {}

  /// Gathers sharded parameters of `function` around their uses.
  void materialize(func::FuncOp function) {
    auto isSharded = [&](StringAttr name) {
      zero::BucketOp bucket = homes.lookup(name).bucket;
      return bucket && bucket.getParameterPlacement() == zero::Placement::sharded;
    };
    ParameterUses uses(function, isSharded);
    ArrayRef<ParameterUse> all = uses.getUses();
    auto backward = llvm::partition_point(all, [&](const ParameterUse &use) { return use.position < uses.getBackwardPosition(); });
    materializeUses(ArrayRef<ParameterUse>(all.begin(), backward), uses);
    materializeUses(ArrayRef<ParameterUse>(backward, all.end()), uses);

    // Nothing uses the reads, and what was computed from parameters alone, any more.
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
      if (op.getNumResults() > 0 && op.use_empty() && llvm::all_of(op.getResults(), [&](Value result) { return uses.isDerived(result); }))
        op.erase();
  }

private:
  /// One entry a (use, bucket), in program order: the sequence that ranges are cut from.
  struct Touch {
    const ParameterUse *use;
    Operation *bucket;
    int64_t range;
  };

  void materializeUses(ArrayRef<ParameterUse> uses, const ParameterUses &info) {
    SmallVector<Touch> touches;
    for (const ParameterUse &use : uses) {
      llvm::SmallSetVector<Operation *, 2> buckets;
      for (StringAttr name : use.names)
        buckets.insert(homes.find(name)->second.bucket);
      for (Operation *bucket : buckets)
        touches.push_back({&use, bucket, -1});
    }

    // Two other buckets in the gap end a range. `latest` and `other` are the last two different buckets of the sequence so far, which is all that the gap's count of 0, 1 or more needs.
    SmallVector<Range> ranges;
    DenseMap<Operation *, int64_t> open;
    Operation *latest = nullptr, *other = nullptr;
    for (Touch &touch : touches) {
      if (touch.bucket != latest && touch.bucket != other)
        open.erase(touch.bucket);
      auto [it, isNew] = open.try_emplace(touch.bucket, ranges.size());
      Operation *user = touch.use->operand->getOwner();
      if (isNew) {
        ranges.emplace_back();
        ranges.back().bucket = cast<zero::BucketOp>(touch.bucket);
        ranges.back().first = user;
      }
      ranges[it->second].last = user;
      touch.range = it->second;
      if (touch.bucket != latest) {
        other = latest;
        latest = touch.bucket;
      }
    }

    for (Range &range : ranges) {
      OpBuilder builder(range.first);
      range.gather = zero::AllGatherOp::create(builder, range.bucket.getLoc(), zero::GatheredType::get(builder.getContext()), range.bucket.getSymName());
      builder.setInsertionPointAfter(range.last);
      zero::FreeOp::create(builder, range.bucket.getLoc(), range.gather.getGathered());
    }

    // Touches of one use are neighbours.
    for (auto *touch = touches.begin(); touch != touches.end();) {
      DenseMap<Operation *, int64_t> rangeOf;
      const ParameterUse *use = touch->use;
      for (; touch != touches.end() && touch->use == use; ++touch)
        rangeOf[touch->bucket] = touch->range;
      OpBuilder builder(use->operand->getOwner());
      use->operand->set(materializeValue(builder, use->operand->get(), ranges, rangeOf, info));
    }
  }

  /// `value` from the gathers of `rangeOf`, made right before the use.
  Value materializeValue(OpBuilder &builder, Value value, MutableArrayRef<Range> ranges, const DenseMap<Operation *, int64_t> &rangeOf, const ParameterUses &info) {
    if (!info.isDerived(value))
      return value;
    Operation *definition = value.getDefiningOp();
    if (auto read = dyn_cast<train::ReadStateOp>(definition)) {
      StringAttr name = read.getStateAttr().getAttr();
      Range &range = ranges[rangeOf.lookup(homes.find(name)->second.bucket)];
      Value &view = range.views[name];
      if (!view) {
        OpBuilder viewBuilder(range.gather);
        viewBuilder.setInsertionPointAfter(range.gather);
        view = zero::ViewOp::create(viewBuilder, read.getLoc(), read.getType(), range.gather.getGathered(), read.getStateAttr());
      }
      return view;
    }
    IRMapping mapping;
    for (Value operand : definition->getOperands())
      mapping.map(operand, materializeValue(builder, operand, ranges, rangeOf, info));
    Operation *clone = builder.clone(*definition, mapping);
    return clone->getResult(cast<OpResult>(value).getResultNumber());
  }

  const DenseMap<StringAttr, Home> &homes;
};

struct MaterializeCollectivesPass : zopt::impl::MaterializeCollectivesBase<MaterializeCollectivesPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    for (auto bucket : module.getOps<zero::BucketOp>()) {
      buckets.push_back(bucket);
      for (auto [index, segment] : llvm::enumerate(bucket.getSegments().getAsRange<zero::SegmentAttr>()))
        homes[segment.getParameter().getAttr()] = {bucket, static_cast<int64_t>(index)};
    }
    if (auto micro = getMicroStep(module)) {
      exchangeStatistics(micro);
      GatherRanges(homes).materialize(micro);
      if (auto evaluation = module.lookupSymbol<func::FuncOp>("eval_step"))
        GatherRanges(homes).materialize(evaluation);
      if (failed(reduceGradients(micro)))
        return signalPassFailure();
      if (auto apply = module.lookupSymbol<func::FuncOp>("apply_step"))
        if (failed(applyStep(micro, apply)))
          return signalPassFailure();
    }
    module->setAttr("train.level", StringAttr::get(&getContext(), "explicit"));
  }

private:
  /// Means over ranks are sums, divided.
  static void exchangeStatistics(func::FuncOp function) {
    for (auto mean : llvm::make_early_inc_range(function.getOps<train::MeanOverRanksOp>())) {
      OpBuilder builder(mean);
      auto type = cast<RankedTensorType>(mean.getType());
      auto sum = zero::AllReduceOp::create(builder, mean.getLoc(), TypeRange(type),
                                           FlatSymbolRefAttr::get(function.getContext(), "data"), mean.getInput());
      Value ranks = zero::WorldSizeOp::create(builder, mean.getLoc(), RankedTensorType::get({}, type.getElementType()));
      mean.replaceAllUsesWith(train::DivOp::create(builder, mean.getLoc(), type, sum.getResult(0), ranks).getResult());
      mean.erase();
    }
  }

  /// train.accumulate of gradients becomes one zero.reduce_gradients a bucket.
  LogicalResult reduceGradients(func::FuncOp function) {
    DenseMap<Operation *, SmallVector<Value>> gradients;
    SmallVector<Operation *> replaced;
    bool failed = false;
    for (auto accumulate : function.getOps<train::AccumulateOp>()) {
      auto it = homes.find(accumulate.getStateAttr().getAttr());
      if (it == homes.end())
        continue; // a scalar
      zero::BucketOp bucket = it->second.bucket;
      SmallVector<Value> &values = gradients[bucket];
      values.resize(bucket.getSegments().size());
      Value &value = values[it->second.segment];
      if (value) {
        accumulate.emitOpError("adds to the gradient of ") << accumulate.getStateAttr() << ", which has one already";
        failed = true;
      }
      value = accumulate.getValue();
      replaced.push_back(accumulate);
    }
    if (failed)
      return failure();
    for (Operation *op : replaced)
      op->erase();

    for (zero::BucketOp bucket : buckets) {
      if (bucket.getFrozen())
        continue;
      SmallVector<Value> &values = gradients[bucket];
      values.resize(bucket.getSegments().size());
      Operation *last = nullptr;
      for (Value value : values)
        if (Operation *definition = value ? value.getDefiningOp() : nullptr)
          if (!last || last->isBeforeInBlock(definition))
            last = definition;
      // Gradients are there after backward has begun, even where none of them depends on it.
      for (auto backward : function.getOps<train::BackwardOp>())
        if (!last || last->isBeforeInBlock(backward))
          last = backward;
      OpBuilder builder(function.getContext());
      if (last)
        builder.setInsertionPointAfter(last);
      else
        builder.setInsertionPoint(function.getBody().front().getTerminator());
      // A trained parameter that the loss does not depend on has a gradient of zeros.
      for (auto [value, segment] : llvm::zip_equal(values, bucket.getSegments().getAsRange<zero::SegmentAttr>()))
        if (!value) {
          auto state = SymbolTable::lookupNearestSymbolFrom<train::StateOp>(bucket, segment.getParameter());
          RankedTensorType type = state.getTensorType().clone(bucket.getGradientType());
          auto zeros = DenseElementsAttr::get(type, builder.getZeroAttr(bucket.getGradientType()));
          value = train::ConstantOp::create(builder, state.getLoc(), type, zeros);
        }
      zero::ReduceGradientsOp::create(builder, bucket.getLoc(), bucket.getSymName(), values);
    }
    return success();
  }

  LogicalResult applyStep(func::FuncOp micro, func::FuncOp apply) {
    OpBuilder builder(apply);
    auto group = FlatSymbolRefAttr::get(&getContext(), "data");

    // Scalars that micro-steps of this rank accumulated: summed over ranks by one collective.
    llvm::SetVector<StringAttr> accumulated;
    for (auto accumulate : micro.getOps<train::AccumulateOp>())
      accumulated.insert(accumulate.getStateAttr().getAttr());
    SmallVector<train::ReadStateOp> reads;
    for (auto read : apply.getOps<train::ReadStateOp>())
      if (accumulated.contains(read.getStateAttr().getAttr()))
        reads.push_back(read);
    if (!reads.empty()) {
      // Together where the first stands, above every use.
      for (size_t i = 1; i < reads.size(); ++i)
        reads[i]->moveAfter(reads[i - 1]);
      SmallVector<Value> values(llvm::map_range(reads, [](train::ReadStateOp read) { return read.getValue(); }));
      builder.setInsertionPointAfter(reads.back());
      auto sums = zero::AllReduceOp::create(builder, reads.front().getLoc(), TypeRange(ValueRange(values)), group, values);
      for (auto [value, sum] : llvm::zip_equal(values, sums.getResults()))
        value.replaceAllUsesExcept(sum, sums);
    }

    for (auto norm : llvm::make_early_inc_range(apply.getOps<train::GradientNormOp>())) {
      SmallVector<Attribute> names;
      for (zero::BucketOp bucket : buckets)
        if (!bucket.getFrozen())
          names.push_back(FlatSymbolRefAttr::get(bucket.getSymNameAttr()));
      builder.setInsertionPoint(norm);
      auto replacement = zero::GradientNormOp::create(builder, norm.getLoc(), norm.getType(), group, builder.getArrayAttr(names));
      norm.replaceAllUsesWith(replacement.getNorm());
      norm.erase();
    }

    // The updates of a bucket's parameters become one, behind all of them, in the order of the buckets: what the next step reads first is published first.
    DenseMap<Operation *, SmallVector<train::UpdateOp>> updates;
    for (auto update : apply.getOps<train::UpdateOp>()) {
      auto it = homes.find(update.getParameterAttr().getAttr());
      if (it == homes.end())
        return update.emitOpError("updates ") << update.getParameterAttr() << ", which is in no bucket";
      zero::BucketOp bucket = it->second.bucket;
      SmallVector<train::UpdateOp> &list = updates[bucket];
      list.resize(bucket.getSegments().size());
      list[it->second.segment] = update;
      builder.setInsertionPointAfter(update);
    }
    for (zero::BucketOp bucket : buckets) {
      SmallVector<train::UpdateOp> list = updates.lookup(bucket);
      if (list.empty())
        continue;
      SmallVector<double> decays, rates;
      train::UpdateOp last;
      for (auto [update, segment] : llvm::zip_equal(list, bucket.getSegments().getAsRange<zero::SegmentAttr>())) {
        if (!update)
          return bucket.emitOpError("has no update of ") << segment.getParameter() << ", but of other parameters";
        if (!last || last->isBeforeInBlock(update))
          last = update;
        decays.push_back(update.getDecay().convertToDouble());
        rates.push_back(update.getRate() ? update.getRate()->convertToDouble() : 1.0);
      }
      for (train::UpdateOp update : list)
        if (update.getOperands() != last.getOperands())
          return update.emitOpError("expects the scale, lr, step, finite and momentum of the other updates of bucket '") << bucket.getSymName() << "'";
      SmallVector<Value> directions;
      auto optimizer = SymbolTable::lookupNearestSymbolFrom<train::OptimizerOp>(bucket, last.getOptimizerAttr());
      if (std::optional<int64_t> iterations = optimizer ? optimizer.getNewtonSchulz() : std::nullopt) {
        SmallVector<train::StateOp> states;
        SmallVector<Type> types;
        for (train::UpdateOp update : list) {
          states.push_back(SymbolTable::lookupNearestSymbolFrom<train::StateOp>(update, update.getParameterAttr()));
          types.push_back(states.back().getTensorType());
        }
        auto direction = zero::DirectionOp::create(builder, bucket.getLoc(), types, bucket.getSymName(), last.getScale(), last.getFinite());
        for (auto [state, value] : llvm::zip_equal(states, direction.getDirections()))
          directions.push_back(orthogonalize(builder, state.getLoc(), state, value, *iterations));
      }
      zero::UpdateOp::create(builder, bucket.getLoc(), bucket.getSymName(), last.getScale(), last.getLr(), last.getStep(), last.getFinite(), last.getMomentum(), directions, decays,
                             llvm::all_of(rates, [](double rate) { return rate == 1.0; }) ? DenseF64ArrayAttr() : builder.getDenseF64ArrayAttr(rates));
      if (bucket.getParameterPlacement() == zero::Placement::replicated && bucket.getOptimizerPlacement() == zero::Placement::sharded)
        zero::PublishOp::create(builder, bucket.getLoc(), bucket.getSymName());
      for (train::UpdateOp update : list)
        update.erase();
    }
    return success();
  }

  SmallVector<zero::BucketOp> buckets;
  DenseMap<StringAttr, Home> homes;
};

} // namespace
