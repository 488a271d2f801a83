//===- PlanOps.td - ops of plan ------------------------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_PLAN_OPS_TD
#define ZOPT_DIALECT_PLAN_OPS_TD

include "zopt/Dialect/Plan/PlanAttributes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

//===----------------------------------------------------------------------===//
// Declarations
//===----------------------------------------------------------------------===//

def Plan_TargetOp : Plan_Op<"target"> {
  let summary = "what a final plan depends on";
  let description = [{
    `target` is `cpu` or `cuda`; `cpu` and `features` are the processor and its features (cuda: the chip, as `sm_90`, and the PTX version) that kernels and libraries were chosen for; `libraries`
    are their versions and, last, where products name algorithms, the library ("cublasLt 13.1.0") and the GPU that they were chosen for. zrun refuses a plan whose world, features or libraries are not the machine's, naming both.
  }];
  let arguments = (ins StrAttr:$target, I64Attr:$world_size, I64Attr:$threads, I64Attr:$micro_batch, I64Attr:$accum_steps, StrAttr:$triple, StrAttr:$cpu, StrAttr:$features, StrArrayAttr:$libraries);
  let assemblyFormat = "$target attr-dict";
  let hasVerifier = 1;
}

def Plan_ArenaOp : Plan_Op<"arena", [Symbol]> {
  let summary = "all memory of a tier";
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_Tier:$tier, I64Attr:$bytes);
  let assemblyFormat = "$sym_name $tier $bytes attr-dict";
}

def Plan_BufferOp : Plan_Op<"buffer", [Symbol]> {
  let summary = "bytes at an offset of an arena";
  let description = [{
    On rank r the buffer starts at offset + r * rank_stride. `persistent` ones live for the whole run; the others from their first writer to their last reader in a
    sequence. (C1) offset is a multiple of 64; (C2) the buffer lies inside its arena for every rank.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$arena, I64Attr:$offset, I64Attr:$bytes, Plan_MemoryClass:$memory_class, DefaultValuedAttr<I64Attr, "0">:$rank_stride, UnitAttr:$persistent);
  let assemblyFormat = "$sym_name `in` $arena `at` $offset `bytes` $bytes `for` $memory_class attr-dict";
  let hasVerifier = 1;
}

def Plan_KernelOp : Plan_Op<"kernel", [AutomaticAllocationScope, IsolatedFromAbove, FunctionOpInterface, Symbol]> {
  let summary = "a generated kernel";
  let description = [{
    The body is MLIR in the upstream dialects (scf, arith, math, vector, memref). The last two arguments are `index`: the half-open range of outer iterations to run; iterations are
    independent, so that any split over threads gives the same bits. The other arguments are memrefs of static layout; the outermost axis is dynamic in kernels that run over as many blocks as they are given
    (updates, sums of squares).

    A kernel with `block_threads` is for CUDA: blocks of so many threads, each of which runs `block_iterations` neighbouring iterations of the range. Its body may use the `gpu` dialect (ids, shuffles,
    barriers, workgroup memory), and arguments before the range may be float scalars, which are passed by value. With `resident_blocks`, its registers are limited so that a multiprocessor holds so many blocks.
    Blocks may count in a persistent buffer, by a `memref.atomic_rmw` with the attribute `plan.orders_memory`, which of them is the last: that one sees what all others have stored and goes on with it, and leaves the counter at 0, as it was
    before the first. Such a kernel's range is run once and whole, and which block is the last changes no bit.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type, OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs,
    OptionalAttr<I64Attr>:$block_threads, OptionalAttr<I64Attr>:$block_iterations, OptionalAttr<I64Attr>:$resident_blocks);
  let regions = (region AnyRegion:$body);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
  }];
  let hasVerifier = 1;
}

def Plan_ReturnOp : Plan_Op<"return", [Pure, Terminator, ReturnLike, HasParent<"KernelOp">]> {
  let summary = "ends a kernel";
  let assemblyFormat = "attr-dict";
}

def Plan_InputOp : Plan_Op<"input", [Symbol]> {
  let summary = "a tensor of the micro-batch that the data fills";
  let description = [{`limit`: values must lie in [-limit, limit) (indices) or, for labels, [0, limit) or equal `ignore_index`; 0: not checked. `tensor_name`: the name in the data, where it is not the symbol.}];
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_InputKind:$kind, FlatSymbolRefAttr:$buffer, TypeAttr:$type, DefaultValuedAttr<I64Attr, "0">:$limit, OptionalAttr<I64Attr>:$ignore_index, OptionalAttr<StrAttr>:$tensor_name);
  let assemblyFormat = "$sym_name $kind `from` $buffer `:` $type attr-dict";
}

def Plan_OutputOp : Plan_Op<"output", [Symbol]> {
  let summary = "a tensor that a forward plan gives back";
  let description = [{`tensor_name`: the graph's name, where it is not the symbol.}];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$buffer, TypeAttr:$type, OptionalAttr<StrAttr>:$tensor_name);
  let assemblyFormat = "$sym_name `from` $buffer `:` $type attr-dict";
}

def Plan_PlacedBucketOp : Plan_Op<"placed_bucket"> {
  let summary = "where a zero.bucket lives on a rank";
  let description = [{
    `padded` elements are a multiple of world * 128; `slice` = padded / world. `parameters` holds padded or slice elements of the compute type by the bucket's placement; `master` (where the
    compute type is not the state's) and `slots` hold padded or slice elements by the optimizer's placement; `gradient` is the reduced gradient that norm and update read: padded elements if
    `gradient_whole`, else the slice.
  }];
  let arguments = (ins FlatSymbolRefAttr:$bucket, I64Attr:$padded, I64Attr:$slice, FlatSymbolRefAttr:$parameters, OptionalAttr<FlatSymbolRefAttr>:$master, FlatSymbolRefArrayAttr:$slots,
    OptionalAttr<FlatSymbolRefAttr>:$gradient, OptionalAttr<TypeAttr>:$gradient_type, UnitAttr:$gradient_whole);
  let assemblyFormat = "$bucket `padded` $padded `slice` $slice `parameters` $parameters attr-dict";
  let hasVerifier = 1;
}

def Plan_PlacedStateOp : Plan_Op<"placed_state"> {
  let summary = "where a state that is in no bucket lives: scalars and buffers, replicated";
  let arguments = (ins FlatSymbolRefAttr:$state, FlatSymbolRefAttr:$buffer);
  let assemblyFormat = "$state `in` $buffer attr-dict";
}

//===----------------------------------------------------------------------===//
// Commands
//===----------------------------------------------------------------------===//

def Plan_SequenceOp : Plan_Op<"sequence", [Symbol, NoTerminator, NoRegionArguments, SingleBlock]> {
  let summary = "commands in order";
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $body attr-dict";
  let hasVerifier = 1;
}

class Plan_Command<string mnemonic> : Plan_Op<mnemonic, [HasParent<"SequenceOp">]>;

def Plan_LaunchOp : Plan_Command<"launch"> {
  let summary = "runs a kernel over `extent` outer iterations";
  let description = [{`buffers` are the kernel's memref arguments in order, `byte_offsets` (empty: zeros) where in each buffer it starts; `writes` indexes those that it writes. `grain`: least iterations worth a thread.}];
  let arguments = (ins FlatSymbolRefAttr:$kernel, FlatSymbolRefArrayAttr:$buffers, DenseI64ArrayAttr:$byte_offsets, DenseI64ArrayAttr:$writes, I64Attr:$extent, I64Attr:$grain);
  let assemblyFormat = "$kernel $buffers `offsets` $byte_offsets `writes` $writes `extent` $extent `grain` $grain attr-dict";
  let hasVerifier = 1;
}

def Plan_MatmulOp : Plan_Command<"matmul"> {
  let summary = "out = scale * lhs x rhs + bias, by the target's library";
  let description = [{
    Products accumulate in fp32. `scratch` is the library's workspace. Byte offsets are lhs, rhs, out, bias and, where one of them is there, aux, bias_gradient and addend.

    Where the target has them (CUDA): `epilogue = gelu` stores gelu(product + bias) and the sum itself in `aux`; `gelu_grad` stores product * gelu'(aux), both in the tanh form. `bias_gradient_kind`
    says what `bias_gradient` receives: `lhs_rows` the sums of lhs over k (one a row of out), `rhs_columns` those of rhs (one a column), `out_columns` those of out over its rows. `addend`, laid out as out, is added before out is
    rounded; it may be out itself.

    `algorithm` is an index among those that the library offers for the product, as `zrun --autotune` chose it; without it the library's first choice is taken.
  }];
  let arguments = (ins FlatSymbolRefAttr:$lhs, FlatSymbolRefAttr:$rhs, FlatSymbolRefAttr:$out, OptionalAttr<FlatSymbolRefAttr>:$bias, OptionalAttr<FlatSymbolRefAttr>:$scratch,
    OptionalAttr<FlatSymbolRefAttr>:$aux, OptionalAttr<FlatSymbolRefAttr>:$bias_gradient, OptionalAttr<FlatSymbolRefAttr>:$addend,
    Plan_MatmulOperandAttr:$lhs_operand, Plan_MatmulOperandAttr:$rhs_operand, Plan_MatmulOperandAttr:$out_operand, OptionalAttr<Plan_MatmulOperandAttr>:$bias_operand, OptionalAttr<Plan_MatmulOperandAttr>:$aux_operand, F64Attr:$scale, DenseI64ArrayAttr:$byte_offsets,
    DefaultValuedAttr<Plan_Epilogue, "::zopt::plan::Epilogue::none">:$epilogue, DefaultValuedAttr<Plan_BiasGradient, "::zopt::plan::BiasGradient::none">:$bias_gradient_kind, OptionalAttr<I64Attr>:$algorithm);
  let assemblyFormat = "$lhs `x` $rhs `->` $out attr-dict";
  let hasVerifier = 1;
}

def Plan_AttentionOp : Plan_Command<"attention"> {
  let summary = "softmax(scale * query key^T + mask) value, by the target's library";
  let description = [{
    `buffers` are query, key, value, output, lse and, where `has_mask`, mask; `tensors` are their layouts, [batch, heads, positions, width] (heads of key and value divide those of query; the mask is added
    and broadcasts; lse, the log-sum-exp of every row, is fp32 [batch, heads, queries, 1]). With `causal` a query sees the keys up to its place, counted from the end.
  }];
  let arguments = (ins FlatSymbolRefArrayAttr:$buffers, TypedArrayAttrBase<Plan_MatmulOperandAttr, "layouts">:$tensors, DenseI64ArrayAttr:$byte_offsets, OptionalAttr<FlatSymbolRefAttr>:$scratch, F64Attr:$scale,
    UnitAttr:$causal, UnitAttr:$has_mask);
  let assemblyFormat = "$buffers `scale` $scale attr-dict";
  let hasVerifier = 1;
}

def Plan_AttentionGradOp : Plan_Command<"attention_grad"> {
  let summary = "gradients of plan.attention, by the target's library";
  let description = [{
    `buffers` are query, key, value, output, lse, the output's cotangent, the gradients of query, key and value and, where `has_mask`, mask; everything else as in `plan.attention`.
  }];
  let arguments = (ins FlatSymbolRefArrayAttr:$buffers, TypedArrayAttrBase<Plan_MatmulOperandAttr, "layouts">:$tensors, DenseI64ArrayAttr:$byte_offsets, OptionalAttr<FlatSymbolRefAttr>:$scratch, F64Attr:$scale,
    UnitAttr:$causal, UnitAttr:$has_mask);
  let assemblyFormat = "$buffers `scale` $scale attr-dict";
  let hasVerifier = 1;
}

def Plan_CopyOp : Plan_Command<"copy"> {
  let summary = "copies bytes";
  let arguments = (ins FlatSymbolRefAttr:$source, I64Attr:$source_offset, FlatSymbolRefAttr:$destination, I64Attr:$destination_offset, I64Attr:$bytes);
  let assemblyFormat = "$source `at` $source_offset `to` $destination `at` $destination_offset `bytes` $bytes attr-dict";
  let hasVerifier = 1;
}

def Plan_ZeroOp : Plan_Command<"zero"> {
  let summary = "sets bytes to 0; with `first_micro_step` only in the first micro-step of a step";
  let arguments = (ins FlatSymbolRefAttr:$buffer, I64Attr:$offset, I64Attr:$bytes, UnitAttr:$first_micro_step);
  let assemblyFormat = "$buffer `at` $offset `bytes` $bytes attr-dict";
  let hasVerifier = 1;
}

def Plan_AllGatherOp : Plan_Command<"all_gather"> {
  let summary = "starts: every rank's `bytes_per_rank` bytes of `source`, in rank order, into `destination` (in place where source is a slice of it)";
  let arguments = (ins I64Attr:$id, FlatSymbolRefAttr:$source, FlatSymbolRefAttr:$destination, I64Attr:$bytes_per_rank, StrAttr:$label);
  let assemblyFormat = "$id $source `into` $destination `bytes_per_rank` $bytes_per_rank `label` $label attr-dict";
  let hasVerifier = 1;
}

def Plan_ReduceScatterOp : Plan_Command<"reduce_scatter"> {
  let summary = "starts: sums `source` [world * elements_per_rank] over ranks, in rank order, in fp32; rank r gets part r in `destination`";
  let description = [{`workspace` receives the ranks' parts. The sum is rounded once to `destination_type`; with `accumulate` it is added to the destination, except in the first micro-step, which sets it.}];
  let arguments = (ins I64Attr:$id, FlatSymbolRefAttr:$source, FlatSymbolRefAttr:$destination, FlatSymbolRefAttr:$workspace, I64Attr:$elements_per_rank, TypeAttr:$source_type, TypeAttr:$destination_type, UnitAttr:$accumulate, StrAttr:$label);
  let assemblyFormat = "$id $source `into` $destination `workspace` $workspace `elements_per_rank` $elements_per_rank $source_type `->` $destination_type `label` $label attr-dict";
  let hasVerifier = 1;
}

def Plan_AllReduceOp : Plan_Command<"all_reduce"> {
  let summary = "starts: sums `buffer` [world * elements_per_rank] over ranks in place: reduce-scatter, then all-gather";
  let arguments = (ins I64Attr:$id, FlatSymbolRefAttr:$buffer, FlatSymbolRefAttr:$workspace, I64Attr:$elements_per_rank, TypeAttr:$type, StrAttr:$label);
  let assemblyFormat = "$id $buffer `workspace` $workspace `elements_per_rank` $elements_per_rank $type `label` $label attr-dict";
  let hasVerifier = 1;
}

def Plan_AllReduceScalarsOp : Plan_Command<"all_reduce_scalars"> {
  let summary = "sums `count` elements over ranks, in rank order, in f64, rounded to the type; complete when it returns";
  let arguments = (ins FlatSymbolRefAttr:$source, FlatSymbolRefAttr:$destination, I64Attr:$count, TypeAttr:$type, StrAttr:$label);
  let assemblyFormat = "$source `into` $destination `count` $count $type `label` $label attr-dict";
}

def Plan_WaitOp : Plan_Command<"wait"> {
  let summary = "completes the collective started with this id";
  let arguments = (ins I64Attr:$id);
  let assemblyFormat = "$id attr-dict";
}

def Plan_GradientNormOp : Plan_Command<"gradient_norm"> {
  let summary = "global L2 norm of the placed buckets' reduced gradients";
  let description = [{
    Squares are summed in f64 over blocks of 128 elements and the blocks exactly, over ranks too where gradients are sliced. On a CPU `kernels[i]` (gradient, workspace) writes the blocks' sums of a bucket
    into `workspace`, and the runtime adds them. On CUDA `words`, persistent, holds two exact sums (sliced gradients, summed over ranks as integers; whole ones), which are 0 before and after. `kernels[i]` (first gradient, workspace, words) adds
    all of its kind of bucket at once: `workspace`, persistent, lists where each bucket's gradient begins, in elements behind the first, and the blocks that it is among those of all buckets (three i64 a
    bucket, which the runtime fills in). `finish` (words, norm) makes the norm of both and sets them to 0.
  }];
  let arguments = (ins FlatSymbolRefArrayAttr:$buckets, FlatSymbolRefArrayAttr:$kernels, FlatSymbolRefAttr:$workspace, FlatSymbolRefAttr:$norm, TypeAttr:$type,
    OptionalAttr<FlatSymbolRefAttr>:$words, OptionalAttr<FlatSymbolRefAttr>:$finish);
  let assemblyFormat = "$buckets `by` $kernels `workspace` $workspace `into` $norm $type attr-dict";
  let hasVerifier = 1;
}

def Plan_ParameterNormsOp : Plan_Command<"parameter_norms"> {
  let summary = "norms of each parameter of a bucket and of the direction in which its optimizer moves it";
  let description = [{
    For an optimizer with a trust ratio. `kernel` writes, for every block of 128 elements of the rank's part, the sum of the squares of the parameter's and of the direction's elements in f64 into the first and
    the second half of `workspace`; the blocks of a segment are summed exactly, over ranks too where the optimizer state is sharded, so a norm does not depend on slices. `norms` receives two numbers of
    the type of the masters a segment. Kernel arguments are those of plan.update, with the two halves behind the slots. On CUDA `words` holds four exact sums a segment, of which the second and fourth stay 0;
    `accumulate` (sums, words) adds a block's sums to them, `finish` is plan.gradient_norm's. A `momentum` is there where the optimizer's cycles: a scalar behind `finite`.
  }];
  let arguments = (ins FlatSymbolRefAttr:$bucket, FlatSymbolRefAttr:$kernel, FlatSymbolRefAttr:$workspace, FlatSymbolRefAttr:$norms, FlatSymbolRefAttr:$scale, FlatSymbolRefAttr:$lr, FlatSymbolRefAttr:$step, FlatSymbolRefAttr:$finite,
    OptionalAttr<FlatSymbolRefAttr>:$momentum, DenseF64ArrayAttr:$decays, OptionalAttr<DenseF64ArrayAttr>:$rates, OptionalAttr<FlatSymbolRefAttr>:$gradient, OptionalAttr<FlatSymbolRefAttr>:$words, OptionalAttr<FlatSymbolRefAttr>:$accumulate, OptionalAttr<FlatSymbolRefAttr>:$finish);
  let assemblyFormat = "$bucket `by` $kernel `workspace` $workspace `into` $norms `scale` $scale `lr` $lr `step` $step `finite` $finite (`momentum` $momentum^)? `decays` $decays (`rates` $rates^)? attr-dict";
  let hasVerifier = 1;
}

def Plan_UpdateOp : Plan_Command<"update"> {
  let summary = "runs an optimizer kernel on the part of a bucket that the rank owns";
  let description = [{
    One launch per run of segments with equal decay (and rate), clipped to the slice. Kernel arguments in order: gradient, parameters (of the compute type), master (if there is one), slots, then the
    scalars scale, lr, step, finite, decay and, where there are `rates`, the factor of lr (memref<1>; on CUDA decay and factor are passed by value); its outer iteration is a block of 128 elements. `gradient`, where given, holds all padded elements and is read instead of the placed
    bucket's: where every rank updates everything from accumulators that are slices, they are gathered first. Of an optimizer with a trust ratio, `norms` are those of plan.parameter_norms: each segment has a
    launch of its own, whose kernel takes its two norms (memref<1>) behind the slots. Of an optimizer with Newton-Schulz iterations, `gradient` holds the matrices that these gave, all padded elements in the
    type of the masters; the kernel changes no slot but an average. A `momentum` is there where the optimizer's cycles: a scalar behind `finite`.
  }];
  let arguments = (ins FlatSymbolRefAttr:$bucket, FlatSymbolRefAttr:$kernel, FlatSymbolRefAttr:$scale, FlatSymbolRefAttr:$lr, FlatSymbolRefAttr:$step, FlatSymbolRefAttr:$finite, OptionalAttr<FlatSymbolRefAttr>:$momentum, DenseF64ArrayAttr:$decays,
    OptionalAttr<DenseF64ArrayAttr>:$rates, OptionalAttr<FlatSymbolRefAttr>:$gradient, OptionalAttr<FlatSymbolRefAttr>:$norms);
  let assemblyFormat = "$bucket `by` $kernel `scale` $scale `lr` $lr `step` $step `finite` $finite (`momentum` $momentum^)? `decays` $decays (`rates` $rates^)? attr-dict";
}

include "zopt/Dialect/Plan/ConvolutionOps.td"

#endif // ZOPT_DIALECT_PLAN_OPS_TD
