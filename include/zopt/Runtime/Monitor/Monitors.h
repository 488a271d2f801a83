//===- Monitors.h - what takes the metrics beside their file ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A table of the steps, TensorBoard's event files, an endpoint for Prometheus, and a command that gets every record.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_MONITORS_H
#define ZOPT_RUNTIME_MONITOR_MONITORS_H

#include "zopt/Runtime/Monitor/Metrics.h"
#include <functional>

namespace zopt::runtime {

/// The steps as comma-separated values (RFC 4180) under one line of column names, those of the metrics; what a step
/// does not have is empty. `resumeAfter`: goes on with the file of a run that goes on after that step, without the rows
/// of later ones. A file there that begins with other columns is refused.
Result<std::unique_ptr<Monitor>> openCsvMonitor(const std::string &path,
                                                std::optional<int64_t> resumeAfter = std::nullopt);

/// A new event file for TensorBoard in `folder`, which is made where it is not there. A point a step and series, over
/// samples, under DeepSpeed's names where it has them. `resumeAfterSamples`: earlier files' points behind that many
/// samples are void; a run that does not go on makes all of theirs void. They stay on disk.
Result<std::unique_ptr<Monitor>> openTensorBoardMonitor(const std::string &folder,
                                                        std::optional<int64_t> resumeAfterSamples = std::nullopt);

/// Answers GET http://127.0.0.1:port/metrics with the last step in Prometheus's text format, from a thread of its own,
/// until it is closed. A port that is taken fails.
Result<std::unique_ptr<Monitor>> startPrometheusMonitor(int port);

/// `warn` gets one line a problem; none of them ends the run.
using Warn = std::function<void(const std::string &)>;

struct CommandLimits {
  size_t waitingBytes =
      1 << 20;              ///< of records that the command has not read yet; further ones are dropped, and counted
  double closeSeconds = 10; ///< for the command to read the rest and to end
};

/// Starts `command` by /bin/sh, in a process group of its own, so that a terminal's Ctrl-C reaches it as the end of its
/// input, and writes every record to its input; its output goes to stderr. Never waits for it before close(). The
/// process must ignore SIGPIPE, as StopRequest makes it.
Result<std::unique_ptr<Monitor>> startCommandMonitor(const std::string &command, Warn warn, CommandLimits limits = {});

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_MONITORS_H
