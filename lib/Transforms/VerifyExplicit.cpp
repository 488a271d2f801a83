//===- VerifyExplicit.cpp - the gate of the explicit level ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ParameterUses.h"
#include "Residuals.h"
#include "mlir/IR/Verifier.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_VERIFYEXPLICIT
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

class ExplicitVerifier {
public:
  explicit ExplicitVerifier(ModuleOp module) : module(module) {}

  LogicalResult verify() {
    auto level = module->getAttrOfType<StringAttr>("train.level");
    if (!level || level.getValue() != "explicit")
      return module.emitError("expects train.level = \"explicit\", but got ") << (level ? Attribute(level) : Attribute(UnitAttr::get(module.getContext())));
    verifyBuckets();
    func::FuncOp micro = getMicroStep(module);
    if (!micro)
      return module.emitError("expects a function @micro_step or @forward");
    for (auto function : module.getOps<func::FuncOp>()) {
      if (!llvm::hasSingleElement(function.getBody())) {
        fail(function.emitOpError("expects one block"));
        continue;
      }
      verifyFunction(function);
    }
    if (succeeded(status))
      verifyStep(micro, module.lookupSymbol<func::FuncOp>("apply_step"));
    return status;
  }

private:
  void fail(InFlightDiagnostic &&) { status = failure(); }

  void verifyBuckets() {
    for (auto bucket : module.getOps<zero::BucketOp>())
      for (auto segment : bucket.getSegments().getAsRange<zero::SegmentAttr>()) {
        auto [it, isNew] = bucketOf.try_emplace(segment.getParameter().getAttr(), bucket);
        if (!isNew)
          fail(bucket.emitOpError("holds ") << segment.getParameter() << ", which is in bucket '" << it->second.getSymName() << "' too");
      }
    for (auto state : module.getOps<train::StateOp>())
      if (state.getRole() == train::Role::parameter && isa<FloatType>(state.getTensorType().getElementType()) && !bucketOf.contains(state.getSymNameAttr()))
        fail(state.emitOpError("is a parameter in no bucket"));
  }

  void verifyFunction(func::FuncOp function) {
    Operation *backward = nullptr;
    for (Operation &op : function.getBody().front()) {
      StringRef dialect = op.getName().getDialectNamespace();
      if (dialect != "train" && dialect != "zero" && dialect != "func")
        fail(op.emitOpError("does not belong to the explicit level"));
      if (isa<train::GradientNormOp, train::UpdateOp>(op))
        fail(op.emitOpError("does not belong to the explicit level: it works on buckets"));
      if (isa<train::BackwardOp>(op))
        backward = &op;
      if (auto accumulate = dyn_cast<train::AccumulateOp>(op); accumulate && bucketOf.contains(accumulate.getStateAttr().getAttr()))
        fail(op.emitOpError("does not belong to the explicit level: gradients are reduced by bucket"));
      if (auto read = dyn_cast<train::ReadStateOp>(op)) {
        zero::BucketOp bucket = bucketOf.lookup(read.getStateAttr().getAttr());
        if (bucket && bucket.getParameterPlacement() == zero::Placement::sharded)
          fail(op.emitOpError("reads ") << read.getStateAttr() << ", which is sharded in bucket '" << bucket.getSymName() << "'");
        if (bucket && read.getType().getElementType() != bucket.getComputeType())
          fail(op.emitOpError("reads ") << read.getStateAttr() << " as " << read.getType().getElementType() << ", but bucket '" << bucket.getSymName() << "' holds " << bucket.getComputeType());
      }
      if (auto gather = dyn_cast<zero::AllGatherOp>(op))
        verifyGather(gather);
    }
    if (!backward)
      return;
    for (Operation *op : findResiduals(function)) {
      auto decision = op->getAttrOfType<StringAttr>(kResidualAttrName);
      if (!decision || !zero::symbolizeResidualDecision(decision.getValue()))
        fail(op->emitOpError("has a result that backward uses, but no decision in ") << kResidualAttrName);
      if (isa<zero::AllGatherOp, zero::ViewOp>(op))
        fail(op->emitOpError("is a gathered weight that backward uses: backward gathers again"));
    }
  }

  /// Views, and what they become without a copy, are used before the free; and on one side of train.backward.
  void verifyGather(zero::AllGatherOp gather) {
    Operation *free = nullptr;
    for (Operation *user : gather.getGathered().getUsers())
      if (isa<zero::FreeOp>(user))
        free = user;
    for (Operation *user : gather.getGathered().getUsers()) {
      if (user == free)
        continue;
      for (Operation *reader : user->getUsers())
        if (free->isBeforeInBlock(reader))
          fail(reader->emitOpError("reads a view of ") << gather.getBucketAttr() << " after the bucket's 'zero.free'");
    }
  }

  void verifyStep(func::FuncOp micro, func::FuncOp apply) {
    DenseMap<StringAttr, int64_t> reduced, updated, published;
    for (auto op : micro.getOps<zero::ReduceGradientsOp>())
      ++reduced[op.getBucketAttr().getAttr()];
    if (apply) {
      for (auto op : apply.getOps<zero::UpdateOp>())
        ++updated[op.getBucketAttr().getAttr()];
      for (auto op : apply.getOps<zero::PublishOp>())
        ++published[op.getBucketAttr().getAttr()];
    }
    for (auto bucket : module.getOps<zero::BucketOp>()) {
      StringAttr name = bucket.getSymNameAttr();
      int64_t reductions = bucket.getFrozen() ? 0 : 1, updates = bucket.getOptimizer() ? 1 : 0;
      bool isPublished = updates && bucket.getParameterPlacement() == zero::Placement::replicated && bucket.getOptimizerPlacement() == zero::Placement::sharded;
      if (reduced.lookup(name) != reductions)
        fail(bucket.emitOpError("is reduced ") << reduced.lookup(name) << " times in a micro-step, but expects " << reductions);
      if (updated.lookup(name) != updates)
        fail(bucket.emitOpError("is updated ") << updated.lookup(name) << " times in a step, but expects " << updates);
      if (published.lookup(name) != int64_t(isPublished))
        fail(bucket.emitOpError("is published ") << published.lookup(name) << " times in a step, but expects " << int64_t(isPublished));
    }
  }

  ModuleOp module;
  LogicalResult status = success();
  DenseMap<StringAttr, zero::BucketOp> bucketOf;
};

struct VerifyExplicitPass : zopt::impl::VerifyExplicitBase<VerifyExplicitPass> {
  void runOnOperation() override {
    if (failed(mlir::verify(getOperation())))
      return signalPassFailure();
    if (failed(ExplicitVerifier(getOperation()).verify()))
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
