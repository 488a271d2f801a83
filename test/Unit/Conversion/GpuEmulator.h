//===- GpuEmulator.h - runs GPU kernels on a CPU ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a kernel does is in its MLIR: ids, shuffles, barriers, workgroup memory and atomics. Here they are calls into this process, which runs a block's threads as fibers. What only the chip does
// (wide accesses, its own exponential) is not tested by this.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_CONVERSION_GPUEMULATOR_H
#define ZOPT_TEST_UNIT_CONVERSION_GPUEMULATOR_H

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include <vector>

namespace zopt::test {

/// How a kernel of the GPU is launched here.
struct EmulatedKernel {
  int64_t blockThreads = 0, blockIterations = 1;
  std::vector<size_t> workgroupBytes; // one an argument that follows the kernel's own
};

/// Makes every GPU kernel of `module` one for the CPU, which `launchEmulated` runs.
llvm::StringMap<EmulatedKernel> emulateKernels(mlir::ModuleOp module);

/// Runs outer iterations [begin, end), blocks one after another; `blocks` of them where a kernel takes any number. Threads run from the last to the first where `reversed`: what depends on their order differs then. Fails the test where a barrier is
/// not reached by all threads of a block, or a shuffle not by all of a warp.
void launchEmulated(void (*function)(char *const *, int64_t, int64_t), const EmulatedKernel &kernel, llvm::ArrayRef<char *> arguments, int64_t begin, int64_t end, bool reversed, int64_t blocks = 0);

} // namespace zopt::test

#endif // ZOPT_TEST_UNIT_CONVERSION_GPUEMULATOR_H
