//===- Passes.td - all passes of this folder ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_PASSES_TD
#define ZOPT_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"
include "zopt/Transforms/RaisingPasses.td"
include "zopt/Transforms/TrainingPasses.td"
include "zopt/Transforms/TrainingSemanticsPasses.td"
include "zopt/Transforms/PlacementPasses.td"
include "zopt/Transforms/KernelPasses.td"

#endif // ZOPT_TRANSFORMS_PASSES_TD
