//===- Breakdown.cpp - where the time of a step went ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Breakdown.h"
#include <cstdio>

namespace zopt::runtime {

std::string breakdownText(const std::vector<ExecutedCommand> &commands) {
  using Kind = Command::Kind;
  enum Part { Products, Kernels, Exchanges, Optimizer, Other, Parts };
  static constexpr const char *names[Parts] = {"products", "kernels", "collectives", "optimizer", "other"};
  double nanoseconds[Parts] = {};
  for (const ExecutedCommand &executed : commands) {
    Part part = Other;
    switch (executed.command->kind) {
    case Kind::Matmul:
    case Kind::Attention:
    case Kind::AttentionGrad:
    case Kind::Convolution:
      part = Products;
      break;
    case Kind::Launch:
      part = Kernels;
      break;
    case Kind::AllGather:
    case Kind::ReduceScatter:
    case Kind::AllReduce:
    case Kind::AllReduceScalars:
    case Kind::Wait:
      part = Exchanges;
      break;
    case Kind::GradientNorm:
    case Kind::ParameterNorms:
    case Kind::Update:
      part = Optimizer;
      break;
    case Kind::Copy:
    case Kind::Zero:
      break;
    }
    nanoseconds[part] += double(executed.end - executed.begin);
  }
  std::string text;
  for (int part = 0; part < Parts; ++part) {
    char figure[64];
    std::snprintf(figure, sizeof figure, "%s%s %.2f ms", part ? ", " : "", names[part], nanoseconds[part] / 1e6);
    text += figure;
  }
  return text;
}

} // namespace zopt::runtime
