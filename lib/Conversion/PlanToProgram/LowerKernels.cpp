//===- LowerKernels.cpp - plan.kernel to the LLVM dialect -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace zopt;

namespace {
/// Prefix of a kernel's body, which its exported wrapper calls.
constexpr StringLiteral kBodyPrefix = "body.";

/// Copies a kernel into `module` as a private function.
void addBody(OpBuilder &builder, plan::KernelOp kernel) {
  auto function = func::FuncOp::create(builder, kernel.getLoc(), (kBodyPrefix + kernel.getSymName()).str(), kernel.getFunctionType());
  function.setPrivate();
  IRMapping mapping;
  kernel.getBody().cloneInto(&function.getBody(), mapping);
  function.walk([](plan::ReturnOp op) {
    OpBuilder atReturn(op);
    func::ReturnOp::create(atReturn, op.getLoc());
    op.erase();
  });
}

/// `void symbol(ptr arguments, i64 begin, i64 end)`: loads one pointer an argument and calls the body, whose memrefs are bare pointers by now.
LogicalResult addWrapper(OpBuilder &builder, ModuleOp module, plan::KernelOp kernel) {
  auto body = module.lookupSymbol<LLVM::LLVMFuncOp>((kBodyPrefix + kernel.getSymName()).str());
  if (!body)
    return kernel.emitError("kernel has no lowered body");
  Location loc = kernel.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  auto i64 = builder.getI64Type();
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()), {pointer, i64, i64});
  auto wrapper = LLVM::LLVMFuncOp::create(builder, loc, getKernelSymbol(kernel.getSymName()), type);
  OpBuilder::InsertionGuard guard(builder);
  Block *entry = wrapper.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);
  SmallVector<Value> arguments;
  unsigned memrefs = body.getNumArguments() - 2;
  for (unsigned i = 0; i < memrefs; ++i) {
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, entry->getArgument(0), ArrayRef<LLVM::GEPArg>{int32_t(i)});
    arguments.push_back(LLVM::LoadOp::create(builder, loc, pointer, slot));
  }
  arguments.push_back(entry->getArgument(1));
  arguments.push_back(entry->getArgument(2));
  LLVM::CallOp::create(builder, loc, body, arguments);
  LLVM::ReturnOp::create(builder, loc, ValueRange{});
  body.setLinkage(LLVM::Linkage::Internal);
  return success();
}

void buildLowering(OpPassManager &manager) {
  // bf16 is integer arithmetic from here on, so that its rounding is the same with and without avx512_bf16 (whose vcvtneps2bf16 flushes denormals).
  arith::ArithExpandOpsPassOptions expand;
  expand.includeBf16 = true;
  manager.addPass(arith::createArithExpandOpsPass(expand));
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createConvertVectorToSCFPass());
  manager.addPass(createSCFToControlFlowPass());
  manager.addPass(memref::createExpandStridedMetadataPass());
  manager.addPass(createConvertVectorToLLVMPass());
  manager.addPass(createConvertMathToLLVMPass());
  manager.addPass(createConvertMathToLibmPass());
  manager.addPass(createFinalizeMemRefToLLVMConversionPass());
  manager.addPass(createConvertIndexToLLVMPass());
  manager.addPass(createConvertControlFlowToLLVMPass());
  manager.addPass(createArithToLLVMConversionPass());
  ConvertFuncToLLVMPassOptions function;
  function.useBarePtrCallConv = true;
  manager.addPass(createConvertFuncToLLVMPass(function));
  manager.addPass(createUBToLLVMConversionPass());
  manager.addPass(createReconcileUnrealizedCastsPass());
}
} // namespace

OwningOpRef<ModuleOp> zopt::lowerKernels(ArrayRef<plan::KernelOp> kernels) {
  if (kernels.empty())
    return nullptr;
  plan::KernelOp first = kernels.front();
  MLIRContext *context = first->getContext();
  OwningOpRef<ModuleOp> module(ModuleOp::create(first->getLoc()));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  for (plan::KernelOp kernel : kernels)
    addBody(builder, kernel);
  PassManager manager(context, ModuleOp::getOperationName());
  manager.enableVerifier(false);
  buildLowering(manager);
  if (failed(manager.run(*module)))
    return nullptr;
  builder.setInsertionPointToEnd(module->getBody());
  for (plan::KernelOp kernel : kernels)
    if (failed(addWrapper(builder, *module, kernel)))
      return nullptr;
  return module;
}
