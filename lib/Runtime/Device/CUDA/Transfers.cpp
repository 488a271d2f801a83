//===- Transfers.cpp - what goes in and out of a device -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Through pinned memory that is taken once: batches are written while the step before runs, results of a step are told while the next runs, states travel in blocks.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <cstring>
#include <iterator>

namespace zopt::runtime::cuda {

static constexpr const char *kResults[] = {"zopt.loss", "zopt.norm", "zopt.finite", "zopt.loss_scale", "zopt.loss_scale_exhausted"};

Status CudaExecutor::makeSlot(Slot &slot, int64_t bytes) {
  Result<void *> block = device->pinned(bytes);
  if (block.failed())
    return block.getStatus();
  Result<CUevent> event = device->event();
  if (event.failed())
    return event.getStatus();
  slot.data = static_cast<char *>(*block);
  slot.event = *event;
  return success();
}

Status CudaExecutor::prepareSlots() {
  for (Slot &slot : transfers)
    ZOPT_RETURN_IF_FAILED(makeSlot(slot, kTransferBytes));
  int64_t inputBytes = 0;
  std::vector<int64_t> offsets;
  for (const Input &input : program.inputs) {
    offsets.push_back(inputBytes);
    inputBytes += (elementCount(input.shape) * sizeOf(input.type) + 63) / 64 * 64;
  }
  inputAddresses.resize(kInputSlots);
  for (int i = 0; i < kInputSlots; ++i) {
    ZOPT_RETURN_IF_FAILED(makeSlot(inputSlots[i], inputBytes));
    for (int64_t offset : offsets)
      inputAddresses[size_t(i)].push_back(inputSlots[i].data + offset);
  }
  for (Slot &slot : resultSlots)
    ZOPT_RETURN_IF_FAILED(makeSlot(slot, int64_t(std::size(kResults) + termStates.size()) * 8));
  for (const char *name : kResults)
    resultStates.push_back(stateWithBuffer(name));
  resultStates.insert(resultStates.end(), termStates.begin(), termStates.end());
  for (CUevent *made : {&fork, &inputsFree}) {
    Result<CUevent> event = device->event();
    if (event.failed())
      return event.getStatus();
    *made = *event;
  }
  if (communicator.size() > 1 && !collectives->needsHost())
    return prepareProgress();
  return success();
}

Result<void *const *> CudaExecutor::inputs() {
  Slot &slot = inputSlots[inputSlot];
  if (slot.used && !inputsWritten)
    if (Status status = device->await(slot.event); status.failed())
      return failed(status);
  inputsWritten = true;
  return inputAddresses[size_t(inputSlot)].data();
}

/// While the step before still runs, once that has read its own.
Status CudaExecutor::copyInputs() {
  Slot &slot = inputSlots[inputSlot];
  ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->uploads, inputsFree, CU_EVENT_WAIT_DEFAULT);
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const Input &input = program.inputs[i];
    ZOPT_CUDA(device->driver, cuMemcpyHtoDAsync, address(input.buffer), inputAddresses[size_t(inputSlot)][i], size_t(elementCount(input.shape) * sizeOf(input.type)), device->uploads);
  }
  ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->uploads);
  ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, slot.event, CU_EVENT_WAIT_DEFAULT);
  slot.used = true;
  inputSlot = (inputSlot + 1) % kInputSlots;
  inputsWritten = false;
  return success();
}

Status CudaExecutor::finishStep(std::optional<StepResult> &result) {
  result.reset();
  auto copyOut = [&]() -> Status {
    Slot &slot = resultSlots[stepsIssued % kResultSlots];
    ZOPT_RETURN_IF_FAILED(order(device->compute, device->copies, fork));
    for (size_t i = 0; i < resultStates.size(); ++i)
      if (const State *state = resultStates[i])
        ZOPT_CUDA(device->driver, cuMemcpyDtoHAsync, slot.data + 8 * i, address(state->buffer), size_t(sizeOf(state->type)), device->copies);
    ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->copies);
    ++stepsIssued;
    return success();
  };
  if (Status status = copyOut(); status.failed())
    return failed(status);
  return stepsIssued - stepsTold < kResultSlots ? success() : awaitResult(result);
}

Status CudaExecutor::lastResult(std::optional<StepResult> &result) {
  result.reset();
  if (stepsTold < stepsIssued)
    ZOPT_RETURN_IF_FAILED(awaitResult(result));
  return synchronize();
}

Status CudaExecutor::awaitResult(std::optional<StepResult> &result) {
  Slot &slot = resultSlots[stepsTold % kResultSlots];
  if (Status status = device->await(slot.event); status.failed())
    return failed(status);
  ++stepsTold;
  result.emplace();
  double *values[] = {&result->loss, &result->norm, &result->finite, &result->lossScale, &result->lossScaleExhausted};
  result->terms.resize(termStates.size());
  for (size_t i = 0; i < resultStates.size(); ++i)
    if (resultStates[i])
      (i < std::size(kResults) ? *values[i] : result->terms[i - std::size(kResults)]) = loadAsDouble(resultStates[i]->type, slot.data + 8 * i, 0);
  return success();
}

CudaExecutor::Slot &CudaExecutor::nextBlock() {
  Slot &slot = transfers[nextTransfer];
  nextTransfer = (nextTransfer + 1) % kTransferBlocks;
  return slot;
}

Status CudaExecutor::awaitBlock(const Slot &slot) { return slot.used ? device->await(slot.event) : success(); }

Status CudaExecutor::markBlock(Slot &slot) {
  ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->compute);
  slot.used = true;
  return success();
}

Status CudaExecutor::upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) {
  auto copy = [&]() -> Status {
    ZOPT_RETURN_IF_FAILED(awaitContinued(buffer));
    for (int64_t done = 0; done < bytes; done += kTransferBytes) {
      int64_t size = std::min(kTransferBytes, bytes - done);
      Slot &slot = nextBlock();
      ZOPT_RETURN_IF_FAILED(awaitBlock(slot));
      parallelFor(threads(), size, kTransferBytes / 4, [&](int64_t begin, int64_t end) {
        std::memcpy(slot.data + begin, static_cast<const char *>(source) + done + begin, size_t(end - begin));
      });
      ZOPT_CUDA(device->driver, cuMemcpyHtoDAsync, address(buffer) + uint64_t(byteOffset + done), slot.data, size_t(size), device->compute);
      ZOPT_RETURN_IF_FAILED(markBlock(slot));
    }
    return success();
  };
  Status status = copy();
  return status.failed() ? failed(status) : success();
}

Status CudaExecutor::download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) {
  auto copy = [&]() -> Status {
    ZOPT_RETURN_IF_FAILED(awaitContinued(buffer));
    // One block travels while another is copied out.
    struct Piece {
      Slot *slot;
      int64_t at, size;
    };
    std::vector<Piece> onTheWay;
    auto take = [&]() -> Status {
      Piece piece = onTheWay.front();
      onTheWay.erase(onTheWay.begin());
      ZOPT_RETURN_IF_FAILED(device->await(piece.slot->event));
      std::memcpy(static_cast<char *>(destination) + piece.at, piece.slot->data, size_t(piece.size));
      return success();
    };
    for (int64_t done = 0; done < bytes; done += kTransferBytes) {
      int64_t size = std::min(kTransferBytes, bytes - done);
      Slot &slot = nextBlock();
      // An upload from this block may be under way; a download is not, because fewer than all blocks are.
      ZOPT_RETURN_IF_FAILED(awaitBlock(slot));
      ZOPT_CUDA(device->driver, cuMemcpyDtoHAsync, slot.data, address(buffer) + uint64_t(byteOffset + done), size_t(size), device->compute);
      ZOPT_RETURN_IF_FAILED(markBlock(slot));
      onTheWay.push_back({&slot, done, size});
      if (onTheWay.size() == 2)
        ZOPT_RETURN_IF_FAILED(take());
    }
    while (!onTheWay.empty())
      ZOPT_RETURN_IF_FAILED(take());
    return success();
  };
  Status status = copy();
  return status.failed() ? failed(status) : success();
}

Status CudaExecutor::zero(BufferId buffer, int64_t byteOffset, int64_t bytes) {
  if (bytes == 0)
    return success();
  if (Status status = awaitContinued(buffer); status.failed())
    return failed(status);
  if (CUresult code = device->driver.cuMemsetD8Async(address(buffer) + uint64_t(byteOffset), 0, size_t(bytes), device->compute); code != CUDA_SUCCESS)
    return failed(device->driver.error("cuMemsetD8Async", code));
  return success();
}

} // namespace zopt::runtime::cuda
