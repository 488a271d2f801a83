//===- Executor.h - runs the sequences of a Program on one rank -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Holds a rank's arenas and everything that can be prepared before the first step: resolved addresses, library primitives, kernels. Running a sequence allocates nothing of note.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_EXECUTOR_H
#define ZOPT_RUNTIME_CORE_EXECUTOR_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Core/KernelLibrary.h"
#include "zopt/Runtime/Core/Memory.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

struct ExecutorOptions {
  int threads = 1;
  /// Fills buffers with NaN patterns where their lives end: a test mode that makes a read of a dead buffer visible.
  bool poison = false;
};

/// One command that ran, for traces. Nanoseconds of the steady clock.
struct ExecutedCommand {
  const Command *command = nullptr;
  int64_t begin = 0, end = 0;
};

class Executor {
public:
  /// `program` and `communicator` outlive the executor. Refuses a Program for another world size.
  static Result<std::unique_ptr<Executor>> create(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options);
  ~Executor();

  /// Runs a sequence to its end. `firstMicroStep` clears accumulators. After a failure the rank's memory is not to be relied on.
  Status run(const std::string &sequence, bool firstMicroStep = true);
  bool has(const std::string &sequence) const;

  /// Where a buffer starts on this rank.
  char *address(BufferId buffer) const;
  /// A state with a buffer of its own, as a number; `write` of one that the Program lacks does nothing and says so by false.
  bool write(const std::string &state, double value);
  bool read(const std::string &state, double &value) const;

  /// Called after every GradientNorm, where all reduced gradients are there and no parameter has been updated.
  void onGradients(std::function<Status()> observer) { gradientObserver = std::move(observer); }
  /// Where given, every command that runs is appended; reserve room for them.
  void traceInto(std::vector<ExecutedCommand> *events) { trace = events; }

  const PeakMeter &peak() const { return *meter; }
  const Program &getProgram() const { return program; }
  Communicator &getCommunicator() const { return communicator; }

private:
  struct Prepared;
  struct PreparedSequence;
  Executor(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options);
  Status prepare();
  Status prepareCommand(const Command &command, Prepared &prepared);
  void preparePoison(const Sequence &sequence, PreparedSequence &prepared);
  Status execute(Prepared &prepared, bool firstMicroStep);
  Status computeNorm(Prepared &prepared);

  const Program &program;
  std::shared_ptr<KernelLibrary> kernels;
  Communicator &communicator;
  ExecutorOptions options;
  std::vector<ArenaMemory> arenas;
  std::vector<PreparedSequence> sequences;
  std::unique_ptr<PeakMeter> meter;
  std::function<Status()> gradientObserver;
  std::vector<ExecutedCommand> *trace = nullptr;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_EXECUTOR_H
