//===- ConvolutionOps.td - convolution and pooling -----------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by TrainOps.td. Tensors are [batch, channels, space...] with 1 to 3 axes of space. Window element k of output place o reads input place o * stride + k * dilation - pad,
// which contributes nothing outside the input.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_CONVOLUTIONOPS_TD
#define ZOPT_DIALECT_TRAIN_CONVOLUTIONOPS_TD

class Train_ConvolutionOp<string mnemonic, dag tensors, dag result, string format>
    : Train_Op<mnemonic, [Pure, DeclareOpInterfaceMethods<Train_CostOpInterface>, Differentiable]> {
  let arguments = !con(tensors, (ins DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$pads, DefaultValuedAttr<I64Attr, "1">:$groups));
  let results = result;
  let assemblyFormat = format;
  let hasVerifier = 1;
}

def Train_ConvOp : Train_ConvolutionOp<"conv", (ins Train_FloatTensor:$input, Train_FloatTensor:$weight, Optional<Train_FloatTensor>:$bias), (outs Train_FloatTensor:$result),
    "$input `,` $weight (`bias` $bias^ `:` type($bias))? `strides` $strides `dilations` $dilations `pads` $pads attr-dict `:` type($input) `,` type($weight) `->` type($result)"> {
  let summary = "convolution (cross-correlation) over 1 to 3 axes of space";
  let description = [{
    input [N, C, space...], weight [M, C/groups, window...], bias [M], result [N, M, space...]. `strides` and `dilations` have an entry an axis of space, `pads` two (all begins, then all ends; any may be
    negative). Group g reads the g-th part of C and gives the g-th part of M. Products accumulate in fp32 (f64 for f64), the bias is added to the unrounded sum, which is rounded once. The order of
    the sum is the target's library's, fixed for shapes and threads a rank.

    ```mlir
    %y = train.conv %x, %w bias %b : tensor<16xf32> strides [2, 2] dilations [1, 1] pads [1, 1, 1, 1] : tensor<8x3x32x32xf32>, tensor<16x3x3x3xf32> -> tensor<8x16x16x16xf32>
    ```

    Constraints:
    - (C1) input, weight and result have one rank of 3 to 5, and the attributes as many entries as that says; strides, dilations and groups are positive.
    - (C2) groups divides C and M, the weight is [M, C/groups, window...], the result [N, M, (space + pads - dilated window) / stride + 1, rounded down...].
    - (C3) input, weight and result have one element type (the gradient of a weight may be wider); bias is a vector [M].
  }];
}

def Train_ConvInputGradOp : Train_ConvolutionOp<"conv_input_grad", (ins Train_FloatTensor:$weight, Train_FloatTensor:$cotangent), (outs Train_FloatTensor:$result),
    "$weight `,` $cotangent `strides` $strides `dilations` $dilations `pads` $pads attr-dict `:` type($weight) `,` type($cotangent) `->` type($result)"> {
  let summary = "the cotangent of a convolution's input; a transposed convolution";
  let description = [{(C1) to (C3) of `conv`, of which the result is the input and the cotangent the result.}];
}

def Train_ConvWeightGradOp : Train_ConvolutionOp<"conv_weight_grad", (ins Train_FloatTensor:$input, Train_FloatTensor:$cotangent), (outs Train_FloatTensor:$result),
    "$input `,` $cotangent `strides` $strides `dilations` $dilations `pads` $pads attr-dict `:` type($input) `,` type($cotangent) `->` type($result)"> {
  let summary = "the cotangent of a convolution's weight";
  let description = [{(C1) to (C3) of `conv`, of which the result is the weight and the cotangent the result. The sum over batch and space is rounded once, to the result's own type.}];
}

class Train_PoolOp<string mnemonic, dag tensors, dag result, string format, dag more = (ins), list<Trait> traits = [Differentiable]> : Train_Op<mnemonic, [Pure] # traits> {
  let arguments = !con(tensors, (ins DenseI64ArrayAttr:$window, DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$pads), more);
  let results = result;
  let assemblyFormat = format;
  let hasVerifier = 1;
}

def Train_MaxPoolOp : Train_PoolOp<"max_pool", (ins Train_FloatTensor:$input), (outs Train_FloatTensor:$result, Train_IntTensor:$indices),
    "$input `window` $window `strides` $strides `dilations` $dilations `pads` $pads attr-dict `:` type($input) `->` type($result) `,` type($indices)"> {
  let summary = "maximum over windows, and which window element it is";
  let description = [{
    `indices` is the row-major place in the window of the first maximum, or of the last NaN, which is the maximum then: the element that the gradient goes to, as PyTorch takes it.
    (C1) `window`, `strides` and `dilations` have a positive entry an axis of space, `pads` two, of which each axis' are below the dilated window; (C2) batch and channels are the input's, and no window lies wholly outside the
    input; the last may reach beyond the pads (ceil_mode); (C3) result and input have one element type; indices are integers that hold the size of a window.
  }];
}

def Train_MaxPoolGradOp : Train_PoolOp<"max_pool_grad", (ins Train_IntTensor:$indices, Train_FloatTensor:$cotangent), (outs Train_FloatTensor:$result),
    "$indices `,` $cotangent `window` $window `strides` $strides `dilations` $dilations `pads` $pads attr-dict `:` type($indices) `,` type($cotangent) `->` type($result)", (ins), []> {
  let summary = "the cotangents of the windows whose maximum each input element is, summed in fp32 in order of the place in the window";
  let description = [{(C1) to (C3) of `max_pool`, of which the result is the input and the cotangent the result.}];
}

def Train_AveragePoolOp : Train_PoolOp<"average_pool", (ins Train_FloatTensor:$input), (outs Train_FloatTensor:$result),
    "$input `window` $window `strides` $strides `dilations` $dilations `pads` $pads `counted` $counted attr-dict `:` type($input) `->` type($result)", (ins DenseI64ArrayAttr:$counted)> {
  let summary = "mean over windows";
  let description = [{
    The sum, in fp32 in order of the place in the window, divided by the number of window elements that lie in the input or in the margin `counted` around it (laid out as `pads`; zeros: only
    the input counts; the pads: padding counts as zeros), and rounded once. (C1) to (C3) as of `max_pool`; `counted` has two entries an axis, each of at least 0.
  }];
}

def Train_AveragePoolGradOp : Train_PoolOp<"average_pool_grad", (ins Train_FloatTensor:$cotangent), (outs Train_FloatTensor:$result),
    "$cotangent `window` $window `strides` $strides `dilations` $dilations `pads` $pads `counted` $counted attr-dict `:` type($cotangent) `->` type($result)", (ins DenseI64ArrayAttr:$counted)> {
  let summary = "each window's cotangent divided by its count, summed in fp32 in order of the place in the window";
  let description = [{(C1) to (C3) of `average_pool`, of which the result is the input and the cotangent the result.}];
}

#endif // ZOPT_DIALECT_TRAIN_CONVOLUTIONOPS_TD
