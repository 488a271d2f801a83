//===- CompileKernels.cpp - from plan.kernel to a shared object or PTX -----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Linker.h"
#include "LowerKernels.h"
#include "OptimizeModule.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/Threading.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/ADT/StringExtras.h"
#include <mutex>

using namespace mlir;
using namespace zopt;

/// Kernels are split over this many threads; the split changes no code.
static constexpr size_t kCodegenThreads = 2;

std::string zopt::getKernelSymbol(StringRef kernelName) {
  std::string symbol = "zopt_";
  for (char c : kernelName)
    symbol += llvm::isAlnum(c) ? c : '_';
  return symbol;
}

static void initializeTarget() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
  });
}

static std::unique_ptr<llvm::TargetMachine> makeMachine(plan::TargetOp target, std::string &error) {
  llvm::Triple triple(target.getTriple());
  const llvm::Target *description = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!description)
    return nullptr;
  llvm::TargetOptions options;
  // A product and a sum round twice, as the ops that they come from do.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(description->createTargetMachine(triple, target.getCpu(), target.getFeatures(), options, llvm::Reloc::PIC_, std::nullopt,
                                                                               llvm::CodeGenOptLevel::Default));
}

/// What pays for kernels that are already vectors: redundancy, loop invariants, address arithmetic. Nothing that vectorizes again.
static llvm::ModulePassManager makePipeline(llvm::PassBuilder &builder) {
  llvm::ModulePassManager passes;
  llvm::cantFail(builder.parsePassPipeline(
      passes, "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(loop-rotate,licm),early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg)"));
  return passes;
}

/// Lowers, optimizes and emits some of the kernels. `error` is set where LLVM fails; MLIR reports by itself.
static LogicalResult emitObject(ArrayRef<plan::KernelOp> kernels, plan::TargetOp target, SmallVectorImpl<char> &object, std::string &error) {
  FailureOr<OwningOpRef<ModuleOp>> lowered = lowerKernels(target->getContext(), kernels);
  if (failed(lowered))
    return failure();
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(**lowered, context, "kernels");
  if (!module) {
    error = "kernels do not translate to LLVM IR";
    return failure();
  }
  std::unique_ptr<llvm::TargetMachine> machine = makeMachine(target, error);
  if (!machine)
    return failure();
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(machine->createDataLayout());
  optimizeModule(*module, *machine, makePipeline);
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::ObjectFile)) {
    error = ("target " + target.getTriple() + " has no object files").str();
    return failure();
  }
  passes.run(*module);
  return success();
}

/// Links objects into a shared object beside `path`, then renames it to `path`.
static bool linkObjects(ArrayRef<SmallString<0>> objects, StringRef path, std::string &error) {
  std::string temporary = (path + ".tmp" + llvm::Twine(llvm::sys::Process::getProcessId())).str();
  std::vector<std::string> files;
  std::vector<llvm::FileRemover> removers(objects.size() + 1);
  removers.back().setFile(temporary);
  for (auto [index, object] : llvm::enumerate(objects)) {
    files.push_back(temporary + "." + std::to_string(index) + ".o");
    removers[index].setFile(files.back());
    std::error_code code;
    llvm::raw_fd_ostream stream(files.back(), code);
    stream << object;
    stream.close();
    if (code || stream.has_error()) {
      error = files.back() + ": " + (code ? code : stream.error()).message();
      stream.clear_error();
      return false;
    }
  }
  if (!linkSharedObject(files, temporary, error))
    return false;
  if (std::error_code code = llvm::sys::fs::rename(temporary, path)) {
    error = (path + ": " + code.message()).str();
    return false;
  }
  return true;
}

/// One text of several: the first header serves all.
static std::string joinPtx(ArrayRef<std::string> parts) {
  std::string joined;
  for (StringRef part : parts) {
    constexpr StringLiteral kLastOfHeader = ".address_size 64";
    joined += joined.empty() ? part : part.substr(part.find(kLastOfHeader) + kLastOfHeader.size());
  }
  return joined;
}

/// Writes beside `path`, then renames.
static bool writeWhole(StringRef text, StringRef path, std::string &error) {
  std::string temporary = (path + ".tmp" + llvm::Twine(llvm::sys::Process::getProcessId())).str();
  llvm::FileRemover remover(temporary);
  std::error_code code;
  llvm::raw_fd_ostream stream(temporary, code);
  if (!code) {
    stream << text;
    stream.close();
    code = stream.error();
    stream.clear_error();
  }
  if (!code)
    code = llvm::sys::fs::rename(temporary, path);
  if (code)
    error = (path + ": " + code.message()).str();
  return !code;
}

LogicalResult zopt::compileKernels(ModuleOp finalPlan, StringRef path) {
  initializeTarget();
  MLIRContext *context = finalPlan.getContext();
  if (!context->getLoadedDialect("nvvm"))
    loadLoweringDialects(context);
  auto targets = finalPlan.getOps<plan::TargetOp>();
  if (targets.empty())
    return finalPlan.emitError("a final plan has a plan.target, but this one has none");
  plan::TargetOp target = *targets.begin();

  // Largest kernels first, each to the part with the least work: a fixed split.
  struct Sized {
    plan::KernelOp kernel;
    int64_t size;
    size_t number;
  };
  SmallVector<Sized> kernels;
  for (auto kernel : finalPlan.getOps<plan::KernelOp>()) {
    int64_t size = 0;
    kernel->walk([&](Operation *) { ++size; });
    kernels.push_back({kernel, size, kernels.size()});
  }
  llvm::sort(kernels, [](const Sized &a, const Sized &b) { return std::pair(-a.size, a.number) < std::pair(-b.size, b.number); });
  // A plan of products alone has none: its object is empty.
  size_t count = std::max<size_t>(1, std::min(kCodegenThreads, kernels.size()));
  SmallVector<SmallVector<plan::KernelOp>> parts(count);
  SmallVector<int64_t> work(count, 0);
  for (const Sized &sized : kernels) {
    size_t least = std::min_element(work.begin(), work.end()) - work.begin();
    parts[least].push_back(sized.kernel);
    work[least] += sized.size;
  }

  const bool isGpu = llvm::Triple(target.getTriple()).isNVPTX();
  std::vector<SmallString<0>> objects(count);
  std::vector<std::string> texts(count), errors(count);
  LogicalResult result = failableParallelForEachN(context, 0, count, [&](size_t part) {
    if (isGpu)
      return emitPtx(parts[part], target, texts[part], errors[part]);
    return emitObject(parts[part], target, objects[part], errors[part]);
  });
  for (const std::string &error : errors)
    if (!error.empty())
      finalPlan.emitError("cannot compile kernels: ") << error;
  if (failed(result))
    return failure();
  std::string error;
  if (isGpu) {
    if (!writeWhole(joinPtx(texts), path, error))
      return finalPlan.emitError("cannot write kernels: ") << error;
    return success();
  }
  if (!linkObjects(objects, path, error))
    return finalPlan.emitError("cannot link kernels: ") << error;
  return success();
}
