//===- Hosts.cpp - the machines of a run ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Hosts.h"
#include "zopt/Runtime/Core/Text.h"
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace zopt::runtime {

namespace {

Result<std::vector<Host>> readHosts(const std::string &path) {
  std::ifstream file(path);
  if (!file)
    return fileError(path, "open", errno);
  std::vector<Host> hosts;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    Host host;
    std::string word;
    if (!(words >> host.name))
      continue;
    while (words >> word) {
      char *end = nullptr;
      if (word.rfind("slots=", 0) == 0)
        host.slots = int(std::strtol(word.c_str() + 6, &end, 10));
      if (end && (*end != '\0' || host.slots < 1))
        return inputError(path, ":", number, ": '", word, "' is not a number of slots");
    }
    hosts.push_back(host);
  }
  return hosts;
}

/// "node1@node2:0,1" against the machines that there are: of each that is named its slots, all of them where none are
/// listed.
Result<std::vector<std::pair<std::string, std::vector<int>>>> parseFilter(const char *flag, const std::string &text,
                                                                          const std::vector<Host> &hosts) {
  std::vector<std::pair<std::string, std::vector<int>>> chosen;
  for (const std::string &part : split(text, '@')) {
    size_t colon = part.find(':');
    const std::string name = part.substr(0, colon);
    auto host = std::find_if(hosts.begin(), hosts.end(), [&](const Host &each) { return each.name == name; });
    if (host == hosts.end())
      return usageError(flag, "=", text, ": the host file has no '", name, "'");
    std::vector<int> slots;
    for (const std::string &word : split(colon == std::string::npos ? "" : part.substr(colon + 1), ',')) {
      char *end = nullptr;
      long slot = std::strtol(word.c_str(), &end, 10);
      if (word.empty() || *end != '\0' || slot < 0 || slot >= host->slots)
        return usageError(flag, "=", text, ": '", word, "' is no slot of ", name, ", which has ", host->slots);
      slots.push_back(int(slot));
    }
    if (colon != std::string::npos && slots.empty())
      return usageError(flag, "=", text, ": no slot follows '", name, ":'");
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    chosen.emplace_back(name, slots);
  }
  if (chosen.empty())
    return usageError(flag, " names no machine");
  return chosen;
}

/// Ranks get the GPUs of their places, so that slots can only be a machine's first.
Status checkFirst(const char *flag, const std::string &name, const std::vector<int> &slots) {
  for (size_t i = 0; i < slots.size(); ++i)
    if (slots[i] != int(i))
      return usageError(flag, " leaves slot ", slots[i], " of ", name, " without slot ", i,
                        ": ranks take a machine's GPUs from the first on; choose others by CUDA_VISIBLE_DEVICES there");
  return success();
}

} // namespace

Result<std::vector<Host>> chooseHosts(const RunOptions &options) {
  if (options.hostfile.empty())
    return std::vector<Host>();
  Result<std::vector<Host>> hosts = readHosts(options.hostfile);
  if (hosts.failed() || (options.include.empty() && options.exclude.empty()))
    return hosts;
  const char *flag = options.include.empty() ? "--exclude" : "--include";
  auto filter = parseFilter(flag, options.include.empty() ? options.exclude : options.include, *hosts);
  if (filter.failed())
    return filter.getStatus();
  std::vector<Host> left;
  for (const Host &host : *hosts) {
    auto named =
        std::find_if(filter->begin(), filter->end(), [&](const auto &each) { return each.first == host.name; });
    std::vector<int> slots;
    const bool isNamed = named != filter->end(), all = isNamed && named->second.empty();
    for (int slot = 0; slot < host.slots; ++slot) {
      bool listed = isNamed && (all || std::binary_search(named->second.begin(), named->second.end(), slot));
      if (listed == !options.include.empty())
        slots.push_back(slot);
    }
    ZOPT_RETURN_IF_FAILED(checkFirst(flag, host.name, slots));
    if (!slots.empty())
      left.push_back({host.name, int(slots.size())});
  }
  if (left.empty())
    return usageError(flag, " leaves no machine of ", options.hostfile);
  return left;
}

Result<int> localRanks(const RunOptions &options) {
  if (options.hostfile.empty())
    return options.ranks;
  Result<std::vector<Host>> hosts = chooseHosts(options);
  if (hosts.failed())
    return hosts.getStatus();
  int slots = 0, most = 0;
  for (const Host &host : *hosts) {
    slots += host.slots;
    most = std::max(most, host.slots);
  }
  if (slots < options.ranks)
    return inputError(options.hostfile, ": has ", slots, " slots",
                      options.include.empty() && options.exclude.empty() ? "" : " that --include and --exclude leave",
                      ", but --nproc is ", options.ranks);
  return std::min(most, options.ranks);
}

} // namespace zopt::runtime
