//===- Hosts.cpp - the machines of a run ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Hosts.h"
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace zopt::runtime {

Result<int> localRanks(const RunOptions &options) {
  if (options.hostfile.empty())
    return options.ranks;
  std::ifstream file(options.hostfile);
  if (!file)
    return fileError(options.hostfile, "open", errno);
  int slots = 0, most = 0, number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string host, word;
    if (!(words >> host))
      continue;
    int count = 1;
    while (words >> word) {
      char *end = nullptr;
      if (word.rfind("slots=", 0) == 0)
        count = int(std::strtol(word.c_str() + 6, &end, 10));
      if (end && (*end != '\0' || count < 1))
        return inputError(options.hostfile, ":", number, ": '", word, "' is not a number of slots");
    }
    slots += count;
    most = std::max(most, count);
  }
  if (slots < options.ranks)
    return inputError(options.hostfile, ": has ", slots, " slots, but --nproc is ", options.ranks);
  return std::min(most, options.ranks);
}

} // namespace zopt::runtime
