//===- ConvolutionRules.cpp - convolutions that cuDNN takes ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/ConvolutionRules.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include <algorithm>

namespace zopt::runtime::cuda {

namespace {

/// What the library's fast gradients of weights take for partial sums at most; algorithms that want more are left out.
constexpr int64_t kWorkspace = int64_t(64) << 20;

enum { kInput, kWeight, kOutput };

} // namespace

Result<ConvolutionMapping> mapConvolution(const Command &command) {
  const Convolution &convolution = command.convolution;
  const size_t count = command.tensors.size();
  if (count != 3)
    return inputError("a convolution has ", count, " tensors, not an input, a weight and an output");
  const size_t rank = command.tensors[kInput].shape.size(), space = rank < 3 ? 0 : rank - 2;
  if (space < 1 || space > 3 || convolution.strides.size() != space || convolution.dilations.size() != space || convolution.pads.size() != 2 * space)
    return inputError("a convolution of ", shapeText(command.tensors[kInput].shape), " has ", convolution.strides.size(), " strides");
  const DataType type = command.tensors[kInput].type;
  if (type != DataType::BF16 && type != DataType::F16 && type != DataType::F32)
    return inputError("a convolution in ", nameOf(type), "; the library has bf16, f16 and f32");
  for (size_t i = 0; i < count; ++i) {
    const MatmulOperand &tensor = command.tensors[i];
    const bool mayBeWide = i == kWeight && convolution.kind == Convolution::Kind::WeightGrad;
    if (tensor.type != type && !(mayBeWide && tensor.type == DataType::F32))
      return inputError("a convolution of ", nameOf(type), " has a tensor of ", nameOf(tensor.type));
    if (tensor.shape.size() != rank || tensor.strides.size() != rank || !liesChannelsLast(tensor.shape, tensor.strides))
      return inputError("a convolution has a tensor ", shapeText(tensor.shape), " with strides ", shapeText(tensor.strides), ", not dense with channels last");
    if (std::any_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t size) { return size < 1; }))
      return inputError("a convolution has an empty tensor ", shapeText(tensor.shape));
    if (i < command.byteOffsets.size() && command.byteOffsets[i] % 16 != 0)
      return inputError("tensor ", i, " of a convolution starts at byte ", command.byteOffsets[i], ", which is not a multiple of 16");
  }
  if (std::any_of(convolution.pads.begin(), convolution.pads.end(), [](int64_t pad) { return pad < 0; }))
    return inputError("a convolution has pads ", shapeText(convolution.pads), "; the library takes none below 0");
  ConvolutionMapping mapping;
  mapping.tensors = command.tensors;
  mapping.strides = convolution.strides;
  mapping.dilations = convolution.dilations;
  mapping.begins.assign(convolution.pads.begin(), convolution.pads.begin() + int64_t(space));
  mapping.ends.assign(convolution.pads.begin() + int64_t(space), convolution.pads.end());
  if (space == 1) {
    for (size_t i = 0; i < 3; ++i) {
      MatmulOperand &tensor = mapping.tensors[i];
      tensor.strides.insert(tensor.strides.begin() + 2, tensor.strides[2] * tensor.shape[2]);
      tensor.shape.insert(tensor.shape.begin() + 2, 1);
    }
    for (std::vector<int64_t> *ones : {&mapping.strides, &mapping.dilations})
      ones->insert(ones->begin(), 1);
    for (std::vector<int64_t> *zeros : {&mapping.begins, &mapping.ends})
      zeros->insert(zeros->begin(), 0);
  }
  return mapping;
}

int64_t convolutionScratchBytes(const Command &command) { return mapConvolution(command).failed() ? -1 : kWorkspace + kWorkspaceAlignment; }

} // namespace zopt::runtime::cuda
