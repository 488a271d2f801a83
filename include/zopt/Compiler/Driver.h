//===- Driver.h - zopt's command line ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_DRIVER_H
#define ZOPT_COMPILER_DRIVER_H

namespace zopt {

/// Parses the command line, compiles, writes the output whole or not at all. Returns the exit code: 0 done, 1 the input is wrong or not supported, 2 usage, 3 a file cannot be written.
int zoptMain(int argc, char **argv);

} // namespace zopt

#endif // ZOPT_COMPILER_DRIVER_H
