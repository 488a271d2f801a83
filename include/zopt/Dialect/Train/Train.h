//===- Train.h - the train dialect -------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_TRAIN_H
#define ZOPT_DIALECT_TRAIN_TRAIN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace zopt::train {
/// An op whose result element depends only on the operand elements at the same (broadcast) position.
template <typename ConcreteType>
class Elementwise : public mlir::OpTrait::TraitBase<ConcreteType, Elementwise> {};
} // namespace zopt::train

#include "zopt/Dialect/Train/TrainDialect.h.inc"
#include "zopt/Dialect/Train/TrainEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Train/TrainAttributes.h.inc"
#include "zopt/Dialect/Train/TrainInterfaces.h.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Train/TrainOps.h.inc"

namespace zopt::train {

/// NumPy broadcast of shapes; failure where they do not agree.
mlir::FailureOr<llvm::SmallVector<int64_t>> broadcastShapes(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);

/// Fp32 for fp32, bf16 and fp16; f64 for f64: the type in which an op computes and sums.
mlir::FloatType getComputeType(mlir::Type elementType);

} // namespace zopt::train

#endif // ZOPT_DIALECT_TRAIN_TRAIN_H
