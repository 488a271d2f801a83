//===- RunPage.h - a run as one page ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// `zrun report run.jsonl -o report.html`: what a metrics file tells, as one HTML page with plots as inline SVG. The
// page loads nothing and runs nothing.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_RUNPAGE_H
#define ZOPT_RUNTIME_MONITOR_RUNPAGE_H

#include "zopt/Runtime/Core/Status.h"
#include <istream>
#include <string>

namespace zopt::runtime {

/// The page of the records in `lines`, which `name` names in errors and in the title. Lines that are no records are
/// refused, all of them (the first ten by number) in one error.
Result<std::string> makeRunPage(std::istream &lines, const std::string &name);

/// `zrun report ...`; `argv[0]` is "report". The Status is left to be told.
Status runReportTool(int argc, char **argv);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_RUNPAGE_H
