//===- GraphCapture.cpp - sequences as CUDA graphs ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A sequence that has run once is captured and, from then on, one call.
//
// A graph ends when all of it has ended. Gathers that publish what a step has updated would keep the next step waiting, whose first layers need the first of them only. They stay out of the graph: each
// is issued behind it, waits for its place in it, and is waited for in the graph of the sequence that uses it.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"
#include <algorithm>

namespace zopt::runtime::cuda {

Status CudaExecutor::prepareProgress() {
  Result<void *> word = device->pinned(64);
  if (word.failed())
    return word.getStatus();
  progressWords = static_cast<uint32_t *>(*word);
  progressWords[0] = progressWords[1] = 0;
  // A driver that cannot put such writes into graphs costs messages their precision, and no more.
  const Driver &driver = device->driver;
  CUgraph probe = nullptr;
  ZOPT_CUDA(driver, cuStreamBeginCapture, device->compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  CUresult written = driver.cuStreamWriteValue32(device->compute, CUdeviceptr(reinterpret_cast<uintptr_t>(progressWords)), 0, CU_STREAM_WRITE_VALUE_DEFAULT);
  CUresult ended = driver.cuStreamEndCapture(device->compute, &probe);
  if (probe)
    driver.cuGraphDestroy(probe);
  if (written != CUDA_SUCCESS || ended != CUDA_SUCCESS)
    progressWords = nullptr;
  return success();
}

Status CudaExecutor::replay(PreparedSequence &sequence, size_t index, bool firstMicroStep) {
  const Driver &driver = device->driver;
  CUgraphExec &graph = sequence.graphs[sequence.dependsOnFirst && !firstMicroStep];
  if (!graph) {
    CUgraph captured = nullptr;
    // Other ranks may be threads of this process, which go on with calls that a capture forbids.
    ZOPT_CUDA(driver, cuStreamBeginCapture, device->compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    isCapturing = true;
    Status issued = issue(sequence, index, firstMicroStep, /*waits=*/false);
    isCapturing = false;
    CUresult code = driver.cuStreamEndCapture(device->compute, &captured);
    ZOPT_RETURN_IF_FAILED(issued);
    if (code != CUDA_SUCCESS)
      return driver.error("cuStreamEndCapture", code);
    // Messages keep their stream's priority inside the graph.
    code = driver.cuGraphInstantiate(&graph, captured, CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
    driver.cuGraphDestroy(captured);
    if (code != CUDA_SUCCESS) {
      graph = nullptr;
      return driver.error("cuGraphInstantiate", code);
    }
  }
  ZOPT_CUDA(driver, cuGraphLaunch, graph, device->compute);
  return issueContinued(sequence);
}

bool CudaExecutor::overlap(BufferId a, BufferId b) const {
  const Buffer &x = program.buffers[a], &y = program.buffers[b];
  return x.arena == y.arena && offsetOf(a) < offsetOf(b) + y.bytes && offsetOf(b) < offsetOf(a) + x.bytes;
}

Status CudaExecutor::continueGathers() {
  std::vector<std::vector<std::vector<BufferAccess>>> accesses(sequences.size()); // of every command
  for (size_t s = 0; s < sequences.size(); ++s)
    for (const Prepared &prepared : sequences[s].commands)
      accesses[s].push_back(accessesOf(program, *prepared.command));
  auto touches = [&](size_t sequence, size_t command, BufferId buffer) {
    const std::vector<BufferAccess> &all = accesses[sequence][command];
    return std::any_of(all.begin(), all.end(), [&](const BufferAccess &access) { return overlap(access.buffer, buffer); });
  };
  for (size_t s = 0; s < sequences.size(); ++s)
    for (size_t i = 0; i < sequences[s].commands.size(); ++i) {
      std::vector<Prepared> &commands = sequences[s].commands;
      Prepared &gather = commands[i], *wait = nullptr;
      if (gather.command->kind != Command::Kind::AllGather)
        continue;
      const BufferId destination = gather.command->buffers[1];
      bool needed = false;
      for (size_t j = i + 1; j < commands.size() && !needed; ++j)
        if (commands[j].command->kind == Command::Kind::Wait && commands[j].awaited == gather.done)
          wait = &commands[j];
        else
          needed = touches(s, j, destination);
      if (needed || !wait)
        continue;
      Result<CUevent> event = device->event();
      if (event.failed())
        return event.getStatus();
      gather.ready = *event;
      gather.continues = wait->continues = true;
      sequences[s].continued.push_back(i);
      continuedInto.push_back(destination);
      auto awaitIn = [&](size_t other) {
        std::vector<Prepared> &commands = sequences[other].commands;
        size_t user = 0;
        while (user < commands.size() && !touches(other, user, destination))
          ++user;
        if (user < commands.size())
          commands[user].firstUses.push_back(gather.done);
        return user < commands.size();
      };
      bool everyStep = false;
      for (size_t other = 0; other < sequences.size(); ++other)
        if (other != s)
          everyStep |= awaitIn(other) && program.sequences[other].name == "micro_step";
      if (!everyStep)
        awaitIn(s);
    }
  return success();
}

} // namespace zopt::runtime::cuda
