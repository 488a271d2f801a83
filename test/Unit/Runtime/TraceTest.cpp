//===- TraceTest.cpp - when each command ran, for Perfetto ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Trace.h"
#include "TemporaryFolder.h"
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

using namespace zopt::runtime;
using Kind = Command::Kind;

namespace {

Command commandOf(Kind kind, int64_t id = 0, std::vector<BufferId> buffers = {}) {
  Command command;
  command.kind = kind;
  command.id = id;
  command.buffers = std::move(buffers);
  command.location = "node \"a\"";
  return command;
}

/// The events of one name, of one rank.
std::vector<nlohmann::json> eventsOf(const nlohmann::json &trace, const std::string &name, int rank) {
  std::vector<nlohmann::json> events;
  for (const nlohmann::json &event : trace["traceEvents"])
    if (event["name"] == name && event["pid"] == rank)
      events.push_back(event);
  return events;
}

TEST(Trace, ACollectiveLastsUntilItsWaitEnds) {
  Program program;
  program.kernels = {{"softmax"}};
  program.buffers.resize(3);
  program.buffers[2].name = "bucket1";
  std::vector<Command> commands = {commandOf(Kind::AllGather, 7, {0, 2}), commandOf(Kind::AllGather, 8, {0, 2}), commandOf(Kind::Launch), commandOf(Kind::Wait, 7),
                                   commandOf(Kind::Wait, 8), commandOf(Kind::AllGather, 7, {0, 2}), commandOf(Kind::Copy, 0, {0, 2})};
  commands[2].kernel = 0;
  TraceBuffer buffer(commands.size());
  for (size_t i = 0; i < commands.size(); ++i)
    buffer.add(commands[i], 1000000 + int64_t(i) * 1000, 1000500 + int64_t(i) * 1000);
  EXPECT_EQ(buffer.dropped, 0);

  TemporaryFolder folder;
  std::string path = folder.path("trace.json");
  Status status = writeTrace(path, {traceText(program, 0, buffer), traceText(program, 1, buffer)});
  ASSERT_TRUE(status.succeeded()) << status.message();
  nlohmann::json trace = nlohmann::json::parse(TemporaryFolder::read(path));

  for (int rank : {0, 1}) {
    auto gathers = eventsOf(trace, "all_gather bucket1", rank);
    ASSERT_EQ(gathers.size(), 3u);
    EXPECT_EQ(gathers[0]["ts"], 1000.0);
    EXPECT_EQ(gathers[0]["dur"], 3.5) << "from its start to the end of wait 7";
    EXPECT_EQ(gathers[1]["dur"], 3.5);
    EXPECT_EQ(gathers[2]["dur"], 0.5) << "nothing waits for it in this trace";
    EXPECT_NE(gathers[0]["tid"], gathers[1]["tid"]) << "they overlap";
    EXPECT_EQ(gathers[0]["tid"], gathers[2]["tid"]);
    EXPECT_EQ(gathers[0]["args"]["location"], "node \"a\"");
    auto launches = eventsOf(trace, "softmax", rank);
    ASSERT_EQ(launches.size(), 1u);
    EXPECT_EQ(launches[0]["cat"], "compute");
    EXPECT_EQ(eventsOf(trace, "copy bucket1", rank).size(), 1u);
    EXPECT_EQ(eventsOf(trace, "wait", rank).size(), 2u);
    EXPECT_EQ(eventsOf(trace, "process_name", rank)[0]["args"]["name"], "rank " + std::to_string(rank));
    std::vector<std::string> threads;
    for (const nlohmann::json &event : eventsOf(trace, "thread_name", rank))
      threads.push_back(event["args"]["name"]);
    EXPECT_THAT(threads, testing::ElementsAre("compute", "copies", "collectives", "collectives 2"));
  }
}

TEST(Trace, NeverGrowsItsBuffer) {
  Program program;
  Command command = commandOf(Kind::Matmul);
  TraceBuffer buffer(2);
  const auto *storage = buffer.spans.data();
  for (int i = 0; i < 5; ++i)
    buffer.add(command, i, i + 1);
  EXPECT_EQ(buffer.spans.data(), storage);
  EXPECT_EQ(buffer.spans.size(), 2u);
  EXPECT_EQ(buffer.dropped, 3);
  EXPECT_THAT(traceText(program, 0, buffer), testing::HasSubstr("rank 0 (3 commands did not fit)"));
}

TEST(Trace, OfNothingIsStillATrace) {
  TemporaryFolder folder;
  std::string path = folder.path("trace.json");
  ASSERT_TRUE(writeTrace(path, {}).succeeded());
  EXPECT_TRUE(nlohmann::json::parse(TemporaryFolder::read(path))["traceEvents"].empty());
  EXPECT_TRUE(writeTrace(folder.path("no/trace.json"), {}).failed());
}

} // namespace
