//===- Communicator.h - what ranks say to each other ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The interface between the executor and whatever connects the ranks of a job. Collectives are started and completed by id, as the plan says; every rank starts the same collectives in the
// same order. Between start and wait the buffers belong to the collective. Control messages (agreement, scalars, gathering outputs) are complete when they return.
//
// One Communicator serves one rank and one thread. Every wait is bounded by the timeout: the Status that then comes back says at which collective this rank stands and, where that is
// known, who has not arrived.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_COMMUNICATOR_H
#define ZOPT_RUNTIME_COMM_COMMUNICATOR_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

/// A collective of the plan, for matching and for messages. `id` is unique among those in flight.
struct Collective {
  int64_t id = 0;
  std::string label;
};

class Communicator {
public:
  virtual ~Communicator();

  int rank() const { return myRank; }
  int size() const { return worldSize; }
  /// "local", "mpi" or "gloo".
  virtual const char *name() const = 0;
  void setTimeout(double seconds) { timeoutSeconds = seconds; }

  /// Every rank's `bytes` bytes of `source` into `destination` in rank order; `source` may be this rank's part of `destination`.
  virtual Status startAllGather(const Collective &collective, const void *source, void *destination, int64_t bytes) = 0;
  /// sumInRankOrder of every rank's part `rank()` of `source` [size() * elements]. `workspace` has room for size() * elements of the source type and may be null in a world of 1.
  virtual Status startReduceScatter(const Collective &collective, const void *source, DataType sourceType, void *destination, DataType destinationType, void *workspace, int64_t elements, bool accumulate) = 0;
  /// Sums `buffer` [size() * elements] in place: the parts as startReduceScatter does, then gathered.
  virtual Status startAllReduce(const Collective &collective, void *buffer, DataType type, void *workspace, int64_t elements) = 0;
  virtual Status wait(int64_t id) = 0;
  /// Moves what is in flight forward without waiting for it. Called between commands.
  virtual Status progress() = 0;

  /// Fails where a peer is known to be gone, without waiting. For who waits for something else than a message of theirs.
  virtual Status checkPeers(const std::string &label);

  /// Before a process ends that has failed on its own: gives the other ranks the time to see what it saw, where its end
  /// would hide that. Afterwards nothing reads or writes what a collective was given. Nothing, the second time.
  virtual void linger();

  /// Every rank's `bytes` bytes in rank order, on every rank.
  virtual Status allGatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) = 0;
  /// The same, on rank 0 only (`destination` is not used elsewhere).
  virtual Status gatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) = 0;

  /// Sums of `count` elements over ranks, in rank order, in f64, rounded to the type.
  Status allReduceScalars(const std::string &label, const void *source, void *destination, int64_t count, DataType type);
  /// Sums of integers.
  Status allReduceIntegers(const std::string &label, int64_t *values, int64_t count);
  /// Largest of each value.
  Status allReduceMaximum(const std::string &label, double *values, int64_t count);
  Status barrier(const std::string &label);
  /// Rank 0's text on every rank.
  Status broadcast(const std::string &label, std::string &text);
  /// The failure of the lowest rank that has one, on every rank: a problem that one rank sees ends all. Its Error names that rank, or the one that `mine` names already.
  Status agree(const std::string &label, const Status &mine);

protected:
  Communicator(int rank, int size) : myRank(rank), worldSize(size) {}
  const int myRank, worldSize;
  double timeoutSeconds = 600;

private:
  std::vector<char> scratch; // of the small control messages, kept between calls
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_COMMUNICATOR_H
