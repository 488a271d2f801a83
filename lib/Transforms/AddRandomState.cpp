//===- AddRandomState.cpp - what random numbers depend on -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Keys are a vector with one element an id, so that kernels of like dropouts are one kernel: what tells them apart is
// where their key is read. All scalars are made once, at the top.
//
//===----------------------------------------------------------------------===//

#include "BatchAnalysis.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_ADDRANDOMSTATEPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// [outer, batch, inner] of an op's input.
FailureOr<SmallVector<int64_t>> chooseLayout(Operation *op, Value input, const SamplePlace &place, int64_t batch) {
  const int64_t count = getTensorType(input).getNumElements();
  if (place.kind == SamplePlace::Kind::Shared || batch == 1)
    return SmallVector<int64_t>{1, 1, count};
  if (place.kind == SamplePlace::Kind::Apart)
    return SmallVector<int64_t>{count / (place.inner * batch), batch, place.inner};
  InFlightDiagnostic diagnostic = op->emitError()
                                  << (isa<UniformOp>(op) ? "random numbers for " : "dropout of ") << input.getType()
                                  << " cannot tell the " << batch << " samples of the micro-batch apart";
  if (!place.cause)
    return failure();
  diagnostic << ", which '" << place.cause->getName() << "' mixes";
  if (auto node = dyn_cast<NameLoc>(place.cause->getLoc()))
    diagnostic << " (node '" << node.getName().getValue() << "')";
  return failure();
}

class AddRandomStatePass : public zopt::impl::AddRandomStatePassBase<AddRandomStatePass> {
public:
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto forward = module.lookupSymbol<func::FuncOp>(kForward);
    if (!forward)
      return;
    SmallVector<Operation *> dropouts;
    int64_t ids = 0;
    for (Operation &op : forward.getBody().front())
      if (isa<DropoutOp, DropoutMaskOp, UniformOp>(op)) {
        dropouts.push_back(&op);
        ids = std::max<int64_t>(ids, op.getAttrOfType<IntegerAttr>("id").getInt() + 1);
      }
    if (dropouts.empty())
      return;
    auto micro = module->getAttrOfType<IntegerAttr>("train.micro_batch");
    const int64_t batch = micro ? micro.getInt() : 1;

    BatchAnalysis analysis(forward, batch);
    bool valid = true;
    for (Operation *op : dropouts) {
      FailureOr<SmallVector<int64_t>> layout =
          chooseLayout(op, op->getOperand(0), analysis.lookup(op->getOperand(0)), batch);
      valid &= succeeded(layout);
      if (succeeded(layout))
        op->setAttr("layout", DenseI64ArrayAttr::get(&getContext(), *layout));
    }
    if (!valid)
      return signalPassFailure();

    OpBuilder builder = OpBuilder::atBlockBegin(&forward.getBody().front());
    Location loc = forward.getLoc();
    Type i64 = builder.getI64Type();
    auto scalarType = RankedTensorType::get({}, i64);
    auto number = [&](int64_t value) -> Value {
      return ConstantOp::create(builder, loc, scalarType,
                                DenseElementsAttr::get(scalarType, builder.getI64IntegerAttr(value)));
    };
    auto read = [&](StringRef name) -> Value {
      createIntegerState(module, name);
      return ReadStateOp::create(builder, loc, scalarType, name);
    };
    const int64_t high = int64_t(1) << 32;
    Value keys = add(builder, loc, mul(builder, loc, read(kSeed), number(high)),
                     IotaOp::create(builder, loc, RankedTensorType::get({ids}, i64), 0));
    Value shared = mul(builder, loc, read(kRandomStep), number(high));
    Value counter = add(builder, loc, shared, read(kFirstSample));

    for (Operation *op : dropouts) {
      const int64_t id = op->getAttrOfType<IntegerAttr>("id").getInt();
      Value &key = keyOf[id];
      if (!key)
        key = reshape(builder, loc,
                      SliceOp::create(builder, loc, RankedTensorType::get({1}, i64), keys, ArrayRef<int64_t>{id},
                                      ArrayRef<int64_t>{1}),
                      {});
      bool isShared = analysis.lookup(op->getOperand(0)).kind == SamplePlace::Kind::Shared;
      op->setOperands({op->getOperand(0), key, isShared ? shared : counter});
    }
  }

private:
  static void createIntegerState(ModuleOp module, StringRef name) {
    auto builder = OpBuilder::atBlockEnd(module.getBody());
    builder.setInsertionPoint(*module.getOps<func::FuncOp>().begin());
    auto type = RankedTensorType::get({}, builder.getI64Type());
    StateOp::create(builder, module.getLoc(), builder.getStringAttr(name), TypeAttr::get(type),
                    RoleAttr::get(module.getContext(), Role::scalar), builder.getI64IntegerAttr(0),
                    /*trained=*/UnitAttr(), /*source_name=*/StringAttr(), /*source_permutation=*/DenseI64ArrayAttr(),
                    /*tied=*/ArrayAttr(), /*no_decay=*/UnitAttr());
  }

  DenseMap<int64_t, Value> keyOf;
};

} // namespace
