//===- SafetensorsFuzzer.cpp - libFuzzer's entry to the header's parser ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Built with -DZOPT_FUZZERS=ON. The first byte says how many bytes of data follow the header, which is the rest.
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <cstdlib>

using namespace zopt::runtime;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  std::string text(reinterpret_cast<const char *>(data + 1), size - 1);
  const int64_t begin = 8 + int64_t(text.size()), end = begin + data[0];
  Result<SafetensorsHeader> header = parseSafetensorsHeader("input", text, end);
  if (header.failed()) {
    if (header.getStatus().kind() != ErrorKind::Input || header.getStatus().message().find('\n') != std::string::npos)
      std::abort();
    return 0;
  }
  // Tensors tile the data.
  int64_t position = begin;
  for (const SafetensorsTensor &tensor : header->tensors) {
    if (tensor.offset != position || tensor.bytes != elementCount(tensor.shape) * sizeOf(tensor.type))
      std::abort();
    position += tensor.bytes;
  }
  if (position != end)
    std::abort();
  return 0;
}
