//===- Keys.h - the keys of a DeepSpeed config -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One row for every key that DeepSpeed documents or reads (https://www.deepspeed.ai/docs/config-json and its code; defaults are the code's). Reader, report and docs/Config.md are made from
// this table.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONFIG_KEYS_H
#define ZOPT_CONFIG_KEYS_H

#include <string>
#include <string_view>
#include <vector>

namespace zopt::config {

enum class Type { Bool, Int, Number, Text, Object, List, Any };

/// What zopt does about a key.
enum class Effect {
  Flag,        ///< its value is a flag's value
  Rule,        ///< becomes flags by a rule of Resolve.cpp
  None,        ///< has no effect here: one warning lists all such keys
  Unsupported, ///< its default is accepted, anything else is refused
  Switch,      ///< of a section: unless it is at its default, the section is active, which is refused
  Setting,     ///< of a section with a switch: means nothing while the section is off
  Renamed,     ///< deprecated or documented spelling of the key `about`: taken for it with a warning
};

struct Key {
  const char *path; ///< dotted; a last component `*` stands for any key below
  Type type;
  const char *fallback; ///< DeepSpeed's default as JSON; empty: none
  Effect effect;
  const char *about;        ///< Flag, Rule: zopt's flags; otherwise the reason, or the new name
  const char *allowed = ""; ///< values of a Text, separated by '|'
};

/// All rows, in the order of documentation.
const std::vector<Key> &keys();

/// The row of a path, or null. A row that ends in `*` matches what has no row of its own.
const Key *findKey(std::string_view path);

/// Whether some row lies below this path: it is a section.
bool isSection(std::string_view path);

/// "; did you mean X?" for the nearest name that the same section, or any other, has; empty if none is near.
std::string suggestion(const std::string &path);

/// The nearest of `names` to `name` by edit distance, or empty if none is near.
std::string nearest(const std::string &name, const std::vector<std::string> &names);

/// "honoured", "no effect", "refused", "deprecated": the class of a key in reports and documentation.
const char *className(Effect effect);

/// The table of docs/Config.md, Markdown.
std::string describeKeys();

} // namespace zopt::config

#endif // ZOPT_CONFIG_KEYS_H
