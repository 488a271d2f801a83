//===- Dataset.cpp - what a run is fed with -------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/Dataset.h"
#include "DatasetKinds.h"
#include "StoredDataset.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>

namespace zopt::runtime {

/// Whether rows can be left out of the loss.
static bool canIgnoreRows(const Program &program) {
  bool any = false;
  for (const Input &input : program.inputs)
    if (input.kind == InputKind::Label) {
      if (!input.hasIgnoreIndex)
        return false;
      any = true;
    }
  return any;
}

Dataset::Dataset(const Program &program, const DatasetOptions &options)
    : inputs(program.inputs), world(program.worldSize), micro(program.microBatch),
      accumulation(options.evaluation ? 1 : program.accumSteps), batch(world * micro * accumulation),
      keepsRemainder(options.evaluation ? canIgnoreRows(program) : program.mode == "forward") {}

Result<std::unique_ptr<Dataset>> Dataset::open(const Program &program, const DatasetOptions &options) {
  for (const Input &input : program.inputs)
    if (!isMadeInput(input) && (input.shape.empty() || input.shape[0] != program.microBatch))
      return inputError(program.model, ": input ", input.name, " of shape ", shapeText(input.shape),
                        " does not begin with the micro-batch of ", program.microBatch, ", so samples cannot be put into it");
  if (options.files.empty() && options.jsonl.given)
    return usageError("--bad-records, --long-rows, --pad-token and --pack apply to jsonl, but there is no --data");
  if (options.files.empty())
    return openSyntheticDataset(program, options);
  Result<DataFormat> format = formatOfFiles(options);
  if (format.failed())
    return format.getStatus();
  if (options.jsonl.given && *format != DataFormat::Jsonl)
    return usageError("--bad-records, --long-rows, --pad-token and --pack apply to jsonl, but ", options.files.front(), " is none");
  return *format == DataFormat::Jsonl ? openJsonlDataset(program, options) : openFileDataset(program, options);
}

int64_t Dataset::stepsPerEpoch() const {
  return keepsRemainder ? (sampleCount + batch - 1) / batch : sampleCount / batch;
}

int64_t Dataset::totalSteps(int64_t steps, int64_t epochs) const {
  int64_t perEpoch = stepsPerEpoch();
  if (perEpoch == 0)
    return steps ? steps : 100;
  int64_t ofEpochs;
  if (__builtin_mul_overflow(perEpoch, epochs ? epochs : 1, &ofEpochs))
    ofEpochs = INT64_MAX;
  if (steps && epochs)
    return std::min(steps, ofEpochs);
  return steps ? steps : ofEpochs;
}

Dataset::Place Dataset::placeOf(int64_t step, int64_t microStep, int64_t rank, int64_t row) const {
  int64_t inStep = (microStep * world + rank) * micro + row;
  int64_t perEpoch = stepsPerEpoch();
  if (perEpoch == 0)
    return {0, step * batch + inStep};
  return {step / perEpoch, step % perEpoch * batch + inStep};
}

int64_t Dataset::rowsIn(int64_t step, int64_t microStep, int64_t rank) const {
  if (sampleCount == 0)
    return micro;
  return std::clamp<int64_t>(sampleCount - placeOf(step, microStep, rank, 0).position, 0, micro);
}

Status Dataset::fill(int64_t step, int64_t microStep, int64_t rank, void *const *destinations) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    ZOPT_RETURN_IF_FAILED(fillInput(i, step, microStep, rank, destinations[i]));
  return success();
}

void Dataset::ignoreRows(int64_t from, void *const *destinations) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Input &input = inputs[i];
    if (input.kind != InputKind::Label || !input.hasIgnoreIndex)
      continue;
    const int64_t elements = elementCount(input.shape);
    for (int64_t k = elements / micro * from; k < elements; ++k)
      storeInteger(input.type, destinations[i], k, input.ignoreIndex);
  }
}

Status Dataset::fillInput(size_t, int64_t, int64_t, int64_t, void *) const { return success(); }

Status Dataset::checkFirstBatch() const { return success(); }

bool isMadeInput(const Input &input) {
  if (input.kind != InputKind::Input)
    return false;
  if (input.name == "position_ids")
    return !isFloat(input.type) && (input.shape.size() == 1 || input.shape.size() == 2);
  return (input.name == "attention_mask" || input.name == "token_type_ids") && input.shape.size() == 2;
}

Status checkMadeInput(const std::string &model, const Input &input) {
  int64_t largest = input.name == "position_ids" ? input.shape.back() - 1 : input.name == "attention_mask" ? 1 : 0;
  if (input.limit > 0 && largest >= input.limit)
    return inputError(model, ": input ", input.name, " is not in the data, and values up to ", largest,
                      " would have to be made, which are not below its limit of ", input.limit);
  return success();
}

void makeInput(const Input &input, void *destination) {
  bool positions = input.name == "position_ids";
  int64_t count = elementCount(input.shape), length = input.shape.back();
  for (int64_t i = 0; i < count; ++i)
    storeInteger(input.type, destination, i, positions ? i % length : input.name == "attention_mask");
}

} // namespace zopt::runtime
