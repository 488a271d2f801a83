//===- Modules.cpp - communicators that are loaded ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Modules.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include <dlfcn.h>

namespace zopt::runtime {

static Result<const void *> loadModule(const char *name, const char *advice) {
  std::string problem = "not found";
  void *handle = openBesideProgram(name, problem);
  if (!handle)
    return callError("dlopen", concat(name, ": ", problem, " (", advice, ")"));
  auto entry = reinterpret_cast<const void *(*)()>(dlsym(handle, "zoptModule"));
  if (!entry)
    return callError("dlsym", concat(name, ": is no module of zrun"));
  return entry();
}

Result<const MpiModule *> loadMpiModule() {
  // Open MPI loads plugins that look for its symbols among those of the whole process. Where this fails the module says
  // why.
  dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
  Result<const void *> module = loadModule(
      "libZoptMpi.so", "install Open MPI 4: Debian's openmpi-bin; --comm=local and --launcher=env work without");
  if (module.failed())
    return module.getStatus();
  return static_cast<const MpiModule *>(*module);
}

Result<const GlooModule *> loadGlooModule() {
  Result<const void *> module = loadModule("libZoptGloo.so", "install gloo: Debian's libgloo0");
  if (module.failed())
    return module.getStatus();
  return static_cast<const GlooModule *>(*module);
}

} // namespace zopt::runtime
