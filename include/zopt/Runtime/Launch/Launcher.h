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

/// How ranks ended.
struct RunEnd {
  int code = 0;
  bool lost = false; // a rank died or left the others: to start them anew may help. Otherwise all of them have agreed on how to end.
};

/// Ranks as threads.
RunEnd runLocally(const Run &run, int ranks);

/// Starts `ranks` processes of this program through mpirun, passes signals on, and waits for their end.
RunEnd runUnderMpirun(const RunOptions &options, const std::string &programPath, int ranks);

/// Runs `attempt` once, and then again for as long as ranks are lost, nothing has asked for an end and --max-restarts is not used up. It receives the options for that attempt. Gives the exit code.
int runWithRestarts(const RunOptions &options, const std::function<RunEnd(const RunOptions &)> &attempt);

/// What is to be said of a process that a signal has killed: whether the kernel has run out of memory since readOomKills() gave `before`. Empty for other signals than 9.
std::string outOfMemoryText(int signal, int64_t before);

/// Runs `body` in a child process, which signals are passed on to, so that its death is not ours. Called while the process has one thread.
RunEnd runInChild(const std::function<RunEnd()> &body);

/// This process is a rank that mpirun or srun has started.
int runAsRank(const RunOptions &options, const Job &job);

/// This process is a rank that anybody has started: --launcher=env.
int runAsEnvironmentRank(const RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_LAUNCHER_H
