//===- AttentionAbsent.cpp - a build without cuDNN's headers --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"

namespace zopt::runtime::cuda {

Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &, const Command &, int64_t, const AttentionOptions &) {
  return runtimeError("this zrun was built without the headers of cuDNN and cudnn-frontend, so it has no attention on CUDA");
}

Result<std::unique_ptr<DeviceConvolution>> createConvolution(LibraryContext &, const Command &, int64_t) {
  return runtimeError("this zrun was built without the headers of cuDNN and cudnn-frontend, so it has no convolutions on CUDA");
}

std::string attentionPlanKey(const Command &, const AttentionOptions &) { return ""; }
std::string convolutionPlanKey(const Command &, int64_t) { return ""; }

} // namespace zopt::runtime::cuda
