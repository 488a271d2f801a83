//===- Schedule.cpp - the learning rate, step by step ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Schedule.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

namespace zopt::runtime {

namespace {

/// What a parameter may be. A count is a whole number of at least `least`.
enum class Value { Count, Number, Flag, Warmup };

struct Parameter {
  const char *name;
  Value value;
  double least;
  double otherwise; // NaN: none
};

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kPi = 3.14159265358979323846;
constexpr Parameter kTotal = {"total_num_steps", Value::Count, 1, kNone};
constexpr Parameter kWarmupSteps = {"warmup_num_steps", Value::Count, 1, 1000};
constexpr Parameter kWarmupType = {"warmup_type", Value::Warmup, 0, 0};
constexpr Parameter kMinimum = {"warmup_min_lr", Value::Number, 0, 0};

struct Type {
  const char *name;
  Schedule::Kind kind;
  std::vector<Parameter> parameters;
  std::vector<const char *> required;
};

const std::vector<Type> &types() {
  static const std::vector<Type> all = {
      {"WarmupLR",
       Schedule::Kind::WarmupLR,
       {kMinimum, {"warmup_max_lr", Value::Number, 0, kNone}, kWarmupSteps, kWarmupType},
       {}},
      {"WarmupDecayLR",
       Schedule::Kind::WarmupDecayLR,
       {kTotal, kMinimum, {"warmup_max_lr", Value::Number, 0, 1e-3}, kWarmupSteps, kWarmupType},
       {}},
      {"WarmupCosineLR",
       Schedule::Kind::WarmupCosineLR,
       {kTotal,
        {"warmup_min_ratio", Value::Number, 0, 0},
        kWarmupSteps,
        {"cos_min_ratio", Value::Number, 0, 1e-4},
        kWarmupType},
       {}},
      {"OneCycle",
       Schedule::Kind::OneCycle,
       {{"cycle_min_lr", Value::Number, 0, kNone},
        {"cycle_max_lr", Value::Number, 0, kNone},
        {"decay_lr_rate", Value::Number, 0, 0},
        {"cycle_first_step_size", Value::Count, 1, 2000},
        {"cycle_second_step_size", Value::Count, 1, kNone},
        {"cycle_first_stair_count", Value::Count, 0, 0},
        {"cycle_second_stair_count", Value::Count, 0, kNone},
        {"decay_step_size", Value::Count, 0, 0},
        {"cycle_momentum", Value::Flag, 0, 1},
        {"cycle_min_mom", Value::Number, 0, 0.8},
        {"cycle_max_mom", Value::Number, 0, 0.9},
        {"decay_mom_rate", Value::Number, 0, 0}},
       {"cycle_min_lr", "cycle_max_lr"}},
      {"LRRangeTest",
       Schedule::Kind::LRRangeTest,
       {{"lr_range_test_min_lr", Value::Number, 0, 1e-3},
        {"lr_range_test_step_size", Value::Count, 1, 2000},
        {"lr_range_test_step_rate", Value::Number, 0, 1},
        {"lr_range_test_staircase", Value::Flag, 0, 0}},
       {}},
      {"constant",
       Schedule::Kind::Constant,
       {{"warmup_steps", Value::Count, 0, 0}, {"total_steps", Value::Count, 1, kNone}, {"min_lr", Value::Number, 0, 0}},
       {}},
      {"linear",
       Schedule::Kind::Linear,
       {{"warmup_steps", Value::Count, 0, 0}, {"total_steps", Value::Count, 1, kNone}, {"min_lr", Value::Number, 0, 0}},
       {}},
      {"cosine",
       Schedule::Kind::Cosine,
       {{"warmup_steps", Value::Count, 0, 0}, {"total_steps", Value::Count, 1, kNone}, {"min_lr", Value::Number, 0, 0}},
       {}},
  };
  return all;
}

/// The value of a parameter, or what it should have been.
bool readValue(const Parameter &parameter, const std::string &text, double &value, std::string &expected) {
  if (parameter.value == Value::Flag) {
    expected = "true or false";
    value = text == "true" || text == "True" || text == "1";
    return value == 1 || text == "false" || text == "False" || text == "0";
  }
  if (parameter.value == Value::Warmup) {
    expected = "log or linear";
    value = text == "linear";
    return value == 1 || text == "log";
  }
  expected = concat(parameter.value == Value::Count ? "a whole number" : "a number", " of at least ", parameter.least);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value) && value >= parameter.least &&
         (parameter.value != Value::Count || (value == std::floor(value) && value <= 1e15));
}

} // namespace

Result<Schedule> Schedule::parse(const std::string &text) {
  if (text.empty())
    return Schedule();
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto type =
      std::find_if(types().begin(), types().end(), [&](const Type &candidate) { return parts[0] == candidate.name; });
  if (type == types().end()) {
    std::string names;
    for (const Type &candidate : types())
      names += (names.empty() ? "" : ", ") + std::string(candidate.name);
    return usageError("the schedule is '", parts[0], "', expected one of ", names);
  }
  Schedule schedule;
  schedule.kind = type->kind;
  schedule.numbers.clear();
  std::string problems;
  auto problem = [&](const std::string &what) { problems += (problems.empty() ? "" : "; ") + what; };
  for (size_t i = 1; i < parts.size(); ++i) {
    size_t equals = parts[i].find('=');
    if (equals == std::string::npos) {
      problem(concat("'", parts[i], "' is no key=value"));
      continue;
    }
    std::string key = parts[i].substr(0, equals), value = parts[i].substr(equals + 1), expected;
    auto parameter = std::find_if(type->parameters.begin(), type->parameters.end(),
                                  [&](const Parameter &candidate) { return key == candidate.name; });
    double read = 0;
    if (parameter == type->parameters.end()) {
      std::string names;
      for (const Parameter &known : type->parameters)
        names += (names.empty() ? "" : ", ") + std::string(known.name);
      problem(concat("'", key, "' is none of its parameters ", names));
    } else if (schedule.numbers.count(key)) {
      problem(concat(key, " is given twice"));
    } else if (!readValue(*parameter, value, read, expected)) {
      problem(concat(key, " is '", value, "', expected ", expected));
    } else {
      schedule.numbers[key] = read;
    }
  }
  for (const char *required : type->required)
    if (!schedule.has(required) && text.find(concat(required, "=")) == std::string::npos)
      problem(concat(required, " is missing"));
  for (const Parameter &parameter : type->parameters)
    if (!std::isnan(parameter.otherwise))
      schedule.numbers.insert({parameter.name, parameter.otherwise});
  if (schedule.cyclesMomentum())
    for (const char *key : {"cycle_min_mom", "cycle_max_mom"})
      if (const double momentum = schedule.number(key); !(momentum > 0 && momentum < 1))
        problem(concat(key, " is ", momentum, ", expected more than 0 and less than 1"));
  if (!problems.empty())
    return usageError("schedule ", parts[0], ": ", problems);
  schedule.linearWarmup = schedule.has("warmup_type") && schedule.number("warmup_type") != 0;
  return schedule;
}

bool Schedule::needsTotalSteps() const {
  switch (kind) {
  case Kind::Linear:
  case Kind::Cosine:
    return !has("total_steps");
  case Kind::WarmupDecayLR:
  case Kind::WarmupCosineLR:
    return !has("total_num_steps");
  default:
    return false;
  }
}

void Schedule::setTotalSteps(int64_t steps) {
  numbers[kind == Kind::Linear || kind == Kind::Cosine ? "total_steps" : "total_num_steps"] = double(steps);
}

/// How far DeepSpeed's warm-up has come; nothing where it is over.
std::optional<double> Schedule::warmup(double iteration) const {
  const double steps = std::max(2.0, number("warmup_num_steps"));
  if (iteration >= steps)
    return {};
  return linearWarmup ? iteration / steps : 1.0 / std::log(steps) * std::log(iteration + 1);
}

/// How far the rate is from its least to its most, 0 to 1, within the cycle.
double Schedule::cycleFactor(double iteration, double first, double second) const {
  const double total = first + second, ratio = first / total;
  const double batch = iteration + 1, x = 1.0 + batch / total - std::floor(1 + batch / total);
  const bool rising = x <= ratio;
  double factor = rising ? x / ratio : (x - 1) / (ratio - 1);
  const double stairs = rising || !has("cycle_second_stair_count") ? number("cycle_first_stair_count")
                                                                   : number("cycle_second_stair_count");
  if (stairs > 0) {
    const double place = std::fmod(batch, total);
    factor = std::floor(place <= first ? place * stairs / first : (total - place) * stairs / second) / stairs;
  }
  return factor;
}

double Schedule::momentum(int64_t applied) const {
  // DeepSpeed begins at the least momentum, where the rate is least too; its cycle begins in the second step.
  const double iteration = double(applied) - 1, first = number("cycle_first_step_size"),
               second = has("cycle_second_step_size") ? number("cycle_second_step_size") : first;
  const double least = number("cycle_min_mom"), most = number("cycle_max_mom"), total = first + second;
  if (iteration < 0)
    return least;
  if (iteration < total)
    return most - (most - least) * cycleFactor(iteration, first, second);
  const double interval = number("decay_step_size");
  return interval == 0 ? most : most * (1 + number("decay_mom_rate") * ((iteration - total + 1) / interval));
}

double Schedule::oneCycle(double iteration) const {
  const double first = number("cycle_first_step_size"),
               second = has("cycle_second_step_size") ? number("cycle_second_step_size") : first;
  const double total = first + second, minimum = number("cycle_min_lr");
  if (iteration >= total) {
    const double interval = number("decay_step_size"), decay = number("decay_lr_rate");
    return interval == 0 || decay == 0 ? minimum : minimum / (1 + decay * ((iteration - total + 1) / interval));
  }
  return minimum + (number("cycle_max_lr") - minimum) * cycleFactor(iteration, first, second);
}

double Schedule::rate(int64_t applied, double learningRate) const {
  // DeepSpeed's last_batch_iteration: -1 before the first step, 0 in the second. Its warm-ups begin with two steps of
  // the least rate.
  const double iteration = double(applied) - 1;
  switch (kind) {
  case Kind::WarmupLR:
  case Kind::WarmupDecayLR: {
    const double minimum = number("warmup_min_lr"),
                 maximum = has("warmup_max_lr") ? number("warmup_max_lr") : learningRate;
    if (iteration < 0)
      return minimum;
    std::optional<double> gamma = warmup(iteration);
    if (!gamma && kind == Kind::WarmupDecayLR) {
      const double total = number("total_num_steps");
      gamma = std::max(0.0, (total - iteration) / std::max(1.0, total - std::max(2.0, number("warmup_num_steps"))));
    }
    return minimum + (maximum - minimum) * gamma.value_or(1.0);
  }
  case Kind::WarmupCosineLR: {
    if (iteration < 0)
      return 0;
    if (std::optional<double> gamma = warmup(iteration))
      return learningRate * (number("warmup_min_ratio") + *gamma * (1.0 - number("warmup_min_ratio")));
    const double steps = std::max(2.0, number("warmup_num_steps"));
    const double progress = std::min(1.0, (iteration - steps + 1) / std::max(1.0, number("total_num_steps") - steps));
    return learningRate * std::max(0.0, number("cos_min_ratio") +
                                            (1.0 - number("cos_min_ratio")) * ((1 + std::cos(kPi * progress)) / 2));
  }
  case Kind::OneCycle:
    return iteration < 0 ? number("cycle_min_lr") : oneCycle(iteration);
  case Kind::LRRangeTest: {
    const double interval = (iteration + 1) / number("lr_range_test_step_size");
    return number("lr_range_test_min_lr") *
           (1 + number("lr_range_test_step_rate") *
                    (number("lr_range_test_staircase") != 0 ? std::floor(interval) : interval));
  }
  case Kind::Constant:
  case Kind::Linear:
  case Kind::Cosine: {
    const double done = double(applied), steps = number("warmup_steps"), minimum = number("min_lr");
    if (done < steps)
      return learningRate * (done / steps);
    if (kind == Kind::Constant)
      return learningRate;
    const double progress = std::min(1.0, (done - steps) / std::max(1.0, number("total_steps") - steps));
    const double factor = kind == Kind::Linear ? 1 - progress : (1 + std::cos(kPi * progress)) / 2;
    return minimum + (learningRate - minimum) * factor;
  }
  }
  return learningRate;
}

} // namespace zopt::runtime
