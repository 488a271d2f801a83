//===- DynamicLibrary.cpp - libraries that are loaded at run time ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DynamicLibrary.h"
#include <algorithm>
#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <glob.h>
#include <sstream>
#include <unistd.h>
#include <vector>

namespace zopt::runtime {

static std::vector<std::string> namedFolders() {
  std::vector<std::string> folders;
  const char *named = std::getenv("ZOPT_CUDA_LIBRARY_PATH");
  std::istringstream list(named ? named : "");
  for (std::string folder; std::getline(list, folder, ':');) {
    if (folder.empty())
      continue;
    folders.push_back(folder);
    folders.push_back(folder + "/lib");
    std::error_code error;
    std::vector<std::string> inner;
    for (const auto &entry : std::filesystem::directory_iterator(folder, error))
      if (std::error_code ignored; std::filesystem::is_directory(entry.path() / "lib", ignored))
        inner.push_back((entry.path() / "lib").string());
    std::sort(inner.begin(), inner.end());
    folders.insert(folders.end(), inner.begin(), inner.end());
  }
  return folders;
}

static void addMatches(const std::string &pattern, std::vector<std::string> &folders) {
  glob_t matches = {};
  if (glob(pattern.c_str(), GLOB_ONLYDIR, nullptr, &matches) == 0)
    for (size_t i = 0; i < matches.gl_pathc; ++i)
      folders.push_back(matches.gl_pathv[i]);
  globfree(&matches);
}

/// Where CUDA and Python's packages of its libraries are installed.
static std::vector<std::string> usualFolders() {
  std::vector<std::string> folders;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char *value = std::getenv(variable))
      folders.push_back(std::string(value) + "/lib64");
  addMatches("/usr/local/cuda/lib64", folders);
  addMatches("/usr/local/cuda-*/lib64", folders);
  const char *environment = std::getenv("VIRTUAL_ENV");
  for (const std::string &root : {std::string(environment ? environment : ""), std::string("/usr"), std::string("/usr/local")})
    for (const char *packages : {"/lib/python3*/site-packages", "/lib/python3*/dist-packages"})
      if (!root.empty())
        addMatches(root + packages + "/nvidia/*/lib", folders);
  return folders;
}

DynamicLibrary openLibrary(std::initializer_list<const char *> names) {
  DynamicLibrary library;
  auto open = [&](const std::string &path) {
    library.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle)
      library.file = path;
    else if (const char *text = dlerror(); text && library.problem.empty())
      library.problem = text;
    return library.handle != nullptr;
  };
  auto openIn = [&](const std::vector<std::string> &folders, const char *name) {
    std::error_code error;
    return std::any_of(folders.begin(), folders.end(), [&](const std::string &folder) { return std::filesystem::exists(folder + "/" + name, error) && open(folder + "/" + name); });
  };
  const std::vector<std::string> named = namedFolders(), usual = usualFolders();
  for (const char *name : names)
    if (openIn(named, name) || open(name) || openIn(usual, name))
      return library;
  return library;
}

void *openBesideProgram(const std::string &name, std::string &problem) {
  char self[PATH_MAX] = "";
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder(self, length > 0 ? size_t(length) : 0);
  folder = folder.substr(0, folder.rfind('/') + 1);
  for (const std::string &path : {folder + "../lib/" + name, folder + name, name}) {
    if (path[0] == '/' && access(path.c_str(), R_OK) != 0)
      continue;
    if (void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
      return handle;
    problem = dlerror();
    if (path[0] == '/')
      break; // it is there, so another one is not meant
  }
  return nullptr;
}

void *symbolIn(const DynamicLibrary &library, const char *name) { return dlsym(library.handle, name); }

} // namespace zopt::runtime
