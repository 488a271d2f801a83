//===- RankProcess.h - a process that is one rank ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What processes do alike that MPI or gloo has connected, from the plan to the exit code.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_RANKPROCESS_H
#define ZOPT_RUNTIME_LAUNCH_RANKPROCESS_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Launch/Options.h"
#include <memory>

namespace zopt::runtime {

struct RankProcess {
  RunOptions options;
  std::unique_ptr<Communicator> communicator;
  int localRanks = 1;           // on this machine
  Status start;                 // what this rank found wrong before it was connected
  bool shareProgram = false;    // rank 0's compiled plan is everybody's
  bool check = false;           // of what the run needs here, by this rank
  void (*finalize)() = nullptr; // of the library, where ranks end together
};

/// Runs the rank and gives the process's exit code. Does not return where this rank failed on its own.
int runRankProcess(RankProcess process);

/// Prints what all ranks have agreed on once, by the rank that it happened to, or by rank 0 where it happened to all;
/// anything else as this rank's.
void reportFrom(int rank, int ranks, const Status &status, bool agreed);

/// Chooses how OpenMP's threads wait, in the environment, and starts this program anew where that must be set before
/// its libraries are loaded.
void chooseSpinning(const RunOptions &options, int threads, int threadsHere, bool mayStartAnew);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_RANKPROCESS_H
