//===- ZeroDialect.cpp - registration of the zero dialect ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Zero/Zero.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "zopt/Dialect/Zero/ZeroDialect.cpp.inc"
#include "zopt/Dialect/Zero/ZeroEnums.cpp.inc"
#include "zopt/Dialect/Zero/ZeroInterfaces.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Zero/ZeroAttributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "zopt/Dialect/Zero/ZeroTypes.cpp.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Zero/ZeroOps.cpp.inc"

void zopt::zero::ZeroDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "zopt/Dialect/Zero/ZeroAttributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "zopt/Dialect/Zero/ZeroTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "zopt/Dialect/Zero/ZeroOps.cpp.inc"
      >();
}
