//===- TokensFuzzer.cpp - libFuzzer's entry to the reader of token files --===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Built with -DZOPT_FUZZERS=ON. Of the first byte: bits 0 and 1 choose the type of tokens, bit 2 a small vocabulary,
// bit 3 a file of bytes; the rest is the file.
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Data/Dataset.h"
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

using namespace zopt::runtime;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  static const int file = memfd_create("tokens", 0);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data + 1, size - 1, 0) != ssize_t(size - 1))
    std::abort();

  Program program;
  program.mode = "train";
  program.microBatch = 2;
  program.sequenceLength = 3;
  for (const char *name : {"input_ids", "labels"}) {
    Input input;
    input.name = name;
    input.kind = name[0] == 'l' ? InputKind::Label : InputKind::Input;
    input.type = DataType::I64;
    input.shape = {2, 3};
    input.limit = data[0] & 4 ? 300 : 70000;
    program.inputs.push_back(input);
  }
  DatasetOptions options;
  options.files = {"/proc/self/fd/" + std::to_string(file)};
  options.format = data[0] & 8 ? DataFormat::Bytes : DataFormat::Tokens;
  const TokenType types[] = {TokenType::Auto, TokenType::UInt16, TokenType::UInt32, TokenType::Auto};
  options.tokenType = types[data[0] & 3];
  options.shuffle = data[0] & 16;
  auto check = [](const Status &status) {
    if (status.failed() && (status.kind() != ErrorKind::Input || status.message().find('\n') != std::string::npos))
      std::abort();
    return status.succeeded();
  };
  Result<std::unique_ptr<Dataset>> dataset = Dataset::open(program, options);
  if (!check(dataset.getStatus()) || !check((*dataset)->checkFirstBatch()))
    return 0;
  int64_t ids[6], labels[6];
  void *const destinations[] = {ids, labels};
  for (int64_t step : {int64_t(0), (*dataset)->stepsPerEpoch()})
    if (check((*dataset)->fill(step, 0, 0, destinations)))
      for (int i = 0; i < 6; ++i)
        if (ids[i] < 0 || ids[i] >= program.inputs[0].limit || labels[i] < 0 || labels[i] >= program.inputs[0].limit ||
            (i % 3 < 2 && labels[i] != ids[i + 1]))
          std::abort();
  return 0;
}
