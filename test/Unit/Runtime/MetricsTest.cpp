//===- MetricsTest.cpp - what a run measures, a JSON object a line --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Metrics.h"
#include "TemporaryFolder.h"
#include <cmath>
#include <csignal>
#include <gmock/gmock.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/resource.h>

using namespace zopt::runtime;
using testing::HasSubstr;

namespace {

std::vector<nlohmann::ordered_json> readLines(const std::string &path) {
  std::vector<nlohmann::ordered_json> lines;
  std::istringstream stream(TemporaryFolder::read(path));
  for (std::string line; std::getline(stream, line);)
    lines.push_back(nlohmann::ordered_json::parse(line));
  return lines;
}

/// The object without its time, which is checked to be there.
std::string withoutTime(nlohmann::ordered_json line) {
  EXPECT_TRUE(line["time"].is_number_float());
  EXPECT_GT(line["time"].get<double>(), 1.6e9);
  line.erase("time");
  return line.dump();
}

TEST(Metrics, WritesTheEventsOfTheInterface) {
  TemporaryFolder folder;
  std::string path = folder.path("run.jsonl");
  Result<MetricsFile> file = MetricsFile::open(path);
  ASSERT_FALSE(file.failed()) << file.getStatus().message();
  StartEvent start;
  start.plan = "abc";
  start.ranks = 4;
  start.comm = "mpi";
  start.target = "cpu";
  start.plannedPeak = {1, 2, 3};
  start.parameters = 124672;
  start.buckets = 2;
  ASSERT_TRUE(file->write(start).succeeded());
  StepEvent step;
  step.step = 1;
  step.samples = 8;
  step.tokens = 1024;
  step.loss = 5.5;
  step.gradientNorm = std::numeric_limits<double>::infinity();
  step.learningRate = 0.001;
  step.skipped = true;
  step.stepMilliseconds = 41.25;
  step.samplesPerSecond = 194;
  step.tokensPerSecond = 24854.5;
  ASSERT_TRUE(file->write(step).succeeded());
  step.tokens.reset();
  step.lossScale = 65536;
  step.gradientNorm = NAN;
  ASSERT_TRUE(file->write(step).succeeded());
  ASSERT_TRUE(file->writeNote("warning", "a \"quoted\"\nline").succeeded());
  ASSERT_TRUE(file->write(EndEvent{2, {4, 5, 6}, 0.5}).succeeded());

  auto lines = readLines(path);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(withoutTime(lines[0]), R"({"event":"start","plan":"abc","nproc":4,"comm":"mpi","target":"cpu","planned_peak":{"device":1,"host":2,"file":3},"parameters":124672,"buckets":2})");
  EXPECT_EQ(withoutTime(lines[1]), R"({"event":"step","step":1,"epoch":0,"samples":8,"tokens":1024,"loss":5.5,"grad_norm":"inf","lr":0.001,"skipped":true,"step_ms":41.25,"samples_per_s":194.0,"tokens_per_s":24854.5})");
  EXPECT_EQ(withoutTime(lines[2]), R"({"event":"step","step":1,"epoch":0,"samples":8,"loss":5.5,"grad_norm":"nan","lr":0.001,"loss_scale":65536.0,"skipped":true,"step_ms":41.25,"samples_per_s":194.0})");
  EXPECT_EQ(withoutTime(lines[3]), R"({"event":"warning","text":"a \"quoted\"\nline"})");
  EXPECT_EQ(withoutTime(lines[4]), R"({"event":"end","steps":2,"measured_peak":{"device":4,"host":5,"file":6},"seconds":0.5})");
}

TEST(Metrics, FloatsReadBackExactly) {
  for (double value : {0.0, -0.0, 1.0, 0.1, 1e-5, 5e-324, 1.7976931348623157e308, double(5.54f), 1.0 / 3, 1e22, 123456789012345680.0, -2.5}) {
    std::string text;
    appendJson(text, value);
    double back = nlohmann::json::parse(text).get<double>();
    EXPECT_EQ(std::signbit(back), std::signbit(value)) << text;
    EXPECT_EQ(back, value) << text;
    EXPECT_TRUE(nlohmann::json::parse(text).is_number_float()) << text;
  }
  std::string text;
  appendJson(text, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(text, "\"-inf\"");
  text.clear();
  appendJson(text, 0.1);
  EXPECT_EQ(text, "0.1");
  text.clear();
  appendJson(text, std::string("\xff"));
  EXPECT_NO_THROW((void)nlohmann::json::parse(text)) << text;
}

TEST(Metrics, ReplacesOrGoesOnBehindTheLastWholeLine) {
  TemporaryFolder folder;
  std::string path = folder.write("run.jsonl", std::string(5000, ' ') + "{\"event\":\"old\"}\n{\"event\":\"st");
  {
    Result<MetricsFile> file = MetricsFile::open(path, /*append=*/true);
    ASSERT_FALSE(file.failed());
    ASSERT_TRUE(file->writeNote("restart", "resumed").succeeded());
  }
  auto lines = readLines(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["event"], "old");
  EXPECT_EQ(lines[1]["event"], "restart");
  ASSERT_FALSE(MetricsFile::open(path).failed());
  EXPECT_EQ(TemporaryFolder::read(path), "");
  std::string partial = folder.write("partial.jsonl", std::string(9000, 'x'));
  ASSERT_FALSE(MetricsFile::open(partial, true).failed());
  EXPECT_EQ(TemporaryFolder::read(partial), "");
  EXPECT_THAT(MetricsFile::open(folder.path("no/run.jsonl")).getStatus().message(), HasSubstr("run.jsonl: open: No such file or directory"));
}

/// A limit on the file's size stands for a full disk: the line that does not fit is taken back.
TEST(Metrics, LeavesWholeLinesOnAFullDisk) {
  TemporaryFolder folder;
  std::string path = folder.path("run.jsonl");
  Result<MetricsFile> file = MetricsFile::open(path);
  ASSERT_FALSE(file.failed());
  ASSERT_TRUE(file->writeNote("warning", "first").succeeded());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limited = before;
  limited.rlim_cur = 100;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  Status status = file->writeNote("warning", std::string(200, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(status.failed());
  EXPECT_THAT(status.message(), HasSubstr("run.jsonl: write: File too large"));
  EXPECT_EQ(readLines(path).size(), 1u);
  ASSERT_TRUE(file->writeNote("warning", "third").succeeded());
  EXPECT_EQ(readLines(path).size(), 2u);
}

} // namespace
