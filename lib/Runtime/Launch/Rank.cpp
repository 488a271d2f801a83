//===- Rank.cpp - the run of one rank -------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/RandomState.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Data/Prefetcher.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include "zopt/Runtime/Launch/Checkpoints.h"
#include "zopt/Runtime/Launch/Evaluation.h"
#include "zopt/Runtime/Launch/Patience.h"
#include "zopt/Runtime/Launch/Report.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Monitor/CommLog.h"
#include "zopt/Runtime/Launch/Settle.h"
#include "zopt/Runtime/Monitor/Breakdown.h"
#include "zopt/Runtime/Monitor/Metrics.h"
#include "zopt/Runtime/Monitor/Monitors.h"
#include "zopt/Runtime/Monitor/PeakFlops.h"
#include "zopt/Runtime/Monitor/Progress.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <utility>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Steps in a row with a non-finite norm that end a run.
constexpr int kSkipsInARow = 10;

class RankRun {
public:
  RankRun(const Run &run, Communicator &communicator, bool &agreed) : run(run), options(run.options), program(run.program), communicator(communicator), root(communicator.rank() == 0), agreed(agreed), checkpoints(run, communicator, [this](const SaveResult &result) { tellSave(result); }) {}

  Result<int> execute() {
    ZOPT_RETURN_IF_FAILED(together("start", prepare()));
    ZOPT_RETURN_IF_FAILED(comparePlans());
    ZOPT_RETURN_IF_FAILED(shared(checkpoints.open()));
    // Who has read its part waits for those who still read.
    communicator.setTimeout(std::max(options.timeoutSeconds, 86400.0));
    Status initialized = together("start", initialize());
    if (initialized.succeeded())
      initialized = together("start", reserve());
    communicator.setTimeout(options.timeoutSeconds);
    ZOPT_RETURN_IF_FAILED(initialized);
    total = run.dataset->totalSteps(options.steps, options.epochs);
    if (options.workers > 0) {
      const RunPosition &from = checkpoints.position();
      prefetcher = std::make_unique<Prefetcher>(*run.dataset, program, communicator.rank(), total + from.dataStep - from.step, options.workers);
    }
    started = Clock::now();
    ZOPT_RETURN_IF_FAILED(together("start", root ? begin() : success()));
    ZOPT_RETURN_IF_FAILED(program.mode == "forward" ? forward() : train());
    ZOPT_RETURN_IF_FAILED(together("metrics", untold));
    ZOPT_RETURN_IF_FAILED(shared(checkpoints.finish(reached)));
    ZOPT_RETURN_IF_FAILED(together("metrics", untold));
    if (!options.weightsOut.empty() && program.mode != "forward") {
      InitializationOptions initialization = options.initialization;
      StateSource source;
      if (run.weights) {
        source = run.weights->source();
        initialization.weights = &source;
      }
      InitialValues initial(*executor, initialization);
      ZOPT_RETURN_IF_FAILED(shared(writeStates(*executor, options.weightsOut, options.sourceNames, nullptr, 1, /*average=*/false, &initial)));
    }
    if (!options.averageOut.empty())
      ZOPT_RETURN_IF_FAILED(shared(writeStates(*executor, options.averageOut, options.sourceNames, nullptr, 1, /*average=*/applied > 0))); // no average without a step
    if (gradients && done > 0) {
      double scale = 1;
      ZOPT_RETURN_IF_FAILED(executor->read("zopt.gradient_scale", scale));
      ZOPT_RETURN_IF_FAILED(shared(writeStates(*executor, options.gradientsOut, options.sourceNames, gradients.get(), scale)));
    }
    if (!options.trace.empty())
      ZOPT_RETURN_IF_FAILED(shared(gatherTrace(*executor, trace, options.trace)));
    if (commLog)
      ZOPT_RETURN_IF_FAILED(shared(gatherCommLog(*executor, *commLog, loggedSteps, *progress, options.commLog)));
    ZOPT_RETURN_IF_FAILED(finish());
    return stopCode;
  }

private:
  /// Every rank's verdict, which they leave by together.
  Status together(const char *what, const Status &mine) {
    Status verdict = communicator.agree(what, mine);
    // A failure of the agreement itself is this rank's own.
    agreed = verdict.failed() && verdict.getError().operation.empty();
    return verdict;
  }
  /// Marks a failure that came out of an agreement further down.
  Status shared(const Status &status) {
    agreed = status.failed() && status.getError().operation.empty() && status.getError().rank >= 0;
    return status;
  }

  Status prepare() {
    ExecutorOptions executorOptions;
    // On a GPU the host's cores have nothing to do but to make and read states.
    executorOptions.threads = program.target == "cpu" ? int(program.threads) : std::max(1, availableCores() / communicator.size());
    const char *poison = std::getenv("ZOPT_POISON");
    executorOptions.poison = poison && *poison && *poison != '0';
    executorOptions.kernelFile = run.kernelFile;
    executorOptions.timeoutSeconds = options.timeoutSeconds;
    executorOptions.exchange = options.comm == "nccl" ? DeviceExchange::Nccl : options.comm == "auto" ? DeviceExchange::Automatic : DeviceExchange::Host;
    communicator.setTimeout(options.timeoutSeconds);
    if (program.target == "cuda" && !run.weights && options.checkpoint.resume == CheckpointOptions::Resume::None)
      numbers = std::make_unique<InitialNumbers>(program, communicator.rank(), executorOptions.threads,
                                                 InitialNumbers::kMostBytes / communicator.size(), options.initialization);
    Result<std::unique_ptr<Executor>> created = Executor::create(program, run.kernels, communicator, executorOptions);
    if (created.failed())
      return created.getStatus();
    executor = std::move(*created);
    return success();
  }

  /// First values of every state, of the run or of a part of it that goes on from a checkpoint.
  Status initialize() {
    InitializationOptions initialization = options.initialization;
    StateSource source;
    if (run.weights) {
      source = run.weights->source();
      initialization.weights = &source;
    }
    if (checkpoints.source())
      initialization.weights = checkpoints.source();
    initialization.ahead = numbers.get();
    ZOPT_RETURN_IF_FAILED(initializeStates(*executor, initialization));
    numbers.reset();
    checkpoints.closeReader();
    return success();
  }

  Status reserve() {
    ZOPT_RETURN_IF_FAILED(checkpoints.makeSaver(*executor));
    checkpointBytes = checkpoints.copyBytes();
    if (!options.commLog.empty())
      commLog.emplace(program, communicator.size());
    size_t commands = 0;
    for (const Sequence &sequence : program.sequences)
      commands += sequence.commands.size() * (sequence.name == "micro_step" ? size_t(program.accumSteps) : 1);
    if (!options.trace.empty() || commLog || (options.breakdown && root))
      executed.reserve(commands);
    if (!options.gradientsOut.empty())
      gradients = std::make_unique<GradientCopy>(*executor);
    return success();
  }

  /// All ranks must execute the same program.
  Status comparePlans() {
    uint64_t mine = XXH3_64bits(program.planHash.data(), program.planHash.size());
    std::vector<uint64_t> all(static_cast<size_t>(communicator.size()));
    ZOPT_RETURN_IF_FAILED(communicator.allGatherNow("plan hash", &mine, all.data(), sizeof mine));
    for (int rank = 0; rank < communicator.size(); ++rank)
      if (all[rank] != all[0]) {
        agreed = true;
        return Status(Error{ErrorKind::Input, rank, "", "", "executes another plan than rank 0"});
      }
    return success();
  }

  Status openMetrics(bool goesOn) {
    const int64_t step = checkpoints.position().step;
    metrics = std::make_unique<MetricsFile>();
    if (!options.metrics.empty()) {
      Result<MetricsFile> file = goesOn ? MetricsFile::resume(options.metrics, step) : MetricsFile::open(options.metrics);
      if (file.failed())
        return file.getStatus();
      *metrics = std::move(*file);
    }
    if (!options.csv.empty()) {
      std::error_code code; // where a folder cannot be made, opening the file says why
      if (const std::filesystem::path folder = std::filesystem::path(options.csv).parent_path();
          options.csvFolder && !folder.empty())
        std::filesystem::create_directories(folder, code);
      Result<std::unique_ptr<Monitor>> csv = openCsvMonitor(options.csv, goesOn ? std::optional(step) : std::nullopt);
      if (csv.failed())
        return csv.getStatus();
      metrics->add(std::move(*csv));
    }
    if (!options.tensorBoard.empty()) {
      Result<std::unique_ptr<Monitor>> board = openTensorBoardMonitor(options.tensorBoard, goesOn ? std::optional(checkpoints.position().samples) : std::nullopt);
      if (board.failed())
        return board.getStatus();
      metrics->add(std::move(*board));
    }
    if (!options.onMetrics.empty()) {
      Result<std::unique_ptr<Monitor>> command = startCommandMonitor(options.onMetrics, [this](const std::string &text) { note(text); });
      if (command.failed())
        return command.getStatus();
      metrics->add(std::move(*command));
    }
    if (!options.wandb.empty()) {
      Result<std::string> bridge = wandbCommand(options.wandb);
      if (bridge.failed())
        return bridge.getStatus();
      Result<std::unique_ptr<Monitor>> command =
          startCommandMonitor(*bridge, [this](const std::string &text) { note(text); });
      if (command.failed())
        return command.getStatus();
      metrics->add(std::move(*command));
    }
    if (options.prometheusPort != 0) {
      Result<std::unique_ptr<Monitor>> endpoint = startPrometheusMonitor(options.prometheusPort);
      if (endpoint.failed())
        return endpoint.getStatus();
      metrics->add(std::move(*endpoint));
    }
    return success();
  }

  /// A warning, also before and after the bar.
  void note(const std::string &text) {
    if (progress)
      progress->note("zrun: warning: " + text);
    else
      reportNote("warning: " + text);
  }

  Status begin() {
    if (!options.metrics.empty() || !options.csv.empty() || !options.tensorBoard.empty() ||
        !options.onMetrics.empty() || !options.wandb.empty() || options.prometheusPort != 0) {
      const std::string &resumed = checkpoints.resumedFrom();
      ZOPT_RETURN_IF_FAILED(openMetrics(!resumed.empty() || options.checkpoint.restart > 0));
      StartEvent event;
      event.plan = program.planHash;
      event.ranks = communicator.size();
      event.comm = program.target == "cuda"    ? executor->exchange()
                   : options.launcher == "env" ? "gloo"
                   : options.comm == "local"   ? "local"
                                               : "mpi";
      event.target = program.target;
      for (const auto &[tier, peak] : executor->peak().measure())
        bytesOf(event.plannedPeak, tier) = peak.planned;
      for (const State &state : program.states)
        if (state.role == Role::Parameter)
          event.parameters += elementCount(state.shape);
      event.buckets = int64_t(program.buckets.size());
      Result<int64_t> copy = plannedCheckpointBytes(options.checkpoint, program);
      if (copy.failed())
        return copy.getStatus();
      event.plannedPeak.host += *copy + Prefetcher::plannedBytes(program, options.workers);
      ZOPT_RETURN_IF_FAILED(metrics->write(event));
      if (!resumed.empty() || options.checkpoint.restart > 0)
        ZOPT_RETURN_IF_FAILED(metrics->write(RestartEvent{options.checkpoint.restart, checkpoints.position().step, resumed}));
    }
    if (!checkpoints.resumedFrom().empty())
      reportNote(concat("goes on from ", checkpoints.resumedFrom(), ", after step ", checkpoints.position().step, checkpoints.position().step >= total ? concat("; the run has ", total, " steps, so that none is left") : ""));
    ProgressOptions progressOptions;
    progressOptions.totalSteps = total;
    progressOptions.samplesPerStep = run.dataset->globalBatch();
    progressOptions.tokensPerStep = progressOptions.samplesPerStep * program.sequenceLength;
    progressOptions.lineSteps = options.printEvery;
    progressOptions.memoryBytes = executor->peak().measure().at(Tier::Device).planned;
    stepFlops = double(program.flops) * double(program.accumSteps) * communicator.size();
    peakFlops = options.peakFlops;
    if (peakFlops == 0 && !program.buckets.empty())
      peakFlops = knownPeakFlops(executor->deviceModel(), program.buckets[0].computeType).value_or(0);
    peakFlops *= communicator.size();
    progressOptions.flopsPerStep = stepFlops;
    progressOptions.peakFlops = peakFlops;
    progress = std::make_unique<Progress>(progressOptions);
    if (const std::string remark = executor->remark(); !remark.empty())
      note(remark);
    return success();
  }

  static int64_t &bytesOf(TierBytes &bytes, Tier tier) { return tier == Tier::Device ? bytes.device : tier == Tier::Host ? bytes.host : bytes.file; }

  /// Fills the inputs of a micro-step and learns whether any rank failed at that or was asked to stop.
  Status fillInputs(int64_t step, int64_t microStep, int &stop) {
    struct Word {
      uint8_t failed, stop, checkpoint, unused[5];
    };
    // What rank 0 could not write after the step before is told here, which saves a round of messages.
    Status mine = std::exchange(untold, success());
    Result<void *const *> destinations = executor->inputs();
    if (destinations.failed())
      return destinations.getStatus(); // of the device: nothing that could be agreed on
    if (mine.succeeded())
      mine = prefetcher ? prefetcher->take(step, microStep, *destinations) : run.dataset->fill(step, microStep, communicator.rank(), *destinations);
    Word word{};
    word.failed = mine.failed();
    word.stop = uint8_t(StopRequest::exitCode());
    if (microStep == 0)
      word.checkpoint = checkpoints.word();
    words.resize(sizeof word * size_t(communicator.size()));
    ZOPT_RETURN_IF_FAILED(communicator.allGatherNow(concat("barrier before step ", step + 1), &word, words.data(), sizeof word));
    const Word *all = reinterpret_cast<const Word *>(words.data());
    bool failed = false;
    checkpointWords.resize(size_t(communicator.size()));
    for (int rank = 0; rank < communicator.size(); ++rank) {
      checkpointWords[size_t(rank)] = all[rank].checkpoint;
      failed |= all[rank].failed != 0;
      if (all[rank].stop && (stop == 0 || all[rank].stop < stop))
        stop = all[rank].stop;
    }
    return failed ? together("data", mine) : success();
  }

  Status train() {
    // The first steps warm caches up: trace one behind them.
    const int64_t tracedStep = std::min<int64_t>(checkpoints.position().step + 2, total - 1);
    lastTold = Clock::now();
    ZOPT_RETURN_IF_FAILED(readScalars());
    const RunPosition &from = checkpoints.position();
    int64_t shift = from.dataStep - from.step; // of the data set's steps against ours
    reached = from.step;
    for (int64_t step = from.step; step < total; ++step) {
      if (mustGoBack) {
        ZOPT_RETURN_IF_FAILED(goBack());
        step = reached;
        shift = from.dataStep - from.step;
      }
      auto stepStarted = Clock::now();
      int stop = 0;
      ZOPT_RETURN_IF_FAILED(fillInputs(step + shift, 0, stop));
      if (!stop)
        ZOPT_RETURN_IF_FAILED(shared(checkpoints.exchange(checkpointWords, step)));
      // A stop is obeyed before a step begins. Where the last step's gradients are wanted, one more is made, with them.
      if (stop) {
        stopCode = stop;
        if (!gradients || done == 0)
          break;
        total = step + 1;
      }
      bool last = step + 1 == total;
      if (gradients && last)
        executor->onGradients([this] { return gradients->take(); });
      // The first step loads what is loaded lazily: it tells nothing of what collectives cost in the others.
      const bool traced = !options.trace.empty() && step == tracedStep, broken = root && !traced && breaksDown(step),
                 logged = commLog && (step > from.step || total == from.step + 1);
      executed.clear();
      executor->traceInto(traced || broken || logged ? &executed : nullptr);
      const Rates rates = chooseRates();
      ZOPT_RETURN_IF_FAILED(writeRates(rates));
      ZOPT_RETURN_IF_FAILED(random.beginStep(*executor, step));
      for (int64_t microStep = 0; microStep < program.accumSteps; ++microStep) {
        int ignored = 0; // a stop that comes now is seen before the next step
        if (microStep > 0)
          ZOPT_RETURN_IF_FAILED(fillInputs(step + shift, microStep, ignored));
        ZOPT_RETURN_IF_FAILED(random.beginMicroStep(*executor, microStep));
        ZOPT_RETURN_IF_FAILED(executor->run("micro_step", microStep == 0));
      }
      if (executor->has("apply_step"))
        ZOPT_RETURN_IF_FAILED(executor->run("apply_step"));
      ZOPT_RETURN_IF_FAILED(executor->endTrace());
      if (logged) {
        commLog->add(executed);
        ++loggedSteps;
      }
      if (traced)
        trace = executed;
      if (broken) // a GPU's step that is traced has ended here
        progress->note(concat("zrun: step ", step + 1, ": ", breakdownText(executed)));
      ++done;
      reached = step + 1;

      running.push_back({step, rates, stepStarted});
      std::optional<StepResult> result;
      ZOPT_RETURN_IF_FAILED(executor->finishStep(result));
      if (result)
        ZOPT_RETURN_IF_FAILED(take(*result));
      if (stopCode)
        break;
      if (isEvaluationDue(step + shift + 1))
        ZOPT_RETURN_IF_FAILED(evaluate());
    }
    ZOPT_RETURN_IF_FAILED(takeLast());
    return stopCode == 0 && evaluated != reached && !mustGoBack ? evaluate() : success();
  }

  Status takeLast() {
    std::optional<StepResult> result;
    ZOPT_RETURN_IF_FAILED(executor->lastResult(result));
    return result ? take(*result) : success();
  }

  /// Whether held-out data is to be looked at before the data set's step `next`.
  bool isEvaluationDue(int64_t next) const {
    if (!run.evaluation)
      return false;
    const int64_t perEpoch = run.dataset->stepsPerEpoch();
    if (options.evaluationEvery > 0)
      return reached % options.evaluationEvery == 0;
    return perEpoch > 0 && next % perEpoch == 0;
  }

  /// The loss of held-out data after the steps so far.
  Status evaluate() {
    if (!run.evaluation)
      return success();
    ZOPT_RETURN_IF_FAILED(takeLast()); // what is told of the step comes first
    if (mustGoBack)
      return success(); // these weights are given up
    const auto began = Clock::now();
    Result<std::optional<EvaluationResult>> measured = std::optional<EvaluationResult>();
    {
      Patience patience(communicator, options.timeoutSeconds);
      measured = Evaluation(*executor, *run.evaluation, options.evaluationSteps).run();
    }
    ZOPT_RETURN_IF_FAILED(shared(measured.getStatus()));
    if (!*measured)
      return success(); // a signal, which the next step sees too
    evaluated = reached;
    const EvaluationResult &result = **measured;
    if (root) {
      EvaluationEvent event;
      event.step = reached;
      const RunPosition &from = checkpoints.position();
      event.trainSamples = from.samples + (reached - from.step) * run.dataset->globalBatch();
      event.loss = result.loss;
      event.terms = namedTerms(result.terms);
      if (result.accuracy)
        event.perplexity = std::exp(result.loss);
      event.accuracy = result.accuracy;
      event.labels = result.labels;
      event.samples = result.samples;
      event.seconds = secondsSince(began);
      progress->note(concat("zrun: step ", reached, ": evaluation loss ", result.loss, result.accuracy ? concat(", perplexity ", *event.perplexity, ", accuracy ", *result.accuracy) : std::string(), " over ", result.labels, " labels of ", result.samples, " samples"));
      Status told = metrics ? metrics->write(event) : success();
      if (untold.succeeded())
        untold = told;
    }
    return shared(checkpoints.evaluated(result.loss, reached));
  }

  /// --breakdown: with each line of progress, or every 10 steps where those go by time.
  bool breaksDown(int64_t step) const {
    return options.breakdown && (step + 1) % (options.printEvery > 0 ? options.printEvery : 10) == 0;
  }

  /// --nonfinite=rollback: states become those of the last good checkpoint, and the data goes on behind what the run has seen. Before the first checkpoint the step is skipped, as it is elsewhere.
  Status goBack() {
    std::optional<StepResult> result;
    ZOPT_RETURN_IF_FAILED(executor->lastResult(result));
    if (result)
      ZOPT_RETURN_IF_FAILED(take(*result));
    mustGoBack = false;
    rollBacks = reached > furthest ? 1 : rollBacks + 1;
    furthest = std::max(furthest, reached);
    if (rollBacks >= kSkipsInARow) {
      agreed = true;
      return Status(Error{ErrorKind::Runtime, -1, "", "", concat(rollBacks, " times in a row the run went back to a checkpoint and did not come beyond step ", furthest)});
    }
    Result<bool> went = checkpoints.goBack(reached);
    ZOPT_RETURN_IF_FAILED(shared(went.getStatus()));
    if (!*went)
      return success();
    const int64_t before = std::exchange(reached, checkpoints.position().step);
    ZOPT_RETURN_IF_FAILED(together("rollback", initialize()));
    written = {};
    skippedBefore = false;
    ZOPT_RETURN_IF_FAILED(readScalars());
    skipsInARow = 0;
    if (root) {
      progress->note(concat("zrun: after step ", before, ": goes back to ", checkpoints.resumedFrom(), " and leaves out the batches since"));
      Status told = metrics ? metrics->write(RestartEvent{options.checkpoint.restart, reached, checkpoints.resumedFrom()}) : success();
      if (untold.succeeded())
        untold = told;
    }
    return success();
  }

  /// A step's learning rate depends on whether the one before it was skipped, which is not known while that is under way: the device chooses.
  struct Rates {
    double rate = NAN, ifSkipped = NAN;
    double momentum = NAN, momentumIfSkipped = NAN; // where the schedule cycles it
  };

  /// A step whose results are not known yet.
  struct RunningStep {
    int64_t step;
    Rates rates;
    Clock::time_point started;
  };

  /// What the states say before the first step, and what the options say in place of the plan.
  Status readScalars() {
    double steps = 0;
    ZOPT_RETURN_IF_FAILED(executor->read("zopt.step", steps));
    applied = int64_t(steps);
    ZOPT_RETURN_IF_FAILED(executor->read("zopt.loss_scale", lossScale));
    for (const State &state : program.states) {
      scalesLoss |= state.name == "zopt.loss_scale";
      lossScaleFalls |= state.name == "zopt.loss_scale_exhausted";
    }
    ZOPT_RETURN_IF_FAILED(random.begin(*executor, options.seed));
    return options.clip ? executor->write("zopt.clip", *options.clip) : success();
  }

  /// At most one step is under way here: executors tell of a step before the next but one.
  Rates chooseRates() const {
    const int64_t next = running.empty() ? applied : applied + 1;
    Rates rates{run.schedule.rate(next, run.learningRate), run.schedule.rate(applied, run.learningRate)};
    if (run.cyclesMomentum)
      rates.momentum = run.schedule.momentum(next), rates.momentumIfSkipped = run.schedule.momentum(applied);
    return rates;
  }

  /// They stay where they were written.
  Status writeRates(const Rates &rates) {
    if (rates.rate != written.rate)
      ZOPT_RETURN_IF_FAILED(executor->write("zopt.lr", rates.rate));
    if (rates.ifSkipped != written.ifSkipped)
      ZOPT_RETURN_IF_FAILED(executor->write("zopt.lr_if_skipped", rates.ifSkipped));
    if (run.cyclesMomentum) {
      // After its cycle the momentum may grow without end; a beta of 1 would divide by 0.
      if (rates.momentum >= 1 || rates.momentumIfSkipped >= 1)
        return inputError("the schedule's momentum is ", rates.momentum, " after ", applied, " steps, expected less than 1: decay_mom_rate is too large for so many steps");
      if (rates.momentum != written.momentum)
        ZOPT_RETURN_IF_FAILED(executor->write("zopt.momentum", rates.momentum));
      if (rates.momentumIfSkipped != written.momentumIfSkipped)
        ZOPT_RETURN_IF_FAILED(executor->write("zopt.momentum_if_skipped", rates.momentumIfSkipped));
    }
    written = rates;
    return success();
  }

  /// Tells of the oldest running step, and ends the run where too many were skipped.
  Status take(const StepResult &result) {
    RunningStep step = running.front();
    running.pop_front();
    // Where steps overlap, a step lasts from the end of the one before it.
    auto now = Clock::now();
    double seconds = std::chrono::duration<double>(now - std::max(step.started, lastTold)).count();
    lastTold = now;
    const bool skipped = result.finite == 0;
    const double usedScale = lossScale;
    const Rates used = skippedBefore ? Rates{step.rates.ifSkipped, NAN, step.rates.momentumIfSkipped} : step.rates;
    skippedBefore = skipped;
    applied += !skipped;
    lossScale = result.lossScale;
    skipsInARow = skipped ? skipsInARow + 1 : 0;
    if (root)
      if (Status told = tell(step.step, run.dataset->globalBatch(), result, used, usedScale, skipped, seconds);
          untold.succeeded())
        untold = told;
    if (result.lossScaleExhausted != 0) {
      agreed = true;
      return Status(Error{ErrorKind::Runtime, -1, "", "", concat("step ", step.step + 1, " overflowed at the least loss scale, ", usedScale, ", which cannot fall any more")});
    }
    // A dynamic scale answers an overflow, and has an end of its own.
    mustGoBack |= skipped && options.rollBackAtNonFinite && !lossScaleFalls;
    if (skipped && !lossScaleFalls && (options.stopAtNonFinite || skipsInARow >= kSkipsInARow)) {
      agreed = true;
      return Status(Error{ErrorKind::Runtime, -1, "", "",
                          options.stopAtNonFinite ? concat("step ", step.step + 1, " has gradient norm ", result.norm, " and loss ", result.loss)
                                                  : concat(kSkipsInARow, " steps in a row, up to step ", step.step + 1, ", had no finite gradient norm or no counted label and were skipped")});
    }
    return success();
  }

  /// A save that ended; on rank 0. What cannot be told is told to all before the next step.
  void tellSave(const SaveResult &result) {
    CheckpointEvent event;
    event.step = result.step;
    event.path = options.checkpoint.directory + "/" + tagOf(result.step);
    event.bytes = result.bytes;
    event.seconds = result.seconds;
    event.writeSeconds = result.writeSeconds;
    event.stallMilliseconds = result.stallSeconds * 1e3;
    if (result.failure.failed()) {
      event.error = result.failure.message();
      progress->note(concat("zrun: warning: the checkpoint of step ", result.step, " could not be saved: ", event.error, "; training goes on, and the last good one stays"));
    }
    Status told = metrics ? metrics->write(event) : success();
    if (untold.succeeded())
      untold = told;
  }

  LossTerms namedTerms(const std::vector<double> &values) const {
    LossTerms terms;
    for (size_t i = 0; i < values.size(); ++i)
      terms.emplace_back(executor->lossTerms()[i], values[i]);
    return terms;
  }

  Status tell(int64_t step, int64_t globalBatch, const StepResult &result, const Rates &used, double usedScale,
              bool skipped, double seconds) {
    StepEvent event;
    event.step = step + 1;
    const RunPosition &from = checkpoints.position();
    event.epoch = run.dataset->epochOf(step - from.step + from.dataStep);
    event.samples = from.samples + (step + 1 - from.step) * globalBatch;
    if (program.sequenceLength > 0)
      event.tokens = event.samples * program.sequenceLength;
    event.loss = result.loss;
    event.gradientNorm = result.norm;
    event.terms = namedTerms(result.terms);
    event.learningRate = used.rate;
    if (run.cyclesMomentum)
      event.momentum = used.momentum;
    if (scalesLoss)
      event.lossScale = usedScale;
    event.skipped = skipped;
    event.stepMilliseconds = seconds * 1e3;
    event.samplesPerSecond = double(globalBatch) / seconds;
    event.tokensPerSecond = event.samplesPerSecond * double(program.sequenceLength);
    if (stepFlops > 0) {
      event.flops = stepFlops / seconds;
      if (peakFlops > 0)
        event.mfu = *event.flops / peakFlops;
    }
    progress->setTerms(event.terms);
    progress->update(step + 1, result.loss, skipped, seconds);
    if (skipped)
      progress->note(concat("zrun: ", "step ", step + 1, " was skipped: its gradient norm is ", result.norm,
                            ", its loss ", result.loss, "; every state is as it was"));
    return metrics ? metrics->write(event) : success();
  }

  Status forward() {
    // Rows of every rank, in the order of the samples.
    const int64_t world = communicator.size(), micro = program.microBatch;
    int64_t samples = run.dataset->samples();
    int64_t rows = std::min(total * run.dataset->globalBatch(), samples > 0 ? samples : total * run.dataset->globalBatch());
    std::unique_ptr<SafetensorsWriter> writer;
    Status created;
    if (root && !options.outputs.empty()) {
      std::vector<SafetensorsTensor> tensors;
      for (const Output &output : program.outputs) {
        SafetensorsTensor tensor;
        tensor.name = output.name;
        tensor.type = output.type;
        tensor.shape = output.shape;
        if (tensor.shape.empty() || tensor.shape[0] != micro)
          created = inputError("output '", output.name, "' has shape ", shapeText(output.shape), ", which has no axis of ", micro, " samples in front");
        else
          tensor.shape[0] = rows;
        tensors.push_back(tensor);
      }
      if (created.succeeded()) {
        Result<SafetensorsWriter> made = SafetensorsWriter::create(options.outputs, tensors);
        if (made.failed())
          created = made.getStatus();
        else
          writer = std::make_unique<SafetensorsWriter>(std::move(*made));
      }
    }
    ZOPT_RETURN_IF_FAILED(together("outputs", created));
    int64_t largest = 0;
    for (const Output &output : program.outputs)
      largest = std::max(largest, elementCount(output.shape) * sizeOf(output.type));
    std::vector<char> mine(options.outputs.empty() ? 0 : size_t(largest)), gathered;
    ZOPT_RETURN_IF_FAILED(random.begin(*executor, options.seed));
    for (int64_t step = 0; step < total; ++step) {
      auto stepStarted = Clock::now();
      ZOPT_RETURN_IF_FAILED(random.beginStep(*executor, step));
      for (int64_t microStep = 0; microStep < program.accumSteps; ++microStep) {
        int stop = 0;
        ZOPT_RETURN_IF_FAILED(fillInputs(step, microStep, stop));
        if (stop) {
          stopCode = stop;
          return success(); // outputs of some samples would be no outputs file
        }
        executor->traceInto(!options.trace.empty() && step == 0 && microStep == 0 ? &trace : nullptr);
        ZOPT_RETURN_IF_FAILED(random.beginMicroStep(*executor, microStep));
        ZOPT_RETURN_IF_FAILED(executor->run("forward"));
        ZOPT_RETURN_IF_FAILED(executor->endTrace());
        Status failure;
        for (size_t i = 0; i < program.outputs.size() && !options.outputs.empty(); ++i) {
          const Output &output = program.outputs[i];
          int64_t bytes = elementCount(output.shape) * sizeOf(output.type), rowBytes = bytes / micro;
          if (root)
            gathered.resize(size_t(bytes * world));
          ZOPT_RETURN_IF_FAILED(executor->download(output.buffer, 0, mine.data(), bytes));
          ZOPT_RETURN_IF_FAILED(communicator.gatherNow("outputs", mine.data(), gathered.data(), bytes));
          int64_t first = step * run.dataset->globalBatch() + microStep * world * micro;
          for (int64_t rank = 0; writer && rank < world; ++rank) {
            int64_t begin = first + rank * micro, count = std::min(run.dataset->rowsIn(step, microStep, rank), rows - begin);
            if (count > 0 && failure.succeeded())
              failure = writer->write(i, begin * rowBytes, gathered.data() + rank * bytes, count * rowBytes);
          }
        }
        if (!options.outputs.empty())
          ZOPT_RETURN_IF_FAILED(together("outputs", failure));
      }
      ++done;
      if (root)
        progress->update(step + 1, secondsSince(stepStarted));
    }
    ZOPT_RETURN_IF_FAILED(executor->synchronize());
    if (!options.outputs.empty())
      return together("outputs", writer ? writer->commit() : success());
    return success();
  }

  Status finish() {
    // The largest of all ranks, tier by tier.
    std::map<Tier, TierPeak> peaks = executor->peak().measure();
    std::vector<double> values;
    for (auto &[tier, peak] : peaks)
      for (int64_t value : {peak.measured, peak.live})
        values.push_back(double(value));
    std::vector<std::pair<std::string, int64_t>> unplanned = executor->unplannedMemory();
    for (const auto &[name, bytes] : unplanned)
      values.push_back(double(bytes));
    values.push_back(double(checkpointBytes));
    ZOPT_RETURN_IF_FAILED(communicator.allReduceMaximum("measured peak", values.data(), int64_t(values.size())));
    size_t index = 0;
    EndEvent event;
    for (auto &[tier, peak] : peaks) {
      peak.measured = int64_t(values[index++]);
      peak.live = int64_t(values[index++]);
      bytesOf(event.measuredPeak, tier) = peak.measured;
    }
    event.measuredPeak.host += int64_t(values.back()) + (prefetcher ? prefetcher->bytes() : 0);
    for (auto &[name, bytes] : unplanned)
      bytes = int64_t(values[index++]);
    event.steps = reached;
    event.seconds = secondsSince(started);
    Status told;
    if (root) {
      progress->finish();
      if (metrics)
        told = metrics->write(event);
      if (metrics)
        if (Status closed = metrics->close(); told.succeeded())
          told = closed;
      if (options.memoryReport != RunOptions::Report::None)
        printMemoryReport(program, peaks, unplanned, options.memoryReport == RunOptions::Report::Json);
    }
    return together("end", told);
  }

  const Run &run;
  const RunOptions &options;
  const Program &program;
  Communicator &communicator;
  const bool root;
  bool &agreed;
  RankCheckpoints checkpoints;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<InitialNumbers> numbers; // while the executor is made and its states are initialized
  std::unique_ptr<Progress> progress;
  std::unique_ptr<MetricsFile> metrics; // its monitors may warn when they are closed
  std::unique_ptr<GradientCopy> gradients;
  std::unique_ptr<Prefetcher> prefetcher;      // null: batches are read between steps
  std::vector<ExecutedCommand> trace, executed; // of --trace, and of the step that was looked at last
  std::optional<CommLog> commLog;
  int64_t loggedSteps = 0;
  std::vector<char> words;
  std::vector<uint8_t> checkpointWords;
  std::deque<RunningStep> running;
  Clock::time_point lastTold;
  RandomState random;
  Rates written;
  int64_t applied = 0;        // steps that changed the states, of those told
  bool skippedBefore = false; // the last step told
  double lossScale = 1;       // of the step after the last one told
  bool scalesLoss = false, lossScaleFalls = false;
  int skipsInARow = 0;
  int64_t total = 0, done = 0; // steps of the run, resumed ones included, and those of this process
  int64_t reached = 0;         // of the run
  int64_t evaluated = -1;      // the step after which it was done last
  int64_t rollBacks = 0, furthest = 0; // --nonfinite=rollback: how often since a step was passed for the first time
  bool mustGoBack = false;
  int64_t checkpointBytes = 0; // of the host's memory
  double stepFlops = 0, peakFlops = 0; // of all ranks; 0: not known; on rank 0
  int stopCode = 0;
  Status untold; // of rank 0
  Clock::time_point started;
};

} // namespace

Result<int> runRank(const Run &run, Communicator &communicator, bool &agreed) {
  RankRun rank(run, communicator, agreed);
  Result<int> result = rank.execute();
  // What a broken collective was still moving lies in the rank's memory, which goes with it.
  if (result.failed() && !agreed)
    communicator.linger();
  return result;
}

} // namespace zopt::runtime
