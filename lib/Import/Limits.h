//===- Limits.h - what is too large to be imported ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_LIMITS_H
#define ZOPT_LIB_IMPORT_LIMITS_H

#include "Importer.h"

namespace zopt::importer {

/// Whether counts, names and ranks are those of a model that can be imported; each one that is not is an error. Two inputs of one name are one too.
bool checkLimits(const onnx::ModelProto &model, Problems &problems);

/// Whether the sizes that are not 0 have a product of more than 2^48, which is larger than any memory.
bool isTooLarge(llvm::ArrayRef<int64_t> shape);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_LIMITS_H
