//===- GraphCapture.cpp - sequences as CUDA graphs ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A sequence that has run once is captured and, from then on, one call.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"

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
  return success();
}

} // namespace zopt::runtime::cuda
