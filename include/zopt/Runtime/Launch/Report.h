//===- Report.h - what a run says at its end --------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The memory report on stdout, and the trace of a step and the log of collectives from all ranks.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_REPORT_H
#define ZOPT_RUNTIME_LAUNCH_REPORT_H

#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/Memory.h"
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace zopt::runtime {

class CommLog;
class Progress;

/// Planned and measured bytes of every tier, the planned bytes of each class, and what there is beside them (Executor::unplannedMemory).
void printMemoryReport(const Program &program, const std::map<Tier, TierPeak> &peaks, const std::vector<std::pair<std::string, int64_t>> &unplanned, bool json);

/// Gathers every rank's commands of a step and writes them from rank 0. Every rank calls it.
Status gatherTrace(Executor &executor, const std::vector<ExecutedCommand> &commands, const std::string &path);

/// Gathers what every rank measured of collectives over `steps` steps; rank 0 prints it behind the progress bar, which ends, and writes it as JSON. Every rank calls it.
Status gatherCommLog(Executor &executor, CommLog &log, int64_t steps, Progress &progress, const std::string &path);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_REPORT_H
