//===- LibraryStandIns.cpp - where the libraries' calls are not built -----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"

#define ZOPT_STAND_IN __attribute__((weak))

namespace zopt::runtime::cuda {

ZOPT_STAND_IN LibraryContext::~LibraryContext() = default;
ZOPT_STAND_IN DeviceMatmul::~DeviceMatmul() = default;
ZOPT_STAND_IN DeviceAttention::~DeviceAttention() = default;

ZOPT_STAND_IN Result<std::unique_ptr<LibraryContext>> LibraryContext::create() { return inputError("this build has no matrix products and no attention on CUDA"); }
ZOPT_STAND_IN Result<std::unique_ptr<DeviceMatmul>> createMatmul(LibraryContext &, const Command &, int64_t) { return inputError("this build has no matrix products on CUDA"); }
ZOPT_STAND_IN Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &, const Command &, int64_t) { return inputError("this build has no attention on CUDA"); }

} // namespace zopt::runtime::cuda
