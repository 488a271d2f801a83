//===- RankProcess.cpp - a process that is one rank -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/RankProcess.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include "zopt/Runtime/Launch/RankStatus.h"
#include "zopt/Runtime/Launch/Run.h"
#include <algorithm>
#include <cstdlib>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// OpenMP's threads spin for milliseconds between loops unless told otherwise. Where other work wants the cores that
/// keeps a rank waiting for its own threads: measured on two cores with a load of ten, 0.6k tokens/s became 3.1k with
/// short spins and 5.4k with none. Short ones bridge the gap between two commands. Returns whether the environment was
/// changed, which the library reads only when it is loaded.
bool setSpinning(int threadsHere) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT"))
    return false;
  double load = 0;
  bool busy = getloadavg(&load, 1) == 1 && load > availableCores();
  if (threadsHere > availableCores() || busy)
    setenv("OMP_WAIT_POLICY", "passive", 1);
  else
    setenv("GOMP_SPINCOUNT", "3000", 1);
  return true;
}

/// Starts this program anew, with the environment as it is now.
void startAnew(const RunOptions &options) {
  std::string self = "zrun";
  std::vector<char *> arguments = {self.data()};
  for (const std::string &argument : options.arguments)
    arguments.push_back(const_cast<char *>(argument.c_str()));
  arguments.push_back(nullptr);
  execv("/proc/self/exe", arguments.data());
  // Where that fails the run is slower and no other.
}

} // namespace

void reportFrom(int rank, int ranks, const Status &status, bool agreed) {
  if (!agreed)
    reportError(ranks == 1 ? status : status.onRank(rank));
  else if (std::max(0, status.getError().rank) == rank)
    reportError(status);
}

void chooseSpinning(const RunOptions &options, int threads, int threadsHere, bool mayStartAnew) {
  if (setSpinning(threadsHere) && mayStartAnew && threads > 1)
    startAnew(options);
}

int runRankProcess(RankProcess process) {
  RunOptions &options = process.options;
  std::unique_ptr<Communicator> communicator = std::move(process.communicator);
  const int rank = communicator->rank();
  communicator->setTimeout(options.timeoutSeconds);

  bool agreed = false;
  int code = 0;
  auto body = [&]() -> Status {
    // Every rank must come to the same verdicts, so that they leave together.
    auto together = [&](const Status &mine) {
      Status verdict = communicator->agree("start", mine);
      agreed = verdict.failed() && verdict.getError().operation.empty();
      return verdict;
    };
    ZOPT_RETURN_IF_FAILED(together(process.start));
    if (process.shareProgram)
      ZOPT_RETURN_IF_FAILED(communicator->broadcast("compiled plan", options.program));
    Result<std::shared_ptr<Run>> run = Run::load(options, options.program);
    Status loaded = run.getStatus();
    if (loaded.succeeded())
      options = (*run)->options;
    if (loaded.succeeded() && process.check)
      loaded = checkRun(**run, process.localRanks);
    ZOPT_RETURN_IF_FAILED(together(loaded));
    if (options.dryRun)
      return success();
    Result<int> result = runRank(**run, *communicator, agreed);
    if (!result.failed())
      code = *result;
    return result.getStatus();
  };
  Status status = body();
  if (status.failed()) {
    code = int(status.kind());
    reportFrom(rank, communicator->size(), status, agreed);
  }
  // Ranks that end together say so to the launcher; under the user's own mpirun the exit code is all that there is.
  bool orderly = status.succeeded() || agreed;
  noteRankEnded(options.statusDirectory, rank, code, orderly);
  if (!orderly) {
    communicator->linger();
    _exit(code);
  }
  communicator.reset();
  if (process.finalize)
    process.finalize();
  return options.statusDirectory.empty() ? code : 0;
}

} // namespace zopt::runtime
