//===- Executor.cpp - runs the sequences of a Program on one rank ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "zopt/Runtime/Device/Matmul.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace zopt::runtime {

/// Bytes that turn every float type into NaN and every integer type into -1.
static constexpr int kPoison = 0xff;
/// Elements that one outer iteration of the norm's and the optimizer's kernels takes.
static constexpr int64_t kBlock = 128;
/// Blocks of those kernels that are worth a thread.
static constexpr int64_t kBlockGrain = 64;

/// A kernel call with resolved arguments.
struct KernelCall {
  KernelFunction function = nullptr;
  std::vector<char *> arguments;
  int64_t begin = 0, end = 0, grain = 1;
};

struct Executor::Prepared {
  const Command *command = nullptr;
  std::vector<char *> pointers; // Command::buffers, with their byte offsets
  std::vector<KernelCall> calls; // Launch: one. GradientNorm: one a bucket. Update: one a run of segments with equal decay
  std::vector<double> decays;    // of `calls` of an Update, in the master type; never resized after preparation
  std::unique_ptr<MatmulPrimitive> matmul;
  Collective collective;
};

struct Executor::PreparedSequence {
  struct Fill {
    char *begin;
    int64_t bytes;
  };
  std::vector<Prepared> commands;
  std::vector<Fill> poisonAtStart;
  std::vector<std::vector<Fill>> poisonAfter; // one a command
};

Executor::Executor(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options)
    : program(program), kernels(std::move(kernels)), communicator(communicator), options(options) {}
Executor::~Executor() = default;

Result<std::unique_ptr<Executor>> Executor::create(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options) {
  if (program.worldSize != communicator.size())
    return inputError("the plan is for ", program.worldSize, " ranks, but ", communicator.size(), " run");
  std::unique_ptr<Executor> executor(new Executor(program, std::move(kernels), communicator, options));
  ZOPT_RETURN_IF_FAILED(executor->prepare().onRank(communicator.rank()));
  return Result<std::unique_ptr<Executor>>(std::move(executor));
}

char *Executor::address(BufferId id) const {
  const Buffer &buffer = program.buffers[id];
  return arenas[buffer.arena].data() + buffer.offset + communicator.rank() * buffer.rankStride;
}

static int64_t nanoseconds() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Status Executor::prepare() {
  for (const Arena &arena : program.arenas) {
    if (arena.tier != Tier::Device)
      return inputError("arena '", arena.name, "' is in a tier that this machine's target does not have");
    Result<ArenaMemory> memory = ArenaMemory::allocate(arena);
    if (memory.failed())
      return memory.getStatus();
    arenas.push_back(std::move(*memory));
  }
  meter = std::make_unique<PeakMeter>(program, communicator.rank());
  for (const Sequence &sequence : program.sequences) {
    PreparedSequence &prepared = sequences.emplace_back();
    prepared.commands.resize(sequence.commands.size());
    for (size_t i = 0; i < sequence.commands.size(); ++i)
      ZOPT_RETURN_IF_FAILED(prepareCommand(sequence.commands[i], prepared.commands[i]).in(sequence.commands[i].location));
    if (options.poison)
      preparePoison(sequence, prepared);
  }
  return success();
}

Status Executor::prepareCommand(const Command &command, Prepared &prepared) {
  prepared.command = &command;
  for (size_t i = 0; i < command.buffers.size(); ++i) {
    int64_t offset = i < command.byteOffsets.size() ? command.byteOffsets[i] : 0;
    prepared.pointers.push_back(command.buffers[i] < 0 ? nullptr : address(command.buffers[i]) + offset);
  }
  prepared.collective = {command.id, command.location};
  const int rank = communicator.rank();

  switch (command.kind) {
  case Command::Kind::Launch:
    prepared.calls.push_back({kernels->function(command.kernel), prepared.pointers, 0, command.extent, command.grain});
    break;
  case Command::Kind::Matmul: {
    Result<std::unique_ptr<MatmulPrimitive>> primitive = MatmulPrimitive::create(command, options.threads);
    if (primitive.failed())
      return primitive.getStatus();
    prepared.matmul = std::move(*primitive);
    prepared.pointers.resize(5, nullptr);
    int64_t available = 0;
    if (command.buffers.size() > 4 && command.buffers[4] >= 0)
      available = program.buffers[command.buffers[4]].bytes - (command.byteOffsets.size() > 4 ? command.byteOffsets[4] : 0);
    if (prepared.matmul->scratchBytes() > available)
      return inputError("the plan gives the library ", available, " bytes of scratch, but with ", options.threads, " threads on this machine it needs ", prepared.matmul->scratchBytes());
    break;
  }
  case Command::Kind::GradientNorm:
    for (size_t i = 0; i < command.buckets.size(); ++i) {
      const Bucket &bucket = program.buckets[command.buckets[i]];
      int64_t elements = bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements;
      prepared.calls.push_back({kernels->function(command.kernels[i]), {address(bucket.gradient), prepared.pointers[0]}, 0, elements / kBlock, kBlockGrain});
    }
    break;
  case Command::Kind::Update: {
    const Bucket &bucket = program.buckets[command.buckets[0]];
    // This rank's range of the bucket, and where each array has its first element.
    int64_t begin = bucket.optimizerSharded ? rank * bucket.sliceElements : 0;
    int64_t end = begin + (bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements);
    std::vector<char *> arguments;
    bool gathered = prepared.pointers.size() > 4;
    char *gradient = gathered ? prepared.pointers[4] : address(bucket.gradient);
    arguments.push_back(gradient + (gathered || bucket.gradientWhole ? begin * sizeOf(bucket.gradientType) : 0));
    arguments.push_back(address(bucket.parameters) + (bucket.parametersSharded ? 0 : begin * sizeOf(bucket.computeType)));
    if (bucket.master >= 0)
      arguments.push_back(address(bucket.master));
    for (BufferId slot : bucket.slots)
      arguments.push_back(address(slot));
    arguments.insert(arguments.end(), prepared.pointers.begin(), prepared.pointers.begin() + 4);

    std::vector<const State *> segments;
    for (const State &state : program.states)
      if (state.bucket == command.buckets[0] && state.role == Role::Parameter)
        segments.push_back(&state);
    std::sort(segments.begin(), segments.end(), [](const State *a, const State *b) { return a->offset < b->offset; });
    prepared.decays.resize(segments.size());
    for (size_t i = 0; i < segments.size(); ++i) {
      int64_t from = segments[i]->offset, to = from + (elementCount(segments[i]->shape) + kBlock - 1) / kBlock * kBlock;
      from = std::max(from, begin);
      to = std::min(to, end);
      if (from >= to)
        continue;
      KernelCall *last = prepared.calls.empty() ? nullptr : &prepared.calls.back();
      if (last && i > 0 && command.decays[i] == command.decays[i - 1] && last->end == (from - begin) / kBlock) {
        last->end = (to - begin) / kBlock;
        continue;
      }
      storeDouble(bucket.masterType, &prepared.decays[i], 0, command.decays[i]);
      KernelCall call{kernels->function(command.kernel), arguments, (from - begin) / kBlock, (to - begin) / kBlock, kBlockGrain};
      call.arguments.push_back(reinterpret_cast<char *>(&prepared.decays[i]));
      prepared.calls.push_back(std::move(call));
    }
    break;
  }
  default:
    break;
  }
  return success();
}

void Executor::preparePoison(const Sequence &sequence, PreparedSequence &prepared) {
  std::vector<BufferLife> lives = livesOf(program, sequence);
  std::vector<bool> longLived = longLivedBuffers(program), isInput(program.buffers.size());
  for (const Input &input : program.inputs)
    isInput[input.buffer] = true;

  // The bytes of `buffer` that belong to none of `others`.
  auto freeBytes = [&](BufferId buffer, const std::vector<BufferId> &others) {
    std::vector<std::pair<char *, char *>> taken;
    char *begin = address(buffer), *end = begin + program.buffers[buffer].bytes;
    for (BufferId other : others) {
      char *otherBegin = address(other), *otherEnd = otherBegin + program.buffers[other].bytes;
      if (otherBegin < end && begin < otherEnd)
        taken.push_back({otherBegin, otherEnd});
    }
    std::sort(taken.begin(), taken.end());
    std::vector<PreparedSequence::Fill> fills;
    for (auto [takenBegin, takenEnd] : taken) {
      if (takenBegin > begin)
        fills.push_back({begin, takenBegin - begin});
      begin = std::max(begin, takenEnd);
    }
    if (begin < end)
      fills.push_back({begin, end - begin});
    return fills;
  };

  std::vector<BufferId> always;
  for (size_t i = 0; i < longLived.size(); ++i)
    if (longLived[i])
      always.push_back(BufferId(i));
  prepared.poisonAfter.resize(sequence.commands.size());
  std::vector<BufferId> filledBefore = always;
  for (size_t i = 0; i < isInput.size(); ++i)
    if (isInput[i])
      filledBefore.push_back(BufferId(i));
  for (const BufferLife &life : lives) {
    std::vector<BufferId> others = always;
    for (const BufferLife &other : lives)
      if (other.first <= life.last && life.last < other.last)
        others.push_back(other.buffer);
    for (const PreparedSequence::Fill &fill : freeBytes(life.buffer, others))
      prepared.poisonAfter[life.last].push_back(fill);
    if (!isInput[life.buffer])
      for (const PreparedSequence::Fill &fill : freeBytes(life.buffer, filledBefore))
        prepared.poisonAtStart.push_back(fill);
  }
  // What a forward plan gives back is read after the sequence.
  for (const Output &output : program.outputs)
    for (const BufferLife &life : lives)
      if (life.buffer == output.buffer)
        prepared.poisonAfter[life.last].clear();
}

bool Executor::has(const std::string &sequence) const {
  for (const Sequence &candidate : program.sequences)
    if (candidate.name == sequence)
      return true;
  return false;
}

Status Executor::run(const std::string &name, bool firstMicroStep) {
  TeamSize teamSize(options.threads);
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (program.sequences[s].name != name)
      continue;
    PreparedSequence &sequence = sequences[s];
    for (const PreparedSequence::Fill &fill : sequence.poisonAtStart)
      std::memset(fill.begin, kPoison, size_t(fill.bytes));
    for (size_t i = 0; i < sequence.commands.size(); ++i) {
      Prepared &prepared = sequence.commands[i];
      int64_t begin = trace ? nanoseconds() : 0;
      if (Status status = execute(prepared, firstMicroStep); status.failed())
        return status.in(prepared.command->location).onRank(communicator.rank());
      if (trace)
        trace->push_back({prepared.command, begin, nanoseconds()});
      meter->note(s, i);
      if (options.poison)
        for (const PreparedSequence::Fill &fill : sequence.poisonAfter[i])
          std::memset(fill.begin, kPoison, size_t(fill.bytes));
      ZOPT_RETURN_IF_FAILED(communicator.progress());
    }
    return success();
  }
  return inputError("the plan has no sequence '", name, "'");
}

static void call(const KernelCall &kernel, int threads) {
  parallelFor(threads, kernel.end - kernel.begin, kernel.grain, [&](int64_t begin, int64_t end) { kernel.function(kernel.arguments.data(), kernel.begin + begin, kernel.begin + end); });
}

Status Executor::execute(Prepared &prepared, bool firstMicroStep) {
  const Command &command = *prepared.command;
  const std::vector<char *> &pointers = prepared.pointers;
  switch (command.kind) {
  case Command::Kind::Launch:
  case Command::Kind::Update:
    for (const KernelCall &kernel : prepared.calls)
      call(kernel, options.threads);
    return success();
  case Command::Kind::Matmul:
    return prepared.matmul->run(pointers[0], pointers[1], pointers[2], pointers[3], pointers[4]);
  case Command::Kind::Copy: {
    // Overlapping ranges move in one piece.
    bool overlap = pointers[0] < pointers[1] + command.bytes && pointers[1] < pointers[0] + command.bytes;
    parallelFor(overlap ? 1 : options.threads, command.bytes, int64_t(1) << 20, [&](int64_t begin, int64_t end) { std::memmove(pointers[1] + begin, pointers[0] + begin, size_t(end - begin)); });
    return success();
  }
  case Command::Kind::Zero:
    if (!command.firstMicroStep || firstMicroStep)
      parallelFor(options.threads, command.bytes, int64_t(1) << 20, [&](int64_t begin, int64_t end) { std::memset(pointers[0] + begin, 0, size_t(end - begin)); });
    return success();
  case Command::Kind::AllGather:
    return communicator.startAllGather(prepared.collective, pointers[0], pointers[1], command.bytes);
  case Command::Kind::ReduceScatter:
    return communicator.startReduceScatter(prepared.collective, pointers[0], command.type, pointers[1], command.destinationType, pointers[2], command.elements, command.accumulate && !firstMicroStep);
  case Command::Kind::AllReduce:
    return communicator.startAllReduce(prepared.collective, pointers[0], command.type, pointers[1], command.elements);
  case Command::Kind::AllReduceScalars:
    return communicator.allReduceScalars(command.location, pointers[0], pointers[1], command.elements, command.type);
  case Command::Kind::Wait:
    return communicator.wait(command.id);
  case Command::Kind::GradientNorm:
    return computeNorm(prepared);
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad:
    return runtimeError("attention is products and kernels on this target");
  }
  return success();
}

Status Executor::computeNorm(Prepared &prepared) {
  const Command &command = *prepared.command;
  ExactSum sliced, whole;
  bool anySliced = false;
  for (size_t i = 0; i < prepared.calls.size(); ++i) {
    call(prepared.calls[i], options.threads);
    bool isWhole = program.buckets[command.buckets[i]].gradientWhole;
    anySliced |= !isWhole;
    (isWhole ? whole : sliced).add(reinterpret_cast<const double *>(prepared.pointers[0]), prepared.calls[i].end);
  }
  if (anySliced && communicator.size() > 1) {
    auto words = sliced.toWords();
    ZOPT_RETURN_IF_FAILED(communicator.allReduceIntegers(command.location, words.data(), int64_t(words.size())));
    sliced = ExactSum::fromWords(words);
  }
  sliced.add(whole);
  // In f64, and rounded once to the norm's type.
  storeDouble(command.type, prepared.pointers[1], 0, std::sqrt(sliced.round()));
  return gradientObserver ? gradientObserver() : success();
}

bool Executor::write(const std::string &name, double value) {
  for (const State &state : program.states)
    if (state.name == name && state.buffer >= 0) {
      storeDouble(state.type, address(state.buffer), 0, value);
      return true;
    }
  return false;
}

bool Executor::read(const std::string &name, double &value) const {
  for (const State &state : program.states)
    if (state.name == name && state.buffer >= 0) {
      value = loadAsDouble(state.type, address(state.buffer), 0);
      return true;
    }
  return false;
}

} // namespace zopt::runtime
