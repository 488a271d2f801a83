//===- ExecutorTest.cpp - execution of Programs ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Executor.h"
#include "TinyProgram.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Core/States.h"
#include <cmath>
#include <csignal>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <thread>

using namespace zopt::runtime;

namespace {

#define ASSERT_SUCCESS(expression)                                                                                     \
  do {                                                                                                                 \
    Status status = (expression);                                                                                      \
    ASSERT_FALSE(status.failed()) << status.message();                                                                 \
  } while (false)

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<float> a, b, gradientA;
  TierPeak peak;
};

const State &stateOf(const Program &program, const std::string &name) {
  for (const State &state : program.states)
    if (state.name == name)
      return state;
  std::abort();
}

void trainOnRank(const Program &program, Communicator &communicator, int steps, bool poison, double poisonedStep, Outcome &outcome) {
  ExecutorOptions options;
  options.poison = poison;
  Result<std::unique_ptr<Executor>> created = Executor::create(program, tinyKernels(), communicator, options);
  ASSERT_FALSE(created.failed()) << created.getStatus().message();
  Executor &executor = **created;
  ASSERT_SUCCESS(initializeStates(executor, {}));
  const int64_t world = program.worldSize;
  for (int step = 0; step < steps; ++step) {
    ASSERT_SUCCESS(executor.write("zopt.lr", program.learningRate));
    ASSERT_SUCCESS(executor.write("zopt.step", step + 1));
    for (int64_t micro = 0; micro < program.accumSteps; ++micro) {
      Result<void *const *> inputs = executor.inputs();
      ASSERT_FALSE(inputs.failed()) << inputs.getStatus().message();
      float *x = static_cast<float *>((*inputs)[0]);
      for (int i = 0; i < 2; ++i) {
        int64_t sample = (micro * world + communicator.rank()) * 2 + i;
        x[i] = step == poisonedStep ? std::numeric_limits<float>::quiet_NaN() : (0.3f + 0.01f * float(sample) + 0.1f * float(step)) / float(world * program.accumSteps);
      }
      ASSERT_SUCCESS(executor.run("micro_step", micro == 0));
    }
    ASSERT_SUCCESS(executor.run("apply_step"));
    std::optional<StepResult> result;
    ASSERT_SUCCESS(executor.finishStep(result));
    ASSERT_TRUE(result); // on a CPU at once
    if (communicator.rank() == 0) {
      outcome.losses.push_back(result->loss);
      outcome.norms.push_back(result->norm);
    }
  }
  auto collect = [&](const char *name, StateValue value, std::vector<float> &into) {
    return collectState(executor, stateOf(program, name), value, 1, [&](const void *data, int64_t count) {
      const float *values = static_cast<const float *>(data);
      into.insert(into.end(), values, values + count);
      return success();
    });
  };
  std::vector<float> ignored;
  bool root = communicator.rank() == 0;
  ASSERT_SUCCESS(collect("a", StateValue::Current, root ? outcome.a : ignored));
  ASSERT_SUCCESS(collect("b", StateValue::Current, root ? outcome.b : ignored));
  ASSERT_SUCCESS(collect("a", StateValue::Gradient, root ? outcome.gradientA : ignored));
  if (root)
    outcome.peak = executor.peak().measure().at(Tier::Device);
}

Outcome train(const Program &program, int steps = 5, bool poison = true, double poisonedStep = -1) {
  Outcome outcome;
  std::vector<std::unique_ptr<Communicator>> communicators = makeLocalWorld(int(program.worldSize));
  std::vector<std::thread> ranks;
  for (std::unique_ptr<Communicator> &communicator : communicators)
    ranks.emplace_back([&] { trainOnRank(program, *communicator, steps, poison, poisonedStep, outcome); });
  for (std::thread &rank : ranks)
    rank.join();
  return outcome;
}

TEST(Executor, programsByHandAreValid) {
  for (int world : {1, 2, 3, 4, 8})
    for (int stage : {0, 1, 2, 3})
      ASSERT_SUCCESS(verifyProgram(makeTinyProgram(world, stage)));
}

TEST(Executor, matchesPlainArithmetic) {
  Outcome outcome = train(makeTinyProgram(1, 0), 2);
  // Element 7 of `a`, by hand.
  float w = 0.5f, momentum = 0;
  for (int step = 0; step < 2; ++step) {
    float x0 = 0.3f + 0.1f * float(step), x1 = 0.3f + 0.01f + 0.1f * float(step);
    float gradient = (x0 + x1) * 0.5f * (1 + 0.001f * 7) * w;
    momentum = 0.9f * momentum + gradient;
    w -= 0.1f * momentum;
  }
  ASSERT_EQ(outcome.a.size(), 130u);
  EXPECT_FLOAT_EQ(outcome.a[7], w);
  EXPECT_EQ(outcome.b.size(), 10u);
  EXPECT_NEAR(outcome.losses[0], 0.5 * 0.305 * (130 * 0.25 + 10 * 0.0625), 1e-4);
}

TEST(Executor, sameBitsAtEveryStage) {
  for (int world : {2, 3, 4}) {
    Outcome reference = train(makeTinyProgram(world, 0));
    ASSERT_EQ(reference.losses.size(), 5u);
    for (int stage : {1, 2, 3}) {
      SCOPED_TRACE(concat("world ", world, " stage ", stage));
      Outcome outcome = train(makeTinyProgram(world, stage));
      EXPECT_EQ(outcome.losses, reference.losses);
      EXPECT_EQ(outcome.norms, reference.norms);
      EXPECT_EQ(outcome.a, reference.a);
      EXPECT_EQ(outcome.b, reference.b);
      EXPECT_EQ(outcome.gradientA, reference.gradientA);
    }
  }
}

TEST(Executor, ranksAgreeWithinRounding) {
  Outcome one = train(makeTinyProgram(1, 0));
  // Other worlds see other inputs here, so compare what does not depend on them: padding and order of the segments.
  EXPECT_EQ(train(makeTinyProgram(1, 3)).a, one.a);
}

TEST(Executor, accumulates) {
  Outcome two = train(makeTinyProgram(2, 2, 2), 3);
  ASSERT_EQ(two.losses.size(), 3u);
  Outcome again = train(makeTinyProgram(2, 3, 2), 3);
  EXPECT_EQ(two.losses, again.losses);
  EXPECT_EQ(two.a, again.a);
  // Step 0 has the mean of eight samples.
  double mean = 0;
  for (int sample = 0; sample < 8; ++sample)
    mean += (0.3 + 0.01 * sample) / 8;
  EXPECT_NEAR(two.losses[0], 0.5 * mean * (130 * 0.25 + 10 * 0.0625), 1e-4);
}

TEST(Executor, nonFiniteStepLeavesStatesAsTheyWere) {
  for (int stage : {0, 2, 3}) {
    Outcome before = train(makeTinyProgram(2, stage), 2), after = train(makeTinyProgram(2, stage), 3, true, 2);
    EXPECT_TRUE(std::isnan(after.norms[2]));
    EXPECT_EQ(before.a, after.a);
    EXPECT_EQ(before.b, after.b);
  }
}

TEST(Executor, measuresWhatItReached) {
  for (int stage : {0, 1, 2, 3}) {
    Program program = makeTinyProgram(4, stage);
    Outcome outcome = train(program, 1);
    int64_t highest = 0;
    for (const Buffer &buffer : program.buffers)
      highest = std::max(highest, buffer.offset + buffer.bytes);
    EXPECT_EQ(outcome.peak.measured, highest);
    EXPECT_EQ(outcome.peak.planned, program.arenas[0].bytes);
    EXPECT_LE(outcome.peak.live, outcome.peak.measured);
    // An arena that claims more than its buffers use is noticed.
    program.arenas[0].bytes += 4096;
    EXPECT_NE(train(program, 1).peak.measured, program.arenas[0].bytes);
  }
}

TEST(Executor, poisonShowsAReadOfADeadBuffer) {
  Program program = makeTinyProgram(2, 2);
  // Reads `local gradient` in apply_step only through a buffer of another name that shares its bytes: dead there.
  Buffer alias;
  for (const Buffer &buffer : program.buffers)
    if (buffer.name == "local gradient")
      alias = buffer;
  alias.name = "alias";
  program.buffers.push_back(alias);
  Command copy;
  copy.kind = Command::Kind::Copy;
  copy.buffers = {BufferId(program.buffers.size() - 1), program.buckets[0].gradient};
  copy.bytes = program.buckets[0].sliceElements * 4;
  auto &apply = program.sequences[1].commands;
  apply.insert(apply.begin(), copy);
  EXPECT_FALSE(std::isnan(train(program, 1, false).norms[0]));
  EXPECT_TRUE(std::isnan(train(program, 1, true).norms[0]));
}

TEST(Executor, refusesAnotherWorld) {
  Program program = makeTinyProgram(2, 0);
  auto communicators = makeLocalWorld(1);
  Result<std::unique_ptr<Executor>> created = Executor::create(program, tinyKernels(), *communicators[0], {});
  ASSERT_TRUE(created.failed());
  EXPECT_EQ(created.getStatus().message(), "the plan is for 2 ranks, but 1 run");
}

TEST(ArenaMemory, endsAtAGuardPage) {
  Result<ArenaMemory> memory = ArenaMemory::allocate({"device", Tier::Device, 8192});
  ASSERT_FALSE(memory.failed());
  memory->data()[8191] = 1;
  // By the signal itself: a sanitizer's handler would report it.
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_DFL);
        static_cast<volatile char *>(memory->data())[8192] = 1;
      },
      testing::KilledBySignal(SIGSEGV), "");
}

TEST(ProgramFile, roundTrips) {
  Program program = makeTinyProgram(4, 3, 2);
  Result<Program> read = deserializeProgram(serializeProgram(program), "p");
  ASSERT_FALSE(read.failed()) << read.getStatus().message();
  EXPECT_EQ(programToText(*read), programToText(program));
}

TEST(ProgramFile, refusesEveryTruncationAndAnyFlippedByte) {
  std::vector<uint8_t> bytes = serializeProgram(makeTinyProgram(2, 3));
  for (size_t size = 0; size < bytes.size(); size += size < 64 ? 1 : 37) {
    Result<Program> read = deserializeProgram(std::vector<uint8_t>(bytes.begin(), bytes.begin() + size), "p");
    ASSERT_TRUE(read.failed()) << size;
    EXPECT_EQ(read.getStatus().kind(), ErrorKind::Input);
  }
  for (size_t at = 0; at < bytes.size(); at += 13) {
    std::vector<uint8_t> damaged = bytes;
    damaged[at] ^= 0x10;
    EXPECT_TRUE(deserializeProgram(damaged, "p").failed()) << at;
  }
}

TEST(ProgramVerifier, refusesWhatWouldLeaveTheArena) {
  auto refused = [](const std::function<void(Program &)> &edit, const std::string &part) {
    Program program = makeTinyProgram(2, 3);
    edit(program);
    Status status = verifyProgram(program);
    ASSERT_TRUE(status.failed()) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  };
  refused([](Program &p) { p.arenas[0].bytes -= 64; }, "of arena 'device'");
  refused([](Program &p) { p.buffers[1].rankStride = 1 << 20; }, "of arena 'device'");
  refused([](Program &p) { p.buffers[0].offset = -64; }, "offset -64");
  refused([](Program &p) { p.buffers[0].bytes -= 4; }, "bucket 'bucket0' parameters");
  refused([](Program &p) { p.states[0].offset = 512; }, "state 'b'");
  refused([](Program &p) { p.sequences[0].commands.pop_back(); }, "never waited for");
  refused([](Program &p) { p.sequences[0].commands.push_back(p.sequences[0].commands.back()); }, "was not started");
  refused([](Program &p) { p.sequences[0].commands[3].kernel = 7; }, "kernel 7 of 7");
  refused([](Program &p) { p.sequences[0].commands[1].bytes *= 2; }, "which has");
  refused([](Program &p) { p.sequences[1].commands[2].decays.pop_back(); }, "decays");
  refused([](Program &p) { p.sequences[1].commands[2].rates = {1.0}; }, "rates");
  refused([](Program &p) { p.sequences[1].commands[2].norms = {0, 0}; }, "2 buffers of norms");
  refused([](Program &p) { p.sequences[1].commands[0].buckets[0] = 5; }, "bucket 5");
}

} // namespace
