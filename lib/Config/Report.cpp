//===- Report.cpp - what became of a config -------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Config.h"
#include <algorithm>

namespace zopt::config {

const char *originName(Origin origin) {
  switch (origin) {
  case Origin::Flag:
    return "flag";
  case Origin::Config:
    return "config";
  case Origin::Auto:
    return "auto";
  case Origin::DeepSpeedDefault:
    return "DeepSpeed's default";
  case Origin::Default:
    return "zopt's default";
  }
  return "";
}

const Setting *Resolved::find(const std::string &flag) const {
  for (const Setting &setting : settings)
    if (setting.flag == flag)
      return &setting;
  return nullptr;
}

std::string report(const Resolved &resolved, const std::string &file, bool strict) {
  std::string text;
  auto line = [&](const char *kind, const Finding &finding) {
    text += file + ": " + kind + ": ";
    for (const std::string &part : {finding.key.empty() ? "" : finding.key + " ", finding.text})
      for (char c : part)
        text += static_cast<unsigned char>(c) < ' ' ? '?' : c; // one line, whatever a key holds
    text += '\n';
  };
  for (const Finding &finding : resolved.refused)
    line("error", finding);
  const char *warning = strict ? "error" : "warning";
  for (const Finding &finding : resolved.warnings)
    line(warning, finding);
  if (!resolved.noEffect.empty()) {
    // Keys with one reason stand together.
    std::vector<std::pair<std::string, std::string>> reasons;
    for (const Finding &finding : resolved.noEffect) {
      auto it = std::find_if(reasons.begin(), reasons.end(), [&](const auto &reason) { return reason.first == finding.text; });
      if (it == reasons.end())
        reasons.push_back({finding.text, finding.key});
      else
        it->second += ", " + finding.key;
    }
    std::string all;
    for (const auto &[reason, names] : reasons)
      all += (all.empty() ? "" : "; ") + names + " (" + reason + ")";
    line(warning, {"", "no effect here: " + all});
  }
  for (const Finding &finding : resolved.notes)
    line("note", finding);
  return text;
}

nlohmann::json toJson(const Resolved &resolved, const std::string &file) {
  auto list = [](const std::vector<Finding> &findings) {
    nlohmann::json array = nlohmann::json::array();
    for (const Finding &finding : findings)
      array.push_back({{"key", finding.key}, {"text", finding.text}});
    return array;
  };
  nlohmann::json settings = nlohmann::json::object();
  for (const Setting &setting : resolved.settings) {
    nlohmann::json &entry = settings["--" + setting.flag];
    entry = {{"value", setting.value}, {"origin", originName(setting.origin)}};
    if (!setting.key.empty())
      entry["key"] = setting.key;
    if (setting.ofRun)
      entry["of"] = "zrun";
  }
  nlohmann::json whole = {{"config", file},
                          {"settings", settings},
                          {"refused", list(resolved.refused)},
                          {"warnings", list(resolved.warnings)},
                          {"no_effect", list(resolved.noEffect)},
                          {"notes", list(resolved.notes)}};
  if (!resolved.model.empty())
    whole["model"] = resolved.model;
  return whole;
}

} // namespace zopt::config
