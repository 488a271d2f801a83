//===- Report.cpp - what a run says at its end ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Report.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Monitor/CommLog.h"
#include "zopt/Runtime/Monitor/Progress.h"
#include "zopt/Runtime/Monitor/Trace.h"
#include <cstdio>
#include <nlohmann/json.hpp>

namespace zopt::runtime {

static const char *nameOf(Tier tier) { return tier == Tier::Device ? "device" : tier == Tier::Host ? "host" : "file"; }

void printMemoryReport(const Program &program, const std::map<Tier, TierPeak> &peaks, const std::vector<std::pair<std::string, int64_t>> &unplanned, bool json) {
  if (json) {
    nlohmann::json report;
    for (Tier tier : {Tier::Device, Tier::Host, Tier::File}) {
      auto found = peaks.find(tier);
      TierPeak peak = found == peaks.end() ? TierPeak() : found->second;
      report["tiers"][nameOf(tier)] = {{"planned", peak.planned}, {"measured", peak.measured}, {"live", peak.live}};
    }
    report["classes"] = nlohmann::json::object();
    for (const auto &[name, bytes] : program.peakByClass)
      report["classes"][name] = bytes;
    for (const auto &[name, bytes] : unplanned)
      report["unplanned"][name] = bytes;
    std::printf("%s\n", report.dump().c_str());
  } else {
    std::printf("%-14s %16s %16s %16s\n", "bytes a rank", "planned", "measured", "live at once");
    for (const auto &[tier, peak] : peaks)
      std::printf("%-14s %16lld %16lld %16lld\n", nameOf(tier), static_cast<long long>(peak.planned), static_cast<long long>(peak.measured), static_cast<long long>(peak.live));
    for (const auto &[name, bytes] : program.peakByClass)
      std::printf("  %-12s %16lld\n", name.c_str(), static_cast<long long>(bytes));
    if (!unplanned.empty())
      std::printf("beside what is planned\n");
    for (const auto &[name, bytes] : unplanned)
      std::printf("  %-12s %16s %16lld\n", name.c_str(), "", static_cast<long long>(bytes));
  }
  std::fflush(stdout);
}

Status gatherTrace(Executor &executor, const std::vector<ExecutedCommand> &commands, const std::string &path) {
  Communicator &communicator = executor.getCommunicator();
  const bool root = communicator.rank() == 0;
  TraceBuffer buffer(commands.size());
  for (const ExecutedCommand &executed : commands)
    buffer.add(*executed.command, executed.begin, executed.end, executed.ended);
  std::string text = traceText(executor.getProgram(), communicator.rank(), buffer), all;
  // Texts differ in length: spaces, which JSON ignores, make them alike.
  double longest = double(text.size());
  ZOPT_RETURN_IF_FAILED(communicator.allReduceMaximum("trace", &longest, 1));
  text.resize(size_t(longest), ' ');
  if (root)
    all.resize(text.size() * size_t(communicator.size()));
  ZOPT_RETURN_IF_FAILED(communicator.gatherNow("trace", text.data(), all.data(), int64_t(text.size())));
  std::vector<std::string> texts;
  for (int rank = 0; root && rank < communicator.size(); ++rank)
    texts.push_back(all.substr(size_t(rank) * text.size(), text.size()));
  return communicator.agree("outputs", root ? writeTrace(path, texts) : success());
}

Status gatherCommLog(Executor &executor, CommLog &log, int64_t steps, Progress &progress, const std::string &path) {
  Communicator &communicator = executor.getCommunicator();
  Result<std::vector<CommEntry>> entries = log.gather(communicator);
  ZOPT_RETURN_IF_FAILED(entries.getStatus());
  Status written;
  if (communicator.rank() == 0) {
    const std::string comm = executor.exchange();
    progress.finish();
    std::fputs(commLogTable(*entries, communicator.size(), comm, steps).c_str(), stdout);
    std::fflush(stdout);
    written = replaceFile(path, commLogJson(*entries, communicator.size(), comm, steps));
  }
  return communicator.agree("communication log", written);
}

} // namespace zopt::runtime
