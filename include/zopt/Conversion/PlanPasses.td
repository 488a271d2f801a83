//===- PlanPasses.td - from the explicit level to a final plan ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONVERSION_PLANPASSES_TD
#define ZOPT_CONVERSION_PLANPASSES_TD

include "mlir/Pass/PassBase.td"

#endif // ZOPT_CONVERSION_PLANPASSES_TD
