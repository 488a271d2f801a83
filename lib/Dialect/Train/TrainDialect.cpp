//===- TrainDialect.cpp - registration of the train dialect --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/Train.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "zopt/Dialect/Train/TrainDialect.cpp.inc"
#include "zopt/Dialect/Train/TrainEnums.cpp.inc"
#include "zopt/Dialect/Train/TrainInterfaces.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "zopt/Dialect/Train/TrainAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "zopt/Dialect/Train/TrainOps.cpp.inc"

void zopt::train::TrainDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "zopt/Dialect/Train/TrainAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "zopt/Dialect/Train/TrainOps.cpp.inc"
      >();
}
