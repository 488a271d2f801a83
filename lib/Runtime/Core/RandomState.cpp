//===- RandomState.cpp - what random numbers of a step depend on ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/RandomState.h"
#include <algorithm>

namespace zopt::runtime {

namespace {
constexpr int64_t kCounterRange = int64_t(1) << 32;
}

bool drawsRandomNumbers(const Program &program) {
  return std::any_of(program.states.begin(), program.states.end(),
                     [](const State &state) { return state.name == "zopt.seed"; });
}

Status RandomState::begin(Executor &executor, uint64_t seed) {
  draws = drawsRandomNumbers(executor.getProgram());
  firstSample = -1;
  return draws ? executor.write("zopt.seed", double(uint32_t(seed) ^ uint32_t(seed >> 32))) : success();
}

Status RandomState::beginStep(Executor &executor, int64_t step) {
  if (!draws)
    return success();
  if (step >= kCounterRange)
    return runtimeError("step ", step + 1, " has no random numbers: their counter ends at ", kCounterRange);
  return executor.write("zopt.random_step", double(step));
}

Status RandomState::beginMicroStep(Executor &executor, int64_t microStep) {
  const Program &program = executor.getProgram();
  const int64_t sample = (microStep * program.worldSize + executor.getCommunicator().rank()) * program.microBatch;
  if (!draws || sample == firstSample)
    return success();
  firstSample = sample;
  return executor.write("zopt.first_sample", double(sample));
}

} // namespace zopt::runtime
