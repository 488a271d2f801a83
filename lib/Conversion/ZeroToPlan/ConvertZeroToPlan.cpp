//===- ConvertZeroToPlan.cpp - from the explicit level to a final plan ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// States get their homes, functions become sequences of commands on storages, collectives are scheduled, and at last storages get their places.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "zopt/Conversion/Passes.h"
#include "zopt/Runtime/Device/Matmul.h"
#include "llvm/TargetParser/Host.h"
#include <thread>

namespace zopt {
#define GEN_PASS_DEF_CONVERTZEROTOPLAN
#include "zopt/Conversion/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

/// What cudaMalloc gives, and libraries hope for.
static constexpr int64_t kDeviceAlignment = 256;

namespace {

struct ConvertZeroToPlanPass : zopt::impl::ConvertZeroToPlanBase<ConvertZeroToPlanPass> {
  using ConvertZeroToPlanBase::ConvertZeroToPlanBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (failed(checkOptions(module)))
      return signalPassFailure();

    // Declarations and sequences stand where the functions stood, kernels behind them.
    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    OpBuilder declarations(functions.front());
    createTarget(module, declarations);

    StorageTable storages(module);
    const KernelTarget kernelTarget = target == "cuda" ? KernelTarget::Gpu : KernelTarget::Cpu;
    KernelGenerator generator(module, kernelTarget);
    generator.setTotalsApart(totalsApart);
    KernelCache kernels(generator);
    LoweringContext context(module, kernelTarget, ranks, getCount("train.accum_steps"), threadCount, storages, kernels);
    context.keepCollectives = keepCollectives;
    StatePlacement placement(context);
    if (failed(placement.place(declarations)))
      return signalPassFailure();

    OpBuilder sequences(&getContext());
    sequences.setInsertionPointToEnd(module.getBody());
    for (func::FuncOp function : functions) {
      auto sequence = plan::SequenceOp::create(sequences, function.getLoc(), nextName(function));
      sequence.getBody().emplaceBlock();
      SmallVector<Collective> collectives;
      if (failed(lowerFunction(function, sequence, declarations, context, collectives)))
        return signalPassFailure();
      scheduleCollectives(sequence, collectives, prefetch, storages);
      lowered.push_back({function, sequence});
    }
    reportLayoutChanges(module, context.layoutChanges);
    packStorages(module, storages, declarations, kernelTarget == KernelTarget::Gpu ? kDeviceAlignment : plan::kBufferAlignment);
    for (auto &[function, sequence] : lowered) {
      sequence.setSymName(function.getSymName());
      function.erase();
    }
    module->setAttr("train.level", StringAttr::get(&getContext(), "final"));
  }

private:
  int64_t getCount(StringRef name) {
    auto attr = getOperation()->getAttrOfType<IntegerAttr>(name);
    return attr ? attr.getInt() : 1;
  }

  static void reportLayoutChanges(ModuleOp module, const LayoutChanges &changes) {
    bool convolves = false;
    module.walk([&](plan::ConvolutionOp) { convolves = true; });
    if (changes.count == 0 && !convolves)
      return;
    auto remark = module.emitRemark() << (changes.count ? std::to_string(changes.count) : "no")
                                      << (changes.count == 1 ? " copy is left that only changes a layout"
                                                             : " copies are left that only change a layout");
    if (changes.count == 0)
      return;
    remark << ", " << changes.bytes << " bytes";
    const char *separator = ": ";
    for (Location loc : changes.first) {
      if (auto name = loc->findInstanceOf<NameLoc>()) {
        remark << separator << name.getName().getValue();
        separator = ", ";
      }
    }
    if (changes.count > int64_t(changes.first.size()))
      remark << ", ...";
  }

  /// A function keeps its name until it is gone.
  std::string nextName(func::FuncOp function) { return (function.getSymName() + ".commands").str(); }

  LogicalResult checkOptions(ModuleOp module) {
    if (target != "cpu" && target != "cuda")
      return module.emitError("target is '") << std::string(target) << "', but expects cpu or cuda";
    if (target == "cuda" && chip != "sm_80" && chip != "sm_90")
      return module.emitError("chip is '") << std::string(chip) << "', but expects sm_80 or sm_90";
    if (!module->hasAttr("train.world_size"))
      return module.emitError("is not specialized: expects train.world_size");
    ranks = getCount("train.world_size");
    if (worldSize != 0 && worldSize != ranks)
      return module.emitError("is specialized for ") << ranks << " ranks, but world-size is " << int64_t(worldSize);
    if (threads < 0)
      return module.emitError("threads is ") << int64_t(threads) << ", but expects at least 0";
    // On CUDA a rank's host has nothing to compute.
    threadCount = target == "cuda" ? 1 : threads > 0 ? int64_t(threads) : std::max<int64_t>(1, std::thread::hardware_concurrency() / ranks);
    if (module.getOps<func::FuncOp>().empty())
      return module.emitError("has no function to convert");
    for (auto function : module.getOps<func::FuncOp>())
      if (!llvm::hasSingleElement(function.getBody()))
        return function.emitOpError("expects one block");
    return success();
  }

  void createTarget(ModuleOp module, OpBuilder &builder) {
    if (target == "cuda") {
      plan::TargetOp::create(builder, module.getLoc(), target, ranks, threadCount, getCount("train.micro_batch"), getCount("train.accum_steps"), "nvptx64-nvidia-cuda", chip, "+ptx80",
                             builder.getStrArrayAttr({"cuBLASLt", "cuDNN 9"}));
      return;
    }
    SmallVector<std::string> features;
    for (auto &feature : llvm::sys::getHostCPUFeatures())
      if (feature.second)
        features.push_back("+" + feature.first().str());
    llvm::sort(features);
    plan::TargetOp::create(builder, module.getLoc(), target, ranks, threadCount, getCount("train.micro_batch"), getCount("train.accum_steps"), llvm::sys::getProcessTriple(),
                           llvm::sys::getHostCPUName(), llvm::join(features, ","), builder.getStrArrayAttr({runtime::matmulLibrary()}));
  }

  int64_t ranks = 1, threadCount = 1;
  SmallVector<std::pair<func::FuncOp, plan::SequenceOp>> lowered;
};

} // namespace
