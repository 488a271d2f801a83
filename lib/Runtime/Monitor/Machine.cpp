//===- Machine.cpp - what the machine gives this process ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Machine.h"
#include "zopt/Runtime/Core/Text.h"
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sched.h>
#include <set>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <thread>

namespace zopt::runtime {

namespace {

constexpr const char *kFeatures[] = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"};

/// Empty where there is no such file.
std::string readText(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string trim(const std::string &text) {
  size_t begin = text.find_first_not_of(" \t\n"), end = text.find_last_not_of(" \t\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

/// The number that the text begins with, or `otherwise`.
int64_t parseNumber(const std::string &text, int64_t otherwise) {
  std::string digits = trim(text);
  int64_t value;
  auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return result.ec == std::errc() ? value : otherwise;
}

bool startsWith(const std::string &text, const std::string &start) { return text.compare(0, start.size(), start) == 0; }

struct Mount {
  std::string root, point, type, options; // options: of the file system, behind the dash
};

/// mountinfo writes blanks and backslashes in octal.
std::string unescape(const std::string &text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result += char(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<Mount> readMounts(const std::string &root) {
  std::vector<Mount> mounts;
  for (const std::string &line : split(readText(root + "/proc/self/mountinfo"), '\n')) {
    std::vector<std::string> fields = split(line, ' ');
    auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 5 || fields.end() - dash < 4)
      continue;
    mounts.push_back({unescape(fields[3]), unescape(fields[4]), dash[1], dash[3]});
  }
  return mounts;
}

/// The folders of the groups that this process is in, for one controller: its own group first, then those around it, as far as they can be seen.
struct CgroupFolders {
  bool isVersion2 = false;
  std::vector<std::string> folders;
};

std::vector<CgroupFolders> findCgroups(const std::string &root, const std::string &controller) {
  std::vector<Mount> mounts = readMounts(root);
  std::vector<CgroupFolders> found;
  for (const std::string &line : split(readText(root + "/proc/self/cgroup"), '\n')) {
    // "hierarchy:controllers:path"
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos)
      continue;
    std::vector<std::string> controllers = split(line.substr(first + 1, second - first - 1), ',');
    bool isVersion2 = controllers.empty();
    if (!isVersion2 && std::find(controllers.begin(), controllers.end(), controller) == controllers.end())
      continue;
    std::string path = line.substr(second + 1);
    for (const Mount &mount : mounts) {
      std::vector<std::string> options = split(mount.options, ',');
      bool fits = isVersion2 ? mount.type == "cgroup2" : mount.type == "cgroup" && std::find(options.begin(), options.end(), controller) != options.end();
      if (!fits)
        continue;
      // A container often sees its own group mounted as the top.
      std::string below = mount.root != "/" && startsWith(path, mount.root) ? path.substr(mount.root.size()) : path;
      CgroupFolders groups;
      groups.isVersion2 = isVersion2;
      while (!below.empty() && below != "/") {
        groups.folders.push_back(root + mount.point + below);
        below.resize(below.rfind('/') == std::string::npos ? 0 : below.rfind('/'));
      }
      groups.folders.push_back(root + mount.point);
      found.push_back(std::move(groups));
      break;
    }
  }
  return found;
}

/// The value of "name value" lines.
int64_t readField(const std::string &text, const std::string &name) {
  for (const std::string &line : split(text, '\n'))
    if (startsWith(line, name + " "))
      return parseNumber(line.substr(name.size() + 1), 0);
  return 0;
}

int64_t readMeminfo(const std::string &text, const std::string &name) {
  for (const std::string &line : split(text, '\n'))
    if (startsWith(line, name + ":"))
      return parseNumber(line.substr(name.size() + 1), 0) * 1024;
  return 0;
}

} // namespace

std::string bytesText(int64_t bytes) {
  double value = double(bytes);
  for (const char *unit : {"B", "kB", "MB", "GB", "TB"}) {
    if (value < 999.5 || !std::strcmp(unit, "TB")) {
      char text[48];
      std::snprintf(text, sizeof text, value < 9.95 && *unit != 'B' ? "%.1f %s" : "%.0f %s", value, unit);
      return text;
    }
    value /= 1000;
  }
  return "";
}

bool CpuFacts::has(const std::string &feature) const { return std::find(features.begin(), features.end(), feature) != features.end(); }

CpuFacts readCpu(const std::string &root) {
  CpuFacts cpu;
  std::set<std::string> flags;
  std::set<std::pair<std::string, std::string>> cores; // package and core
  std::string package;
  for (const std::string &line : split(readText(root + "/proc/cpuinfo"), '\n')) {
    size_t colon = line.find(':');
    std::string key = trim(line.substr(0, colon)), value = colon == std::string::npos ? "" : trim(line.substr(colon + 1));
    if (key == "processor")
      ++cpu.logical;
    else if (key == "model name")
      cpu.model = value;
    else if (key == "physical id")
      package = value;
    else if (key == "core id")
      cores.insert({package, value});
    else if (key == "flags" && flags.empty())
      for (const std::string &flag : split(value, ' '))
        flags.insert(flag);
  }
  for (const char *feature : kFeatures)
    if (flags.count(feature))
      cpu.features.push_back(feature);
  cpu.cores = cores.empty() ? cpu.logical : int(cores.size());

  cpu_set_t set;
  cpu.allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : int(std::thread::hardware_concurrency());

  for (const CgroupFolders &groups : findCgroups(root, "cpu"))
    for (const std::string &folder : groups.folders) {
      int64_t quota = -1, period = 0;
      if (groups.isVersion2) {
        std::vector<std::string> fields = split(trim(readText(folder + "/cpu.max")), ' '); // "max 100000" or "150000 100000"
        if (fields.size() == 2) {
          quota = parseNumber(fields[0], -1);
          period = parseNumber(fields[1], 0);
        }
      } else {
        quota = parseNumber(readText(folder + "/cpu.cfs_quota_us"), -1);
        period = parseNumber(readText(folder + "/cpu.cfs_period_us"), 0);
      }
      if (quota > 0 && period > 0 && (cpu.cgroupLimit < 0 || double(quota) / double(period) < cpu.cgroupLimit))
        cpu.cgroupLimit = double(quota) / double(period);
    }
  return cpu;
}

int64_t MemoryFacts::usable() const { return cgroupLimit < 0 ? available : std::min(available, std::max<int64_t>(0, cgroupLimit - cgroupUsed)); }

MemoryFacts readMemory(const std::string &root) {
  MemoryFacts memory;
  std::string text = readText(root + "/proc/meminfo");
  memory.total = readMeminfo(text, "MemTotal");
  memory.available = readMeminfo(text, "MemAvailable");
  for (const CgroupFolders &groups : findCgroups(root, "memory"))
    for (const std::string &folder : groups.folders) {
      int64_t limit = parseNumber(readText(folder + (groups.isVersion2 ? "/memory.max" : "/memory.limit_in_bytes")), -1);
      if (limit < 0 || limit >= memory.total) // version 1 says "no limit" by a huge number
        continue;
      std::string statistics = readText(folder + "/memory.stat");
      int64_t used = parseNumber(readText(folder + (groups.isVersion2 ? "/memory.current" : "/memory.usage_in_bytes")), 0) -
                     readField(statistics, groups.isVersion2 ? "inactive_file" : "total_inactive_file");
      if (memory.cgroupLimit < 0 || limit - used < memory.cgroupLimit - memory.cgroupUsed) {
        memory.cgroupLimit = limit;
        memory.cgroupUsed = std::max<int64_t>(0, used);
      }
    }
  return memory;
}

int64_t readOomKills(const std::string &root) {
  // Our own group counts what any group around it has killed here.
  for (const CgroupFolders &groups : findCgroups(root, "memory"))
    for (const std::string &folder : groups.folders)
      if (std::string text = readText(folder + (groups.isVersion2 ? "/memory.events" : "/memory.oom_control")); text.find("oom_kill ") != std::string::npos)
        return readField(text, "oom_kill");
  std::string machine = readText(root + "/proc/vmstat");
  return machine.find("oom_kill ") == std::string::npos ? -1 : readField(machine, "oom_kill");
}

Result<FolderFacts> readFolder(const std::string &path) {
  FolderFacts facts;
  facts.path = path.empty() ? "." : path;
  struct statvfs information;
  while (statvfs(facts.path.c_str(), &information) != 0) {
    if (errno != ENOENT || facts.path == "." || facts.path == "/")
      return fileError(facts.path, "statvfs", errno);
    size_t slash = facts.path.find_last_of('/');
    facts.path = slash == std::string::npos ? "." : slash == 0 ? "/" : facts.path.substr(0, slash);
  }
  facts.total = int64_t(information.f_blocks) * int64_t(information.f_frsize);
  facts.free = int64_t(information.f_bavail) * int64_t(information.f_frsize);
  char *real = realpath(facts.path.c_str(), nullptr);
  if (!real)
    return fileError(facts.path, "realpath", errno);
  std::string where = std::string(real) + "/";
  std::free(real);
  size_t longest = 0;
  for (const Mount &mount : readMounts("")) {
    std::string point = mount.point == "/" ? "/" : mount.point + "/";
    if (startsWith(where, point) && point.size() >= longest) { // of equal ones the last covers the others
      longest = point.size();
      facts.type = mount.type;
    }
  }
  return facts;
}

int64_t readLimit(int resource) {
  rlimit limit;
  if (getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return -1;
  return int64_t(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
}

} // namespace zopt::runtime
