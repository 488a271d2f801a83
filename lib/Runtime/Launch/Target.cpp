//===- Target.cpp - what a run runs on ------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Target.h"
#include "zopt/Runtime/Launch/Child.h"
#include "zopt/Runtime/Launch/Run.h"

namespace zopt::runtime {

Result<std::string> chooseTarget(const RunOptions &options, int localRanks, const DeviceProbe &probe, std::string &note) {
  note.clear();
  if (options.target == "cpu")
    return options.target;
  const int devices = int(probe.devices.size());
  std::string have = concat("this machine has ", devices, devices == 1 ? " GPU" : " GPUs", " for ", localRanks, localRanks == 1 ? " rank" : " ranks");
  if (options.target == "cuda") {
    if (devices == 0)
      return runtimeError("--target=cuda: ", probe.problem);
    if (devices < localRanks && options.comm == "nccl")
      return inputError(have, ", but NCCL wants one for each: give --comm=mpi, or fewer ranks");
    if (devices < localRanks)
      note = have + ": they share, and exchange through the host";
    return options.target;
  }
  if (devices == 0) {
    if (options.comm == "nccl")
      return runtimeError("--comm=nccl: ", probe.problem);
    // A driver without a device that can be used is worth a word; a machine without one is not.
    if (probe.hasDriver)
      note = "runs on the CPU: " + probe.problem;
    return std::string("cpu");
  }
  if (devices < localRanks)
    return inputError(have, ": name the target, --target=cuda for ranks that share GPUs (and exchange slowly), or --target=cpu");
  return std::string("cuda");
}

Status resolveTarget(RunOptions &options, int localRanks, bool inThisProcess) {
  if (options.target == "cpu")
    return success();
  std::string text;
  if (inThisProcess) {
    text = describeDevices(/*withFree=*/options.dryRun);
  } else {
    Result<std::string> answer =
        askChild("the process that asked for GPUs", [&] { return ChildAnswer{0, describeDevices(options.dryRun)}; });
    text = answer.failed() ? "found\nproblem " + answer.getStatus().message() : *answer;
  }
  DeviceProbe probe = parseDevices(text);
  std::string note;
  Result<std::string> target = chooseTarget(options, localRanks, probe, note);
  if (target.failed())
    return target.getStatus();
  options.target = *target;
  if (!note.empty())
    reportNote(note);
  if (options.target == "cuda") {
    for (const DeviceFacts &device : probe.devices)
      options.devices.push_back({device.name, device.totalBytes, device.freeBytes});
    options.chip = probe.devices[0].chip();
  }
  return success();
}

} // namespace zopt::runtime
