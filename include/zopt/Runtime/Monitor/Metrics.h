//===- Metrics.h - what a run measures, a JSON object a line ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The file of --metrics. Each event is one line, written by one call, so that a reader of a running or killed run meets whole lines only. Finite floats are printed in the fewest digits that
// read back as the same double; others are the strings "nan", "inf", "-inf".
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_METRICS_H
#define ZOPT_RUNTIME_MONITOR_METRICS_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Monitor/LineFile.h"
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace zopt::runtime {

/// Bytes a rank, planned or measured, of every tier.
struct TierBytes {
  int64_t device = 0, host = 0, file = 0;
};

struct StartEvent {
  std::string plan; ///< the plan's hash
  int64_t ranks = 1;
  std::string comm, target;
  TierBytes plannedPeak;
  int64_t parameters = 0; ///< elements
  int64_t buckets = 0;
};

/// The mean of each term of a loss that is a sum, by name and without its weight.
using LossTerms = std::vector<std::pair<std::string, double>>;

struct StepEvent {
  int64_t step = 0;  ///< the first is 1
  int64_t epoch = 0; ///< the first is 0
  int64_t samples = 0;
  std::optional<int64_t> tokens; ///< where the model has a sequence; cumulative, as samples are
  double loss = 0, gradientNorm = 0, learningRate = 0;
  LossTerms terms; ///< of the loss; empty where it is one
  bool skipped = false;
  double stepMilliseconds = 0, samplesPerSecond = 0;
  double tokensPerSecond = 0; ///< written where tokens are
  std::optional<double> lossScale;
  std::optional<double> momentum; ///< where the schedule cycles it
  std::optional<double> flops; ///< a second, of all ranks: those of the model's products (Program::flops)
  std::optional<double> mfu;   ///< the same as a share of what the devices can do at most, where that is known
};

/// The loss of held-out data after a step.
struct EvaluationEvent {
  int64_t step = 0;
  int64_t trainSamples = 0;                   ///< consumed by training before; monitors that plot over samples want it
  double loss = 0;                            ///< mean over counted labels
  LossTerms terms;                            ///< of the loss; empty where it is one
  std::optional<double> perplexity, accuracy; ///< of cross_entropy: e to the loss, and the share of labels with the largest logit
  int64_t labels = 0, samples = 0;            ///< that were counted
  double seconds = 0;
};

/// A save that ended.
struct CheckpointEvent {
  int64_t step = 0;
  std::string path;
  int64_t bytes = 0;            ///< of all shards
  double seconds = 0;           ///< from the copy to the name in `latest`
  double writeSeconds = 0;      ///< of rank 0's shard, which is one of as many as there are ranks
  double stallMilliseconds = 0; ///< that training waited
  std::string error;            ///< empty: it succeeded
};

/// A run that goes on.
struct RestartEvent {
  int64_t restart = 0; ///< how often ranks were started anew; 0: the user did
  int64_t step = 0;    ///< done before
  std::string path;    ///< the checkpoint; empty: from the beginning
};

struct EndEvent {
  int64_t steps = 0;
  TierBytes measuredPeak;
  double seconds = 0;
};

/// Takes what a run tells beside its metrics file. A Status that failed ends the run, so a monitor that a run can do without says what failed in a warning of its own.
class Monitor {
public:
  virtual ~Monitor() = default;
  /// Every event, as a line of JSON with its newline. Allocates nothing.
  virtual Status record(const std::string &) { return success(); }
  /// Every step, behind its record. Allocates nothing.
  virtual Status step(const StepEvent &) { return success(); }
  /// Every evaluation, behind its record.
  virtual Status evaluation(const EvaluationEvent &) { return success(); }
  /// Nothing more will come.
  virtual Status close() { return success(); }
};

class MetricsFile {
public:
  /// No file: records go to the monitors only.
  MetricsFile();
  /// A new run replaces the file; a resumed one (`append`) goes on behind its last whole line.
  static Result<MetricsFile> open(const std::string &path, bool append = false);
  /// Goes on with the file of a run that goes on after `step`: what was written from the first later step on will come again, and is dropped.
  static Result<MetricsFile> resume(const std::string &path, int64_t step);

  void add(std::unique_ptr<Monitor> monitor) { monitors.push_back(std::move(monitor)); }
  /// Closes the monitors.
  Status close();

  Status write(const StartEvent &event);
  /// Allocates nothing but in the first call.
  Status write(const StepEvent &event);
  Status write(const EvaluationEvent &event);
  Status write(const CheckpointEvent &event);
  Status write(const RestartEvent &event);
  Status write(const EndEvent &event);
  /// Checkpoint, eval, restart, warning: an event with a text.
  Status writeNote(const std::string &event, const std::string &text);

private:
  void begin(const char *event);
  Status finish();

  std::optional<LineFile> file;
  std::vector<std::unique_ptr<Monitor>> monitors;
  std::string line;
};

/// Appends the JSON of a float: shortest digits that read back exactly, always with a point or an exponent, or one of the strings "nan", "inf", "-inf".
void appendJson(std::string &text, double value);
/// Appends a JSON string; bytes that are not UTF-8 become U+FFFD.
void appendJson(std::string &text, const std::string &value);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_METRICS_H
