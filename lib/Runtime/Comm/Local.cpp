//===- Local.cpp - ranks as threads of one process ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

namespace zopt::runtime {

namespace {

/// What the ranks put on the table for one collective. Ranks pass through its phases together; a phase is over when every rank has reached it.
struct Meeting {
  explicit Meeting(int world) : offers(world) {}
  std::vector<const void *> offers; // each rank's source
  std::vector<int> arrived;         // ranks that reached each phase, counted
  std::vector<std::vector<bool>> who;
  int left = 0;
};

struct World {
  explicit World(int size) : size(size), gone(size, false) {}
  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  // By id (negative: control messages) and how often that id was used: all ranks use it equally often.
  std::map<std::pair<int64_t, int64_t>, Meeting> meetings;
  std::vector<bool> gone;
};

constexpr int64_t kControl = -1;

class LocalCommunicator final : public Communicator {
public:
  LocalCommunicator(int rank, std::shared_ptr<World> world) : Communicator(rank, world->size), world(std::move(world)) {}

  ~LocalCommunicator() override {
    std::lock_guard<std::mutex> lock(world->mutex);
    world->gone[myRank] = true;
    world->changed.notify_all();
  }

  const char *name() const override { return "local"; }

  Status startAllGather(const Collective &collective, const void *source, void *destination, int64_t bytes) override {
    Pending pending{Pending::Gather, collective.label, begin(collective.id, source)};
    pending.source = source;
    pending.destination = destination;
    pending.count = bytes;
    inFlight[collective.id] = pending;
    return success();
  }

  Status startReduceScatter(const Collective &collective, const void *source, DataType sourceType, void *destination, DataType destinationType, void *, int64_t elements, bool accumulate) override {
    Pending pending{Pending::ReduceScatter, collective.label, begin(collective.id, source)};
    pending.source = source;
    pending.destination = destination;
    pending.count = elements;
    pending.sourceType = sourceType;
    pending.destinationType = destinationType;
    pending.accumulate = accumulate;
    inFlight[collective.id] = pending;
    return success();
  }

  Status startAllReduce(const Collective &collective, void *buffer, DataType type, void *, int64_t elements) override {
    Pending pending{Pending::AllReduce, collective.label, begin(collective.id, buffer)};
    pending.source = buffer;
    pending.destination = buffer;
    pending.count = elements;
    pending.sourceType = pending.destinationType = type;
    inFlight[collective.id] = pending;
    return success();
  }

  Status wait(int64_t id) override {
    auto found = inFlight.find(id);
    if (found == inFlight.end())
      return runtimeError("collective ", id, " was not started").onRank(myRank);
    Pending pending = found->second;
    inFlight.erase(found);
    return complete(pending);
  }

  Status progress() override { return success(); }

  Status checkPeers(const std::string &label) override {
    std::lock_guard<std::mutex> lock(world->mutex);
    for (int rank = 0; rank < worldSize; ++rank)
      if (world->gone[rank])
        return Status(Error{ErrorKind::Runtime, myRank, label, "", concat("rank ", rank, " has ended, and this rank stands waiting for it")});
    return success();
  }

  Status allGatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override {
    Pending pending{Pending::Gather, label, begin(kControl, source)};
    pending.source = source;
    pending.destination = destination;
    pending.count = bytes;
    return complete(pending);
  }

  Status gatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override {
    Pending pending{Pending::Gather, label, begin(kControl, source)};
    pending.source = source;
    pending.destination = myRank == 0 ? destination : nullptr;
    pending.count = bytes;
    return complete(pending);
  }

private:
  using Key = std::pair<int64_t, int64_t>;
  struct Pending {
    enum Kind { Gather, ReduceScatter, AllReduce } kind;
    std::string label;
    Key key;
    const void *source = nullptr;
    void *destination = nullptr;
    int64_t count = 0; // bytes a rank, or elements a rank
    DataType sourceType = DataType::F32, destinationType = DataType::F32;
    bool accumulate = false;
  };

  /// Joins the meeting of this use of `id`, without waiting.
  Key begin(int64_t id, const void *source) {
    Key key(id, uses[id]++);
    std::lock_guard<std::mutex> lock(world->mutex);
    Meeting &meeting = world->meetings.try_emplace(key, worldSize).first->second;
    meeting.offers[myRank] = source;
    arrive(meeting, 0);
    return key;
  }

  void arrive(Meeting &meeting, size_t phase) {
    while (meeting.arrived.size() <= phase) {
      meeting.arrived.push_back(0);
      meeting.who.emplace_back(worldSize, false);
    }
    meeting.who[phase][myRank] = true;
    if (++meeting.arrived[phase] == worldSize)
      world->changed.notify_all();
  }

  /// Waits until every rank has reached `phase`. The caller holds the lock.
  Status awaitAll(std::unique_lock<std::mutex> &lock, Meeting &meeting, size_t phase, const Pending &pending) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(timeoutSeconds));
    auto absent = [&](bool onlyGone) {
      std::string names;
      for (int rank = 0; rank < worldSize; ++rank)
        if (!meeting.who[phase][rank] && (!onlyGone || world->gone[rank]))
          names += (names.empty() ? "" : ", ") + std::to_string(rank);
      return names;
    };
    std::string gone;
    auto ready = [&] { return meeting.arrived[phase] == worldSize || !(gone = absent(true)).empty(); };
    bool inTime = world->changed.wait_until(lock, deadline, ready);
    if (meeting.arrived[phase] == worldSize)
      return success();
    std::string where = pending.label.empty() ? concat("collective ", pending.key.first) : pending.label;
    if (inTime)
      return Status(Error{ErrorKind::Runtime, myRank, where, "", concat("rank ", gone, " has ended, and this rank stands waiting for it")});
    return Status(Error{ErrorKind::Runtime, myRank, where, "", concat("timed out after ", timeoutSeconds, " s, nothing has arrived from rank ", absent(false))});
  }

  Status complete(const Pending &pending) {
    std::unique_lock<std::mutex> lock(world->mutex);
    Meeting &meeting = world->meetings.find(pending.key)->second;
    ZOPT_RETURN_IF_FAILED(awaitAll(lock, meeting, 0, pending));
    // From here on `offers` does not change, so the data moves without the lock.
    lock.unlock();
    size_t phase = 1;
    if (pending.kind == Pending::Gather) {
      if (pending.destination)
        for (int rank = 0; rank < worldSize; ++rank) {
          char *to = static_cast<char *>(pending.destination) + rank * pending.count;
          // In place: the own part is where it belongs, and nobody else writes to it.
          if (to != meeting.offers[rank])
            std::memcpy(to, meeting.offers[rank], size_t(pending.count));
        }
    } else {
      int64_t partBytes = pending.count * sizeOf(pending.sourceType);
      std::vector<const void *> parts;
      for (int rank = 0; rank < worldSize; ++rank)
        parts.push_back(static_cast<const char *>(meeting.offers[rank]) + myRank * partBytes);
      bool inPlace = pending.kind == Pending::AllReduce;
      void *destination = inPlace ? static_cast<char *>(pending.destination) + myRank * partBytes : pending.destination;
      sumInRankOrder(parts.data(), worldSize, pending.count, pending.sourceType, destination, pending.destinationType, pending.accumulate);
      if (inPlace) {
        // Only this rank touches part `myRank` of anybody's buffer until all sums are made; then the parts are exchanged.
        lock.lock();
        arrive(meeting, phase);
        ZOPT_RETURN_IF_FAILED(awaitAll(lock, meeting, phase, pending));
        lock.unlock();
        ++phase;
        for (int rank = 0; rank < worldSize; ++rank)
          if (rank != myRank)
            std::memcpy(static_cast<char *>(pending.destination) + rank * partBytes, static_cast<const char *>(meeting.offers[rank]) + rank * partBytes, size_t(partBytes));
      }
    }
    // Nobody's source may change before everybody has read it.
    lock.lock();
    arrive(meeting, phase);
    ZOPT_RETURN_IF_FAILED(awaitAll(lock, meeting, phase, pending));
    if (++meeting.left == worldSize)
      world->meetings.erase(pending.key);
    return success();
  }

  std::shared_ptr<World> world;
  std::map<int64_t, Pending> inFlight;
  std::map<int64_t, int64_t> uses;
};

} // namespace

std::vector<std::unique_ptr<Communicator>> makeLocalWorld(int size) {
  auto world = std::make_shared<World>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < size; ++rank)
    communicators.push_back(std::make_unique<LocalCommunicator>(rank, world));
  return communicators;
}

} // namespace zopt::runtime
