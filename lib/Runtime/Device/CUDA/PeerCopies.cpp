//===- PeerCopies.cpp - data between GPUs by their copy engines -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PeerCopies.h"
#include <algorithm>
#include <cstring>
#include <functional>
#include <unistd.h>

namespace zopt::runtime::cuda {

namespace {

/// The words have a block of the driver's to themselves: it shares whole ones.
constexpr int64_t kWordsBytes = int64_t(2) << 20;
/// As many bytes of every area are compared once they are mapped.
constexpr int64_t kMarkBytes = 16;

struct Export {
  CUipcMemHandle handle;
  int64_t bytes;
};

CUstreamBatchMemOpParams waitFor(CUdeviceptr address) {
  CUstreamBatchMemOpParams operation{};
  operation.waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
  operation.waitValue.address = address;
  operation.waitValue.value = 1;
  operation.waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
  return operation;
}

CUstreamBatchMemOpParams writeTo(CUdeviceptr address, uint32_t value) {
  CUstreamBatchMemOpParams operation{};
  operation.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
  operation.writeValue.address = address;
  operation.writeValue.value = value;
  operation.writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
  return operation;
}

} // namespace

PeerCopies::PeerCopies(DeviceContext &device, Communicator &host)
    : device(device), host(host), world(host.size()), rank(host.rank()) {}

PeerCopies::~PeerCopies() {
  if (device.broken)
    return;
  for (Area &area : areas)
    for (CUdeviceptr mapped : area.mapped)
      if (mapped)
        device.driver.cuIpcCloseMemHandle(mapped);
  if (words)
    device.driver.uncountedMemFree(words);
}

Result<std::unique_ptr<PeerCopies>> PeerCopies::create(DeviceContext &device, Communicator &communicator,
                                                       const std::vector<CUdeviceptr> &arenas, const Program &program,
                                                       std::string &reason) {
  std::unique_ptr<PeerCopies> made(new PeerCopies(device, communicator));
  made->areas.resize(1 + arenas.size());
  for (size_t i = 0; i < arenas.size(); ++i) {
    made->areas[1 + i].own = arenas[i];
    made->areas[1 + i].bytes = program.arenas[i].bytes;
  }
  Status mine = made->probe();
  // What the others need: the machine's name, and what opens each area.
  constexpr size_t kHeader = 64;
  const size_t stride = kHeader + made->areas.size() * sizeof(Export);
  std::vector<char> own(stride), all(stride * size_t(made->world));
  gethostname(own.data(), kHeader - 1);
  for (size_t i = 0; i < made->areas.size(); ++i) {
    Export shared{};
    shared.bytes = made->areas[i].bytes;
    if (mine.succeeded() && made->areas[i].own)
      if (CUresult code = device.driver.cuIpcGetMemHandle(&shared.handle, made->areas[i].own); code != CUDA_SUCCESS)
        mine = device.driver.error("cuIpcGetMemHandle", code);
    std::memcpy(own.data() + kHeader + i * sizeof shared, &shared, sizeof shared);
  }
  ZOPT_RETURN_IF_FAILED(communicator.allGatherNow("peer copies", own.data(), all.data(), int64_t(stride)));
  for (int peer = 0; peer < made->world; ++peer)
    if (std::strncmp(all.data() + size_t(peer) * stride, all.data(), kHeader) != 0)
      return std::unique_ptr<PeerCopies>(); // on several hosts nothing else was to be expected
  ZOPT_RETURN_IF_FAILED(made->consent(mine, reason));
  // Everybody ends a step before anybody begins the next.
  const std::function<Status()> steps[] = {[&] { return made->map(all, stride, kHeader); },
                                           [&] { return made->fill(/*marks=*/true); }, [&] { return made->check(); },
                                           [&] { return made->fill(/*marks=*/false); }};
  for (const std::function<Status()> &step : steps)
    if (reason.empty()) {
      mine = step();
      if (device.broken)
        return mine;
      ZOPT_RETURN_IF_FAILED(made->consent(mine, reason));
    }
  if (reason.empty())
    return made;
  ZOPT_RETURN_IF_FAILED(made->fill(/*marks=*/false)); // as they were
  made.reset();
  return made;
}

/// Takes memory for the words, and sees whether the stream can write and await them, in a graph too.
Status PeerCopies::probe() {
  const Driver &driver = device.driver;
  Area &area = areas[0];
  if (CUresult code = driver.uncountedMemAlloc(&words, size_t(kWordsBytes)); code != CUDA_SUCCESS)
    return driver.error("cuMemAlloc", code);
  area.own = words;
  area.bytes = kWordsBytes;
  one = words + sizeof(uint32_t) * 4 * uint64_t(world);
  ZOPT_CUDA(driver, cuMemsetD8Async, words, 0, size_t(kWordsBytes), device.compute);
  CUstreamBatchMemOpParams operations[] = {writeTo(one, 1), waitFor(one)};
  ZOPT_CUDA(driver, cuStreamBatchMemOp, device.compute, 2, operations, 0);
  CUgraph graph = nullptr;
  ZOPT_CUDA(driver, cuStreamBeginCapture, device.compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  CUresult captured = driver.cuStreamBatchMemOp(device.compute, 2, operations, 0),
           ended = driver.cuStreamEndCapture(device.compute, &graph);
  if (graph)
    driver.cuGraphDestroy(graph);
  if (captured != CUDA_SUCCESS || ended != CUDA_SUCCESS)
    return driver.error("cuStreamBatchMemOp", captured != CUDA_SUCCESS ? captured : ended);
  return device.await(device.compute);
}

Status PeerCopies::map(const std::vector<char> &exports, size_t stride, size_t header) {
  for (size_t i = 0; i < areas.size(); ++i) {
    Area &area = areas[i];
    area.mapped.assign(size_t(world), 0);
    for (int peer = 0; peer < world; ++peer) {
      Export shared;
      std::memcpy(&shared, exports.data() + size_t(peer) * stride + header + i * sizeof shared, sizeof shared);
      if (shared.bytes != area.bytes)
        return inputError("an arena has ", area.bytes, " bytes here and ", shared.bytes, " on rank ", peer);
      if (peer == rank || area.bytes == 0)
        continue;
      if (CUresult code = device.driver.cuIpcOpenMemHandle(&area.mapped[size_t(peer)], shared.handle,
                                                           CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
          code != CUDA_SUCCESS) {
        area.mapped[size_t(peer)] = 0;
        return device.driver.error("cuIpcOpenMemHandle", code).in(concat("memory of rank ", peer));
      }
    }
  }
  return success();
}

/// The first bytes of every arena, as the others expect them, or zero again. Those of the words are zero anyway.
Status PeerCopies::fill(bool marks) {
  for (size_t i = 1; i < areas.size(); ++i)
    if (areas[i].own)
      ZOPT_CUDA(device.driver, cuMemsetD8Async, areas[i].own, marks ? mark(rank, i) : 0,
                size_t(std::min(kMarkBytes, areas[i].bytes)), device.compute);
  return device.await(device.compute);
}

Status PeerCopies::check() {
  Result<void *> block = device.pinned(kMarkBytes);
  if (block.failed())
    return block.getStatus();
  for (size_t i = 1; i < areas.size(); ++i)
    for (int peer = 0; peer < world; ++peer) {
      if (!areas[i].mapped[size_t(peer)])
        continue;
      const size_t bytes = size_t(std::min(kMarkBytes, areas[i].bytes));
      ZOPT_CUDA(device.driver, cuMemcpyDtoHAsync, *block, areas[i].mapped[size_t(peer)], bytes, device.compute);
      ZOPT_RETURN_IF_FAILED(device.await(device.compute));
      const std::vector<unsigned char> wanted(bytes, mark(peer, i));
      if (std::memcmp(*block, wanted.data(), bytes) != 0)
        return inputError("an arena of rank ", peer, " is not where it was mapped");
    }
  return success();
}

Status PeerCopies::consent(const Status &mine, std::string &reason) {
  Status verdict = host.agree("peer copies", mine);
  // A failure of the agreement itself names its operation.
  if (verdict.succeeded() || !verdict.getError().operation.empty())
    return verdict;
  reason = verdict.message();
  return success();
}

/// By a copy, which comes behind the copies before it wherever the memory is.
Status PeerCopies::tell(CUstream stream, Meeting meeting) {
  for (int step = 1; step < world; ++step)
    ZOPT_CUDA(device.driver, cuMemcpyDtoDAsync,
              word(areas[0].mapped[size_t((rank + step) % world)], stream, meeting, rank), one, sizeof(uint32_t), stream);
  return success();
}

Status PeerCopies::await(CUstream stream, Meeting meeting) {
  std::vector<CUstreamBatchMemOpParams> operations;
  for (int step = 1; step < world; ++step)
    operations.push_back(waitFor(word(words, stream, meeting, (rank + step) % world)));
  for (int step = 1; step < world; ++step)
    operations.push_back(writeTo(word(words, stream, meeting, (rank + step) % world), 0));
  ZOPT_CUDA(device.driver, cuStreamBatchMemOp, stream, unsigned(operations.size()), operations.data(), 0);
  return success();
}

/// To the counterpart of `destination` on a peer.
Status PeerCopies::copy(CUstream stream, int peer, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) {
  for (size_t i = 1; i < areas.size(); ++i)
    if (destination >= areas[i].own && destination + uint64_t(bytes) <= areas[i].own + uint64_t(areas[i].bytes)) {
      ZOPT_CUDA(device.driver, cuMemcpyDtoDAsync, areas[i].mapped[size_t(peer)] + (destination - areas[i].own), source,
                size_t(bytes), stream);
      return success();
    }
  return inputError("a collective reaches out of its arena");
}

Status PeerCopies::gather(CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) {
  if (bytes == 0)
    return success();
  const CUdeviceptr own = destination + uint64_t(rank * bytes);
  ZOPT_RETURN_IF_FAILED(tell(stream, Free));
  ZOPT_RETURN_IF_FAILED(await(stream, Free));
  for (int step = 1; step < world; ++step)
    ZOPT_RETURN_IF_FAILED(copy(stream, (rank + step) % world, source, own, bytes));
  ZOPT_RETURN_IF_FAILED(tell(stream, Arrived));
  // Inside a device the driver copies by a kernel, which waits for multiprocessors: the other ranks should not.
  if (source != own)
    ZOPT_CUDA(device.driver, cuMemcpyDtoDAsync, own, source, size_t(bytes), stream);
  return await(stream, Arrived);
}

Status PeerCopies::exchange(CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) {
  if (bytes == 0)
    return success();
  ZOPT_RETURN_IF_FAILED(tell(stream, Free));
  ZOPT_RETURN_IF_FAILED(await(stream, Free));
  for (int step = 1; step < world; ++step) {
    const int peer = (rank + step) % world;
    ZOPT_RETURN_IF_FAILED(
        copy(stream, peer, source + uint64_t(peer * bytes), destination + uint64_t(rank * bytes), bytes));
  }
  ZOPT_RETURN_IF_FAILED(tell(stream, Arrived));
  return await(stream, Arrived);
}

} // namespace zopt::runtime::cuda
