//===- Passes.td - all passes of this folder ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONVERSION_PASSES_TD
#define ZOPT_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"
include "zopt/Conversion/PlanPasses.td"

#endif // ZOPT_CONVERSION_PASSES_TD
