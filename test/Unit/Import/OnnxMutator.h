//===- OnnxMutator.h - changes to models that leave them models -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_IMPORT_ONNXMUTATOR_H
#define ZOPT_TEST_UNIT_IMPORT_ONNXMUTATOR_H

#include <cstddef>
#include <cstdint>

namespace zopt {

/// Changes a few fields of the model in `data`: a number, a name that becomes another name of the model, a repeated field
/// that loses, doubles or swaps elements, a field that goes. Returns the new size; 0 where the bytes are no model or the
/// new one is larger than `capacity`, and `data` is then as it was. The same `seed` makes the same changes.
size_t mutateModel(uint8_t *data, size_t size, size_t capacity, unsigned seed);

} // namespace zopt

#endif // ZOPT_TEST_UNIT_IMPORT_ONNXMUTATOR_H
