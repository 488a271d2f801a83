//===- zrun.cpp - executes a plan -----------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Launch/Options.h"
#include "zopt/Runtime/Launch/Run.h"

using namespace zopt::runtime;

int main(int argc, char **argv) {
  RunOptions options;
  Result<Parsed> parsed = parseOptions(argc, argv, options);
  if (parsed.failed()) {
    reportError(parsed.getStatus());
    return int(parsed.getStatus().kind());
  }
  if (*parsed == Parsed::Exit)
    return 0;
  return runZrun(options);
}
