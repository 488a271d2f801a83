//===- Doctor.h - what this machine has for a run ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The findings of `zrun --doctor`. Drivers and libraries are looked for by loading them at run time, so the same binary tells of machines with and without a GPU; what is absent is said.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_DOCTOR_H
#define ZOPT_RUNTIME_MONITOR_DOCTOR_H

#include <string>
#include <vector>

namespace zopt::runtime {

struct Finding {
  std::string subject; ///< "cpu", "mpi", ...
  std::string text;    ///< one line
  std::string advice;  ///< one line, where something is missing
};

/// Examines this machine; `folder` is where outputs would go. Loads GPU libraries into the process, so it is for a process that does nothing else.
std::vector<Finding> examineMachine(const std::string &folder = ".");

/// A line a finding, its advice indented below it.
std::string doctorReport(const std::vector<Finding> &findings);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_DOCTOR_H
