//===- ZeroDialect.td - placement and collectives ------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_ZERO_DIALECT_TD
#define ZOPT_DIALECT_ZERO_DIALECT_TD

include "mlir/IR/OpBase.td"

def Zero_Dialect : Dialect {
  let name = "zero";
  let cppNamespace = "::zopt::zero";
  let summary = "Placement of states over ranks, and the collectives that it implies";
  let description = [{
    At the **explicit** level (`train.level = "explicit"`) trained parameters, their gradients and their optimizer state live in *buckets* (`zero.bucket`). A bucket has one flat
    layout: a segment a parameter, at an offset that is a multiple of 128 elements, in the order in which the forward pass uses them. Specialization pads it to a multiple of 128
    elements a rank; rank r owns the r-th slice. Nothing here or below knows a ZeRO stage: a stage is a choice of placements.

    | placement of | replicated | sharded |
    |---|---|---|
    | parameters | every rank holds the bucket | a rank holds its slice; `zero.all_gather` before use, `zero.free` after the last |
    | gradients | the whole model's gradients stay until the update | a bucket's gradient is freed once it is reduced |
    | optimizer state | every rank updates everything | a rank updates its slice; `zero.publish` where parameters are replicated |

    Shapes are logical; no rank, world size or padding is written. `zero.world_size` and `zero.accum_steps` are folded by specialization.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

#endif // ZOPT_DIALECT_ZERO_DIALECT_TD
