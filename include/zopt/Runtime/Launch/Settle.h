//===- Settle.h - what a run is set to ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_SETTLE_H
#define ZOPT_RUNTIME_LAUNCH_SETTLE_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Launch/Options.h"

namespace zopt::runtime {

/// Gives `options` the flags that the command line lacks: those of --config, then those that the plan holds. Prints the
/// config's report. From then on `options.arguments` say the same to ranks that the launcher starts, which read no
/// config. Does nothing where that has happened. Errors: Input, a line a problem, where the config is refused or
/// contradicts what was compiled.
Status settleOptions(RunOptions &options, const Program &program);

/// The command of --wandb: the shipped bridge with the names that `value` holds (project=P,group=G,team=T). Error:
/// Input where the bridge is not there or a name is not known.
Result<std::string> wandbCommand(const std::string &value);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_SETTLE_H
