//===- Restart.cpp - starts ranks anew after a failure --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace zopt::runtime {

int runWithRestarts(const RunOptions &options, const std::function<RunEnd(const RunOptions &)> &attempt) {
  RunOptions anew = options;
  while (true) {
    RunEnd end = attempt(anew);
    if (end.code != 3 || !end.lost || StopRequest::requested() ||
        anew.checkpoint.restart >= options.checkpoint.maxRestarts)
      return end.code;
    ++anew.checkpoint.restart;
    reportNote(concat("starts the ranks anew, ", anew.checkpoint.restart, " of ", options.checkpoint.maxRestarts,
                      " times, from the last checkpoint in ", options.checkpoint.directory));
  }
}

std::string outOfMemoryText(int signal, int64_t before) {
  int64_t now = readOomKills();
  if (signal != SIGKILL || before < 0 || now < 0)
    return "";
  if (now == before)
    return ", not for lack of memory: the kernel counts no such kill meanwhile";
  return concat(": the kernel ran out of memory, oom_kill rose from ", before, " to ", now);
}

/// How a child says that its ranks were lost: exit codes below are zrun's own.
constexpr int kLostCode = 64 + 3;

RunEnd runInChild(const std::function<RunEnd()> &body) {
  const int64_t oomKills = readOomKills();
  pid_t child = fork();
  if (child < 0) {
    reportError(callError("fork", std::strerror(errno)));
    return {3, false};
  }
  if (child == 0) {
    // A group of its own: the terminal's SIGINT reaches this process through us alone, once.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    StopRequest::install();
    RunEnd end = body();
    _exit(end.lost ? kLostCode : end.code);
  }
  int status = 0;
  bool passedOn = false;
  while (waitpid(child, &status, WNOHANG) != child) {
    if (StopRequest::requested() && !passedOn) {
      passedOn = true;
      kill(child, StopRequest::exitCode() == 130 ? SIGALRM : SIGUSR2);
    }
    if (StopRequest::atOnce())
      kill(child, SIGKILL);
    if (StopRequest::takeSaveRequest())
      kill(child, SIGUSR1);
    usleep(20000);
  }
  if (WIFSIGNALED(status)) {
    if (StopRequest::atOnce())
      return {130, false};
    reportError(runtimeError("the process of the ranks (", long(child), ") was killed by signal ", WTERMSIG(status),
                             " (", strsignal(WTERMSIG(status)), ")", outOfMemoryText(WTERMSIG(status), oomKills)));
    return {3, true};
  }
  int code = WEXITSTATUS(status);
  return code == kLostCode ? RunEnd{3, true} : RunEnd{code, false};
}

} // namespace zopt::runtime
