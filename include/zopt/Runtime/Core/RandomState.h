//===- RandomState.h - what random numbers of a step depend on ---*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_RANDOMSTATE_H
#define ZOPT_RUNTIME_CORE_RANDOMSTATE_H

#include "zopt/Runtime/Core/Executor.h"

namespace zopt::runtime {

/// Whether a program draws random numbers, so that its results depend on the seed.
bool drawsRandomNumbers(const Program &program);

/// Sets the states zopt.seed, zopt.random_step and zopt.first_sample (zopt-add-random-state says what they mean) of a
/// program that has them; does nothing for others. Values are written where they change only.
class RandomState {
public:
  /// After the states have their first values, and again after they were set anew. The key has 32 bits for a seed: its
  /// lower half, exclusive or its upper half.
  Status begin(Executor &executor, uint64_t seed);
  /// `step`: steps of the run so far, of runs that it goes on from and skipped ones too.
  Status beginStep(Executor &executor, int64_t step);
  /// Before micro-step `microStep` of the step.
  Status beginMicroStep(Executor &executor, int64_t microStep);

private:
  bool draws = false;
  int64_t firstSample = -1;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_RANDOMSTATE_H
