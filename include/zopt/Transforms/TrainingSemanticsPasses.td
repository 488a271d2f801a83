//===- TrainingSemanticsPasses.td - dropout, batch-norm -------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What training does beside gradients: random numbers and running averages. All of these stand between zopt-set-batch and zopt-add-loss.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_TRAININGSEMANTICSPASSES_TD
#define ZOPT_TRANSFORMS_TRAININGSEMANTICSPASSES_TD

include "mlir/Pass/PassBase.td"

def AddRandomStatePass : Pass<"zopt-add-random-state", "::mlir::ModuleOp"> {
  let summary = "gives dropouts and uniforms their place in the batch, and keys and counters as states";
  let description = [{
    Expects a forward graph. Finds the axis of the samples in the input of every `train.dropout` and `train.uniform`, through movement, elementwise ops, rows, products and gathers, and writes it down as the
    op's layout; one whose samples cannot be told apart is an error that names it. Then adds the states that random numbers depend on:

    | state | set by |
    |---|---|
    | `@zopt.seed` | the runtime, before the first step |
    | `@zopt.random_step` | the runtime, before every step: steps of the run so far, skipped ones too |
    | `@zopt.first_sample` | the runtime, before every micro-step: the position of the micro-batch's first sample in the global batch |

    Never touches anything else. Numerics: defines the masks and numbers.
  }];
}

def AddRunningAveragesPass : Pass<"zopt-add-running-averages", "::mlir::ModuleOp"> {
  let summary = "writes train.running_average as states and additions";
  let description = [{
    Expects a forward graph with `train.mode`. In the mode train, each average's movement over a step's micro-steps adds up in `<state>.movement`, a state of role gradient; `zopt-add-optimizer`
    adds its mean over ranks to the average where a step is applied. In other modes averages stay as they are, and the ops go. Never touches anything else. Numerics: defines the averages.
  }];
}

def SynchronizeBatchNormPass : Pass<"zopt-synchronize-batch-norm", "::mlir::ModuleOp"> {
  let summary = "batch normalization by statistics of all ranks";
  let description = [{
    Expects a forward graph. Statistics of every `train.batch_norm` in training become those of all ranks' micro-batches, and so do the sums of its derivative: one exchange of two vectors forward, one
    backward. Without this pass every rank normalizes by its own micro-batch. Numerics: changed.
  }];
}

#endif // ZOPT_TRANSFORMS_TRAININGSEMANTICSPASSES_TD
