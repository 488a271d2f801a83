//===- Target.h - what a run runs on ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Chooses between CPU and GPUs: GPUs where every rank of the machine gets one of its own; never the CPU beside GPUs that are too few, unless that is asked for.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_TARGET_H
#define ZOPT_RUNTIME_LAUNCH_TARGET_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include "zopt/Runtime/Launch/Options.h"

namespace zopt::runtime {

/// "cpu" or "cuda" for `localRanks` ranks on a machine with these devices. `note` receives what the user should know of the choice, or nothing.
Result<std::string> chooseTarget(const RunOptions &options, int localRanks, const DeviceProbe &probe, std::string &note);

/// Looks for GPUs where the options leave that open or want them, and sets target, devices and chip. Called while the
/// process has one thread. Asks the driver in a child, or `inThisProcess` where no process that uses devices is to be
/// forked from this one.
Status resolveTarget(RunOptions &options, int localRanks, bool inThisProcess = false);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_TARGET_H
