//===- Module.h - PTX, loaded -----------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_MODULE_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_MODULE_H

#include "Driver.h"

namespace zopt::runtime::cuda {

/// Compiles PTX for the current context's device. The error holds the driver's log.
Status loadModule(const Driver &driver, const std::string &ptx, CUmodule &module);

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_MODULE_H
