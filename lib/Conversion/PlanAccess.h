//===- PlanAccess.h - which bytes a command reads and writes -----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The one place that knows what commands of the plan dialect do to memory: the packer takes lifetimes from it, the verifier checks by it.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANACCESS_H
#define ZOPT_LIB_CONVERSION_PLANACCESS_H

#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

namespace zopt {

/// An access that ends here goes to the end of the buffer.
constexpr int64_t kWholeBuffer = -1;

/// Bytes [begin, end) of a buffer.
struct PlanAccess {
  mlir::StringAttr buffer;
  int64_t begin = 0, end = 0;
  bool writes = false;
};

/// The symbols of a plan that commands refer to.
struct PlanSymbols {
  explicit PlanSymbols(mlir::ModuleOp module);

  int64_t worldSize = 1;
  llvm::DenseMap<mlir::StringAttr, plan::PlacedBucketOp> placedBuckets; // by the bucket's name
  llvm::DenseMap<mlir::StringAttr, plan::KernelOp> kernels;
};

/// Appends what `command` reads, then what it writes. What is read and written appears twice. A collective accesses from its start to its plan.wait. Unknown symbols are skipped. Updates and
/// norms access the part of a whole buffer that the rank owns; the whole of it is given (end is kWholeBuffer).
void collectAccesses(mlir::Operation *command, const PlanSymbols &symbols, llvm::SmallVectorImpl<PlanAccess> &accesses);

/// The id of a collective that a command starts.
std::optional<int64_t> getStartedCollective(mlir::Operation *command);

/// Bytes from the first element of a memref of static layout to its last, that included; -1 where shape or layout are not static.
int64_t getSpanBytes(mlir::MemRefType type);
/// The same of a matrix product's operand.
int64_t getSpanBytes(plan::MatmulOperandAttr operand);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANACCESS_H
