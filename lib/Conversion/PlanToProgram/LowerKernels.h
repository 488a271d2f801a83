//===- LowerKernels.h - plan.kernel to the LLVM dialect ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace zopt {

/// A module of the LLVM dialect with one exported wrapper a kernel, named by getKernelSymbol. Null after errors.
mlir::OwningOpRef<mlir::ModuleOp> lowerKernels(llvm::ArrayRef<plan::KernelOp> kernels);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LOWERKERNELS_H
