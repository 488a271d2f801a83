//===- Executor.cpp - what the executors of all targets share -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Executor.h"
#include "HostExecutor.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include <algorithm>

namespace zopt::runtime {

Executor::Executor(const Program &program, Communicator &communicator, const ExecutorOptions &options)
    : program(program), communicator(communicator), options(options), meter(program, communicator.rank()) {
  const std::string prefix = "zopt.loss.";
  for (const State &state : program.states)
    if (state.buffer >= 0 && state.name.rfind(prefix, 0) == 0) {
      termNames.push_back(state.name.substr(prefix.size()));
      termStates.push_back(&state);
    }
}
Executor::~Executor() = default;

Result<std::unique_ptr<Executor>> Executor::create(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options) {
  if (program.worldSize != communicator.size())
    return inputError("the plan is for ", program.worldSize, " ranks, but ", communicator.size(), " run");
  if (program.target == "cuda")
    return createCudaExecutor(program, communicator, options);
  return createHostExecutor(program, std::move(kernels), communicator, options);
}

int Executor::sequenceIndex(const std::string &name) const {
  for (size_t i = 0; i < program.sequences.size(); ++i)
    if (program.sequences[i].name == name)
      return int(i);
  return -1;
}

bool Executor::has(const std::string &sequence) const { return sequenceIndex(sequence) >= 0; }

const State *Executor::stateWithBuffer(const std::string &name) const {
  for (const State &state : program.states)
    if (state.name == name && state.buffer >= 0)
      return &state;
  return nullptr;
}

Status Executor::write(const std::string &name, double value) {
  const State *state = stateWithBuffer(name);
  if (!state)
    return success();
  int64_t bytes = 0;
  storeDouble(state->type, &bytes, 0, value);
  return upload(state->buffer, 0, &bytes, sizeOf(state->type));
}

Status Executor::read(const std::string &name, double &value) {
  const State *state = stateWithBuffer(name);
  if (!state)
    return success();
  int64_t bytes = 0;
  ZOPT_RETURN_IF_FAILED(download(state->buffer, 0, &bytes, sizeOf(state->type)));
  value = loadAsDouble(state->type, &bytes, 0);
  return success();
}

std::vector<const State *> segmentsOf(const Program &program, int32_t bucket) {
  std::vector<const State *> segments;
  for (const State &state : program.states)
    if (state.bucket == bucket && state.role == Role::Parameter)
      segments.push_back(&state);
  std::sort(segments.begin(), segments.end(), [](const State *a, const State *b) { return a->offset < b->offset; });
  return segments;
}

UpdatePlan planUpdate(const Program &program, const Command &command, int rank) {
  UpdatePlan plan;
  const Bucket &bucket = program.buckets[command.buckets[0]];
  // This rank's range of the bucket, and where each array has its first element.
  int64_t begin = bucket.optimizerSharded ? rank * bucket.sliceElements : 0;
  int64_t end = begin + (bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements);
  const bool gathered = hasOwnGradient(command);
  int64_t gatheredOffset = command.byteOffsets.size() > 4 ? command.byteOffsets[4] : 0;
  // Of a sharded optimizer it is what Newton-Schulz iterations gave, in the type of the masters.
  const DataType gradientType = gathered && bucket.optimizerSharded ? bucket.masterType : bucket.gradientType;
  plan.arrays.push_back({gathered ? command.buffers[4] : bucket.gradient, (gathered ? gatheredOffset : 0) + (gathered || bucket.gradientWhole ? begin * sizeOf(gradientType) : 0)});
  plan.arrays.push_back({bucket.parameters, bucket.parametersSharded ? 0 : begin * sizeOf(bucket.computeType)});
  if (bucket.master >= 0)
    plan.arrays.push_back({bucket.master, 0});
  for (BufferId slot : bucket.slots)
    plan.arrays.push_back({slot, 0});

  const std::vector<const State *> segments = segmentsOf(program, command.buckets[0]);
  for (size_t i = 0; i < segments.size(); ++i) {
    int64_t from = segments[i]->offset, to = from + (elementCount(segments[i]->shape) + kUpdateBlock - 1) / kUpdateBlock * kUpdateBlock;
    from = std::max(from, begin);
    to = std::min(to, end);
    if (from >= to)
      continue;
    UpdateRun run{(from - begin) / kUpdateBlock, (to - begin) / kUpdateBlock, i, {command.decays[i]}};
    if (!command.rates.empty())
      run.scalars.push_back(command.rates[i]);
    if (command.norms.empty() && !plan.runs.empty() && plan.runs.back().scalars == run.scalars && plan.runs.back().end == run.begin)
      plan.runs.back().end = run.end;
    else
      plan.runs.push_back(run);
  }
  return plan;
}

PoisonPlan planPoison(const Program &program, const Sequence &sequence, int rank) {
  PoisonPlan plan;
  std::vector<BufferLife> lives = livesOf(program, sequence);
  std::vector<bool> longLived = longLivedBuffers(program), isInput(program.buffers.size());
  for (const Input &input : program.inputs)
    isInput[input.buffer] = true;

  // The bytes of `buffer` that belong to none of `others`.
  auto freeBytes = [&](BufferId buffer, const std::vector<BufferId> &others) {
    auto rangeOf = [&](BufferId id) {
      int64_t begin = program.buffers[id].offset + rank * program.buffers[id].rankStride;
      return std::pair(begin, begin + program.buffers[id].bytes);
    };
    const int32_t arena = program.buffers[buffer].arena;
    auto [begin, end] = rangeOf(buffer);
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (BufferId other : others)
      if (program.buffers[other].arena == arena)
        if (auto [otherBegin, otherEnd] = rangeOf(other); otherBegin < end && begin < otherEnd)
          taken.push_back({otherBegin, otherEnd});
    std::sort(taken.begin(), taken.end());
    std::vector<PoisonRange> ranges;
    for (auto [takenBegin, takenEnd] : taken) {
      if (takenBegin > begin)
        ranges.push_back({arena, begin, takenBegin - begin});
      begin = std::max(begin, takenEnd);
    }
    if (begin < end)
      ranges.push_back({arena, begin, end - begin});
    return ranges;
  };

  std::vector<BufferId> always;
  for (size_t i = 0; i < longLived.size(); ++i)
    if (longLived[i])
      always.push_back(BufferId(i));
  plan.after.resize(sequence.commands.size());
  std::vector<BufferId> filledBefore = always;
  for (size_t i = 0; i < isInput.size(); ++i)
    if (isInput[i])
      filledBefore.push_back(BufferId(i));
  for (const BufferLife &life : lives) {
    std::vector<BufferId> others = always;
    for (const BufferLife &other : lives)
      if (other.first <= life.last && life.last < other.last)
        others.push_back(other.buffer);
    for (const PoisonRange &range : freeBytes(life.buffer, others))
      plan.after[life.last].push_back(range);
    if (!isInput[life.buffer])
      for (const PoisonRange &range : freeBytes(life.buffer, filledBefore))
        plan.atStart.push_back(range);
  }
  // What a forward plan gives back is read after the sequence.
  for (const Output &output : program.outputs)
    for (const BufferLife &life : lives)
      if (life.buffer == output.buffer)
        plan.after[life.last].clear();
  return plan;
}

} // namespace zopt::runtime
