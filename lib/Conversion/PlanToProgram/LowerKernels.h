//===- LowerKernels.h - from plan.kernel to LLVM IR ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/PlanToProgram.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/PatternMatch.h"
#include "llvm/ADT/ArrayRef.h"

namespace mlir {
class LLVMTypeConverter;
}

namespace zopt {

/// Expands transcendental functions of fp32 and conversions of bf16 into arithmetic, and sends the rest to the C library.
void populateMathExpansionPatterns(mlir::RewritePatternSet &patterns);

/// The fp32 part of it; `gpu`: by what an NVIDIA GPU has instructions for.
void populateF32ExpansionPatterns(mlir::RewritePatternSet &patterns, bool gpu);

/// Everything for a GPU, which has no C library: fp32 as above, f64 and powers as polynomials. Afterwards, what has instructions of its own: 2^x, and quotients of vectors to 2 ulp.
void populateGpuMathExpansionPatterns(mlir::RewritePatternSet &patterns);
void populateGpuInstructionPatterns(mlir::RewritePatternSet &patterns);

/// The dialects that lowering makes, and what translation needs.
void registerLoweringDialects(mlir::DialectRegistry &registry);

/// Registers and loads them. Before any `lowerKernels` in this context.
void loadLoweringDialects(mlir::MLIRContext *context);

/// Blocks and branches instead of scf, of which nothing is left.
mlir::LogicalResult lowerStructuredControlFlow(mlir::ModuleOp module);

/// What every target lowers to the LLVM dialect by. Math is the target's own.
void populateKernelToLLVMPatterns(const mlir::LLVMTypeConverter &converter, mlir::RewritePatternSet &patterns);

/// A module in the LLVM dialect with one function `void symbol(ptr arguments, i64 begin, i64 end)` for each kernel, named by getKernelSymbol. Thread-safe.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> lowerKernels(mlir::MLIRContext *context, llvm::ArrayRef<plan::KernelOp> kernels);

/// The descriptor of an argument that starts at `pointer`, as the LLVM dialect has it.
mlir::FailureOr<mlir::Value> makeDescriptor(mlir::OpBuilder &builder, mlir::Location loc, const mlir::LLVMTypeConverter &converter, mlir::MemRefType type, mlir::Value pointer);

/// A module in the LLVM and NVVM dialects with one entry for each kernel: a pointer a memref argument, floats by value, begin and end as i64. Thread-safe.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> lowerGpuKernels(mlir::MLIRContext *context, llvm::ArrayRef<plan::KernelOp> kernels);

/// Bytes of workgroup memory that a launch of the kernel provides: all of it where it is more than PTX lets an entry declare, else none.
int64_t getDynamicSharedBytes(plan::KernelOp kernel);

/// The PTX of some kernels, with its header. `error` is set where LLVM fails; MLIR reports by itself.
mlir::LogicalResult emitPtx(llvm::ArrayRef<plan::KernelOp> kernels, plan::TargetOp target, std::string &ptx, std::string &error);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
