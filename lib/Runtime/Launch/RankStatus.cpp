//===- RankStatus.cpp - how ranks ended, for the launcher -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/RankStatus.h"
#include <cstdio>
#include <unistd.h>

namespace zopt::runtime {

static std::string fileOf(const std::string &directory, int rank) { return directory + "/rank-" + std::to_string(rank); }

static void append(const std::string &directory, int rank, const char *mode, const char *format, long value) {
  if (directory.empty())
    return;
  if (FILE *file = std::fopen(fileOf(directory, rank).c_str(), mode)) {
    std::fprintf(file, format, value);
    std::fclose(file);
  }
}

void noteRankStarted(const std::string &directory, int rank) { append(directory, rank, "we", "process %ld\n", long(getpid())); }
void noteRankEnded(const std::string &directory, int rank, int exitCode, bool orderly) { append(directory, rank, "ae", orderly ? "code %ld orderly 1\n" : "code %ld orderly 0\n", long(exitCode)); }

std::vector<RankStatus> readRankStatus(const std::string &directory, int ranks) {
  std::vector<RankStatus> statuses;
  for (int rank = 0; rank < ranks; ++rank) {
    FILE *file = std::fopen(fileOf(directory, rank).c_str(), "re");
    if (!file)
      continue;
    RankStatus status;
    status.rank = rank;
    int orderly = 0;
    int fields = std::fscanf(file, "process %ld code %d orderly %d", &status.process, &status.exitCode, &orderly);
    status.ended = fields >= 2;
    status.orderly = orderly != 0;
    std::fclose(file);
    if (fields >= 1)
      statuses.push_back(status);
  }
  return statuses;
}

void removeRankStatus(const std::string &directory, int ranks) {
  for (int rank = 0; rank < ranks; ++rank)
    unlink(fileOf(directory, rank).c_str());
  rmdir(directory.c_str());
}

} // namespace zopt::runtime
