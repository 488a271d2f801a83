//===- Compile.cpp - calls the compiler -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Compiler/CompilerAPI.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Launch/Tune.h"
#include <cstdlib>
#include <dlfcn.h>
#include <nlohmann/json.hpp>
#include <utility>

namespace zopt::runtime {

namespace {

constexpr const char *kLibrary = "libZoptCompiler.so";

} // namespace

/// Where ZOPT_COMPILER says; beside this program, as built and as installed; last where the system looks.
void *loadCompiler(std::string &problem) {
  if (const char *named = std::getenv("ZOPT_COMPILER"); named && *named) {
    void *handle = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
      problem = dlerror();
    return handle;
  }
  return openBesideProgram(kLibrary, problem);
}

namespace {

/// The request is the target and, behind a blank, the chip.
ChildAnswer compileInChild(const RunOptions &options, int worldSize, int threads, const MatmulTuning *tuning,
                           const std::function<std::string()> &request) {
  std::string problem = "not found";
  void *handle = loadCompiler(problem);
  if (!handle)
    return {3, std::string("dlopen: ") + kLibrary + ": " + problem};
  auto compile = reinterpret_cast<decltype(&zoptCompile)>(dlsym(handle, "zoptCompile"));
  if (!compile)
    return {3, std::string("dlsym: ") + dlerror()};
  const std::string wanted = request();
  const size_t blank = wanted.find(' ');
  if (blank == std::string::npos) // who asked has ended
    return {3, ""};
  nlohmann::json json = {{"world_size", worldSize}, {"threads", threads}, {"target", wanted.substr(0, blank)}};
  if (blank + 1 < wanted.size())
    json["chip"] = wanted.substr(blank + 1);
  if (options.comm == "nccl" && worldSize == 1) // asked for by name: NCCL is to be seen
    json["keep_collectives"] = true;
  if (!options.savePlan.empty())
    json["save_plan"] = options.savePlan;
  if (tuning && !tuning->algorithms.empty()) {
    json["algorithms"] = tuning->algorithms;
    json["tuned_for"] = {tuning->library, tuning->device};
  }
  char *program = nullptr, *error = nullptr;
  int code = compile(options.plan.c_str(), json.dump().c_str(), options.cacheDirectory.c_str(), &program, &error);
  if (code == 0 && program)
    return {0, program};
  return {code ? code : 3, error ? error : "the compiler failed and did not say why"};
}

std::unique_ptr<Child> start(const RunOptions &options, int worldSize, int threads, const MatmulTuning *tuning) {
  return std::make_unique<Child>([&](const std::function<std::string()> &request) {
    return compileInChild(options, worldSize, threads, tuning, request);
  });
}

} // namespace

std::unique_ptr<Child> startCompiler(const RunOptions &options, int worldSize, int threads) {
  return options.autotune ? nullptr : start(options, worldSize, threads, nullptr);
}

Result<std::string> compilePlan(const RunOptions &options, int worldSize, int threads, std::unique_ptr<Child> started) {
  auto compile = [&](const RunOptions &with, const MatmulTuning *tuning) {
    if (!started)
      started = start(with, worldSize, threads, tuning);
    return std::exchange(started, nullptr)->finish(with.plan + ": the compiler", with.target + ' ' + with.chip);
  };
  if (options.autotune && options.target != "cuda")
    reportNote("nothing to tune: this run is on the CPU");
  if (!options.autotune || options.target != "cuda")
    return compile(options, nullptr);
  RunOptions untuned = options;
  untuned.savePlan.clear();
  Result<std::string> program = compile(untuned, nullptr);
  if (program.failed())
    return program;
  Result<MatmulTuning> tuning = tuneProgram(options.plan, *program);
  if (tuning.failed())
    return tuning.getStatus();
  return compile(options, &*tuning);
}

} // namespace zopt::runtime
