//===- Child.h - work that the launcher leaves to others ------ -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The launcher keeps the compiler out of its own process, and CUDA where ranks are forked from it. What they find comes back through a socket.
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

/// A child process at work. Made while the process has one thread.
class Child {
public:
  /// `body` runs in the child. Its argument waits for what finish() sends: what could be done before is done by then.
  using Body = std::function<ChildAnswer(const std::function<std::string()> &request)>;
  explicit Child(const Body &body);
  /// Ends it where it was not finished.
  ~Child();
  Child(const Child &) = delete;
  Child &operator=(const Child &) = delete;

  /// Sends the request and gives the answer. `who` names the child where it ends without one.
  Result<std::string> finish(const std::string &who, const std::string &request = "");

private:
  Status failure; // of starting it
  int channel = -1, process = -1;
};

/// Runs `body` in a child process and gives its answer, in one.
Result<std::string> askChild(const std::string &who, const std::function<ChildAnswer()> &body);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_CHILD_H
