//===- Child.cpp - work that the launcher leaves to others ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Child.h"
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace zopt::runtime {

namespace {

/// Whether there is more to come of what the other end sends.
bool receive(int channel, std::string &text) {
  char chunk[4096];
  ssize_t got = ::read(channel, chunk, sizeof chunk);
  if (got > 0)
    text.append(chunk, size_t(got));
  return got > 0 || (got < 0 && errno == EINTR);
}

/// A receiver that is gone is no matter here: who waits for its answer learns that.
void send(int channel, const std::string &text) {
  for (size_t done = 0; done < text.size();) {
    ssize_t sent = ::send(channel, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR)
      break;
    done += sent > 0 ? size_t(sent) : 0;
  }
}

int reap(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR)
    ;
  return status;
}

} // namespace

Child::Child(const Body &body) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    failure = callError("socketpair", std::strerror(errno));
    return;
  }
  process = fork();
  if (process < 0)
    failure = callError("fork", std::strerror(errno));
  if (process == 0) {
    close(ends[0]);
    ChildAnswer answer = body([&] {
      std::string request;
      while (receive(ends[1], request))
        ;
      return request;
    });
    // The exit code as one byte, then the text.
    send(ends[1], std::string(1, char(answer.code)) + answer.text);
    _exit(0);
  }
  channel = ends[0];
  close(ends[1]);
}

Child::~Child() {
  if (channel >= 0)
    close(channel);
  if (process > 0) {
    kill(process, SIGKILL);
    reap(process);
  }
}

Result<std::string> Child::finish(const std::string &who, const std::string &request) {
  ZOPT_RETURN_IF_FAILED(failure);
  send(channel, request);
  shutdown(channel, SHUT_WR);
  std::string answer;
  while (receive(channel, answer))
    ;
  const int status = reap(std::exchange(process, -1));
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

Result<std::string> askChild(const std::string &who, const std::function<ChildAnswer()> &body) {
  return Child([&](const std::function<std::string()> &) { return body(); }).finish(who);
}

} // namespace zopt::runtime
