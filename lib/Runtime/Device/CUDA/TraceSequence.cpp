//===- TraceSequence.cpp - a sequence with the times of its commands ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// By CUPTI where there is one; otherwise between two events each, on the device's clock, which is set against the host's
// before every sequence.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"

namespace zopt::runtime::cuda {

Status CudaExecutor::issueTraced(PreparedSequence &sequence, size_t index, bool firstMicroStep) {
  if (!isTracing) {
    isTracing = true;
    ZOPT_RETURN_IF_FAILED(synchronize());
    activities = recordDeviceActivities();
  }
  if (!activities)
    return issueBetweenEvents(sequence, index, firstMicroStep);
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    Prepared &prepared = sequence.commands[i];
    ZOPT_RETURN_IF_FAILED(activities->enter());
    Status issued = execute(prepared, firstMicroStep).in(prepared.command->location);
    ZOPT_RETURN_IF_FAILED(activities->leave());
    ZOPT_RETURN_IF_FAILED(issued);
    tracedCommands.push_back(prepared.command);
    ZOPT_RETURN_IF_FAILED(passed(sequence, index, i));
  }
  return success();
}

Status CudaExecutor::endTrace() {
  isTracing = false;
  std::vector<ExecutedCommand> *executed = std::exchange(trace, nullptr);
  if (!activities)
    return success();
  std::unique_ptr<DeviceActivities> recorded = std::move(activities);
  std::vector<const Command *> commands = std::exchange(tracedCommands, {});
  ZOPT_RETURN_IF_FAILED(synchronize());
  std::vector<DeviceActivities::Span> spans;
  if (Status status = recorded->end(spans); status.failed())
    return failed(status);
  for (size_t i = 0; executed && i < commands.size(); ++i)
    if (spans[i].end > 0)
      executed->push_back({commands[i], spans[i].begin, spans[i].end, /*ended=*/true});
  return success();
}

Status CudaExecutor::issueBetweenEvents(PreparedSequence &sequence, size_t index, bool firstMicroStep) {
  const Driver &driver = device->driver;
  while (traceEvents.size() < 2 * sequence.commands.size() + 1) {
    Result<CUevent> event = device->event(/*timing=*/true);
    if (event.failed())
      return event.getStatus();
    traceEvents.push_back(*event);
  }
  // The device's clock against the host's, where nothing else runs.
  ZOPT_RETURN_IF_FAILED(synchronize());
  CUevent origin = traceEvents.back();
  ZOPT_CUDA(driver, cuEventRecord, origin, device->compute);
  ZOPT_RETURN_IF_FAILED(device->await(origin));
  const int64_t originTime = steadyNanoseconds();
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    Prepared &prepared = sequence.commands[i];
    const bool elsewhere = isCollective(prepared.command->kind);
    CUstream stream = elsewhere ? streamOf(*prepared.command) : device->compute;
    if (elsewhere)
      ZOPT_RETURN_IF_FAILED(order(device->compute, stream, fork));
    ZOPT_CUDA(driver, cuEventRecord, traceEvents[2 * i], stream);
    ZOPT_RETURN_IF_FAILED(execute(prepared, firstMicroStep).in(prepared.command->location));
    ZOPT_CUDA(driver, cuEventRecord, traceEvents[2 * i + 1], stream);
    ZOPT_RETURN_IF_FAILED(passed(sequence, index, i));
  }
  ZOPT_RETURN_IF_FAILED(synchronize());
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    float begin = 0, end = 0; // milliseconds
    ZOPT_CUDA(driver, cuEventElapsedTime, &begin, origin, traceEvents[2 * i]);
    ZOPT_CUDA(driver, cuEventElapsedTime, &end, origin, traceEvents[2 * i + 1]);
    trace->push_back({sequence.commands[i].command, originTime + int64_t(double(begin) * 1e6), originTime + int64_t(double(end) * 1e6), /*ended=*/true});
  }
  return success();
}

} // namespace zopt::runtime::cuda
