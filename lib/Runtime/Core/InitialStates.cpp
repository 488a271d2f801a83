//===- InitialStates.cpp - first values of states -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/Fingerprint.h"
#include "zopt/Runtime/Core/InitialValues.h"
#include "zopt/Runtime/Core/States.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

/// Elements made at a time, which bounds the memory that initialization takes beside the arenas, and elements of those that a thread makes at a time.
constexpr int64_t kChunk = int64_t(1) << 20, kThreadChunk = int64_t(1) << 14;

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

/// normalNumber() of one state, whose name is hashed once.
class NormalNumbers {
public:
  NormalNumbers(uint64_t seed, const std::string &state, double standardDeviation) : seed(seed), name(XXH3_64bits(state.data(), state.size())), standardDeviation(standardDeviation) {}

  /// Calls store(index, value) for the elements [begin, end).
  template <typename Store>
  void forEach(int64_t begin, int64_t end, Store store) const {
    for (int64_t index = begin; index < end;) {
      // One Box-Muller pair for every two elements.
      uint64_t pair = uint64_t(index) / 2;
      uint32_t words[4] = {uint32_t(pair), uint32_t(pair >> 32), uint32_t(name), uint32_t(name >> 32)};
      philox(words, uint32_t(seed), uint32_t(seed >> 32));
      double radius = std::sqrt(-2 * std::log(uniform(words[0], words[1]))), angle = 2 * M_PI * uniform(words[2], words[3]);
      if (index % 2 == 0) {
        store(index, standardDeviation * radius * std::cos(angle));
        ++index;
      }
      if (index < end) {
        store(index, standardDeviation * radius * std::sin(angle));
        ++index;
      }
    }
  }

private:
  static double uniform(uint32_t high, uint32_t low) { return (double(((uint64_t(high) << 32) | low) >> 11) + 0.5) * 0x1p-53; }

  uint64_t seed, name;
  double standardDeviation;
};

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

bool isLearned(const State &state) { return state.role == Role::Parameter || state.role == Role::Buffer; }

/// Whether --weights or a checkpoint has the state.
bool isGiven(const State &state, const InitializationOptions &options) {
  return options.weights && (options.weights->covers ? options.weights->covers(state) : isLearned(state));
}

/// Whether --init, where it is not the model, says what the state begins with.
bool isInitialized(const State &state) { return state.role == Role::Parameter || (isLearned(state) && state.init.file >= 0); }

/// The deviation of a parameter whose first values are normal numbers, or nothing.
std::optional<double> deviationOf(const State &state, const InitializationOptions &options) {
  double constant = 0;
  if (isGiven(state, options))
    return std::nullopt;
  if (options.kind == Initialization::Model || !isInitialized(state) ||
      (options.kind == Initialization::Gpt2 && gpt2Constant(state, constant)))
    return std::nullopt;
  return options.kind == Initialization::Gpt2 ? 0.02 : options.standardDeviation;
}

void makeNumbers(const NormalNumbers &numbers, int threads, DataType type, int64_t begin, int64_t count,
                 char *destination) {
  parallelFor(threads, count, kThreadChunk, [&](int64_t first, int64_t last) {
    numbers.forEach(begin + first, begin + last,
                    [&](int64_t index, double value) { storeDouble(type, destination, index - begin, value); });
  });
}

/// An array that holds elements [begin, end) of a state (or of a bucket) in a type.
struct Target {
  BufferId buffer;
  DataType type;
  int64_t begin, end;
};

Target targetOf(const Bucket &bucket, int rank, BufferId buffer, DataType type, bool sharded) {
  int64_t begin = sharded ? rank * bucket.sliceElements : 0;
  return {buffer, type, begin, begin + (sharded ? bucket.sliceElements : bucket.paddedElements)};
}

/// Of a bucket's parameters.
std::vector<Target> targetsOf(const Bucket &bucket, int rank) {
  std::vector<Target> targets = {
      targetOf(bucket, rank, bucket.parameters, bucket.computeType, bucket.parametersSharded)};
  if (bucket.master >= 0)
    targets.push_back(targetOf(bucket, rank, bucket.master, bucket.masterType, bucket.optimizerSharded));
  return targets;
}

/// Turns a bucket's arrays into those of a state, in the state's own numbers: where an array begins before it, that is
/// negative. Gives the elements [from, to) that they hold of it.
std::pair<int64_t, int64_t> placeIn(std::vector<Target> &targets, const State &state) {
  int64_t from = elementCount(state.shape), to = 0;
  for (Target &each : targets) {
    each.begin -= state.offset;
    each.end -= state.offset;
    from = std::min(from, std::max<int64_t>(0, each.begin));
    to = std::max(to, std::min(elementCount(state.shape), each.end));
  }
  return {from, to};
}

bool isFilled(const State &state, size_t bucket) {
  return state.bucket == int32_t(bucket) && isLearned(state);
}

class Initializer {
public:
  Initializer(Executor &executor, const InitializationOptions &options) : executor(executor), program(executor.getProgram()), options(options) {
    for (const WeightFile &file : program.weightFiles)
      paths.push_back(file.path.empty() || file.path[0] == '/' || options.planDirectory.empty() ? file.path : options.planDirectory + "/" + file.path);
    files.resize(paths.size());
  }

  Status run() {
    TeamSize teamSize(executor.threads());
    for (size_t i = 0; i < program.buckets.size(); ++i)
      ZOPT_RETURN_IF_FAILED(fillBucket(int32_t(i)));
    for (const State &state : program.states)
      if (state.bucket < 0 && state.buffer >= 0)
        ZOPT_RETURN_IF_FAILED(fill(state, 0, elementCount(state.shape), {{state.buffer, state.type, 0, elementCount(state.shape)}}));
    return executor.synchronize();
  }

  /// Elements [begin, begin + count) of a state, in its type.
  Status value(const State &state, int64_t begin, int64_t count, char *destination) { return produce(state, begin, count, destination); }

private:
  Status fillBucket(int32_t index) {
    const Bucket &bucket = program.buckets[index];
    const int rank = executor.getCommunicator().rank();
    const std::vector<Target> targets = targetsOf(bucket, rank);
    for (const Target &each : targets)
      ZOPT_RETURN_IF_FAILED(executor.zero(each.buffer, 0, (each.end - each.begin) * sizeOf(each.type)));
    for (BufferId slot : bucket.slots)
      ZOPT_RETURN_IF_FAILED(executor.zero(slot, 0, program.buffers[slot].bytes));
    for (const State &state : program.states) {
      if (!isFilled(state, size_t(index)))
        continue;
      std::vector<Target> ofState = targets;
      const auto [from, to] = placeIn(ofState, state);
      ZOPT_RETURN_IF_FAILED(fill(state, from, to, ofState));
      for (size_t slot = 0; slot < bucket.slots.size() && state.role == Role::Parameter; ++slot) {
        State kept = slotState(state, bucket, slot);
        if (!options.weights || !options.weights->covers || !options.weights->covers(kept))
          continue; // it begins at zero
        Target whole = targetOf(bucket, rank, bucket.slots[slot], bucket.masterType, bucket.optimizerSharded);
        whole.begin -= state.offset;
        whole.end -= state.offset;
        ZOPT_RETURN_IF_FAILED(fill(kept, std::max<int64_t>(0, whole.begin), std::min(elementCount(state.shape), whole.end), {whole}));
      }
    }
    return success();
  }

  /// Elements [begin, end) of a state, rounded to its own type first and to those of the arrays then: what a master holds and what is rounded from it.
  Status fill(const State &state, int64_t begin, int64_t end, const std::vector<Target> &targets) {
    const int64_t width = sizeOf(state.type);
    for (int64_t at = begin; at < end; at += kChunk) {
      int64_t chunkEnd = std::min(end, at + kChunk);
      const std::unique_ptr<char[]> ahead = options.ahead ? options.ahead->take(state, at, chunkEnd - at) : nullptr;
      if (!ahead) {
        chunk.resize(size_t((chunkEnd - at) * width));
        ZOPT_RETURN_IF_FAILED(produce(state, at, chunkEnd - at, chunk.data()));
      }
      const char *made = ahead ? ahead.get() : chunk.data();
      for (const Target &target : targets) {
        int64_t from = std::max(at, target.begin), to = std::min(chunkEnd, target.end);
        if (from >= to)
          continue;
        const char *values = made + (from - at) * width;
        if (target.type != state.type) {
          converted.resize(size_t((to - from) * sizeOf(target.type)));
          parallelFor(executor.threads(), to - from, kThreadChunk, [&](int64_t first, int64_t last) {
            convertElements(state.type, values + first * width, target.type, converted.data() + first * sizeOf(target.type), last - first);
          });
          values = converted.data();
        }
        ZOPT_RETURN_IF_FAILED(executor.upload(target.buffer, (from - target.begin) * sizeOf(target.type), values, (to - from) * sizeOf(target.type)));
      }
    }
    return success();
  }

  Status produce(const State &state, int64_t begin, int64_t count, char *destination) {
    if (isGiven(state, options))
      return options.weights->read(state, begin, count, destination);
    const int64_t width = sizeOf(state.type);
    auto splat = [&](double value) {
      parallelFor(executor.threads(), count, kThreadChunk, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i)
          storeDouble(state.type, destination, i, value);
      });
      return success();
    };
    if (std::optional<double> deviation = deviationOf(state, options)) {
      makeNumbers({options.seed, state.name, *deviation}, executor.threads(), state.type, begin, count, destination);
      return success();
    }
    if (double constant = 0; options.kind == Initialization::Gpt2 && isInitialized(state) && gpt2Constant(state, constant))
      return splat(constant);
    if (state.init.file < 0)
      return splat(state.init.splat);
    std::unique_ptr<InputFile> &file = files[state.init.file];
    if (!file) {
      Result<InputFile> opened = InputFile::open(paths[state.init.file]);
      if (opened.failed())
        return opened.getStatus();
      file = std::make_unique<InputFile>(std::move(*opened));
    }
    const int64_t rawWidth = sizeOf(state.init.type);
    raw.resize(size_t(count * rawWidth));
    std::mutex mutex;
    Status failure;
    parallelFor(executor.threads(), count, kThreadChunk, [&](int64_t first, int64_t last) {
      Status status = file->read(state.init.offset + (begin + first) * rawWidth, raw.data() + first * rawWidth, (last - first) * rawWidth);
      if (status.failed()) {
        std::lock_guard<std::mutex> lock(mutex);
        failure = status;
        return;
      }
      convertElements(state.init.type, raw.data() + first * rawWidth, state.type, destination + first * width, last - first);
    });
    return failure.in("weights of '" + state.name + "'");
  }

  Executor &executor;
  const Program &program;
  const InitializationOptions &options;
  std::vector<std::string> paths;
  std::vector<std::unique_ptr<InputFile>> files;
  std::vector<char> raw, chunk, converted;
};

} // namespace

State slotState(const State &parameter, const Bucket &bucket, size_t slot) {
  State state;
  state.name = parameter.name + "." + bucket.slotNames[slot];
  state.role = Role::Optimizer;
  state.type = bucket.masterType;
  state.shape = parameter.shape;
  state.bucket = parameter.bucket;
  state.offset = parameter.offset;
  return state;
}

double normalNumber(uint64_t seed, const std::string &state, int64_t index, double standardDeviation) {
  double number = 0;
  NormalNumbers(seed, state, standardDeviation).forEach(index, index + 1, [&](int64_t, double value) { number = value; });
  return number;
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
    if (state.init.file >= 0 && !isGiven(state, options) && !(isLearned(state) && options.kind != Initialization::Model))
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

struct InitialNumbers::Maker {
  struct Piece {
    const State *state;
    double deviation;
    int64_t begin, count;
    std::unique_ptr<char[]> data; // once made
    int64_t bytes() const { return count * sizeOf(state->type); }
  };
  std::vector<Piece> pieces;
  size_t taken = 0;
  std::mutex mutex; // guards a piece's data, `waiting` and `ended`
  std::condition_variable changed;
  int64_t waiting = 0; // bytes
  bool ended = false;
  std::thread thread;

  void make(int threads, int64_t bytesAhead, uint64_t seed) {
    TeamSize teamSize(threads);
    for (Piece &piece : pieces) {
      {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return ended || waiting < bytesAhead; });
        if (ended)
          return;
      }
      std::unique_ptr<char[]> data(new char[size_t(piece.bytes())]);
      makeNumbers({seed, piece.state->name, piece.deviation}, threads, piece.state->type, piece.begin, piece.count,
                  data.get());
      std::lock_guard<std::mutex> lock(mutex);
      piece.data = std::move(data);
      waiting += piece.bytes();
      changed.notify_all();
    }
  }
};

InitialNumbers::InitialNumbers(const Program &program, int rank, int threads, int64_t bytesAhead,
                               const InitializationOptions &options)
    : maker(std::make_unique<Maker>()) {
  for (size_t i = 0; i < program.buckets.size(); ++i)
    for (const State &state : program.states) {
      std::optional<double> deviation = isFilled(state, i) ? deviationOf(state, options) : std::nullopt;
      if (!deviation)
        continue;
      std::vector<Target> targets = targetsOf(program.buckets[i], rank);
      const auto [from, to] = placeIn(targets, state);
      for (int64_t at = from; at < to; at += kChunk)
        maker->pieces.push_back({&state, *deviation, at, std::min(kChunk, to - at), nullptr});
    }
  maker->thread =
      std::thread([=, maker = maker.get(), seed = options.seed] { maker->make(threads, bytesAhead, seed); });
}

InitialNumbers::~InitialNumbers() {
  {
    std::lock_guard<std::mutex> lock(maker->mutex);
    maker->ended = true;
  }
  maker->changed.notify_all();
  maker->thread.join();
}

std::unique_ptr<char[]> InitialNumbers::take(const State &state, int64_t begin, int64_t count) {
  if (maker->taken == maker->pieces.size())
    return nullptr;
  Maker::Piece &piece = maker->pieces[maker->taken];
  if (piece.state != &state || piece.begin != begin || piece.count != count)
    return nullptr;
  std::unique_lock<std::mutex> lock(maker->mutex);
  maker->changed.wait(lock, [&] { return piece.data != nullptr; });
  maker->waiting -= piece.bytes();
  ++maker->taken;
  maker->changed.notify_all();
  return std::move(piece.data);
}

struct InitialValues::Reader {
  Reader(Executor &executor, const InitializationOptions &given) : options(given), initializer(executor, options) {}
  InitializationOptions options;
  Initializer initializer;
};

InitialValues::InitialValues(Executor &executor, const InitializationOptions &options)
    : reader(std::make_unique<Reader>(executor, options)) {}
InitialValues::~InitialValues() = default;

Status InitialValues::read(const State &state, int64_t begin, int64_t count, void *destination) {
  return reader->initializer.value(state, begin, count, static_cast<char *>(destination));
}

Status initializeStates(Executor &executor, const InitializationOptions &options) { return Initializer(executor, options).run().onRank(executor.getCommunicator().rank()); }

} // namespace zopt::runtime
