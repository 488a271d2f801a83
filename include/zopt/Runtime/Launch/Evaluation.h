//===- Evaluation.h - the loss of held-out data ---------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_EVALUATION_H
#define ZOPT_RUNTIME_LAUNCH_EVALUATION_H

#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Data/Dataset.h"
#include <optional>
#include <vector>

namespace zopt::runtime {

/// What an evaluation has found, the same on every rank.
struct EvaluationResult {
  double loss = 0;                ///< mean over every counted label of the data; NaN where there is none
  std::vector<double> terms;      ///< the same of each of Executor::lossTerms()
  std::optional<double> accuracy; ///< share of the counted labels that have the largest logit; of cross_entropy
  int64_t labels = 0, samples = 0; ///< labels that counted; with class weights the sum of theirs, rounded
};

/// What a plan must have to be evaluated.
Status checkEvaluation(const Program &program);

/// Runs @eval_step over held-out data, batch by batch, on the weights as they are. A batch is one micro-batch a rank: step s gives rank r the samples from (s * world + r) * micro on. Each micro-batch's sums are
/// added exactly, so that the result depends neither on the order of ranks nor, at one micro-batch size, on how many there are. What the states hold does not change.
class Evaluation {
public:
  /// `steps`: so many batches at most; 0: all of the data.
  Evaluation(Executor &executor, const Dataset &dataset, int64_t steps);

  /// Every rank calls it, with nothing under way. Nothing where a signal asked the run to stop. Failures are those of an agreement, or this rank's own.
  Result<std::optional<EvaluationResult>> run();

private:
  struct Sums;
  Status add(Sums &sums);

  Executor &executor;
  const Dataset &dataset;
  int64_t steps;
  const Output *lossSum = nullptr, *count = nullptr, *correct = nullptr; // `correct` is of cross_entropy
  std::vector<const Output *> termSums;
  std::vector<uint8_t> words;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_EVALUATION_H
