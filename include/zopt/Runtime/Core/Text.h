//===- Text.h - pieces of text ------------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_TEXT_H
#define ZOPT_RUNTIME_CORE_TEXT_H

#include <sstream>
#include <string>
#include <vector>

namespace zopt::runtime {

/// The parts between separators; none of an empty text, and none behind a separator at the end.
inline std::vector<std::string> split(const std::string &text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);)
    parts.push_back(part);
  return parts;
}

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_TEXT_H
