//===- Variable.h - variables of the environment in tests -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_VARIABLE_H
#define ZOPT_TEST_UNIT_RUNTIME_VARIABLE_H

#include <cstdlib>
#include <string>

/// Sets a variable of the environment while it lives.
class Variable {
public:
  Variable(const char *name, const std::string &value) : name(name) { setenv(name, value.c_str(), 1); }
  ~Variable() { unsetenv(name); }

private:
  const char *name;
};

#endif // ZOPT_TEST_UNIT_RUNTIME_VARIABLE_H
