//===- FakeNccl.cpp - NCCL without a GPU ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ranks are threads of one process. An operation is queued like any other work and goes on when every rank's queue has come to it. FAKE_NCCL_ASYNC, where not empty, is told by ncclCommGetAsyncError.
//
//===----------------------------------------------------------------------===//

#include "FakeCuda.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <nccl.h>
#include <string>
#include <vector>

using namespace zopt::runtime;

namespace {

struct Transfer {
  bool sends;
  int peer;
  char *data;
  size_t bytes;
};

/// What a rank brings to one operation.
struct Offer {
  enum Kind { Gather, Scatter, Reduce, Exchange } kind = Gather;
  const char *source = nullptr;
  char *destination = nullptr;
  size_t count = 0; // bytes, or elements
  ncclDataType_t type = ncclUint8;
  std::vector<Transfer> transfers;
  bool here = false;
};

struct Meeting {
  std::vector<Offer> offers;
  int arrived = 0, left = 0;
  bool done = false;
};

struct World {
  int size = 0, joined = 0;
  std::map<int64_t, Meeting> meetings;
};

std::mutex joining;
std::condition_variable joined;
std::map<std::string, std::shared_ptr<World>> worlds;

DataType typeOf(ncclDataType_t type) { return type == ncclFloat32 ? DataType::F32 : type == ncclFloat64 ? DataType::F64 : type == ncclBfloat16 ? DataType::BF16 : DataType::F16; }

/// Sums `count` elements at `offset` elements of everybody's source.
void sum(const Meeting &meeting, size_t offset, size_t count, ncclDataType_t type, char *destination) {
  if (type == ncclInt64) {
    for (size_t i = 0; i < count; ++i) {
      int64_t total = 0;
      for (const Offer &offer : meeting.offers)
        total += loadAsInteger(DataType::I64, offer.source, int64_t(offset + i));
      storeInteger(DataType::I64, destination, int64_t(i), total);
    }
    return;
  }
  std::vector<const void *> parts;
  for (const Offer &offer : meeting.offers)
    parts.push_back(offer.source + offset * size_t(sizeOf(typeOf(type))));
  sumInRankOrder(parts.data(), int(parts.size()), int64_t(count), typeOf(type), destination, typeOf(type), false);
}

void move(Meeting &meeting) {
  const size_t ranks = meeting.offers.size();
  const Offer &first = meeting.offers[0];
  const size_t width = first.type == ncclUint8 ? 1 : first.type == ncclInt64 ? 8 : size_t(sizeOf(typeOf(first.type)));
  std::vector<std::vector<char>> results(ranks); // everything is read before anything is written
  for (size_t rank = 0; rank < ranks; ++rank) {
    std::vector<char> &result = results[rank];
    if (first.kind == Offer::Gather)
      for (const Offer &offer : meeting.offers)
        result.insert(result.end(), offer.source, offer.source + offer.count);
    if (first.kind == Offer::Reduce || first.kind == Offer::Scatter) {
      result.resize(first.count * width);
      sum(meeting, first.kind == Offer::Scatter ? rank * first.count : 0, first.count, first.type, result.data());
    }
  }
  for (size_t rank = 0; rank < ranks; ++rank) {
    if (!results[rank].empty())
      std::memcpy(meeting.offers[rank].destination, results[rank].data(), results[rank].size());
    for (const Transfer &receive : meeting.offers[rank].transfers)
      if (!receive.sends)
        for (const Transfer &send : meeting.offers[size_t(receive.peer)].transfers)
          if (send.sends && send.peer == int(rank))
            std::memcpy(receive.data, send.data, receive.bytes);
  }
}

} // namespace

struct ncclComm {
  std::shared_ptr<World> world;
  int rank = 0;
  int64_t performed = 0;
};

namespace {

thread_local int groupDepth = 0;
thread_local std::vector<Transfer> groupTransfers;
thread_local ncclComm_t groupCommunicator = nullptr;
thread_local cudaStream_t groupStream = nullptr;

ncclResult_t enqueue(ncclComm_t communicator, const Offer &offer, cudaStream_t stream) {
  auto ticket = std::make_shared<int64_t>(-1); // of one performance; a captured operation is performed again and again
  fake::enqueue(reinterpret_cast<CUstream>(stream), [=] {
    World &world = *communicator->world;
    if (*ticket < 0)
      *ticket = communicator->performed++;
    Meeting &meeting = world.meetings[*ticket];
    meeting.offers.resize(size_t(world.size));
    Offer &mine = meeting.offers[size_t(communicator->rank)];
    if (!mine.here) {
      mine = offer;
      mine.here = true;
      if (++meeting.arrived == world.size) {
        move(meeting);
        meeting.done = true;
      }
    }
    if (!meeting.done)
      return false;
    if (++meeting.left == world.size)
      world.meetings.erase(*ticket);
    *ticket = -1;
    return true;
  });
  return ncclSuccess;
}

} // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  static int number = 0;
  std::lock_guard<std::mutex> guard(joining);
  std::memset(id, 0, sizeof *id);
  id->internal[0] = 0; // ids may hold anything
  id->internal[1] = char(++number);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *communicator, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
  if (config->blocking != 1)
    return ncclInvalidArgument;
  std::unique_lock<std::mutex> guard(joining);
  std::shared_ptr<World> &world = worlds[std::string(id.internal, sizeof id.internal)];
  if (!world)
    world = std::make_shared<World>();
  world->size = ranks;
  ++world->joined;
  joined.notify_all();
  joined.wait(guard, [&] { return world->joined == ranks; });
  *communicator = new ncclComm{world, rank};
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t) { return ncclSuccess; } // kept: queued work may refer to it
ncclResult_t ncclCommAbort(ncclComm_t) { return ncclSuccess; }
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *code) {
  const char *asked = std::getenv("FAKE_NCCL_ASYNC");
  *code = asked && *asked ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t code) { return code == ncclRemoteError ? "remote process exited or there was a network error" : "error of the fake NCCL"; }
const char *ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGroupStart() {
  ++groupDepth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--groupDepth > 0 || groupTransfers.empty())
    return ncclSuccess;
  Offer offer;
  offer.kind = Offer::Exchange;
  offer.transfers = std::exchange(groupTransfers, {});
  return enqueue(groupCommunicator, offer, groupStream);
}
static ncclResult_t transfer(bool sends, void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator, cudaStream_t stream) {
  if (groupDepth == 0 || type != ncclUint8)
    return ncclInvalidUsage;
  groupTransfers.push_back({sends, peer, static_cast<char *>(data), count});
  groupCommunicator = communicator;
  groupStream = stream;
  return ncclSuccess;
}
ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator, cudaStream_t stream) {
  return transfer(true, const_cast<void *>(data), count, type, peer, communicator, stream);
}
ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator, cudaStream_t stream) { return transfer(false, data, count, type, peer, communicator, stream); }

ncclResult_t ncclAllGather(const void *source, void *destination, size_t count, ncclDataType_t type, ncclComm_t communicator, cudaStream_t stream) {
  return type != ncclUint8 ? ncclInvalidArgument : enqueue(communicator, {Offer::Gather, static_cast<const char *>(source), static_cast<char *>(destination), count, type, {}, false}, stream);
}
ncclResult_t ncclReduceScatter(const void *source, void *destination, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t communicator, cudaStream_t stream) {
  return enqueue(communicator, {Offer::Scatter, static_cast<const char *>(source), static_cast<char *>(destination), count, type, {}, false}, stream);
}
ncclResult_t ncclAllReduce(const void *source, void *destination, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t communicator, cudaStream_t stream) {
  return enqueue(communicator, {Offer::Reduce, static_cast<const char *>(source), static_cast<char *>(destination), count, type, {}, false}, stream);
}

} // extern "C"
