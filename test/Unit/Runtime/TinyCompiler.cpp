//===- TinyCompiler.cpp - a compiler of one program -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Stands in for libZoptCompiler.so where zrun's launcher is tested: "compiles" plans of the form "tiny STAGE ACCUMULATION" to the hand-written Program, whose kernels it holds itself.
#include "TinyProgram.h"
#include "zopt/Compiler/CompilerAPI.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

using namespace zopt::runtime;

// The names under which the Program looks for them.
#define ZOPT_EXPORT(name, index)                                                                                       \
  extern "C" void name(char *const *arguments, int64_t begin, int64_t end) { tinyKernels()->function(index)(arguments, begin, end); }
ZOPT_EXPORT(backward384, 0)
ZOPT_EXPORT(squares, 1)
ZOPT_EXPORT(finite_, 2)
ZOPT_EXPORT(sgd, 3)
ZOPT_EXPORT(backward512, 4)
ZOPT_EXPORT(backward768, 5)
ZOPT_EXPORT(backward1024, 6)

int zoptCompile(const char *planPath, const char *optionsJson, const char *cacheDirectory, char **programPath, char **error) {
  auto fail = [&](int code, const std::string &text) {
    *error = strdup(text.c_str());
    return code;
  };
  int stage = -1, accumulation = 1;
  std::string word;
  std::ifstream plan(planPath);
  if (!(plan >> word >> stage >> accumulation) || word != "tiny")
    return fail(1, std::string(planPath) + ":1:1: error: is not a tiny plan");
  if (stage == 9)
    std::abort();
  nlohmann::json options = nlohmann::json::parse(optionsJson);
  int world = options["world_size"];
  const bool onDevice = options["target"] == "cuda";
  if (onDevice && options["chip"] != "sm_90")
    return fail(1, "the chip of the fake driver was not passed on");
  Program program = onDevice ? makeTinyDeviceProgram(world, stage, accumulation) : makeTinyProgram(world, stage, accumulation);
  Dl_info self;
  dladdr(reinterpret_cast<void *>(&zoptCompile), &self);
  program.sharedObject = onDevice ? "tiny.ptx" : "tiny.so";
  std::filesystem::create_directories(cacheDirectory);
  std::string folder = std::string(cacheDirectory) + "/", path = folder + "tiny-" + std::to_string(world) + "-" + std::to_string(stage) + "-" + std::to_string(accumulation) + "-" + program.target + ".program";
  unlink((folder + program.sharedObject).c_str());
  if (onDevice)
    std::ofstream(folder + program.sharedObject) << ".version 8.0\n";
  else if (symlink(self.dli_fname, (folder + program.sharedObject).c_str()) != 0)
    return fail(3, "symlink failed");
  if (Status status = writeProgram(program, path); status.failed())
    return fail(3, status.message());
  *programPath = strdup(path.c_str());
  return 0;
}
