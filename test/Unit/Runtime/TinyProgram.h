//===- TinyProgram.h - a Program written by hand ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One trained bucket with two parameters, `a` [130] and `b` [2, 5], under SGD with momentum. A micro-step of rank r with inputs x [2] has loss mean(x) * sum(w) / (world * accumulation) and so the
// gradient mean(x) / (world * accumulation) everywhere; enough to drive every command but Matmul at every placement.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_TINYPROGRAM_H
#define ZOPT_TEST_UNIT_RUNTIME_TINYPROGRAM_H

#include "zopt/Runtime/Core/KernelLibrary.h"
#include "zopt/Runtime/Core/Program.h"

/// `stage` 0 to 3 chooses the placement, as ZeRO's stages do.
zopt::runtime::Program makeTinyProgram(int world, int stage, int accumulation = 1);

/// The kernels that it launches, linked into the test.
std::shared_ptr<zopt::runtime::KernelLibrary> tinyKernels();

/// A program of either target, whose SGD goes along its direction by the ratio of the norms of parameter and direction, without momentum.
zopt::runtime::Program withTrustRatio(zopt::runtime::Program program);

/// The same for the target cuda, what its kernels do, and how many pointers each takes: for FakeCuda, which runs them.
zopt::runtime::Program makeTinyDeviceProgram(int world, int stage, int accumulation = 1);
std::shared_ptr<zopt::runtime::KernelLibrary> tinyDeviceKernels();
int tinyDevicePointers(int32_t kernel);

#endif // ZOPT_TEST_UNIT_RUNTIME_TINYPROGRAM_H
