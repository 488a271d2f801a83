//===- WeightsFile.cpp - states as safetensors files ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/WeightsFile.h"
#include "zopt/Runtime/Checkpoint/Reader.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/SourceLayout.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// What a set of weights has of a plan's, told in lines.
class Report {
public:
  Report(std::string path, bool partial) : path(std::move(path)), partial(partial) {}
  void missing(const State &state, const std::string &name) { add(concat("has no tensor '", name, "'", partial ? concat("; '", state.name, "' keeps its first values") : "")); }
  void mismatched(const std::string &text) { add(text); }
  void unexpected(const std::vector<std::string> &names) {
    if (names.empty())
      return;
    std::string text;
    for (size_t i = 0; i < names.size() && i < 5; ++i)
      text += (i ? ", '" : "'") + names[i] + "'";
    notes.push_back(concat(path, ": has ", names.size(), " tensors that the plan has not: ", text, names.size() > 5 ? ", ..." : ""));
  }
  Status finish(std::vector<std::string> &into) {
    if (!partial && !problems.empty())
      return inputError(problems, "\n", path, ": --allow-change=model takes what fits");
    into = notes;
    return success();
  }

private:
  void add(const std::string &text) {
    if (partial)
      notes.push_back(path + ": " + text);
    problems += (problems.empty() ? "" : "\n") + path + ": " + text;
  }
  const std::string path;
  const bool partial;
  std::string problems;
  std::vector<std::string> notes;
};

std::string typeProblem(const std::string &name, DataType type, const std::vector<int64_t> &shape, const State &state, const std::vector<int64_t> &wanted) {
  if (shape != wanted)
    return concat("tensor '", name, "' has shape ", shapeText(shape), ", but the plan's is ", shapeText(wanted));
  if (isFloat(type) != isFloat(state.type))
    return concat("tensor '", name, "' is ", runtime::nameOf(type), ", but the plan's is ", runtime::nameOf(state.type));
  return "";
}

/// One safetensors file or several.
class OpenWeights final : public WeightsFile {
public:
  OpenWeights(std::vector<SafetensorsFile> files, bool sourceNames) : files(std::move(files)), sourceNames(sourceNames) {}

  Status check(const std::string &path, const Program &program, bool partial) {
    Report report(path, partial);
    std::map<std::string, Place> stored;
    std::set<std::string> unused;
    for (const SafetensorsFile &file : files)
      for (const SafetensorsTensor &tensor : file.tensors()) {
        if (!stored.emplace(tensor.name, Place{&file, &tensor}).second)
          return inputError(file.path(), ": tensor '", tensor.name, "' is in another file of ", path, " too");
        unused.insert(tensor.name);
      }
    for (const State &state : program.states) {
      if (!isLearned(state))
        continue;
      std::vector<std::string> names = {nameIn(state, sourceNames)};
      names.insert(names.end(), state.tied.begin(), state.tied.end());
      auto found = stored.end();
      for (const std::string &name : names) {
        unused.erase(name);
        if (found == stored.end())
          found = stored.find(name);
      }
      if (found == stored.end()) {
        report.missing(state, names[0]);
        continue;
      }
      const SafetensorsTensor &tensor = *found->second.tensor;
      if (std::string problem = typeProblem(tensor.name, tensor.type, tensor.shape, state, shapeIn(state, sourceNames)); !problem.empty())
        report.mismatched(problem);
      else
        places[state.name] = found->second;
    }
    report.unexpected({unused.begin(), unused.end()});
    return report.finish(noteLines);
  }

  StateSource source() override {
    return {[this](const State &state, int64_t begin, int64_t count, void *destination) { return read(state, begin, count, destination); },
            [this](const State &state) { return isLearned(state) && places.count(state.name) > 0; }};
  }

private:
  struct Place {
    const SafetensorsFile *file = nullptr;
    const SafetensorsTensor *tensor = nullptr;
  };

  Status read(const State &state, int64_t begin, int64_t count, void *destination) const {
    const auto &[file, tensor] = places.at(state.name);
    int64_t width = sizeOf(tensor->type);
    if (!isPermuted(state, sourceNames)) {
      std::vector<char> raw(size_t(count * width));
      ZOPT_RETURN_IF_FAILED(file->read(*tensor, begin * width, raw.data(), count * width));
      convertElements(tensor->type, raw.data(), state.type, destination, count);
      return success();
    }
    std::vector<char> raw(static_cast<size_t>(tensor->bytes));
    ZOPT_RETURN_IF_FAILED(file->read(*tensor, 0, raw.data(), tensor->bytes));
    SourceIndex sourceIndex(state);
    for (int64_t i = 0; i < count; ++i)
      convertElements(tensor->type, raw.data() + sourceIndex(begin + i) * width, state.type, static_cast<char *>(destination) + i * sizeOf(state.type), 1);
    return success();
  }

  std::vector<SafetensorsFile> files;
  bool sourceNames;
  std::map<std::string, Place> places; // by the state's name
};

/// The weights of a checkpoint, without what the optimizer keeps.
class CheckpointWeights final : public WeightsFile {
public:
  explicit CheckpointWeights(std::shared_ptr<CheckpointReader> reader) : reader(std::move(reader)), states(this->reader->source()) {}

  Status check(const Program &program, bool partial) {
    Report report(reader->path(), partial);
    std::set<std::string> unused;
    for (const LogicalTensor &tensor : reader->index().tensors)
      if (tensor.role == Role::Parameter || tensor.role == Role::Buffer)
        unused.insert(tensor.name);
    for (const State &state : program.states) {
      if (!isLearned(state))
        continue;
      unused.erase(state.name);
      const LogicalTensor *tensor = reader->find(state.name);
      if (!tensor)
        report.missing(state, state.name);
      else if (std::string problem = typeProblem(state.name, tensor->type, tensor->shape, state, state.shape); !problem.empty())
        report.mismatched(problem);
    }
    report.unexpected({unused.begin(), unused.end()});
    return report.finish(noteLines);
  }

  StateSource source() override {
    return {states.read, [this](const State &state) { return isLearned(state) && states.covers(state); }};
  }

private:
  std::shared_ptr<CheckpointReader> reader;
  StateSource states;
};

/// The files that Hugging Face's index names, each once.
Result<std::vector<std::string>> filesOfIndex(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  std::string text(size_t(file->size()), '\0');
  ZOPT_RETURN_IF_FAILED(file->read(0, text.data(), file->size()));
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    return inputError(path, ": has no weight_map, which says what file each tensor is in");
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  std::set<std::string> names;
  for (const auto &[tensor, value] : json["weight_map"].items()) {
    if (!value.is_string() || value.get_ref<const std::string &>().find('/') != std::string::npos || value.get_ref<const std::string &>().empty())
      return inputError(path, ": tensor '", tensor, "' is in no file beside it");
    names.insert(folder + value.get<std::string>());
  }
  return std::vector<std::string>(names.begin(), names.end());
}

bool isThere(const std::string &path) { return ::access(path.c_str(), F_OK) == 0; }

} // namespace

WeightsFile::~WeightsFile() = default;

Result<std::shared_ptr<WeightsFile>> WeightsFile::open(const std::string &given, const Program &program, bool sourceNames, bool partial) {
  std::string path = given;
  if (isThere(path + "/" + kIndexName)) {
    Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
    if (reader.failed())
      return reader.getStatus();
    auto weights = std::make_shared<CheckpointWeights>(*reader);
    ZOPT_RETURN_IF_FAILED(weights->check(program, partial));
    return std::shared_ptr<WeightsFile>(weights);
  }
  for (const char *name : {"/model.safetensors.index.json", "/model.safetensors"})
    if (isThere(path + name)) {
      path += name;
      break;
    }
  std::vector<std::string> names = {path};
  const std::string suffix = ".json";
  if (path.size() > suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0) {
    Result<std::vector<std::string>> listed = filesOfIndex(path);
    if (listed.failed())
      return listed.getStatus();
    names = *listed;
  }
  std::vector<SafetensorsFile> files;
  for (const std::string &name : names) {
    Result<SafetensorsFile> file = SafetensorsFile::open(name);
    if (file.failed())
      return file.getStatus();
    files.push_back(std::move(*file));
  }
  auto weights = std::make_shared<OpenWeights>(std::move(files), sourceNames);
  ZOPT_RETURN_IF_FAILED(weights->check(path, program, partial));
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

/// Elements of a frozen parameter that lives rounded, which `data` is, in fp32: as they came, where they round to that.
static const void *asTheyCame(const State &state, const Bucket &bucket, InitialValues &initial, int64_t begin, int64_t count, const void *data, std::vector<char> &came) {
  const int64_t width = sizeOf(state.type);
  came.resize(size_t(count * width));
  if (initial.read(state, begin, count, came.data()).failed())
    return data; // a run that was resumed may have lost them
  std::vector<char> rounded(size_t(count * sizeOf(bucket.computeType))), widened(size_t(count * width));
  convertElements(state.type, came.data(), bucket.computeType, rounded.data(), count);
  convertElements(bucket.computeType, rounded.data(), state.type, widened.data(), count);
  for (int64_t i = 0; i < count; ++i)
    if (std::memcmp(widened.data() + i * width, static_cast<const char *>(data) + i * width, size_t(width)) != 0)
      std::memcpy(came.data() + i * width, static_cast<const char *>(data) + i * width, size_t(width));
  return came.data();
}

Status writeStates(Executor &executor, const std::string &path, bool sourceNames, const GradientCopy *gradients, double scale, bool average, InitialValues *initial) {
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
    std::vector<char> whole, came;
    int64_t position = 0; // bytes
    const Bucket *rounded = nullptr;
    if (initial && !gradients && !state.trained && state.bucket >= 0 && state.type == collectedType(state)) {
      const Bucket &bucket = program.buckets[size_t(state.bucket)];
      if (bucket.master < 0 && sizeOf(bucket.computeType) < width)
        rounded = &bucket;
    }
    auto sink = [&](const void *data, int64_t count) -> Status {
      if (!writer || failure.failed())
        return success();
      if (rounded)
        data = asTheyCame(state, *rounded, *initial, position / width, count, data, came);
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
    ZOPT_RETURN_IF_FAILED(collectState(executor, state, gradients ? StateValue::Gradient : average && state.bucket >= 0 && program.buckets[state.bucket].trained ? StateValue::Average : StateValue::Current, scale, sink, gradient));
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
