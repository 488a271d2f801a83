//===- CheckpointOptions.h - flags of checkpoints and recovery ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_CHECKPOINTOPTIONS_H
#define ZOPT_RUNTIME_LAUNCH_CHECKPOINTOPTIONS_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace zopt::runtime {

struct CheckpointOptions {
  std::string directory;
  int64_t everySteps = 0;  // 0: not by steps
  double everySeconds = 0; // 0: not by time
  int64_t keep = 2;        // 0: all
  enum class Resume { None, Newest, Auto, Path } resume = Resume::None;
  std::string resumePath;            // with Path: a folder of checkpoints, or one of them
  std::set<std::string> allowChange; // model, optimizer, batch, data
  int64_t maxRestarts = 0;
  bool keepBest = false; // the checkpoint of the least evaluation loss stays, beside those of `keep`

  // Set by the launcher: how often it has started the ranks anew.
  int64_t restart = 0;

  // As given, until they are read.
  struct Texts {
    std::string every, resume;
    std::vector<std::string> allowChange;
  } texts;
};

void addCheckpointFlags(CLI::App &app, CheckpointOptions &options);
/// Reads the texts; after the command line has been parsed.
Status readCheckpointFlags(CheckpointOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_CHECKPOINTOPTIONS_H
