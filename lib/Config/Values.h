//===- Values.h - values of keys as types and as text -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONFIG_VALUES_H
#define ZOPT_LIB_CONFIG_VALUES_H

#include "zopt/Config/Keys.h"
#include <nlohmann/json.hpp>

namespace zopt::config {

/// The value in the type of the table; otherwise false, and what was expected.
bool convertValue(const Key &key, const std::string &path, nlohmann::json &value, std::string &expected);

/// A value as messages show it: JSON, at most 60 bytes.
std::string shown(const nlohmann::json &value);

/// A value as a flag has it: the shortest text that reads back as the same number, whole ones without a point; strings
/// as they are.
std::string valueText(const nlohmann::json &value);

} // namespace zopt::config

#endif // ZOPT_LIB_CONFIG_VALUES_H
