//===- Settle.cpp - what a run is set to ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Settle.h"
#include "zopt/Config/Config.h"
#include "zopt/Runtime/Launch/Job.h"
#include "zopt/Runtime/Launch/Run.h"
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unistd.h>

namespace zopt::runtime {

namespace {

std::optional<std::string> readText(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    return std::nullopt;
  return text.str();
}

/// Whether this process speaks for its job, as far as the environment tells.
bool isFirst(const RunOptions &options) {
  const char *rank = options.launcher == "env" ? std::getenv("RANK") : nullptr;
  return rank ? std::strcmp(rank, "0") == 0 : detectJob().first;
}

/// Flags of the config, after its report.
Status readConfig(const RunOptions &options, const Program &program, std::map<std::string, std::string> &flags) {
  std::optional<std::string> text = readText(options.config);
  if (!text)
    return inputError(options.config, ": error: cannot be read");
  config::Request request;
  request.partial = true;
  request.ranks = program.worldSize;
  request.compiled = program.compiled;
  request.compiled["lr"] = nlohmann::json(program.learningRate).dump(); // which a schedule's "auto" means
  for (const char *flag : {"lr", "clip", "weight-decay", "schedule"})
    if (auto it = options.given.find(flag); it != options.given.end())
      request.given[flag] = it->second;
  config::Resolved resolved = config::resolveFile(options.config, *text, request, readText);
  config::RunSettings run =
      config::settleRun(resolved, program.compiled, program.microBatch, program.accumSteps, program.worldSize);
  resolved.refused.insert(resolved.refused.end(), run.refused.begin(), run.refused.end());
  // Errors are the status; what else is to be said is said here.
  config::Resolved problems;
  std::swap(problems.refused, resolved.refused);
  const std::string report = config::report(resolved, options.config, /*strict=*/false);
  if (!report.empty() && isFirst(options))
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, report.data(), report.size());
  if (!problems.refused.empty()) {
    std::string lines = config::report(problems, options.config, /*strict=*/false);
    lines.pop_back();
    return inputError(lines);
  }
  flags = std::move(run.flags);
  return success();
}

/// A flag's values, which a plan and a config hold by line breaks, each as an argument.
void append(std::vector<std::string> &arguments, const std::string &flag, const std::string &values) {
  std::istringstream lines(values);
  for (std::string value; std::getline(lines, value);)
    arguments.push_back("--" + flag + "=" + value);
}

} // namespace

Status settleOptions(RunOptions &options, const Program &program) {
  if (options.settled)
    return success();
  std::map<std::string, std::string> flags;
  if (!options.config.empty())
    ZOPT_RETURN_IF_FAILED(readConfig(options, program, flags));
  flags.insert(program.run.begin(), program.run.end());
  std::vector<std::string> arguments = {"zrun"};
  for (const auto &[flag, values] : flags) {
    const bool shift = flag == "shift-labels" || flag == "no-shift-labels";
    // What excludes a flag of the command line yields to it.
    if (!options.given.count(flag) &&
        !(shift && (options.given.count("shift-labels") || options.given.count("no-shift-labels"))) &&
        !(flag == "epochs" && options.given.count("steps")) && !(flag == "steps" && options.given.count("epochs")))
      append(arguments, flag, values);
  }
  if (flags.count("csv") && !options.given.count("csv"))
    arguments.push_back("--internal-csv-folder");
  arguments.push_back("--internal-settled");
  // Ranks need no config any more, which other machines may not have.
  for (size_t i = 0; i < options.arguments.size(); ++i)
    if (options.arguments[i] == "--config")
      ++i;
    else if (options.arguments[i].rfind("--config=", 0) != 0)
      arguments.push_back(options.arguments[i]);

  std::vector<char *> pointers;
  for (std::string &argument : arguments)
    pointers.push_back(argument.data());
  RunOptions whole;
  Result<Parsed> parsed = parseOptions(int(pointers.size()), pointers.data(), whole);
  if (parsed.failed())
    return inputError(options.config.empty() ? options.plan : options.config,
                      ": what it sets for the run is refused: ", parsed.getStatus().message());
  // What the launcher has chosen before the program was there.
  whole.target = options.target;
  whole.comm = options.comm;
  whole.ranks = options.ranks;
  whole.devices = options.devices;
  whole.chip = options.chip;
  whole.program = options.program;
  whole.statusDirectory = options.statusDirectory;
  whole.checkpoint.restart = options.checkpoint.restart;
  options = std::move(whole);
  return success();
}

Result<std::string> wandbCommand(const std::string &value) {
  char self[PATH_MAX] = "";
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder(self, length > 0 ? size_t(length) : 0);
  folder = folder.substr(0, folder.rfind('/') + 1);
  const std::string bridge = folder + "../share/zopt/wandb_bridge.py";
  if (access(bridge.c_str(), R_OK) != 0)
    return inputError("--wandb needs ", bridge, ", which is not there");
  auto quoted = [](const std::string &text) {
    std::string whole = "'";
    for (char c : text)
      whole += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return whole + "'";
  };
  std::string command = "exec python3 " + quoted(bridge);
  std::istringstream parts(value);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    if (equals == std::string::npos || (name != "project" && name != "group" && name != "team" && name != "name"))
      return inputError("--wandb takes project=P,group=G,team=T,name=N, of which each may be absent, but got '", part,
                        "'");
    command += " --" + name + "=" + quoted(part.substr(equals + 1));
  }
  return command;
}

} // namespace zopt::runtime
