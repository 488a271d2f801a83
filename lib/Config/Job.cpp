//===- Job.cpp - from a job to flags --------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Job.h"
#include "Values.h"
#include "Yaml.h"
#include <algorithm>
#include <cstring>

namespace zopt::config {

using nlohmann::json;

namespace {

const Key *findJobKey(const std::string &path) {
  for (const Key &key : jobKeys())
    if (path == key.path)
      return &key;
  return nullptr;
}
bool isJobSection(const std::string &path) {
  for (const Key &key : jobKeys())
    if (std::string_view(key.path).substr(0, path.size() + 1) == path + ".")
      return true;
  return false;
}

/// Keys of a job that DeepSpeed's config has too. Both may say it, but not two things.
struct Twin {
  const char *job, *deepSpeed;
};
constexpr Twin kTwins[] = {
    {"dataloader.batch_size", "train_micro_batch_size_per_gpu"},
    {"training.gradient_accumulation_steps", "gradient_accumulation_steps"},
    {"training.global_batch_size", "train_batch_size"},
    {"training.gradient_clipping", "gradient_clipping"},
    {"training.learning_rate", "optimizer.params.lr"},
    {"training.weight_decay", "optimizer.params.weight_decay"},
};

class Job {
public:
  Job(const std::string &path, const Request &request, const ReadFile &read)
      : path(path), request(request), read(read) {}

  Resolved run(const std::string &text) {
    const json root = readYaml(text, resolved.refused);
    if (!resolved.refused.empty())
      return std::move(resolved);
    if (!root.is_object()) {
      refuse("", std::string("holds ") + root.type_name() + ", expected a mapping");
      return std::move(resolved);
    }
    section(root, "");
    Document document = deepSpeed();
    twins(document);
    Request inner = request;
    // Without a config of DeepSpeed's nothing has DeepSpeed's defaults.
    inner.partial = request.partial || !hasDeepSpeed;
    if (strategy != "deepspeed" && !request.given.count("zero-stage"))
      inner.given["zero-stage"] = strategy == "ddp" ? "0" : "auto";
    for (const Setting &setting : settings)
      if (!setting.ofRun && !inner.given.count(setting.flag))
        inner.given[setting.flag] = setting.value;
    Resolved below = resolve(document, inner);
    merge(std::move(below));
    return std::move(resolved);
  }

private:
  void refuse(const std::string &key, std::string what) { resolved.refused.push_back({key, std::move(what)}); }

  void section(const json &object, const std::string &prefix) {
    for (const auto &[name, value] : object.items())
      entry(prefix.empty() ? name : prefix + "." + name, value);
  }

  void entry(const std::string &given, const json &value) {
    std::string canonical = given;
    if (const std::string nested = "training.dataloader"; canonical == nested || canonical.rfind(nested + ".", 0) == 0)
      canonical = canonical.substr(std::strlen("training."));
    // Short forms.
    if (value.is_string() && (canonical == "model" || canonical == "data"))
      return entry(canonical == "model" ? "model.path" : "data.files", value);
    if (value.is_array() && canonical == "data")
      return entry("data.files", value);
    const Key *key = findJobKey(canonical);
    if (!key && isJobSection(canonical)) {
      if (value.is_object())
        return section(value, given);
      if (!value.is_null())
        refuse(given, "is " + shown(value) + ", expected a mapping");
      return;
    }
    if (!key)
      return refuse(given, "is no key of a job" + suggestionOf(given));
    if (value.is_null())
      return; // as if it were not there
    if (key->effect == Effect::Renamed) {
      canonical = key->about;
      key = findJobKey(canonical);
    }
    if (values.count(canonical))
      return refuse(given, "is another spelling of " + spelling.at(canonical) + ", which is given too");
    json converted = value;
    // YAML's older words for booleans; and `mixed_precision: false`, which is what `no` becomes in other readers.
    if (const std::string *word = value.get_ptr<const std::string *>(); word && key->type == Type::Bool)
      for (const auto &[yes, no] : {std::pair("yes", "no"), std::pair("on", "off")})
        if (*word == yes || *word == no)
          converted = *word == yes;
    if (canonical == "training.mixed_precision" && value == false)
      converted = "no";
    std::string expected;
    if (!convertValue(*key, canonical, converted, expected))
      return refuse(given, "is " + shown(value) + ", expected " + expected);
    values[canonical] = converted;
    spelling[canonical] = given;
    take(*key, canonical, given, converted);
  }

  std::string suggestionOf(const std::string &name) const {
    std::vector<std::string> names, leaves;
    for (const Key &key : jobKeys()) {
      names.push_back(key.path);
      if (const std::string section = names.back().substr(0, names.back().find('.'));
          std::find(names.begin(), names.end(), section) == names.end())
        names.push_back(section);
    }
    const size_t dot = name.rfind('.');
    // The same leaf elsewhere is likelier than a near path.
    const std::string leaf = dot == std::string::npos ? name : name.substr(dot + 1);
    for (const std::string &other : names)
      if (other.substr(other.rfind('.') + 1) == leaf)
        return "; did you mean " + other + "?";
    const std::string near = nearest(name, names);
    return near.empty() ? "" : "; did you mean " + near + "?";
  }

  void set(const std::string &flag, const std::string &value, const std::string &key, bool ofRun) {
    if (value.find('\n') != std::string::npos)
      return refuse(key, "holds a line break");
    settings.push_back({flag, value, Origin::Config, key, ofRun});
  }
  /// A word or a list of them, a flag each.
  void setEach(const std::string &flag, const json &value, const std::string &key, bool ofRun) {
    const json list = value.is_array() ? value : json::array({value});
    if (list.empty())
      return refuse(key, "is an empty list");
    std::string all;
    for (const json &item : list) {
      if (item.is_structured() || item.is_null() || item.is_boolean() ||
          valueText(item).find('\n') != std::string::npos)
        return refuse(key, "is " + shown(value) + ", expected a word or a list of words");
      all += (all.empty() ? "" : "\n") + valueText(item);
    }
    settings.push_back({flag, all, Origin::Config, key, ofRun});
  }

  void take(const Key &key, const std::string &canonical, const std::string &given, const json &value) {
    if (key.effect == Effect::None)
      return resolved.noEffect.push_back({given, key.about});
    if (key.effect == Effect::Flag) {
      const bool ofRun = std::strncmp(key.about, "zrun --", 7) == 0;
      if (value.is_structured())
        return refuse(given, "is " + shown(value) + ", expected a word");
      // A switch that is off is a flag that is not there.
      if (value != false)
        set(key.about + (ofRun ? 7 : 2), valueText(value), given, ofRun);
      return;
    }
    if (canonical == "model.path") {
      resolved.model = value.get<std::string>();
    } else if (canonical == "model.bind") {
      json list = json::array();
      for (const auto &[name, size] : value.items()) {
        if (!size.is_number_integer())
          return refuse(given + "." + name, "is " + shown(size) + ", expected a whole number");
        list.push_back(name + "=" + valueText(size));
      }
      if (!list.empty())
        setEach("bind", list, given, false);
    } else if (canonical == "model.train_only" || canonical == "model.freeze") {
      setEach(canonical == "model.freeze" ? "freeze" : "train-only", value, given, false);
    } else if (canonical == "training.distributed") {
      if (value == false && request.ranks > 1)
        refuse(given, "is false, but --nproc is " + std::to_string(request.ranks));
    } else if (canonical == "training.distributed_strategy") {
      strategy = value.get<std::string>();
    } else if (canonical == "training.gradient_checkpointing") {
      if (value == true)
        set("recompute", "full", given, false);
    } else if (canonical == "data.files") {
      setEach("data", value, given, true);
    } else if (canonical == "evaluation.files") {
      set("eval", "true", given, false);
      setEach("eval-data", value, given, true);
    } else if (canonical == "data.shift_labels") {
      set(value == true ? "shift-labels" : "no-shift-labels", "true", given, true);
    } else if (canonical == "checkpoint.resume") {
      if (value == true)
        set("resume", "newest", given, true);
      else if (value.is_string())
        set("resume", valueText(value), given, true);
      else if (value != false)
        refuse(given, "is " + shown(value) + ", expected auto, true, false or a folder");
    } else if (canonical == "checkpoint.allow_change") {
      setEach("allow-change", value, given, true);
    }
  }

  /// The config that the job names; an empty one where it names none.
  Document deepSpeed() {
    auto found = values.find("training.deepspeed.config_path"), inPlace = values.find("training.deepspeed.config");
    if (found != values.end() && inPlace != values.end())
      refuse("training.deepspeed", "has both config_path and config");
    const bool there = found != values.end() || inPlace != values.end();
    if (!values.count("training.distributed_strategy"))
      strategy = there ? "deepspeed" : "ddp";
    if (strategy == "deepspeed" && !there && resolved.refused.empty())
      refuse("training.distributed_strategy", "is deepspeed, but training.deepspeed has no config_path");
    if (strategy == "ddp" && there) {
      resolved.noEffect.push_back({"training.deepspeed", "the strategy is ddp"});
      return {};
    }
    if (!there)
      return {};
    if (inPlace != values.end()) {
      hasDeepSpeed = true;
      file = "training.deepspeed.config";
      return readDocument(inPlace->second.dump(-1, ' ', false, json::error_handler_t::replace));
    }
    file = found->second.get<std::string>();
    std::optional<std::string> text = read(file);
    const size_t slash = path.rfind('/');
    if (!text && !file.empty() && file[0] != '/' && slash != std::string::npos)
      text = read(path.substr(0, slash + 1) + file);
    if (!text) {
      refuse("training.deepspeed.config_path", "is " + file + ", which cannot be read");
      return {};
    }
    hasDeepSpeed = true;
    return readDocument(*text);
  }

  /// What the job says becomes the document's, which must not say otherwise.
  void twins(Document &document) {
    auto put = [&](const std::string &job, const json &value, const std::string &deepSpeedKey, const json &written) {
      auto it = document.values.find(deepSpeedKey);
      if (it == document.values.end() || it->second.is_null()) {
        document.automatic.erase(deepSpeedKey);
        document.values[deepSpeedKey] = value;
        origins[deepSpeedKey] = spelling.at(job);
      } else if (it->second != value) {
        refuse(spelling.at(job),
               "is " + shown(written) + ", but " + deepSpeedKey + " of " + file + " is " + shown(it->second));
      }
    };
    for (const Twin &twin : kTwins)
      if (auto it = values.find(twin.job); it != values.end()) {
        if (it->second.is_number() && it->second.get<double>() < 0)
          refuse(spelling.at(twin.job), "is " + shown(it->second) + ", expected at least 0");
        else
          put(twin.job, it->second, twin.deepSpeed, it->second);
      }
    // A rate without an optimizer is AdamW's.
    if ((document.values.count("optimizer.params.lr") || document.values.count("optimizer.params.weight_decay")) &&
        !document.values.count("optimizer.type") && !document.automatic.count("optimizer.type"))
      document.values["optimizer.type"] = "AdamW";
    if (auto it = values.find("training.mixed_precision"); it != values.end()) {
      const std::string precision = it->second.get<std::string>();
      auto isOn = [&](const std::string &key) { return document.values.count(key) && document.values[key] == true; };
      for (const char *half : {"bf16", "fp16"}) {
        const std::string key = std::string(half) + ".enabled", other = *half == 'b' ? "fp16.enabled" : "bf16.enabled";
        if ((precision == half && !isOn(other)) || isOn(key) || document.automatic.count(key))
          put("training.mixed_precision", precision == half, key, it->second);
      }
    }
    for (const char *section : {"training.deepspeed.config_path", "training.deepspeed.config"})
      if (values.count(section) && strategy == "auto" && document.values.count("zero_optimization.stage"))
        resolved.notes.push_back(
            {spelling.at(section), "zero_optimization.stage is overridden by distributed_strategy auto"});
  }

  void merge(Resolved below) {
    auto placed = [&](std::vector<Finding> &findings, std::vector<Finding> &into) {
      for (Finding &finding : findings) {
        if (auto it = origins.find(finding.key); it != origins.end())
          finding.key = it->second;
        else if (hasDeepSpeed)
          finding.key = file + (finding.key.empty() ? "" : ": " + finding.key);
        into.push_back(std::move(finding));
      }
    };
    placed(below.refused, resolved.refused);
    placed(below.warnings, resolved.warnings);
    placed(below.noEffect, resolved.noEffect);
    placed(below.notes, resolved.notes);
    resolved.needsHiddenSize = below.needsHiddenSize;
    for (Setting &setting : below.settings) {
      if (!hasDeepSpeed && setting.origin == Origin::DeepSpeedDefault)
        continue;
      if (auto it = origins.find(setting.key); it != origins.end())
        setting.key = it->second;
      const auto mine = std::find_if(settings.begin(), settings.end(),
                                     [&](const Setting &other) { return other.flag == setting.flag; });
      const bool overridden = request.given.count(setting.flag) != 0;
      if (mine != settings.end() && setting.ofRun)
        continue; // the job's own monitors stand before DeepSpeed's
      if (mine != settings.end() && !overridden)
        continue;
      if (!overridden && setting.flag == "zero-stage" && strategy != "deepspeed")
        setting = {"zero-stage", strategy == "ddp" ? "0" : "auto", Origin::Config, "training.distributed_strategy",
                   false};
      resolved.settings.push_back(std::move(setting));
    }
    for (Setting &setting : settings) {
      if (!resolved.find(setting.flag))
        resolved.settings.push_back(request.given.count(setting.flag) && !setting.ofRun
                                        ? Setting{setting.flag, request.given.at(setting.flag), Origin::Flag, "", false}
                                        : setting);
    }
  }

  const std::string &path;
  const Request &request;
  const ReadFile &read;
  Resolved resolved;
  std::map<std::string, json> values;          // by canonical key
  std::map<std::string, std::string> spelling; // as it is in the file
  std::map<std::string, std::string> origins;  // keys of DeepSpeed's that the job has set, and its own
  std::vector<Setting> settings;               // of the job's own keys
  std::string strategy, file;
  bool hasDeepSpeed = false;
};

bool endsWith(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

} // namespace

Resolved resolveJob(const std::string &path, const std::string &text, const Request &request, const ReadFile &read) {
  if (text.size() > kLargestConfig) {
    Resolved resolved;
    resolved.refused.push_back(
        {"", "has " + std::to_string(text.size()) + " bytes, more than a config of " + std::to_string(kLargestConfig)});
    return resolved;
  }
  return Job(path, request, read).run(text);
}

Resolved resolveFile(const std::string &path, const std::string &text, const Request &request, const ReadFile &read) {
  if (endsWith(path, ".yaml") || endsWith(path, ".yml"))
    return resolveJob(path, text, request, read);
  return resolve(readDocument(text), request);
}

std::string describeJobKeys() {
  std::string table = "| Key | Type | Here | |\n|---|---|---|---|\n";
  for (const Key &key : jobKeys()) {
    const char *types[] = {"bool", "int", "number", "string", "mapping", "list", "any"};
    const bool flag = key.effect == Effect::Flag;
    std::string type = types[int(key.type)];
    if (*key.allowed) {
      std::string allowed = key.allowed;
      std::replace(allowed.begin(), allowed.end(), '|', ',');
      type += ": " + allowed;
    }
    table += std::string("| `") + key.path + "` | " + type + " | " + className(key.effect) + " | " + (flag ? "`" : "") +
             key.about + (flag ? "`" : "") + " |\n";
  }
  return table;
}

} // namespace zopt::config
