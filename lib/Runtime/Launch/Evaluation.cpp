//===- Evaluation.cpp - the loss of held-out data -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Evaluation.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include <algorithm>
#include <cmath>

namespace zopt::runtime {

static constexpr const char *kSequence = "eval_step";

Status checkEvaluation(const Program &program) {
  for (const Sequence &sequence : program.sequences)
    if (sequence.name == kSequence)
      return success();
  return inputError("--eval-data needs a plan with @eval_step, which zopt --eval makes", program.mode == "train" ? "" : concat("; this plan's mode is ", program.mode));
}

struct Evaluation::Sums {
  std::vector<ExactSum> terms;
  ExactSum loss, labels; // class weights make the count of labels a sum of numbers
  int64_t correct = 0, samples = 0;
};

Evaluation::Evaluation(Executor &executor, const Dataset &dataset, int64_t limit) : executor(executor), dataset(dataset), steps(dataset.stepsPerEpoch()) {
  if (limit > 0)
    steps = std::min(steps, limit);
  for (const Output &output : executor.getProgram().outputs)
    for (auto [name, place] : {std::pair("zopt.eval_loss_sum", &lossSum), std::pair("zopt.eval_count", &count), std::pair("zopt.eval_correct", &correct)})
      if (output.name == name)
        *place = &output;
  for (const std::string &term : executor.lossTerms())
    for (const Output &output : executor.getProgram().outputs)
      if (output.name == "zopt.eval_loss_sum." + term)
        termSums.push_back(&output);
  words.resize(2 * size_t(executor.getCommunicator().size()));
}

Status Evaluation::add(Sums &sums) {
  auto read = [&](const Output *output, double &value) -> Status {
    value = 0;
    if (!output)
      return success();
    char bytes[8];
    ZOPT_RETURN_IF_FAILED(executor.download(output->buffer, 0, bytes, sizeOf(output->type)));
    value = loadAsDouble(output->type, bytes, 0);
    return success();
  };
  double loss, labels, right;
  ZOPT_RETURN_IF_FAILED(read(lossSum, loss));
  ZOPT_RETURN_IF_FAILED(read(count, labels));
  ZOPT_RETURN_IF_FAILED(read(correct, right));
  for (size_t i = 0; i < termSums.size(); ++i) {
    double value;
    ZOPT_RETURN_IF_FAILED(read(termSums[i], value));
    sums.terms[i].add(value);
  }
  sums.loss.add(loss);
  sums.labels.add(labels);
  sums.correct += std::llround(right);
  return success();
}

Result<std::optional<EvaluationResult>> Evaluation::run() {
  Communicator &communicator = executor.getCommunicator();
  Sums sums;
  sums.terms.resize(termSums.size());
  for (int64_t step = 0; step < steps; ++step) {
    Result<void *const *> destinations = executor.inputs();
    if (destinations.failed())
      return destinations.getStatus(); // of the device: nothing that could be agreed on
    Status mine = dataset.fill(step, 0, communicator.rank(), *destinations);
    const int64_t rows = dataset.rowsIn(step, 0, communicator.rank());
    if (mine.succeeded())
      dataset.ignoreRows(rows, *destinations);
    const uint8_t word[2] = {uint8_t(mine.failed()), uint8_t(StopRequest::exitCode() != 0)};
    if (Status told = communicator.allGatherNow("evaluation", word, words.data(), sizeof word); told.failed())
      return told;
    bool failed = false, stops = false;
    for (size_t i = 0; i < words.size(); i += 2) {
      failed |= words[i] != 0;
      stops |= words[i + 1] != 0;
    }
    if (failed)
      return communicator.agree("evaluation data", mine);
    if (stops)
      return std::optional<EvaluationResult>();
    if (Status ran = executor.run(kSequence); ran.failed())
      return ran;
    if (Status added = add(sums); added.failed())
      return added;
    sums.samples += rows;
  }
  auto exact = sums.loss.toWords(), counts = sums.labels.toWords();
  std::vector<int64_t> all(exact.begin(), exact.end());
  all.insert(all.end(), {sums.correct, sums.samples});
  all.insert(all.end(), counts.begin(), counts.end());
  for (ExactSum &term : sums.terms) {
    auto exactTerm = term.toWords();
    all.insert(all.end(), exactTerm.begin(), exactTerm.end());
  }
  if (Status reduced = communicator.allReduceIntegers("evaluation", all.data(), int64_t(all.size())); reduced.failed())
    return reduced;
  std::copy_n(all.begin(), exact.size(), exact.begin());
  EvaluationResult result;
  std::copy_n(all.begin() + exact.size() + 2, counts.size(), counts.begin());
  const double labels = ExactSum::fromWords(counts).round();
  result.labels = std::llround(labels);
  result.samples = all[exact.size() + 1];
  result.loss = labels > 0 ? ExactSum::fromWords(exact).round() / labels : std::nan("");
  for (size_t i = 0; i < sums.terms.size(); ++i) {
    std::copy_n(all.begin() + exact.size() + 2 + counts.size() + i * exact.size(), exact.size(), exact.begin());
    result.terms.push_back(labels > 0 ? ExactSum::fromWords(exact).round() / labels : std::nan(""));
  }
  if (correct && labels > 0)
    result.accuracy = double(all[exact.size()]) / labels;
  return std::optional<EvaluationResult>(result);
}

} // namespace zopt::runtime
