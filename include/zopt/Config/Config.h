//===- Config.h - a DeepSpeed config as flags --------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A config is sugar for flags: each honoured key becomes a flag of zopt, and remembers where its value came from. Knows neither MLIR nor the runtime's ranks, so that zopt and zrun share it.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONFIG_CONFIG_H
#define ZOPT_CONFIG_CONFIG_H

#include "zopt/Config/Document.h"
#include <cstdint>
#include <functional>
#include <optional>

namespace zopt::config {

enum class Origin { Flag, Config, Auto, DeepSpeedDefault, Default };

/// "flag", "config", "auto", "DeepSpeed's default", "zopt's default".
const char *originName(Origin origin);

/// A flag (without dashes) and its value.
struct Setting {
  std::string flag, value;
  Origin origin = Origin::Default;
  std::string key;    ///< of the config; empty: none
  bool ofRun = false; ///< a flag of zrun: zopt writes it into the plan
};

/// What the config is resolved against.
struct Request {
  std::map<std::string, std::string> given; ///< flags of the command line, without dashes: they override
  int64_t ranks = 0;                        ///< --nproc; 0: not known
  std::optional<int64_t> hiddenSize;        ///< of the model, for "auto" bucket sizes
  bool partial =
      false; ///< what the config does not say is said elsewhere (zrun: by the plan), so that nothing is required
  std::map<std::string, std::string> compiled; ///< with `partial`: zopt's flags that the plan was made with
};

struct Resolved {
  std::vector<Setting> settings;
  std::vector<Finding> refused, warnings, noEffect, notes;
  std::string model;            ///< of a job: zopt's input; empty: not named
  bool needsHiddenSize = false; ///< some "auto" is left to zopt's default until the model is known

  bool accepted(bool strict) const { return refused.empty() && (!strict || (warnings.empty() && noEffect.empty())); }
  const Setting *find(const std::string &flag) const;
};

/// Resolves what was read into flags. All problems are in `refused`. Never throws.
Resolved resolve(const Document &document, const Request &request);

/// The text of a file, or nothing where it cannot be read.
using ReadFile = std::function<std::optional<std::string>(const std::string &path)>;

/// Resolves the content of a config file: a whole job where its name ends in .yaml or .yml (Job.h), DeepSpeed's JSON
/// otherwise. `read` opens the config that a job names. Never throws.
Resolved resolveFile(const std::string &path, const std::string &text, const Request &request, const ReadFile &read);

/// What a config of zrun says against the plan's, and what becomes of the run.
struct RunSettings {
  std::map<std::string, std::string> flags; ///< of zrun
  std::vector<Finding> refused;             ///< keys of compile time with another value than the plan's
};
/// Of a config that was resolved with `partial`. `compiled`: zopt's flags that the plan was made with; a batch is that
/// of the numbers, which the plan always tells.
RunSettings settleRun(const Resolved &resolved, const std::map<std::string, std::string> &compiled, int64_t microBatch,
                      int64_t accumSteps, int64_t ranks);

/// The report for people, a line a finding: `file: error: key: text`. Keys without effect share one warning. `strict` calls warnings errors.
std::string report(const Resolved &resolved, const std::string &file, bool strict);

/// The effective configuration: every setting with its origin, and all findings.
nlohmann::json toJson(const Resolved &resolved, const std::string &file);

} // namespace zopt::config

#endif // ZOPT_CONFIG_CONFIG_H
