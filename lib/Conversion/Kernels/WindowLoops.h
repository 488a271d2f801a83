//===- WindowLoops.h - loops over windows ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/Kernels. Window element k of output place o lies over input place i = o * stride + k * dilation - pad. A place outside its tensor is replaced by one inside, and comes with a condition.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_WINDOWLOOPS_H
#define ZOPT_LIB_CONVERSION_KERNELS_WINDOWLOOPS_H

#include "KernelBuilder.h"

namespace zopt::kernels {

struct Window {
  llvm::SmallVector<int64_t> input, output, size; // along the axes of space
  llvm::ArrayRef<int64_t> strides, dilations, pads;

  int64_t axes() const { return size.size(); }

  struct Place {
    llvm::SmallVector<mlir::Value> at;
    mlir::Value inside; // null: always
  };
  /// The input's places under window elements `k` of output places `o`.
  Place inputOf(KernelBuilder &kernel, mlir::ValueRange o, mlir::ValueRange k) const;
  /// Loops over the windows that may lie over input places `i`, in the order of the window elements `k` that do; carries `init`, of which `body` gives the next values from the output's places.
  llvm::SmallVector<mlir::Value> forCovering(KernelBuilder &kernel, mlir::ValueRange i, mlir::ValueRange init,
                                             llvm::function_ref<llvm::SmallVector<mlir::Value>(const Place &place, mlir::ValueRange k, mlir::ValueRange carried)> body) const;

  /// Nested loops over `sizes` that carry `init`; `body` gets the coordinates and gives the next values.
  static llvm::SmallVector<mlir::Value> forAll(KernelBuilder &kernel, llvm::ArrayRef<int64_t> sizes, mlir::ValueRange init,
                                               llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::ValueRange coordinates, mlir::ValueRange carried)> body);

private:
  static void require(KernelBuilder &kernel, mlir::Value &inside, mlir::Value condition);
};

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_WINDOWLOOPS_H
