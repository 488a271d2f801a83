//===- CheckpointIndexFuzzer.cpp - random bytes as a checkpoint's index ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Index.h"
#include <cstdlib>

using namespace zopt::runtime;

/// An index is refused as an error of the input, in one line, or reads back as it was written.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<CheckpointIndex> index = parseIndex("input", std::string(reinterpret_cast<const char *>(data), size));
  if (index.failed()) {
    if (index.getStatus().kind() != ErrorKind::Input)
      std::abort();
    return 0;
  }
  std::string text = toJson(*index);
  Result<CheckpointIndex> again = parseIndex("output", text);
  if (again.failed() || toJson(*again) != text)
    std::abort();
  return 0;
}
