//===- Launcher.h - zrun, from its command line to its exit code -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// How a run is started: ranks as threads of this process, as processes under mpirun, or this process as one rank of a job that mpirun or srun has started.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_LAUNCHER_H
#define ZOPT_RUNTIME_LAUNCH_LAUNCHER_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Launch/Job.h"
#include "zopt/Runtime/Launch/Options.h"
#include <functional>
#include <memory>
#include <string>

namespace zopt::runtime {

struct Run;

/// All of zrun: gives the exit code; everything has been said.
int runZrun(const RunOptions &options);

/// Ranks as threads.
int runLocally(const Run &run, int ranks);

/// Starts `ranks` processes of this program through mpirun, passes signals on, and waits for their end.
int runUnderMpirun(const RunOptions &options, const std::string &programPath, int ranks);

/// This process is a rank.
int runAsRank(const RunOptions &options, const Job &job);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_LAUNCHER_H
