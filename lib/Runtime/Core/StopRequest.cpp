//===- StopRequest.cpp - signals that end a run ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/StopRequest.h"
#include <atomic>
#include <csignal>
#include <initializer_list>
#include <unistd.h>

namespace zopt::runtime {

namespace {

std::atomic<int> code{0};
std::atomic<bool> exitsAtSecond{true}, second{false}, save{false};
static_assert(std::atomic<int>::is_always_lock_free, "handlers write it");

void handle(int signal) {
  if (signal == SIGUSR1) {
    save = true;
    return;
  }
  // SIGALRM is how the launcher passes SIGINT on: mpirun forwards it and ends the job at a SIGINT.
  bool interrupt = signal == SIGINT || signal == SIGALRM;
  int before = 0;
  bool first = code.compare_exchange_strong(before, interrupt ? 130 : 143);
  if (first || !interrupt)
    return;
  if (exitsAtSecond)
    _exit(130);
  second = true;
}

} // namespace

void StopRequest::install(bool exits) {
  exitsAtSecond = exits;
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2})
    sigaction(signal, &action, nullptr);
  // A closed pipe or a file limit is an error of the call that meets it, not the end of the process.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

bool StopRequest::requested() { return code.load() != 0; }
bool StopRequest::takeSaveRequest() { return save.exchange(false); }
bool StopRequest::atOnce() { return second.load(); }
int StopRequest::exitCode() { return code.load(); }
void StopRequest::request(int exitCode) {
  int before = 0;
  code.compare_exchange_strong(before, exitCode);
}

} // namespace zopt::runtime
