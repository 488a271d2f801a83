//===- Plan.h - the plan dialect ---------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_PLAN_PLAN_H
#define ZOPT_DIALECT_PLAN_PLAN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "zopt/Dialect/Plan/PlanDialect.h.inc"
#include "zopt/Dialect/Plan/PlanEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Plan/PlanAttributes.h.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Plan/PlanOps.h.inc"

namespace zopt::plan {
/// Every buffer starts at a multiple of this many bytes.
constexpr int64_t kBufferAlignment = 64;
/// Marks an atomic of a kernel for GPUs: what its thread has seen or done is before it for whoever finds its result, on the whole device, and the other way round.
constexpr llvm::StringLiteral kOrdersMemoryAttr = "plan.orders_memory";
} // namespace zopt::plan

#endif // ZOPT_DIALECT_PLAN_PLAN_H
