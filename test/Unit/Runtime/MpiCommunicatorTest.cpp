//===- MpiCommunicatorTest.cpp - ranks as processes -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Run as mpirun -n N: every rank runs every test, and the program fails where any does. On its own it starts itself so, once for each world size.
#include "zopt/Runtime/Comm/Mpi.h"
#include "AllocationWatch.h"
#include "CommunicatorConformance.h"
#include <cstdlib>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace zopt::runtime;

static Communicator *communicator = nullptr;

void forEachWorld(const std::function<void(Communicator &)> &body) { body(*communicator); }

TEST(MpiCommunicator, collectivesAllocateNothingLargeAfterTheFirst) {
  if (!canWatchAllocations())
    GTEST_SKIP() << "a sanitizer owns malloc";
  const int world = communicator->size();
  const int64_t elements = 1 << 18;
  std::vector<float> whole(size_t(elements * world)), workspace(whole.size()), slice(static_cast<size_t>(elements)), gathered(whole.size());
  auto step = [&] {
    bool failed = communicator->startReduceScatter({1, "scatter"}, whole.data(), DataType::F32, slice.data(), DataType::F32, workspace.data(), elements, false).failed();
    failed |= communicator->startAllGather({2, "gather"}, slice.data(), gathered.data(), elements * 4).failed();
    failed |= communicator->wait(1).failed() || communicator->wait(2).failed();
    failed |= communicator->startAllReduce({3, "reduce"}, whole.data(), DataType::F32, workspace.data(), elements).failed() || communicator->wait(3).failed();
    float scalar = 1, sum;
    return failed || communicator->allReduceScalars("scalars", &scalar, &sum, 1, DataType::F32).failed();
  };
  for (int i = 0; i < 3; ++i)
    ASSERT_FALSE(step());
  startWatchingAllocations();
  for (int i = 0; i < 10; ++i)
    ASSERT_FALSE(step());
  std::vector<LargeAllocation> allocations = stopWatchingAllocations();
  EXPECT_TRUE(allocations.empty()) << allocations.size() << " allocations, the first a " << allocations[0].call << " of " << allocations[0].bytes << " bytes";
}

static int runUnderMpi(int argc, char **argv) {
  std::string self = argv[0];
  for (const char *world : {"1", "2", "4"}) {
    pid_t child = fork();
    if (child == 0) {
      setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
      setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
      std::vector<const char *> command = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", world, self.c_str()};
      command.insert(command.end(), argv + 1, argv + argc);
      command.push_back(nullptr);
      execvp("mpirun", const_cast<char *const *>(command.data()));
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      std::fprintf(stderr, "FAILED with %s ranks\n", world);
      return 1;
    }
  }
  return 0;
}

int main(int argc, char **argv) {
  bool listing = false;
  for (int i = 1; i < argc; ++i)
    listing |= std::string(argv[i]) == "--gtest_list_tests";
  if (!listing && !std::getenv("OMPI_COMM_WORLD_SIZE"))
    return runUnderMpi(argc, argv);
  // One report, rank 0's: four processes that write one file leave no JSON. GoogleTest opens it as soon as it is initialized.
  const char *rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank && std::string(rank) != "0")
    testing::GTEST_FLAG(output) = "";
  testing::InitGoogleTest(&argc, argv);
  if (listing)
    return RUN_ALL_TESTS();
  Result<std::unique_ptr<Communicator>> made = makeMpiCommunicator([] { return false; });
  if (made.failed()) {
    std::fprintf(stderr, "%s\n", made.getStatus().message().c_str());
    return 1;
  }
  communicator = made->get();
  communicator->setTimeout(60);
  if (communicator->rank() != 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(testing::UnitTest::GetInstance()->listeners().default_result_printer());
  int result = RUN_ALL_TESTS();
  // One rank's failure is everybody's.
  double worst = result;
  if (communicator->allReduceMaximum("result", &worst, 1).failed())
    worst = 1;
  made->reset();
  finalizeMpi();
  return int(worst);
}
