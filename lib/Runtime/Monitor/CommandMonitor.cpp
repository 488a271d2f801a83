//===- CommandMonitor.cpp - a command that gets every record --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Monitors.h"
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace zopt::runtime {

namespace {

using Clock = std::chrono::steady_clock;

class CommandMonitor : public Monitor {
public:
  CommandMonitor(std::string command, Warn warn, CommandLimits limits)
      : command(std::move(command)), warn(std::move(warn)), limits(limits) {
    waiting.reserve(limits.waitingBytes);
  }
  ~CommandMonitor() override { (void)close(); }

  Status start() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      return callError("pipe2", std::strerror(errno));
    input = ends[1];
    ::fcntl(input, F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    std::string shell = "/bin/sh", flag = "-c";
    char *arguments[] = {shell.data(), flag.data(), command.data(), nullptr};
    int number = posix_spawn(&child, shell.c_str(), &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
    if (number == 0)
      return success();
    child = -1;
    ::close(input);
    input = -1;
    return callError("posix_spawn", std::strerror(number));
  }

  Status record(const std::string &line) override {
    if (input < 0)
      return success();
    if (waiting.size() + line.size() > limits.waitingBytes)
      flush();
    if (input < 0)
      return success();
    if (waiting.size() + line.size() > limits.waitingBytes) {
      if (dropped++ == 0)
        warn(concat("--on-metrics: '", command,
                    "' does not read: records that it has no room for are dropped; training goes on"));
      return success();
    }
    waiting += line;
    flush();
    return success();
  }

  Status close() override {
    if (child < 0)
      return success();
    auto end =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limits.closeSeconds));
    while (input >= 0 && !waiting.empty() && Clock::now() < end) {
      pollfd writable{input, POLLOUT, 0};
      ::poll(&writable, 1, 100);
      flush();
    }
    if (child < 0) // it died, and that was said
      return success();
    if (!waiting.empty())
      warn(concat("--on-metrics: '", command, "' left ", waiting.size(), " bytes of records unread"));
    if (dropped > 0)
      warn(concat("--on-metrics: '", command, "' missed ", dropped, " records"));
    ::close(input);
    input = -1;
    if (!reap(end))
      warn(concat("--on-metrics: '", command, "' did not end within ", limits.closeSeconds,
                  " s of its input's end, and is left running"));
    child = -1;
    return success();
  }

private:
  /// Writes what the pipe takes. Lines are whole to the reader, because the pipe keeps their order.
  void flush() {
    size_t done = 0;
    while (done < waiting.size()) {
      ssize_t wrote = ::write(input, waiting.data() + done, waiting.size() - done);
      if (wrote > 0) {
        done += size_t(wrote);
        continue;
      }
      if (errno == EINTR)
        continue;
      if (errno == EAGAIN)
        break;
      // It reads no more: it ended, or closed its input.
      ::close(input);
      input = -1;
      waiting.clear();
      if (reap(Clock::now() + std::chrono::milliseconds(100), /*always=*/true))
        child = -1;
      else
        warn(concat("--on-metrics: '", command,
                    "' has closed its input; it gets no more records, and training goes on"));
      return;
    }
    waiting.erase(0, done);
  }

  /// Whether the child has ended; says so where that was not a success, or `always`.
  bool reap(Clock::time_point end, bool always = false) {
    int status = 0;
    for (;;) {
      pid_t got = ::waitpid(child, &status, WNOHANG);
      if (got == child)
        break;
      if (got < 0 && errno != EINTR)
        return true; // somebody else has waited for it
      if (Clock::now() >= end)
        return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (WIFSIGNALED(status))
      warn(concat("--on-metrics: '", command, "' was ended by signal ", WTERMSIG(status),
                  "; it gets no more records, and the run goes on"));
    else if (always || WEXITSTATUS(status) != 0)
      warn(concat("--on-metrics: '", command, "' ended with code ", WEXITSTATUS(status),
                  "; it gets no more records, and the run goes on"));
    return true;
  }

  std::string command;
  Warn warn;
  CommandLimits limits;
  pid_t child = -1;
  int input = -1;
  std::string waiting;
  int64_t dropped = 0;
};

} // namespace

Result<std::unique_ptr<Monitor>> startCommandMonitor(const std::string &command, Warn warn, CommandLimits limits) {
  auto monitor = std::make_unique<CommandMonitor>(command, std::move(warn), limits);
  ZOPT_RETURN_IF_FAILED(monitor->start().in("--on-metrics"));
  return std::unique_ptr<Monitor>(std::move(monitor));
}

} // namespace zopt::runtime
