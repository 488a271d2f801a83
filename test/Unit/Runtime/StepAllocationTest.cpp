//===- StepAllocationTest.cpp - a step allocates nothing large ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AllocationWatch.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Device/Matmul.h"
#include <cstdlib>
#include <gtest/gtest.h>
#include <thread>

using namespace zopt::runtime;

namespace {

std::string describe(const std::vector<LargeAllocation> &allocations) {
  std::string text;
  for (const LargeAllocation &allocation : allocations)
    text += concat(allocation.call, " of ", allocation.bytes, " bytes\n");
  return text;
}

TEST(AllocationWatch, seesLargeAllocationsOnly) {
  if (!canWatchAllocations())
    GTEST_SKIP() << "a sanitizer owns malloc";
  startWatchingAllocations();
  void *volatile small = std::malloc(1000);
  void *volatile large = std::malloc(kLargeAllocation);
  std::free(small);
  std::free(large);
  std::vector<LargeAllocation> seen = stopWatchingAllocations();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].bytes, kLargeAllocation);
  EXPECT_STREQ(seen[0].call, "malloc");
}

/// Matrix products of the kinds that a transformer's step has, one after the other, and collectives between them.
Program makeProgram(int world, int threads, DataType type) {
  Program program;
  program.worldSize = world;
  program.threads = threads;
  program.arenas.push_back({"device", Tier::Device, 0});
  auto buffer = [&](const char *name, int64_t bytes) {
    Buffer made;
    made.name = name;
    made.offset = program.arenas[0].bytes;
    made.bytes = bytes;
    program.arenas[0].bytes += (bytes + 63) / 64 * 64;
    program.buffers.push_back(made);
    return BufferId(program.buffers.size() - 1);
  };
  const int64_t elements = 1 << 20;
  BufferId lhs = buffer("lhs", elements * 4), rhs = buffer("rhs", elements * 4), out = buffer("out", elements * 4), workspace = buffer("workspace", elements * 4), slice = buffer("slice", elements * 4);
  Sequence sequence{"micro_step", {}};
  Command zero;
  zero.kind = Command::Kind::Zero;
  zero.buffers = {lhs};
  zero.bytes = elements * 4;
  sequence.commands.push_back(zero);
  zero.buffers = {rhs};
  sequence.commands.push_back(zero);
  struct Shape {
    std::vector<int64_t> lhs, lhsStrides, rhs, rhsStrides, out, outStrides;
  };
  const Shape shapes[] = {
      {{1024, 128}, {128, 1}, {128, 512}, {512, 1}, {1024, 512}, {512, 1}},
      {{1024, 512}, {512, 1}, {512, 128}, {1, 512}, {1024, 128}, {128, 1}},
      {{128, 1024}, {1, 128}, {1024, 512}, {512, 1}, {128, 512}, {512, 1}},
      {{8, 4, 128, 32}, {16384, 32, 128, 1}, {8, 4, 32, 128}, {16384, 32, 1, 128}, {8, 4, 128, 128}, {65536, 16384, 128, 1}},
      {{8, 4, 128, 128}, {65536, 16384, 128, 1}, {8, 4, 128, 32}, {16384, 32, 128, 1}, {8, 4, 128, 32}, {16384, 32, 128, 1}},
  };
  int64_t scratchBytes = 64;
  for (const Shape &shape : shapes) {
    Command command;
    command.kind = Command::Kind::Matmul;
    command.lhs = {type, shape.lhs, shape.lhsStrides};
    command.rhs = {type, shape.rhs, shape.rhsStrides};
    command.out = {type, shape.out, shape.outStrides};
    command.buffers = {lhs, rhs, out, -1, -1};
    scratchBytes = std::max(scratchBytes, matmulScratchBytes(command, threads));
    sequence.commands.push_back(command);
  }
  BufferId scratch = buffer("scratch", scratchBytes);
  for (Command &command : sequence.commands)
    if (command.kind == Command::Kind::Matmul)
      command.buffers[4] = scratch;
  Command reduce;
  reduce.kind = Command::Kind::ReduceScatter;
  reduce.location = "reduce_scatter";
  reduce.buffers = {out, slice, workspace};
  reduce.elements = elements / world / 128 * 128;
  reduce.type = reduce.destinationType = type;
  sequence.commands.push_back(reduce);
  Command wait;
  wait.kind = Command::Kind::Wait;
  sequence.commands.push_back(wait);
  program.sequences.push_back(sequence);
  return program;
}

void check(DataType type) {
  if (!canWatchAllocations())
    GTEST_SKIP() << "a sanitizer owns malloc";
  const int world = 2, threads = 2;
  Program program = makeProgram(world, threads, type);
  auto communicators = makeLocalWorld(world);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world; ++rank)
    ranks.emplace_back([&, rank] {
      Communicator &communicator = *communicators[rank];
      ExecutorOptions options;
      options.threads = threads;
      Result<std::unique_ptr<Executor>> executor = Executor::create(program, KernelLibrary::fromFunctions({}), communicator, options);
      ASSERT_FALSE(executor.failed()) << executor.getStatus().message();
      // The first step starts threads and makes the meeting places; it may allocate, and what it allocates stays.
      ASSERT_FALSE((*executor)->run("micro_step").failed());
      ASSERT_FALSE(communicator.barrier("warm").failed());
      if (rank == 0)
        startWatchingAllocations();
      ASSERT_FALSE(communicator.barrier("watched").failed());
      for (int step = 0; step < 5; ++step)
        ASSERT_FALSE((*executor)->run("micro_step").failed());
      ASSERT_FALSE(communicator.barrier("done").failed());
      if (rank == 0) {
        std::vector<LargeAllocation> allocations = stopWatchingAllocations();
        EXPECT_TRUE(allocations.empty()) << describe(allocations);
      }
      ASSERT_FALSE(communicator.barrier("end").failed());
    });
  for (std::thread &rank : ranks)
    rank.join();
}

TEST(Step, allocatesNothingLargeInF32) { check(DataType::F32); }

TEST(Step, allocatesNothingLargeInBf16) {
  Command probe;
  probe.lhs = probe.rhs = probe.out = {DataType::BF16, {16, 16}, {16, 1}};
  if (!matmulSupports(probe))
    GTEST_SKIP() << "this CPU has no bf16 products";
  check(DataType::BF16);
}

} // namespace
