//===- Yaml.h - YAML as JSON --------------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONFIG_YAML_H
#define ZOPT_LIB_CONFIG_YAML_H

#include "zopt/Config/Document.h"

namespace zopt::config {

/// The one document of a YAML text as JSON: plain scalars are null, booleans (true and false), whole numbers or numbers
/// where they read so; quoted ones and all others are strings. Keys given twice, what is too deep or too large with its
/// aliases, and syntax go to `refused`; null is returned then. Never throws.
nlohmann::json readYaml(const std::string &text, std::vector<Finding> &refused);

} // namespace zopt::config

#endif // ZOPT_LIB_CONFIG_YAML_H
