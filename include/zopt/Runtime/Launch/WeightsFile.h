//===- WeightsFile.h - states as safetensors files --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Weights and gradients as files of logical tensors, read by --weights and written by --weights-out and --gradients-out, under the initializers' names or the source model's. Source names come with
// the source's layout: a transposition that the exporter folded into a weight is undone.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_WEIGHTSFILE_H
#define ZOPT_RUNTIME_LAUNCH_WEIGHTSFILE_H

#include "zopt/Runtime/Core/InitialValues.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/States.h"
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

class WeightsFile {
public:
  /// Opens `path` and checks that it holds every parameter and buffer of `program` in its shape; all that is missing or mistaken is told at once. A path is a safetensors file, the index of several
  /// (model.safetensors.index.json), the folder of either, or a checkpoint. With `partial`, what does not fit is left out and told in notes().
  static Result<std::shared_ptr<WeightsFile>> open(const std::string &path, const Program &program, bool sourceNames, bool partial = false);
  virtual ~WeightsFile();
  /// Reads from this file, for as long as that is kept.
  virtual StateSource source() = 0;
  /// What the user should know of it.
  const std::vector<std::string> &notes() const { return noteLines; }

protected:
  std::vector<std::string> noteLines;
};

/// Copies of the reduced gradients of a step, taken before the optimizer runs. Memory is reserved when it is made.
class GradientCopy {
public:
  explicit GradientCopy(Executor &executor);
  /// For Executor::onGradients.
  Status take();
  const char *bucket(size_t index) const { return copies[index].data(); }

private:
  Executor &executor;
  std::vector<std::vector<char>> copies; // one a bucket, empty where it is not trained
};

/// Writes parameters and buffers, from rank 0; every rank calls it. With `gradients`, the trained parameters' gradients times `scale` instead; with `average`, the moving average of what is trained.
/// With `initial`, frozen parameters that live rounded are written as they came, where the rounded ones are still theirs.
Status writeStates(Executor &executor, const std::string &path, bool sourceNames, const GradientCopy *gradients = nullptr, double scale = 1, bool average = false, InitialValues *initial = nullptr);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_WEIGHTSFILE_H
