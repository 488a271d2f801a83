//===- Child.h - work that the launcher leaves to others ------ -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The launcher keeps the compiler and CUDA out of its own process, which ranks are forked from. What they find comes back through a pipe.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_CHILD_H
#define ZOPT_RUNTIME_LAUNCH_CHILD_H

#include "zopt/Runtime/Core/Status.h"
#include <functional>
#include <string>

namespace zopt::runtime {

struct ChildAnswer {
  int code = 0; // zrun's exit code, or 0
  std::string text; // the answer, or what went wrong
};

/// Runs `body` in a child process and gives its answer. `who` names it where it ends without one. Called while the process has one thread.
Result<std::string> askChild(const std::string &who, const std::function<ChildAnswer()> &body);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_CHILD_H
