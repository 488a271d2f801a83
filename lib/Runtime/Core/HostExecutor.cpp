//===- HostExecutor.cpp - runs a Program on the CPU -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HostExecutor.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "zopt/Runtime/Device/Convolution.h"
#include "zopt/Runtime/Device/Matmul.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace zopt::runtime {

namespace {

/// Blocks of the norm's and the optimizer's kernels that are worth a thread.
constexpr int64_t kBlockGrain = 64;

/// A kernel call with resolved arguments.
struct KernelCall {
  KernelFunction function = nullptr;
  std::vector<char *> arguments;
  int64_t begin = 0, end = 0, grain = 1;
};

class HostExecutor final : public Executor {
public:
  HostExecutor(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options)
      : Executor(program, communicator, options), kernels(std::move(kernels)) {}

  Status prepare();
  Status run(const std::string &sequence, bool firstMicroStep) override;
  Result<void *const *> inputs() override { return destinations.data(); }
  Status finishStep(std::optional<StepResult> &result) override;
  Status lastResult(std::optional<StepResult> &result) override {
    result.reset();
    return success();
  }
  Status upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) override;
  Status download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) override;
  Status zero(BufferId buffer, int64_t byteOffset, int64_t bytes) override;
  Status synchronize() override { return success(); }

private:
  struct Prepared {
    const Command *command = nullptr;
    std::vector<char *> pointers; // Command::buffers, with their byte offsets
    std::vector<KernelCall> calls; // Launch: one. GradientNorm: one a bucket. Update: one a run of segments with equal decay
    std::vector<double> scalars;   // of `calls` of an Update, in the master type; never resized after preparation
    std::vector<size_t> segments;  // of `calls` of a ParameterNorms
    std::vector<int64_t> words;    // of a ParameterNorms whose sums the ranks add up
    std::unique_ptr<MatmulPrimitive> matmul;
    std::unique_ptr<ConvolutionPrimitive> convolution;
    Collective collective;
  };
  struct PreparedSequence {
    std::vector<Prepared> commands;
    PoisonPlan poison;
  };

  char *address(BufferId buffer) const { return arenas[program.buffers[buffer].arena].data() + offsetOf(buffer); }
  void fill(const std::vector<PoisonRange> &ranges) {
    for (const PoisonRange &range : ranges)
      std::memset(arenas[range.arena].data() + range.begin, kPoison, size_t(range.bytes));
  }
  Status prepareCommand(const Command &command, Prepared &prepared);
  Status execute(Prepared &prepared, bool firstMicroStep);
  Status computeNorm(Prepared &prepared);
  Status sumParameterNorms(Prepared &prepared);

  std::shared_ptr<KernelLibrary> kernels;
  std::vector<ArenaMemory> arenas;
  std::vector<PreparedSequence> sequences;
  std::vector<void *> destinations; // of the inputs
};

Status HostExecutor::prepare() {
  for (const Arena &arena : program.arenas) {
    if (arena.tier != Tier::Device)
      return inputError("arena '", arena.name, "' is in a tier that this machine's target does not have");
    Result<ArenaMemory> memory = ArenaMemory::allocate(arena);
    if (memory.failed())
      return memory.getStatus();
    arenas.push_back(std::move(*memory));
  }
  for (const Sequence &sequence : program.sequences) {
    PreparedSequence &prepared = sequences.emplace_back();
    prepared.commands.resize(sequence.commands.size());
    for (size_t i = 0; i < sequence.commands.size(); ++i)
      ZOPT_RETURN_IF_FAILED(prepareCommand(sequence.commands[i], prepared.commands[i]).in(sequence.commands[i].location));
    if (options.poison)
      prepared.poison = planPoison(program, sequence, communicator.rank());
  }
  for (const Input &input : program.inputs)
    destinations.push_back(address(input.buffer));
  return success();
}

Status HostExecutor::prepareCommand(const Command &command, Prepared &prepared) {
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
  case Command::Kind::Convolution: {
    Result<std::unique_ptr<ConvolutionPrimitive>> primitive = ConvolutionPrimitive::create(command, options.threads);
    if (primitive.failed())
      return primitive.getStatus();
    prepared.convolution = std::move(*primitive);
    int64_t available = command.buffers[4] < 0 ? 0 : program.buffers[command.buffers[4]].bytes - (command.byteOffsets.size() > 4 ? command.byteOffsets[4] : 0);
    if (prepared.convolution->scratchBytes() > available)
      return inputError("the plan gives the library ", available, " bytes of scratch, but with ", options.threads, " threads on this machine it needs ", prepared.convolution->scratchBytes());
    break;
  }
  case Command::Kind::GradientNorm:
    for (size_t i = 0; i < command.buckets.size(); ++i) {
      const Bucket &bucket = program.buckets[command.buckets[i]];
      int64_t elements = bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements;
      prepared.calls.push_back({kernels->function(command.kernels[i]), {address(bucket.gradient), prepared.pointers[0]}, 0, elements / kUpdateBlock, kBlockGrain});
    }
    break;
  case Command::Kind::ParameterNorms:
  case Command::Kind::Update: {
    UpdatePlan plan = planUpdate(program, command, rank);
    const bool measures = command.kind == Command::Kind::ParameterNorms;
    const Bucket &bucket = program.buckets[command.buckets[0]];
    std::vector<char *> arguments;
    for (auto [buffer, offset] : plan.arrays)
      arguments.push_back(address(buffer) + offset);
    if (measures && bucket.optimizerSharded && communicator.size() > 1)
      prepared.words.resize(2 * command.decays.size() * ExactSum::kWords);
    size_t next = 0;
    for (const UpdateRun &run : plan.runs)
      next += run.scalars.size();
    prepared.scalars.resize(std::exchange(next, 0));
    for (const UpdateRun &run : plan.runs) {
      KernelCall call{kernels->function(command.kernel), arguments, run.begin, run.end, kBlockGrain};
      // Sums of the blocks, or the segment's norms.
      if (!command.norms.empty()) {
        char *first = measures ? address(command.norms[1]) : address(command.norms[0]) + 2 * int64_t(run.segment) * sizeOf(bucket.masterType);
        call.arguments.push_back(first);
        call.arguments.push_back(first + (measures ? program.buffers[command.norms[1]].bytes / 2 : sizeOf(bucket.masterType)));
        prepared.segments.push_back(run.segment);
      }
      const std::vector<char *> scalars = scalarsOf(command, prepared.pointers);
      call.arguments.insert(call.arguments.end(), scalars.begin(), scalars.end());
      for (double scalar : run.scalars) {
        storeDouble(bucket.masterType, &prepared.scalars[next], 0, scalar);
        call.arguments.push_back(reinterpret_cast<char *>(&prepared.scalars[next++]));
      }
      prepared.calls.push_back(std::move(call));
    }
    break;
  }
  default:
    break;
  }
  return success();
}

Status HostExecutor::run(const std::string &name, bool firstMicroStep) {
  TeamSize teamSize(options.threads);
  int index = sequenceIndex(name);
  if (index < 0)
    return inputError("the plan has no sequence '", name, "'");
  PreparedSequence &sequence = sequences[size_t(index)];
  if (options.poison)
    fill(sequence.poison.atStart);
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    Prepared &prepared = sequence.commands[i];
    int64_t begin = trace ? steadyNanoseconds() : 0;
    if (Status status = execute(prepared, firstMicroStep); status.failed())
      return status.in(prepared.command->location).onRank(communicator.rank());
    if (trace)
      trace->push_back({prepared.command, begin, steadyNanoseconds()});
    meter.note(size_t(index), i);
    if (options.poison)
      fill(sequence.poison.after[i]);
    ZOPT_RETURN_IF_FAILED(communicator.progress());
  }
  return success();
}

void call(const KernelCall &kernel, int threads) {
  parallelFor(threads, kernel.end - kernel.begin, kernel.grain, [&](int64_t begin, int64_t end) { kernel.function(kernel.arguments.data(), kernel.begin + begin, kernel.begin + end); });
}

Status HostExecutor::execute(Prepared &prepared, bool firstMicroStep) {
  const Command &command = *prepared.command;
  const std::vector<char *> &pointers = prepared.pointers;
  switch (command.kind) {
  case Command::Kind::Launch:
  case Command::Kind::Update:
    for (const KernelCall &kernel : prepared.calls)
      call(kernel, options.threads);
    return success();
  case Command::Kind::ParameterNorms:
    for (const KernelCall &kernel : prepared.calls)
      call(kernel, options.threads);
    return sumParameterNorms(prepared);
  case Command::Kind::Matmul:
    return prepared.matmul->run(pointers[0], pointers[1], pointers[2], pointers[3], pointers[4]);
  case Command::Kind::Convolution:
    return prepared.convolution->run(pointers[0], pointers[1], pointers[2], pointers[3], pointers[4]);
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

Status HostExecutor::computeNorm(Prepared &prepared) {
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

/// Each segment's blocks, exactly, over ranks too; two norms a segment.
Status HostExecutor::sumParameterNorms(Prepared &prepared) {
  const Command &command = *prepared.command;
  const DataType type = program.buckets[command.buckets[0]].masterType;
  const double *blocks[2];
  blocks[0] = reinterpret_cast<const double *>(address(command.norms[1]));
  blocks[1] = blocks[0] + program.buffers[command.norms[1]].bytes / 2 / int64_t(sizeof(double));
  char *norms = address(command.norms[0]);
  auto sumOf = [&](size_t segment, int half) {
    ExactSum sum;
    for (size_t i = 0; i < prepared.calls.size(); ++i)
      if (prepared.segments[i] == segment)
        sum.add(blocks[half] + prepared.calls[i].begin, prepared.calls[i].end - prepared.calls[i].begin);
    return sum;
  };
  const bool exchanges = !prepared.words.empty();
  if (exchanges) {
    for (size_t i = 0; i < 2 * command.decays.size(); ++i) {
      auto words = sumOf(i / 2, int(i % 2)).toWords();
      std::copy(words.begin(), words.end(), prepared.words.begin() + int64_t(i) * ExactSum::kWords);
    }
    ZOPT_RETURN_IF_FAILED(communicator.allReduceIntegers(command.location, prepared.words.data(), int64_t(prepared.words.size())));
  }
  for (size_t i = 0; i < 2 * command.decays.size(); ++i) {
    std::array<int64_t, ExactSum::kWords> words;
    if (exchanges)
      std::copy_n(prepared.words.begin() + int64_t(i) * ExactSum::kWords, ExactSum::kWords, words.begin());
    storeDouble(type, norms, int64_t(i), std::sqrt((exchanges ? ExactSum::fromWords(words) : sumOf(i / 2, int(i % 2))).round()));
  }
  return success();
}

Status HostExecutor::finishStep(std::optional<StepResult> &result) {
  result.emplace();
  ZOPT_RETURN_IF_FAILED(read("zopt.loss", result->loss));
  ZOPT_RETURN_IF_FAILED(read("zopt.norm", result->norm));
  ZOPT_RETURN_IF_FAILED(read("zopt.loss_scale", result->lossScale));
  ZOPT_RETURN_IF_FAILED(read("zopt.loss_scale_exhausted", result->lossScaleExhausted));
  for (const State *state : termStates)
    ZOPT_RETURN_IF_FAILED(read(state->name, result->terms.emplace_back()));
  return read("zopt.finite", result->finite);
}

Status HostExecutor::upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) {
  std::copy_n(static_cast<const char *>(source), bytes, address(buffer) + byteOffset);
  return success();
}

Status HostExecutor::download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) {
  std::copy_n(address(buffer) + byteOffset, bytes, static_cast<char *>(destination));
  return success();
}

Status HostExecutor::zero(BufferId buffer, int64_t byteOffset, int64_t bytes) {
  std::memset(address(buffer) + byteOffset, 0, size_t(bytes));
  return success();
}

} // namespace

Result<std::unique_ptr<Executor>> createHostExecutor(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options) {
  auto executor = std::make_unique<HostExecutor>(program, std::move(kernels), communicator, options);
  ZOPT_RETURN_IF_FAILED(executor->prepare().onRank(communicator.rank()));
  return std::unique_ptr<Executor>(std::move(executor));
}

} // namespace zopt::runtime
