//===- Compile.cpp - calls the compiler -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Compiler/CompilerAPI.h"
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

constexpr const char *kLibrary = "libZoptCompiler.so";

/// Where ZOPT_COMPILER says; beside this program, as built and as installed; last where the system looks.
void *loadCompiler(std::string &problem) {
  if (const char *named = std::getenv("ZOPT_COMPILER"); named && *named) {
    void *handle = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
      problem = dlerror();
    return handle;
  }
  char self[PATH_MAX] = "";
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder(self, length > 0 ? size_t(length) : 0);
  folder = folder.substr(0, folder.rfind('/') + 1);
  for (const std::string &path : {folder + "../lib/" + kLibrary, folder + kLibrary, std::string(kLibrary)}) {
    if (path[0] == '/' && access(path.c_str(), R_OK) != 0)
      continue;
    if (void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
      return handle;
    problem = dlerror();
  }
  return nullptr;
}

/// The child: writes the exit code as one byte, then the program's path or the error.
[[noreturn]] void compileInChild(int pipe, const RunOptions &options, int worldSize, int threads) {
  auto finish = [&](int code, const std::string &text) {
    std::string message = std::string(1, char(code)) + text;
    for (size_t done = 0; done < message.size();) {
      ssize_t written = ::write(pipe, message.data() + done, message.size() - done);
      if (written < 0 && errno != EINTR)
        break;
      done += written > 0 ? size_t(written) : 0;
    }
    _exit(0);
  };
  std::string problem = "not found";
  void *handle = loadCompiler(problem);
  if (!handle)
    finish(3, std::string("dlopen: ") + kLibrary + ": " + problem);
  auto compile = reinterpret_cast<decltype(&zoptCompile)>(dlsym(handle, "zoptCompile"));
  if (!compile)
    finish(3, std::string("dlsym: ") + dlerror());
  nlohmann::json json = {{"world_size", worldSize}, {"threads", threads}, {"target", options.target}};
  if (!options.chip.empty())
    json["chip"] = options.chip;
  if (!options.savePlan.empty())
    json["save_plan"] = options.savePlan;
  char *program = nullptr, *error = nullptr;
  int code = compile(options.plan.c_str(), json.dump().c_str(), options.cacheDirectory.c_str(), &program, &error);
  if (code == 0 && program)
    finish(0, program);
  finish(code ? code : 3, error ? error : "the compiler failed and did not say why");
  _exit(0);
}

} // namespace

Result<std::string> compilePlan(const RunOptions &options, int worldSize, int threads) {
  int ends[2];
  if (pipe(ends) != 0)
    return callError("pipe", std::strerror(errno));
  pid_t child = fork();
  if (child < 0)
    return callError("fork", std::strerror(errno));
  if (child == 0) {
    close(ends[0]);
    compileInChild(ends[1], options, worldSize, threads);
  }
  close(ends[1]);
  std::string answer;
  char chunk[4096];
  for (;;) {
    ssize_t got = ::read(ends[0], chunk, sizeof chunk);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      break;
    answer.append(chunk, size_t(got));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  if (answer.empty()) {
    if (WIFSIGNALED(status))
      return runtimeError(options.plan, ": the compiler was ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
    return runtimeError(options.plan, ": the compiler ended with code ", WEXITSTATUS(status));
  }
  std::string text = answer.substr(1);
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  if (answer[0] != 0)
    return Status(Error{answer[0] == 1 ? ErrorKind::Input : answer[0] == 2 ? ErrorKind::Usage : ErrorKind::Runtime, -1, "", "", text});
  return text;
}

} // namespace zopt::runtime
