//===- Schedule.h - the learning rate, step by step -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// DeepSpeed's five schedulers (deepspeed/runtime/lr_schedules.py) with its names of parameters, and the three of
// Hugging Face's trainer (constant, linear, cosine; transformers/optimization.py). As text `TYPE[,key=value...]`, which
// is how flags, plans and Programs carry them. docs/Optimizers.md has the formulas.
//
// A rate depends on the number of steps applied so far: a skipped step moves no schedule, as in DeepSpeed.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_SCHEDULE_H
#define ZOPT_RUNTIME_CORE_SCHEDULE_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace zopt::runtime {

class Schedule {
public:
  enum class Kind { Constant, Linear, Cosine, WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest };

  /// A constant rate.
  Schedule() = default;
  /// Reads `text`; empty is a constant rate. The message of a failure has every problem of the text.
  static Result<Schedule> parse(const std::string &text);

  /// Whether the schedule ends at a number of steps that its text left open. `setTotalSteps` says it; rate() asks for
  /// nothing else.
  bool needsTotalSteps() const;
  void setTotalSteps(int64_t steps);

  /// The rate of the step that follows `applied` applied ones (0, 1, ...). `learningRate` is the optimizer's own, which
  /// most schedules scale.
  double rate(int64_t applied, double learningRate) const;

  /// Whether the momentum (Adam's first beta) cycles against the rate: OneCycle.
  bool cyclesMomentum() const { return kind == Kind::OneCycle && number("cycle_momentum") != 0; }
  /// The momentum of the step that follows `applied` applied ones, of a schedule that cycles it. May reach 1 where it
  /// grows after the cycle.
  double momentum(int64_t applied) const;

private:
  bool has(const char *key) const { return numbers.count(key) != 0; }
  double number(const char *key) const { return numbers.at(key); }
  std::optional<double> warmup(double iteration) const;
  double cycleFactor(double iteration, double first, double second) const;
  double oneCycle(double iteration) const;

  Kind kind = Kind::Constant;
  bool linearWarmup = false; // DeepSpeed's warmup_type; otherwise logarithmic
  std::map<std::string, double> numbers{{"warmup_steps", 0},
                                        {"min_lr", 0}}; // parameters that were given or have a default
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_SCHEDULE_H
