//===- RunChecks.h - whether the machine can do a run -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What precedes every run, and is all of --dry-run: the machine's limits against the bytes that its ranks have planned, and outputs that can be written. Every check gives all its problems, each an
// error of the input that says what is needed, what there is, and what to do.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_RUNCHECKS_H
#define ZOPT_RUNTIME_MONITOR_RUNCHECKS_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

struct OutputNeed {
  std::string path;
  int64_t bytes = 0; ///< that will be written, as far as is known
};

/// A GPU's memory; `freeBytes` is -1 where nobody has asked for it.
struct DeviceMemory {
  std::string name;
  int64_t totalBytes = 0, freeBytes = -1;
};

struct RunNeeds {
  int64_t localRanks = 1;                 ///< on this machine
  int64_t localProcesses = 1;             ///< that they run in
  int64_t plannedBytesPerRank = 0;        ///< of the machine's memory: device (on CPU) and host tiers
  int64_t bytesPerProcess = 150'000'000;  ///< code, libraries, buffers of MPI
  bool usesMpi = false;
  int64_t plannedDeviceBytesPerRank = 0;  ///< of a GPU's memory
  std::vector<DeviceMemory> devices;      ///< GPUs of this machine, which its ranks take in turn; none: not a run on GPUs
  std::vector<OutputNeed> outputs;
};

std::vector<Status> checkMemory(const RunNeeds &needs, const MemoryFacts &memory);
/// What the ranks of each GPU have planned against what it has free, or has at all.
std::vector<Status> checkDevices(const RunNeeds &needs);
/// RLIMIT_AS; `limit` in bytes, -1 where there is none.
std::vector<Status> checkAddressSpace(const RunNeeds &needs, int64_t limit);
/// The folder in which Open MPI's ranks of one machine exchange messages.
std::vector<Status> checkSharedMemory(const RunNeeds &needs, const FolderFacts &folder);
/// Writability, names given twice, and room on the disks.
std::vector<Status> checkOutputs(const RunNeeds &needs);

/// All of the above, on this machine.
std::vector<Status> checkMachine(const RunNeeds &needs);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_RUNCHECKS_H
