//===- Tuning.cpp - what a tuned plan is for ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/Tuning.h"

namespace zopt::runtime {

Status checkTuning(const Program &program, const std::string &device, const std::string &library) {
  bool tuned = false;
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands)
      tuned |= command.algorithm >= 0;
  if (!tuned)
    return success();
  // The compiler writes the two behind everything else.
  const size_t count = program.libraries.size();
  if (count < 2 || program.libraries[count - 2].rfind("cublasLt ", 0) != 0)
    return inputError("this plan has algorithms of products, but does not say for which library and GPU: tune it with --autotune");
  const std::string &forLibrary = program.libraries[count - 2], &forDevice = program.libraries[count - 1];
  if (forDevice != device || (!library.empty() && forLibrary != library))
    return inputError("this plan's products were tuned for ", forLibrary, " on ", forDevice, ", but here is ", library, library.empty() ? "" : " on ", device, ": tune it anew with --autotune, or run the portable plan");
  return success();
}

} // namespace zopt::runtime
