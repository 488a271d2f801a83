//===- VerifyLevels.cpp - what each level promises -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The gates between levels. Each says every problem that it finds, so that a module edited by hand is repaired in one go.
//
//===----------------------------------------------------------------------===//

#include "StepStates.h"
#include "mlir/IR/Verifier.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_VERIFYFORWARDPASS
#define GEN_PASS_DEF_VERIFYSTEPPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// Whether the module says that it is at `level`; reports otherwise.
static bool checkLevel(ModuleOp module, StringRef level) {
  auto actual = module->getAttrOfType<StringAttr>(kLevel);
  if (actual && actual.getValue() == level)
    return true;
  InFlightDiagnostic diagnostic = module.emitError() << "module is not at the " << level << " level: " << kLevel << " is ";
  if (actual)
    diagnostic << "'" << actual.getValue() << "'";
  else
    diagnostic << "not set";
  return false;
}

/// A function of one block without dynamic types.
static bool checkFunction(ModuleOp module, StringRef name, func::FuncOp &function) {
  function = module.lookupSymbol<func::FuncOp>(name);
  if (!function) {
    module.emitError() << "module has no @" << name;
    return false;
  }
  if (!function.getBody().hasOneBlock()) {
    function.emitError() << "@" << name << " has " << function.getBody().getBlocks().size() << " blocks, expected 1";
    return false;
  }
  return true;
}

/// Every input is a static tensor with a name of its own.
static bool checkArguments(func::FuncOp function) {
  bool valid = true;
  llvm::StringSet<> names;
  for (auto [index, type] : llvm::enumerate(function.getArgumentTypes())) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || !tensor.hasStaticShape()) {
      function.emitError() << "argument " << index << " is " << type << ", expected a static tensor";
      valid = false;
    }
    auto name = function.getArgAttrOfType<StringAttr>(index, kName);
    if (!name) {
      function.emitError() << "argument " << index << " has no " << kName;
      valid = false;
    } else if (!names.insert(name.getValue()).second) {
      function.emitError() << "two arguments are named '" << name.getValue() << "'";
      valid = false;
    }
  }
  return valid;
}

namespace {

class VerifyForwardPass : public zopt::impl::VerifyForwardPassBase<VerifyForwardPass> {
public:
  void runOnOperation() override {
    if (failed(mlir::verify(getOperation())))
      return signalPassFailure();
    ModuleOp module = getOperation();
    func::FuncOp forward;
    bool valid = checkLevel(module, "forward");
    if (!checkFunction(module, kForward, forward))
      return signalPassFailure();
    valid &= checkArguments(forward);
    if (forward.getNumResults() == 0) {
      forward.emitError("@forward has no result");
      valid = false;
    }
    for (unsigned i = 0; i < forward.getNumResults(); ++i)
      if (!forward.getResultAttrOfType<StringAttr>(i, kName)) {
        forward.emitError() << "result " << i << " has no " << kName;
        valid = false;
      }

    SymbolTable symbols(module);
    llvm::StringSet<> read;
    for (Operation &op : forward.getBody().front().without_terminator()) {
      if (!isa<TrainDialect>(op.getDialect()) || isa<AccumulateOp, WriteStateOp, BackwardOp, UpdateOp, GradientNormOp>(op)) {
        op.emitOpError("does not belong in a forward graph");
        valid = false;
      }
      if (auto readState = dyn_cast<ReadStateOp>(op)) {
        auto state = symbols.lookup<StateOp>(readState.getState());
        if (state && state.getRole() == Role::parameter && !read.insert(readState.getState()).second) {
          op.emitOpError() << "reads parameter " << readState.getStateAttr() << " a second time";
          valid = false;
        }
      }
    }
    if (!valid)
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};

class VerifyStepPass : public zopt::impl::VerifyStepPassBase<VerifyStepPass> {
public:
  void runOnOperation() override {
    if (failed(mlir::verify(getOperation())))
      return signalPassFailure();
    ModuleOp module = getOperation();
    func::FuncOp micro, apply;
    bool valid = checkLevel(module, "step");
    valid &= checkFunction(module, kMicroStep, micro);
    valid &= checkFunction(module, kApplyStep, apply);
    if (!micro || !apply || !valid)
      return signalPassFailure();
    valid &= checkArguments(micro);
    for (func::FuncOp function : {micro, apply})
      if (function.getNumResults() != 0) {
        function.emitError() << "@" << function.getSymName() << " has results";
        valid = false;
      }
    valid &= checkMicroStep(module, micro);
    valid &= checkApplyStep(module, apply);
    valid &= checkScalars(module);
    if (auto evaluation = module.lookupSymbol<func::FuncOp>(kEvaluationStep))
      valid &= checkEvaluation(micro, evaluation);
    if (!valid)
      signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  static bool checkMicroStep(ModuleOp module, func::FuncOp micro) {
    bool valid = true;
    SymbolTable symbols(module);
    BackwardOp backward;
    llvm::StringSet<> accumulated;
    for (Operation &op : micro.getBody().front().without_terminator()) {
      if (isa<UpdateOp, GradientNormOp, WriteStateOp>(op)) {
        op.emitOpError("does not belong in @micro_step");
        valid = false;
      }
      if (auto start = dyn_cast<BackwardOp>(op)) {
        if (backward) {
          op.emitOpError("begins backward a second time");
          valid = false;
        }
        backward = start;
      }
      auto accumulate = dyn_cast<AccumulateOp>(op);
      if (!accumulate)
        continue;
      if (!accumulated.insert(accumulate.getState()).second) {
        op.emitOpError() << "adds to " << accumulate.getStateAttr() << " a second time";
        valid = false;
      }
      auto state = symbols.lookup<StateOp>(accumulate.getState());
      if (state && state.getRole() == Role::parameter && !backward) {
        op.emitOpError() << "accumulates a gradient before train.backward";
        valid = false;
      }
    }
    if (!backward) {
      micro.emitError("@micro_step has no train.backward");
      valid = false;
    }
    for (StateOp state : module.getOps<StateOp>())
      if (state.getTrained() && !accumulated.contains(state.getSymName())) {
        state.emitOpError("is trained but @micro_step accumulates no gradient for it");
        valid = false;
      }
    return valid;
  }

  static bool checkApplyStep(ModuleOp module, func::FuncOp apply) {
    bool valid = true;
    unsigned norms = 0;
    llvm::StringSet<> updated;
    for (Operation &op : apply.getBody().front().without_terminator()) {
      if (isa<AccumulateOp, BackwardOp>(op)) {
        op.emitOpError("does not belong in @apply_step");
        valid = false;
      }
      norms += isa<GradientNormOp>(op);
      auto update = dyn_cast<UpdateOp>(op);
      if (update && !updated.insert(update.getParameter()).second) {
        op.emitOpError() << "updates " << update.getParameterAttr() << " a second time";
        valid = false;
      }
    }
    if (norms != 1) {
      apply.emitError() << "@apply_step has " << norms << " train.gradient_norm, expected 1";
      valid = false;
    }
    auto mode = module->getAttrOfType<StringAttr>(kMode);
    bool updates = !mode || mode.getValue() != "gradient";
    for (StateOp state : module.getOps<StateOp>())
      if (state.getTrained() && updated.contains(state.getSymName()) != updates) {
        state.emitOpError() << (updates ? "is trained but @apply_step does not update it" : "is updated, but the mode is gradient");
        valid = false;
      }
    return valid;
  }

  /// On the inputs of @micro_step, it changes nothing and gives back scalars.
  static bool checkEvaluation(func::FuncOp micro, func::FuncOp evaluation) {
    bool valid = true;
    if (!evaluation.getBody().hasOneBlock()) {
      evaluation.emitError() << "@" << kEvaluationStep << " has " << evaluation.getBody().getBlocks().size() << " blocks, expected 1";
      return false;
    }
    if (evaluation.getArgumentTypes() != micro.getArgumentTypes()) {
      evaluation.emitError() << "@" << kEvaluationStep << " has other arguments than @" << kMicroStep;
      valid = false;
    } else {
      for (unsigned i = 0; i < micro.getNumArguments(); ++i)
        if (evaluation.getArgAttr(i, kName) != micro.getArgAttr(i, kName)) {
          evaluation.emitError() << "argument " << i << " has another " << kName << " than that of @" << kMicroStep;
          valid = false;
        }
    }
    for (unsigned i = 0; i < evaluation.getNumResults(); ++i) {
      auto type = dyn_cast<RankedTensorType>(evaluation.getResultTypes()[i]);
      if (type && type.getRank() == 0 && isa<FloatType>(type.getElementType()) && evaluation.getResultAttrOfType<StringAttr>(i, kName))
        continue;
      evaluation.emitError() << "result " << i << " of @" << kEvaluationStep << " is no float scalar with a " << kName;
      valid = false;
    }
    for (Operation &op : evaluation.getBody().front().without_terminator())
      if (isa<AccumulateOp, WriteStateOp, BackwardOp, UpdateOp, GradientNormOp>(op)) {
        op.emitOpError() << "does not belong in @" << kEvaluationStep;
        valid = false;
      }
    return valid;
  }

  static bool checkScalars(ModuleOp module) {
    bool valid = true;
    for (StringRef name : {kLossSum, kCount, kRate, kStep, kLoss, kNorm, kFinite, kGradientScale}) {
      auto state = module.lookupSymbol<StateOp>(name);
      if (state && state.getRole() == Role::scalar && state.getTensorType().getRank() == 0)
        continue;
      module.emitError() << "module has no scalar state '" << name << "'";
      valid = false;
    }
    return valid;
  }
};

} // namespace
