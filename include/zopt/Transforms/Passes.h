//===- Passes.h - passes of this folder --------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_PASSES_H
#define ZOPT_TRANSFORMS_PASSES_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Pass/Pass.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"

namespace zopt {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "zopt/Transforms/Passes.h.inc"

} // namespace zopt

#endif // ZOPT_TRANSFORMS_PASSES_H
