//===- Progress.h - how far a run is, on stderr -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// On a terminal one bar, redrawn in place and never wider than the terminal; otherwise a line every few seconds. Speeds and the time left come from a moving average of step times.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_PROGRESS_H
#define ZOPT_RUNTIME_MONITOR_PROGRESS_H

#include "zopt/Runtime/Monitor/Metrics.h"
#include <cstdint>
#include <string>

namespace zopt::runtime {

struct ProgressOptions {
  int descriptor = 2;
  int64_t totalSteps = 0;     ///< of the whole run, resumed steps included
  int64_t samplesPerStep = 0; ///< of all ranks
  int64_t tokensPerStep = 0;  ///< 0 where the model has no sequence
  int64_t memoryBytes = 0;    ///< a rank's peak; 0: not shown
  double flopsPerStep = 0;    ///< of all ranks; 0: not shown
  double peakFlops = 0;       ///< of all devices, a second; 0: not known
  double lineSeconds = 5;     ///< between lines where there is no terminal
  int64_t lineSteps = 0;      ///< steps between lines, in place of time, on a terminal too; 0: by time
};

/// What a line shows.
struct ProgressState {
  int64_t step = 0, totalSteps = 0; ///< steps done
  bool hasLoss = true;              ///< a forward run has none
  double loss = 0;
  LossTerms terms; ///< of the loss; empty: not shown
  bool skipped = false;
  double samplesPerSecond = 0, tokensPerSecond = 0; ///< 0: not shown
  double flopsPerSecond = 0, utilization = 0;       ///< 0: not shown
  int64_t memoryBytes = 0;
  double secondsLeft = 0;
};

/// "step 12/200 loss 3.1416 194 samples/s (24.9k tokens/s) 1.2 GB 98.7 TFLOP/s (MFU 40%) 0:41 left"
std::string progressLine(const ProgressState &state);
/// The same with a bar, in at most `width` columns: the bar shrinks first, then fields go, the least important first.
std::string progressBar(const ProgressState &state, int width);

class Progress {
public:
  explicit Progress(const ProgressOptions &options);
  ~Progress() { finish(); }
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  /// `stepsDone` is the run's step that just ended, of which it took `seconds`. `now`: seconds of a steady clock.
  void update(int64_t stepsDone, double loss, bool skipped, double seconds, double now);
  void update(int64_t stepsDone, double loss, bool skipped, double seconds);
  /// The terms of the loss of the next update.
  void setTerms(const LossTerms &terms) { state.terms = terms; }
  /// For runs without a loss.
  void update(int64_t stepsDone, double seconds);
  /// Writes a line of its own (a warning, say), above the bar.
  void note(const std::string &text);
  /// Leaves the last state as a line. Called once more, it does nothing.
  void finish();

private:
  void draw(bool last);

  ProgressOptions options;
  bool terminal;
  ProgressState state;
  double averageSeconds = 0; // of a step
  double drawn = -1;         // when the last line was, or -1
  int64_t drawnStep = -1;
  bool barIsUp = false;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_PROGRESS_H
