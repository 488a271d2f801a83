//===- WeightsFile.cpp - states as safetensors files ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/WeightsFile.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/SourceLayout.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <algorithm>
#include <map>

namespace zopt::runtime {

namespace {

class OpenWeights final : public WeightsFile {
public:
  OpenWeights(SafetensorsFile file, bool sourceNames) : file(std::move(file)), sourceNames(sourceNames) {}

  Status check(const Program &program) {
    std::string problems;
    auto add = [&](const std::string &text) { problems += (problems.empty() ? "" : "\n") + file.path() + ": " + text; };
    for (const State &state : program.states) {
      if (!isLearned(state))
        continue;
      const SafetensorsTensor *tensor = file.find(nameIn(state, sourceNames));
      for (size_t i = 0; !tensor && i < state.tied.size(); ++i)
        tensor = file.find(state.tied[i]);
      std::vector<int64_t> shape = shapeIn(state, sourceNames);
      if (!tensor)
        add(concat("has no tensor '", nameIn(state, sourceNames), "'"));
      else if (tensor->shape != shape)
        add(concat("tensor '", tensor->name, "' has shape ", shapeText(tensor->shape), ", but the plan's is ", shapeText(shape)));
      else if (isFloat(tensor->type) != isFloat(state.type))
        add(concat("tensor '", tensor->name, "' is ", runtime::nameOf(tensor->type), ", but the plan's is ", runtime::nameOf(state.type)));
      else
        tensors[state.name] = tensor;
    }
    return problems.empty() ? success() : inputError(problems);
  }

  StateSource source() override {
    return {[this](const State &state, int64_t begin, int64_t count, void *destination) { return read(state, begin, count, destination); }, {}};
  }

private:
  Status read(const State &state, int64_t begin, int64_t count, void *destination) const {
    const SafetensorsTensor &tensor = *tensors.at(state.name);
    int64_t width = sizeOf(tensor.type);
    if (!isPermuted(state, sourceNames)) {
      std::vector<char> raw(size_t(count * width));
      ZOPT_RETURN_IF_FAILED(file.read(tensor, begin * width, raw.data(), count * width));
      convertElements(tensor.type, raw.data(), state.type, destination, count);
      return success();
    }
    std::vector<char> raw(static_cast<size_t>(tensor.bytes));
    ZOPT_RETURN_IF_FAILED(file.read(tensor, 0, raw.data(), tensor.bytes));
    SourceIndex sourceIndex(state);
    for (int64_t i = 0; i < count; ++i)
      convertElements(tensor.type, raw.data() + sourceIndex(begin + i) * width, state.type, static_cast<char *>(destination) + i * sizeOf(state.type), 1);
    return success();
  }

  SafetensorsFile file;
  bool sourceNames;
  std::map<std::string, const SafetensorsTensor *> tensors; // by the state's name
};

} // namespace

WeightsFile::~WeightsFile() = default;

Result<std::shared_ptr<WeightsFile>> WeightsFile::open(const std::string &path, const Program &program, bool sourceNames) {
  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  if (file.failed())
    return file.getStatus();
  auto weights = std::make_shared<OpenWeights>(std::move(*file), sourceNames);
  ZOPT_RETURN_IF_FAILED(weights->check(program));
  return std::shared_ptr<WeightsFile>(weights);
}

GradientCopy::GradientCopy(Executor &executor) : executor(executor) {
  const Program &program = executor.getProgram();
  for (const Bucket &bucket : program.buckets) {
    int64_t elements = bucket.gradient < 0 ? 0 : bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements;
    copies.emplace_back(size_t(elements * sizeOf(bucket.gradientType)));
  }
}

Status GradientCopy::take() {
  const Program &program = executor.getProgram();
  for (size_t i = 0; i < copies.size(); ++i)
    if (!copies[i].empty())
      ZOPT_RETURN_IF_FAILED(executor.download(program.buckets[i].gradient, 0, copies[i].data(), int64_t(copies[i].size())));
  return success();
}

Status writeStates(Executor &executor, const std::string &path, bool sourceNames, const GradientCopy *gradients, double scale) {
  const Program &program = executor.getProgram();
  Communicator &communicator = executor.getCommunicator();
  const bool root = communicator.rank() == 0;

  // One tensor a state, and one more for each further name that a tied parameter has in the source.
  struct Planned {
    const State *state;
    std::vector<size_t> tensors;
  };
  std::vector<Planned> planned;
  std::vector<SafetensorsTensor> tensors;
  for (const State &state : program.states) {
    bool wanted = gradients ? state.role == Role::Parameter && state.trained : isLearned(state);
    if (!wanted)
      continue;
    Planned entry{&state, {}};
    std::vector<std::string> names = {nameIn(state, sourceNames)};
    if (sourceNames)
      names.insert(names.end(), state.tied.begin(), state.tied.end());
    for (const std::string &name : names) {
      SafetensorsTensor tensor;
      tensor.name = name;
      tensor.type = collectedType(state);
      tensor.shape = shapeIn(state, sourceNames);
      entry.tensors.push_back(tensors.size());
      tensors.push_back(tensor);
    }
    planned.push_back(entry);
  }

  Status failure; // of rank 0's file: the others go on meanwhile, and all learn of it at the end
  std::unique_ptr<SafetensorsWriter> writer;
  if (root) {
    Result<SafetensorsWriter> created = SafetensorsWriter::create(path, tensors);
    if (created.failed())
      failure = created.getStatus();
    else
      writer = std::make_unique<SafetensorsWriter>(std::move(*created));
  }
  for (const Planned &entry : planned) {
    const State &state = *entry.state;
    const int64_t width = sizeOf(collectedType(state));
    bool permuted = isPermuted(state, sourceNames);
    std::vector<char> whole;
    int64_t position = 0; // bytes
    auto sink = [&](const void *data, int64_t count) -> Status {
      if (!writer || failure.failed())
        return success();
      if (permuted)
        whole.insert(whole.end(), static_cast<const char *>(data), static_cast<const char *>(data) + count * width);
      else
        for (size_t tensor : entry.tensors)
          if (Status status = writer->write(tensor, position, data, count * width); status.failed())
            failure = status;
      position += count * width;
      return success();
    };
    const char *gradient = gradients && state.bucket >= 0 ? gradients->bucket(size_t(state.bucket)) : nullptr;
    ZOPT_RETURN_IF_FAILED(collectState(executor, state, gradients ? StateValue::Gradient : StateValue::Current, scale, sink, gradient));
    if (permuted && writer && failure.succeeded()) {
      std::vector<char> transposed(whole.size());
      SourceIndex sourceIndex(state);
      for (int64_t i = 0, count = elementCount(state.shape); i < count; ++i)
        std::copy_n(whole.data() + i * width, width, transposed.data() + sourceIndex(i) * width);
      for (size_t tensor : entry.tensors)
        if (Status status = writer->write(tensor, 0, transposed.data(), int64_t(transposed.size())); status.failed())
          failure = status;
    }
  }
  if (writer && failure.succeeded())
    failure = writer->commit();
  writer.reset();
  return communicator.agree("outputs", failure);
}

} // namespace zopt::runtime
