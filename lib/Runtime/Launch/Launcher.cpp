//===- Launcher.cpp - zrun, from its command line to its exit code --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Comm/Modules.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Runtime/Launch/Hosts.h"
#include "zopt/Runtime/Launch/RankProcess.h"
#include "zopt/Runtime/Launch/RankStatus.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Launch/Target.h"
#include "zopt/Runtime/Monitor/Doctor.h"
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

namespace zopt::runtime {

namespace {

int fail(const Status &status) {
  reportError(status);
  return int(status.kind());
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
  chooseSpinning(options, threads, threads * job.localRanks, true);
  if (!compiled && job.first) {
    failure = resolveTarget(options, job.localRanks);
    if (failure.succeeded()) {
      Result<std::string> program = compilePlan(options, std::max(1, job.announced), threads);
      failure = program.getStatus();
      if (!program.failed())
        options.program = *program;
    }
  }
  Result<const MpiModule *> mpi = loadMpiModule();
  if (mpi.failed())
    return fail(mpi.getStatus());
  Result<std::unique_ptr<Communicator>> made = (*mpi)->make(StopRequest::requested);
  if (made.failed())
    return fail(made.getStatus());
  StopRequest::install();
  const int rank = (*made)->rank();
  noteRankStarted(options.statusDirectory, rank);
  Status world = checkWorld(job, options, (*made)->size());
  return runRankProcess({options, std::move(*made), job.localRanks, world.failed() ? world : failure, !compiled,
                         !compiled && rank == 0, (*mpi)->finalize});
}

int runZrun(const RunOptions &given) {
  RunOptions options = given;
  if (options.doctor) {
    std::fputs(doctorReport(examineMachine()).c_str(), stdout);
    return 0;
  }
  if (options.launcher == "env")
    return runAsEnvironmentRank(options);
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
  chooseSpinning(options, threads, threads * *ranksHere, inThisProcess);
  StopRequest::install();
  if (!options.savePlan.empty())
    if (Status status = checkWritable(options.savePlan); status.failed())
      return fail(status);
  // The order of what takes long before the first step. The compiler's process is forked first, while this one has a
  // single thread, and loads the compiler while the driver is asked for its devices. Ranks that live in this process
  // ask in it, so that the driver starts once a run; processes that are to come are not forked from one that has used
  // the driver, so a child asks for them. While the plan is compiled, loaded and checked, threads make the contexts and
  // load CUDA's libraries (WarmDevices.cpp). An executor then has the kernels, the plans of cuDNN and the first values
  // made side by side (CudaExecutor::prepareDevice, InitialNumbers).
  const bool usesDevices = inThisProcess && options.checkpoint.maxRestarts == 0 && !options.dryRun && !options.autotune;
  std::unique_ptr<Child> compiler = startCompiler(options, options.ranks, threads);
  if (Status status = resolveTarget(options, *ranksHere, usesDevices); status.failed())
    return fail(status);
  std::shared_ptr<void> warmth;
  if (usesDevices && options.target == "cuda")
    warmth = warmDevices(*ranksHere);
  Result<std::string> program = compilePlan(options, options.ranks, threads, std::move(compiler));
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
