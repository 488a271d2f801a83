//===- RunSettings.cpp - what a config of zrun does to a plan -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Config.h"
#include <algorithm>
#include <cstdlib>

namespace zopt::config {

namespace {

/// Flags of zopt that zrun has too: they change a run, and not what is compiled.
bool isOfBoth(const std::string &flag) {
  for (const char *name : {"lr", "clip", "weight-decay", "schedule"})
    if (flag == name)
      return true;
  return false;
}

/// The same text, or the same numbers in another spelling (1e-8 and 1e-08; lists by their commas).
bool sameValue(const std::string &a, const std::string &b) {
  if (a == b)
    return true;
  size_t i = 0, j = 0;
  while (true) {
    char *endA = nullptr, *endB = nullptr;
    const double x = std::strtod(a.c_str() + i, &endA), y = std::strtod(b.c_str() + j, &endB);
    const size_t nextA = size_t(endA - a.c_str()), nextB = size_t(endB - b.c_str());
    if (nextA == i || nextB == j || x != y)
      return false;
    const bool overA = nextA == a.size(), overB = nextB == b.size();
    if (overA || overB)
      return overA && overB;
    if (a[nextA] != ',' || b[nextB] != ',')
      return false;
    i = nextA + 1;
    j = nextB + 1;
  }
}

} // namespace

RunSettings settleRun(const Resolved &resolved, const std::map<std::string, std::string> &compiled, int64_t microBatch,
                      int64_t accumSteps, int64_t ranks) {
  RunSettings run;
  auto refuse = [&](const Setting &setting, const std::string &plans) {
    run.refused.push_back({setting.key, "asks for --" + setting.flag + "=" + setting.value +
                                            ", but the plan was compiled with " + plans +
                                            ": compile it anew with zopt, or leave the key out"});
  };
  for (const Setting &setting : resolved.settings) {
    if (setting.origin != Origin::Config)
      continue; // a flag overrides it, or the config does not speak of it
    if (setting.ofRun || isOfBoth(setting.flag)) {
      run.flags[setting.flag] = setting.value;
      continue;
    }
    const std::string batch = "a micro-batch of " + std::to_string(microBatch) + ", " + std::to_string(accumSteps) +
                              (accumSteps == 1 ? " micro-step and " : " micro-steps and ") + std::to_string(ranks) +
                              (ranks == 1 ? " rank" : " ranks");
    if (setting.flag == "micro-batch" || setting.flag == "grad-accum") {
      if (setting.value != std::to_string(setting.flag == "micro-batch" ? microBatch : accumSteps))
        refuse(setting, batch);
    } else if (setting.flag == "global-batch") {
      if (setting.value != std::to_string(microBatch * accumSteps * ranks))
        refuse(setting, "a global batch of " + std::to_string(microBatch * accumSteps * ranks) + " (" + batch + ")");
    } else if (setting.value != "auto") {
      const bool precision = setting.flag == "bf16" || setting.flag == "fp16" || setting.flag == "fp32";
      auto it = compiled.find(precision ? "precision" : setting.flag);
      // `precision` of the plan is a word; a type of gradients that nobody asked for is the precision's.
      std::string plans = it == compiled.end() ? "" : it->second;
      if (it == compiled.end() && setting.flag == "grad-dtype" && compiled.count("precision"))
        plans = compiled.at("precision");
      if (!plans.empty() && !sameValue(precision ? setting.flag : setting.value, plans))
        refuse(setting, precision ? "--" + plans : "--" + setting.flag + "=" + plans);
    }
  }
  return run;
}

} // namespace zopt::config
