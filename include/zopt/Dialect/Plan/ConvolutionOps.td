//===- ConvolutionOps.td - convolutions of the schedule ------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by PlanOps.td.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_PLAN_CONVOLUTIONOPS_TD
#define ZOPT_DIALECT_PLAN_CONVOLUTIONOPS_TD

def Plan_ConvolutionKind : I32EnumAttr<"ConvolutionKind", "which tensor of a convolution is computed from the other two", [
    I32EnumAttrCase<"forward", 0>, I32EnumAttrCase<"input_grad", 1>, I32EnumAttrCase<"weight_grad", 2>]> {
  let cppNamespace = "::zopt::plan";
}

def Plan_ConvolutionOp : Plan_Command<"convolution"> {
  let summary = "a convolution or one of its gradients, by the target's library";
  let description = [{
    `buffers` are input, weight, output and, where a forward one has it, bias; `tensors` are their layouts: [batch, channels, space...], [output channels, input channels of a group, window...], [batch,
    channels, space...], [output channels]. `forward` writes the output, `input_grad` the input (the output is the cotangent), `weight_grad` the weight. Strides, dilations, pads and groups are those of `train.conv`.
    Input and output lie channels last: channels have a unit stride, space and batch follow. Products accumulate in fp32. `scratch` is the library's workspace; on a CPU it also holds the weight in the order of elements that the
    library wants.
  }];
  let arguments = (ins Plan_ConvolutionKind:$kind, FlatSymbolRefArrayAttr:$buffers, TypedArrayAttrBase<Plan_MatmulOperandAttr, "layouts">:$tensors, DenseI64ArrayAttr:$byte_offsets, OptionalAttr<FlatSymbolRefAttr>:$scratch,
    DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$pads, I64Attr:$groups);
  let assemblyFormat = "$kind $buffers `strides` $strides `dilations` $dilations `pads` $pads `groups` $groups attr-dict";
  let hasVerifier = 1;
}

#endif // ZOPT_DIALECT_PLAN_CONVOLUTIONOPS_TD
