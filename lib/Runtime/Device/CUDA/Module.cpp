//===- Module.cpp - PTX, loaded -------------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Module.h"
#include <cstring>
#include <vector>

namespace zopt::runtime::cuda {

Status loadModule(const Driver &driver, const std::string &ptx, CUmodule &module) {
  std::vector<char> log(8192, '\0');
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {log.data(), reinterpret_cast<void *>(uintptr_t(log.size()))};
  CUresult code = driver.cuModuleLoadDataEx(&module, ptx.c_str(), 2, options, values);
  if (code == CUDA_SUCCESS)
    return success();
  Status status = driver.error("cuModuleLoadDataEx", code);
  log.back() = '\0';
  std::string text = log.data();
  // One line a problem.
  while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
    text.pop_back();
  for (char &character : text)
    if (character == '\n')
      character = ';';
  if (text.empty())
    return status;
  Error error = status.getError();
  error.text += ": " + text;
  return Status(error);
}

} // namespace zopt::runtime::cuda
