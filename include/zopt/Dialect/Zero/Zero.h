//===- Zero.h - the zero dialect ---------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_ZERO_ZERO_H
#define ZOPT_DIALECT_ZERO_ZERO_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "zopt/Dialect/Zero/ZeroDialect.h.inc"
#include "zopt/Dialect/Zero/ZeroEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Zero/ZeroAttributes.h.inc"
#define GET_TYPEDEF_CLASSES
#include "zopt/Dialect/Zero/ZeroTypes.h.inc"
#include "zopt/Dialect/Zero/ZeroInterfaces.h.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Zero/ZeroOps.h.inc"

namespace zopt::zero {
/// Segments start, and slices end, at multiples of this many elements: the block over which gradient norms are summed.
constexpr int64_t kBlockElements = 128;
} // namespace zopt::zero

#endif // ZOPT_DIALECT_ZERO_ZERO_H
