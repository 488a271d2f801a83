//===- NormRow.h - one row of a norm's kernel -----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to Norm.cpp and NormGrad.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_NORMROW_H
#define ZOPT_LIB_CONVERSION_KERNELS_NORMROW_H

#include "Families.h"

namespace zopt::kernels {

/// One row of a kernel: its views, and loads at a place in the row.
struct Row {
  KernelBuilder &kernel;
  mlir::Type type;
  llvm::SmallVector<View> views;
  llvm::SmallVector<mlir::Value> at;
  int64_t n;
  llvm::DenseMap<std::pair<unsigned, mlir::Value>, mlir::Value> known{}; // loaded before, by view and place

  mlir::Value load(unsigned view, mlir::Value i, Lanes lanes) {
    if (mlir::Value value = known.lookup({view, i}))
      return kernel.convert(value, type);
    at.back() = i;
    return kernel.loadCompute(views[view], at, lanes);
  }
  mlir::Value loadScalar(unsigned view) {
    at.back() = kernel.index(0);
    return kernel.convert(kernel.loadScalar(views[view], at), type);
  }
  void store(mlir::Value value, unsigned view, mlir::Value i, Lanes lanes) {
    at.back() = i;
    kernel.storeRounded(value, views[view], at, lanes);
  }
  void storeScalar(mlir::Value value, unsigned view) {
    at.back() = kernel.index(0);
    kernel.storeRoundedScalar(value, views[view], at);
  }
  llvm::SmallVector<mlir::Value> sums(unsigned count,
                                      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value, Lanes)> terms) {
    return kernel.reduceRow(n, llvm::SmallVector<KernelBuilder::Combine>(count, KernelBuilder::Combine::Sum), type,
                            terms);
  }
  mlir::Value mean(mlir::Value sum) { return kernel.divF(sum, kernel.scalar(n, type)); }
  /// 1 / sqrt(x + epsilon).
  mlir::Value rsqrt(mlir::Value x, double epsilon) {
    mlir::Value shifted = kernel.addF(x, kernel.scalar(epsilon, type));
    return kernel.divF(kernel.scalar(1, type), mlir::math::SqrtOp::create(kernel.builder, kernel.loc, shifted));
  }
};

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_NORMROW_H
