//===- MonitorsTest.cpp - what takes the metrics beside their file --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Monitors.h"
#include "TemporaryFolder.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <gmock/gmock.h>
#include <httplib.h>
#include <limits>
#include <thread>

using namespace zopt::runtime;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

constexpr const char *kHeader =
    "step,epoch,samples,tokens,loss,grad_norm,lr,loss_scale,skipped,step_ms,samples_per_s,tokens_per_s,flops,mfu\n";

StepEvent makeStep(int64_t number) {
  StepEvent step;
  step.step = number;
  step.samples = 8 * number;
  step.loss = 0.1;
  step.gradientNorm = 2;
  step.learningRate = 1e-5;
  step.stepMilliseconds = 41.25;
  step.samplesPerSecond = 194;
  return step;
}

void writeSteps(MetricsFile &metrics, int64_t first, int64_t last) {
  for (int64_t number = first; number <= last; ++number)
    ASSERT_TRUE(metrics.write(makeStep(number)).succeeded());
}

TEST(CsvMonitor, WritesARowAStepAndLeavesEmptyWhatThereIsNot) {
  TemporaryFolder folder;
  MetricsFile metrics; // no metrics file
  Result<std::unique_ptr<Monitor>> csv = openCsvMonitor(folder.path("run.csv"));
  ASSERT_FALSE(csv.failed()) << csv.getStatus().message();
  metrics.add(std::move(*csv));
  writeSteps(metrics, 1, 1);
  StepEvent step = makeStep(2);
  step.tokens = 1024;
  step.tokensPerSecond = 24854.5;
  step.lossScale = 65536;
  step.flops = 2.5e12;
  step.mfu = 0.25;
  step.skipped = true;
  step.loss = NAN;
  step.gradientNorm = -std::numeric_limits<double>::infinity();
  ASSERT_TRUE(metrics.write(step).succeeded());
  ASSERT_TRUE(metrics.writeNote("warning", "no row").succeeded());
  EXPECT_EQ(TemporaryFolder::read(folder.path("run.csv")),
            std::string(kHeader) +
                "1,0,8,,0.1,2,1e-05,,0,41.25,194,,,\n2,0,16,1024,nan,-inf,1e-05,65536,1,41.25,194,24854.5,2.5e+12,0.25\n");
}

TEST(CsvMonitor, GoesOnAfterAStep) {
  TemporaryFolder folder;
  std::string path = folder.path("run.csv");
  for (int64_t resumed : {0, 2}) {
    MetricsFile metrics;
    Result<std::unique_ptr<Monitor>> csv = openCsvMonitor(path, resumed); // the first time there is no file
    ASSERT_FALSE(csv.failed()) << csv.getStatus().message();
    metrics.add(std::move(*csv));
    writeSteps(metrics, resumed + 1, 4);
  }
  std::string rows = kHeader;
  for (int64_t number = 1; number <= 4; ++number)
    rows += std::to_string(number) + ",0," + std::to_string(8 * number) + ",,0.1,2,1e-05,,0,41.25,194,,,\n";
  EXPECT_EQ(TemporaryFolder::read(path), rows);
  std::string other = folder.write("other.csv", "a,b\n9,9\n");
  EXPECT_THAT(openCsvMonitor(other, 2).getStatus().message(), HasSubstr("other.csv: begins with 'a,b'"));
  EXPECT_EQ(TemporaryFolder::read(other), "a,b\n9,9\n") << "a file that is refused stays as it is";
  EXPECT_THAT(openCsvMonitor(folder.path("no/run.csv")).getStatus().message(),
              HasSubstr("run.csv: open: No such file or directory"));
}

class CommandMonitorTest : public testing::Test {
protected:
  void SetUp() override { handler = std::signal(SIGPIPE, SIG_IGN); }
  void TearDown() override { std::signal(SIGPIPE, handler); }

  void start(const std::string &command, CommandLimits limits = {}) {
    Result<std::unique_ptr<Monitor>> monitor =
        startCommandMonitor(command, [this](const std::string &text) { warnings.push_back(text); }, limits);
    ASSERT_FALSE(monitor.failed()) << monitor.getStatus().message();
    metrics.add(std::move(*monitor));
  }
  /// Writes steps until a warning comes, which must be soon.
  void writeUntilWarned() {
    for (int64_t number = 1; warnings.empty() && number < 2000; ++number) {
      writeSteps(metrics, number, number);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  TemporaryFolder folder;
  std::vector<std::string> warnings;
  MetricsFile metrics;
  void (*handler)(int) = nullptr;
};

TEST_F(CommandMonitorTest, GivesTheLinesOfTheFile) {
  Result<MetricsFile> file = MetricsFile::open(folder.path("run.jsonl"));
  ASSERT_FALSE(file.failed());
  metrics = std::move(*file);
  start("cat > " + folder.path("copy.jsonl"));
  writeSteps(metrics, 1, 1000); // more than a pipe holds
  ASSERT_TRUE(metrics.write(EndEvent{1000, {}, 1}).succeeded());
  ASSERT_TRUE(metrics.close().succeeded());
  std::string copy = TemporaryFolder::read(folder.path("copy.jsonl"));
  EXPECT_GT(copy.size(), 100000u);
  EXPECT_EQ(copy, TemporaryFolder::read(folder.path("run.jsonl")));
  EXPECT_THAT(warnings, IsEmpty());
}

TEST_F(CommandMonitorTest, WarnsOnceThatItDiedAndGoesOn) {
  start("exit 7");
  writeUntilWarned();
  writeSteps(metrics, 1, 3);
  EXPECT_TRUE(metrics.close().succeeded());
  EXPECT_THAT(warnings,
              ElementsAre("--on-metrics: 'exit 7' ended with code 7; it gets no more records, and the run goes on"));
}

TEST_F(CommandMonitorTest, NamesTheSignal) {
  start("kill -9 $$");
  writeUntilWarned();
  EXPECT_THAT(
      warnings,
      ElementsAre("--on-metrics: 'kill -9 $$' was ended by signal 9; it gets no more records, and the run goes on"));
}

TEST_F(CommandMonitorTest, WarnsOfAFailureAtTheEnd) {
  start("cat >/dev/null; exit 3");
  writeSteps(metrics, 1, 3);
  EXPECT_TRUE(metrics.close().succeeded());
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("ended with code 3")));
}

/// One that never reads costs neither the run nor its end more than was allowed.
TEST_F(CommandMonitorTest, DropsRecordsOfOneThatDoesNotRead) {
  CommandLimits limits;
  limits.waitingBytes = 1000;
  limits.closeSeconds = 0.2;
  start("exec sleep 3", limits);
  auto begin = std::chrono::steady_clock::now();
  writeSteps(metrics, 1, 2000); // 64 KiB lie in the pipe
  EXPECT_TRUE(metrics.close().succeeded());
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 2.5);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("does not read"), HasSubstr("bytes of records unread"),
                                    HasSubstr("missed"), HasSubstr("is left running")));
}

/// What is in the folder, file by file in the order of names.
std::vector<std::string> eventFiles(const TemporaryFolder &folder) {
  std::vector<std::string> names, contents;
  for (const auto &entry : std::filesystem::directory_iterator(folder.path("board")))
    names.push_back(entry.path().string());
  std::sort(names.begin(), names.end());
  for (const std::string &name : names)
    contents.push_back(TemporaryFolder::read(name));
  return contents;
}

void runBoard(const TemporaryFolder &folder, int64_t first, int64_t last,
              std::optional<int64_t> resumeAfter = std::nullopt) {
  MetricsFile metrics;
  Result<std::unique_ptr<Monitor>> board = openTensorBoardMonitor(folder.path("board"), resumeAfter);
  ASSERT_FALSE(board.failed()) << board.getStatus().message();
  metrics.add(std::move(*board));
  writeSteps(metrics, first, last);
}

/// The bytes that TensorFlow writes for the version, without the time: checked against tf.io.TFRecordWriter's
/// checksums.
TEST(TensorBoardMonitor, FramesEventsWithMaskedChecksums) {
  TemporaryFolder folder;
  runBoard(folder, 1, 2);
  std::vector<std::string> files = eventFiles(folder);
  ASSERT_EQ(files.size(), 1u);
  // Length 24, and its checksum, as every event file of PyTorch and TensorFlow begins.
  EXPECT_EQ(files[0].substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22", 12));
  EXPECT_EQ(files[0].substr(12 + 9, 15), "\x1a\x0d"
                                         "brain.Event:2");
  EXPECT_THAT(files[0], HasSubstr("Train/Samples/train_loss"));
}

TEST(TensorBoardMonitor, EveryRunHasAFileOfItsOwnBehindTheOthers) {
  TemporaryFolder folder;
  for (int run = 0; run < 3; ++run)
    runBoard(folder, 1, run, run == 2 ? std::optional<int64_t>(8) : std::nullopt);
  std::vector<std::string> files = eventFiles(folder);
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].size(), 12u + 24 + 4);
  // The session's start at step 9, for the samples behind 8 are void: field 2 is 9, field 7 a message with status 1.
  EXPECT_THAT(files[2], HasSubstr(std::string("\x10\x09\x3a\x02\x08\x01", 6)));
  EXPECT_THAT(openTensorBoardMonitor("/proc/none").getStatus().message(), HasSubstr("/proc/none: mkdir"));
}

/// A port that nobody listens on, and the socket that holds it until it is closed.
int takePort(int &port) {
  int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(bind(descriptor, reinterpret_cast<sockaddr *>(&address), size), 0);
  EXPECT_EQ(listen(descriptor, 1), 0);
  EXPECT_EQ(getsockname(descriptor, reinterpret_cast<sockaddr *>(&address), &size), 0);
  port = ntohs(address.sin_port);
  return descriptor;
}

TEST(PrometheusMonitor, TellsTheLastStep) {
  int port = 0, holder = takePort(port);
  EXPECT_THAT(startPrometheusMonitor(port).getStatus().message(),
              HasSubstr(concat("--prometheus: 127.0.0.1:", port, ": bind: Address already in use")));
  ::close(holder);
  MetricsFile metrics;
  Result<std::unique_ptr<Monitor>> endpoint = startPrometheusMonitor(port);
  ASSERT_FALSE(endpoint.failed()) << endpoint.getStatus().message();
  // No second one beside it.
  EXPECT_TRUE(startPrometheusMonitor(port).failed());
  metrics.add(std::move(*endpoint));
  httplib::Client client("127.0.0.1", port);
  auto get = [&](const char *path) { return client.Get(path); };
  auto before = get("/metrics");
  ASSERT_TRUE(before);
  EXPECT_EQ(before->status, 200);
  EXPECT_EQ(before->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(before->body, HasSubstr("zopt_process_steps_total 0\n"));
  EXPECT_THAT(before->body, testing::Not(HasSubstr("zopt_loss")));
  writeSteps(metrics, 7, 7);
  StepEvent step = makeStep(8);
  step.tokens = 1024;
  step.lossScale = 65536;
  step.skipped = true;
  step.loss = NAN;
  step.gradientNorm = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(metrics.write(step).succeeded());
  auto after = get("/metrics");
  ASSERT_TRUE(after);
  for (const char *line :
       {"# TYPE zopt_process_steps_total counter\nzopt_process_steps_total 2\n",
        "\nzopt_process_skipped_steps_total 1\n", "\nzopt_step 8\n", "\nzopt_samples 64\n", "\nzopt_tokens 1024\n",
        "# HELP zopt_loss Loss of the last step.\n# TYPE zopt_loss gauge\nzopt_loss NaN\n",
        "\nzopt_gradient_norm +Inf\n", "\nzopt_learning_rate 1e-05\n", "\nzopt_loss_scale 65536\n",
        "\nzopt_step_seconds 0.04125\n"})
    EXPECT_THAT(after->body, HasSubstr(line));
  EXPECT_EQ(get("/")->status, 404);
  EXPECT_EQ(client.Post("/metrics", "x", "text/plain")->status / 100, 4);
  ASSERT_TRUE(metrics.close().succeeded());
  EXPECT_FALSE(get("/metrics"));
}

TEST(PrometheusMonitor, AClientThatSaysNothingDoesNotKeepTheRun) {
  int port = 0;
  ::close(takePort(port));
  Result<std::unique_ptr<Monitor>> endpoint = startPrometheusMonitor(port);
  ASSERT_FALSE(endpoint.failed()) << endpoint.getStatus().message();
  int silent = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(uint16_t(port));
  ASSERT_EQ(connect(silent, reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE((*endpoint)->close().succeeded());
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 4);
  ::close(silent);
}

} // namespace
