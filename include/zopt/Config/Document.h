//===- Document.h - a config file as it stands -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONFIG_DOCUMENT_H
#define ZOPT_CONFIG_DOCUMENT_H

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace zopt::config {

/// Something to say about a key (dotted path; empty: about the file).
struct Finding {
  std::string key, text;
};

/// What a config says about the keys of the table, by their canonical paths, in the types of the table.
struct Document {
  std::map<std::string, nlohmann::json> values; ///< without those that are "auto"
  std::set<std::string> automatic;              ///< keys whose value is "auto"
  std::vector<Finding> refused;                 ///< syntax, duplicates, unknown keys, wrong types
  std::vector<Finding> warnings;                ///< deprecated or documented spellings that were understood
};

/// Files larger than this are no configs.
constexpr size_t kLargestConfig = 256 << 10;

/// Reads DeepSpeed's JSON as DeepSpeed does (with hjson's comments `#`, `//`, `/* */` and trailing commas; whole numbers such as 5e8 for integers), but refuses what it overlooks. All problems
/// are in `refused`. Never throws.
Document readDocument(const std::string &text);

} // namespace zopt::config

#endif // ZOPT_CONFIG_DOCUMENT_H
