//===- ZeroOps.td - ops of zero ------------------------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_ZERO_OPS_TD
#define ZOPT_DIALECT_ZERO_OPS_TD

include "zopt/Dialect/Zero/ZeroAttributes.td"
include "zopt/Dialect/Zero/ZeroInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Zero_Op<string mnemonic, list<Trait> traits = []> : Op<Zero_Dialect, mnemonic, traits>;
def Zero_Tensor : StaticShapeTensorOf<[AnyFloat, AnyInteger]>;
def Zero_Scalar : StaticShapeTensorOf<[AnyFloat]>;
class Zero_CollectiveOp<string mnemonic, list<Trait> traits = []>
  : Zero_Op<mnemonic, [MemoryEffects<[MemRead, MemWrite]>, DeclareOpInterfaceMethods<Zero_CollectiveOpInterface>, DeclareOpInterfaceMethods<SymbolUserOpInterface>] # traits>;

def Zero_GroupOp : Zero_Op<"group", [Symbol]> {
  let summary = "ranks that communicate with one another";
  let description = [{`@data`: every rank of the job.}];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let assemblyFormat = "$sym_name attr-dict";
}

def Zero_BucketOp : Zero_Op<"bucket", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "parameters that are placed, gathered, reduced and updated together";
  let description = [{
    `compute_type` is the element type that forward and backward read (the gathered one), `gradient_type` the one in which gradients are produced and travel. Masters and optimizer
    slots have the states' own type (fp32; f64 under --fp64); where `compute_type` differs from it, a master exists beside the parameter and is placed like the optimizer state.
    A `frozen` bucket (every bucket in forward mode) has no `optimizer`, gradients or master. A trained one lacks the `optimizer` in gradient mode only.

    ```mlir
    zero.bucket @bucket0 on @data parameters sharded gradients sharded optimizer sharded compute bf16 gradient bf16 {optimizer = @adamw,
      segments = [#zero.segment<@"wte.weight", 0, 32768>, #zero.segment<@"wpe.weight", 32768, 16384>]}
    ```

    Constraints:
    - (C1) segments do not overlap, ascend, and start at multiples of 128; each names a parameter state with as many elements.
    - (C2) a parameter is in one bucket (zopt-verify-explicit).
    - (C4) states of one bucket have one element type; sharded parameters or gradients come with sharded optimizer state.
    - (C3) a frozen bucket has no `optimizer`; the others hold trained states, and what they name is a train.optimizer.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$group, Zero_Placement:$parameter_placement, Zero_Placement:$gradient_placement, Zero_Placement:$optimizer_placement,
    TypeAttr:$compute_type, TypeAttr:$gradient_type, OptionalAttr<FlatSymbolRefAttr>:$optimizer, Zero_SegmentArrayAttr:$segments, UnitAttr:$frozen);
  let assemblyFormat = "$sym_name `on` $group `parameters` $parameter_placement `gradients` $gradient_placement `optimizer` $optimizer_placement `compute` $compute_type `gradient` $gradient_type attr-dict";
  let extraClassDeclaration = [{
    /// Elements up to the end of the last segment, a multiple of 128, before padding to the world.
    int64_t getLogicalElements();
  }];
}

def Zero_WorldSizeOp : Zero_Op<"world_size", [Pure]> {
  let summary = "number of ranks, folded by specialization";
  let results = (outs Zero_Scalar:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}
def Zero_AccumStepsOp : Zero_Op<"accum_steps", [Pure]> {
  let summary = "number of micro-steps a step, folded by specialization";
  let results = (outs Zero_Scalar:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

def Zero_AllGatherOp : Zero_CollectiveOp<"all_gather"> {
  let summary = "gathers a bucket's parameters from the ranks' slices";
  let description = [{(C1) the bucket's parameters are sharded; (C2) the result is freed exactly once, after its last view's use.}];
  let arguments = (ins FlatSymbolRefAttr:$bucket);
  let results = (outs Zero_GatheredType:$gathered);
  let assemblyFormat = "$bucket attr-dict `:` type($gathered)";
}
def Zero_ViewOp : Zero_Op<"view", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a parameter inside a gathered bucket";
  let description = [{(C1) the parameter is a segment of the bucket; (C2) the result has its shape and the bucket's compute type.}];
  let arguments = (ins Zero_GatheredType:$gathered, FlatSymbolRefAttr:$parameter);
  let results = (outs Zero_Tensor:$result);
  let assemblyFormat = "$gathered $parameter attr-dict `:` type($result)";
}
def Zero_FreeOp : Zero_Op<"free", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "ends the life of a gathered bucket";
  let arguments = (ins Zero_GatheredType:$gathered);
  let assemblyFormat = "$gathered attr-dict";
}

def Zero_ReduceGradientsOp : Zero_CollectiveOp<"reduce_gradients"> {
  let summary = "sums a bucket's gradients over ranks, in rank order, in fp32";
  let description = [{
    Operands are the gradients of the bucket's segments, in segment order; specialization lets their producers write straight into the bucket's gradient buffer. What a rank keeps
    follows from placement: its slice (reduce-scatter) where the optimizer state is sharded or micro-steps accumulate, all of it (all-reduce) otherwise. The sum is rounded once to the
    gradient type, or, with accumulation, added in fp32 to the rank's slice of the accumulator.

    (C1) one operand a segment, of its shape and the bucket's gradient type.
  }];
  let arguments = (ins FlatSymbolRefAttr:$bucket, Variadic<Zero_Tensor>:$gradients);
  let assemblyFormat = "$bucket `(` $gradients `)` attr-dict `:` type($gradients)";
}

def Zero_AllReduceOp : Zero_CollectiveOp<"all_reduce"> {
  let summary = "sums scalars and short vectors over ranks, in rank order";
  let arguments = (ins FlatSymbolRefAttr:$group, Variadic<Zero_Scalar>:$inputs);
  let results = (outs Variadic<Zero_Scalar>:$results);
  let assemblyFormat = "$group `(` $inputs `)` attr-dict `:` type($inputs) `->` type($results)";
}

def Zero_GradientNormOp : Zero_CollectiveOp<"gradient_norm"> {
  let summary = "train.gradient_norm over the reduced buckets, combined over ranks";
  let description = [{Reads every trained bucket's reduced gradient once. Exact across slices (docs/Rationale/GradientNorm.md).}];
  let arguments = (ins FlatSymbolRefAttr:$group, FlatSymbolRefArrayAttr:$buckets);
  let results = (outs Zero_Scalar:$norm);
  let assemblyFormat = "$group $buckets attr-dict `:` type($norm)";
}

def Zero_DirectionOp : Zero_CollectiveOp<"direction"> {
  let summary = "the directions of a bucket's optimizer, of whole parameters";
  let description = [{
    Updates the slots (but an average) on the part of the bucket that this rank owns, and gathers the directions that the optimizer's body gives where that is a slice: each result is the direction of one
    segment, whole on every rank. Where `finite` is 0 the slots stay, and results are of no use.

    (C1) the bucket's optimizer makes Newton-Schulz iterations; (C2) one result a segment, of its state's type.
  }];
  let arguments = (ins FlatSymbolRefAttr:$bucket, Zero_Scalar:$scale, Zero_Scalar:$finite);
  let results = (outs Variadic<Zero_Tensor>:$directions);
  let assemblyFormat = "$bucket `scale` $scale `finite` $finite attr-dict `:` type($scale) `,` type($finite) `->` type($directions)";
}

def Zero_UpdateOp : Zero_Op<"update", [AttrSizedOperandSegments, AllTypesMatch<["scale", "lr", "step", "finite"]>, MemoryEffects<[MemRead, MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "train.update on the part of a bucket that this rank owns";
  let description = [{Works on the intersection of the rank's slice with the segments; each segment brings its own decay (`decays`, one a segment), and where there are `rates`, a factor of the learning rate. (C1) one decay, and one rate if any, a segment; (C2) the bucket has an optimizer; (C3) a `momentum` where the optimizer's cycles, and nowhere else; (C4) `directions`, one a segment and of its state's type, where the optimizer makes Newton-Schulz iterations, whose results they are.}];
  let arguments = (ins FlatSymbolRefAttr:$bucket, Zero_Scalar:$scale, Zero_Scalar:$lr, Zero_Scalar:$step, Zero_Scalar:$finite, Optional<Zero_Scalar>:$momentum, Variadic<Zero_Tensor>:$directions, DenseF64ArrayAttr:$decays, OptionalAttr<DenseF64ArrayAttr>:$rates);
  let assemblyFormat = "$bucket `scale` $scale `lr` $lr `step` $step `finite` $finite (`momentum` $momentum^ `:` type($momentum))? (`directions` `(` $directions^ `:` type($directions) `)`)? `decays` $decays (`rates` $rates^)? attr-dict `:` type($scale)";
}

def Zero_PublishOp : Zero_CollectiveOp<"publish"> {
  let summary = "all-gathers updated slices into replicated parameters";
  let description = [{(C1) parameters are replicated and the optimizer state sharded.}];
  let arguments = (ins FlatSymbolRefAttr:$bucket);
  let assemblyFormat = "$bucket attr-dict";
}

#endif // ZOPT_DIALECT_ZERO_OPS_TD
