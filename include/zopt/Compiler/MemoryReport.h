//===- MemoryReport.h - planned bytes ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_MEMORYREPORT_H
#define ZOPT_COMPILER_MEMORYREPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

namespace zopt {

/// Prints, for a final plan, the bytes of each arena and, at the planned peak, the bytes of each memory class on one rank.
void printMemoryReport(mlir::ModuleOp finalPlan, bool json, llvm::raw_ostream &stream);

} // namespace zopt

#endif // ZOPT_COMPILER_MEMORYREPORT_H
