//===- InitialStates.cpp - first values of states -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/Fingerprint.h"
#include "zopt/Runtime/Core/States.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

/// Elements converted at a time: bounds the memory that initialization takes beside the arenas.
constexpr int64_t kChunk = int64_t(1) << 16;

/// Philox 4x32-10 (Salmon et al., 2011): four random words from a counter and a key.
void philox(uint32_t counter[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = uint64_t(0xD2511F53) * counter[0], product1 = uint64_t(0xCD9E8D57) * counter[2];
    uint32_t next[4] = {uint32_t(product1 >> 32) ^ counter[1] ^ key0, uint32_t(product1), uint32_t(product0 >> 32) ^ counter[3] ^ key1, uint32_t(product0)};
    std::memcpy(counter, next, sizeof next);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

bool endsWith(const std::string &text, const char *suffix) {
  size_t length = std::strlen(suffix);
  return text.size() >= length && text.compare(text.size() - length, length, suffix) == 0;
}

/// What GPT-2's recipe gives a state: a constant, or a normal distribution.
bool gpt2Constant(const State &state, double &value) {
  const std::string &name = state.sourceName.empty() ? state.name : state.sourceName;
  if (endsWith(name, "running_mean") || endsWith(name, "bias") || endsWith(name, "beta")) {
    value = 0;
    return true;
  }
  if (endsWith(name, "running_var")) {
    value = 1;
    return true;
  }
  // Vectors that are no biases are the scales of norms ([C, 1, 1] too).
  int64_t wide = std::count_if(state.shape.begin(), state.shape.end(), [](int64_t size) { return size != 1; });
  value = 1;
  return wide <= 1;
}

class Initializer {
public:
  Initializer(Executor &executor, const InitializationOptions &options) : executor(executor), program(executor.getProgram()), options(options) {
    for (const WeightFile &file : program.weightFiles)
      paths.push_back(file.path.empty() || file.path[0] == '/' || options.planDirectory.empty() ? file.path : options.planDirectory + "/" + file.path);
    files.resize(paths.size());
  }

  Status run() {
    for (size_t i = 0; i < program.buckets.size(); ++i)
      ZOPT_RETURN_IF_FAILED(fillBucket(int32_t(i)));
    for (const State &state : program.states)
      if (state.bucket < 0 && state.buffer >= 0)
        ZOPT_RETURN_IF_FAILED(fill(state, 0, elementCount(state.shape), state.type, executor.address(state.buffer)));
    return success();
  }

private:
  Status fillBucket(int32_t index) {
    const Bucket &bucket = program.buckets[index];
    const int rank = executor.getCommunicator().rank();
    int64_t begin = bucket.parametersSharded ? rank * bucket.sliceElements : 0;
    int64_t end = begin + (bucket.parametersSharded ? bucket.sliceElements : bucket.paddedElements);
    ZOPT_RETURN_IF_FAILED(fillRange(index, begin, end, bucket.computeType, executor.address(bucket.parameters)));
    begin = bucket.optimizerSharded ? rank * bucket.sliceElements : 0;
    end = begin + (bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements);
    if (bucket.master >= 0)
      ZOPT_RETURN_IF_FAILED(fillRange(index, begin, end, bucket.masterType, executor.address(bucket.master)));
    for (BufferId slot : bucket.slots)
      std::memset(executor.address(slot), 0, size_t(program.buffers[slot].bytes));
    return success();
  }

  /// Elements [begin, end) of a bucket's flat layout.
  Status fillRange(int32_t index, int64_t begin, int64_t end, DataType type, char *destination) {
    std::memset(destination, 0, size_t((end - begin) * sizeOf(type)));
    for (const State &state : program.states) {
      if (state.bucket != index || (state.role != Role::Parameter && state.role != Role::Buffer))
        continue;
      int64_t from = std::max(begin, state.offset), to = std::min(end, state.offset + elementCount(state.shape));
      if (from < to)
        ZOPT_RETURN_IF_FAILED(fill(state, from - state.offset, to - from, type, destination + (from - begin) * sizeOf(type)));
    }
    return success();
  }

  /// Elements [begin, begin + count) of a state, rounded to its own type first and to `type` then: what a master holds and what is rounded from it.
  Status fill(const State &state, int64_t begin, int64_t count, DataType type, char *destination) {
    std::vector<char> chunk(size_t(std::min(count, kChunk) * sizeOf(state.type)));
    for (int64_t done = 0; done < count; done += kChunk) {
      int64_t size = std::min(kChunk, count - done);
      ZOPT_RETURN_IF_FAILED(produce(state, begin + done, size, chunk.data()));
      convertElements(state.type, chunk.data(), type, destination + done * sizeOf(type), size);
    }
    return success();
  }

  Status produce(const State &state, int64_t begin, int64_t count, void *destination) {
    bool learned = state.role == Role::Parameter || state.role == Role::Buffer;
    if (learned && options.weights)
      return options.weights->read(state, begin, count, destination);
    if (state.role == Role::Parameter || (learned && state.init.file >= 0)) {
      double constant = 0;
      if (options.kind == Initialization::Gpt2 && gpt2Constant(state, constant)) {
        for (int64_t i = 0; i < count; ++i)
          storeDouble(state.type, destination, i, constant);
        return success();
      }
      if (options.kind != Initialization::Model) {
        double deviation = options.kind == Initialization::Gpt2 ? 0.02 : options.standardDeviation;
        for (int64_t i = 0; i < count; ++i)
          storeDouble(state.type, destination, i, normalNumber(options.seed, state.name, begin + i, deviation));
        return success();
      }
    }
    if (state.init.file < 0) {
      for (int64_t i = 0; i < count; ++i)
        storeDouble(state.type, destination, i, state.init.splat);
      return success();
    }
    std::unique_ptr<InputFile> &file = files[state.init.file];
    if (!file) {
      Result<InputFile> opened = InputFile::open(paths[state.init.file]);
      if (opened.failed())
        return opened.getStatus();
      file = std::make_unique<InputFile>(std::move(*opened));
    }
    int64_t width = sizeOf(state.init.type);
    raw.resize(size_t(count * width));
    ZOPT_RETURN_IF_FAILED(file->read(state.init.offset + begin * width, raw.data(), count * width).in("weights of '" + state.name + "'"));
    convertElements(state.init.type, raw.data(), state.type, destination, count);
    return success();
  }

  Executor &executor;
  const Program &program;
  const InitializationOptions &options;
  std::vector<std::string> paths;
  std::vector<std::unique_ptr<InputFile>> files;
  std::vector<char> raw;
};

} // namespace

double normalNumber(uint64_t seed, const std::string &state, int64_t index, double standardDeviation) {
  uint64_t name = XXH3_64bits(state.data(), state.size());
  // One Box-Muller pair for every two elements.
  uint64_t pair = uint64_t(index) / 2;
  uint32_t words[4] = {uint32_t(pair), uint32_t(pair >> 32), uint32_t(name), uint32_t(name >> 32)};
  philox(words, uint32_t(seed), uint32_t(seed >> 32));
  auto uniform = [](uint32_t high, uint32_t low) { return (double(((uint64_t(high) << 32) | low) >> 11) + 0.5) * 0x1p-53; };
  double radius = std::sqrt(-2 * std::log(uniform(words[0], words[1]))), angle = 2 * M_PI * uniform(words[2], words[3]);
  return standardDeviation * radius * (index % 2 ? std::sin(angle) : std::cos(angle));
}

Status parseInitialization(const std::string &text, InitializationOptions &options) {
  if (text == "model") {
    options.kind = Initialization::Model;
    return success();
  }
  if (text == "gpt2") {
    options.kind = Initialization::Gpt2;
    return success();
  }
  if (text.rfind("normal:", 0) == 0) {
    char *end = nullptr;
    options.kind = Initialization::Normal;
    options.standardDeviation = std::strtod(text.c_str() + 7, &end);
    if (text.size() > 7 && *end == '\0' && options.standardDeviation > 0 && std::isfinite(options.standardDeviation))
      return success();
  }
  return usageError("--init takes model, normal:STD or gpt2, but got '", text, "'");
}

Status checkWeightFiles(const Program &program, const InitializationOptions &options) {
  std::set<int32_t> needed;
  for (const State &state : program.states) {
    bool learned = state.role == Role::Parameter || state.role == Role::Buffer;
    if (state.init.file >= 0 && !(learned && (options.weights || options.kind != Initialization::Model)))
      needed.insert(state.init.file);
  }
  std::string problems;
  for (int32_t index : needed) {
    const WeightFile &file = program.weightFiles[index];
    std::string path = file.path.empty() || file.path[0] == '/' || options.planDirectory.empty() ? file.path : options.planDirectory + "/" + file.path;
    auto add = [&](const std::string &text) { problems += (problems.empty() ? "" : "\n") + path + ": " + text; };
    Fingerprint fingerprint;
    std::string error;
    if (!fingerprintFile(path, fingerprint, error)) {
      add(error);
      continue;
    }
    if (file.size >= 0 && fingerprint.size != file.size)
      add(concat("has ", fingerprint.size, " bytes, but the plan was made for a file of ", file.size));
    else if (!file.fingerprint.empty() && fingerprint.text != file.fingerprint)
      add(concat("has changed since the plan was made: its fingerprint is ", fingerprint.text, ", the plan's is ", file.fingerprint));
  }
  if (!problems.empty())
    return inputError(problems);
  return success();
}

Status initializeStates(Executor &executor, const InitializationOptions &options) { return Initializer(executor, options).run().onRank(executor.getCommunicator().rank()); }

} // namespace zopt::runtime
