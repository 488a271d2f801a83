//===- AddOptimizer.cpp - the second half of a step ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossScale.h"
#include "OptimizerRules.h"
#include "ParameterGroups.h"
#include "RunningAverages.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/StringSet.h"

namespace zopt {
#define GEN_PASS_DEF_ADDOPTIMIZERPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

class AddOptimizerPass : public zopt::impl::AddOptimizerPassBase<AddOptimizerPass> {
public:
  using AddOptimizerPassBase::AddOptimizerPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto step = module.lookupSymbol<func::FuncOp>(kMicroStep);
    auto lossSum = module.lookupSymbol<StateOp>(kLossSum);
    if (!step || !lossSum) {
      module.emitError() << "module has no @micro_step with a loss (state '" << kLossSum << "')";
      return signalPassFailure();
    }
    OptimizerSettings settings;
    if (failed(parseSettings(step, settings)))
      return signalPassFailure();
    SmallVector<StateOp> trained;
    for (StateOp state : module.getOps<StateOp>())
      if (state.getTrained())
        trained.push_back(state);
    FailureOr<SmallVector<ParameterGroup>> groups = parseParameterGroups(step.getLoc(), parameterGroups);
    if (failed(groups) || failed(exemptFromDecay(step, trained)))
      return signalPassFailure();

    type = cast<FloatType>(lossSum.getTensorType().getElementType());
    Builder builder(&getContext());
    createScalarState(module, kRate, type, learningRate);
    createScalarState(module, kRateIfSkipped, type, learningRate);
    createScalarState(module, kClip, type, clip);
    createScalarState(module, kStep, type, 0.0);
    for (StringRef name : {kLoss, kNorm, kFinite})
      createScalarState(module, name, type, 0.0);
    for (StateOp state : llvm::to_vector(module.getOps<StateOp>()))
      if (std::optional<StringRef> term = getTermOf(kLossSum, state.getSymName())) {
        terms.push_back(term->str());
        createScalarState(module, getTermState(kLoss, *term), type, 0.0);
      }
    createScalarState(module, kGradientScale, type, 1.0);

    SmallVector<OptimizerOp> rules; // one a trained parameter; none in gradient mode
    if (optimizer != "none") {
      if (failed(createRules(step, trained, settings, rules)))
        return signalPassFailure();
      if (settings.cyclesMomentum)
        for (StringRef name : {kMomentum, kMomentumIfSkipped})
          createScalarState(module, name, type, settings.beta1);
      // Slots in the type of the master, next to one another in the parameters' order.
      OpBuilder slots(*module.getOps<func::FuncOp>().begin());
      for (auto [state, rule] : llvm::zip_equal(trained, rules))
        for (StringAttr slot : rule.getSlots().getAsRange<StringAttr>())
          createState(slots, module.getLoc(), (state.getSymName() + "." + slot.getValue()).str(), state.getTensorType(), Role::optimizer, 0.0);
    }
    SmallVector<Hyperparameters> each;
    if (failed(chooseHyperparameters(step, trained, rules, *groups, each)))
      return signalPassFailure();
    buildApplyStep(step.getLoc(), trained, each, rules);
    if (int64_t flops = countFlops(step))
      module->setAttr(kFlopsAttribute, builder.getI64IntegerAttr(flops));
    module->setAttr(kLearningRateAttribute, builder.getF64FloatAttr(learningRate));
    if (!schedule.empty())
      module->setAttr(kScheduleAttribute, builder.getStringAttr(schedule));
    module->setAttr(kMode, builder.getStringAttr(optimizer == "none" ? "gradient" : "train"));
    module->setAttr(kLevel, builder.getStringAttr("step"));
  }

private:
  /// Of one parameter: the factor of the learning rate, and the decay.
  struct Hyperparameters {
    double rate = 1, decay = 0;
  };

  /// Of the products of a micro-step, by convention without what backward computes again: attention's gradient does that with the scores, one of its five products.
  static int64_t countFlops(func::FuncOp step) {
    int64_t flops = 0;
    for (auto op : step.getOps<CostOpInterface>())
      flops += isa<AttentionGradOp>(op.getOperation()) ? op.getFlops() / 5 * 4 : op.getFlops();
    return flops;
  }

  LogicalResult parseSettings(func::FuncOp step, OptimizerSettings &settings) {
    SmallVector<StringRef> parts;
    StringRef(betas).split(parts, ',');
    if (parts.size() != 2 || parts[0].trim().getAsDouble(settings.beta1) || parts[1].trim().getAsDouble(settings.beta2))
      return step.emitError() << "betas are '" << betas << "', expected two numbers";
    for (double beta : {settings.beta1, settings.beta2})
      if (!(beta > 0.0 && beta < 1.0))
        return step.emitError() << "beta " << beta << " is not between 0 and 1";
    std::pair<StringRef, double> numbers[] = {{"learning rate", learningRate}, {"epsilon", epsilon}, {"weight decay", weightDecay}, {"momentum", momentum}, {"clip", clip}};
    for (auto [name, number] : numbers)
      if (!(number >= 0.0) || !std::isfinite(number))
        return step.emitError() << name << " " << number << " is not a number of at least 0";
    if (momentum != 0 && optimizer != "sgd" && optimizer != "muon" && optimizer != "none")
      return step.emitError() << "momentum " << double(momentum) << " is a setting of sgd and muon, but the optimizer is " << optimizer;
    if (optimizer == "muon" && !(momentum < 1))
      return step.emitError() << "momentum " << double(momentum) << " is not below 1, as muon's must be";
    if (nesterov && optimizer == "muon")
      return step.emitError() << "nesterov is a setting of sgd: muon's momentum is Nesterov's already";
    if (!(adamRate >= 0.0) || !std::isfinite(adamRate) || (adamRate > 0 && learningRate == 0))
      return step.emitError() << "adam-lr " << double(adamRate) << " is not a number of at least 0 beside a learning rate that is not 0";
    if (adamRate > 0 && optimizer != "muon" && optimizer != "none")
      return step.emitError() << "adam-lr " << double(adamRate) << " is a setting of muon, but the optimizer is " << optimizer;
    if (cycleMomentum && !hasBetas(optimizer))
      return step.emitError() << "the momentum cycles, but " << optimizer << " has no betas";
    if (nesterov && momentum == 0)
      return step.emitError() << "nesterov needs a momentum, but it is 0";
    if (!(averageDecay >= 0.0 && averageDecay < 1.0))
      return step.emitError() << "the decay of the moving average is " << double(averageDecay) << ", expected at least 0 and below 1";
    if (decay != "all" && decay != "matrices")
      return step.emitError() << "decay is '" << decay << "', expected all or matrices";
    settings.epsilon = epsilon;
    settings.momentum = momentum;
    settings.nesterov = nesterov;
    settings.cyclesMomentum = cycleMomentum;
    settings.averageDecay = averageDecay;
    return success();
  }

  /// Sets `no_decay` on parameters that are exempt.
  LogicalResult exemptFromDecay(func::FuncOp step, ArrayRef<StateOp> trained) {
    llvm::Regex regex(noDecay.empty() ? StringRef("^$") : StringRef(noDecay));
    std::string error;
    if (!regex.isValid(error))
      return step.emitError() << "no-decay '" << noDecay << "' is no regular expression: " << error;
    bool matched = noDecay.empty();
    for (StateOp state : trained) {
      bool exempt = decay == "matrices" && state.getTensorType().getRank() < 2;
      if (!noDecay.empty() && matches(regex, state))
        matched = exempt = true;
      if (exempt)
        state.setNoDecay(true);
    }
    if (!matched)
      return step.emitError() << "no-decay '" << noDecay << "' matches no trained parameter";
    return success();
  }

  /// One rule a trained parameter. Of muon there are two: its own for matrices, and AdamW for all that is none, that no product reads (a table of positions), that indices pick rows of (embeddings, heads that are tied to them too) or that is named so.
  LogicalResult createRules(func::FuncOp step, ArrayRef<StateOp> trained, const OptimizerSettings &settings, SmallVectorImpl<OptimizerOp> &rules) {
    Operation *before = *getOperation().getOps<func::FuncOp>().begin();
    OptimizerOp rule = createOptimizer(before, optimizer, settings, type);
    if (!rule)
      return step.emitError() << "optimizer is '" << optimizer << "', expected " << kOptimizers << ", or none";
    rules.assign(trained.size(), rule);
    if (optimizer != "muon")
      return success();
    llvm::Regex named(muonExclude.empty() ? StringRef("^$") : StringRef(muonExclude), llvm::Regex::IgnoreCase);
    std::string error;
    if (!named.isValid(error))
      return step.emitError() << "muon-exclude '" << muonExclude << "' is no regular expression: " << error;
    llvm::StringSet<> factors, tables;
    for (auto read : step.getOps<ReadStateOp>()) {
      SmallVector<Value> values = {read.getValue()};
      while (!values.empty())
        for (OpOperand &use : values.pop_back_val().getUses()) {
          if (isa<MatmulOp, ConvOp>(use.getOwner()))
            factors.insert(read.getState());
          else if (isa<GatherOp>(use.getOwner()) && use.getOperandNumber() == 0)
            tables.insert(read.getState());
          else if (isa<CastOp, ReshapeOp, TransposeOp, SliceOp, ConcatOp, BroadcastOp>(use.getOwner()))
            values.push_back(use.getOwner()->getResult(0));
        }
    }
    OptimizerOp adam;
    size_t matrices = 0;
    for (auto [index, trainedState] : llvm::enumerate(trained)) {
      StateOp state = trainedState;
      const int64_t rank = state.getTensorType().getRank();
      if ((rank == 2 || rank == 4) && factors.contains(state.getSymName()) && !tables.contains(state.getSymName()) && !matches(named, state)) {
        ++matrices;
        continue;
      }
      if (!adam)
        adam = createOptimizer(before, "adamw", settings, type);
      rules[index] = adam;
    }
    if (matrices == 0)
      return step.emitError() << "muon has no matrix to update: each of the " << trained.size() << " trained parameters is a vector or of neither 2 nor 4 axes, read by no product, a table of embeddings, or named as muon-exclude '" << muonExclude << "' says";
    return success();
  }

  /// What each parameter's group says, or what all have. A decay of a group's own is exempt from the one that all have, and from what a run sets in its place.
  LogicalResult chooseHyperparameters(func::FuncOp step, ArrayRef<StateOp> trained, MutableArrayRef<OptimizerOp> rules, MutableArrayRef<ParameterGroup> groups, SmallVectorImpl<Hyperparameters> &each) {
    for (auto [index, trainedState] : llvm::enumerate(trained)) {
      StateOp state = trainedState;
      Hyperparameters chosen{1.0, state.getNoDecay() ? 0.0 : double(weightDecay)};
      if (adamRate > 0 && !rules.empty() && !rules[index].getNewtonSchulz())
        chosen.rate = adamRate / learningRate;
      if (ParameterGroup *group = groupOf(groups, state)) {
        if (group->learningRate)
          chosen.rate = *group->learningRate / learningRate;
        if (group->weightDecay) {
          chosen.decay = *group->weightDecay;
          state.setNoDecay(true);
        }
      }
      each.push_back(chosen);
    }
    LogicalResult result = success();
    for (const ParameterGroup &group : groups) {
      if (!group.matched)
        result = step.emitError() << "parameter group '" << group.text << "' matches no trained parameter";
      if (group.learningRate && learningRate == 0)
        result = step.emitError() << "parameter group '" << group.text << "' has learning rate " << *group.learningRate << ", but the rate that it is a multiple of is 0";
    }
    return result;
  }

  void buildApplyStep(Location loc, ArrayRef<StateOp> trained, ArrayRef<Hyperparameters> each, MutableArrayRef<OptimizerOp> rules) {
    // Right behind @micro_step, in the order in which they run: gradients live from the one to the other.
    OpBuilder builder(&getContext());
    builder.setInsertionPointAfter(getOperation().lookupSymbol<func::FuncOp>(kMicroStep));
    auto function = func::FuncOp::create(builder, loc, kApplyStep, builder.getFunctionType({}, {}));
    builder.setInsertionPointToStart(function.addEntryBlock());
    auto scalarType = RankedTensorType::get({}, type);
    auto read = [&](StringRef name) -> Value { return ReadStateOp::create(builder, loc, scalarType, name); };
    auto number = [&](double value) { return scalar(builder, loc, type, value); };

    Value lossSum = read(kLossSum), count = read(kCount);
    SmallVector<Value> termSums =
        llvm::map_to_vector(terms, [&](StringRef term) { return read(getTermState(kLossSum, term)); });
    // The runtime sets two rates where it does not know yet whether the step before was skipped: a skipped step moves no schedule.
    const bool updates = optimizer != "none";
    Value lr, cycled;
    auto unlessSkipped = [&](StringRef usual, StringRef ifSkipped) { return select(builder, loc, compare(builder, loc, ComparePredicate::ne, read(kFinite), number(0.0)), read(usual), read(ifSkipped)); };
    if (updates)
      lr = unlessSkipped(kRate, kRateIfSkipped);
    if (updates && cycleMomentum)
      cycled = unlessSkipped(kMomentum, kMomentumIfSkipped);
    Value norm = GradientNormOp::create(builder, loc, scalarType);
    Value world = zero::WorldSizeOp::create(builder, loc, scalarType);
    Value steps = zero::AccumStepsOp::create(builder, loc, scalarType);
    Value one = number(1.0), none = number(0.0);
    Value microSteps = mul(builder, loc, world, steps);
    // So that a step without a counted label divides by no 0; it is skipped below. Counts may be below 1: with class weights they are sums of these.
    Value isCounted = compare(builder, loc, ComparePredicate::gt, count, none);
    Value counted = select(builder, loc, isCounted, count, one);

    // The loss of micro-batch averaging is a sum of means already.
    auto average = getOperation()->getAttrOfType<StringAttr>(kLossAverage);
    bool global = !average || average.getValue() == "global";
    Value loss = div(builder, loc, lossSum, global ? counted : microSteps);

    // Backward was seeded with 1 / positions; where labels are ignored, the mean is over fewer.
    Value ratio;
    if (auto positions = getOperation()->getAttrOfType<IntegerAttr>(kLabelPositions))
      ratio = div(builder, loc, mul(builder, loc, number(positions.getInt()), microSteps), counted);
    // Out of the gradients goes the loss scale too.
    Value lossScale;
    if (getOperation().lookupSymbol<StateOp>(kLossScale)) {
      lossScale = read(kLossScale);
      ratio = div(builder, loc, ratio ? ratio : one, lossScale);
    }
    if (ratio)
      norm = mul(builder, loc, norm, ratio);

    // x - x is 0 for finite x alone.
    Value isFinite = compare(builder, loc, ComparePredicate::eq, sub(builder, loc, norm, norm), none);
    Value proceed = AndOp::create(builder, loc, isFinite.getType(), isFinite, isCounted);
    Value finite = train::cast(builder, loc, proceed, type);

    auto write = [&](StringRef name, Value value) { WriteStateOp::create(builder, loc, name, value); };
    write(kLoss, loss);
    for (auto [term, sum] : llvm::zip_equal(terms, termSums))
      write(getTermState(kLoss, term), div(builder, loc, sum, global ? counted : microSteps));
    write(kNorm, norm);
    write(kFinite, finite);
    write(kGradientScale, ratio ? ratio : one);

    if (updates) {
      applyRunningAverages(builder, getOperation(), proceed);
      if (lossScale)
        updateLossScale(builder, getOperation(), lossScale, isFinite);
      // A limit of 0 is none. It is a state, so that a run can set another.
      Value limit = read(kClip);
      Value factor = MinOp::create(builder, loc, scalarType, div(builder, loc, limit, add(builder, loc, norm, number(1e-6))), one);
      factor = select(builder, loc, compare(builder, loc, ComparePredicate::gt, limit, none), factor, one);
      Value scale = ratio ? mul(builder, loc, ratio, factor) : factor;
      // The number of applied steps is the plan's own: a skipped step does not count.
      Value applied = read(kStep), step = add(builder, loc, applied, one);
      write(kStep, add(builder, loc, applied, finite));
      for (auto [trainedState, rule, parameter] : llvm::zip_equal(trained, rules, each)) {
        StateOp state = trainedState;
        UpdateOp::create(builder, state.getLoc(), state.getSymName(), rule.getSymName(), scale, lr, step, finite, cycled, APFloat(parameter.decay),
                         parameter.rate == 1 ? FloatAttr() : builder.getF64FloatAttr(parameter.rate));
      }
    }
    func::ReturnOp::create(builder, loc);
  }

  SmallVector<std::string> terms; // of a loss that is a sum
  FloatType type; // of scalar states, parameters' masters and the rule
};

} // namespace
