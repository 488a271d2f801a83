//===- JobTest.cpp - options and jobs -------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Job.h"
#include "zopt/Runtime/Launch/Target.h"
#include "zopt/Runtime/Launch/Hosts.h"
#include "zopt/Runtime/Launch/Options.h"
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace zopt::runtime;

namespace {

Result<Parsed> parse(std::vector<std::string> arguments, RunOptions &options) {
  arguments.insert(arguments.begin(), "zrun");
  std::vector<char *> pointers;
  for (std::string &argument : arguments)
    pointers.push_back(argument.data());
  return parseOptions(int(pointers.size()), pointers.data(), options);
}

TEST(Options, areRead) {
  RunOptions options;
  Result<Parsed> parsed = parse({"folder/plan.mlir", "--nproc", "4", "--comm=local", "--data", "a.txt", "b.txt", "--steps", "7", "--names=source", "--memory-report=json", "--init=normal:0.1", "--seed=3", "--no-shift-labels"}, options);
  ASSERT_FALSE(parsed.failed()) << parsed.getStatus().message();
  EXPECT_EQ(options.plan, "folder/plan.mlir");
  EXPECT_EQ(options.initialization.planDirectory, "folder");
  EXPECT_EQ(options.ranks, 4);
  EXPECT_TRUE(options.ranksGiven);
  EXPECT_EQ(options.data.files, std::vector<std::string>({"a.txt", "b.txt"}));
  EXPECT_EQ(options.steps, 7);
  EXPECT_TRUE(options.sourceNames);
  EXPECT_EQ(options.memoryReport, RunOptions::Report::Json);
  EXPECT_EQ(options.initialization.seed, 3u);
  EXPECT_EQ(options.data.labelShift, LabelShift::Keep);
}

TEST(Options, wrongOnesAreErrorsOfUsage) {
  for (const std::vector<std::string> &wrong :
       std::vector<std::vector<std::string>>{{"p", "--bogus"},
                                             {},
                                             {"p", "--nproc", "0"},
                                             {"p", "--nproc", "x"},
                                             {"p", "--comm=nccl", "--target=cpu"},
                                             {"p", "--comm=tcp"},
                                             {"p", "--comm=gloo"},
                                             {"p", "--launcher=slurm"},
                                             {"p", "--launcher=env", "--comm=mpi"},
                                             {"p", "--include=a"},
                                             {"p", "--target=tpu"},
                                             {"p", "--checkpoint-every", "5"},
                                             {"p", "--checkpoint-dir", "d", "--checkpoint-every", "5h"},
                                             {"p", "--resume"},
                                             {"p", "--max-restarts", "1"},
                                             {"p", "--nonfinite=rollback"},
                                             {"p", "--steps", "0"},
                                             {"p", "--names=other"},
                                             {"p", "--shift-labels", "--no-shift-labels"},
                                             {"p", "--init=zeros"},
                                             {"p", "--memory-report=xml"}}) {
    RunOptions options;
    Result<Parsed> parsed = parse(wrong, options);
    ASSERT_TRUE(parsed.failed()) << (wrong.empty() ? "" : wrong.back());
    EXPECT_EQ(parsed.getStatus().kind(), ErrorKind::Usage) << parsed.getStatus().message();
    EXPECT_EQ(parsed.getStatus().message().find('\n'), std::string::npos);
  }
}

class JobTest : public testing::Test {
protected:
  void SetUp() override {
    for (const char *name : kNames)
      unsetenv(name);
  }
  void TearDown() override { SetUp(); }
  static constexpr const char *kNames[] = {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "WORLD_SIZE"};
};

TEST_F(JobTest, aloneIsFine) {
  Job job = detectJob();
  EXPECT_FALSE(job.joined);
  EXPECT_FALSE(checkJob(job, RunOptions()).failed());
}

TEST_F(JobTest, aloneWhereMoreAreAnnouncedIsRefused) {
  for (const char *variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "WORLD_SIZE"}) {
    SetUp();
    setenv(variable, "4", 1);
    Status status = checkJob(detectJob(), RunOptions());
    ASSERT_TRUE(status.failed());
    EXPECT_NE(status.message().find(variable), std::string::npos);
    // The same number asked for is what is meant: a batch script that starts its own ranks.
    RunOptions options;
    options.ranks = 4;
    options.ranksGiven = true;
    EXPECT_FALSE(checkJob(detectJob(), options).failed());
    options.ranks = 3;
    EXPECT_TRUE(checkJob(detectJob(), options).failed());
  }
}

TEST_F(JobTest, ranksOfAJobJoinIt) {
  setenv("OMPI_COMM_WORLD_SIZE", "3", 1);
  setenv("OMPI_COMM_WORLD_RANK", "2", 1);
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
  Job job = detectJob();
  EXPECT_TRUE(job.joined);
  EXPECT_FALSE(job.first);
  EXPECT_EQ(job.localRanks, 2);
  RunOptions options;
  EXPECT_FALSE(checkJob(job, options).failed());
  EXPECT_FALSE(checkWorld(job, options, 3).failed());
  EXPECT_TRUE(checkWorld(job, options, 1).failed()) << "MPI connects nobody";
  options.ranks = 4;
  options.ranksGiven = true;
  EXPECT_TRUE(checkJob(job, options).failed());
  options = RunOptions();
  options.comm = "local";
  EXPECT_TRUE(checkJob(job, options).failed());
}

TEST(Hosts, countSlots) {
  std::string path = testing::TempDir() + "hostfile-" + std::to_string(getpid());
  std::ofstream(path) << "# nodes\nnode1 slots=4\nnode2 slots=2 # small\n\nnode3\n";
  RunOptions options;
  options.hostfile = path;
  options.ranks = 7;
  Result<int> ranks = localRanks(options);
  ASSERT_FALSE(ranks.failed()) << ranks.getStatus().message();
  EXPECT_EQ(*ranks, 4);
  options.ranks = 8;
  EXPECT_TRUE(localRanks(options).failed());
  std::ofstream(path) << "node1 slots=many\n";
  options.ranks = 1;
  EXPECT_TRUE(localRanks(options).failed());
  unlink(path.c_str());
  EXPECT_TRUE(localRanks(options).failed());
}

TEST(Hosts, areIncludedAndExcluded) {
  std::string path = testing::TempDir() + "hostfile-" + std::to_string(getpid());
  std::ofstream(path) << "node1 slots=4\nnode2 slots=4\nnode3 slots=2\n";
  auto chosen = [&](const char *include, const char *exclude) {
    RunOptions options;
    options.hostfile = path;
    options.include = include;
    options.exclude = exclude;
    Result<std::vector<Host>> hosts = chooseHosts(options);
    if (hosts.failed())
      return hosts.getStatus().message();
    std::string text;
    for (const Host &host : *hosts)
      text += host.name + ":" + std::to_string(host.slots) + " ";
    return text;
  };
  EXPECT_EQ(chosen("", ""), "node1:4 node2:4 node3:2 ");
  EXPECT_EQ(chosen("node3@node1", ""), "node1:4 node3:2 ");
  EXPECT_EQ(chosen("node1@node2:0,1", ""), "node1:4 node2:2 ");
  EXPECT_EQ(chosen("", "node2"), "node1:4 node3:2 ");
  EXPECT_EQ(chosen("", "node1:2,3@node3"), "node1:2 node2:4 ");
  EXPECT_NE(chosen("node4", "").find("the host file has no 'node4'"), std::string::npos);
  EXPECT_NE(chosen("node3:2", "").find("'2' is no slot of node3, which has 2"), std::string::npos);
  EXPECT_NE(chosen("node1:1", "").find("leaves slot 1 of node1 without slot 0"), std::string::npos);
  EXPECT_NE(chosen("", "node1:0").find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  EXPECT_NE(chosen("", "node1@node2@node3").find("leaves no machine"), std::string::npos);
  EXPECT_NE(chosen("node1:", "").find("no slot follows"), std::string::npos);
  unlink(path.c_str());
}

TEST(Target, isCudaWhereEveryRankHasAGpu) {
  struct Case {
    const char *target, *comm;
    int ranks, devices;
    bool driver;
    const char *chosen, *note; // or the error
  };
  for (const Case &test : {Case{"auto", "auto", 2, 2, true, "cuda", ""}, Case{"auto", "auto", 2, 0, false, "cpu", ""}, Case{"auto", "auto", 1, 0, true, "cpu", "runs on the CPU: no luck"},
                           Case{"auto", "auto", 2, 1, true, "", "this machine has 1 GPU for 2 ranks: name the target"}, Case{"cpu", "auto", 2, 2, true, "cpu", ""}, Case{"cuda", "auto", 4, 2, true, "cuda", "they share"},
                           Case{"cuda", "nccl", 4, 2, true, "", "NCCL wants one for each"}, Case{"cuda", "auto", 1, 0, false, "", "--target=cuda: no luck"}, Case{"auto", "nccl", 1, 0, false, "", "--comm=nccl: no luck"}}) {
    SCOPED_TRACE(concat(test.target, " ", test.comm, " ", test.ranks, " on ", test.devices));
    RunOptions options;
    options.target = test.target;
    options.comm = test.comm;
    DeviceProbe probe;
    probe.hasDriver = test.driver;
    probe.problem = test.devices ? "" : "no luck";
    probe.devices.resize(size_t(test.devices));
    std::string note;
    Result<std::string> target = chooseTarget(options, test.ranks, probe, note);
    EXPECT_EQ(target.failed() ? "" : *target, test.chosen);
    EXPECT_NE((target.failed() ? target.getStatus().message() : note).find(test.note), std::string::npos);
    if (!*test.note)
      EXPECT_EQ(note, "");
  }
}

} // namespace
