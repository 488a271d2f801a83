//===- LowerKernels.cpp - from plan.kernel to the LLVM dialect -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

using namespace mlir;
using namespace zopt;

void zopt::registerLoweringDialects(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
  registry.insert<LLVM::LLVMDialect, NVVM::NVVMDialect, gpu::GPUDialect, cf::ControlFlowDialect, arith::ArithDialect, vector::VectorDialect, memref::MemRefDialect, scf::SCFDialect>();
}

void zopt::loadLoweringDialects(MLIRContext *context) {
  DialectRegistry registry;
  registerLoweringDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef name : registry.getDialectNames())
    context->getOrLoadDialect(name);
}

// A first size that is not static is never read: addresses need strides alone.
FailureOr<Value> zopt::makeDescriptor(OpBuilder &builder, Location loc, const LLVMTypeConverter &converter, MemRefType type, Value pointer) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset)))
    return failure();
  auto descriptor = MemRefDescriptor::poison(builder, loc, converter.convertType(type));
  descriptor.setAllocatedPtr(builder, loc, pointer);
  descriptor.setAlignedPtr(builder, loc, pointer);
  descriptor.setConstantOffset(builder, loc, offset);
  for (unsigned axis = 0; axis < strides.size(); ++axis) {
    descriptor.setConstantSize(builder, loc, axis, type.isDynamicDim(axis) ? 0 : type.getDimSize(axis));
    descriptor.setConstantStride(builder, loc, axis, strides[axis]);
  }
  return static_cast<Value>(descriptor);
}

/// The kernel as `void kernel(ptr arguments, i64 begin, i64 end)`, its body still in the upstream dialects.
static LogicalResult importKernel(OpBuilder &builder, const LLVMTypeConverter &converter, plan::KernelOp kernel) {
  Location loc = kernel.getLoc();
  if (!llvm::hasSingleElement(kernel.getBody()))
    return kernel.emitOpError("expects a body of one block with structured control flow");
  MLIRContext *context = builder.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  Type i64 = builder.getI64Type();
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), {pointer, i64, i64});
  OpBuilder::InsertionGuard guard(builder);
  auto function = LLVM::LLVMFuncOp::create(builder, loc, getKernelSymbol(kernel.getSymName()), type);
  function.setArgAttr(0, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
  function.setArgAttr(0, LLVM::LLVMDialect::getReadonlyAttrName(), builder.getUnitAttr());
  // 512-bit vectors are used where the processor has them, also where its tuning prefers narrower ones.
  function.setPassthroughAttr(builder.getArrayAttr({builder.getStrArrayAttr({"prefer-vector-width", "512"}), builder.getStrArrayAttr({"min-legal-vector-width", "512"}),
                                                    builder.getStringAttr("nounwind")}));
  Block *entry = function.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);

  IRMapping map;
  Block &body = kernel.getBody().front();
  ArrayRef<BlockArgument> arguments = body.getArguments();
  for (auto [index, argument] : llvm::enumerate(arguments.drop_back(2))) {
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, entry->getArgument(0), ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(index)});
    Value start = LLVM::LoadOp::create(builder, loc, pointer, slot);
    auto memref = cast<MemRefType>(argument.getType());
    FailureOr<Value> descriptor = makeDescriptor(builder, loc, converter, memref, start);
    if (failed(descriptor))
      return kernel.emitOpError("has an argument whose layout is not strided: ") << memref;
    map.map(argument, UnrealizedConversionCastOp::create(builder, loc, memref, *descriptor).getResult(0));
  }
  for (unsigned bound = 0; bound < 2; ++bound)
    map.map(arguments[arguments.size() - 2 + bound], UnrealizedConversionCastOp::create(builder, loc, builder.getIndexType(), entry->getArgument(1 + bound)).getResult(0));
  for (Operation &op : body) {
    if (isa<plan::ReturnOp>(op))
      LLVM::ReturnOp::create(builder, loc, ValueRange());
    else
      builder.clone(op, map);
  }
  return success();
}

LogicalResult zopt::lowerStructuredControlFlow(ModuleOp module) {
  MLIRContext *context = module.getContext();
  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  ConversionTarget target(*context);
  target.addIllegalDialect<scf::SCFDialect>();
  target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
  return applyPartialConversion(module, target, std::move(patterns));
}

void zopt::populateKernelToLLVMPatterns(const LLVMTypeConverter &converter, RewritePatternSet &patterns) {
  arith::populateArithToLLVMConversionPatterns(converter, patterns);
  index::populateIndexToLLVMConversionPatterns(converter, patterns);
  cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
  populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
  populateVectorToLLVMConversionPatterns(converter, patterns);
  ub::populateUBToLLVMConversionPatterns(converter, patterns);
}

FailureOr<OwningOpRef<ModuleOp>> zopt::lowerKernels(MLIRContext *context, ArrayRef<plan::KernelOp> kernels) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
  LowerToLLVMOptions options(context);
  LLVMTypeConverter converter(context, options);
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  for (plan::KernelOp kernel : kernels)
    if (failed(importKernel(builder, converter, kernel)))
      return failure();

  {
    RewritePatternSet patterns(context);
    populateMathExpansionPatterns(patterns);
    walkAndApplyPatterns(*module, std::move(patterns));
  }
  if (failed(lowerStructuredControlFlow(*module)))
    return failure();
  RewritePatternSet patterns(context);
  populateKernelToLLVMPatterns(converter, patterns);
  populateMathToLLVMConversionPatterns(converter, patterns);
  LLVMConversionTarget target(*context);
  target.addLegalOp<ModuleOp, UnrealizedConversionCastOp>();
  if (failed(applyFullConversion(*module, target, std::move(patterns))))
    return failure();
  // What remains of the casts around arguments folds away.
  SmallVector<UnrealizedConversionCastOp> casts;
  module->walk([&](UnrealizedConversionCastOp cast) { casts.push_back(cast); });
  reconcileUnrealizedCasts(casts);
  return module;
}
