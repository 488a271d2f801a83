//===- Machine.h - what the machine gives this process ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Processors, memory and disks as this process may use them: affinity and cgroup limits (version 1 and 2, those of every enclosing group) included. `root` is put before the paths that are read, so
// that tests can show other machines.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_MACHINE_H
#define ZOPT_RUNTIME_MONITOR_MACHINE_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

struct CpuFacts {
  std::string model;
  std::vector<std::string> features; ///< those that matter to training: avx2, avx512f, avx512_vnni, avx512_bf16, avx512_fp16, amx_tile, amx_bf16
  int logical = 0;                   ///< processors that are online
  int cores = 0;                     ///< physical ones among them
  int allowed = 0;                   ///< processors of this process's affinity
  double cgroupLimit = -1;           ///< processors' worth of time; -1: not limited
  /// Whether a feature of the list above is there.
  bool has(const std::string &feature) const;
};
CpuFacts readCpu(const std::string &root = "");

struct MemoryFacts {
  int64_t total = 0;
  int64_t available = 0;    ///< without swapping (MemAvailable)
  int64_t cgroupLimit = -1; ///< of the tightest group; -1: not limited
  int64_t cgroupUsed = 0;   ///< of that group, without the page cache that it can give back
  /// What can still be allocated.
  int64_t usable() const;
};
MemoryFacts readMemory(const std::string &root = "");

/// How many processes of this memory group (of the machine, where there is none) the kernel has killed because memory ran out; -1 where it does not tell.
int64_t readOomKills(const std::string &root = "");

struct FolderFacts {
  std::string path;
  std::string type; ///< of the file system: ext4, tmpfs, nfs4, ...; empty where no mount is seen to hold the path, as in a plain chroot
  int64_t total = 0, free = 0;
};
/// Of the file system that holds `path`, or would hold it: a missing path is looked for in its parent.
Result<FolderFacts> readFolder(const std::string &path);

/// A limit of this process (RLIMIT_...); -1: not limited.
int64_t readLimit(int resource);

/// "1.2 GB", with powers of 1000.
std::string bytesText(int64_t bytes);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_MACHINE_H
