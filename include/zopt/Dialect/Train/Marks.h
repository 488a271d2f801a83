//===- Marks.h - attributes that passes leave for one another ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_MARKS_H
#define ZOPT_DIALECT_TRAIN_MARKS_H

#include "llvm/ADT/StringRef.h"

namespace zopt::train {

/// A unit attribute of ops that zopt-mixed-precision leaves in fp32, as PyTorch's autocast does: coordinates, which a
/// half rounds to parts of an element.
constexpr llvm::StringLiteral kFullPrecision = "train.full_precision";

} // namespace zopt::train

#endif // ZOPT_DIALECT_TRAIN_MARKS_H
