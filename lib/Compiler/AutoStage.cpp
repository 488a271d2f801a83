//===- AutoStage.cpp - the ZeRO stage that a model needs ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/AutoStage.h"
#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace zopt {

RankMemory findRankMemory(const FinalPlanOptions &options) {
  if (options.target != "cpu" || options.worldSize < 1)
    return {};
  const runtime::MemoryFacts facts = runtime::readMemory();
  const bool limited = facts.cgroupLimit >= 0 && facts.cgroupLimit < facts.total;
  return {(limited ? facts.cgroupLimit : facts.total) / options.worldSize,
          llvm::formatv("this {0} over {1} rank{2}", limited ? "memory group's limit" : "machine's memory",
                        options.worldSize, options.worldSize == 1 ? "" : "s")
              .str()};
}

int64_t stageForParameters(int64_t parameters) {
  return parameters < 1'000'000'000 ? 0 : parameters <= 7'000'000'000 ? 2 : 3;
}

static int64_t countParameters(ModuleOp forward) {
  int64_t count = 0;
  for (train::StateOp state : forward.getOps<train::StateOp>())
    if (auto type = dyn_cast<RankedTensorType>(state.getTensorType());
        type && type.hasStaticShape() && state.getRole() == train::Role::parameter)
      count += type.getNumElements();
  return count;
}

FailureOr<StageChoice> chooseStage(ModuleOp forward, const StepOptions &step, const BatchOptions &batch,
                                   const FinalPlanOptions &specialize, const RankMemory &memory) {
  const int64_t parameters = countParameters(forward);
  StageChoice choice{stageForParameters(parameters), ""};
  const std::string count =
      parameters < 1'000'000
          ? std::to_string(parameters) + " parameters"
          : llvm::formatv("{0:F2} {1} parameters", double(parameters) / (parameters < 1'000'000'000 ? 1e6 : 1e9),
                          parameters < 1'000'000'000 ? "million" : "billion")
                .str();
  const char *rule = choice.stage == 0 ? "below 1 billion" : choice.stage == 2 ? "1 to 7 billion" : "above 7 billion";
  choice.reason = llvm::formatv("stage {0} for {1} ({2})", choice.stage, count, rule);
  if (specialize.worldSize < 1 || memory.bytes <= 0) {
    choice.reason += specialize.worldSize < 1 ? "; memory was not looked at: give --nproc"
                                              : "; memory was not looked at: give --device-memory";
    return choice;
  }
  const std::string limit = runtime::bytesText(memory.bytes) + " (" + memory.source + ")";
  std::string exceeded;
  for (;; ++choice.stage) {
    OwningOpRef<ModuleOp> module(forward.clone());
    StepOptions staged = step;
    staged.zeroStage = choice.stage;
    if (failed(runPipeline(*module, buildStepPipeline(staged, batch) + "," + buildSpecializePipeline(specialize))))
      return failure();
    int64_t peak = 0;
    for (plan::ArenaOp arena : module->getOps<plan::ArenaOp>())
      peak += arena.getBytes();
    const std::string planned = runtime::bytesText(peak);
    if (peak <= memory.bytes) {
      choice.reason += exceeded.empty() ? "; its planned peak of " + planned + " a rank fits " + limit
                                        : "; raised to stage " + std::to_string(choice.stage) + ", whose " + planned +
                                              " fit " + limit + ", because " + exceeded +
                                              (exceeded.find(',') == std::string::npos ? " does not" : " do not");
      return choice;
    }
    exceeded += (exceeded.empty() ? "" : ", ") + planned + " at stage " + std::to_string(choice.stage);
    if (choice.stage == 3) {
      choice.reason += "; stage 3, though the planned peak of " + planned + " a rank exceeds " + limit +
                       ": more ranks, --recompute=full or a smaller micro-batch lower it";
      return choice;
    }
  }
}

} // namespace zopt
