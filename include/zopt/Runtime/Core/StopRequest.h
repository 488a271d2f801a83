//===- StopRequest.h - signals that a run obeys -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// SIGINT, SIGTERM and SIGUSR2 ask for an end after the current step; a second SIGINT ends the process at once. SIGUSR1 asks for a checkpoint. The launcher passes SIGINT on to ranks as SIGALRM and
// SIGTERM as SIGUSR2, because mpirun forwards those without ending the job.
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
  /// Whether SIGUSR1 has asked for a checkpoint since the last call.
  static bool takeSaveRequest();
  /// As a signal does.
  static void request(int exitCode);
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_STOPREQUEST_H
