//===- CheckpointTool.h - zrun ckpt -----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_CHECKPOINTTOOL_H
#define ZOPT_RUNTIME_LAUNCH_CHECKPOINTTOOL_H

namespace zopt::runtime {

/// `zrun ckpt info|verify|convert|export ...`; `argv[0]` is "ckpt". Gives the exit code; everything has been said.
int runCheckpointTool(int argc, char **argv);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_CHECKPOINTTOOL_H
