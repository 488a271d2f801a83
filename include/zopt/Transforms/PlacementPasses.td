//===- PlacementPasses.td - ZeRO placement and collectives ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_PLACEMENTPASSES_TD
#define ZOPT_TRANSFORMS_PLACEMENTPASSES_TD

include "mlir/Pass/PassBase.td"

#endif // ZOPT_TRANSFORMS_PLACEMENTPASSES_TD
