//===- ScheduleTest.cpp - the learning rate, step by step -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Schedule.h"
#include <cmath>
#include <gtest/gtest.h>
#include <vector>

using namespace zopt::runtime;

namespace {

Schedule parse(const std::string &text) {
  Result<Schedule> schedule = Schedule::parse(text);
  EXPECT_FALSE(schedule.failed()) << schedule.getStatus().message();
  return schedule.failed() ? Schedule() : *schedule;
}

std::string refusal(const std::string &text) {
  Result<Schedule> schedule = Schedule::parse(text);
  return schedule.failed() ? schedule.getStatus().message() : "accepted";
}

/// The rates of optimizer steps 1, 2, ..., against numbers printed with five digits behind the point.
void expectRates(const std::string &text, double learningRate, const std::vector<double> &expected) {
  Schedule schedule = parse(text);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(schedule.rate(int64_t(i), learningRate), expected[i], 0.5e-5) << text << ", step " << i + 1;
}

// What DeepSpeed's own classes gave, as they ran.
TEST(Schedule, GivesWhatDeepSpeedsSchedulersGive) {
  expectRates("WarmupLR,warmup_max_lr=1,warmup_num_steps=5", 9, {0, 0, .43068, .68261, .86135, 1, 1});
  expectRates("WarmupLR,warmup_max_lr=1,warmup_num_steps=5,warmup_type=linear", 9, {0, 0, .2, .4, .6, .8, 1, 1});
  expectRates("WarmupDecayLR,total_num_steps=10,warmup_max_lr=1,warmup_num_steps=4,warmup_type=linear", 9,
              {0, 0, .25, .5, .75, 1, .83333, .66667, .5, .33333, .16667, 0});
  expectRates("WarmupCosineLR,total_num_steps=10,warmup_num_steps=4,warmup_type=linear", .1,
              {0, 0, .025, .05, .075, .0933, .075, .05001, .02501, .00671, 1e-5});
  expectRates("OneCycle,cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=4,decay_step_size=2,decay_lr_rate=.5,"
              "cycle_momentum=false",
              9, {.1, .325, .55, .775, 1, .775, .55, .325, .1, .08, .06667, .05714});
}

TEST(Schedule, CyclesTheMomentumAsDeepSpeedDoes) {
  // deepspeed/runtime/lr_schedules.py of 0.19.8 on torch.optim.AdamW: the first beta that each step used.
  auto expectMomenta = [](const std::string &text, std::vector<double> expected) {
    Schedule schedule = parse("OneCycle,cycle_min_lr=.1,cycle_max_lr=1," + text);
    EXPECT_TRUE(schedule.cyclesMomentum());
    for (size_t step = 0; step < expected.size(); ++step)
      EXPECT_NEAR(schedule.momentum(int64_t(step)), expected[step], .5e-5) << text << ", step " << step + 1;
  };
  expectMomenta("cycle_first_step_size=4,decay_step_size=2,cycle_min_mom=.8,cycle_max_mom=.9,decay_mom_rate=.01",
                {.8, .875, .85, .825, .8, .825, .85, .875, .9, .9045, .909, .9135});
  expectMomenta("cycle_first_step_size=4,cycle_first_stair_count=2",
                {.8, .9, .85, .85, .8, .85, .85, .9, .9, .9, .9, .9});
  expectMomenta("cycle_first_step_size=3,cycle_second_step_size=5,cycle_min_mom=.85,cycle_max_mom=.99,decay_mom_rate="
                ".01",
                {.85, .94333, .89667, .85, .878, .906, .934, .962, .99, .99, .99, .99});
  EXPECT_FALSE(parse("OneCycle,cycle_min_lr=.1,cycle_max_lr=1,cycle_momentum=false").cyclesMomentum());
  EXPECT_FALSE(parse("linear").cyclesMomentum());
}

TEST(Schedule, TakesTheOptimizersRateWhereNoMaximumIsGiven) {
  expectRates("WarmupLR,warmup_num_steps=2,warmup_type=linear", .5, {0, 0, .25, .5, .5});
  expectRates("WarmupLR,warmup_min_lr=.1,warmup_num_steps=2,warmup_type=linear", .5, {.1, .1, .3, .5});
  // warmup_max_lr is 0.001 for WarmupDecayLR, whatever the optimizer's rate.
  EXPECT_NEAR(parse("WarmupDecayLR,total_num_steps=100,warmup_num_steps=2").rate(3, 7), .001, 1e-9);
}

TEST(Schedule, StaysAtItsEnd) {
  Schedule decay = parse("WarmupDecayLR,total_num_steps=10,warmup_max_lr=1,warmup_num_steps=4");
  EXPECT_EQ(decay.rate(11, 1), 0);
  EXPECT_EQ(decay.rate(1000, 1), 0);
  Schedule cosine = parse("WarmupCosineLR,total_num_steps=10,warmup_num_steps=4");
  EXPECT_NEAR(cosine.rate(1000, 1), 1e-4, 1e-12);
  EXPECT_NEAR(parse("cosine,total_steps=10,min_lr=.01").rate(1000, 1), .01, 1e-12);
  EXPECT_NEAR(parse("linear,total_steps=10").rate(1000, 1), 0, 1e-12);
  EXPECT_NEAR(
      parse("OneCycle,cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=4,cycle_momentum=false").rate(1000, 1), .1,
      1e-12);
}

TEST(Schedule, ClimbsInStairs) {
  expectRates("LRRangeTest,lr_range_test_min_lr=.1,lr_range_test_step_size=2,lr_range_test_step_rate=3", 9,
              {.1, .25, .4, .55, .7});
  expectRates("LRRangeTest,lr_range_test_min_lr=.1,lr_range_test_step_size=2,lr_range_test_step_rate=3,lr_range_test_"
              "staircase=true",
              9, {.1, .1, .4, .4, .7});
  expectRates(
      "OneCycle,cycle_min_lr=0,cycle_max_lr=1,cycle_first_step_size=4,cycle_first_stair_count=2,cycle_momentum=false",
      9, {0, 0, .5, .5, 1, .5, .5, 0, 0});
}

TEST(Schedule, GivesWhatHuggingFacesSchedulesGive) {
  expectRates("constant", .1, {.1, .1, .1});
  expectRates("constant,warmup_steps=2", .1, {0, .05, .1, .1});
  expectRates("linear,warmup_steps=2,total_steps=6", 1, {0, .5, 1, .75, .5, .25, 0});
  expectRates("cosine,warmup_steps=2,total_steps=6", 1, {0, .5, 1, .85355, .5, .14645, 0});
  expectRates("cosine,total_steps=4,min_lr=.2", 1, {1, .88284, .6, .31716, .2});
  expectRates("", .1, {.1, .1, .1});
}

TEST(Schedule, LeavesItsEndToTheRun) {
  for (const char *text :
       {"linear", "cosine", "WarmupDecayLR,warmup_max_lr=1,warmup_num_steps=2", "WarmupCosineLR,warmup_num_steps=2"}) {
    Schedule open = parse(text);
    ASSERT_TRUE(open.needsTotalSteps()) << text;
    open.setTotalSteps(8);
    EXPECT_FALSE(open.needsTotalSteps()) << text;
    Schedule closed =
        parse(std::string(text) + (std::string(text).find('W') == 0 ? ",total_num_steps=8" : ",total_steps=8"));
    EXPECT_FALSE(closed.needsTotalSteps()) << text;
    for (int64_t step = 0; step < 12; ++step)
      EXPECT_EQ(open.rate(step, .3), closed.rate(step, .3)) << text;
  }
  EXPECT_FALSE(parse("constant").needsTotalSteps());
  EXPECT_FALSE(parse("WarmupLR").needsTotalSteps());
}

TEST(Schedule, TellsEveryProblem) {
  EXPECT_NE(refusal("Warmup").find("'Warmup', expected one of WarmupLR, WarmupDecayLR"), std::string::npos)
      << refusal("Warmup");
  std::string text = refusal(
      "WarmupLR,warmup_num_steps=2.5,warmup_steps=3,warmup_type=sqrt,warmup_min_lr=-1,warmup_max_lr,warmup_max_lr=nan");
  for (const char *part :
       {"warmup_num_steps is '2.5', expected a whole number of at least 1", "'warmup_steps' is none of its parameters",
        "warmup_type is 'sqrt', expected log or linear", "warmup_min_lr is '-1', expected a number of at least 0",
        "'warmup_max_lr' is no key=value", "warmup_max_lr is 'nan'"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  EXPECT_NE(refusal("linear,total_steps=3,total_steps=4").find("total_steps is given twice"), std::string::npos);
  text = refusal("OneCycle,cycle_max_lr=1");
  EXPECT_NE(text.find("cycle_min_lr is missing"), std::string::npos) << text;
  text = refusal("OneCycle,cycle_min_lr=0,cycle_max_lr=1,cycle_min_mom=0,cycle_max_mom=1");
  for (const char *part : {"cycle_min_mom is 0, expected more than 0", "cycle_max_mom is 1, expected more than 0"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
}

} // namespace
