//===- PackArena.h - offsets for buffers with lifetimes ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_PACKARENA_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_PACKARENA_H

#include "llvm/ADT/ArrayRef.h"
#include <cstdint>

namespace zopt {

/// `bytes` that are needed from time `first` to time `last`, both included.
struct PackedItem {
  int64_t bytes = 0;
  int64_t first = 0, last = 0;
  int64_t offset = -1; // result
};

/// Gives every item an offset of at least `base`, a multiple of `alignment`, so that items that are live together do not overlap. Returns the highest end.
int64_t packArena(llvm::MutableArrayRef<PackedItem> items, int64_t base, int64_t alignment);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_PACKARENA_H
