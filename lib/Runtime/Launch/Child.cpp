//===- Child.cpp - work that the launcher leaves to others ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Child.h"
#include <cerrno>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// Writes the exit code as one byte, then the text.
[[noreturn]] void answer(int pipe, const ChildAnswer &answer) {
  std::string message = std::string(1, char(answer.code)) + answer.text;
  for (size_t done = 0; done < message.size();) {
    ssize_t written = ::write(pipe, message.data() + done, message.size() - done);
    if (written < 0 && errno != EINTR)
      break;
    done += written > 0 ? size_t(written) : 0;
  }
  _exit(0);
}

} // namespace

Result<std::string> askChild(const std::string &who, const std::function<ChildAnswer()> &body) {
  int ends[2];
  if (pipe(ends) != 0)
    return callError("pipe", std::strerror(errno));
  pid_t child = fork();
  if (child < 0) {
    Status status = callError("fork", std::strerror(errno));
    close(ends[0]);
    close(ends[1]);
    return status;
  }
  if (child == 0) {
    close(ends[0]);
    answer(ends[1], body());
  }
  close(ends[1]);
  std::string answer;
  char chunk[4096];
  for (;;) {
    ssize_t got = ::read(ends[0], chunk, sizeof chunk);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      break;
    answer.append(chunk, size_t(got));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  if (answer.empty()) {
    if (WIFSIGNALED(status))
      return runtimeError(who, " was ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
    return runtimeError(who, " ended with code ", WEXITSTATUS(status));
  }
  std::string text = answer.substr(1);
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  if (answer[0] != 0)
    return Status(Error{answer[0] == 1 ? ErrorKind::Input : answer[0] == 2 ? ErrorKind::Usage : ErrorKind::Runtime, -1, "", "", text});
  return text;
}

} // namespace zopt::runtime
