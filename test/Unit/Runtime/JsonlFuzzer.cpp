//===- JsonlFuzzer.cpp - libFuzzer's entry to the parser of records -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Built with -DZOPT_FUZZERS=ON. The lowest bit of the first byte says whether labels are wanted; the rest is a line.
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/JsonlRecord.h"
#include <cstdlib>

using namespace zopt::runtime;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const bool wantsLabels = data[0] & 1;
  static JsonlRecord record; // reused, as a run does
  std::string problem = record.parse({reinterpret_cast<const char *>(data + 1), size - 1}, wantsLabels);
  if (!problem.empty()) {
    if (problem.find('\n') != std::string::npos || problem.size() > 1000)
      std::abort();
    return 0;
  }
  // One of each a token.
  const size_t count = record.tokens().size();
  if (count == 0 || (record.labels().size() != count && (wantsLabels || !record.labels().empty())))
    std::abort();
  for (JsonlRecord::Key key : {JsonlRecord::AttentionMask, JsonlRecord::TokenTypeIds, JsonlRecord::PositionIds})
    if (const auto *values = record.find(key); values && values->size() != count)
      std::abort();
  return 0;
}
