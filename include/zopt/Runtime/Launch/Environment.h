//===- Environment.h - ranks that somebody else has started -----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What torchrun, Kubeflow's PyTorchJob or a script tell a process of its rank: RANK, WORLD_SIZE, MASTER_ADDR,
// MASTER_PORT, and, where they know them, LOCAL_RANK and LOCAL_WORLD_SIZE.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_ENVIRONMENT_H
#define ZOPT_RUNTIME_LAUNCH_ENVIRONMENT_H

#include "zopt/Runtime/Comm/Meeting.h"
#include "zopt/Runtime/Launch/Options.h"

namespace zopt::runtime {

struct EnvironmentJob {
  MeetingPlace place;
  int localRanks = 0; // LOCAL_WORLD_SIZE; 0 where it is not set
};

/// Refuses what is missing or wrong, all of it at once, and options that cannot be meant.
Result<EnvironmentJob> readEnvironment(const RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_ENVIRONMENT_H
