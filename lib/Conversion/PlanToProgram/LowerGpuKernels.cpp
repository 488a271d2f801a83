//===- LowerGpuKernels.cpp - from plan.kernel to the NVVM dialect ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

using namespace mlir;
using namespace zopt;

/// PTX's numbers of device and workgroup memory.
static constexpr unsigned kGlobalSpace = 1, kWorkgroupSpace = 3;

/// LLVM's name for all threads of a device.
static constexpr StringLiteral kDeviceScope = "device";

/// Bytes that variables of an entry may have in workgroup memory.
static constexpr int64_t kMostDeclared = 48 << 10;

static int64_t bytesOf(memref::AllocaOp alloca) {
  MemRefType type = alloca.getType();
  return llvm::alignTo(type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8), 16);
}

int64_t zopt::getDynamicSharedBytes(plan::KernelOp kernel) {
  int64_t bytes = 0;
  if (kernel.getBlockThreads())
    for (auto alloca : kernel.getBody().front().getOps<memref::AllocaOp>())
      bytes += bytesOf(alloca);
  return bytes > kMostDeclared ? bytes : 0;
}

/// What a block's threads share are variables of the module, or parts of the memory that a launch provides.
static LogicalResult importWorkgroupMemory(OpBuilder &builder, const LLVMTypeConverter &converter, plan::KernelOp kernel, Block *entry, IRMapping &map) {
  unsigned number = 0;
  const bool isProvided = getDynamicSharedBytes(kernel) > 0;
  int64_t offset = 0;
  Value provided;
  for (auto alloca : kernel.getBody().front().getOps<memref::AllocaOp>()) {
    MemRefType type = alloca.getType();
    if (type.getMemorySpaceAsInt() != kWorkgroupSpace || !type.hasStaticShape())
      return alloca.emitOpError("is not workgroup memory of static size");
    Location loc = alloca.getLoc();
    auto declare = [&](Type element, int64_t elements, LLVM::Linkage linkage) -> Value {
      std::string name = getKernelSymbol(kernel.getSymName()) + "_shared_" + std::to_string(number++);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPoint(entry->getParentOp());
      auto global = LLVM::GlobalOp::create(builder, loc, LLVM::LLVMArrayType::get(element, elements), /*isConstant=*/false, linkage, name, Attribute(), /*alignment=*/16, kWorkgroupSpace);
      builder.setInsertionPointToEnd(entry);
      return LLVM::AddressOfOp::create(builder, loc, global);
    };
    Value address;
    if (isProvided) {
      if (!provided)
        provided = declare(builder.getI8Type(), 0, LLVM::Linkage::External);
      address = LLVM::GEPOp::create(builder, loc, provided.getType(), builder.getI8Type(), provided, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(offset)});
      offset += bytesOf(alloca);
    } else {
      address = declare(converter.convertType(type.getElementType()), type.getNumElements(), LLVM::Linkage::Internal);
    }
    FailureOr<Value> descriptor = makeDescriptor(builder, loc, converter, type, address);
    if (failed(descriptor))
      return failure();
    map.map(alloca.getResult(), UnrealizedConversionCastOp::create(builder, loc, type, *descriptor).getResult(0));
  }
  return success();
}

static LogicalResult importKernel(OpBuilder &builder, const LLVMTypeConverter &converter, plan::KernelOp kernel) {
  Location loc = kernel.getLoc();
  if (!llvm::hasSingleElement(kernel.getBody()))
    return kernel.emitOpError("expects a body of one block with structured control flow");
  if (!kernel.getBlockThreads())
    return kernel.emitOpError("is for a CPU: it has no block_threads");
  MLIRContext *context = builder.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context), global = LLVM::LLVMPointerType::get(context, kGlobalSpace);
  Block &body = kernel.getBody().front();
  SmallVector<Type> types;
  for (BlockArgument argument : body.getArguments())
    types.push_back(isa<MemRefType>(argument.getType()) ? Type(global) : argument.getType().isIndex() ? builder.getI64Type() : argument.getType());
  OpBuilder::InsertionGuard guard(builder);
  auto function = LLVM::LLVMFuncOp::create(builder, loc, getKernelSymbol(kernel.getSymName()), LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), types));
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getReqntidAttrName(), builder.getDenseI32ArrayAttr({static_cast<int32_t>(*kernel.getBlockThreads())}));
  if (std::optional<int64_t> residents = kernel.getResidentBlocks())
    function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), builder.getI32IntegerAttr(static_cast<int32_t>(*residents)));
  Block *entry = function.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);

  IRMapping map;
  for (auto [argument, parameter] : llvm::zip(body.getArguments(), entry->getArguments())) {
    Value value = parameter;
    if (auto memref = dyn_cast<MemRefType>(argument.getType())) {
      FailureOr<Value> descriptor = makeDescriptor(builder, loc, converter, memref, LLVM::AddrSpaceCastOp::create(builder, loc, pointer, parameter));
      if (failed(descriptor))
        return kernel.emitOpError("has an argument whose layout is not strided: ") << memref;
      value = *descriptor;
    }
    if (value.getType() != argument.getType())
      value = UnrealizedConversionCastOp::create(builder, loc, argument.getType(), value).getResult(0);
    map.map(argument, value);
  }
  if (failed(importWorkgroupMemory(builder, converter, kernel, entry, map)))
    return failure();
  for (Operation &op : body) {
    if (isa<plan::ReturnOp>(op))
      LLVM::ReturnOp::create(builder, loc, ValueRange());
    else if (!isa<memref::AllocaOp>(op))
      builder.clone(op, map);
  }
  return success();
}

FailureOr<OwningOpRef<ModuleOp>> zopt::lowerGpuKernels(MLIRContext *context, ArrayRef<plan::KernelOp> kernels) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
  LowerToLLVMOptions options(context);
  LLVMTypeConverter converter(context, options);
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  for (plan::KernelOp kernel : kernels)
    if (failed(importKernel(builder, converter, kernel)))
      return failure();

  {
    RewritePatternSet patterns(context);
    populateGpuMathExpansionPatterns(patterns);
    walkAndApplyPatterns(*module, std::move(patterns));
  }
  {
    RewritePatternSet patterns(context);
    populateGpuInstructionPatterns(patterns);
    walkAndApplyPatterns(*module, std::move(patterns));
  }
  // The back end gives no order to an atomic itself.
  module->walk([&](memref::AtomicRMWOp atomic) {
    if (!atomic->hasAttr(plan::kOrdersMemoryAttr))
      return;
    OpBuilder fences(atomic);
    auto fence = [&] { LLVM::FenceOp::create(fences, atomic.getLoc(), LLVM::AtomicOrdering::acq_rel, kDeviceScope); };
    fence();
    fences.setInsertionPointAfter(atomic);
    fence();
  });
  if (failed(lowerStructuredControlFlow(*module)))
    return failure();
  RewritePatternSet patterns(context);
  populateKernelToLLVMPatterns(converter, patterns);
  // What is left of math are instructions; NVVM's own patterns would call a device library that is not there.
  populateMathToLLVMConversionPatterns(converter, patterns, /*approximateLog1p=*/false, /*benefit=*/10);
  populateGpuToNVVMConversionPatterns(converter, patterns);
  LLVMConversionTarget target(*context);
  target.addLegalDialect<NVVM::NVVMDialect>();
  target.addLegalOp<ModuleOp, UnrealizedConversionCastOp>();
  if (failed(applyFullConversion(*module, target, std::move(patterns))))
    return failure();
  SmallVector<UnrealizedConversionCastOp> casts;
  module->walk([&](UnrealizedConversionCastOp cast) { casts.push_back(cast); });
  reconcileUnrealizedCasts(casts);
  // Most are counters whose order does not matter, with barriers or launches before whoever reads them. Ordered ones would fence all memory each time; those that must have fences beside them.
  module->walk([&](LLVM::AtomicRMWOp atomic) {
    bool workgroup = cast<LLVM::LLVMPointerType>(atomic.getPtr().getType()).getAddressSpace() == kWorkgroupSpace;
    atomic.setOrdering(LLVM::AtomicOrdering::monotonic);
    atomic.setSyncscope(workgroup ? "block" : kDeviceScope);
  });
  return module;
}
