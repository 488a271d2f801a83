//===- EmitPtx.cpp - from the NVVM dialect to PTX --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// LLVM's back end in this process: no toolkit and no device library. The driver (or ptxas) makes machine code of it.
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "OptimizeModule.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using namespace zopt;

LogicalResult zopt::emitPtx(ArrayRef<plan::KernelOp> kernels, plan::TargetOp target, std::string &ptx, std::string &error) {
  FailureOr<OwningOpRef<ModuleOp>> lowered = lowerGpuKernels(target->getContext(), kernels);
  if (failed(lowered))
    return failure();
  llvm::Triple triple(target.getTriple());
  const llvm::Target *description = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!description)
    return failure();
  llvm::TargetOptions options;
  // A product and a sum round twice, as the ops that they come from do, fused or not: x - x is 0 also where x is a product. Expansions of functions ask for fused ones where they want them.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  std::unique_ptr<llvm::TargetMachine> machine(
      description->createTargetMachine(triple, target.getCpu(), target.getFeatures(), options, std::nullopt, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  // Known before translation, which takes alignments from it: those of another machine would split accesses of 8 bytes.
  llvm::DataLayout layout = machine->createDataLayout();
  (**lowered)->setAttr(LLVM::LLVMDialect::getDataLayoutAttrName(), StringAttr::get((*lowered)->getContext(), layout.getStringRepresentation()));
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(**lowered, context, "kernels");
  if (!module) {
    error = "kernels do not translate to LLVM IR";
    return failure();
  }
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(layout);
  optimizeModule(*module, *machine, [](llvm::PassBuilder &builder) { return builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3); });
  for (llvm::Function &function : *module)
    if (function.isDeclaration() && !function.isIntrinsic()) {
      error = ("a kernel calls '" + function.getName() + "', which no GPU has").str();
      return failure();
    }
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile)) {
    error = ("target " + target.getTriple() + " has no assembly").str();
    return failure();
  }
  passes.run(*module);
  ptx = text.str().str();
  return success();
}
