//===- zrun.cpp - executes a plan -----------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/CheckpointTool.h"
#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Launch/Options.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Monitor/RunPage.h"
#include <cstring>

using namespace zopt::runtime;

int main(int argc, char **argv) {
  if (argc > 1 && std::strcmp(argv[1], "ckpt") == 0)
    return runCheckpointTool(argc - 1, argv + 1);
  if (argc > 1 && std::strcmp(argv[1], "report") == 0) {
    Status status = runReportTool(argc - 1, argv + 1);
    if (status.failed())
      reportError(status);
    return status.failed() ? int(status.kind()) : 0;
  }
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
