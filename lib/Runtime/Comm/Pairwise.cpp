//===- Pairwise.cpp - collectives made of messages ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Pairwise.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <chrono>
#include <cstring>
#include <sched.h>
#include <thread>

namespace zopt::runtime {

namespace {

using Clock = std::chrono::steady_clock;

/// Tags: control messages, then two for each id of a collective (its two phases). Ids are taken modulo a range that
/// every MPI's tags hold; those in flight together differ by less.
constexpr int kControlTag = 1, kFirstTag = 2;
constexpr int64_t kIds = 1 << 14;
/// How often a waiting rank looks whether its peers still live.
constexpr auto kPeerCheckInterval = std::chrono::milliseconds(50);
/// How long it keeps its core between looks at its messages, where there is a core for every rank and where there is
/// not; then it sleeps between them, so that whoever it waits for can run.
constexpr auto kSpin = std::chrono::microseconds(200), kSpinOversubscribed = std::chrono::microseconds(10);
constexpr auto kNap = std::chrono::microseconds(20);

std::string joined(const std::vector<int> &ranks) {
  std::string text;
  for (int rank : ranks)
    text += (text.empty() ? "" : ", ") + std::to_string(rank);
  return text;
}

} // namespace

PairwiseCommunicator::Messages::~Messages() = default;
void PairwiseCommunicator::Messages::nap() { std::this_thread::sleep_for(kNap); }

int PairwiseCommunicator::tagOf(int64_t id, int phase) {
  return kFirstTag + int(((id % kIds) + kIds) % kIds) * 2 + phase;
}

std::string PairwiseCommunicator::nameOf(const Pending &pending) {
  return pending.label.empty() ? concat("collective ", pending.id) : pending.label;
}

PairwiseCommunicator::Pending &PairwiseCommunicator::begin(const Collective &collective, Pending::Kind kind) {
  // Entries stay for the next step, so that what they hold is allocated once.
  Pending &pending = inFlight[collective.id];
  if (pending.label != collective.label)
    pending.label = collective.label;
  if (!pending.messages)
    pending.messages = makeMessages();
  pending.id = collective.id;
  pending.kind = kind;
  pending.done = false;
  pending.messagesDone = false;
  ++active;
  return pending;
}

void PairwiseCommunicator::beginControl(const std::string &label) {
  if (!control.messages)
    control.messages = makeMessages();
  control.kind = Pending::Gather;
  control.label = lastLabel = label;
  control.messagesDone = false;
  control.messages->clear();
}

Status PairwiseCommunicator::startAllGather(const Collective &collective, const void *source, void *destination,
                                            int64_t bytes) {
  Pending &pending = begin(collective, Pending::Gather);
  char *own = static_cast<char *>(destination) + myRank * bytes;
  if (own != source)
    std::memcpy(own, source, size_t(bytes));
  return exchange(
      pending, tagOf(collective.id, 0), [&](int) { return static_cast<const char *>(source); },
      static_cast<char *>(destination), bytes);
}

Status PairwiseCommunicator::startReduceScatter(const Collective &collective, const void *source, DataType sourceType,
                                                void *destination, DataType destinationType, void *workspace,
                                                int64_t elements, bool accumulate) {
  Pending &pending = begin(collective, Pending::Reduce);
  pending.source = static_cast<const char *>(source);
  pending.sourceType = sourceType;
  pending.destination = static_cast<char *>(destination);
  pending.destinationType = destinationType;
  pending.workspace = static_cast<char *>(workspace);
  pending.elements = elements;
  pending.accumulate = accumulate;
  return scatterParts(pending);
}

Status PairwiseCommunicator::startAllReduce(const Collective &collective, void *buffer, DataType type, void *workspace,
                                            int64_t elements) {
  Pending &pending = begin(collective, Pending::ReduceThenGather);
  pending.source = static_cast<char *>(buffer);
  pending.destination = static_cast<char *>(buffer) + myRank * elements * sizeOf(type);
  pending.sourceType = pending.destinationType = type;
  pending.workspace = static_cast<char *>(workspace);
  pending.elements = elements;
  pending.accumulate = false;
  return scatterParts(pending);
}

Status PairwiseCommunicator::wait(int64_t id) {
  auto found = inFlight.find(id);
  if (found == inFlight.end() || found->second.done)
    return runtimeError("collective ", id, " was not started").onRank(myRank);
  ZOPT_RETURN_IF_FAILED(awaitPhases(found->second));
  found->second.done = true;
  --active;
  return success();
}

Status PairwiseCommunicator::progress() {
  // A signal may mean that the launcher is ending the job because a rank died: then say so while there is time.
  if (!lookedAfterSignal && stopRequested()) {
    lookedAfterSignal = true;
    ZOPT_RETURN_IF_FAILED(checkPeers(lastLabel));
  }
  if (active == 0)
    return success();
  for (auto &[id, pending] : inFlight)
    if (!pending.done)
      ZOPT_RETURN_IF_FAILED(advance(pending));
  return success();
}

Status PairwiseCommunicator::allGatherNow(const std::string &label, const void *source, void *destination,
                                          int64_t bytes) {
  beginControl(label);
  std::memcpy(static_cast<char *>(destination) + myRank * bytes, source, size_t(bytes));
  ZOPT_RETURN_IF_FAILED(exchange(
      control, kControlTag, [&](int) { return static_cast<const char *>(source); }, static_cast<char *>(destination),
      bytes));
  return awaitPhases(control);
}

Status PairwiseCommunicator::gatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) {
  beginControl(label);
  if (myRank == 0) {
    std::memcpy(destination, source, size_t(bytes));
    for (int rank = 1; rank < worldSize; ++rank)
      ZOPT_RETURN_IF_FAILED(
          control.messages->receive(rank, kControlTag, static_cast<char *>(destination) + rank * bytes, bytes));
  } else {
    ZOPT_RETURN_IF_FAILED(control.messages->send(0, kControlTag, static_cast<const char *>(source), bytes));
  }
  return awaitPhases(control);
}

/// Sends partFor(rank) to every other rank and receives theirs, `bytes` each, at their places in `destination`.
template <typename PartFor>
Status PairwiseCommunicator::exchange(Pending &pending, int tag, PartFor partFor, char *destination, int64_t bytes) {
  lastLabel = pending.label;
  pending.messages->clear();
  // Receives first, so that messages find them posted; each rank begins with its right neighbour, so that no rank is
  // everybody's first.
  for (int step = 1; step < worldSize; ++step) {
    int from = (myRank - step + worldSize) % worldSize;
    ZOPT_RETURN_IF_FAILED(pending.messages->receive(from, tag, destination + from * bytes, bytes).in(nameOf(pending)));
  }
  for (int step = 1; step < worldSize; ++step) {
    int to = (myRank + step) % worldSize;
    ZOPT_RETURN_IF_FAILED(pending.messages->send(to, tag, partFor(to), bytes).in(nameOf(pending)));
  }
  return success();
}

Status PairwiseCommunicator::scatterParts(Pending &pending) {
  int64_t bytes = pending.elements * sizeOf(pending.sourceType);
  return exchange(
      pending, tagOf(pending.id, 0), [&](int rank) { return pending.source + rank * bytes; }, pending.workspace, bytes);
}

/// Looks at a collective's messages and goes on to its next phase where they have all arrived.
Status PairwiseCommunicator::advance(Pending &pending) {
  while (!pending.messagesDone) {
    bool complete = true;
    ZOPT_RETURN_IF_FAILED(pending.messages->test(complete).in(nameOf(pending)));
    if (!complete)
      return success();
    if (pending.kind == Pending::Gather) {
      pending.messagesDone = true;
      break;
    }
    int64_t bytes = pending.elements * sizeOf(pending.sourceType);
    parts.clear();
    for (int rank = 0; rank < worldSize; ++rank)
      parts.push_back((rank == myRank ? pending.source : static_cast<const char *>(pending.workspace)) + rank * bytes);
    sumInRankOrder(parts.data(), worldSize, pending.elements, pending.sourceType, pending.destination,
                   pending.destinationType, pending.accumulate);
    if (pending.kind == Pending::Reduce) {
      pending.messagesDone = true;
      break;
    }
    // The summed parts replace the sources: every rank has received what it needs of this one's buffer, because all
    // sends are complete.
    pending.kind = Pending::Gather;
    char *buffer = pending.destination - myRank * bytes;
    ZOPT_RETURN_IF_FAILED(exchange(
        pending, tagOf(pending.id, 1), [&](int) { return static_cast<const char *>(pending.destination); }, buffer,
        bytes));
  }
  return success();
}

/// Waits for all of a collective, moving the others forward meanwhile.
Status PairwiseCommunicator::awaitPhases(Pending &pending) {
  ZOPT_RETURN_IF_FAILED(advance(pending));
  if (pending.messagesDone)
    return success();
  auto begin = Clock::now(), nextCheck = begin + kPeerCheckInterval;
  auto deadline = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeoutSeconds));
  for (;;) {
    ZOPT_RETURN_IF_FAILED(advance(pending));
    if (pending.messagesDone)
      return success();
    if (active > 1 || &pending == &control)
      for (auto &[id, other] : inFlight)
        if (!other.done && &other != &pending)
          ZOPT_RETURN_IF_FAILED(advance(other));
    auto now = Clock::now();
    if (now >= nextCheck) {
      nextCheck = now + kPeerCheckInterval;
      ZOPT_RETURN_IF_FAILED(checkPeers(nameOf(pending)));
    }
    if (now >= deadline)
      return timedOut(pending);
    if (now - begin > (oversubscribed ? kSpinOversubscribed : kSpin))
      pending.messages->nap();
    else
      sched_yield();
  }
}

Status PairwiseCommunicator::timedOut(Pending &pending) {
  failed = true;
  std::vector<int> missing, unread;
  pending.messages->listOpen(missing, unread);
  std::string what = !missing.empty() ? concat("nothing has arrived from rank ", joined(missing))
                                      : concat("rank ", joined(unread), " has not taken what it was sent");
  return Status(
      Error{ErrorKind::Runtime, myRank, nameOf(pending), "", concat("timed out after ", timeoutSeconds, " s, ", what)});
}

} // namespace zopt::runtime
