//===- EnvironmentTest.cpp - ranks that somebody else has started ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Environment.h"
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>

using namespace zopt::runtime;

namespace {

using Variables = std::map<std::string, std::string>;
const Variables kUsual = {{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}};

Result<EnvironmentJob> read(const Variables &variables, const RunOptions &options = {}) {
  for (const char *name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                           "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"})
    unsetenv(name);
  for (const auto &[name, value] : variables)
    setenv(name.c_str(), value.c_str(), 1);
  return readEnvironment(options);
}

Variables with(Variables variables, const Variables &more) {
  for (const auto &[name, value] : more)
    variables[name] = value;
  return variables;
}

std::string problemOf(const Variables &variables, const RunOptions &options = {}) {
  Result<EnvironmentJob> job = read(variables, options);
  if (!job.failed())
    return "none";
  EXPECT_EQ(job.getStatus().kind(), ErrorKind::Usage);
  return job.getStatus().message();
}

bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

TEST(Environment, isRead) {
  Result<EnvironmentJob> job = read(kUsual);
  ASSERT_FALSE(job.failed()) << job.getStatus().message();
  EXPECT_EQ(job->place.rank, 1);
  EXPECT_EQ(job->place.size, 4);
  EXPECT_EQ(job->place.address, "node0");
  EXPECT_EQ(job->place.port, 29500);
  EXPECT_EQ(job->localRanks, 0);
  EXPECT_FALSE(job->place.torchStore);
  job = read(with(kUsual, {{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}));
  EXPECT_EQ(job->localRanks, 2);
}

TEST(Environment, underTorchrunTheKeyIsOfTheAttempt) {
  const Variables torchrun = with(kUsual, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RUN_ID", "job"}});
  std::string first = read(with(torchrun, {{"TORCHELASTIC_RESTART_COUNT", "0"}}))->place.torchKey,
              second = read(with(torchrun, {{"TORCHELASTIC_RESTART_COUNT", "1"}}))->place.torchKey;
  EXPECT_TRUE(read(torchrun)->place.torchStore);
  EXPECT_NE(first, second);
}

TEST(Environment, aWorldOfOneNeedsNoPlace) { EXPECT_FALSE(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).failed()); }

TEST(Environment, allThatIsMissingIsToldAtOnce) {
  std::string problem = problemOf({{"RANK", "x"}, {"MASTER_PORT", "70000"}});
  for (const char *part : {"WORLD_SIZE is not set", "RANK is 'x'", "MASTER_ADDR is not set",
                           "MASTER_PORT is '70000', not a number from 1 to 65535"})
    EXPECT_TRUE(contains(problem, part)) << problem;
  EXPECT_EQ(problem.find('\n'), std::string::npos);
}

TEST(Environment, whatCannotBeIsRefused) {
  EXPECT_TRUE(contains(problemOf(with(kUsual, {{"RANK", "4"}})), "RANK is 4, but WORLD_SIZE is 4"));
  EXPECT_TRUE(contains(problemOf(with(kUsual, {{"RANK", "-1"}})), "RANK is '-1'"));
  EXPECT_TRUE(
      contains(problemOf(with(kUsual, {{"LOCAL_WORLD_SIZE", "8"}})), "LOCAL_WORLD_SIZE is 8, but WORLD_SIZE is 4"));
  EXPECT_TRUE(contains(problemOf(with(kUsual, {{"LOCAL_WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}})),
                       "LOCAL_RANK is 2, but LOCAL_WORLD_SIZE is 2"));
  RunOptions options;
  options.ranksGiven = true;
  options.ranks = 2;
  EXPECT_TRUE(contains(problemOf(kUsual, options), "--nproc is 2, but WORLD_SIZE is 4"));
  options = {};
  options.checkpoint.maxRestarts = 3;
  EXPECT_TRUE(contains(problemOf(kUsual, options), "--resume=auto"));
}

} // namespace
