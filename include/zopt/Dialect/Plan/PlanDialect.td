//===- PlanDialect.td - the schedule of one rank -------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_PLAN_DIALECT_TD
#define ZOPT_DIALECT_PLAN_DIALECT_TD

include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::zopt::plan";
  let summary = "What one rank executes: arenas, buffers at fixed offsets, and sequences of commands";
  let description = [{
    A module at the **final** level (`train.level = "final"`) holds

    - `plan.target`: the machine, world and libraries that it was made for; it is refused elsewhere.
    - `plan.arena`: the memory of a tier, in bytes. All memory of a step is in arenas.
    - `plan.buffer`: bytes at an offset of an arena. Buffers may share bytes if they are never live together. `rank_stride` moves a buffer by rank, so that every rank runs the same file.
    - `plan.kernel`: generated kernels, as MLIR; never machine code.
    - `plan.sequence`: commands in order. `@micro_step` runs `accum_steps` times a step, `@apply_step` once; `@forward` alone in forward plans.
    - the `train.state`, `train.weight_file`, `train.optimizer`, `zero.group` and `zero.bucket` symbols of the portable plan, placed by `plan.placed_bucket` and `plan.placed_state`.

    Commands name buffers by symbol. A collective is started with an `id` and completes at the `plan.wait` of that id; between the two its buffers belong to it. Every rank starts the same
    collectives in the same order.
  }];
  let useDefaultAttributePrinterParser = 1;
}

#endif // ZOPT_DIALECT_PLAN_DIALECT_TD
