//===- Breakdown.h - where the time of a step went ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_BREAKDOWN_H
#define ZOPT_RUNTIME_MONITOR_BREAKDOWN_H

#include "zopt/Runtime/Core/Executor.h"
#include <string>
#include <vector>

namespace zopt::runtime {

/// One line of a step's commands by what they are: "products 20.10 ms, kernels 9.02 ms, collectives 4.50 ms,
/// optimizer 2.00 ms, other 0.10 ms". Collectives are the time that the rank spent in them and waiting for them.
/// Streams of a GPU overlap, so that the parts may add up to more than the step.
std::string breakdownText(const std::vector<ExecutedCommand> &commands);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_BREAKDOWN_H
