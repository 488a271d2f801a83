//===- KernelLibrary.h - the generated kernels of a Program -----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The shared object beside a Program, with one function a kernel.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_KERNELLIBRARY_H
#define ZOPT_RUNTIME_CORE_KERNELLIBRARY_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

/// Runs outer iterations [begin, end) on buffers that start at `arguments`.
using KernelFunction = void (*)(char *const *arguments, int64_t begin, int64_t end);

class KernelLibrary {
public:
  /// Loads the shared object at `path` and finds every kernel of `program` in it.
  static Result<std::shared_ptr<KernelLibrary>> load(const std::string &path, const Program &program);
  /// Kernels that are linked in: for tests.
  static std::shared_ptr<KernelLibrary> fromFunctions(std::vector<KernelFunction> functions);
  ~KernelLibrary();

  KernelFunction function(int32_t kernel) const { return functions[kernel]; }

private:
  void *handle = nullptr;
  std::vector<KernelFunction> functions; // as Program::kernels
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_KERNELLIBRARY_H
