//===- PlacementPasses.td - ZeRO placement and collectives ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_PLACEMENTPASSES_TD
#define ZOPT_TRANSFORMS_PLACEMENTPASSES_TD

include "mlir/Pass/PassBase.td"

def Recompute : Pass<"zopt-recompute", "mlir::ModuleOp"> {
  let summary = "Compute values again in backward instead of keeping them";
  let description = [{
    Expects the step level and keeps it. Backward reads clones of forward ops, marked `train.recomputed` and placed right before their first reader, instead of values that would have to be kept from
    forward. It stands in front of placement, so that what clones read of parameters is gathered as backward's other reads are.

    | policy | computed again | kept |
    |---|---|---|
    | none | nothing | all that backward reads |
    | selective | what moves bytes only: elementwise ops, norms, softmax, movement | the fewest bytes from which those give what backward reads: a minimum cut |
    | full | products and attention too, in segments | what crosses the ends of segments, and the last segment |

    Table lookups, statistics of rows (results at least 8 times smaller than an operand) and what depends on states and constants alone are never computed again. A remark says how many ops are, their
    flops, and the bytes kept before and after. Never changes @apply_step or what forward computes. Numerics: bitwise; but where a target
    takes GELU, sums and other products into one product of 16-bit types, which rounds less (zopt-fuse-matmul-epilogues, zopt-merge-products), a clone may leave it less to take.
  }];
  let options = [Option<"policy", "policy", "std::string", "\"none\"", "none, selective or full">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def AssignPlacement : Pass<"zopt-assign-placement", "mlir::ModuleOp"> {
  let summary = "Group parameters into buckets and decide where they, their gradients and their optimizer state live";
  let description = [{
    Expects the step level (or forward, in forward mode). Leaves `zero.group @data` and one `zero.bucket` a group of parameters; functions stay as they are. The only place that knows
    a ZeRO stage:

    | stage | parameters | gradients | optimizer state |
    |---|---|---|---|
    | 0 | replicated | replicated | replicated |
    | 1 | replicated | replicated | sharded |
    | 2 | replicated | sharded | sharded |
    | 3 | sharded | sharded | sharded |

    Parameters go into buckets in the order of their first use in the forward pass, up to `bucket-bytes` (in the type that is gathered); those that multiply one value (query, key and value, or a gate and the projection beside it) are not split where one bucket takes them. A bucket of its own has a parameter that is larger than
    that, and one whose uses in forward have more than that between them (a tied embedding). Parameters of at most `persist-bytes` keep replicated parameters at stage 3, in buckets of their
    own. Frozen parameters are in frozen buckets. A bucket has one compute type, one gradient type and one optimizer.

    Numerics: bitwise; a bucket is only an address.
  }];
  let options = [
    Option<"stage", "stage", "int64_t", "0", "ZeRO stage, 0 to 3">,
    Option<"bucketBytes", "bucket-bytes", "std::string", "\"auto\"", "Upper bound of a bucket in bytes; auto: 64 MiB, and an eighth of the parameters' bytes">,
    Option<"persistBytes", "persist-bytes", "int64_t", "0", "Parameters of up to this many bytes stay replicated at stage 3">,
  ];
  let dependentDialects = ["::zopt::zero::ZeroDialect"];
}

def MaterializeCollectives : Pass<"zopt-materialize-collectives", "mlir::ModuleOp"> {
  let summary = "Make every gather, free, reduction and publication an op";
  let description = [{
    Expects the step level with buckets; leaves the explicit level.

    - A sharded bucket is gathered right before a range of uses and freed right after it. A range goes on over a gap in which only one other bucket is used, so that never more than two
      buckets, neighbours in the order of uses, are gathered at a time (unless one op reads more). It ends at `train.backward`: backward gathers again, so that no gathered weight is a residual; what
      is computed from parameters alone is repeated there.
    - Gradients of a bucket are reduced right after the last of them is there.
    - In @apply_step scalars that micro-steps accumulate are summed over ranks; norm, update and publication work on buckets.

    Never changes what an op computes. Numerics: bitwise.
  }];
  let dependentDialects = ["::zopt::zero::ZeroDialect"];
}

def AssignResiduals : Pass<"zopt-assign-residuals", "mlir::ModuleOp"> {
  let summary = "Decide what becomes of each value between forward and backward";
  let description = [{
    Expects the explicit level. An op before `train.backward` with a result that is used after it gets `zero.residual = "keep"`; others lose the attribute. Numerics: bitwise.
  }];
}

def VerifyExplicit : Pass<"zopt-verify-explicit", "mlir::ModuleOp"> {
  let summary = "Check that a module is at the explicit level";
  let description = [{
    Changes nothing. Errors: an op or a level that does not belong; a parameter in no bucket or in two; a read of a sharded parameter; a view used after its bucket's free or across
    `train.backward`; a trained bucket that is not reduced once, or in train mode not updated (and published) once; a residual without a decision.
  }];
}

def Specialize : Pass<"zopt-specialize", "mlir::ModuleOp"> {
  let summary = "Fix the number of ranks and of micro-steps";
  let description = [{
    Expects the explicit level. Resolves global batch = micro-batch x accumulation x ranks, folds `zero.world_size` and `zero.accum_steps` to constants, and leaves `train.world_size`,
    `train.accum_steps` and `train.global_batch` on the module. A number of ranks that does not divide is refused, naming the nearest that do. Numerics: bitwise.
  }];
  let options = [Option<"worldSize", "world-size", "int64_t", "1", "Number of ranks">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

#endif // ZOPT_TRANSFORMS_PLACEMENTPASSES_TD
