//===- PeakFlops.h - what a device can do at most --------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_PEAKFLOPS_H
#define ZOPT_RUNTIME_MONITOR_PEAKFLOPS_H

#include "zopt/Runtime/Core/Program.h"
#include <optional>
#include <string>

namespace zopt::runtime {

/// Floating-point operations a second that a GPU's data sheet names for dense matrix products whose operands are of `type`, by the model's name as CUDA tells it. fp32 is without tensor cores, which is how products run here. Nothing
/// for models that are not in the table.
std::optional<double> knownPeakFlops(const std::string &model, DataType type);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_PEAKFLOPS_H
