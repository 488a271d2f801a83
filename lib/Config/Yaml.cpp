//===- Yaml.cpp - YAML as JSON --------------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Yaml.h"
#include <charconv>
#include <cmath>
#include <sstream>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

namespace zopt::config {

using nlohmann::json;

namespace {

constexpr size_t kDeepest = 32;
/// Values of a document, those behind aliases counted as often as they are used.
constexpr size_t kMostValues = 10000;

class Converter {
public:
  explicit Converter(std::vector<Finding> &refused) : refused(refused) {}

  json convert(const YAML::Node &node, const std::string &path, size_t depth) {
    if (depth > kDeepest || ++values > kMostValues) {
      if (!stopped)
        refused.push_back({"", depth > kDeepest
                                   ? "is nested deeper than " + std::to_string(kDeepest) + " levels"
                                   : "has more than " + std::to_string(kMostValues) + " values, aliases counted"});
      stopped = true;
      return nullptr;
    }
    if (stopped || !node.IsDefined() || node.IsNull())
      return nullptr;
    if (node.IsScalar())
      return scalar(node);
    if (node.IsSequence()) {
      json list = json::array();
      for (size_t i = 0; i < node.size() && !stopped; ++i)
        list.push_back(convert(node[i], path + "[" + std::to_string(i) + "]", depth + 1));
      return list;
    }
    json object = json::object();
    for (const auto &entry : node) {
      if (stopped)
        break;
      if (!entry.first.IsScalar()) {
        refused.push_back({path, "has a key that is no word"});
        continue;
      }
      const std::string &name = entry.first.Scalar();
      const std::string below = path.empty() ? name : path + "." + name;
      if (object.contains(name))
        refused.push_back({below, "is given twice"});
      object[name] = convert(entry.second, below, depth + 1);
    }
    return object;
  }

private:
  static json scalar(const YAML::Node &node) {
    const std::string &text = node.Scalar();
    if (node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str") // quoted
      return text;
    if (text == "true" || text == "True" || text == "TRUE")
      return true;
    if (text == "false" || text == "False" || text == "FALSE")
      return false;
    if (text.empty() || text == "null" || text == "~")
      return nullptr;
    const char *begin = text.data() + (text[0] == '+'), *end = text.data() + text.size();
    int64_t whole = 0;
    if (auto [at, error] = std::from_chars(begin, end, whole); error == std::errc() && at == end)
      return whole;
    double real = 0;
    // from_chars takes "inf" and "nan" too, which no setting means.
    if (auto [at, error] = std::from_chars(begin, end, real); error == std::errc() && at == end && std::isfinite(real))
      return real;
    return text;
  }

  std::vector<Finding> &refused;
  size_t values = 0;
  bool stopped = false;
};

/// Takes no notice of what a document holds.
class Skipper : public YAML::EventHandler {
public:
  void OnDocumentStart(const YAML::Mark &) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark &, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark &, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark &, const std::string &, YAML::anchor_t, const std::string &) override {}
  void OnSequenceStart(const YAML::Mark &, const std::string &, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark &, const std::string &, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

/// Documents of the text, those after the second not counted: yaml-cpp 0.7 takes a "," between documents for an empty
/// one before it, and so finds documents there for ever (YAML::LoadAll does not return).
int countDocuments(const std::string &text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Skipper skipper;
  int count = 0;
  while (count < 2 && parser.HandleNextDocument(skipper))
    ++count;
  return count;
}

/// Where the text is no UTF-8 or has a control character, or npos. yaml-cpp 0.7 goes on for ever in some such texts.
size_t findForeignByte(const std::string &text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = byte < 0x80 ? 1 : byte >> 5 == 6 ? 2 : byte >> 4 == 14 ? 3 : byte >> 3 == 30 ? 4 : 0;
    if (length == 0 || i + length > text.size() || (byte < ' ' && byte != '\t' && byte != '\n' && byte != '\r'))
      return i;
    for (size_t j = 1; j < length; ++j)
      if (static_cast<unsigned char>(text[i + j]) >> 6 != 2)
        return i;
    i += length;
  }
  return std::string::npos;
}

} // namespace

json readYaml(const std::string &text, std::vector<Finding> &refused) {
  const size_t before = refused.size();
  if (const size_t at = findForeignByte(text); at != std::string::npos) {
    refused.push_back({"", "is not YAML: byte " + std::to_string(at) + " is no character of a text in UTF-8"});
    return nullptr;
  }
  try {
    if (const int documents = countDocuments(text); documents != 1)
      refused.push_back({"", documents ? "holds more than one YAML document" : "holds no YAML document"});
    else if (json root = Converter(refused).convert(YAML::Load(text), "", 0); refused.size() == before)
      return root;
  } catch (const std::exception &error) {
    std::string what = error.what();
    if (const size_t end = what.find(": "); what.rfind("yaml-cpp: error at ", 0) == 0 && end != std::string::npos)
      what = what.substr(std::string("yaml-cpp: error at ").size());
    refused.push_back({"", "is not YAML: " + what});
  }
  return nullptr;
}

} // namespace zopt::config
