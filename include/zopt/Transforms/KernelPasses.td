//===- KernelPasses.td - what prepares kernels ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_KERNELPASSES_TD
#define ZOPT_TRANSFORMS_KERNELPASSES_TD

include "mlir/Pass/PassBase.td"

#endif // ZOPT_TRANSFORMS_KERNELPASSES_TD
