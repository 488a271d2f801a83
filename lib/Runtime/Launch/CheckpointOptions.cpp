//===- CheckpointOptions.cpp - flags of checkpoints and recovery ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/CheckpointOptions.h"
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>

namespace zopt::runtime {

void addCheckpointFlags(CLI::App &app, CheckpointOptions &options) {
  app.add_option("--checkpoint-dir", options.directory,
                 "Save checkpoints here: at the end, at SIGTERM, SIGUSR1 and SIGUSR2, and as --checkpoint-every says");
  app.add_option("--checkpoint-every", options.texts.every, "Steps between checkpoints, or minutes (10min)");
  app.add_option("--keep", options.keep, "Checkpoints to keep, 0 for all (2)")->check(CLI::NonNegativeNumber);
  app.add_flag("--keep-best", options.keepBest,
               "Save after an evaluation with the least loss so far, and keep that beside the --keep newest");
  app.add_flag(
      "--resume{newest}", options.texts.resume,
      "Go on from the newest checkpoint of --checkpoint-dir; =auto: if there is one; =D or =D/TAG: from there");
  app.add_option("--allow-change", options.texts.allowChange,
                 "What may differ from the checkpoint: model, optimizer, batch, data")
      ->delimiter(',')
      ->check(CLI::IsMember({"model", "optimizer", "batch", "data"}));
  app.add_option("--max-restarts", options.maxRestarts,
                 "How often to start the ranks anew from the last checkpoint after one has died (0)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--internal-restart", options.restart)->group("");
}

Status readCheckpointFlags(CheckpointOptions &options) {
  const std::string &every = options.texts.every, &resume = options.texts.resume;
  if (!every.empty()) {
    char *end = nullptr;
    double number = std::strtod(every.c_str(), &end);
    std::string unit = end;
    bool minutes = unit == "min";
    if (end == every.c_str() || (!unit.empty() && !minutes) || !(number > 0) || !std::isfinite(number) ||
        (!minutes && number != std::floor(number)) || number > 1e15)
      return usageError("--checkpoint-every takes a number of steps (100) or of minutes (10min), but got '", every,
                        "'");
    if (minutes)
      options.everySeconds = 60 * number;
    else
      options.everySteps = int64_t(number);
    if (options.directory.empty())
      return usageError("--checkpoint-every says when to save, but not where: --checkpoint-dir is wanted too");
  }
  while (options.directory.size() > 1 && options.directory.back() == '/')
    options.directory.pop_back();
  if (resume == "auto") {
    options.resume = CheckpointOptions::Resume::Auto;
  } else if (resume == "newest") {
    options.resume = CheckpointOptions::Resume::Newest;
  } else if (!resume.empty()) {
    options.resume = CheckpointOptions::Resume::Path;
    options.resumePath = resume;
    while (options.resumePath.size() > 1 && options.resumePath.back() == '/')
      options.resumePath.pop_back();
  }
  if (options.directory.empty() &&
      (options.resume == CheckpointOptions::Resume::Auto || options.resume == CheckpointOptions::Resume::Newest))
    return usageError("--resume", resume == "auto" ? "=auto" : "",
                      " looks in --checkpoint-dir, which is not given (--resume=D reads from D)");
  if (options.keepBest && options.directory.empty())
    return usageError("--keep-best keeps a checkpoint, but there is no --checkpoint-dir");
  if (options.maxRestarts > 0 && options.directory.empty())
    return usageError("--max-restarts goes on from checkpoints, but there is no --checkpoint-dir");
  options.allowChange.insert(options.texts.allowChange.begin(), options.texts.allowChange.end());
  return success();
}

} // namespace zopt::runtime
