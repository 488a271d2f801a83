//===- GlooCommunicatorTest.cpp - ranks that meet over TCP ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Ranks are threads here, each with a connection of its own to every other: what passes between processes passes
// through the same sockets.
#include "AllocationWatch.h"
#include "CommunicatorConformance.h"
#include "zopt/Runtime/Comm/Gloo.h"
#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

using namespace zopt::runtime;
using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

namespace {

bool never() { return false; }

int bindTo(int port, bool listens) {
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  if (bind(descriptor, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 ||
      (listens && listen(descriptor, 8) != 0)) {
    close(descriptor);
    return -1;
  }
  return descriptor;
}

/// One that nobody listens on right now.
int freePort() {
  int descriptor = bindTo(0, false);
  sockaddr_in address{};
  socklen_t length = sizeof address;
  getsockname(descriptor, reinterpret_cast<sockaddr *>(&address), &length);
  close(descriptor);
  return ntohs(address.sin_port);
}

MeetingPlace placeOf(int rank, int size, int port, double seconds = 60) {
  MeetingPlace place;
  place.rank = rank;
  place.size = size;
  place.address = "127.0.0.1";
  place.port = port;
  place.timeoutSeconds = seconds;
  place.stopRequested = never;
  return place;
}

void onEveryRank(int size, const std::function<void(int)> &body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back(body, rank);
  for (std::thread &thread : threads)
    thread.join();
}

std::vector<std::unique_ptr<Communicator>> connect(int size, double seconds = 60) {
  std::vector<std::unique_ptr<Communicator>> world(static_cast<size_t>(size));
  const int port = freePort();
  onEveryRank(size, [&](int rank) {
    Result<std::unique_ptr<Meeting>> meeting = Meeting::join(placeOf(rank, size, port, seconds));
    ASSERT_FALSE(meeting.failed()) << meeting.getStatus().message();
    Result<std::unique_ptr<Communicator>> made = makeGlooCommunicator(**meeting, seconds, never);
    ASSERT_FALSE(made.failed()) << made.getStatus().message();
    (*made)->setTimeout(seconds);
    world[size_t(rank)] = std::move(*made);
  });
  return world;
}

/// Ranks leave together, each from a thread of its own: who leaves waits for the others.
void leave(std::vector<std::unique_ptr<Communicator>> &world) {
  onEveryRank(int(world.size()), [&](int rank) { world[size_t(rank)].reset(); });
}

std::vector<Status> meet(const std::vector<MeetingPlace> &places) {
  std::vector<Status> statuses(places.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < places.size(); ++i)
    threads.emplace_back([&, i] { statuses[i] = Meeting::join(places[i]).getStatus(); });
  for (std::thread &thread : threads)
    thread.join();
  return statuses;
}

std::string messageOf(const Status &status) { return status.failed() ? status.message() : "no failure"; }

} // namespace

void forEachWorld(const std::function<void(Communicator &)> &body) {
  for (int size : {1, 2, 4}) {
    std::vector<std::unique_ptr<Communicator>> world = connect(size);
    for (const auto &communicator : world)
      ASSERT_NE(communicator, nullptr);
    onEveryRank(size, [&](int rank) { body(*world[size_t(rank)]); });
    leave(world);
  }
}

TEST(GlooCommunicator, collectivesAllocateNothingLargeAfterTheFirst) {
  if (!canWatchAllocations())
    GTEST_SKIP() << "a sanitizer owns malloc";
  std::vector<std::unique_ptr<Communicator>> world = connect(2);
  const int64_t elements = 1 << 18;
  struct Buffers {
    std::vector<float> whole, workspace, slice, gathered;
  };
  std::vector<Buffers> all(2);
  for (Buffers &buffers : all)
    buffers = {std::vector<float>(elements * 2), std::vector<float>(elements * 2), std::vector<float>(elements),
               std::vector<float>(elements * 2)};
  auto steps = [&](int count) {
    onEveryRank(2, [&](int rank) {
      Communicator &communicator = *world[size_t(rank)];
      Buffers &mine = all[size_t(rank)];
      for (int i = 0; i < count; ++i) {
        EXPECT_FALSE(communicator
                         .startReduceScatter({1, "scatter"}, mine.whole.data(), DataType::F32, mine.slice.data(),
                                             DataType::F32, mine.workspace.data(), elements, false)
                         .failed());
        EXPECT_FALSE(
            communicator.startAllGather({2, "gather"}, mine.slice.data(), mine.gathered.data(), elements * 4).failed());
        EXPECT_FALSE(communicator.wait(1).failed() || communicator.wait(2).failed());
        EXPECT_FALSE(
            communicator
                .startAllReduce({3, "reduce"}, mine.whole.data(), DataType::F32, mine.workspace.data(), elements)
                .failed() ||
            communicator.wait(3).failed());
      }
    });
  };
  steps(3);
  startWatchingAllocations();
  steps(10);
  std::vector<LargeAllocation> allocations = stopWatchingAllocations();
  EXPECT_TRUE(allocations.empty()) << allocations.size() << " allocations, the first a " << allocations[0].call
                                   << " of " << allocations[0].bytes << " bytes";
  leave(world);
}

TEST(GlooCommunicator, aRankThatIsGoneIsNamedAtOnce) {
  std::vector<std::unique_ptr<Communicator>> world = connect(3);
  // As a process dies: without a farewell. A wait that has failed is what keeps it from being said.
  world[1]->setTimeout(0.05);
  char byte = 0, bytes[3];
  EXPECT_TRUE(world[1]->allGatherNow("its last", &byte, bytes, 1).failed());
  world[1].reset();
  auto begin = Clock::now();
  for (int rank : {0, 2}) {
    Status status = world[size_t(rank)]->barrier("barrier before step 7");
    EXPECT_THAT(messageOf(status), AllOf(HasSubstr(concat("rank ", rank, ": barrier before step 7: rank 1 has ended")),
                                         HasSubstr("stands at this collective")));
    EXPECT_TRUE(world[size_t(rank)]->checkPeers("elsewhere").failed());
  }
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
}

TEST(GlooCommunicator, aRankThatLeavesInOrderIsNoFailure) {
  std::vector<std::unique_ptr<Communicator>> world = connect(3);
  std::thread first([&] { world[0].reset(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  for (int rank : {1, 2})
    EXPECT_FALSE(world[size_t(rank)]->checkPeers("").failed()) << messageOf(world[size_t(rank)]->checkPeers(""));
  std::thread second([&] { world[1].reset(); });
  world[2].reset();
  first.join();
  second.join();
}

TEST(GlooCommunicator, aTimeOutNamesWhoHasNotArrived) {
  std::vector<std::unique_ptr<Communicator>> world = connect(4);
  onEveryRank(4, [&](int rank) {
    if (rank == 1 || rank == 3)
      return;
    world[size_t(rank)]->setTimeout(0.5);
    Status status = world[size_t(rank)]->barrier("barrier before step 3");
    EXPECT_THAT(messageOf(status),
                HasSubstr(concat("rank ", rank,
                                 ": barrier before step 3: timed out after 0.5 s, nothing has arrived from rank ")));
    EXPECT_THAT(messageOf(status), AllOf(HasSubstr("1"), HasSubstr("3"), testing::Not(HasSubstr("from rank 0")),
                                         testing::Not(HasSubstr("from rank 2"))));
  });
}

TEST(Meeting, everybodyLearnsWhoIsThere) {
  const int port = freePort();
  onEveryRank(3, [&](int rank) {
    // Rank 0 comes last: the others try until it is there.
    if (rank == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    Result<std::unique_ptr<Meeting>> meeting = Meeting::join(placeOf(rank, 3, port));
    ASSERT_FALSE(meeting.failed()) << meeting.getStatus().message();
    EXPECT_EQ((*meeting)->machines().size(), 3u);
    EXPECT_EQ((*meeting)->machines()[0], (*meeting)->machines()[2]);
    EXPECT_EQ((*meeting)->address(), "127.0.0.1");
    Result<std::vector<std::string>> texts = (*meeting)->exchange("texts", concat("of ", rank), 10);
    ASSERT_FALSE(texts.failed());
    EXPECT_EQ(*texts, (std::vector<std::string>{"of 0", "of 1", "of 2"}));
    Status agreed = (*meeting)->agree("check", rank == 0 ? success() : inputError("value ", rank), 10);
    EXPECT_EQ(messageOf(agreed), "rank 1: value 1");
    EXPECT_EQ(agreed.kind(), ErrorKind::Input);
  });
}

TEST(Meeting, strangersAreSentAway) {
  const int port = freePort();
  std::thread first([&] { EXPECT_EQ(messageOf(Meeting::join(placeOf(0, 2, port)).getStatus()), "no failure"); });
  for (const char *word : {"GET / HTTP/1.1\r\n\r\n", "zopt", ""}) {
    int descriptor = -1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(uint16_t(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int tries = 0; tries < 100; ++tries) {
      descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connect(descriptor, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0)
        break;
      close(descriptor);
      usleep(20000);
    }
    EXPECT_GE(write(descriptor, word, std::strlen(word)), 0);
    close(descriptor);
  }
  EXPECT_EQ(messageOf(Meeting::join(placeOf(1, 2, port)).getStatus()), "no failure");
  first.join();
}

TEST(Meeting, whoIsMissingIsNamed) {
  const int port = freePort();
  std::vector<Status> statuses = meet({placeOf(0, 4, port, 0.5), placeOf(2, 4, port, 0.5)});
  for (const Status &status : statuses) {
    EXPECT_THAT(messageOf(status), HasSubstr("timed out after 0.5 s, nothing has arrived from rank 1, 3 at 127.0.0.1"));
    EXPECT_EQ(status.kind(), ErrorKind::Runtime);
  }
  EXPECT_THAT(messageOf(meet({placeOf(1, 2, freePort(), 0.3)})[0]),
              AllOf(HasSubstr("rank 1: meeting: timed out after 0.3 s, rank 0 is not to be found at 127.0.0.1"),
                    HasSubstr("Connection refused")));
}

TEST(Meeting, aRankThatIsThereTwiceEndsIt) {
  const int port = freePort();
  std::vector<Status> statuses = meet({placeOf(0, 3, port), placeOf(1, 3, port), placeOf(1, 3, port)});
  for (const Status &status : statuses) {
    EXPECT_THAT(messageOf(status), HasSubstr("two processes have RANK=1: process "));
    EXPECT_EQ(status.kind(), ErrorKind::Usage);
  }
}

TEST(Meeting, worldsOfDifferentSizesEndIt) {
  const int port = freePort();
  for (const Status &status : meet({placeOf(0, 2, port), placeOf(1, 3, port)}))
    EXPECT_THAT(messageOf(status), AllOf(HasSubstr("WORLD_SIZE is 2 for rank 0"), HasSubstr("but 3 for rank 1")));
}

TEST(Meeting, aPortThatAnotherProgramHolds) {
  const int port = freePort();
  int held = bindTo(port, true);
  ASSERT_GE(held, 0);
  EXPECT_THAT(messageOf(meet({placeOf(0, 2, port)})[0]),
              AllOf(HasSubstr(concat("cannot listen on MASTER_PORT ", port)), HasSubstr("Address already in use"),
                    HasSubstr("RANK=0")));
  // It accepts whoever comes, and hangs up.
  std::thread hangsUp([&] { close(accept(held, nullptr, nullptr)); });
  EXPECT_THAT(messageOf(meet({placeOf(1, 2, port, 5)})[0]), HasSubstr("is no rank 0 of zrun"));
  hangsUp.join();
  close(held);
}

TEST(Meeting, aRankThatEndsWhileOthersWaitIsNamed) {
  const int port = freePort();
  onEveryRank(3, [&](int rank) {
    Result<std::unique_ptr<Meeting>> meeting = Meeting::join(placeOf(rank, 3, port));
    ASSERT_FALSE(meeting.failed()) << meeting.getStatus().message();
    if (rank == 2)
      return;
    Result<std::vector<std::string>> texts = (*meeting)->exchange("compiled plan", "", 0);
    EXPECT_THAT(messageOf(texts.getStatus()),
                HasSubstr("compiled plan: rank 2 has ended before the ranks were connected"));
  });
}
