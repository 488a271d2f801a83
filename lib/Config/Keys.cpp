//===- Keys.cpp - looking up keys of a DeepSpeed config -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Keys.h"
#include <algorithm>
#include <numeric>
#include <unordered_map>

namespace zopt::config {

namespace {

std::string_view parent(std::string_view path) {
  size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}
std::string_view leaf(std::string_view path) {
  size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

const char *typeName(Type type) {
  switch (type) {
  case Type::Bool:
    return "bool";
  case Type::Int:
    return "int";
  case Type::Number:
    return "number";
  case Type::Text:
    return "string";
  case Type::Object:
    return "object";
  case Type::List:
    return "list";
  case Type::Any:
    return "any";
  }
  return "";
}

} // namespace

const Key *findKey(std::string_view path) {
  static const auto index = [] {
    std::unordered_map<std::string_view, const Key *> made;
    for (const Key &key : keys())
      made.emplace(key.path, &key);
    return made;
  }();
  if (auto it = index.find(path); it != index.end())
    return it->second;
  for (std::string_view section = parent(path); !section.empty(); section = parent(section))
    if (auto it = index.find(std::string(section) + ".*"); it != index.end())
      return it->second;
  return nullptr;
}

bool isSection(std::string_view path) {
  return std::any_of(keys().begin(), keys().end(), [&](const Key &key) {
    std::string_view row = key.path;
    return row.size() > path.size() && row.substr(0, path.size()) == path && row[path.size()] == '.';
  });
}

std::string nearest(const std::string &name, const std::vector<std::string> &names) {
  // Longer names are costly to compare and no misspelling of anything.
  if (name.size() > 80)
    return "";
  std::string best;
  size_t least = std::max<size_t>(1, name.size() / 4) + 1;
  for (const std::string &candidate : names)
    if (size_t distance = editDistance(name, candidate); distance < least) {
      least = distance;
      best = candidate;
    }
  return best;
}

std::string suggestion(const std::string &path) {
  const std::string section(parent(path)), name(leaf(path));
  const std::string prefix = section.empty() ? "" : section + ".";
  std::vector<std::string> siblings, elsewhere;
  for (const Key &key : keys()) {
    std::string_view row = key.path;
    if (key.effect == Effect::Renamed || leaf(row) == "*")
      continue;
    if (row.substr(0, prefix.size()) == prefix) {
      std::string_view rest = row.substr(prefix.size());
      siblings.emplace_back(rest.substr(0, rest.find('.')));
    }
    if (leaf(row) == name && elsewhere.size() < 3)
      elsewhere.emplace_back(row);
  }
  if (std::string near = nearest(name, siblings); !near.empty())
    return "; did you mean " + prefix + near + "?";
  std::string places;
  for (const std::string &place : elsewhere)
    places += (places.empty() ? "" : " or ") + place;
  return places.empty() ? "" : "; did you mean " + places + "?";
}

const char *className(Effect effect) {
  switch (effect) {
  case Effect::Flag:
  case Effect::Rule:
    return "honoured";
  case Effect::None:
    return "no effect";
  case Effect::Unsupported:
    return "default only";
  case Effect::Switch:
    return "off only";
  case Effect::Setting:
    return "of a section that is off";
  case Effect::Renamed:
    return "other spelling";
  }
  return "";
}

std::string describeKeys() {
  std::string text = "| Key | Type | DeepSpeed's default | Here | |\n|---|---|---|---|---|\n";
  for (const Key &key : keys()) {
    std::string allowed = key.allowed;
    std::replace(allowed.begin(), allowed.end(), '|', ',');
    const bool flags = key.effect == Effect::Flag || key.effect == Effect::Rule;
    std::string about = key.about;
    if (flags && about.rfind("--", 0) == 0) {
      size_t end = std::min(about.find_first_of(", "), about.size());
      about = "`" + about.substr(0, end) + "`" + about.substr(end);
    }
    text += std::string("| `") + key.path + "` | " + typeName(key.type) + (allowed.empty() ? "" : ": " + allowed) + " | " +
            (*key.fallback ? key.fallback : "–") + " | " + className(key.effect) + " | " + about + " |\n";
  }
  return text;
}

} // namespace zopt::config
