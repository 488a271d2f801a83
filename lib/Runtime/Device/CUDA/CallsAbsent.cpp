//===- CallsAbsent.cpp - a build without CUDA's headers -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"

namespace zopt::runtime::cuda {

namespace {
Status refusal() { return runtimeError("this zrun was built without CUDA's headers, so it does not run on GPUs"); }
} // namespace

struct LibraryContext::Implementation {};

LibraryContext::LibraryContext() = default;
LibraryContext::~LibraryContext() = default;
Result<std::unique_ptr<LibraryContext>> LibraryContext::create() { return refusal(); }
void LibraryContext::preload() {}
Status LibraryContext::loadAttentionLibrary() { return refusal(); }
std::string LibraryContext::matmulLibrary() const { return ""; }
std::string LibraryContext::attentionLibrary() const { return ""; }

DeviceMatmul::~DeviceMatmul() = default;
DeviceAttention::~DeviceAttention() = default;
DeviceConvolution::~DeviceConvolution() = default;

Result<std::unique_ptr<DeviceMatmul>> createMatmul(LibraryContext &, const Command &, int64_t) { return refusal(); }
Result<MatmulChoice> chooseMatmul(LibraryContext &, const Command &, int64_t, CUstream, const std::vector<MatmulPlace> &, int) { return refusal(); }
Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &, const Command &, int64_t, const AttentionOptions &) { return refusal(); }
Result<std::unique_ptr<DeviceConvolution>> createConvolution(LibraryContext &, const Command &, int64_t) { return refusal(); }
void preparePlans(LibraryContext &, const std::vector<PlanOf> &, const std::function<void()> &) {}

} // namespace zopt::runtime::cuda
