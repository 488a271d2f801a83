//===- Linker.h - links kernels into a shared object ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LINKER_H
#define ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LINKER_H

#include <string>
#include <vector>

namespace zopt {

/// Links the object files `objects` into the shared object `output`: by lld as a library where zopt is built with it,
/// so that machines without a linker compile plans, otherwise by a linker on PATH. False, and why, where that fails.
bool linkSharedObject(const std::vector<std::string> &objects, const std::string &output, std::string &error);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANTOPROGRAM_LINKER_H
