//===- Compile.cpp - from a module to a plan ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/Compile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassRegistry.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"
#include <sched.h>

using namespace mlir;

void zopt::registerAllDialects(DialectRegistry &registry) {
  registry.insert<train::TrainDialect, zero::ZeroDialect, plan::PlanDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect, scf::SCFDialect, cf::ControlFlowDialect, vector::VectorDialect,
                  memref::MemRefDialect, gpu::GPUDialect, index::IndexDialect, ub::UBDialect>();
}

StringRef zopt::getLevel(ModuleOp module) {
  auto level = module->getAttrOfType<StringAttr>("train.level");
  return level ? level.getValue() : StringRef();
}

/// Most ops of a module that is verified behind each pass; of a larger one, which would be verified for a third of the
/// time, each level is (zopt-verify-...).
static constexpr int64_t kVerifiedOps = 50000;

static bool isLarge(ModuleOp module) {
  int64_t count = 0;
  return module
      .walk([&](Operation *) { return ++count > kVerifiedOps ? WalkResult::interrupt() : WalkResult::advance(); })
      .wasInterrupted();
}

LogicalResult zopt::runPipeline(ModuleOp module, StringRef pipeline, function_ref<LogicalResult(PassManager &)> configure) {
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  if (configure && failed(configure(manager)))
    return failure();
  std::string message;
  llvm::raw_string_ostream stream(message);
  if (failed(parsePassPipeline(pipeline, manager, stream)))
    return module.emitError("pipeline is not valid: ") << message;
  if (isLarge(module)) {
    if (failed(verify(module)))
      return failure();
    manager.enableVerifier(false);
  }
  return manager.run(module);
}

int64_t zopt::usableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int64_t zopt::defaultThreads(int64_t worldSize) { return std::max<int64_t>(1, usableCpus() / worldSize); }
