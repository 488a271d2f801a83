//===- States.h - first and last values of states ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Gives a rank's states their first values, each rank only its slices, and puts logical tensors together again from the slices of all ranks.
//
// Masters start from the unrounded values of the weight file; parameters of a narrower compute type are rounded from the masters; padding is 0, and so are the optimizer's states.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_STATES_H
#define ZOPT_RUNTIME_CORE_STATES_H

#include "zopt/Runtime/Core/Executor.h"
#include <functional>
#include <string>
#include <vector>

namespace zopt::runtime {

enum class Initialization { Model, Normal, Gpt2 };

/// Values of a state from elsewhere than the plan's weight files.
struct StateSource {
  /// The state's elements [begin, begin + count) in its own layout, in its type.
  std::function<Status(const State &state, int64_t begin, int64_t count, void *destination)> read;
  /// Which states it has; where that is empty: parameters and buffers, all of them. What it has of others (optimizer slots, as PARAMETER.SLOT; scalars) is read too.
  std::function<bool(const State &state)> covers;
};

class InitialNumbers;

struct InitializationOptions {
  Initialization kind = Initialization::Model;
  double standardDeviation = 0.02;
  uint64_t seed = 0;
  std::string planDirectory;           // that weight files are relative to
  const StateSource *weights = nullptr; // --weights: for every parameter and buffer, before `kind`
  InitialNumbers *ahead = nullptr;      // what it has is taken from it
};

/// Parses "model", "normal:STD" and "gpt2".
Status parseInitialization(const std::string &text, InitializationOptions &options);

/// Problems of the plan's weight files, all at once: missing, of another size, or changed since the plan was made. Needed only where initializeStates will read them.
Status checkWeightFiles(const Program &program, const InitializationOptions &options);

Status initializeStates(Executor &executor, const InitializationOptions &options);

/// Numbers that depend on (seed, state, element) alone, so that every world makes the same ones: element `index` of a state's normal distribution.
double normalNumber(uint64_t seed, const std::string &state, int64_t index, double standardDeviation);

/// The state that a slot of the optimizer is, for a parameter in the bucket: PARAMETER.SLOT.
State slotState(const State &parameter, const Bucket &bucket, size_t slot);

/// Which values of a state: its own, its reduced gradient, or its moving average.
enum class StateValue { Current, Gradient, Average };

/// Calls `sink` on rank 0 with pieces of the logical tensor `state` in order, as fp32 (f64 where the state is f64); every rank must call it. Gradients are multiplied by `scale`, and
/// read from `gradient`, a copy of the bucket's, where given.
Status collectState(Executor &executor, const State &state, StateValue value, double scale, const std::function<Status(const void *data, int64_t elements)> &sink, const char *gradient = nullptr);
/// F32, or F64 for states of that type.
DataType collectedType(const State &state);
/// The moving average of a bucket's parameters, where its optimizer keeps one; otherwise -1.
BufferId averageOf(const Bucket &bucket);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_STATES_H
