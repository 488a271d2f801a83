//===- Run.cpp - what is loaded and checked for a run ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Launch/Checkpoints.h"
#include "zopt/Runtime/Launch/Evaluation.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/InitialValues.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Data/Prefetcher.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"
#include "zopt/Runtime/Launch/Settle.h"
#include "zopt/Runtime/Monitor/RunChecks.h"
#include <algorithm>
#include <filesystem>
#include <unistd.h>

namespace zopt::runtime {

Result<std::shared_ptr<Run>> Run::load(const RunOptions &given, const std::string &path) {
  auto run = std::make_shared<Run>();
  run->options = given;
  Result<Program> program = readProgram(path);
  if (program.failed())
    return program.getStatus();
  run->program = std::move(*program);
  ZOPT_RETURN_IF_FAILED(settleOptions(run->options, run->program));
  const RunOptions &options = run->options;
  size_t slash = path.rfind('/');
  run->kernelFile = (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + run->program.sharedObject;
  if (run->program.target != "cuda") {
    Result<std::shared_ptr<KernelLibrary>> kernels = KernelLibrary::load(run->kernelFile, run->program);
    if (kernels.failed())
      return kernels.getStatus();
    run->kernels = *kernels;
  }
  Result<std::unique_ptr<Dataset>> dataset = Dataset::open(run->program, options.data);
  if (dataset.failed())
    return dataset.getStatus();
  run->dataset = std::move(*dataset);
  if (!options.evaluation.files.empty()) {
    ZOPT_RETURN_IF_FAILED(checkEvaluation(run->program));
    Result<std::unique_ptr<Dataset>> evaluation = Dataset::open(run->program, options.evaluation);
    if (evaluation.failed())
      return evaluation.getStatus();
    run->evaluation = std::move(*evaluation);
  }
  if (!options.weights.empty()) {
    Result<std::shared_ptr<WeightsFile>> weights = WeightsFile::open(options.weights, run->program, options.sourceNames, options.checkpoint.allowChange.count("model") > 0);
    if (weights.failed())
      return weights.getStatus();
    run->weights = *weights;
  }
  ZOPT_RETURN_IF_FAILED(run->chooseHyperparameters());
  return run;
}

Status Run::chooseHyperparameters() {
  learningRate = options.learningRate.value_or(program.learningRate);
  Result<Schedule> parsed = Schedule::parse(options.schedule.value_or(program.schedule));
  if (parsed.failed())
    return inputError(options.plan, ": ", parsed.getStatus().message());
  schedule = *parsed;
  bool takesMomentum = false;
  for (const State &state : program.states)
    takesMomentum |= state.name == "zopt.momentum";
  // A plan for an optimizer without betas has the schedule, but no momentum that cycles; zopt has said so.
  cyclesMomentum = takesMomentum && schedule.cyclesMomentum();
  if (options.schedule && takesMomentum != schedule.cyclesMomentum())
    return usageError("--schedule: ", takesMomentum ? "the plan's schedule cycles the momentum, which this one does not set" : "it cycles the momentum, which the plan has as a number", ": give it to zopt --schedule");
  if (schedule.needsTotalSteps())
    schedule.setTotalSteps(std::max<int64_t>(1, dataset->totalSteps(options.steps, options.epochs)));
  // The decay is a number of every update; what is exempt from the plan's is exempt from this one.
  if (options.weightDecay)
    for (Sequence &sequence : program.sequences)
      for (Command &command : sequence.commands)
        if (command.kind == Command::Kind::Update) {
          std::vector<const State *> segments = segmentsOf(program, command.buckets[0]);
          for (size_t i = 0; i < segments.size(); ++i)
            if (!segments[i]->noDecay)
              command.decays[i] = *options.weightDecay;
        }
  return success();
}

namespace {

/// What a process with the driver, cuBLASLt, cuDNN and NCCL in it takes of the machine's memory.
constexpr int64_t kBytesOfCuda = 1'000'000'000;

/// Folders are made when the run begins; what can be known before is whether the first of them can.
Status checkFolders(const std::filesystem::path &path, const char *file, const char *flag) {
  std::filesystem::path folder = std::filesystem::absolute(path);
  std::error_code code;
  while (folder.has_relative_path() && !std::filesystem::exists(folder, code))
    folder = folder.parent_path();
  if (!std::filesystem::is_directory(folder, code))
    return inputError(folder.string(), ": is no folder, which ", flag, " needs");
  return checkWritable(folder / file);
}

Status checkOutputFiles(const RunOptions &options, const Program &program) {
  for (const std::string *path : {&options.metrics, &options.weightsOut, &options.averageOut, &options.gradientsOut,
                                  &options.outputs, &options.trace, &options.commLog})
    if (!path->empty())
      ZOPT_RETURN_IF_FAILED(checkWritable(*path));
  if (!options.tensorBoard.empty())
    ZOPT_RETURN_IF_FAILED(checkFolders(options.tensorBoard, "events.out.tfevents", "--tensorboard"));
  if (!options.csv.empty()) {
    const std::filesystem::path path = std::filesystem::absolute(options.csv);
    std::error_code code;
    if (!options.csvFolder || std::filesystem::is_directory(path.parent_path(), code))
      ZOPT_RETURN_IF_FAILED(checkWritable(options.csv));
    else
      ZOPT_RETURN_IF_FAILED(checkFolders(path.parent_path(), "table.csv", "--csv"));
  }
  if (!options.wandb.empty())
    if (Result<std::string> command = wandbCommand(options.wandb); command.failed())
      return command.getStatus();
  if (!options.outputs.empty() && program.mode != "forward")
    return inputError("--outputs is for forward plans, but this plan's mode is ", program.mode);
  if (!options.commLog.empty() && program.mode == "forward")
    return inputError("--comm-log is about the collectives of training steps, but this plan's mode is forward");
  if (!options.averageOut.empty())
    for (const Bucket &bucket : program.buckets)
      if (program.mode != "train" || (bucket.trained && averageOf(bucket) < 0))
        return inputError("--ema-out needs a moving average, which a plan of zopt --ema=DECAY keeps");
  if (!options.gradientsOut.empty() && program.mode == "forward")
    return inputError("--gradients-out needs gradients, but this plan's mode is forward");
  return success();
}

} // namespace

Status checkRun(const Run &run, int localRanks) {
  const RunOptions &options = run.options;
  InitializationOptions initialization = options.initialization;
  StateSource source;
  if (run.weights) {
    source = run.weights->source();
    initialization.weights = &source;
  }
  if (run.program.mode != "train" && (!options.checkpoint.directory.empty() || options.checkpoint.resume != CheckpointOptions::Resume::None))
    return inputError("--checkpoint-dir and --resume are for training, but this plan's mode is ", run.program.mode);
  bool resumes = false;
  ZOPT_RETURN_IF_FAILED(checkCheckpoints(options.checkpoint, resumes));
  if (!resumes) // otherwise nothing is read from them
    ZOPT_RETURN_IF_FAILED(checkWeightFiles(run.program, initialization));
  ZOPT_RETURN_IF_FAILED(checkOutputFiles(options, run.program));
  ZOPT_RETURN_IF_FAILED(run.dataset->checkFirstBatch());
  if (run.evaluation)
    ZOPT_RETURN_IF_FAILED(run.evaluation->checkFirstBatch());
  if (!options.devices.empty())
    ZOPT_RETURN_IF_FAILED(checkTuning(run.program, options.devices[0].name));
  RunNeeds needs;
  needs.localRanks = localRanks;
  const bool processes = options.comm != "local" && localRanks > 1;
  needs.usesMpi = processes && options.launcher != "env";
  needs.localProcesses = processes ? localRanks : 1;
  const bool onDevice = run.program.target == "cuda";
  for (const Arena &arena : run.program.arenas)
    if (arena.tier != Tier::File)
      (onDevice && arena.tier == Tier::Device ? needs.plannedDeviceBytesPerRank : needs.plannedBytesPerRank) += arena.bytes;
  if (onDevice) {
    needs.devices = options.devices;
    needs.bytesPerProcess = kBytesOfCuda;
    needs.plannedBytesPerRank += InitialNumbers::kMostBytes / run.program.worldSize;
  }
  Result<int64_t> checkpointBytes = plannedCheckpointBytes(options.checkpoint, run.program);
  if (checkpointBytes.failed())
    return checkpointBytes.getStatus();
  needs.plannedBytesPerRank += *checkpointBytes + Prefetcher::plannedBytes(run.program, options.workers);
  int64_t stateBytes = 0;
  for (const State &state : run.program.states)
    if (state.role == Role::Parameter || state.role == Role::Buffer)
      stateBytes += elementCount(state.shape) * sizeOf(collectedType(state));
  const std::string csv = options.csvFolder ? "" : options.csv; // looked at above
  for (auto [path, bytes] : {std::pair(&options.metrics, int64_t(0)), std::pair(&csv, int64_t(0)),
                             std::pair(&options.weightsOut, stateBytes), std::pair(&options.averageOut, stateBytes),
                             std::pair(&options.gradientsOut, stateBytes), std::pair(&options.outputs, int64_t(0)),
                             std::pair(&options.trace, int64_t(0)), std::pair(&options.commLog, int64_t(0))})
    if (!path->empty())
      needs.outputs.push_back({*path, bytes});
  if (std::vector<Status> problems = checkMachine(needs); !problems.empty()) {
    std::string text;
    for (const Status &problem : problems)
      text += (text.empty() ? "" : "\n") + problem.message();
    return Status(Error{problems[0].kind(), -1, "", "", text});
  }
  for (const std::string &note : run.dataset->notes())
    reportNote(note);
  if (run.evaluation)
    for (const std::string &note : run.evaluation->notes())
      reportNote("--eval-data: " + note);
  if (run.weights)
    for (const std::string &note : run.weights->notes())
      reportNote(note);
  if (!options.data.files.empty() && run.program.mode == "train" && options.weightsOut.empty() && options.averageOut.empty() && options.checkpoint.directory.empty())
    reportNote("this run keeps nothing: no weights are written (--weights-out and --checkpoint-dir write them)");
  return success();
}

void reportError(const Status &status) {
  // What names its place already is the same on every rank.
  const Error &error = status.getError();
  std::string text = error.text.find(": error: ") != std::string::npos ? error.text : status.message();
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    bool placed = line.find(": error: ") != std::string::npos;
    std::string whole = (placed ? "" : "zrun: error: ") + line + "\n";
    // One call, so that lines of several ranks do not mix.
    if (!line.empty())
      [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, whole.data(), whole.size());
    begin = end + 1;
  }
}

void reportNote(const std::string &text) {
  std::string whole = "zrun: " + text + "\n";
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

} // namespace zopt::runtime
