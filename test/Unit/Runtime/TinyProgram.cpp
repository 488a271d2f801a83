//===- TinyProgram.cpp - a Program written by hand ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TinyProgram.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <algorithm>
#include <cmath>

using namespace zopt::runtime;

namespace {

/// parameters, x [2], gradient, loss sum; one iteration. One instance for each size that a bucket pads to.
template <int padded>
void backward(char *const *arguments, int64_t, int64_t) {
  const float *parameters = reinterpret_cast<const float *>(arguments[0]), *x = reinterpret_cast<const float *>(arguments[1]);
  float *gradient = reinterpret_cast<float *>(arguments[2]), *loss = reinterpret_cast<float *>(arguments[3]);
  float mean = (x[0] + x[1]) * 0.5f, sum = 0;
  for (int i = 0; i < padded; ++i) {
    bool real = i < 130 || (i >= 256 && i < 266);
    gradient[i] = real ? mean * (1 + 0.001f * float(i)) * parameters[i] : 0;
    sum += real ? 0.5f * mean * parameters[i] * parameters[i] : 0;
  }
  loss[0] += sum;
}

void squares(char *const *arguments, int64_t begin, int64_t end) {
  const float *gradient = reinterpret_cast<const float *>(arguments[0]);
  double *sums = reinterpret_cast<double *>(arguments[1]);
  for (int64_t block = begin; block < end; ++block) {
    double sum = 0;
    for (int i = 0; i < 128; ++i)
      sum += double(gradient[block * 128 + i]) * gradient[block * 128 + i];
    sums[block] = sum;
  }
}

/// norm -> finite, scale.
void finite(char *const *arguments, int64_t, int64_t) {
  float norm = *reinterpret_cast<const float *>(arguments[0]);
  *reinterpret_cast<float *>(arguments[1]) = std::isfinite(norm) ? 1 : 0;
  *reinterpret_cast<float *>(arguments[2]) = std::fmin(1.0f, 100.0f / (norm + 1e-6f));
}

/// gradient, parameters, momentum, scale, lr, step, finite, decay.
void sgd(char *const *arguments, int64_t begin, int64_t end) {
  const float *gradient = reinterpret_cast<const float *>(arguments[0]);
  float *parameters = reinterpret_cast<float *>(arguments[1]), *momentum = reinterpret_cast<float *>(arguments[2]);
  auto scalar = [&](int index) { return *reinterpret_cast<const float *>(arguments[index]); };
  if (scalar(6) == 0)
    return;
  for (int64_t i = begin * 128; i < end * 128; ++i) {
    float g = gradient[i] * scalar(3);
    momentum[i] = 0.9f * momentum[i] + g;
    parameters[i] -= scalar(4) * (momentum[i] + scalar(7) * parameters[i]);
  }
}

/// gradient, parameters, momentum, sums of squares of the parameters' blocks, of the directions', scale, lr, step, finite, decay.
void trustNorms(char *const *arguments, int64_t begin, int64_t end) {
  const float *gradient = reinterpret_cast<const float *>(arguments[0]), *parameters = reinterpret_cast<const float *>(arguments[1]);
  auto scalar = [&](int index) { return *reinterpret_cast<const float *>(arguments[index]); };
  for (int64_t block = begin; block < end; ++block) {
    double sums[2] = {0, 0};
    for (int64_t i = block * 128; i < (block + 1) * 128; ++i) {
      float direction = gradient[i] * scalar(5) + scalar(9) * parameters[i];
      sums[0] += double(parameters[i]) * parameters[i];
      sums[1] += double(direction) * direction;
    }
    for (int norm = 0; norm < 2; ++norm)
      reinterpret_cast<double *>(arguments[3 + norm])[block] = sums[norm];
  }
}

/// gradient, parameters, momentum, norm of the parameter, of the direction, scale, lr, step, finite, decay.
void trustSgd(char *const *arguments, int64_t begin, int64_t end) {
  const float *gradient = reinterpret_cast<const float *>(arguments[0]);
  float *parameters = reinterpret_cast<float *>(arguments[1]);
  auto scalar = [&](int index) { return *reinterpret_cast<const float *>(arguments[index]); };
  if (scalar(8) == 0)
    return;
  for (int64_t i = begin * 128; i < end * 128; ++i)
    parameters[i] -= scalar(6) * (scalar(3) / scalar(4)) * (gradient[i] * scalar(5) + scalar(9) * parameters[i]);
}

/// block sums, words: adds one sum after the other.
void accumulateWords(char *const *arguments, int64_t begin, int64_t end) {
  const double *sums = reinterpret_cast<const double *>(arguments[0]);
  int64_t *words = reinterpret_cast<int64_t *>(arguments[1]);
  std::array<int64_t, ExactSum::kWords> all;
  std::copy_n(words, all.size(), all.data());
  ExactSum sum = ExactSum::fromWords(all);
  sum.add(sums + begin, end - begin);
  all = sum.toWords();
  std::copy_n(all.data(), all.size(), words);
}

/// first gradient, list of one range, words.
void squareSums(char *const *arguments, int64_t begin, int64_t end) {
  const int64_t *list = reinterpret_cast<const int64_t *>(arguments[1]);
  if (list[1] != 0 || list[2] < end)
    return;
  std::vector<double> sums(end);
  char *own[] = {arguments[0] + list[0] * int64_t(sizeof(float)), reinterpret_cast<char *>(sums.data())};
  squares(own, begin, end);
  char *words[] = {own[1], arguments[2]};
  accumulateWords(words, begin, end);
}

/// words of two sums, norm.
void normOfWords(char *const *arguments, int64_t, int64_t) {
  int64_t *words = reinterpret_cast<int64_t *>(arguments[0]);
  ExactSum sums[2];
  for (int i = 0; i < 2; ++i) {
    std::array<int64_t, ExactSum::kWords> all;
    std::copy_n(words + i * ExactSum::kWords, all.size(), all.data());
    sums[i] = ExactSum::fromWords(all);
  }
  std::fill_n(words, 2 * ExactSum::kWords, 0);
  sums[0].add(sums[1]);
  *reinterpret_cast<float *>(arguments[1]) = float(std::sqrt(sums[0].round()));
}

class Builder {
public:
  BufferId buffer(const std::string &name, int64_t bytes, MemoryClass memoryClass, bool persistent) {
    Buffer made;
    made.name = name;
    made.offset = top;
    made.bytes = bytes;
    made.memoryClass = memoryClass;
    made.persistent = persistent;
    top += (bytes + 63) / 64 * 64;
    program.buffers.push_back(made);
    return BufferId(program.buffers.size() - 1);
  }

  BufferId scalar(const std::string &name, double value = 0) {
    State state;
    state.name = name;
    state.role = Role::Scalar;
    state.init.splat = value;
    state.buffer = buffer(name, 4, MemoryClass::Buffers, true);
    program.states.push_back(state);
    return state.buffer;
  }

  Program program;
  int64_t top = 0;
};

Command make(Command::Kind kind, const char *location, std::vector<BufferId> buffers) {
  Command command;
  command.kind = kind;
  command.location = location;
  command.buffers = std::move(buffers);
  return command;
}

Command launch(int32_t kernel, const char *location, std::vector<BufferId> buffers, std::vector<int32_t> writes) {
  Command command = make(Command::Kind::Launch, location, std::move(buffers));
  command.kernel = kernel;
  command.writes = std::move(writes);
  command.extent = 1;
  return command;
}

} // namespace

Program makeTinyProgram(int world, int stage, int accumulation) {
  Builder builder;
  Program &program = builder.program;
  const int64_t slice = (266 + world * 128 - 1) / (world * 128) * 128, padded = slice * world;
  const bool shardedOptimizer = stage >= 1 && world > 1, shardedParameters = stage == 3 && world > 1, wholeGradient = stage == 0 || world == 1;

  program.planHash = "tiny";
  program.model = "tiny";
  program.mode = "train";
  program.target = "cpu";
  program.worldSize = world;
  program.microBatch = 2;
  program.accumSteps = accumulation;
  program.learningRate = 0.1;
  program.arenas.push_back({"device", Tier::Device, 0});
  for (const char *symbol : {"backward384", "squares", "finite_", "sgd", "backward512", "backward768", "backward1024"})
    program.kernels.push_back({symbol});

  Bucket bucket;
  bucket.name = "bucket0";
  bucket.paddedElements = padded;
  bucket.sliceElements = slice;
  bucket.parametersSharded = shardedParameters;
  bucket.optimizerSharded = shardedOptimizer;
  bucket.gradientWhole = wholeGradient;
  bucket.parameters = builder.buffer("parameters", (shardedParameters ? slice : padded) * 4, MemoryClass::Parameters, true);
  bucket.slots = {builder.buffer("momentum", (shardedOptimizer ? slice : padded) * 4, MemoryClass::Optimizer, true)};
  bucket.slotNames = {"momentum"};
  bucket.gradient = builder.buffer("gradient", (wholeGradient ? padded : slice) * 4, MemoryClass::Gradients, true);
  program.buckets.push_back(bucket);

  State a, b;
  a.name = "a";
  a.shape = {130};
  a.trained = b.trained = true;
  a.bucket = b.bucket = 0;
  a.init.splat = 0.5;
  b.name = "b";
  b.shape = {2, 5};
  b.offset = 256;
  b.init.splat = -0.25;
  b.sourceName = "module.b";
  b.sourcePermutation = {1, 0};
  program.states = {b, a}; // in no particular order

  BufferId lr = builder.scalar("zopt.lr"), step = builder.scalar("zopt.step"), loss = builder.scalar("zopt.loss"), norm = builder.scalar("zopt.norm"), isFinite = builder.scalar("zopt.finite"),
           lossSum = builder.scalar("zopt.loss_sum");
  BufferId scale = builder.buffer("scale", 4, MemoryClass::Workspace, false);
  BufferId x = builder.buffer("x", 8, MemoryClass::Inputs, false);
  BufferId gathered = shardedParameters ? builder.buffer("gathered", padded * 4, MemoryClass::Gathered, false) : bucket.parameters;
  BufferId local = builder.buffer("local gradient", padded * 4, MemoryClass::Gradients, false);
  BufferId received = builder.buffer("received", padded * 4, MemoryClass::Communication, false);
  BufferId blocks = builder.buffer("blocks", padded / 128 * 8, MemoryClass::Workspace, false);
  program.inputs.push_back({"x", InputKind::Input, DataType::F32, {2}, x, 0, false, -100});
  program.arenas[0].bytes = builder.top;

  Sequence micro{"micro_step", {}}, apply{"apply_step", {}};
  Command zero = make(Command::Kind::Zero, "zero loss", {lossSum});
  zero.bytes = 4;
  zero.firstMicroStep = true;
  micro.commands.push_back(zero);
  auto wait = [&](int64_t id) {
    Command command = make(Command::Kind::Wait, "wait", {});
    command.id = id;
    return command;
  };
  if (shardedParameters) {
    Command gather = make(Command::Kind::AllGather, "all_gather bucket0", {bucket.parameters, gathered});
    gather.bytes = slice * 4;
    gather.id = 1;
    micro.commands.push_back(gather);
    micro.commands.push_back(wait(1));
  }
  int32_t backwardKernel = padded == 384 ? 0 : padded == 512 ? 4 : padded == 768 ? 5 : 6;
  micro.commands.push_back(launch(backwardKernel, "backward", {gathered, x, local, lossSum}, {2, 3}));
  // The sum over ranks: into the slice, or, for a whole gradient, part by part in place.
  if (wholeGradient && accumulation == 1) {
    Command reduce = make(Command::Kind::AllReduce, "all_reduce bucket0", {local, received});
    reduce.elements = slice;
    reduce.id = 2;
    micro.commands.push_back(reduce);
    micro.commands.push_back(wait(2));
    Command copy = make(Command::Kind::Copy, "keep gradient", {local, bucket.gradient});
    copy.bytes = padded * 4;
    micro.commands.push_back(copy);
  } else {
    Command reduce = make(Command::Kind::ReduceScatter, "reduce_scatter bucket0", {local, bucket.gradient, received});
    reduce.elements = slice;
    reduce.accumulate = accumulation > 1;
    reduce.id = 2;
    micro.commands.push_back(reduce);
    micro.commands.push_back(wait(2));
  }

  Command gradientNorm = make(Command::Kind::GradientNorm, "norm", {blocks, norm});
  gradientNorm.kernels = {1};
  gradientNorm.buckets = {0};
  apply.commands.push_back(gradientNorm);
  apply.commands.push_back(launch(2, "finite", {norm, isFinite, scale}, {1, 2}));
  Command update = make(Command::Kind::Update, "update bucket0", {scale, lr, step, isFinite});
  update.kernel = 3;
  update.buckets = {0};
  update.decays = {0.0, 0.01};
  apply.commands.push_back(update);
  if (shardedOptimizer && !shardedParameters) {
    BufferId owned = builder.buffer("owned parameters", slice * 4, MemoryClass::Parameters, true);
    program.buffers[owned].offset = program.buffers[bucket.parameters].offset;
    program.buffers[owned].rankStride = slice * 4;
    Command publish = make(Command::Kind::AllGather, "publish bucket0", {owned, bucket.parameters});
    publish.bytes = slice * 4;
    publish.id = 3;
    apply.commands.push_back(publish);
    apply.commands.push_back(wait(3));
  }
  Command sum = make(Command::Kind::AllReduceScalars, "loss", {lossSum, loss});
  sum.elements = 1;
  apply.commands.push_back(sum);
  program.sequences = {micro, apply};
  return program;
}

std::shared_ptr<KernelLibrary> tinyKernels() { return KernelLibrary::fromFunctions({backward<384>, squares, finite, sgd, backward<512>, backward<768>, backward<1024>, trustNorms, trustSgd}); }

Program makeTinyDeviceProgram(int world, int stage, int accumulation) {
  Program program = makeTinyProgram(world, stage, accumulation);
  program.target = "cuda";
  program.cpu = "sm_90";
  for (Kernel &kernel : program.kernels)
    kernel.blockThreads = 128;
  program.kernels[1] = {"square_sums", 128, 2}; // several blocks, the last of which is not full
  program.kernels.push_back({"accumulate", 32, 4});
  program.kernels.push_back({"norm", 32, 1});
  Buffer list;
  list.name = "gradient ranges";
  list.offset = program.arenas[0].bytes;
  list.bytes = 3 * 8;
  list.persistent = true;
  program.arenas[0].bytes += 64;
  program.buffers.push_back(list);
  Buffer words;
  words.name = "words";
  words.persistent = true;
  words.offset = program.arenas[0].bytes;
  words.bytes = 2 * ExactSum::kWords * 8;
  program.arenas[0].bytes += words.bytes;
  program.buffers.push_back(words);
  for (Command &command : program.sequences[1].commands)
    if (command.kind == Command::Kind::GradientNorm) {
      command.buffers = {BufferId(program.buffers.size() - 2), command.buffers[1], BufferId(program.buffers.size() - 1)};
      command.kernels.push_back(8);
    }
  return program;
}

Program withTrustRatio(Program program) {
  const bool onDevice = program.target == "cuda";
  const Bucket &bucket = program.buckets[0];
  const int32_t measure = int32_t(program.kernels.size());
  for (const char *symbol : {"trust_norms", "trust_sgd"})
    program.kernels.push_back({symbol, onDevice ? 128 : 0, 1});
  auto add = [&](const char *name, int64_t bytes) {
    Buffer buffer;
    buffer.name = name;
    buffer.offset = (program.arenas[0].bytes + 63) / 64 * 64;
    buffer.bytes = bytes;
    program.arenas[0].bytes = buffer.offset + bytes;
    program.buffers.push_back(buffer);
    return BufferId(program.buffers.size() - 1);
  };
  std::vector<Command> &commands = program.sequences[1].commands;
  for (size_t i = 0; i < commands.size(); ++i)
    if (commands[i].kind == Command::Kind::Update) {
      Command norms = commands[i];
      norms.kind = Command::Kind::ParameterNorms;
      norms.location = "norms bucket0";
      norms.kernel = measure;
      norms.norms = {add("norms", 2 * 2 * 4), add("sums", 2 * (bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements) / 128 * 8)};
      if (onDevice) {
        norms.norms.push_back(add("words of norms", 4 * 2 * ExactSum::kWords * 8));
        norms.kernels = {7, 8};
      }
      commands[i].kernel = measure + 1;
      commands[i].norms = {norms.norms[0]};
      commands.insert(commands.begin() + int64_t(i), norms);
      break;
    }
  return program;
}

std::shared_ptr<KernelLibrary> tinyDeviceKernels() {
  return KernelLibrary::fromFunctions({backward<384>, squareSums, finite, sgd, backward<512>, backward<768>, backward<1024>, accumulateWords, normOfWords, trustNorms, trustSgd});
}

int tinyDevicePointers(int32_t kernel) {
  constexpr int counts[] = {4, 3, 3, 7, 4, 4, 4, 2, 2, 9, 9};
  return counts[kernel];
}
