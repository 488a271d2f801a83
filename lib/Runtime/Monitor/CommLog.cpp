//===- CommLog.cpp - what collectives cost --------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/CommLog.h"
#include "zopt/Runtime/Monitor/Trace.h"
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

namespace zopt::runtime {

namespace {

using Kind = Command::Kind;

bool isLogged(Kind kind) { return kind == Kind::AllGather || kind == Kind::ReduceScatter || kind == Kind::AllReduce || kind == Kind::AllReduceScalars; }

/// Of the whole, on `ranks` ranks.
int64_t bytesOf(const Command &command, int ranks) {
  switch (command.kind) {
  case Kind::AllGather:
    return command.bytes * ranks;
  case Kind::ReduceScatter:
  case Kind::AllReduce:
    return command.elements * ranks * sizeOf(command.type);
  default:
    return command.elements * sizeOf(command.type);
  }
}

} // namespace

CommLog::CommLog(const Program &program, int ranks) : ranks(ranks) {
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands)
      if (isLogged(command.kind)) {
        std::pair<const std::string, int64_t> key(nameOf(command.kind), bytesOf(command, ranks));
        sums[key];
        kinds.emplace(&command, key);
      }
}

void CommLog::add(const std::vector<ExecutedCommand> &commands) {
  for (size_t i = 0; i < commands.size(); ++i) {
    const ExecutedCommand &executed = commands[i];
    auto kind = kinds.find(executed.command);
    if (kind == kinds.end())
      continue;
    int64_t end = executed.end;
    // Its wait is the next one with its number, which is used again in every micro-step.
    if (!executed.ended && executed.command->kind != Kind::AllReduceScalars)
      for (size_t k = i + 1; k < commands.size(); ++k)
        if (commands[k].command->kind == Kind::Wait && commands[k].command->id == executed.command->id) {
          end = commands[k].end;
          break;
        }
    Sum &sum = sums[kind->second];
    ++sum.count;
    sum.nanoseconds += end - executed.begin;
  }
}

Result<std::vector<CommEntry>> CommLog::gather(Communicator &communicator) {
  std::vector<int64_t> total;
  std::vector<double> slowest;
  for (const auto &[key, sum] : sums) {
    total.push_back(sum.nanoseconds);
    slowest.push_back(double(sum.nanoseconds));
  }
  if (Status status = communicator.allReduceIntegers("communication log", total.data(), int64_t(total.size())); status.failed())
    return status;
  if (Status status = communicator.allReduceMaximum("communication log", slowest.data(), int64_t(slowest.size())); status.failed())
    return status;
  std::vector<CommEntry> entries;
  size_t next = 0;
  for (const auto &[key, sum] : sums) {
    const size_t i = next++;
    if (sum.count == 0)
      continue; // of a sequence that did not run
    CommEntry entry;
    entry.kind = key.first;
    entry.bytes = key.second;
    entry.count = sum.count;
    entry.seconds = double(total[i]) / 1e9 / ranks;
    entry.slowest = slowest[i] / 1e9;
    if (entry.seconds > 0)
      entry.algorithm = double(entry.bytes) * double(entry.count) / entry.seconds;
    const bool toAll = entry.kind == "all_reduce" || entry.kind == "all_reduce_scalars";
    entry.bus = entry.algorithm * (toAll ? 2 : 1) * double(ranks - 1) / ranks;
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string commLogJson(const std::vector<CommEntry> &entries, int ranks, const std::string &comm, int64_t steps) {
  nlohmann::ordered_json log = {{"world", ranks}, {"comm", comm}, {"steps", steps}, {"collectives", nlohmann::ordered_json::array()}};
  for (const CommEntry &entry : entries)
    log["collectives"].push_back({{"kind", entry.kind},
                                  {"bytes", entry.bytes},
                                  {"count", entry.count},
                                  {"seconds", entry.seconds},
                                  {"slowest_rank_seconds", entry.slowest},
                                  {"algorithm_bandwidth", entry.algorithm},
                                  {"bus_bandwidth", entry.bus}});
  return log.dump(1) + "\n";
}

std::string commLogTable(const std::vector<CommEntry> &entries, int ranks, const std::string &comm, int64_t steps) {
  char line[200];
  std::snprintf(line, sizeof line, "collectives of %lld steps on %d ranks, %s\n", static_cast<long long>(steps), ranks, comm.c_str());
  std::string table = line;
  std::snprintf(line, sizeof line, "%-20s %14s %8s %12s %12s %14s %10s %10s\n", "kind", "bytes", "count", "total ms", "mean ms", "slowest ms", "alg GB/s", "bus GB/s");
  table += line;
  for (const CommEntry &entry : entries) {
    std::snprintf(line, sizeof line, "%-20s %14lld %8lld %12.3f %12.4f %14.3f %10.3f %10.3f\n", entry.kind.c_str(), static_cast<long long>(entry.bytes), static_cast<long long>(entry.count), entry.seconds * 1e3,
                  entry.seconds * 1e3 / double(entry.count), entry.slowest * 1e3, entry.algorithm / 1e9, entry.bus / 1e9);
    table += line;
  }
  if (entries.empty())
    table += "none\n";
  return table;
}

} // namespace zopt::runtime
