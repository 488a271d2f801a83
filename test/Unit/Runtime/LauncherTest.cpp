//===- LauncherTest.cpp - zrun's launcher ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Runs the zrun program on the hand-written Program, with TinyCompiler in the compiler's place: how ranks are started, stopped and lost, without MLIR.
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace zopt::runtime;

namespace {

using Clock = std::chrono::steady_clock;

std::string contentOf(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream stream;
  stream << file.rdbuf();
  return stream.str();
}

class Launcher : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "launcher-XXXXXX";
    folder = std::string(mkdtemp(pattern.data())) + "/";
    for (int stage : {0, 3, 9})
      std::ofstream(folder + "stage" + std::to_string(stage)) << "tiny " << stage << " 1\n";
    std::ofstream(folder + "wrong") << "something else\n";
    setenv("ZOPT_COMPILER", ZOPT_TINY_COMPILER, 1);
    setenv("XDG_CACHE_HOME", (folder + "cache").c_str(), 1);
    for (const char *name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS", "WORLD_SIZE"})
      unsetenv(name);
  }
  void TearDown() override {
    if (process > 0) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
    }
    std::filesystem::remove_all(folder);
  }

  void start(std::vector<std::string> arguments, rlim_t fileLimit = RLIM_INFINITY) {
    arguments.insert(arguments.begin(), ZOPT_ZRUN);
    process = fork();
    if (process > 0)
      return;
    std::vector<char *> pointers;
    for (std::string &argument : arguments)
      pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    int output = open((folder + "stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(output, STDERR_FILENO);
    dup2(output, STDOUT_FILENO);
    rlimit limit{fileLimit, fileLimit};
    if (fileLimit != RLIM_INFINITY)
      setrlimit(RLIMIT_FSIZE, &limit);
    execv(pointers[0], pointers.data());
    _exit(126);
  }

  /// The exit code, or -1 where zrun still runs after `seconds`.
  int wait(double seconds = 60) {
    auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
    int status;
    while (waitpid(process, &status, WNOHANG) == 0) {
      if (Clock::now() > deadline)
        return -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    process = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }

  int run(const std::vector<std::string> &arguments, rlim_t fileLimit = RLIM_INFINITY) {
    start(arguments, fileLimit);
    return wait();
  }

  std::string said() const { return contentOf(folder + "stderr"); }

  int stepsIn(const std::string &metrics) const {
    std::string text = contentOf(folder + metrics);
    int count = 0;
    for (size_t at = 0; (at = text.find("\"event\":\"step\"", at)) != std::string::npos; ++at)
      ++count;
    return count;
  }

  void awaitSteps(const std::string &metrics, int steps) {
    for (int i = 0; i < 6000 && stepsIn(metrics) < steps; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_GE(stepsIn(metrics), steps) << said();
  }

  /// Process of a rank that mpirun has started for our zrun: one that was told our folder and its rank.
  pid_t processOf(int rank) const {
    for (const auto &entry : std::filesystem::directory_iterator("/proc")) {
      std::string name = entry.path().filename();
      if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
        continue;
      std::string environment = contentOf(entry.path() / "environ"), command = contentOf(entry.path() / "cmdline");
      std::error_code error;
      bool zrun = std::filesystem::read_symlink(entry.path() / "exe", error).filename() == "zrun";
      if (zrun && command.find(folder) != std::string::npos && (std::string(1, '\0') + environment).find(std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + std::string(1, '\0')) != std::string::npos)
        return pid_t(std::atoi(name.c_str()));
    }
    return 0;
  }

  std::vector<std::string> forever(const std::string &comm, int ranks) const {
    return {folder + "stage3", "--nproc", std::to_string(ranks), "--comm", comm, "--threads", "1", "--steps", "100000000", "--metrics", folder + "metrics", "--weights-out", folder + "weights"};
  }

  std::string folder;
  pid_t process = 0;
};

TEST_F(Launcher, threadsAndProcessesGiveTheSameBits) {
  for (const char *comm : {"local", "mpi"})
    ASSERT_EQ(run({folder + "stage3", "--nproc", "3", "--comm", comm, "--steps", "4", "--weights-out", folder + comm, "--gradients-out", folder + comm + ".gradients"}), 0) << said();
  EXPECT_EQ(contentOf(folder + "local"), contentOf(folder + "mpi"));
  EXPECT_EQ(contentOf(folder + "local.gradients"), contentOf(folder + "mpi.gradients"));
  EXPECT_GT(contentOf(folder + "mpi").size(), 560u);
}

TEST_F(Launcher, compilerErrorsAreTold) {
  EXPECT_EQ(run({folder + "wrong"}), 1);
  EXPECT_EQ(said(), folder + "wrong:1:1: error: is not a tiny plan\n");
  EXPECT_EQ(run({folder + "stage9"}), 3);
  EXPECT_NE(said().find("the compiler was ended by signal 6"), std::string::npos) << said();
}

TEST_F(Launcher, signalsEndAllRanksAfterTheSameStep) {
  struct Case {
    const char *comm;
    int signal, code;
    bool toRank;
  };
  for (const Case &test : {Case{"local", SIGINT, 130, false}, Case{"local", SIGTERM, 143, false}, Case{"mpi", SIGINT, 130, false}, Case{"mpi", SIGTERM, 143, true}}) {
    SCOPED_TRACE(std::string(test.comm) + " signal " + std::to_string(test.signal));
    start(forever(test.comm, 2));
    awaitSteps("metrics", 3);
    pid_t target = test.toRank ? processOf(1) : process;
    ASSERT_GT(target, 0);
    kill(target, test.signal);
    ASSERT_EQ(wait(20), test.code) << said();
    int steps = stepsIn("metrics");
    std::string end = contentOf(folder + "metrics");
    end = end.substr(end.rfind('\n', end.size() - 2) + 1);
    EXPECT_EQ(nlohmann::json::parse(end)["steps"], steps);
    // The weights are those of a run of that many steps.
    std::string weights = contentOf(folder + "weights");
    ASSERT_EQ(run({folder + "stage3", "--nproc", "2", "--comm=local", "--steps", std::to_string(steps), "--weights-out", folder + "expected"}), 0) << said();
    EXPECT_EQ(weights, contentOf(folder + "expected"));
    std::filesystem::remove(folder + "metrics");
    std::filesystem::remove(folder + "weights");
  }
}

TEST_F(Launcher, aKilledRankIsNamedAndTheOthersSayWhereTheyStood) {
  start(forever("mpi", 4));
  awaitSteps("metrics", 3);
  pid_t victim = processOf(2);
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  ASSERT_EQ(wait(10), 3) << said();
  std::string text = said();
  EXPECT_NE(text.find("error: rank 2 (process " + std::to_string(victim) + ") was killed by signal 9"), std::string::npos) << text;
  for (int survivor : {0, 1, 3})
    EXPECT_NE(text.find("error: rank " + std::to_string(survivor) + ": "), std::string::npos) << text;
  EXPECT_EQ(text.find("mpirun"), std::string::npos) << text;
  EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
}

TEST_F(Launcher, aRankThatHangsIsNamedWhenTimeRunsOut) {
  std::vector<std::string> arguments = forever("mpi", 3);
  arguments.insert(arguments.end(), {"--timeout", "2"});
  start(arguments);
  awaitSteps("metrics", 3);
  pid_t victim = processOf(1);
  ASSERT_GT(victim, 0);
  kill(victim, SIGSTOP);
  ASSERT_EQ(wait(30), 3) << said();
  EXPECT_NE(said().find("timed out after 2 s, nothing has arrived from rank "), std::string::npos) << said();
}

TEST_F(Launcher, nonFiniteStepsAreSkippedAndTenInARowEndTheRun) {
  auto write = [&](const std::string &name, int from, int to) {
    std::vector<SafetensorsTensor> tensors(1);
    tensors[0].name = "x";
    tensors[0].shape = {80};
    std::vector<float> values(80, 0.1f);
    std::fill(values.begin() + from, values.begin() + to, std::numeric_limits<float>::quiet_NaN());
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder + name, tensors);
    ASSERT_FALSE(writer.failed() || writer->write(0, 0, values.data(), 320).failed() || writer->commit().failed());
  };
  write("one.safetensors", 5, 6);
  write("many.safetensors", 8, 48);
  for (const char *comm : {"local", "mpi"}) {
    ASSERT_EQ(run({folder + "stage3", "--nproc", "2", "--comm", comm, "--data", folder + "one.safetensors", "--steps", "6", "--metrics", folder + "metrics"}), 0) << said();
    std::ifstream lines(folder + "metrics");
    std::vector<bool> skipped;
    for (std::string line; std::getline(lines, line);)
      if (auto event = nlohmann::json::parse(line); event["event"] == "step")
        skipped.push_back(event["skipped"]);
    EXPECT_EQ(skipped, std::vector<bool>({false, true, false, false, false, false}));
    ASSERT_EQ(run({folder + "stage3", "--nproc", "2", "--comm", comm, "--data", folder + "many.safetensors", "--metrics", folder + "metrics", "--weights-out", folder + "weights"}), 3);
    EXPECT_NE(said().find("error: 10 steps in a row, up to step 12"), std::string::npos) << said();
    EXPECT_EQ(stepsIn("metrics"), 12);
    EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
  }
}

TEST_F(Launcher, fullDisksLeaveNoHalfFile) {
  ASSERT_EQ(run({folder + "stage3", "--nproc", "2", "--comm=local", "--steps", "1"}), 0) << said();
  // No file of these runs may pass 9000 bytes: what the stand-in compiles fits, the metrics of 60 steps do not.
  for (const char *comm : {"local", "mpi"}) {
    std::vector<std::string> arguments = {folder + "stage3", "--nproc", "2", "--comm", comm, "--steps", "60", "--metrics", folder + "metrics"};
    ASSERT_EQ(run(arguments, 9000), 3) << said();
    EXPECT_NE(said().find("metrics"), std::string::npos) << said();
    std::string text = contentOf(folder + "metrics");
    EXPECT_TRUE(text.empty() || text.back() == '\n') << "half a line";
  }
}

TEST_F(Launcher, ranksHoldNoCompiler) {
  start(forever("mpi", 2));
  awaitSteps("metrics", 1);
  pid_t rank = processOf(1);
  ASSERT_GT(rank, 0);
  std::string maps = contentOf("/proc/" + std::to_string(rank) + "/maps");
  EXPECT_NE(maps.find("libdnnl"), std::string::npos);
  EXPECT_EQ(maps.find("libMLIR"), std::string::npos);
  EXPECT_EQ(maps.find("libLLVM"), std::string::npos);
}

TEST_F(Launcher, dryRunRunsNoStep) {
  EXPECT_EQ(run({folder + "stage3", "--nproc", "2", "--dry-run", "--metrics", folder + "metrics", "--weights-out", folder + "weights"}), 0) << said();
  EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
  EXPECT_EQ(stepsIn("metrics"), 0);
  EXPECT_EQ(run({folder + "stage3", "--dry-run", "--metrics", folder + "missing/metrics"}), 3);
  EXPECT_NE(said().find("missing/metrics"), std::string::npos);
  EXPECT_EQ(run({folder + "stage3", "--dry-run", "--data", folder + "missing.safetensors"}), 1);
  EXPECT_NE(said().find("missing.safetensors"), std::string::npos);
}

} // namespace
