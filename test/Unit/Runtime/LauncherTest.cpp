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
    // Also where there is a GPU: tests of that name it.
    if (std::none_of(arguments.begin(), arguments.end(), [](const std::string &argument) { return argument.rfind("--target", 0) == 0; }))
      arguments.push_back("--target=cpu");
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

#ifdef ZOPT_FAKE_CUDA
/// zrun on the driver and the NCCL of FakeCuda.h.
class CudaLauncher : public Launcher {
protected:
  void SetUp() override {
    Launcher::SetUp();
    setenv("ZOPT_CUDA_LIBRARY_PATH", ZOPT_FAKE_CUDA, 1);
  }
  void TearDown() override {
    Launcher::TearDown();
    for (const char *name : {"ZOPT_CUDA_LIBRARY_PATH", "FAKE_CUDA_VERSION", "FAKE_CUDA_DEVICES", "FAKE_CUDA_MEMORY", "FAKE_CUDA_NAME", "FAKE_CUBLASLT_FAST", "FAKE_CUDA_FAIL", "FAKE_CUDA_HANG", "ZOPT_CUDA_GRAPH"})
      unsetenv(name);
  }
  nlohmann::json eventOf(const std::string &kind) const {
    std::ifstream lines(folder + "metrics");
    for (std::string line; std::getline(lines, line);)
      if (auto event = nlohmann::json::parse(line); event["event"] == kind)
        return event;
    return {};
  }
};

TEST_F(CudaLauncher, givesTheBitsOfTheCpu) {
  struct Case {
    std::vector<std::string> arguments;
    const char *exchange;
  };
  for (const Case &test : {Case{{"--target=auto"}, "nccl"}, Case{{"--target=cuda", "--comm=local"}, "local"}, Case{{"--nproc=2", "--target=cuda", "--comm=local"}, "local"},
                           Case{{"--nproc=3", "--target=cuda"}, "mpi"}}) {
    SCOPED_TRACE(test.arguments[0]);
    std::vector<std::string> arguments = {folder + "stage3", "--steps", "6", "--threads=1", "--init=normal:0.5", "--metrics", folder + "metrics", "--weights-out", folder + "weights", "--gradients-out", folder + "gradients"};
    std::vector<std::string> onCpu = arguments;
    if (test.arguments[0].rfind("--nproc", 0) == 0)
      onCpu.push_back(test.arguments[0]);
    ASSERT_EQ(run(onCpu), 0) << said();
    std::string weights = contentOf(folder + "weights"), gradients = contentOf(folder + "gradients"), metrics = contentOf(folder + "metrics");
    double loss = eventOf("step")["loss"];
    arguments.insert(arguments.end(), test.arguments.begin(), test.arguments.end());
    arguments.insert(arguments.end(), {"--trace", folder + "trace", "--memory-report=json"});
    ASSERT_EQ(run(arguments), 0) << said();
    EXPECT_EQ(contentOf(folder + "weights"), weights);
    EXPECT_EQ(contentOf(folder + "gradients"), gradients);
    EXPECT_EQ(stepsIn("metrics"), 6);
    EXPECT_EQ(eventOf("step")["loss"], loss);
    EXPECT_EQ(eventOf("start")["target"], "cuda");
    EXPECT_EQ(eventOf("start")["comm"], test.exchange);
    EXPECT_EQ(eventOf("end")["measured_peak"]["device"], eventOf("start")["planned_peak"]["device"]);
    nlohmann::json trace = nlohmann::json::parse(contentOf(folder + "trace"));
    EXPECT_GT(trace["traceEvents"].size(), 10u);
    std::string report = said();
    report = report.substr(std::min(report.find("{\"classes\""), report.size()));
    nlohmann::json memory = nlohmann::json::parse(report.substr(0, report.find('\n')), nullptr, false);
    ASSERT_TRUE(memory.is_object()) << said();
    EXPECT_EQ(memory["tiers"]["device"]["planned"], memory["tiers"]["device"]["measured"]) << report;
    EXPECT_TRUE(memory["unplanned"].contains("context")) << report;
  }
}

TEST_F(CudaLauncher, choosesGpusOnlyWhereThereIsOneForEveryRank) {
  std::vector<std::string> two = {folder + "stage3", "--nproc", "2", "--steps", "1", "--target=auto", "--metrics", folder + "metrics"};
  EXPECT_EQ(run(two), 1);
  EXPECT_NE(said().find("this machine has 1 GPU for 2 ranks: name the target"), std::string::npos) << said();
  setenv("FAKE_CUDA_DEVICES", "0", 1);
  EXPECT_EQ(run(two), 0) << said();
  EXPECT_EQ(eventOf("start")["target"], "cpu");
  EXPECT_NE(said().find("zrun: runs on the CPU: cuDeviceGetCount: CUDA_ERROR_NO_DEVICE"), std::string::npos) << said();
  two[5] = "--target=cuda";
  EXPECT_EQ(run(two), 3);
  EXPECT_NE(said().find("error: --target=cuda: cuDeviceGetCount: CUDA_ERROR_NO_DEVICE"), std::string::npos) << said();
  setenv("FAKE_CUDA_DEVICES", "1", 1);
  two.push_back("--comm=nccl");
  EXPECT_EQ(run(two), 1);
  EXPECT_NE(said().find("but NCCL wants one for each"), std::string::npos) << said();
}

TEST_F(CudaLauncher, driversThatAreTooOldAreRefused) {
  setenv("FAKE_CUDA_VERSION", "12040", 1);
  EXPECT_EQ(run({folder + "stage3", "--steps", "1", "--target=cuda"}), 3);
  EXPECT_NE(said().find("the driver serves CUDA 12.4, but zopt needs 13.0: update NVIDIA's driver"), std::string::npos) << said();
  setenv("ZOPT_CUDA_LIBRARY_PATH", folder.c_str(), 1);
  EXPECT_EQ(run({folder + "stage3", "--steps", "1", "--target=cuda"}) == 0, access("/dev/nvidiactl", R_OK) == 0) << said();
  if (access("/dev/nvidiactl", R_OK) != 0)
    EXPECT_NE(said().find("there is no NVIDIA driver here"), std::string::npos) << said();
}

TEST_F(CudaLauncher, plansThatDoNotFitAreRefusedBeforeAnythingRuns) {
  setenv("FAKE_CUDA_MEMORY", "15000", 1);
  for (const char *extra : {"--dry-run", "--comm=local"}) {
    EXPECT_EQ(run({folder + "stage3", "--nproc", "2", "--steps", "1", "--target=cuda", extra}), 1);
    EXPECT_NE(said().find("Fake GPU, device 0: 2 ranks of "), std::string::npos) << said();
    EXPECT_NE(said().find("(15000 bytes)"), std::string::npos) << said();
  }
}

TEST_F(CudaLauncher, faultsOfTheDeviceEndTheRunInOneLine) {
  // Some kernel of the third step, in a graph; nothing is written.
  setenv("FAKE_CUDA_FAIL", "kernel:17:214", 1);
  EXPECT_EQ(run({folder + "stage3", "--steps", "9", "--target=cuda", "--weights-out", folder + "weights"}), 3);
  EXPECT_NE(said().find("error: "), std::string::npos);
  EXPECT_NE(said().find("CUDA_ERROR_ECC_UNCORRECTABLE: as the fake driver was told (the GPU's memory is damaged"), std::string::npos) << said();
  EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
  for (const char *comm : {"local", "mpi"}) {
    setenv("FAKE_CUDA_FAIL", "cuLaunchKernel:9:719", 1);
    EXPECT_EQ(run({folder + "stage3", "--nproc", "2", "--steps", "9", "--target=cuda", "--comm", comm, "--weights-out", folder + "weights"}), 3);
    EXPECT_NE(said().find("cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED"), std::string::npos) << said();
    EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
  }
}

TEST_F(CudaLauncher, nonFiniteStepsAreSkippedOneStepLate) {
  std::vector<SafetensorsTensor> tensors(1);
  tensors[0].name = "x";
  tensors[0].shape = {40};
  std::vector<float> values(40, 0.1f);
  std::fill(values.begin() + 4, values.begin() + 24, std::numeric_limits<float>::quiet_NaN());
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder + "many.safetensors", tensors);
    ASSERT_FALSE(writer.failed() || writer->write(0, 0, values.data(), 160).failed() || writer->commit().failed());
  }
  EXPECT_EQ(run({folder + "stage3", "--target=cuda", "--data", folder + "many.safetensors", "--metrics", folder + "metrics", "--weights-out", folder + "weights"}), 3);
  EXPECT_NE(said().find("error: 10 steps in a row, up to step 12"), std::string::npos) << said();
  EXPECT_EQ(stepsIn("metrics"), 12);
  EXPECT_FALSE(std::filesystem::exists(folder + "weights"));
}

#ifdef ZOPT_FAKE_CUBLASLT
TEST_F(CudaLauncher, autotuningPutsTheFastestAlgorithmsIntoThePlan) {
  std::ofstream(folder + "products") << "tiny 0 1 products\n";
  const std::string tuned = "tiny 0 1 products 2 2 1\ncublasLt 13.1.99\nFake GPU\n";
  std::vector<std::string> arguments = {folder + "products", "--target=cuda", "--steps=3", "--autotune", "--save-plan", folder + "final"};
  ASSERT_EQ(run(arguments), 0) << said();
  EXPECT_EQ(contentOf(folder + "final"), tuned);
  // Two at 50 us instead of 100, one at 60; the fake's events take some time too.
  EXPECT_NE(said().find("zrun: tuned 2 products in "), std::string::npos) << said();
  EXPECT_NE(said().find(" s: 46."), std::string::npos) << said();
  // Ranks under mpirun run what the launcher has tuned.
  std::filesystem::remove(folder + "final");
  arguments.insert(arguments.end(), {"--nproc=2", "--comm=mpi"});
  ASSERT_EQ(run(arguments), 0) << said();
  EXPECT_EQ(contentOf(folder + "final"), tuned);
  // The saved plan runs with them and is not tuned again, but for the asking.
  setenv("FAKE_CUBLASLT_FAST", "0", 1);
  ASSERT_EQ(run({folder + "final", "--target=cuda", "--steps=2"}), 0) << said();
  EXPECT_EQ(said().find("tuned"), std::string::npos) << said();
  ASSERT_EQ(run({folder + "final", "--target=cuda", "--steps=2", "--autotune", "--save-plan", folder + "again"}), 0) << said();
  EXPECT_EQ(contentOf(folder + "again"), "tiny 0 1 products 0 0 0\ncublasLt 13.1.99\nFake GPU\n");
  unsetenv("FAKE_CUBLASLT_FAST");
}

TEST_F(CudaLauncher, tunedPlansAreForTheirLibraryAndGpu) {
  auto write = [&](const std::string &text) { std::ofstream(folder + "final") << text; };
  const std::vector<std::string> arguments = {folder + "final", "--target=cuda", "--steps=1"};
  write("tiny 0 1 products 9 9 9\ncublasLt 13.1.99\nFake GPU\n");
  EXPECT_EQ(run(arguments), 1);
  EXPECT_NE(said().find("the plan wants algorithm 9 of a product, but the library has 4"), std::string::npos) << said();
  write("tiny 0 1 products 0 0 0\ncublasLt 13.1.99\nOther GPU\n");
  EXPECT_EQ(run(arguments), 1);
  EXPECT_EQ(said(), "zrun: error: this plan's products were tuned for cublasLt 13.1.99 on Other GPU, but here is Fake GPU: tune it anew with --autotune, or run the portable plan\n");
  write("tiny 0 1 products 0 0 0\ncublasLt 13.0.2\nFake GPU\n");
  EXPECT_EQ(run(arguments), 1);
  EXPECT_NE(said().find("tuned for cublasLt 13.0.2 on Fake GPU, but here is cublasLt 13.1.99 on Fake GPU: tune it anew"), std::string::npos) << said();
  write("tiny 0 1 products 0 0 0\n");
  EXPECT_EQ(run(arguments), 1);
  EXPECT_NE(said().find("does not say for which library and GPU"), std::string::npos) << said();
}

TEST_F(CudaLauncher, autotuningRefusesWhatARunRefuses) {
  std::ofstream(folder + "products") << "tiny 0 1 products\n";
  EXPECT_EQ(run({folder + "products", "--target=cpu", "--autotune"}), 2);
  EXPECT_NE(said().find("--autotune times products on a GPU, but --target is cpu"), std::string::npos) << said();
  setenv("FAKE_CUDA_MEMORY", "1000000", 1);
  EXPECT_EQ(run({folder + "products", "--target=cuda", "--autotune"}), 1);
  EXPECT_NE(said().find("Fake GPU, device 0: the plan needs "), std::string::npos) << said();
  unsetenv("FAKE_CUDA_MEMORY");
  EXPECT_EQ(run({folder + "stage3", "--target=cuda", "--steps=1", "--autotune"}), 0) << said();
  EXPECT_NE(said().find("zrun: nothing to tune: the plan has no products"), std::string::npos) << said();
  setenv("FAKE_CUDA_DEVICES", "0", 1);
  EXPECT_EQ(run({folder + "stage3", "--target=auto", "--steps=1", "--autotune"}), 0) << said();
  EXPECT_NE(said().find("zrun: nothing to tune: this run is on the CPU"), std::string::npos) << said();
}
#endif

TEST_F(CudaLauncher, signalsEndTheRunAfterAStep) {
  std::vector<std::string> arguments = forever("mpi", 2);
  arguments.push_back("--target=cuda");
  start(arguments);
  awaitSteps("metrics", 5);
  kill(process, SIGINT);
  ASSERT_EQ(wait(20), 130) << said();
  EXPECT_EQ(eventOf("end")["steps"], stepsIn("metrics"));
  EXPECT_TRUE(std::filesystem::exists(folder + "weights"));
}
#endif

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
