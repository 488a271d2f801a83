//===- Document.cpp - reading a config file -------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Document.h"
#include "Values.h"
#include "zopt/Config/Keys.h"
#include <charconv>
#include <cmath>
#include <cstring>

namespace zopt::config {

using nlohmann::json;

namespace {

constexpr size_t kDeepest = 32;
/// How many unknown keys are compared with all known ones.
constexpr size_t kMostSuggestions = 50;

/// hjson's comments and trailing commas become blanks, so that lines and columns stay what they were.
std::string toPlainJson(const std::string &text) {
  std::string plain = text;
  bool quoted = false;
  size_t comma = std::string::npos; // the last one, while only blanks have followed it
  auto blank = [&](size_t at) {
    if (plain[at] != '\n')
      plain[at] = ' ';
  };
  for (size_t i = 0; i < plain.size(); ++i) {
    const char c = plain[i], next = i + 1 < plain.size() ? plain[i + 1] : '\0';
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '#' || (c == '/' && next == '/')) {
      for (; i < plain.size() && plain[i] != '\n'; ++i)
        blank(i);
    } else if (size_t end; c == '/' && next == '*' && (end = plain.find("*/", i + 2)) != std::string::npos) {
      for (; i < end + 2; ++i)
        blank(i);
      --i;
    } else if (c == ',') {
      comma = i;
    } else if (!std::strchr(" \t\r\n", c) || c == '\0') {
      if ((c == '}' || c == ']') && comma != std::string::npos)
        blank(comma);
      comma = std::string::npos;
      quoted = c == '"';
    }
  }
  return plain;
}

/// The JSON value. Duplicate keys and what is nested too deep are found on the way.
bool parse(const std::string &text, json &root, std::vector<Finding> &refused) {
  struct Level {
    std::set<std::string> keys;
    std::string path, current;
  };
  std::vector<Level> levels;
  size_t depth = 0;
  bool tooDeep = false;
  auto watch = [&](int, json::parse_event_t event, json &value) {
    auto pathOf = [](const Level &level) { return level.path.empty() ? level.current : level.path + "." + level.current; };
    switch (event) {
    case json::parse_event_t::object_start:
      tooDeep |= ++depth > kDeepest;
      levels.push_back({{}, levels.empty() || tooDeep ? "" : pathOf(levels.back()), ""});
      break;
    case json::parse_event_t::object_end:
      --depth;
      levels.pop_back();
      break;
    case json::parse_event_t::array_start:
      tooDeep |= ++depth > kDeepest;
      break;
    case json::parse_event_t::array_end:
      --depth;
      break;
    case json::parse_event_t::key:
      levels.back().current = value.get<std::string>();
      if (!levels.back().keys.insert(levels.back().current).second)
        refused.push_back({pathOf(levels.back()), "is given twice"});
      break;
    case json::parse_event_t::value:
      break;
    }
    return true;
  };
  try {
    root = json::parse(toPlainJson(text), watch);
  } catch (const json::exception &error) {
    // "[json.exception.parse_error.101] parse error at line ..." without its number.
    std::string what = error.what();
    if (size_t end = what.find("] "); end != std::string::npos)
      what.erase(0, end + 2);
    refused.push_back({"", "is not JSON: " + what});
    return false;
  }
  if (tooDeep) {
    refused.push_back({"", "is nested deeper than " + std::to_string(kDeepest) + " levels"});
    return false;
  }
  if (!root.is_object()) {
    refused.push_back({"", std::string("holds ") + root.type_name() + ", expected an object"});
    return false;
  }
  return true;
}

/// Sections that DeepSpeed reads with pydantic, which takes "2" for 2.
bool readsNumbersInStrings(const std::string &path) {
  for (const char *section : {"zero_optimization.", "fp16.", "bf16.", "comms_logger.", "tensorboard.", "csv_monitor.", "wandb.", "comet.", "compile.", "timers.", "tensor_parallel."})
    if (path.rfind(section, 0) == 0)
      return true;
  return false;
}

} // namespace

std::string shown(const json &value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

bool convertValue(const Key &key, const std::string &path, json &value, std::string &expected) {
  if (value.is_null())
    return expected = "a value", key.type == Type::Any || std::strcmp(key.fallback, "null") == 0;
  switch (key.type) {
  case Type::Bool:
    expected = "true or false";
    return value.is_boolean();
  case Type::Int: {
    expected = "a whole number";
    int64_t number;
    if (const std::string *text = value.get_ptr<const std::string *>(); text && readsNumbersInStrings(path)) {
      auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
      if (error != std::errc() || end != text->data() + text->size())
        return false;
      value = number;
    } else if (value.is_number_float()) {
      const double real = value.get<double>();
      if (real != std::floor(real) || std::fabs(real) > 9e18)
        return false;
      value = static_cast<int64_t>(real);
    }
    // sys.maxsize is the largest that DeepSpeed's users write.
    return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t(INT64_MAX));
  }
  case Type::Number:
    expected = "a number";
    return value.is_number();
  case Type::Text: {
    const std::string *text = value.get_ptr<const std::string *>();
    expected = "a string";
    if (!text || !*key.allowed)
      return text;
    expected = "one of ";
    const std::string allowed = key.allowed;
    bool found = false;
    for (size_t begin = 0; begin <= allowed.size();) {
      const size_t end = std::min(allowed.find('|', begin), allowed.size());
      const std::string choice = allowed.substr(begin, end - begin);
      found |= *text == choice;
      expected += (begin ? ", " : "") + choice;
      begin = end + 1;
    }
    return found;
  }
  case Type::Object:
    expected = "an object";
    return value.is_object();
  case Type::List:
    expected = "a list";
    return value.is_array();
  case Type::Any:
    return true;
  }
  return false;
}

namespace {

class Walk {
public:
  explicit Walk(Document &document) : document(document) {}

  void section(const json &object, const std::string &path, const std::string &canonical) {
    for (const auto &[name, value] : object.items())
      entry(value, path.empty() ? name : path + "." + name, canonical.empty() ? name : canonical + "." + name);
  }

private:
  void refuse(const std::string &key, std::string text) { document.refused.push_back({key, std::move(text)}); }

  void entry(const json &value, const std::string &path, std::string canonical) {
    if (canonical == "bfloat16")
      canonical = "bf16";
    const Key *key = findKey(canonical);
    // pydantic takes fields by their names as well as by their aliases.
    if (const std::string zero = "zero_optimization."; !key && !isSection(canonical) && canonical.rfind(zero, 0) == 0)
      if (const std::string prefixed = zero + "stage3_" + canonical.substr(zero.size()); findKey(prefixed)) {
        key = findKey(prefixed);
        canonical = prefixed;
      }
    if (!key && isSection(canonical))
      return inside(value, path, canonical);
    if (!key)
      return refuse(path, "is no key of DeepSpeed's" + (++unknown <= kMostSuggestions ? suggestion(path) : ""));
    if (key->effect == Effect::Renamed) {
      document.warnings.push_back({path, std::string("is taken for ") + key->about});
      canonical = key->about;
      key = findKey(canonical);
    }
    if (document.values.count(canonical) || document.automatic.count(canonical))
      return refuse(path, "is another spelling of " + canonical + ", which is given too");
    if (value == "auto") {
      document.automatic.insert(canonical);
      return;
    }
    json converted = value;
    std::string expected;
    // `"stage": true` is how stage 1 was asked for before there were stages.
    if (canonical == "zero_optimization.stage" && value.is_boolean()) {
      document.warnings.push_back({path, "is taken for " + std::string(value ? "1" : "0")});
      converted = value ? 1 : 0;
    }
    if (!convertValue(*key, path, converted, expected))
      return refuse(path, "is " + shown(value) + ", expected " + expected);
    document.values[canonical] = std::move(converted);
  }

  void inside(const json &value, const std::string &path, const std::string &canonical) {
    if (!sections.insert(canonical).second)
      return refuse(path, "is another spelling of " + canonical + ", which is given too");
    if (value.is_object())
      return section(value, path, canonical);
    for (const char *optional : {"optimizer", "scheduler", "zero_optimization.offload_param", "zero_optimization.offload_optimizer", "checkpoint.writer"})
      if (value.is_null() && canonical == optional)
        return;
    if (canonical == "zero_optimization" && value.is_boolean()) {
      document.warnings.push_back({path, "is deprecated; taken for a stage of " + std::string(value ? "1" : "0")});
      document.values["zero_optimization.stage"] = value ? 1 : 0;
      return;
    }
    refuse(path, "is " + shown(value) + ", expected an object");
  }

  Document &document;
  std::set<std::string> sections;
  size_t unknown = 0;
};

} // namespace

Document readDocument(const std::string &text) {
  Document document;
  if (text.size() > kLargestConfig) {
    document.refused.push_back({"", "has " + std::to_string(text.size()) + " bytes, more than a config of " + std::to_string(kLargestConfig)});
    return document;
  }
  json root;
  if (parse(text, root, document.refused))
    Walk(document).section(root, "", "");
  return document;
}

} // namespace zopt::config
