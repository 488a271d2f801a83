//===- Job.h - the job that a process finds itself in -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the environment says of a world of ranks: whether mpirun or srun started this process as one of them, and how many they announce.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_JOB_H
#define ZOPT_RUNTIME_LAUNCH_JOB_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Launch/Options.h"
#include <string>

namespace zopt::runtime {

struct Job {
  bool joined = false;    // started as a rank by mpirun or srun
  bool first = true;      // rank 0 of it, as far as the environment tells
  int announced = 0;      // ranks, 0 where nothing is said
  std::string variable;   // that says so
  int localRanks = 1;     // ranks of the job on this machine
};

Job detectJob();

/// Refuses what cannot be meant: a launcher where the environment announces another world than --nproc, a job of another size than --nproc.
Status checkJob(const Job &job, const RunOptions &options);
/// After MPI has started: refuses ranks that found themselves in another world than announced.
Status checkWorld(const Job &job, const RunOptions &options, int worldSize);

/// Threads for each of `localRanks` ranks of this machine where --threads is not given.
int chooseThreads(const RunOptions &options, int localRanks);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_JOB_H
