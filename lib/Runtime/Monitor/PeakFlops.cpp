//===- PeakFlops.cpp - what a device can do at most -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/PeakFlops.h"

namespace zopt::runtime {

namespace {

struct Model {
  const char *name;    // part of what CUDA tells
  double half, single; // TFLOP/s; bf16 and fp16, and fp32
};

// NVIDIA's data sheets, without sparsity. The first that matches counts: what tells a form factor stands before the family.
constexpr Model kModels[] = {
    {"H200 NVL", 835.5, 60},  {"H200", 989.4, 66.9},      {"H100 PCIe", 756, 51.2}, {"H100 NVL", 835.5, 60},
    {"H100", 989.4, 66.9},    {"H800", 989.4, 66.9},      {"A100", 312, 19.5},      {"A800", 312, 19.5},
};

} // namespace

std::optional<double> knownPeakFlops(const std::string &model, DataType type) {
  const bool half = type == DataType::BF16 || type == DataType::F16;
  if (!half && type != DataType::F32)
    return std::nullopt;
  for (const Model &known : kModels)
    if (model.find(known.name) != std::string::npos)
      return (half ? known.half : known.single) * 1e12;
  return std::nullopt;
}

} // namespace zopt::runtime
