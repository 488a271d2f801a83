//===- AutoStage.h - the ZeRO stage that a model needs ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_AUTOSTAGE_H
#define ZOPT_COMPILER_AUTOSTAGE_H

#include "mlir/IR/BuiltinOps.h"
#include "zopt/Compiler/Options.h"

namespace zopt {

/// Memory of one rank.
struct RankMemory {
  int64_t bytes = 0;  ///< 0: not known
  std::string source; ///< where the number is from: "--device-memory", "this machine's memory over 4 ranks"
};

/// This machine's memory, or that of its tightest memory group, over `ranks`. Not known for a GPU, which zopt does not
/// look at.
RankMemory findRankMemory(const FinalPlanOptions &options);

struct StageChoice {
  int64_t stage = 0;
  std::string reason; ///< one line
};

/// The stage by the number of parameters: 0 below 1e9, 2 up to 7e9, 3 above.
int64_t stageForParameters(int64_t parameters);

/// That stage, raised while the peak planned for `specialize.worldSize` ranks exceeds `memory`; as it is where either
/// is not known. Stage 3 stays even where it does not fit, and the reason says so. `forward`: a module of the forward
/// level, which stays as it is. Fails where a stage does not compile, after a diagnostic.
mlir::FailureOr<StageChoice> chooseStage(mlir::ModuleOp forward, const StepOptions &step, const BatchOptions &batch,
                                         const FinalPlanOptions &specialize, const RankMemory &memory);

} // namespace zopt

#endif // ZOPT_COMPILER_AUTOSTAGE_H
