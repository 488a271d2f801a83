//===- Mpi.cpp - ranks as processes under MPI -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Mpi.h"
#include "zopt/Runtime/Comm/Pairwise.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mpi.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// Messages are cut to what MPI's int counts hold.
constexpr int64_t kMessageBytes = int64_t(1) << 30;

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

class MpiCommunicator final : public PairwiseCommunicator {
public:
  MpiCommunicator(int rank, int size, MPI_Comm messages, bool (*stopRequested)())
      : PairwiseCommunicator(rank, size, stopRequested), messages(messages) {}
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

  Status checkPeers(const std::string &label) override {
    for (int rank : neighbours)
      if (startTimeOf(peers[rank].process) != peers[rank].startTime) {
        failed = true;
        return Status(Error{ErrorKind::Runtime, myRank, label.empty() ? "collective" : label, "", concat("rank ", rank, " (process ", peers[rank].process, ") has died, and this rank stands at this collective")});
      }
    return success();
  }

private:
  class MpiMessages final : public Messages {
  public:
    MpiMessages(MPI_Comm communicator, int myRank) : communicator(communicator), myRank(myRank) {}

    void clear() override {
      requests.clear();
      peers.clear();
    }
    Status receive(int from, int tag, char *data, int64_t bytes) override {
      for (int64_t done = 0; done < bytes; done += kMessageBytes) {
        requests.push_back(MPI_REQUEST_NULL);
        peers.push_back(from);
        ZOPT_MPI(MPI_Irecv, (data + done, int(std::min(kMessageBytes, bytes - done)), MPI_BYTE, from, tag, communicator,
                             &requests.back()));
      }
      return success();
    }
    Status send(int to, int tag, const char *data, int64_t bytes) override {
      for (int64_t done = 0; done < bytes; done += kMessageBytes) {
        requests.push_back(MPI_REQUEST_NULL);
        peers.push_back(-1 - to);
        ZOPT_MPI(MPI_Isend, (data + done, int(std::min(kMessageBytes, bytes - done)), MPI_BYTE, to, tag, communicator,
                             &requests.back()));
      }
      return success();
    }
    Status test(bool &complete) override {
      int all = 1;
      if (!requests.empty())
        ZOPT_MPI(MPI_Testall, (int(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE));
      complete = all != 0;
      return success();
    }
    void listOpen(std::vector<int> &missing, std::vector<int> &unread) const override {
      for (size_t i = 0; i < requests.size(); ++i)
        if (requests[i] != MPI_REQUEST_NULL)
          peers[i] >= 0 ? missing.push_back(peers[i]) : unread.push_back(-1 - peers[i]);
    }

  private:
    const MPI_Comm communicator;
    const int myRank;
    std::vector<MPI_Request> requests;
    std::vector<int> peers; // of each request; sends are marked by -1 - peer
  };

  std::unique_ptr<Messages> makeMessages() override { return std::make_unique<MpiMessages>(messages, myRank); }

  MPI_Comm messages;
  std::vector<Peer> peers;
  std::vector<int> neighbours; // other ranks on this machine
};

} // namespace

Result<std::unique_ptr<Communicator>> makeMpiCommunicator(bool (*stopRequested)()) {
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
  auto communicator = std::make_unique<MpiCommunicator>(rank, size, messages, stopRequested);
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
