//===- PlanDialect.cpp - registration of the plan dialect ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "zopt/Dialect/Plan/PlanDialect.cpp.inc"
#include "zopt/Dialect/Plan/PlanEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Plan/PlanAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Plan/PlanOps.cpp.inc"

void zopt::plan::PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "zopt/Dialect/Plan/PlanAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "zopt/Dialect/Plan/PlanOps.cpp.inc"
      >();
}
