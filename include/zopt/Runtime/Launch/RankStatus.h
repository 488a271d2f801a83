//===- RankStatus.h - how ranks ended, for the launcher ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// mpirun tells little of how its ranks ended, and its exit code less. So each rank leaves a file in a folder that the launcher made: its process id when it starts, and how it ended when it has.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_RANKSTATUS_H
#define ZOPT_RUNTIME_LAUNCH_RANKSTATUS_H

#include <string>
#include <vector>

namespace zopt::runtime {

struct RankStatus {
  int rank = 0;
  long process = 0;
  bool ended = false; // on its own account
  int exitCode = 0;
  bool orderly = false; // together with the others
};

/// Does nothing where `directory` is empty: under the user's own mpirun.
void noteRankStarted(const std::string &directory, int rank);
void noteRankEnded(const std::string &directory, int rank, int exitCode, bool orderly);

/// The ranks that have started, in order.
std::vector<RankStatus> readRankStatus(const std::string &directory, int ranks);
void removeRankStatus(const std::string &directory, int ranks);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_RANKSTATUS_H
