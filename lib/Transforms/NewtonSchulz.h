//===- NewtonSchulz.h - Muon's matrices --------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_NEWTONSCHULZ_H
#define ZOPT_LIB_TRANSFORMS_NEWTONSCHULZ_H

#include "zopt/Dialect/Train/TrainBuilders.h"

namespace zopt {

/// What Muon moves `parameter` by, for a learning rate of 1: `direction`, of the parameter's type with 2 or 4 axes
/// (these as a matrix of its first axis), brought near a matrix whose singular values are 1 by `iterations`
/// Newton-Schulz iterations in that type, times sqrt(max(1, rows / columns)) of the last two axes as the source model
/// has them.
mlir::Value orthogonalize(mlir::OpBuilder &builder, mlir::Location loc, train::StateOp parameter, mlir::Value direction,
                          int64_t iterations);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_NEWTONSCHULZ_H
