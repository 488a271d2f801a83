//===- EnvironmentRank.cpp - zrun --launcher=env --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Comm/Modules.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Runtime/Launch/Environment.h"
#include "zopt/Runtime/Launch/Job.h"
#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Launch/RankProcess.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Launch/Target.h"
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

using nlohmann::json;

/// What must be the same on every rank, or they would wait for each other in vain or train different models: the plan's
/// text and flags, by name.
Result<json> whatIsRun(const RunOptions &options) {
  std::ifstream file(options.plan, std::ios::binary);
  if (!file)
    return fileError(options.plan, "open", errno);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string plan = text.str();
  json run = {{"--steps", options.steps},
              {"--epochs", options.epochs},
              {"--seed", options.seed},
              {"--shuffle", options.data.shuffle},
              {"--comm", options.comm},
              {"--target", options.target},
              {"--threads", options.threads},
              {"--dry-run", options.dryRun},
              {"--schedule", options.schedule.value_or("")},
              {"--checkpoint-dir", !options.checkpoint.directory.empty()},
              {"--data", !options.data.files.empty()},
              {"--weights-out", !options.weightsOut.empty()},
              {"--gradients-out", !options.gradientsOut.empty()},
              {"--outputs", !options.outputs.empty()},
              {"--trace", !options.trace.empty()}};
  for (auto [name, value] : {std::pair("--lr", options.learningRate), std::pair("--clip", options.clip),
                             std::pair("--weight-decay", options.weightDecay)})
    run[name] = value ? json(*value) : json();
  run["plan"] = XXH3_64bits(plan.data(), plan.size());
  return run;
}

Status compare(const std::vector<std::string> &all) {
  const json first = json::parse(all[0], nullptr, false);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const json other = json::parse(all[rank], nullptr, false);
    if (!first.is_object() || !other.is_object())
      continue; // a rank that failed at its own has told so
    if (first["plan"] != other.value("plan", json()))
      return inputError("rank ", rank, "'s plan is another than rank 0's: every rank must be given the same file");
    for (const auto &[name, value] : first.items())
      if (json theirs = other.value(name, json()); theirs != value)
        return usageError("rank ", rank, " was given other flags than rank 0: ", name, " is ", theirs.dump(),
                          " there, and ", value.dump(), " for rank 0");
  }
  return success();
}

/// From the meeting to a connected rank. Every rank calls it, and all of them fail where one does.
Status prepare(RankProcess &process, Meeting &meeting, const EnvironmentJob &job) {
  RunOptions &options = process.options;
  const int rank = meeting.rank();
  const auto &machines = meeting.machines();
  const std::string &machine = machines[size_t(rank)];
  process.localRanks = job.localRanks > 0 ? job.localRanks : int(std::count(machines.begin(), machines.end(), machine));

  Result<json> mine = whatIsRun(options);
  ZOPT_RETURN_IF_FAILED(meeting.agree("plan", mine.getStatus(), options.timeoutSeconds));
  Result<std::vector<std::string>> all = meeting.exchange("plan", mine->dump(), options.timeoutSeconds);
  if (all.failed())
    return all.getStatus();
  // Every rank comes to the same verdict.
  ZOPT_RETURN_IF_FAILED(compare(*all));

  // Rank 0 chooses for all.
  Status status;
  if (rank == 0)
    status = resolveTarget(options, process.localRanks);
  ZOPT_RETURN_IF_FAILED(meeting.agree("target", status, 0));
  all = meeting.exchange(
      "target", json{{"target", options.target}, {"threads", chooseThreads(options, process.localRanks)}}.dump(),
      options.timeoutSeconds);
  if (all.failed())
    return all.getStatus();
  const json chosen = json::parse((*all)[0], nullptr, false);
  options.target = chosen.value("target", options.target);
  const int threads = chosen.value("threads", 1);

  // The first rank of each machine compiles for it, while others wait without a time-out: machines need not share a
  // file system.
  const int leader = int(std::find(machines.begin(), machines.end(), machine) - machines.begin());
  if (rank == leader) {
    if (rank != 0) {
      options.savePlan.clear();
      status = resolveTarget(options, process.localRanks);
    }
    if (status.succeeded()) {
      Result<std::string> program = compilePlan(options, meeting.size(), threads);
      status = program.getStatus();
      if (status.succeeded())
        options.program = *program;
    }
  }
  ZOPT_RETURN_IF_FAILED(meeting.agree("compiled plan", status, 0));
  all = meeting.exchange("compiled plan", options.program, options.timeoutSeconds);
  if (all.failed())
    return all.getStatus();
  options.program = (*all)[size_t(leader)];

  Result<const GlooModule *> gloo = loadGlooModule();
  ZOPT_RETURN_IF_FAILED(meeting.agree("gloo", gloo.getStatus(), options.timeoutSeconds));
  Result<std::unique_ptr<Communicator>> made = (*gloo)->make(meeting, options.timeoutSeconds, StopRequest::requested);
  if (!made.failed())
    process.communicator = std::move(*made);
  return made.getStatus();
}

/// A world of one has nobody to meet.
Status prepareAlone(RankProcess &process) {
  RunOptions &options = process.options;
  ZOPT_RETURN_IF_FAILED(resolveTarget(options, 1));
  Result<std::string> program = compilePlan(options, 1, chooseThreads(options, 1));
  if (program.failed())
    return program.getStatus();
  options.program = *program;
  process.communicator = std::move(makeLocalWorld(1)[0]);
  return success();
}

} // namespace

int runAsEnvironmentRank(const RunOptions &options) {
  auto fail = [](const Status &status) {
    // A rank that was asked to end before there was anything to do has nothing to tell.
    if (StopRequest::requested())
      return StopRequest::exitCode();
    reportError(status);
    return int(status.kind());
  };
  Result<EnvironmentJob> job = readEnvironment(options);
  if (job.failed())
    return fail(job.getStatus());
  const int expected = std::max(1, job->localRanks), threads = chooseThreads(options, expected);
  chooseSpinning(options, threads, threads * expected, true);
  StopRequest::install();
  job->place.stopRequested = StopRequest::requested;

  RankProcess process;
  process.options = options;
  process.check = job->place.rank == 0;
  if (job->place.size == 1) {
    if (Status status = prepareAlone(process); status.failed())
      return fail(status);
    return runRankProcess(std::move(process));
  }
  Result<std::unique_ptr<Meeting>> meeting = Meeting::join(job->place);
  if (meeting.failed())
    return fail(meeting.getStatus());
  if (Status status = prepare(process, **meeting, *job); status.failed())
    return fail(status);
  meeting->reset();
  return runRankProcess(std::move(process));
}

} // namespace zopt::runtime
