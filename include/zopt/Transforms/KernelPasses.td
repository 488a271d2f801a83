//===- KernelPasses.td - what prepares kernels ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_KERNELPASSES_TD
#define ZOPT_TRANSFORMS_KERNELPASSES_TD

include "mlir/Pass/PassBase.td"

def FuseElementwise : Pass<"zopt-fuse-elementwise", "mlir::func::FuncOp"> {
  let summary = "Group connected elementwise ops into train.fused";
  let description = [{
    Expects the explicit level, or what specialization makes of it, and leaves it. Elementwise ops that are connected by a value and have one iteration space become one `train.fused`, which becomes
    one kernel: values that only the group uses are not materialized. A group may have several results. Splat constants and `train.iota` are copied into every group that uses them; a cheap
    producer of a smaller shape (a cast bias, a comparison of positions) joins the only group that uses it and is computed again at each element.

    A group stands at one place: after everything that it reads and before everything that reads it. No other op moves, so a merge that leaves no such place is not made. Groups reach across
    neither `train.backward` (a residual stays a result, with its `zero.residual`) nor `zero.free`. Behind `train.backward` additions alone do not become one group where that would keep more in memory: a sum
    of many gradients is added up as they come.

    Then siblings: groups of one space that read a common value at every element, and of which none depends on the other, become one that reads it once. Not where that would lengthen lives: what a group
    writes earlier than it did must be no more than what it reads for the last time. Last, groups of one space of at most 4,096 elements, even where they have nothing in common: each kernel less is a launch less.

    Numerics: bitwise; ops inside `train.fused` round as they do outside.
  }];
  let options = [
    Option<"maxOps", "max-ops", "unsigned", "48", "Most ops in a group">,
    Option<"maxArguments", "max-arguments", "unsigned", "16", "Most operands and results of a group: each is a stream of memory traffic">,
  ];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def RecomputeElementwise : Pass<"zopt-recompute-elementwise", "mlir::func::FuncOp"> {
  let summary = "Compute elementwise residuals again where that moves fewer bytes than keeping them";
  let description = [{
    Expects the explicit level, before elementwise fusion; leaves it. An elementwise residual that only elementwise ops of its shape read behind `train.backward`, and that follows, element by element, from
    values that backward keeps anyway, is computed before each of its readers again and is no residual any more. The values that a reader must then load are no more bytes than the residual: so backward
    reads no more than before, forward writes less, and the plan keeps less. Never makes a residual of anything. Numerics: bitwise.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def FuseMatmulEpilogues : Pass<"zopt-fuse-matmul-epilogues", "mlir::func::FuncOp"> {
  let summary = "Fuse GELU, residuals and bias gradients with the products beside them";
  let description = [{
    Expects the explicit level, specialized for a target whose library has epilogues (CUDA), before elementwise fusion; leaves the same with `train.fused_matmul`:

    - `gelu(matmul)` (tanh form) becomes one op that also keeps its argument for backward;
    - `gelu_grad(x, matmul)` one that has x as an operand, where nothing else reads the product;
    - `x + matmul` (a residual, or the gradients of several readers), where nothing else reads the product, becomes one that is added to x before it is rounded; not
      where x comes later and the product would keep more until then than its result (the gradient of a tied table's logits), or a gathered weight;
    - with `bias-gradients` the sum of a cotangent over its rows becomes a result of the product that made the cotangent (after gelu_grad), or of the one that makes the weight's gradient from it.

    In 16-bit types only. Never changes what is computed in fp32 or f64. Numerics: changed by less than a rounding; GELU and its gradient see the product before it is rounded.
  }];
  let options = [Option<"biasGradients", "bias-gradients", "bool", "true", "Fuse bias gradients too">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def FuseNormResiduals : Pass<"zopt-fuse-norm-residuals", "mlir::func::FuncOp"> {
  let summary = "Add a residual's gradient inside the gradient of the norm beside it";
  let description = [{
    Expects the explicit level, specialized for a GPU, before elementwise fusion; leaves the same. The sum of a `train.layer_norm_grad` or `train.rms_norm_grad` that nothing else reads and of another value
    becomes the `addend` of the former. In 16-bit types only. Numerics: changed by less than a rounding; the norm's gradient is not rounded before the sum.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def FuseNormParameterGradients : Pass<"zopt-fuse-norm-parameter-gradients", "mlir::func::FuncOp"> {
  let summary = "Sum a norm's parameter gradients, and the bias gradient before it, in the kernel of its input gradient";
  let description = [{
    Expects the explicit level, specialized for a GPU, after zopt-fuse-norm-residuals; leaves the same. Beside a `train.layer_norm_grad` or `train.rms_norm_grad`, the parameter_grad op of the same operands and
    a `train.reduce_sum` of its result over all axes but the last become results of it: the rows that they sum are in registers there. The op stands where the earlier of the two stood, or the later, as
    operands and readers allow; where neither does, the ops stay apart, with the same bits. Numerics: bitwise for the parameters' gradients; the sum of the result is made in another order.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def MergeProducts : Pass<"zopt-merge-products", "mlir::func::FuncOp"> {
  let summary = "Make narrow products of one operand, and sums of narrow products, one product";
  let description = [{
    Expects the explicit level, specialized for a GPU, before zopt-fuse-matmul-epilogues; leaves the same. Where projections read the same value (query, key and value), backward has the sum of their input
    gradients, x1 w1 + x2 w2 + ..., and weight gradients x1^T y, x2^T y, ...: with x = concat(x1, x2, ...), which is written in place by what makes the parts, and w = concat(w1, w2, ...), they are
    x w and the slices of x^T y. A narrow product alone moves more bytes than it computes. Only where the sums that are no longer written and read are four times the bytes that are copied for w, which are none
    where the weights are neighbours in one bucket, as a gate and the projection beside it are.

    In 16-bit types only. Numerics: changed by less than a rounding; the products are added before they are rounded.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def FuseCrossEntropy : Pass<"zopt-fuse-cross-entropy", "mlir::func::FuncOp"> {
  let summary = "Make the loss and the gradient of logits over one reading of them";
  let description = [{
    Expects the explicit level, specialized for a GPU; leaves the same. A `train.cross_entropy` whose log-sum-exp only its `train.cross_entropy_grad` reads becomes, with that, a `train.cross_entropy_step`;
    what the gradient's factor is computed from moves before it. Not where the factor depends on the loss. Numerics: bitwise.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def ChannelsLast : Pass<"zopt-channels-last", "mlir::func::FuncOp"> {
  let summary = "Keep channels last between convolutions";
  let description = [{
    Expects the explicit level, specialized, before elementwise fusion; leaves the same. Libraries read and write convolutions with channels last, so between `train.conv`, its gradients and pooling, whose shapes stay
    [batch, channels, space...], ops work on [batch, space..., channels]: elementwise ops, reductions, slices, concatenations and broadcasts of a value a channel. Transposes stand between
    the two forms; those beside a convolution move nothing, a graph's own (of four or five axes) begin such a chain where it convolves at all, those at the ends of a chain are what is left of layout changes. Dead ops are left for canonicalization.

    With `split-bias`, for a target whose library has none, a convolution's bias becomes an addition behind it.

    Numerics: bitwise, but for the order of sums in reductions, which is that of the transposed tensor; and a convolution is rounded before a bias that is split off is added.
  }];
  let options = [Option<"splitBias", "split-bias", "bool", "false", "Make the bias of a convolution an addition">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def ArrangeStates : Pass<"zopt-arrange-states", "mlir::func::FuncOp"> {
  let summary = "Leave what happens to a state between one reading and one setting to elementwise fusion";
  let description = [{
    Expects the explicit level, specialized, before elementwise fusion; leaves the same. What a micro-step adds to a state becomes reading, adding and setting, so that a kernel takes the addition in; with one micro-step a step nothing is added:
    the state is set, and is 0 for what reads it before. A state that a function sets once, behind all that reads it, is read at the function's start and set at its end: then neither stands
    between what kernels may take together.

    Numerics: bitwise.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def PadChannels : Pass<"zopt-pad-channels", "mlir::func::FuncOp"> {
  let summary = "Fill channels of convolutions up to 16 bytes";
  let description = [{
    Expects the explicit level, specialized, before `zopt-channels-last`; leaves the same. In 16-bit types, a convolution without groups (or a gradient of one) whose input or output channels are not a multiple of eight gets
    zeros behind them, with channels last, and its result is cut: a library's fast algorithms read eight at once, and fill up in memory of their own otherwise, every time. Dead ops are left for canonicalization.

    Numerics: reassociated; the library may sum in another order.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def LowerBatchNorm : Pass<"zopt-lower-batch-norm", "mlir::func::FuncOp"> {
  let summary = "Write batch normalization as arithmetic on vectors of channels and on elements";
  let description = [{
    Expects the explicit level, specialized, behind `zopt-channels-last` and before elementwise fusion, with no common subexpressions looked for behind it; leaves no `train.batch_norm` and no `train.batch_norm_grad`. A result is x * scale + shift, and a
    gradient dy * scale + x * slope + offset, with vectors that are computed once; those of forward are kept for backward. Sums of a cotangent that a rectifier behind the normalization masks take the mask
    from x, and so does the gradient.

    Numerics: reassociated; the mask is bitwise that of the rectifier.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

#endif // ZOPT_TRANSFORMS_KERNELPASSES_TD
