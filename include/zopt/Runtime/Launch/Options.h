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
#include <optional>
#include <string>
#include <vector>

namespace zopt::runtime {

struct RunOptions {
  std::string plan;
  int ranks = 1;
  bool ranksGiven = false;
  std::string comm = "auto";   // mpi, local, nccl; auto: nccl between GPUs, otherwise mpi
  std::string target = "auto"; // cpu, cuda; the launcher chooses (see Target.h) before anything else reads it
  int threads = 0; // 0: chosen
  std::string hostfile, savePlan, cacheDirectory;
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
  std::string metrics, csv, tensorBoard, onMetrics; // monitors
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

  std::vector<std::string> arguments; // as given, for the ranks
};

/// What parsing leaves to be done.
enum class Parsed { Run, Exit };

/// Reads the command line. With Parsed::Exit (--help) everything has been said.
Result<Parsed> parseOptions(int argc, char **argv, RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_OPTIONS_H
