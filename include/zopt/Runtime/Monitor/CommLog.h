//===- CommLog.h - what collectives cost ----------------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_COMMLOG_H
#define ZOPT_RUNTIME_MONITOR_COMMLOG_H

#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/Status.h"
#include <map>
#include <string>
#include <vector>

namespace zopt::runtime {

/// Collectives of one kind and size. Bytes are those of the whole: what a gather gives, what a reduction takes.
struct CommEntry {
  std::string kind; ///< all_gather, reduce_scatter, all_reduce, all_reduce_scalars
  int64_t bytes = 0;
  int64_t count = 0;      ///< on a rank
  double seconds = 0;     ///< of all of them, mean over ranks
  double slowest = 0;     ///< of the slowest rank
  double algorithm = 0;   ///< bytes a second: bytes / time
  double bus = 0;         ///< the same times what the algorithm must move a link: (n - 1) / n of a gather or scatter, 2 (n - 1) / n of a reduction to all
};

/// Adds up what a rank's collectives took. A collective's time is its own on a GPU, and from its start to the end of its wait on a CPU: what is computed meanwhile is in it.
class CommLog {
public:
  CommLog(const Program &program, int ranks);
  /// The commands of a step, in their order. Allocates nothing of note after the first step.
  void add(const std::vector<ExecutedCommand> &commands);
  /// Every rank calls it; on rank 0 it gives the entries, by kind and size.
  Result<std::vector<CommEntry>> gather(Communicator &communicator);

private:
  struct Sum {
    int64_t count = 0, nanoseconds = 0;
  };
  int ranks;
  std::map<std::pair<std::string, int64_t>, Sum> sums;                  // by kind and bytes; the same keys on all ranks
  std::map<const Command *, std::pair<const std::string, int64_t>> kinds; // of the program's collectives
};

/// {"world":N,"comm":"mpi","steps":N,"collectives":[{"kind","bytes","count","seconds","slowest_rank_seconds","algorithm_bandwidth","bus_bandwidth"}]}, bandwidths in bytes a second.
std::string commLogJson(const std::vector<CommEntry> &entries, int ranks, const std::string &comm, int64_t steps);
/// The same as a table for people, GB/s.
std::string commLogTable(const std::vector<CommEntry> &entries, int ranks, const std::string &comm, int64_t steps);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_COMMLOG_H
