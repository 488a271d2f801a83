//===- CsvMonitor.cpp - a table of the steps ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Monitors.h"
#include <charconv>
#include <cstdlib>
#include <fstream>

namespace zopt::runtime {

namespace {

constexpr const char *kColumns =
    "step,epoch,samples,tokens,loss,grad_norm,lr,loss_scale,skipped,step_ms,samples_per_s,tokens_per_s,flops,mfu";

class CsvMonitor : public Monitor {
public:
  CsvMonitor(LineFile file) : file(std::move(file)) { row.reserve(512); }

  Status begin() { return file.size() == 0 ? file.write(std::string(kColumns) + "\n") : success(); }

  Status step(const StepEvent &event) override {
    row.clear();
    append(event.step);
    append(event.epoch);
    append(event.samples);
    appendOptional(event.tokens);
    append(event.loss);
    append(event.gradientNorm);
    append(event.learningRate);
    appendOptional(event.lossScale);
    append(int64_t(event.skipped));
    append(event.stepMilliseconds);
    append(event.samplesPerSecond);
    if (event.tokens)
      append(event.tokensPerSecond);
    else
      row += ',';
    appendOptional(event.flops);
    appendOptional(event.mfu);
    row.back() = '\n';
    return file.write(row);
  }

private:
  /// Shortest digits that read back exactly; nan, inf and -inf as every reader of tables knows them.
  template <typename T>
  void append(T value) {
    char digits[32];
    row.append(digits, size_t(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
    row += ',';
  }
  template <typename T>
  void appendOptional(const std::optional<T> &value) {
    if (value)
      append(*value);
    else
      row += ',';
  }

  LineFile file;
  std::string row;
};

} // namespace

Result<std::unique_ptr<Monitor>> openCsvMonitor(const std::string &path, std::optional<int64_t> resumeAfter) {
  if (resumeAfter) {
    std::string first;
    if (std::ifstream old(path); std::getline(old, first) && first != kColumns)
      return inputError(path, ": begins with '", first,
                        "', not with the columns of this zrun, so its rows cannot go on");
  }
  // The line of names begins with no digit, which atoll reads as 0.
  Result<LineFile> file =
      resumeAfter
          ? LineFile::resume(path, [&](const std::string &row) { return std::atoll(row.c_str()) > *resumeAfter; })
          : LineFile::open(path, /*append=*/false);
  if (file.failed())
    return file.getStatus();
  auto monitor = std::make_unique<CsvMonitor>(std::move(*file));
  ZOPT_RETURN_IF_FAILED(monitor->begin());
  return std::unique_ptr<Monitor>(std::move(monitor));
}

} // namespace zopt::runtime
