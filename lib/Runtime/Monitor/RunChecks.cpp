//===- RunChecks.cpp - whether the machine can do a run -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/RunChecks.h"
#include "zopt/Runtime/Core/File.h"
#include <algorithm>
#include <cstdlib>
#include <set>
#include <sys/resource.h>
#include <sys/stat.h>

namespace zopt::runtime {

namespace {

/// What Open MPI's shared-memory transport maps for each rank: 4 MiB of messages and its book-keeping.
constexpr int64_t kSharedBytesPerRank = 5 << 20;

/// Where Open MPI puts its shared memory.
std::string sharedMemoryFolder() {
  const char *asked = std::getenv("OMPI_MCA_btl_vader_backing_directory");
  return asked && *asked ? asked : "/dev/shm";
}

std::string plural(int64_t count, const char *word) { return concat(count, " ", word, count == 1 ? "" : word[std::char_traits<char>::length(word) - 1] == 's' ? "es" : "s"); }

} // namespace

std::vector<Status> checkMemory(const RunNeeds &needs, const MemoryFacts &memory) {
  int64_t planned, beside, all;
  if (__builtin_mul_overflow(needs.plannedBytesPerRank, needs.localRanks, &planned) || __builtin_mul_overflow(needs.bytesPerProcess, needs.localProcesses, &beside) ||
      __builtin_add_overflow(planned, beside, &all))
    return {inputError(plural(needs.localRanks, "rank"), " of ", needs.plannedBytesPerRank, " planned bytes need more than 2^63 - 1 bytes of memory")};
  if (memory.total <= 0 || all <= memory.usable())
    return {};
  std::string limit = memory.cgroupLimit < 0 ? "" : concat("; the cgroup allows ", bytesText(memory.cgroupLimit), " and uses ", bytesText(memory.cgroupUsed));
  return {inputError(plural(needs.localRanks, "rank"), " on this machine need ", bytesText(all), " of memory (", bytesText(planned), " planned, ", bytesText(beside), " for ",
                     plural(needs.localProcesses, "process"), "), but ", bytesText(memory.usable()), " of ", bytesText(memory.total), " are available", limit,
                     ": use fewer ranks here, a smaller micro-batch, or a higher --zero-stage")};
}

std::vector<Status> checkDevices(const RunNeeds &needs) {
  std::vector<Status> problems;
  const int64_t count = int64_t(needs.devices.size());
  for (int64_t i = 0; i < std::min(count, needs.localRanks); ++i) {
    const DeviceMemory &device = needs.devices[size_t(i)];
    const int64_t ranks = (needs.localRanks - i + count - 1) / count, there = device.freeBytes >= 0 ? device.freeBytes : device.totalBytes;
    int64_t planned;
    if (!__builtin_mul_overflow(needs.plannedDeviceBytesPerRank, ranks, &planned) && planned <= there)
      continue;
    problems.push_back(inputError(device.name, ", device ", i, ": ", plural(ranks, "rank"), " of ", bytesText(needs.plannedDeviceBytesPerRank), " (", needs.plannedDeviceBytesPerRank, " bytes) planned ", ranks == 1 ? "does" : "do",
                                  " not fit into the GPU's memory, of which ", bytesText(there), " (", there, " bytes) ", device.freeBytes >= 0 ? "are free" : "is all there is",
                                  ": take a smaller --micro-batch, --recompute=full, ", ranks > 1 ? "fewer ranks a GPU, " : "", "or a higher --zero-stage with more ranks"));
  }
  return problems;
}

std::vector<Status> checkAddressSpace(const RunNeeds &needs, int64_t limit) {
  int64_t ranksPerProcess = (needs.localRanks + needs.localProcesses - 1) / std::max<int64_t>(1, needs.localProcesses);
  int64_t needed;
  if (limit < 0 || (!__builtin_mul_overflow(needs.plannedBytesPerRank, ranksPerProcess, &needed) && !__builtin_add_overflow(needed, needs.bytesPerProcess, &needed) && needed <= limit))
    return {};
  return {inputError("a process of this run needs ", bytesText(needed), " of address space, but its limit is ", bytesText(limit), ": raise it with ulimit -v unlimited")};
}

std::vector<Status> checkSharedMemory(const RunNeeds &needs, const FolderFacts &folder) {
  int64_t needed = kSharedBytesPerRank * needs.localRanks;
  if (!needs.usesMpi || needs.localRanks < 2 || folder.free >= needed)
    return {};
  return {inputError(plural(needs.localRanks, "rank"), " need ", bytesText(needed), " in ", folder.path, " for MPI, but ", bytesText(folder.free), " of ", bytesText(folder.total),
                     " are free: enlarge it (docker run --shm-size=1g), or set OMPI_MCA_btl_vader_backing_directory to a folder with room")};
}

std::vector<Status> checkOutputs(const RunNeeds &needs) {
  std::vector<Status> problems;
  std::set<std::string> names;
  for (const OutputNeed &output : needs.outputs) {
    if (!names.insert(output.path).second) {
      problems.push_back(usageError(output.path, ": is named for two outputs"));
      continue;
    }
    struct stat information;
    // Devices and pipes take what they are given; making a temporary file beside them would be no test.
    if (::stat(output.path.c_str(), &information) == 0 && !S_ISREG(information.st_mode) && !S_ISDIR(information.st_mode))
      continue;
    if (Status status = checkWritable(output.path); status.failed()) {
      problems.push_back(status);
      continue;
    }
    Result<FolderFacts> folder = readFolder(output.path);
    if (!folder.failed() && folder->free < output.bytes)
      problems.push_back(inputError(output.path, ": needs ", bytesText(output.bytes), ", but its disk has ", bytesText(folder->free), " free"));
  }
  return problems;
}

std::vector<Status> checkMachine(const RunNeeds &needs) {
  std::vector<Status> problems = checkMemory(needs, readMemory());
  auto append = [&](const std::vector<Status> &more) { problems.insert(problems.end(), more.begin(), more.end()); };
  append(checkDevices(needs));
  append(checkAddressSpace(needs, readLimit(RLIMIT_AS)));
  // Without the folder Open MPI uses its session's folder instead.
  if (Result<FolderFacts> folder = readFolder(sharedMemoryFolder()); !folder.failed() && folder->path == sharedMemoryFolder())
    append(checkSharedMemory(needs, *folder));
  append(checkOutputs(needs));
  return problems;
}

} // namespace zopt::runtime
