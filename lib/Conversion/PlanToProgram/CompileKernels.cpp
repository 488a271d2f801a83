//===- CompileKernels.cpp - kernels to a shared object --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// LLVM dialect -> LLVM IR -> objects, on two threads, -> one shared object through the system's linker.
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include <thread>

using namespace mlir;
using namespace zopt;

namespace {
/// Kernels are split over this many threads; the split changes no code.
constexpr size_t kCodegenThreads = 2;

struct Unit {
  std::unique_ptr<llvm::LLVMContext> context;
  std::unique_ptr<llvm::Module> module;
  llvm::SmallString<256> object;
  std::string error;
};

std::unique_ptr<llvm::TargetMachine> createTargetMachine(plan::TargetOp target, std::string &error) {
  llvm::Triple triple(target.getTriple());
  const llvm::Target *backend = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return nullptr;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict; // a product and a sum of two ops stay two roundings
  return std::unique_ptr<llvm::TargetMachine>(backend->createTargetMachine(triple, target.getCpu(), target.getFeatures(), options, llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
}

/// Kernels are vectorized where they are generated: here only scalar clean-up, loop-invariant motion and unrolling.
void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  llvm::PassBuilder builder(&machine, tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(module, modules);
}

void compile(Unit &unit, plan::TargetOp target) {
  std::unique_ptr<llvm::TargetMachine> machine = createTargetMachine(target, unit.error);
  if (!machine)
    return;
  unit.module->setTargetTriple(machine->getTargetTriple());
  unit.module->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *unit.module) {
    if (function.isDeclaration())
      continue;
    // Generated code is written for full-width vectors; the default would halve them on CPUs tuned for mixed code.
    function.addFnAttr("prefer-vector-width", "512");
    function.addFnAttr("min-legal-vector-width", "512");
    function.addFnAttr("target-cpu", target.getCpu());
    function.addFnAttr("target-features", target.getFeatures());
    function.setUWTableKind(llvm::UWTableKind::None);
  }
  optimize(*unit.module, *machine);
  std::error_code error;
  llvm::raw_fd_ostream stream(unit.object, error);
  if (error) {
    unit.error = (llvm::Twine(unit.object) + ": cannot write: " + error.message()).str();
    return;
  }
  llvm::legacy::PassManager emitter;
  if (machine->addPassesToEmitFile(emitter, stream, nullptr, llvm::CodeGenFileType::ObjectFile)) {
    unit.error = "target cannot emit object files";
    return;
  }
  emitter.run(*unit.module);
  stream.close();
  if (stream.has_error()) {
    unit.error = (llvm::Twine(unit.object) + ": cannot write: " + stream.error().message()).str();
    stream.clear_error();
  }
}

LogicalResult link(ModuleOp plan, ArrayRef<Unit> units, StringRef output) {
  std::string linker;
  for (StringRef name : {"ld.lld-22", "ld.lld", "ld"})
    if (auto found = llvm::sys::findProgramByName(name)) {
      linker = *found;
      break;
    }
  if (linker.empty())
    return plan.emitError("no linker found: install lld-22 or binutils, or put ld.lld on PATH");
  SmallVector<StringRef> arguments = {linker, "-shared", "-o", output, "--no-undefined-version", "--build-id=none"};
  for (const Unit &unit : units)
    arguments.push_back(unit.object);
  std::string message;
  int code = llvm::sys::ExecuteAndWait(linker, arguments, std::nullopt, {}, /*SecondsToWait=*/60, 0, &message);
  if (code != 0)
    return plan.emitError("linker ") << linker << " failed with code " << code << (message.empty() ? "" : ": ") << message;
  return success();
}
} // namespace

std::string zopt::getKernelSymbol(StringRef kernelName) {
  std::string symbol = "zopt_";
  for (char c : kernelName)
    symbol += llvm::isAlnum(c) ? c : '_';
  return symbol;
}

LogicalResult zopt::compileKernels(ModuleOp finalPlan, StringRef path) {
  static bool initialized = [] {
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    return true;
  }();
  (void)initialized;
  auto targets = finalPlan.getOps<plan::TargetOp>();
  if (targets.empty())
    return finalPlan.emitError("a final plan has a plan.target, but this one has none");
  plan::TargetOp target = *targets.begin();
  MLIRContext *context = finalPlan.getContext();
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  context->appendDialectRegistry(registry);

  // Neighbours alternate between the units, since kernels of one kind stand together and cost the same.
  SmallVector<SmallVector<plan::KernelOp>> groups(kCodegenThreads);
  size_t next = 0;
  for (auto kernel : finalPlan.getOps<plan::KernelOp>())
    groups[next++ % kCodegenThreads].push_back(kernel);
  std::vector<Unit> units;
  auto removeTemporaries = llvm::make_scope_exit([&] {
    for (Unit &unit : units)
      if (!unit.object.empty())
        llvm::sys::fs::remove(unit.object);
  });
  for (auto &group : groups) {
    if (group.empty())
      continue;
    OwningOpRef<ModuleOp> lowered = lowerKernels(group);
    if (!lowered)
      return finalPlan.emitError("kernels cannot be lowered");
    Unit unit;
    unit.context = std::make_unique<llvm::LLVMContext>();
    unit.module = translateModuleToLLVMIR(*lowered, *unit.context, "zopt-kernels");
    if (!unit.module)
      return finalPlan.emitError("kernels cannot be translated to LLVM IR");
    int descriptor;
    if (std::error_code error = llvm::sys::fs::createUniqueFile(path + ".%%%%%%.o", descriptor, unit.object))
      return finalPlan.emitError("cannot write beside ") << path << ": " << error.message();
    llvm::sys::fs::file_t file = llvm::sys::fs::convertFDToNativeFile(descriptor);
    llvm::sys::fs::closeFile(file);
    units.push_back(std::move(unit));
  }
  std::vector<std::thread> workers;
  for (Unit &unit : units)
    workers.emplace_back([&unit, target] { compile(unit, target); });
  for (std::thread &worker : workers)
    worker.join();
  for (Unit &unit : units)
    if (!unit.error.empty())
      return finalPlan.emitError(unit.error);
  if (units.empty())
    return finalPlan.emitError("a plan without kernels cannot run");

  llvm::SmallString<256> temporary;
  int descriptor;
  if (std::error_code error = llvm::sys::fs::createUniqueFile(path + ".%%%%%%.so", descriptor, temporary))
    return finalPlan.emitError("cannot write beside ") << path << ": " << error.message();
  llvm::sys::fs::file_t file = llvm::sys::fs::convertFDToNativeFile(descriptor);
  llvm::sys::fs::closeFile(file);
  if (failed(link(finalPlan, units, temporary))) {
    llvm::sys::fs::remove(temporary);
    return failure();
  }
  if (std::error_code error = llvm::sys::fs::rename(temporary, path)) {
    llvm::sys::fs::remove(temporary);
    return finalPlan.emitError("cannot write ") << path << ": " << error.message();
  }
  return success();
}
