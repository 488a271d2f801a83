//===- DynamicLibrary.cpp - libraries that are loaded at run time ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DynamicLibrary.h"
#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <sstream>
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

DynamicLibrary openLibrary(std::initializer_list<const char *> names) {
  DynamicLibrary library;
  std::vector<std::string> folders = namedFolders();
  for (const char *name : names) {
    for (const std::string &folder : folders) {
      std::string path = folder + "/" + name;
      std::error_code error;
      if (!std::filesystem::exists(path, error))
        continue;
      if ((library.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))) {
        library.file = path;
        return library;
      }
      library.problem = dlerror();
    }
    if ((library.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL))) {
      library.file = name;
      return library;
    }
    if (const char *text = dlerror(); text && library.problem.empty())
      library.problem = text;
  }
  return library;
}

void *symbolIn(const DynamicLibrary &library, const char *name) { return dlsym(library.handle, name); }

} // namespace zopt::runtime
