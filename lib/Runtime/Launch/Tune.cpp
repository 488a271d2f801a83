//===- Tune.cpp - zrun --autotune -----------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Tune.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Launch/Child.h"
#include "zopt/Runtime/Launch/Run.h"
#include <algorithm>
#include <chrono>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

namespace zopt::runtime {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MatmulTuning, algorithms, library, device, products, milliseconds, firstMilliseconds)

namespace {

ChildAnswer tuneInChild(const std::string &path) {
  auto failed = [](const Status &status) { return ChildAnswer{int(status.kind()), status.message()}; };
  Result<Program> program = readProgram(path);
  if (program.failed())
    return failed(program.getStatus());
  Result<MatmulTuning> tuning = tuneMatmuls(*program);
  if (tuning.failed())
    return failed(tuning.getStatus());
  return {0, nlohmann::json(*tuning).dump()};
}

std::string decimal(double value) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << value;
  return text.str();
}

} // namespace

Result<MatmulTuning> tuneProgram(const std::string &plan, const std::string &path) {
  const auto begin = std::chrono::steady_clock::now();
  Result<std::string> answer = askChild(plan + ": tuning", [&] { return tuneInChild(path); });
  if (answer.failed())
    return answer.getStatus();
  nlohmann::json json = nlohmann::json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return runtimeError(plan, ": tuning gave no result");
  MatmulTuning tuning = json.get<MatmulTuning>();
  if (tuning.algorithms.empty()) {
    reportNote("nothing to tune: the plan has no products by a library");
    return tuning;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double less = tuning.firstMilliseconds > 0 ? std::max(0.0, 1 - tuning.milliseconds / tuning.firstMilliseconds) : 0;
  reportNote(concat("tuned ", tuning.products, tuning.products == 1 ? " product" : " products", " in ", decimal(seconds), " s: ", decimal(100 * less), "% less time in products than the library's first choices"));
  return tuning;
}

} // namespace zopt::runtime
