//===- LocalCommunicatorTest.cpp - ranks as threads -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Local.h"
#include "CommunicatorConformance.h"
#include <gtest/gtest.h>
#include <thread>

using namespace zopt::runtime;

namespace {

/// Runs `body` on every rank of a world; a rank's communicator ends with its body.
void onEveryRank(int world, const std::function<void(std::unique_ptr<Communicator>)> &body) {
  std::vector<std::unique_ptr<Communicator>> communicators = makeLocalWorld(world);
  std::vector<std::thread> threads;
  for (std::unique_ptr<Communicator> &communicator : communicators)
    threads.emplace_back([&body, mine = std::move(communicator)]() mutable { body(std::move(mine)); });
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace

void forEachWorld(const std::function<void(Communicator &)> &body) {
  for (int world : {1, 2, 3, 4, 8})
    onEveryRank(world, [&](std::unique_ptr<Communicator> communicator) { body(*communicator); });
}

namespace {

TEST(LocalCommunicator, timeOutNamesTheCollectiveAndWhoIsMissing) {
  onEveryRank(3, [](std::unique_ptr<Communicator> communicator) {
    char value = 0, all[3];
    if (communicator->rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      return;
    }
    communicator->setTimeout(0.1);
    ASSERT_FALSE(communicator->startAllGather({4, "all_gather bucket0"}, &value, all, 1).failed());
    Status status = communicator->wait(4);
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.kind(), ErrorKind::Runtime);
    EXPECT_EQ(status.message(), concat("rank ", communicator->rank(), ": all_gather bucket0: timed out after 0.1 s, nothing has arrived from rank 1"));
    // Long enough that this rank is not the one that is missed.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  });
}

TEST(LocalCommunicator, aRankThatEndsFailsTheOthersAtOnce) {
  auto begin = std::chrono::steady_clock::now();
  onEveryRank(4, [](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 2)
      return;
    Status status = communicator->barrier("before the step");
    ASSERT_TRUE(status.failed());
    EXPECT_NE(status.message().find("before the step: rank "), std::string::npos) << status.message();
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

} // namespace
