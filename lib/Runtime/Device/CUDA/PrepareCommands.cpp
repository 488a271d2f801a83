//===- PrepareCommands.cpp - commands as launches, with their addresses ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Once, before the first step: a step makes no choice and asks for no memory.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

namespace zopt::runtime::cuda {

static bool isSet(const char *variable, bool otherwise) {
  const char *text = std::getenv(variable);
  return text && *text ? std::strcmp(text, "0") != 0 : otherwise;
}

Status CudaExecutor::prepareCommands() {
  ZOPT_RETURN_IF_FAILED(prepareSlots());
  everyCommand = isSet("ZOPT_CUDA_SYNC", false);
  graphs = isSet("ZOPT_CUDA_GRAPH", true) && !options.poison && !everyCommand;
  std::vector<bool> isInput(program.buffers.size()), isResult(program.buffers.size());
  for (const Input &input : program.inputs)
    isInput[input.buffer] = true;
  for (const State *state : resultStates)
    if (state)
      isResult[state->buffer] = true;
  sequences.resize(program.sequences.size());
  for (size_t s = 0; s < program.sequences.size(); ++s) {
    const Sequence &sequence = program.sequences[s];
    PreparedSequence &prepared = sequences[s];
    prepared.commands.resize(sequence.commands.size());
    std::map<int64_t, CUevent> open; // of the collectives in flight
    for (size_t i = 0; i < sequence.commands.size(); ++i) {
      const Command &command = sequence.commands[i];
      ZOPT_RETURN_IF_FAILED(prepareCommand(command, prepared.commands[i]).in(command.location));
      for (const BufferAccess &access : accessesOf(program, command)) {
        if (isInput[access.buffer])
          prepared.inputsRead = i + 1;
        prepared.writesResults |= access.writes && isResult[access.buffer];
      }
      prepared.hasNorm |= command.kind == Command::Kind::GradientNorm;
      prepared.dependsOnFirst |= (command.kind == Command::Kind::Zero && command.firstMicroStep) || (command.kind == Command::Kind::ReduceScatter && command.accumulate);
      prepared.hasCollectives |= isCollective(command.kind) || command.kind == Command::Kind::ParameterNorms || command.kind == Command::Kind::AllReduceScalars || command.kind == Command::Kind::GradientNorm;
      if (isCollective(command.kind)) {
        open[command.id] = prepared.commands[i].done;
        marked.push_back({&command, &sequence.name, streamOf(command) == device->reductions});
        prepared.commands[i].mark = uint32_t(marked.size());
      }
      if (command.kind == Command::Kind::Wait)
        prepared.commands[i].awaited = open[command.id];
    }
    if (options.poison)
      prepared.poison = planPoison(program, sequence, communicator.rank());
  }
  if (graphs && !collectives->needsHost())
    ZOPT_RETURN_IF_FAILED(continueGathers());
  return synchronize();
}

Status CudaExecutor::makeCall(int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end, std::unique_ptr<DeviceCall> &made) {
  const Kernel &description = program.kernels[kernel];
  made = std::make_unique<DeviceCall>();
  made->function = functions[size_t(kernel)];
  made->pointers = std::move(pointers);
  made->begin = begin;
  made->end = end;
  int64_t blocks = (end - begin + description.blockIterations - 1) / description.blockIterations;
  if (blocks < 0 || blocks > 0x7fffffff)
    return inputError("kernel '", description.symbol, "' needs ", blocks, " blocks, which is more than a grid holds");
  made->blocks = unsigned(blocks);
  made->threads = unsigned(description.blockThreads);
  made->sharedBytes = unsigned(description.sharedBytes);
  return success();
}

/// Of a kernel whose blocks of threads share its iterations out: four run on a multiprocessor at a time. Where there is enough for each, more of them make up for multiprocessors that are slower.
void CudaExecutor::limitBlocks(DeviceCall &call, int64_t enough) const {
  constexpr int64_t kLeastShares = 4, kMostShares = 16;
  call.blocks = std::min(call.blocks, unsigned(std::clamp((call.end - call.begin) / enough, kLeastShares * device->multiprocessors, kMostShares * device->multiprocessors)));
}

/// Blocks of 128 elements that are worth a block of threads in a norm, and that its digits count at most; the first in an update.
static constexpr int64_t kNormShare = 2048, kMostNormShare = int64_t(1) << 19, kUpdateShare = 64;

/// One launch for each kernel and sum (of slices, which the ranks add up; of whole gradients), over the gradients of all buckets, which the workspace lists; then the norm of both sums.
Status CudaExecutor::prepareNorm(const Command &command, Prepared &prepared) {
  auto call = [&](int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end) { return makeCall(kernel, std::move(pointers), begin, end, prepared.calls.emplace_back()); };
  const CUdeviceptr list = prepared.pointers[0], words = prepared.pointers[2];
  CUdeviceptr first = ~CUdeviceptr(0);
  std::map<std::pair<int32_t, bool>, std::vector<const Bucket *>> kinds;
  for (size_t i = 0; i < command.buckets.size(); ++i) {
    const Bucket &bucket = program.buckets[command.buckets[i]];
    kinds[{command.kernels[i], bucket.gradientWhole}].push_back(&bucket);
    first = std::min(first, address(bucket.gradient));
  }
  std::vector<int64_t> ranges;
  int64_t end = 0;
  for (auto &[kind, buckets] : kinds) {
    const int64_t begin = end;
    for (const Bucket *bucket : buckets) {
      const int64_t offset = int64_t(address(bucket->gradient) - first) / sizeOf(bucket->gradientType), blocks = (bucket->gradientWhole ? bucket->paddedElements : bucket->sliceElements) / kUpdateBlock;
      ranges.insert(ranges.end(), {offset, end, end + blocks});
      end += blocks;
    }
    ZOPT_RETURN_IF_FAILED(call(kind.first, {first, list, words + (kind.second ? ExactSum::kWords * sizeof(int64_t) : 0)}, begin, end));
    DeviceCall &made = *prepared.calls.back();
    limitBlocks(made, kNormShare);
    made.blocks = std::max(made.blocks, unsigned((end - begin) / kMostNormShare + 1));
  }
  ZOPT_RETURN_IF_FAILED(upload(command.buffers[0], command.byteOffsets.empty() ? 0 : command.byteOffsets[0], ranges.data(), int64_t(ranges.size() * sizeof(int64_t))));
  return call(command.kernels.back(), {words, prepared.pointers[1]}, 0, 1);
}

/// What a library made, into its place.
template <typename Made>
static Status keep(Result<std::unique_ptr<Made>> made, std::unique_ptr<Made> &place) {
  if (made.failed())
    return made.getStatus();
  place = std::move(*made);
  return success();
}

int64_t CudaExecutor::scratchBytes(const Command &command, size_t index) const {
  if (index >= command.buffers.size() || command.buffers[index] < 0)
    return 0;
  return program.buffers[command.buffers[index]].bytes -
         (index < command.byteOffsets.size() ? command.byteOffsets[index] : 0);
}

Status CudaExecutor::prepareCommand(const Command &command, Prepared &prepared) {
  prepared.command = &command;
  for (size_t i = 0; i < command.buffers.size(); ++i) {
    int64_t offset = i < command.byteOffsets.size() ? command.byteOffsets[i] : 0;
    prepared.pointers.push_back(command.buffers[i] < 0 ? 0 : address(command.buffers[i]) + uint64_t(offset));
  }
  prepared.collective = {command.id, command.location};
  auto call = [&](int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end) {
    return makeCall(kernel, std::move(pointers), begin, end, prepared.calls.emplace_back());
  };

  switch (command.kind) {
  case Command::Kind::Launch:
    ZOPT_RETURN_IF_FAILED(call(command.kernel, prepared.pointers, 0, command.extent));
    break;
  case Command::Kind::Matmul:
    prepared.pointers.resize(kAddendBuffer + 1, 0);
    ZOPT_RETURN_IF_FAILED(keep(createMatmul(*libraries, command, scratchBytes(command, 4)), prepared.matmul));
    break;
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad:
    if (command.ownKernels) {
      ZOPT_RETURN_IF_FAILED(keep(attentionGradients->prepare(command, prepared.pointers.data(), scratchBytes(command, command.buffers.size() - 1)), prepared.attention));
      break;
    }
    ZOPT_RETURN_IF_FAILED(keep(createAttention(*libraries, command, scratchBytes(command, command.buffers.size() - 1)),
                               prepared.attention));
    break;
  case Command::Kind::Convolution:
    ZOPT_RETURN_IF_FAILED(keep(createConvolution(*libraries, command, scratchBytes(command, 4)), prepared.convolution));
    break;
  case Command::Kind::AllGather:
  case Command::Kind::ReduceScatter:
  case Command::Kind::AllReduce: {
    Result<CUevent> event = device->event();
    if (event.failed())
      return event.getStatus();
    prepared.done = *event;
    break;
  }
  case Command::Kind::GradientNorm:
    ZOPT_RETURN_IF_FAILED(prepareNorm(command, prepared));
    break;
  case Command::Kind::ParameterNorms:
  case Command::Kind::Update: {
    UpdatePlan plan = planUpdate(program, command, communicator.rank());
    const bool measures = command.kind == Command::Kind::ParameterNorms;
    const Bucket &bucket = program.buckets[command.buckets[0]];
    const uint64_t width = uint64_t(sizeOf(bucket.masterType)), wordBytes = ExactSum::kWords * sizeof(int64_t);
    // Sums of the blocks, or a segment's norms.
    auto normOf = [&](size_t segment, int half) {
      return measures ? address(command.norms[1]) + uint64_t(half * program.buffers[command.norms[1]].bytes / 2) : address(command.norms[0]) + (2 * segment + uint64_t(half)) * width;
    };
    std::vector<CUdeviceptr> arguments;
    for (auto [buffer, offset] : plan.arrays)
      arguments.push_back(address(buffer) + uint64_t(offset));
    for (const UpdateRun &run : plan.runs) {
      std::vector<CUdeviceptr> pointers = arguments;
      if (!command.norms.empty())
        pointers.insert(pointers.end(), {normOf(run.segment, 0), normOf(run.segment, 1)});
      const std::vector<CUdeviceptr> scalars = scalarsOf(command, prepared.pointers);
      pointers.insert(pointers.end(), scalars.begin(), scalars.end());
      ZOPT_RETURN_IF_FAILED(call(command.kernel, pointers, run.begin, run.end));
      if (!measures)
        limitBlocks(*prepared.calls.back(), kUpdateShare);
      for (double scalar : run.scalars)
        storeDouble(bucket.masterType, &prepared.calls.back()->scalars.emplace_back(), 0, scalar);
    }
    if (!measures)
      break;
    // The blocks of a segment are added to two sums; a norm is that of a sum and of another, which is 0.
    const CUdeviceptr words = address(command.norms[2]);
    for (const UpdateRun &run : plan.runs)
      for (int half = 0; half < 2; ++half)
        ZOPT_RETURN_IF_FAILED(call(command.kernels[0], {normOf(run.segment, half), words + (4 * run.segment + 2 * uint64_t(half)) * wordBytes}, run.begin, run.end));
    prepared.summed = prepared.calls.size();
    for (size_t i = 0; i < 2 * command.decays.size(); ++i)
      ZOPT_RETURN_IF_FAILED(call(command.kernels[1], {words + 2 * i * wordBytes, address(command.norms[0]) + i * width}, 0, 1));
    break;
  }
  default:
    break;
  }
  for (std::unique_ptr<DeviceCall> &made : prepared.calls) {
    for (CUdeviceptr &pointer : made->pointers)
      made->parameters.push_back(&pointer);
    for (double &scalar : made->scalars)
      made->parameters.push_back(&scalar);
    made->parameters.push_back(&made->begin);
    made->parameters.push_back(&made->end);
  }
  return success();
}

} // namespace zopt::runtime::cuda
