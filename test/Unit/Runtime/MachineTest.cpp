//===- MachineTest.cpp - what the machine gives this process --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Machine.h"
#include "TemporaryFolder.h"
#include "zopt/Runtime/Monitor/Doctor.h"
#include "zopt/Runtime/Monitor/RunChecks.h"
#include <fstream>
#include <gmock/gmock.h>
#include <sys/resource.h>

using namespace zopt::runtime;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// A machine made of files.
class Machine {
public:
  void write(const std::string &path, const std::string &content) {
    std::filesystem::create_directories(std::filesystem::path(root() + path).parent_path());
    std::ofstream(root() + path) << content;
  }
  std::string root() const { return folder.path("root"); }

private:
  TemporaryFolder folder;
};

constexpr const char *kMeminfo = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n";

TEST(Machine, ReadsTheProcessor) {
  Machine machine;
  std::string text;
  for (int i = 0; i < 4; ++i)
    text += "processor\t: " + std::to_string(i) + "\nmodel name\t: Some CPU @ 3 GHz\nphysical id\t: " + std::to_string(i / 2) + "\ncore id\t\t: 0\nflags\t\t: fpu avx2 avx512f amx_bf16\n\n";
  machine.write("/proc/cpuinfo", text);
  CpuFacts cpu = readCpu(machine.root());
  EXPECT_EQ(cpu.model, "Some CPU @ 3 GHz");
  EXPECT_EQ(cpu.logical, 4);
  EXPECT_EQ(cpu.cores, 2) << "one core of two threads in each of two packages";
  EXPECT_THAT(cpu.features, ElementsAre("avx2", "avx512f", "amx_bf16"));
  EXPECT_FALSE(cpu.has("avx512_bf16"));
  EXPECT_EQ(cpu.cgroupLimit, -1);
}

TEST(Machine, ReadsTheTightestGroupOfVersion2) {
  Machine machine;
  machine.write("/proc/meminfo", kMeminfo);
  machine.write("/proc/self/cgroup", "0::/jobs/mine\n");
  machine.write("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n");
  machine.write("/sys/fs/cgroup/jobs/mine/memory.max", "max\n");
  machine.write("/sys/fs/cgroup/jobs/mine/cpu.max", "max 100000\n");
  EXPECT_EQ(readMemory(machine.root()).cgroupLimit, -1);
  EXPECT_EQ(readMemory(machine.root()).total, 16'384'000'000);
  EXPECT_EQ(readMemory(machine.root()).usable(), 8'192'000'000);
  EXPECT_EQ(readOomKills(machine.root()), -1);
  machine.write("/proc/vmstat", "pgfault 17\noom_kill 5\n");
  EXPECT_EQ(readOomKills(machine.root()), 5); // of the machine
  machine.write("/sys/fs/cgroup/jobs/mine/memory.events", "oom 3\noom_kill 2\noom_group_kill 0\n");
  EXPECT_EQ(readOomKills(machine.root()), 2);
  machine.write("/sys/fs/cgroup/jobs/memory.max", "4000000000\n");
  machine.write("/sys/fs/cgroup/jobs/memory.current", "3500000000\n");
  machine.write("/sys/fs/cgroup/jobs/memory.stat", "anon 500000000\ninactive_file 2500000000\n");
  machine.write("/sys/fs/cgroup/jobs/cpu.max", "150000 100000\n");
  MemoryFacts memory = readMemory(machine.root());
  EXPECT_EQ(memory.cgroupLimit, 4'000'000'000);
  EXPECT_EQ(memory.cgroupUsed, 1'000'000'000) << "page cache can be given back";
  EXPECT_EQ(memory.usable(), 3'000'000'000);
  EXPECT_EQ(readCpu(machine.root()).cgroupLimit, 1.5);
  // A wider group of less room counts.
  machine.write("/sys/fs/cgroup/memory.max", "6000000000\n");
  machine.write("/sys/fs/cgroup/memory.current", "5000000000\n");
  EXPECT_EQ(readMemory(machine.root()).usable(), 1'000'000'000);
}

TEST(Machine, ReadsGroupsOfVersion1InAContainer) {
  Machine machine;
  machine.write("/proc/meminfo", kMeminfo);
  machine.write("/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n");
  machine.write("/proc/self/mountinfo", "31 20 0:28 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
                                        "32 20 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
                                        "33 20 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(readMemory(machine.root()).cgroupLimit, -1) << "version 1's way to say that there is none";
  machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000000\n");
  machine.write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "700000000\n");
  machine.write("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000000\n");
  machine.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  machine.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(readMemory(machine.root()).usable(), 1'500'000'000);
  EXPECT_EQ(readCpu(machine.root()).cgroupLimit, -1);
  machine.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
  EXPECT_EQ(readCpu(machine.root()).cgroupLimit, 4);
}

TEST(Machine, ThisOne) {
  EXPECT_GT(readMemory().total, 0);
  EXPECT_GT(readMemory().usable(), 0);
  EXPECT_LE(readMemory().usable(), readMemory().total);
  EXPECT_GT(readCpu().allowed, 0);
  TemporaryFolder folder;
  Result<FolderFacts> facts = readFolder(folder.path("no/such/file"));
  ASSERT_FALSE(facts.failed()) << facts.getStatus().message();
  EXPECT_EQ(facts->path + "/", folder.path(""));
  EXPECT_GT(facts->total, 0);
  EXPECT_LE(facts->free, facts->total);
  // In a plain chroot no mount is seen to hold the root.
  std::ifstream mounts("/proc/self/mountinfo");
  bool seesRoot = false;
  for (std::string number, parent, device, root, point, rest; mounts >> number >> parent >> device >> root >> point && std::getline(mounts, rest);)
    seesRoot |= point == "/";
  EXPECT_TRUE(!facts->type.empty() || !seesRoot);
  EXPECT_EQ(readFolder("/proc/self")->type, "proc");
}

TEST(Machine, WritesBytesInThreeDigits) {
  EXPECT_EQ(bytesText(0), "0 B");
  EXPECT_EQ(bytesText(999), "999 B");
  EXPECT_EQ(bytesText(1500), "1.5 kB");
  EXPECT_EQ(bytesText(150'000'000), "150 MB");
  EXPECT_EQ(bytesText(999'600'000), "1.0 GB");
  EXPECT_EQ(bytesText(24'684'092'000), "25 GB");
  EXPECT_EQ(bytesText(5'000'000'000'000'000), "5000 TB");
}

std::vector<std::string> messages(const std::vector<Status> &problems) {
  std::vector<std::string> texts;
  for (const Status &problem : problems) {
    texts.push_back(problem.message());
    EXPECT_EQ(texts.back().find('\n'), std::string::npos);
  }
  return texts;
}

TEST(RunChecks, CountTheMemoryOfAllLocalRanks) {
  MemoryFacts memory;
  memory.total = 16'000'000'000;
  memory.available = 10'000'000'000;
  RunNeeds needs;
  needs.localRanks = needs.localProcesses = 4;
  needs.bytesPerProcess = 100'000'000;
  needs.plannedBytesPerRank = 2'400'000'000;
  EXPECT_THAT(messages(checkMemory(needs, memory)), IsEmpty()) << "exactly what is available";
  needs.plannedBytesPerRank += 1;
  EXPECT_THAT(messages(checkMemory(needs, memory)),
              ElementsAre(HasSubstr("4 ranks on this machine need 10 GB of memory (9.6 GB planned, 400 MB for 4 processes), but 10 GB of 16 GB are available: use fewer ranks")));
  needs.plannedBytesPerRank = 2'000'000'000;
  memory.cgroupLimit = 8'000'000'000;
  memory.cgroupUsed = 500'000'000;
  EXPECT_THAT(messages(checkMemory(needs, memory)), ElementsAre(HasSubstr("but 7.5 GB of 16 GB are available; the cgroup allows 8.0 GB and uses 500 MB:")));
  needs.plannedBytesPerRank = INT64_MAX / 2;
  EXPECT_EQ(checkMemory(needs, memory).size(), 1u) << "no overflow into a small number";
}

TEST(RunChecks, DevicesHoldTheirRanks) {
  RunNeeds needs;
  needs.localRanks = 3;
  needs.plannedDeviceBytesPerRank = 40'000'000'000;
  EXPECT_THAT(messages(checkDevices(needs)), IsEmpty()) << "no run on GPUs";
  needs.devices = {{"GPU", 80'000'000'000, -1}, {"GPU", 80'000'000'000, -1}};
  EXPECT_THAT(messages(checkDevices(needs)), IsEmpty());
  needs.devices[1].freeBytes = 30'000'000'000;
  EXPECT_THAT(messages(checkDevices(needs)),
              ElementsAre(HasSubstr("GPU, device 1: 1 rank of 40 GB (40000000000 bytes) planned does not fit into the GPU's memory, of which 30 GB (30000000000 bytes) are free: take a smaller --micro-batch")));
  needs.devices.pop_back();
  EXPECT_THAT(messages(checkDevices(needs)), ElementsAre(HasSubstr("GPU, device 0: 3 ranks of 40 GB (40000000000 bytes) planned do not fit into the GPU's memory, of which 80 GB (80000000000 bytes) is all there is")));
  needs.plannedDeviceBytesPerRank = int64_t(1) << 62;
  EXPECT_EQ(checkDevices(needs).size(), 1u);
}

TEST(RunChecks, KnowAddressSpaceAndSharedMemory) {
  RunNeeds needs;
  needs.localRanks = 4;
  needs.localProcesses = 1; // ranks are threads
  needs.plannedBytesPerRank = 1'000'000'000;
  needs.bytesPerProcess = 0;
  EXPECT_THAT(messages(checkAddressSpace(needs, -1)), IsEmpty());
  EXPECT_THAT(messages(checkAddressSpace(needs, 4'000'000'000)), IsEmpty());
  EXPECT_THAT(messages(checkAddressSpace(needs, 3'999'999'999)), ElementsAre(HasSubstr("needs 4.0 GB of address space, but its limit is 4.0 GB: raise it with ulimit -v")));
  needs.localProcesses = 4;
  EXPECT_THAT(messages(checkAddressSpace(needs, 1'000'000'000)), IsEmpty());

  FolderFacts shared;
  shared.path = "/dev/shm";
  shared.total = 64 << 20;
  shared.free = 19 << 20;
  EXPECT_THAT(messages(checkSharedMemory(needs, shared)), IsEmpty()) << "not over MPI";
  needs.usesMpi = true;
  EXPECT_THAT(messages(checkSharedMemory(needs, shared)), ElementsAre(HasSubstr("4 ranks need 21 MB in /dev/shm for MPI, but 20 MB of 67 MB are free")));
  shared.free = 20 << 20;
  EXPECT_THAT(messages(checkSharedMemory(needs, shared)), IsEmpty());
}

TEST(RunChecks, TellAllOutputsThatCannotBeWritten) {
  TemporaryFolder folder;
  RunNeeds needs;
  needs.outputs = {{folder.path("weights.safetensors"), 1000}, {folder.path("no/run.jsonl")}, {folder.path("")}, {"/dev/null"}, {folder.path("weights.safetensors")}, {folder.path("huge"), INT64_MAX}};
  EXPECT_THAT(messages(checkOutputs(needs)), ElementsAre(HasSubstr("no/run.jsonl"), HasSubstr("is a folder"), HasSubstr("weights.safetensors: is named for two outputs"), HasSubstr("huge: needs 9223372 TB, but its disk has")));
  EXPECT_EQ(folder.entries(), 0u) << "a check leaves nothing behind";
}

TEST(RunChecks, AgreeWithThisMachine) {
  RunNeeds needs;
  needs.plannedBytesPerRank = 1'000'000;
  EXPECT_THAT(messages(checkMachine(needs)), IsEmpty());
  needs.plannedBytesPerRank = int64_t(1) << 60;
  EXPECT_FALSE(checkMachine(needs).empty());
}

TEST(Doctor, SpeaksOfEverythingInOneLineEach) {
  std::vector<Finding> findings = examineMachine();
  std::vector<std::string> subjects;
  for (const Finding &finding : findings) {
    subjects.push_back(finding.subject);
    EXPECT_FALSE(finding.text.empty()) << finding.subject;
    EXPECT_EQ((finding.text + finding.advice).find('\n'), std::string::npos) << finding.subject;
  }
  EXPECT_THAT(subjects, ElementsAre("cpu", "memory", "shared memory", "mpi", "gloo", "gpu", "cuda runtime", "cublasLt",
                                    "cudnn", "nccl", "cupti", "disk", "limits"));
  EXPECT_EQ(doctorReport({{"cpu", "slow", "buy another"}, {"memory", "some", ""}}), "cpu     slow\n        -> buy another\nmemory  some\n");
  RecordProperty("report", doctorReport(findings));
}

TEST(Doctor, AdvisesOnALimitedAddressSpace) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit limited = before;
  limited.rlim_cur = rlim_t(1) << 60;
  if (before.rlim_max != RLIM_INFINITY)
    limited.rlim_cur = before.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limited), 0);
  Finding limits = examineMachine().back();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_THAT(limits.advice, HasSubstr("ulimit -v unlimited"));
}

} // namespace
