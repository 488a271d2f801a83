//===- Job.h - a whole job as YAML --------------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Model, data, training and what is written, in one file. Its training part has DeepSpeed's config, if any, under it:
// what both say must agree.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONFIG_JOB_H
#define ZOPT_CONFIG_JOB_H

#include "zopt/Config/Config.h"
#include "zopt/Config/Keys.h"

namespace zopt::config {

/// All keys of a job, in the order of documentation. Flag: `about` is a flag of zopt (`--x`) or of zrun (`zrun --x`).
/// Rule: `about` says what becomes of it.
const std::vector<Key> &jobKeys();

/// Resolves a job. Findings of the DeepSpeed config that it names begin with that file's path. Never throws.
Resolved resolveJob(const std::string &path, const std::string &text, const Request &request, const ReadFile &read);

/// The table of docs/Config.md, Markdown.
std::string describeJobKeys();

} // namespace zopt::config

#endif // ZOPT_CONFIG_JOB_H
