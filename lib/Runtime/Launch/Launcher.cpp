//===- Launcher.cpp - zrun, from its command line to its exit code --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Comm/Mpi.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Runtime/Launch/Hosts.h"
#include "zopt/Runtime/Launch/RankStatus.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Launch/Target.h"
#include "zopt/Runtime/Monitor/Doctor.h"
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace zopt::runtime {

namespace {

int fail(const Status &status) {
  reportError(status);
  return int(status.kind());
}

/// What all ranks have agreed on is told once: by the rank that it happened to, or by rank 0 where it happened to all.
void reportFrom(int rank, int ranks, const Status &status, bool agreed) {
  if (!agreed)
    reportError(ranks == 1 ? status : status.onRank(rank));
  else if (std::max(0, status.getError().rank) == rank)
    reportError(status);
}

/// OpenMP's threads spin for milliseconds between loops unless told otherwise. Where other work wants the cores that keeps a rank waiting for its own threads: measured on two cores with a load of
/// ten, 0.6k tokens/s became 3.1k with short spins and 5.4k with none. Short ones bridge the gap between two commands. Returns whether the environment was changed, which the library reads only
/// when it is loaded.
bool chooseSpinning(int threadsHere) {
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

RunEnd runLocally(const Run &run, int ranks) {
  std::vector<std::unique_ptr<Communicator>> communicators = makeLocalWorld(ranks);
  std::vector<int> codes(size_t(ranks), 0);
  std::atomic<bool> lost{false};
  std::vector<std::thread> threads;
  auto runOne = [&](int rank) {
    bool agreed = false;
    Result<int> result = runRank(run, *communicators[rank], agreed);
    if (result.failed()) {
      codes[rank] = int(result.getStatus().kind());
      lost = lost || !agreed;
      reportFrom(rank, ranks, result.getStatus(), agreed);
    } else {
      codes[rank] = *result;
    }
    // Whoever still waits for this rank learns that it has ended.
    communicators[rank].reset();
  };
  for (int rank = 1; rank < ranks; ++rank)
    threads.emplace_back(runOne, rank);
  runOne(0);
  for (std::thread &thread : threads)
    thread.join();
  return {*std::max_element(codes.begin(), codes.end()), lost};
}

int runAsRank(const RunOptions &given, const Job &job) {
  RunOptions options = given;
  // Compiled by the first rank, before MPI starts: a process that has talked to the network should not fork.
  bool compiled = !options.program.empty();
  Status failure;
  int threads = chooseThreads(options, job.localRanks);
  if (chooseSpinning(threads * job.localRanks) && threads > 1)
    startAnew(options);
  if (!compiled && job.first) {
    failure = resolveTarget(options, job.localRanks);
    if (failure.succeeded()) {
      Result<std::string> program = compilePlan(options, std::max(1, job.announced), threads);
      failure = program.getStatus();
      if (!program.failed())
        options.program = *program;
    }
  }
  Result<std::unique_ptr<Communicator>> made = makeMpiCommunicator();
  if (made.failed())
    return fail(made.getStatus());
  StopRequest::install();
  std::unique_ptr<Communicator> communicator = std::move(*made);
  const int rank = communicator->rank();
  noteRankStarted(options.statusDirectory, rank);
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
    ZOPT_RETURN_IF_FAILED(together(checkWorld(job, options, communicator->size())));
    ZOPT_RETURN_IF_FAILED(together(failure));
    if (!compiled)
      ZOPT_RETURN_IF_FAILED(communicator->broadcast("compiled plan", options.program));
    Result<std::shared_ptr<Run>> run = Run::load(options, options.program);
    Status loaded = run.getStatus();
    if (loaded.succeeded())
      options = (*run)->options;
    if (loaded.succeeded() && !compiled && rank == 0)
      loaded = checkRun(**run, job.localRanks);
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
  if (!orderly)
    _exit(code);
  communicator.reset();
  finalizeMpi();
  return options.statusDirectory.empty() ? code : 0;
}

int runZrun(const RunOptions &given) {
  RunOptions options = given;
  if (options.doctor) {
    std::fputs(doctorReport(examineMachine()).c_str(), stdout);
    return 0;
  }
  Job job = detectJob();
  if (Status status = checkJob(job, options); status.failed())
    return fail(status);
  if (job.joined) {
    if (options.checkpoint.maxRestarts > 0 && options.statusDirectory.empty())
      return fail(usageError("--max-restarts starts ranks anew that zrun has started, but these were started by ", job.variable.empty() ? "another launcher" : job.variable + "'s launcher",
                             ": start the job again with --resume=auto"));
    return runAsRank(options, job);
  }

  Result<int> ranksHere = localRanks(options);
  if (ranksHere.failed())
    return fail(ranksHere.getStatus());
  int threads = chooseThreads(options, *ranksHere);
  bool inThisProcess = options.comm == "local" || (options.ranks == 1 && options.hostfile.empty());
  if (chooseSpinning(threads * *ranksHere) && inThisProcess && threads > 1)
    startAnew(options);
  StopRequest::install();
  if (!options.savePlan.empty())
    if (Status status = checkWritable(options.savePlan); status.failed())
      return fail(status);
  if (Status status = resolveTarget(options, *ranksHere); status.failed())
    return fail(status);
  Result<std::string> program = compilePlan(options, options.ranks, threads);
  if (program.failed())
    return fail(program.getStatus());
  {
    Result<std::shared_ptr<Run>> run = Run::load(options, *program);
    if (run.failed())
      return fail(run.getStatus());
    options = (*run)->options;
    if (Status status = checkRun(**run, *ranksHere); status.failed())
      return fail(status);
    if (options.dryRun) {
      reportNote("everything that this run needs is there; no step was run");
      return 0;
    }
    if (StopRequest::requested())
      return StopRequest::exitCode();
    // A world of one has nobody to talk to.
    if (inThisProcess) {
      if (options.checkpoint.maxRestarts == 0)
        return runLocally(**run, options.ranks).code;
      StopRequest::install(/*exits=*/false);
      return runWithRestarts(options, [&](const RunOptions &anew) {
        return runInChild([&] {
          (*run)->options = anew;
          return runLocally(**run, anew.ranks);
        });
      });
    }
  }
  StopRequest::install(/*exits=*/false);
  return runWithRestarts(options, [&](const RunOptions &anew) { return runUnderMpirun(anew, *program, anew.ranks); });
}

} // namespace zopt::runtime
