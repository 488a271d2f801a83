//===- Run.h - a run: what is loaded, checked and trained -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a process needs for its ranks, the checks that precede every run, and the run of one rank: first values, steps, outputs.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_RUN_H
#define ZOPT_RUNTIME_LAUNCH_RUN_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Core/KernelLibrary.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Schedule.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Data/Dataset.h"
#include "zopt/Runtime/Launch/Options.h"
#include "zopt/Runtime/Launch/WeightsFile.h"
#include <memory>
#include <string>

namespace zopt::runtime {

/// Shared by the ranks of a process; nothing in it changes during a run.
struct Run {
  RunOptions options;
  Program program;
  std::shared_ptr<KernelLibrary> kernels; // of a program of the CPU
  std::string kernelFile;                 // of one of the GPU: PTX
  std::shared_ptr<Dataset> dataset;
  std::shared_ptr<Dataset> evaluation; // null: no --eval-data
  std::shared_ptr<WeightsFile> weights; // of --weights
  bool cyclesMomentum = false;          // the schedule sets the optimizer's momentum
  double learningRate = 1e-3;           // the plan's, or that of --lr
  Schedule schedule;                    // of the rate, with its last step where it has one

  /// Opens everything that the compiled program at `path` and the options name.
  static Result<std::shared_ptr<Run>> load(const RunOptions &options, const std::string &path);

private:
  /// Rate, schedule and decay: the options' in place of the program's.
  Status chooseHyperparameters();
};

/// What must hold before step 1: weights, the first batch, outputs that can be written, memory for the `localRanks` ranks of this machine. Prints what the user should know.
Status checkRun(const Run &run, int localRanks);

/// Runs one rank to its end and gives the exit code: 0, or 130 and 143 after a signal. Every rank of the world calls it. Failures that all ranks have agreed on name their rank and are
/// to be told by that rank alone; others are this rank's own.
Result<int> runRank(const Run &run, Communicator &communicator, bool &agreed);

/// One line for each line of the message, "zrun: error: ..." where it does not name its place already.
void reportError(const Status &status);
void reportNote(const std::string &text);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_RUN_H
