//===- Options.h - zrun's command line --------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every flag of zrun, as docs and INTERFACE name them. Unknown flags and values are errors of usage.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_OPTIONS_H
#define ZOPT_RUNTIME_LAUNCH_OPTIONS_H

#include "zopt/Runtime/Core/States.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Data/Dataset.h"
#include "zopt/Runtime/Launch/CheckpointOptions.h"
#include "zopt/Runtime/Monitor/RunChecks.h"
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace zopt::runtime {

struct RunOptions {
  std::string plan;
  int ranks = 1;
  bool ranksGiven = false;
  std::string launcher = "auto"; // env: ranks that somebody else has started, told by RANK, WORLD_SIZE, MASTER_ADDR and
                                 // MASTER_PORT; auto: mpirun's, or zrun starts them
  std::string comm =
      "auto"; // mpi, local, nccl, gloo; auto: nccl between GPUs, otherwise mpi (gloo with the launcher env)
  std::string target = "auto"; // cpu, cuda; the launcher chooses (see Target.h) before anything else reads it
  int threads = 0; // 0: chosen
  std::string hostfile, include, exclude, savePlan, cacheDirectory;
  double timeoutSeconds = 600;

  DatasetOptions data;
  int64_t steps = 0, epochs = 0; // 0: not given
  int workers = 0;               // threads that read ahead
  DatasetOptions evaluation;     // its files: none, no evaluation
  int64_t evaluationEvery = 0;   // steps; 0: after every epoch
  int64_t evaluationSteps = 0;   // batches of all ranks; 0: all of the data
  uint64_t seed = 0;

  // In place of the plan's.
  std::optional<double> learningRate, clip, weightDecay;
  std::optional<std::string> schedule;

  std::string weights;
  InitializationOptions initialization;
  bool sourceNames = false;
  CheckpointOptions checkpoint;
  std::string config; // in place of the plan's, for what the command line does not say
  std::string metrics, csv, tensorBoard, onMetrics, wandb; // monitors
  bool csvFolder = false;                                  // make the folder of the table, as DeepSpeed does
  int64_t printEvery = 0;                                  // steps between lines of progress; 0: by time
  bool breakdown = false;                                  // say where the time of a step went
  int prometheusPort = 0;                           // 0: none
  std::string weightsOut, averageOut, gradientsOut, outputs, trace, commLog;
  enum class Report { None, Text, Json } memoryReport = Report::None;
  double peakFlops = 0; // of a device, a second; 0: known by its model, or not at all
  bool stopAtNonFinite = false, rollBackAtNonFinite = false;
  bool doctor = false, dryRun = false, autotune = false;

  std::vector<DeviceMemory> devices; // of this machine, where the launcher has looked and the target is cuda
  std::string chip;                  // theirs: "sm_90"

  // Set by the launcher for the ranks that it starts.
  std::string program;         // compiled already
  std::string statusDirectory; // where ranks leave how they ended

  bool settled = false; // config and plan have been asked for what the command line does not say

  std::vector<std::string> arguments;       // as given, for the ranks
  std::map<std::string, std::string> given; // flags among them, without dashes, and their values by line breaks
};

/// What parsing leaves to be done.
enum class Parsed { Run, Exit };

/// Reads the command line. With Parsed::Exit (--help) everything has been said.
Result<Parsed> parseOptions(int argc, char **argv, RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_OPTIONS_H
