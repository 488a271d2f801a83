//===- TinyCompiler.cpp - a compiler of one program -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Stands in for libZoptCompiler.so where zrun's launcher is tested: "compiles" plans of the form "tiny STAGE ACCUMULATION" to the hand-written Program, whose kernels it holds itself.
// "tiny STAGE ACCUMULATION products" adds three products for GPUs; behind that word a final plan has their algorithms, and in its next lines the library and the GPU that they were chosen for.
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

/// Two products of one kind, and one without workspace.
static void addProducts(Program &program, const std::vector<int64_t> &algorithms) {
  Arena &arena = program.arenas[0];
  auto buffer = [&](const char *name, int64_t bytes) {
    Buffer made;
    made.name = name;
    made.offset = (arena.bytes + 63) / 64 * 64;
    made.bytes = bytes;
    made.memoryClass = MemoryClass::Workspace;
    arena.bytes = made.offset + bytes;
    program.buffers.push_back(made);
    return BufferId(program.buffers.size() - 1);
  };
  BufferId lhs = buffer("lhs", 16 * 8 * 4), rhs = buffer("rhs", 8 * 24 * 4), out = buffer("out", 16 * 24 * 4), other = buffer("other out", 16 * 24 * 4), scratch = buffer("scratch", (4 << 20) + 256);
  for (int i = 0; i < 3; ++i) {
    Command command;
    command.kind = Command::Kind::Matmul;
    command.location = "product " + std::to_string(i);
    command.buffers = {lhs, rhs, i == 0 ? out : other, -1, i < 2 ? scratch : -1, -1, -1, -1};
    command.lhs = {DataType::F32, {16, 8}, {8, 1}};
    command.rhs = {DataType::F32, {8, 24}, {24, 1}};
    command.out = {DataType::F32, {16, 24}, {24, 1}};
    if (size_t(i) < algorithms.size())
      command.algorithm = algorithms[size_t(i)];
    program.sequences[0].commands.push_back(command);
  }
}

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
  std::vector<int64_t> algorithms;
  const bool products = bool(plan >> word) && word == "products";
  if (products) {
    for (int64_t algorithm; plan >> algorithm;)
      algorithms.push_back(algorithm);
    plan.clear();
    for (std::string line; std::getline(plan, line);)
      if (!line.empty())
        program.libraries.push_back(line);
    if (options.contains("algorithms")) {
      algorithms = options["algorithms"].get<std::vector<int64_t>>();
      program.libraries = options["tuned_for"].get<std::vector<std::string>>();
    }
    addProducts(program, algorithms);
  }
  if (options.contains("save_plan")) {
    std::ofstream saved(options["save_plan"].get<std::string>());
    saved << "tiny " << stage << ' ' << accumulation << (products ? " products" : "");
    for (int64_t algorithm : algorithms)
      saved << ' ' << algorithm;
    for (const std::string &library : program.libraries)
      saved << '\n' << library;
    saved << '\n';
  }
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
