//===- ConvolutionRules.h - convolutions that cuDNN takes -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which convolutions run on CUDA without copying a tensor, and in how much workspace. Needs neither a GPU nor NVIDIA's headers.
//
// Supported
//   types      input, weight and output all bf16, all f16 or all f32 (never through TF32); products accumulate in fp32. A weight gradient may be f32 beside narrower tensors.
//   layouts    all three dense with channels last ([batch, space..., channels]; a weight is [output channels, window..., input channels of a group]), addresses multiples of 16 bytes.
//   sizes      two or three axes of space (a single one is taken for two, of which the first is 1); groups, strides and dilations any; pads not negative.
//   no bias, which zopt-channels-last makes an addition
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_CONVOLUTIONRULES_H
#define ZOPT_RUNTIME_DEVICE_CUDA_CONVOLUTIONRULES_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <vector>

namespace zopt::runtime::cuda {

/// A command in the library's terms: at least two axes of space, pads of both sides.
struct ConvolutionMapping {
  std::vector<MatmulOperand> tensors; // input, weight, output
  std::vector<int64_t> strides, dilations, begins, ends;
};

/// An input error says which rule the command breaks.
Result<ConvolutionMapping> mapConvolution(const Command &command);

/// Workspace to plan, within which an algorithm is chosen; -1 where mapConvolution() fails. Includes what aligning it may cost.
int64_t convolutionScratchBytes(const Command &command);

} // namespace zopt::runtime::cuda

#endif // ZOPT_RUNTIME_DEVICE_CUDA_CONVOLUTIONRULES_H
