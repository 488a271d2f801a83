//===- OptimizeModule.h - LLVM's passes over a module ---------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_OPTIMIZEMODULE_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_OPTIMIZEMODULE_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Passes/PassBuilder.h"

namespace zopt {

/// Runs what `makePipeline` builds, with every analysis registered.
void optimizeModule(llvm::Module &module, llvm::TargetMachine &machine, llvm::function_ref<llvm::ModulePassManager(llvm::PassBuilder &)> makePipeline);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_OPTIMIZEMODULE_H
