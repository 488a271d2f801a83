//===- KernelLibrary.cpp - the generated kernels of a Program -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/KernelLibrary.h"
#include <dlfcn.h>

namespace zopt::runtime {

Result<std::shared_ptr<KernelLibrary>> KernelLibrary::load(const std::string &path, const Program &program) {
  auto library = std::make_shared<KernelLibrary>();
  if (program.kernels.empty())
    return library;
  // A path without a slash would be searched for in the system's folders.
  std::string name = path.find('/') == std::string::npos ? "./" + path : path;
  library->handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library->handle)
    return callError("dlopen", dlerror());
  for (const Kernel &kernel : program.kernels) {
    void *symbol = dlsym(library->handle, kernel.symbol.c_str());
    if (!symbol)
      return callError("dlsym", concat(path, ": kernel '", kernel.symbol, "' is missing"));
    library->functions.push_back(reinterpret_cast<KernelFunction>(symbol));
  }
  return library;
}

std::shared_ptr<KernelLibrary> KernelLibrary::fromFunctions(std::vector<KernelFunction> functions) {
  auto library = std::make_shared<KernelLibrary>();
  library->functions = std::move(functions);
  return library;
}

KernelLibrary::~KernelLibrary() {
  if (handle)
    dlclose(handle);
}

} // namespace zopt::runtime
