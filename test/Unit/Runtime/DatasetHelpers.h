//===- DatasetHelpers.h - programs that data is opened for ------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_DATASETHELPERS_H
#define ZOPT_TEST_UNIT_RUNTIME_DATASETHELPERS_H

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/Dataset.h"
#include <gtest/gtest.h>

namespace zopt::runtime {

inline Input makeInputOf(const std::string &name, InputKind kind, DataType type, std::vector<int64_t> shape, int64_t limit = 0) {
  Input input;
  input.name = name;
  input.kind = kind;
  input.type = type;
  input.shape = std::move(shape);
  input.limit = limit;
  input.hasIgnoreIndex = kind == InputKind::Label && !isFloat(type);
  return input;
}

inline Program makeProgram(int64_t world, int64_t micro, int64_t accumulation, std::vector<Input> inputs) {
  Program program;
  program.model = "model.onnx";
  program.mode = "train";
  program.worldSize = world;
  program.microBatch = micro;
  program.accumSteps = accumulation;
  program.inputs = std::move(inputs);
  return program;
}

inline Program languageModel(int64_t world, int64_t micro, int64_t accumulation, int64_t sequence, int64_t vocabulary = 256) {
  return makeProgram(world, micro, accumulation,
                     {makeInputOf("input_ids", InputKind::Input, DataType::I64, {micro, sequence}, vocabulary),
                      makeInputOf("labels", InputKind::Label, DataType::I64, {micro, sequence}, vocabulary)});
}

using Values = std::vector<double>;

/// One micro-batch of every input, as doubles.
inline std::vector<Values> fillAll(const Dataset &dataset, const Program &program, int64_t step, int64_t microStep, int64_t rank, Status *status = nullptr) {
  std::vector<std::vector<char>> buffers;
  std::vector<void *> pointers;
  for (const Input &input : program.inputs)
    buffers.emplace_back(size_t(elementCount(input.shape) * sizeOf(input.type)), '\x7f');
  for (auto &buffer : buffers)
    pointers.push_back(buffer.data());
  Status filled = dataset.fill(step, microStep, rank, pointers.data());
  if (status)
    *status = filled;
  else
    EXPECT_TRUE(filled.succeeded()) << filled.message();
  std::vector<Values> result;
  for (size_t i = 0; i < buffers.size(); ++i) {
    result.emplace_back();
    for (int64_t k = 0; k < elementCount(program.inputs[i].shape); ++k)
      result.back().push_back(loadAsDouble(program.inputs[i].type, pointers[i], k));
  }
  return result;
}

inline std::unique_ptr<Dataset> openOrFail(const Program &program, const DatasetOptions &options) {
  Result<std::unique_ptr<Dataset>> dataset = Dataset::open(program, options);
  if (dataset.failed()) {
    ADD_FAILURE() << dataset.getStatus().message();
    return nullptr;
  }
  return std::move(*dataset);
}

inline std::string openError(const Program &program, const DatasetOptions &options) {
  Result<std::unique_ptr<Dataset>> dataset = Dataset::open(program, options);
  return dataset.failed() ? dataset.getStatus().message() : "opened";
}

inline DatasetOptions optionsOf(std::vector<std::string> files) {
  DatasetOptions options;
  options.files = std::move(files);
  return options;
}

} // namespace zopt::runtime

#endif // ZOPT_TEST_UNIT_RUNTIME_DATASETHELPERS_H
