//===- DynamicLibrary.h - libraries that are loaded at run time -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One binary serves machines with and without GPUs: NVIDIA's libraries are loaded when a run needs them. The folders of $ZOPT_CUDA_LIBRARY_PATH come first, each with its lib and */lib folders, so that it
// may name the nvidia folder of a Python environment; then the loader's own, then those where CUDA and Python's packages of its libraries are usually installed.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_DYNAMICLIBRARY_H
#define ZOPT_RUNTIME_CORE_DYNAMICLIBRARY_H

#include <initializer_list>
#include <string>

namespace zopt::runtime {

struct DynamicLibrary {
  void *handle = nullptr;
  std::string file;    // where it was found
  std::string problem; // the loader's text where it was not
};

/// The first of `names` that can be loaded. It stays loaded: CUDA's libraries do not take well to being unloaded.
DynamicLibrary openLibrary(std::initializer_list<const char *> names);

/// The handle of a library of zopt's own, or null and why: beside this program, as built (../lib) and as installed;
/// last where the system looks. It stays loaded.
void *openBesideProgram(const std::string &name, std::string &problem);

void *symbolIn(const DynamicLibrary &library, const char *name);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_DYNAMICLIBRARY_H
