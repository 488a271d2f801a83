//===- StopRequest.h - signals that end a run -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// SIGINT and SIGTERM ask for an end after the current step; a second SIGINT ends the process at once. The launcher passes them on to ranks as SIGUSR1 and SIGUSR2, because mpirun itself
// forwards those and nothing else without ending the job.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_STOPREQUEST_H
#define ZOPT_RUNTIME_CORE_STOPREQUEST_H

namespace zopt::runtime {

class StopRequest {
public:
  /// Installs the handlers, in the process.
  /// At a second SIGINT the process exits with 130, or, where `exits` is false, atOnce() turns true.
  static void install(bool exits = true);
  /// Whether a signal has asked for an end.
  static bool requested();
  static bool atOnce();
  /// 130 or 143 where requested, otherwise 0.
  static int exitCode();
  /// As a signal does.
  static void request(int exitCode);
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_STOPREQUEST_H
