//===- TensorValues.h - what values of tensors hold ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Transforms.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_TENSORVALUES_H
#define ZOPT_LIB_TRANSFORMS_TENSORVALUES_H

#include "zopt/Dialect/Train/TrainBuilders.h"

namespace zopt {

/// What a tensor takes in memory, where an element takes whole bytes.
inline int64_t bytesOf(mlir::Value value) {
  mlir::RankedTensorType type = train::getTensorType(value);
  return type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8);
}

/// The value that holds the elements, in the same order, whatever their shape.
inline mlir::Value skipReshapes(mlir::Value value) {
  while (auto reshape = value.getDefiningOp<train::ReshapeOp>())
    value = reshape.getInput();
  return value;
}

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_TENSORVALUES_H
