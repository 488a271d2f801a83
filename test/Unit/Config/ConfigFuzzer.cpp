//===- ConfigFuzzer.cpp - libFuzzer's entry to the reader of configs ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Built with -DZOPT_FUZZERS=ON. Of the first byte: bit 0 asks for a job (YAML) in place of DeepSpeed's JSON, bit 1 for
// zrun's partial reading, bits 2 and 3 say how many ranks there are. The rest is the file.
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Job.h"
#include <cstdlib>

using namespace zopt::config;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const std::string path = data[0] & 1 ? "job.yaml" : "ds.json",
                    text(reinterpret_cast<const char *>(data + 1), size - 1);
  Request request;
  request.partial = data[0] & 2;
  request.ranks = data[0] >> 2 & 3;
  request.compiled = {{"zero-stage", "3"}, {"precision", "bf16"}, {"bucket-bytes", "auto"}, {"betas", "0.9,0.999"}};
  // A job may name a config: any of its text is one.
  const ReadFile read = [&](const std::string &name) { return name.size() % 2 ? std::optional(text) : std::nullopt; };
  for (std::optional<int64_t> hidden : {std::optional<int64_t>(), std::optional<int64_t>(768)}) {
    request.hiddenSize = hidden;
    const Resolved resolved = resolveFile(path, text, request, read);
    // One line a finding, whatever the file holds.
    const std::string lines = report(resolved, path, /*strict=*/false);
    size_t expected =
               resolved.refused.size() + resolved.warnings.size() + resolved.notes.size() + !resolved.noEffect.empty(),
           count = 0;
    for (char c : lines)
      count += c == '\n';
    if (count != expected)
      std::abort();
    for (const Setting &setting : resolved.settings)
      if (setting.flag.empty())
        std::abort();
    toJson(resolved, path).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (request.partial)
      settleRun(resolved, request.compiled, 2, 3, 4);
  }
  return 0;
}
