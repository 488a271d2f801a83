//===- Environment.cpp - ranks that somebody else has started -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Environment.h"
#include <cerrno>
#include <cstdlib>

namespace zopt::runtime {

namespace {

std::string textOf(const char *variable) {
  const char *text = std::getenv(variable);
  return text ? text : "";
}

class Reader {
public:
  /// A number from `least` to `most`; `otherwise` where the variable is not set, or a problem where that is below
  /// `least`.
  int number(const char *variable, int least, int most, int otherwise) {
    std::string text = textOf(variable);
    if (text.empty()) {
      if (otherwise < least)
        add(variable, " is not set");
      return otherwise;
    }
    char *end = nullptr;
    errno = 0;
    long value = std::strtol(text.c_str(), &end, 10);
    if (*end != '\0' || errno != 0 || value < least || value > most) {
      add(variable, " is '" + text + "', not a number from " + std::to_string(least) + " to " + std::to_string(most));
      return otherwise;
    }
    return int(value);
  }
  void add(const std::string &variable, const std::string &what) {
    problems += (problems.empty() ? "" : "; ") + variable + what;
  }

  std::string problems;
};

} // namespace

Result<EnvironmentJob> readEnvironment(const RunOptions &options) {
  constexpr int kMost = 65536, kUnset = -1;
  Reader reader;
  EnvironmentJob job;
  MeetingPlace &place = job.place;
  place.size = reader.number("WORLD_SIZE", 1, kMost, kUnset);
  place.rank = reader.number("RANK", 0, kMost, kUnset);
  place.address = textOf("MASTER_ADDR");
  // A world of one has nobody to meet.
  if (place.address.empty() && place.size != 1)
    reader.add("MASTER_ADDR", " is not set");
  place.port = place.size == 1 ? 0 : reader.number("MASTER_PORT", 1, 65535, kUnset);
  job.localRanks = reader.number("LOCAL_WORLD_SIZE", 1, kMost, 1);
  if (textOf("LOCAL_WORLD_SIZE").empty())
    job.localRanks = 0;
  int localRank = reader.number("LOCAL_RANK", 0, kMost, 0);
  if (reader.problems.empty() && place.rank >= place.size)
    reader.add("RANK", " is " + std::to_string(place.rank) + ", but WORLD_SIZE is " + std::to_string(place.size));
  if (reader.problems.empty() && job.localRanks > place.size)
    reader.add("LOCAL_WORLD_SIZE",
               " is " + std::to_string(job.localRanks) + ", but WORLD_SIZE is " + std::to_string(place.size));
  if (reader.problems.empty() && job.localRanks > 0 && localRank >= job.localRanks)
    reader.add("LOCAL_RANK",
               " is " + std::to_string(localRank) + ", but LOCAL_WORLD_SIZE is " + std::to_string(job.localRanks));
  if (!reader.problems.empty())
    return usageError("--launcher=env takes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT from the environment, as "
                      "torchrun and PyTorchJob set them, but ",
                      reader.problems);
  if (options.ranksGiven && options.ranks != place.size)
    return usageError("--nproc is ", options.ranks, ", but WORLD_SIZE is ", place.size);
  if (options.checkpoint.maxRestarts > 0)
    return usageError("--max-restarts starts ranks anew that zrun has started, but with --launcher=env somebody else "
                      "has: let that start them again (torchrun --max-restarts, restartPolicy) with --resume=auto");
  // torchrun holds MASTER_PORT itself, with a store that outlives the workers of one attempt.
  place.torchStore = textOf("TORCHELASTIC_USE_AGENT_STORE") == "True";
  place.torchKey = "zopt/" + textOf("TORCHELASTIC_RUN_ID") + "/" + textOf("TORCHELASTIC_RESTART_COUNT");
  place.timeoutSeconds = options.timeoutSeconds;
  return job;
}

} // namespace zopt::runtime
