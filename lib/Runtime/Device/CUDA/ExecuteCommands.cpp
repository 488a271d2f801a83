//===- ExecuteCommands.cpp - issues commands on their streams -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Nothing here waits for the device but what observes a gradient.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <algorithm>
#include <utility>

namespace zopt::runtime::cuda {

Status CudaExecutor::order(CUstream first, CUstream then, CUevent event) {
  ZOPT_CUDA(device->driver, cuEventRecord, event, first);
  ZOPT_CUDA(device->driver, cuStreamWaitEvent, then, event, CU_EVENT_WAIT_DEFAULT);
  return success();
}

template <typename Body>
Status CudaExecutor::onStream(CUstream stream, CUevent done, uint32_t mark, Body body) {
  ZOPT_RETURN_IF_FAILED(order(device->compute, stream, fork));
  return inStream(stream, done, mark, body);
}

template <typename Body>
Status CudaExecutor::inStream(CUstream stream, CUevent done, uint32_t mark, Body body) {
  ZOPT_RETURN_IF_FAILED(body(stream));
  if (mark && progressWords)
    ZOPT_CUDA(device->driver, cuStreamWriteValue32, stream, CUdeviceptr(reinterpret_cast<uintptr_t>(progressWords + marked[mark - 1].word)), mark, CU_STREAM_WRITE_VALUE_DEFAULT);
  ZOPT_CUDA(device->driver, cuEventRecord, done, stream);
  return success();
}

Status CudaExecutor::launch(const DeviceCall &call) {
  if (call.blocks == 0)
    return success();
  ZOPT_CUDA(device->driver, cuLaunchKernel, call.function, call.blocks, 1, 1, call.threads, 1, 1, call.sharedBytes, device->compute, const_cast<void **>(call.parameters.data()), nullptr);
  return success();
}

Status CudaExecutor::poison(const std::vector<PoisonRange> &ranges) {
  for (const PoisonRange &range : ranges)
    if (range.bytes > 0)
      ZOPT_CUDA(device->driver, cuMemsetD8Async, arenas[range.arena] + uint64_t(range.begin), kPoison, size_t(range.bytes), device->compute);
  return success();
}

Status CudaExecutor::execute(Prepared &prepared, bool firstMicroStep) {
  for (CUevent gathered : prepared.firstUses)
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, gathered, isCapturing ? CU_EVENT_WAIT_EXTERNAL : CU_EVENT_WAIT_DEFAULT);
  const Command &command = *prepared.command;
  const std::vector<CUdeviceptr> &pointers = prepared.pointers;
  const Driver &driver = device->driver;
  switch (command.kind) {
  case Command::Kind::Launch:
  case Command::Kind::Update:
    for (const std::unique_ptr<DeviceCall> &call : prepared.calls)
      ZOPT_RETURN_IF_FAILED(launch(*call));
    return success();
  case Command::Kind::ParameterNorms:
    return sumParameterNorms(prepared);
  case Command::Kind::Matmul:
    return prepared.matmul->run(device->compute, pointers.data());
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad:
    return prepared.attention->run(device->compute, pointers.data());
  case Command::Kind::Convolution:
    return prepared.convolution->run(device->compute, pointers.data());
  case Command::Kind::Copy: {
    // The driver copies in no particular order: ranges that overlap move in pieces as long as their distance, from the end that is not overwritten.
    const int64_t distance = pointers[0] > pointers[1] ? int64_t(pointers[0] - pointers[1]) : int64_t(pointers[1] - pointers[0]);
    if (distance == 0 || command.bytes == 0)
      return success();
    const int64_t piece = std::min(distance, command.bytes), pieces = (command.bytes + piece - 1) / piece;
    for (int64_t i = 0; i < pieces; ++i) {
      int64_t at = (pointers[1] < pointers[0] ? i : pieces - 1 - i) * piece;
      ZOPT_CUDA(driver, cuMemcpyDtoDAsync, pointers[1] + uint64_t(at), pointers[0] + uint64_t(at), size_t(std::min(piece, command.bytes - at)), device->compute);
    }
    return success();
  }
  case Command::Kind::Zero:
    if ((!command.firstMicroStep || firstMicroStep) && command.bytes > 0)
      ZOPT_CUDA(driver, cuMemsetD8Async, pointers[0], 0, size_t(command.bytes), device->compute);
    return success();
  case Command::Kind::AllGather:
  case Command::Kind::ReduceScatter:
  case Command::Kind::AllReduce:
    return startCollective(prepared, firstMicroStep);
  case Command::Kind::AllReduceScalars:
    ZOPT_RETURN_IF_FAILED(onStream(device->exchange, fork, 0, [&](CUstream stream) { return collectives->allReduceScalars(command.location, stream, pointers[0], pointers[1], command.elements, command.type); }));
    ZOPT_CUDA(driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
    return success();
  case Command::Kind::Wait:
    ZOPT_CUDA(driver, cuStreamWaitEvent, device->compute, prepared.awaited, CU_EVENT_WAIT_DEFAULT);
    return success();
  case Command::Kind::GradientNorm:
    return computeNorm(prepared);
  }
  return success();
}

Status CudaExecutor::startCollective(Prepared &prepared, bool firstMicroStep) {
  const Command &command = *prepared.command;
  const std::vector<CUdeviceptr> &pointers = prepared.pointers;
  return onStream(streamOf(command), prepared.done, prepared.mark, [&](CUstream stream) {
    if (command.kind == Command::Kind::AllGather)
      return collectives->allGather(prepared.collective, stream, pointers[0], pointers[1], command.bytes);
    if (command.kind == Command::Kind::ReduceScatter)
      return collectives->reduceScatter(prepared.collective, stream, pointers[0], command.type, pointers[1], command.destinationType, pointers[2], command.elements, command.accumulate && !firstMicroStep);
    return collectives->allReduce(prepared.collective, stream, pointers[0], command.type, pointers[1], command.elements);
  });
}

Status CudaExecutor::issueContinued(PreparedSequence &sequence) {
  for (size_t index : sequence.continued) {
    Prepared &gather = sequence.commands[index];
    auto body = [&](CUstream stream) { return collectives->allGather(gather.collective, stream, gather.pointers[0], gather.pointers[1], gather.command->bytes); };
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->exchange, gather.ready, CU_EVENT_WAIT_DEFAULT);
    ZOPT_RETURN_IF_FAILED(inStream(device->exchange, gather.done, gather.mark, body).in(gather.command->location));
    continuing = gather.done;
  }
  return success();
}

Status CudaExecutor::awaitContinued(BufferId buffer) {
  if (continuing && std::any_of(continuedInto.begin(), continuedInto.end(), [&](BufferId each) { return overlap(buffer, each); }))
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, std::exchange(continuing, nullptr), CU_EVENT_WAIT_DEFAULT);
  return success();
}

Status CudaExecutor::computeNorm(Prepared &prepared) {
  const Command &command = *prepared.command;
  const CUdeviceptr words = prepared.pointers[2]; // 0, as the last norm left them
  for (size_t i = 0; i + 1 < prepared.calls.size(); ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  bool anySliced = false;
  for (int32_t bucket : command.buckets)
    anySliced |= !program.buckets[bucket].gradientWhole;
  if (anySliced && communicator.size() > 1) {
    ZOPT_RETURN_IF_FAILED(onStream(device->exchange, fork, 0, [&](CUstream stream) { return collectives->allReduceIntegers(command.location, stream, words, ExactSum::kWords); }));
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
  }
  ZOPT_RETURN_IF_FAILED(launch(*prepared.calls.back()));
  if (!gradientObserver)
    return success();
  ZOPT_RETURN_IF_FAILED(synchronize());
  return gradientObserver();
}

Status CudaExecutor::sumParameterNorms(Prepared &prepared) {
  const Command &command = *prepared.command;
  const CUdeviceptr words = address(command.norms[2]);
  const int64_t count = 4 * int64_t(command.decays.size()) * ExactSum::kWords;
  ZOPT_CUDA(device->driver, cuMemsetD8Async, words, 0, size_t(count) * sizeof(int64_t), device->compute);
  for (size_t i = 0; i < prepared.summed; ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  if (program.buckets[command.buckets[0]].optimizerSharded && communicator.size() > 1) {
    ZOPT_RETURN_IF_FAILED(onStream(device->exchange, fork, 0, [&](CUstream stream) { return collectives->allReduceIntegers(command.location, stream, words, count); }));
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
  }
  for (size_t i = prepared.summed; i < prepared.calls.size(); ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  return success();
}

} // namespace zopt::runtime::cuda
