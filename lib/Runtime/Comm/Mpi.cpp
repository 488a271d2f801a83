//===- Mpi.cpp - ranks as processes under MPI -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Mpi.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <mpi.h>
#include <sched.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>

namespace zopt::runtime {

namespace {

using Clock = std::chrono::steady_clock;

/// Messages are cut to what MPI's int counts hold.
constexpr int64_t kMessageBytes = int64_t(1) << 30;
/// Tags: control messages, then two for each id of a collective (its two phases). Ids are taken modulo a range that every MPI's tags hold; those in flight together differ by less.
constexpr int kControlTag = 1, kFirstTag = 2;
constexpr int64_t kIds = 1 << 14;
/// How often a waiting rank looks whether its peers still live.
constexpr auto kPeerCheckInterval = std::chrono::milliseconds(50);
/// How long it keeps its core between looks at its messages, where there is a core for every rank and where there is not; then it sleeps between them, so that whoever it waits for can run.
constexpr auto kSpin = std::chrono::microseconds(200), kSpinOversubscribed = std::chrono::microseconds(10);
constexpr auto kNap = std::chrono::microseconds(20);

Status mpiError(const char *call, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return callError(call, text);
}

#define ZOPT_MPI(call, arguments)                                                                                      \
  do {                                                                                                                 \
    if (int code = call arguments; code != MPI_SUCCESS)                                                                \
      return mpiError(#call, code).onRank(myRank);                                                                     \
  } while (false)

/// Who a rank is to the operating system.
struct Peer {
  char host[256];
  int64_t process;
  int64_t startTime; // of the process: tells a reused process id
};

/// Start time of a process of this machine in clock ticks, or -1 where there is none or it is dead.
int64_t startTimeOf(int64_t process) {
  char path[64], text[1024];
  std::snprintf(path, sizeof path, "/proc/%lld/stat", static_cast<long long>(process));
  FILE *file = std::fopen(path, "re");
  if (!file)
    return -1;
  size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[size] = '\0';
  // The name in parentheses may hold anything; fields count from behind it: state is the third, start time the twenty-second.
  const char *field = std::strrchr(text, ')');
  if (!field || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X')
    return -1;
  field += 2;
  for (int i = 3; i < 22 && field; ++i)
    field = std::strchr(field + 1, ' ');
  return field ? std::strtoll(field, nullptr, 10) : -1;
}

class MpiCommunicator final : public Communicator {
public:
  MpiCommunicator(int rank, int size, MPI_Comm messages) : Communicator(rank, size), messages(messages) {}
  ~MpiCommunicator() override {
    if (!failed)
      MPI_Comm_free(&messages);
  }

  /// Learns who the peers are.
  Status introduce() {
    Peer me{};
    gethostname(me.host, sizeof me.host - 1);
    me.process = getpid();
    me.startTime = startTimeOf(me.process);
    peers.resize(static_cast<size_t>(worldSize));
    ZOPT_MPI(MPI_Allgather, (&me, sizeof me, MPI_BYTE, peers.data(), sizeof me, MPI_BYTE, messages));
    for (int rank = 0; rank < worldSize; ++rank)
      if (rank != myRank && std::strcmp(peers[rank].host, me.host) == 0)
        neighbours.push_back(rank);
    int cores = int(std::thread::hardware_concurrency());
    oversubscribed = int(neighbours.size()) + 1 > cores;
    // Naps as short as asked for: the kernel would round them up to 50 microseconds more.
    prctl(PR_SET_TIMERSLACK, 1000);
    return success();
  }

  const char *name() const override { return "mpi"; }

  Status startAllGather(const Collective &collective, const void *source, void *destination, int64_t bytes) override {
    Pending &pending = begin(collective, Pending::Gather);
    char *own = static_cast<char *>(destination) + myRank * bytes;
    if (own != source)
      std::memcpy(own, source, size_t(bytes));
    return exchange(pending, tagOf(collective.id, 0), [&](int) { return static_cast<const char *>(source); }, static_cast<char *>(destination), bytes);
  }

  Status startReduceScatter(const Collective &collective, const void *source, DataType sourceType, void *destination, DataType destinationType, void *workspace, int64_t elements, bool accumulate) override {
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

  Status startAllReduce(const Collective &collective, void *buffer, DataType type, void *workspace, int64_t elements) override {
    Pending &pending = begin(collective, Pending::ReduceThenGather);
    pending.source = static_cast<char *>(buffer);
    pending.destination = static_cast<char *>(buffer) + myRank * elements * sizeOf(type);
    pending.sourceType = pending.destinationType = type;
    pending.workspace = static_cast<char *>(workspace);
    pending.elements = elements;
    pending.accumulate = false;
    return scatterParts(pending);
  }

  Status wait(int64_t id) override {
    auto found = inFlight.find(id);
    if (found == inFlight.end() || found->second.done)
      return runtimeError("collective ", id, " was not started").onRank(myRank);
    ZOPT_RETURN_IF_FAILED(awaitPhases(found->second));
    found->second.done = true;
    --active;
    return success();
  }

  Status progress() override {
    // A signal may mean that the launcher is ending the job because a rank died: then say so while there is time.
    if (StopRequest::requested() && !lookedAfterSignal && !neighbours.empty()) {
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

  Status checkPeers(const std::string &label) override {
    for (int rank : neighbours)
      if (startTimeOf(peers[rank].process) != peers[rank].startTime) {
        failed = true;
        return Status(Error{ErrorKind::Runtime, myRank, label.empty() ? "collective" : label, "", concat("rank ", rank, " (process ", peers[rank].process, ") has died, and this rank stands at this collective")});
      }
    return success();
  }

  Status allGatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override {
    beginControl(label);
    std::memcpy(static_cast<char *>(destination) + myRank * bytes, source, size_t(bytes));
    ZOPT_RETURN_IF_FAILED(exchange(control, kControlTag, [&](int) { return static_cast<const char *>(source); }, static_cast<char *>(destination), bytes));
    return awaitPhases(control);
  }

  Status gatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override {
    beginControl(label);
    if (myRank == 0) {
      std::memcpy(destination, source, size_t(bytes));
      for (int rank = 1; rank < worldSize; ++rank)
        ZOPT_RETURN_IF_FAILED(receive(control, rank, kControlTag, static_cast<char *>(destination) + rank * bytes, bytes));
    } else {
      ZOPT_RETURN_IF_FAILED(send(control, 0, kControlTag, static_cast<const char *>(source), bytes));
    }
    return awaitPhases(control);
  }

private:
  struct Pending {
    enum Kind { Gather, Reduce, ReduceThenGather } kind = Gather;
    std::string label;
    int64_t id = 0;
    bool done = true, messagesDone = false;
    std::vector<MPI_Request> requests;
    std::vector<int> sources; // the peer of each request; sends are marked by -1 - peer
    const char *source = nullptr;
    char *destination = nullptr, *workspace = nullptr;
    DataType sourceType = DataType::F32, destinationType = DataType::F32;
    int64_t elements = 0;
    bool accumulate = false;
  };

  static int tagOf(int64_t id, int phase) { return kFirstTag + int(((id % kIds) + kIds) % kIds) * 2 + phase; }

  Pending &begin(const Collective &collective, Pending::Kind kind) {
    // Entries stay for the next step, so that their vectors are allocated once.
    Pending &pending = inFlight[collective.id];
    if (pending.label != collective.label)
      pending.label = collective.label;
    pending.id = collective.id;
    pending.kind = kind;
    pending.done = false;
    pending.messagesDone = false;
    ++active;
    return pending;
  }

  void beginControl(const std::string &label) {
    control.kind = Pending::Gather;
    control.label = lastLabel = label;
    control.messagesDone = false;
    control.requests.clear();
    control.sources.clear();
  }

  Status receive(Pending &pending, int from, int tag, char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += kMessageBytes) {
      pending.requests.push_back(MPI_REQUEST_NULL);
      pending.sources.push_back(from);
      ZOPT_MPI(MPI_Irecv, (data + done, int(std::min(kMessageBytes, bytes - done)), MPI_BYTE, from, tag, messages, &pending.requests.back()));
    }
    return success();
  }
  Status send(Pending &pending, int to, int tag, const char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += kMessageBytes) {
      pending.requests.push_back(MPI_REQUEST_NULL);
      pending.sources.push_back(-1 - to);
      ZOPT_MPI(MPI_Isend, (data + done, int(std::min(kMessageBytes, bytes - done)), MPI_BYTE, to, tag, messages, &pending.requests.back()));
    }
    return success();
  }

  /// Sends partFor(rank) to every other rank and receives theirs, `bytes` each, at their places in `destination`.
  template <typename PartFor>
  Status exchange(Pending &pending, int tag, PartFor partFor, char *destination, int64_t bytes) {
    lastLabel = pending.label;
    pending.requests.clear();
    pending.sources.clear();
    // Receives first, so that messages find them posted; each rank begins with its right neighbour, so that no rank is everybody's first.
    for (int step = 1; step < worldSize; ++step) {
      int from = (myRank - step + worldSize) % worldSize;
      ZOPT_RETURN_IF_FAILED(receive(pending, from, tag, destination + from * bytes, bytes));
    }
    for (int step = 1; step < worldSize; ++step) {
      int to = (myRank + step) % worldSize;
      ZOPT_RETURN_IF_FAILED(send(pending, to, tag, partFor(to), bytes));
    }
    return success();
  }

  Status scatterParts(Pending &pending) {
    int64_t bytes = pending.elements * sizeOf(pending.sourceType);
    return exchange(pending, tagOf(pending.id, 0), [&](int rank) { return pending.source + rank * bytes; }, pending.workspace, bytes);
  }

  /// Looks at a collective's messages and goes on to its next phase where they have all arrived.
  Status advance(Pending &pending) {
    while (!pending.messagesDone) {
      int complete = 1;
      if (!pending.requests.empty())
        ZOPT_MPI(MPI_Testall, (int(pending.requests.size()), pending.requests.data(), &complete, MPI_STATUSES_IGNORE));
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
      sumInRankOrder(parts.data(), worldSize, pending.elements, pending.sourceType, pending.destination, pending.destinationType, pending.accumulate);
      if (pending.kind == Pending::Reduce) {
        pending.messagesDone = true;
        break;
      }
      // The summed parts replace the sources: every rank has received what it needs of this one's buffer, because all sends are complete.
      pending.kind = Pending::Gather;
      char *buffer = pending.destination - myRank * bytes;
      ZOPT_RETURN_IF_FAILED(exchange(pending, tagOf(pending.id, 1), [&](int) { return static_cast<const char *>(pending.destination); }, buffer, bytes));
    }
    return success();
  }

  /// Waits for all of a collective, moving the others forward meanwhile.
  Status awaitPhases(Pending &pending) {
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
        ZOPT_RETURN_IF_FAILED(checkPeers(pending.label));
      }
      if (now >= deadline)
        return timedOut(pending);
      if (now - begin > (oversubscribed ? kSpinOversubscribed : kSpin))
        std::this_thread::sleep_for(kNap);
      else
        sched_yield();
    }
  }

  Status timedOut(Pending &pending) {
    failed = true;
    std::string missing, unread;
    for (size_t i = 0; i < pending.requests.size(); ++i)
      if (pending.requests[i] != MPI_REQUEST_NULL) {
        int source = pending.sources[i];
        std::string &list = source >= 0 ? missing : unread;
        std::string name = std::to_string(source >= 0 ? source : -1 - source);
        list += (list.empty() ? "" : ", ") + name;
      }
    std::string what = !missing.empty() ? concat("nothing has arrived from rank ", missing) : concat("rank ", unread, " has not taken what it was sent");
    return Status(Error{ErrorKind::Runtime, myRank, nameOf(pending), "", concat("timed out after ", timeoutSeconds, " s, ", what)});
  }

  static std::string nameOf(const Pending &pending) { return pending.label.empty() ? concat("collective ", pending.id) : pending.label; }

  MPI_Comm messages;
  std::vector<Peer> peers;
  std::vector<int> neighbours; // other ranks on this machine
  bool oversubscribed = false, lookedAfterSignal = false;
  bool failed = false; // messages may be in flight for ever: nothing is freed
  std::map<int64_t, Pending> inFlight;
  int active = 0;
  Pending control;
  std::vector<const void *> parts;
  std::string lastLabel;
};

} // namespace

Result<std::unique_ptr<Communicator>> makeMpiCommunicator() {
  int provided = 0, rank = 0, size = 1, myRank = -1;
  auto start = [&]() -> Status {
    ZOPT_MPI(MPI_Init_thread, (nullptr, nullptr, MPI_THREAD_FUNNELED, &provided));
    ZOPT_MPI(MPI_Comm_rank, (MPI_COMM_WORLD, &rank));
    ZOPT_MPI(MPI_Comm_size, (MPI_COMM_WORLD, &size));
    return success();
  };
  ZOPT_RETURN_IF_FAILED(start());
  MPI_Comm messages;
  if (int code = MPI_Comm_dup(MPI_COMM_WORLD, &messages); code != MPI_SUCCESS)
    return mpiError("MPI_Comm_dup", code).onRank(rank);
  MPI_Comm_set_errhandler(messages, MPI_ERRORS_RETURN);
  auto communicator = std::make_unique<MpiCommunicator>(rank, size, messages);
  ZOPT_RETURN_IF_FAILED(communicator->introduce());
  return Result<std::unique_ptr<Communicator>>(std::move(communicator));
}

void finalizeMpi() { MPI_Finalize(); }

std::string mpiLibrary() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  return text;
}

} // namespace zopt::runtime
