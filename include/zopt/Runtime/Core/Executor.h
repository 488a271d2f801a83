//===- Executor.h - runs the sequences of a Program on one rank -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the sequences of a Program on one rank: on the host's memory and threads, or on a GPU. An executor holds the rank's arenas and everything that can be prepared before the first step: resolved
// addresses, library primitives, kernels. Running a sequence allocates nothing of note.
//
// On a GPU run() only issues work. What a step measured comes back from finishStep(), there one step late, so that the host is never waited for; every other read waits for all work before it.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_EXECUTOR_H
#define ZOPT_RUNTIME_CORE_EXECUTOR_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Core/KernelLibrary.h"
#include "zopt/Runtime/Core/Memory.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace zopt::runtime {

/// How ranks on GPUs exchange: by NCCL, through the host's memory and its Communicator, or by NCCL where every rank has a GPU of its own.
enum class DeviceExchange { Automatic, Nccl, Host };

struct ExecutorOptions {
  int threads = 1;
  /// Fills buffers with NaN patterns where their lives end: a test mode that makes a read of a dead buffer visible.
  bool poison = false;
  /// CUDA: the PTX beside the Program.
  std::string kernelFile;
  /// CUDA: how long to wait for the device or a peer.
  double timeoutSeconds = 600;
  DeviceExchange exchange = DeviceExchange::Automatic;
};

/// The clock of traces.
inline int64_t steadyNanoseconds() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// One command that ran, for traces. Nanoseconds of the steady clock.
struct ExecutedCommand {
  const Command *command = nullptr;
  int64_t begin = 0, end = 0;
  bool ended = false; // a collective's end is its own; otherwise it ends with its Wait
};

/// What a step measured; values that the Program does not have are as here.
struct StepResult {
  double loss = NAN, norm = NAN, finite = 1;
  double lossScale = 1;          // of the next step
  double lossScaleExhausted = 0; // it should have fallen, but is at its minimum
  std::vector<double> terms;     // of a loss that is a sum, in the order of Executor::lossTerms()
};

class Executor {
public:
  /// `program` and `communicator` outlive the executor. `kernels` is for programs of the CPU, which Program::target chooses. Every rank calls it. Refuses a Program for another world size.
  static Result<std::unique_ptr<Executor>> create(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options);
  virtual ~Executor();

  /// Runs a sequence, or issues it. `firstMicroStep` clears accumulators. After a failure the rank's memory is not to be relied on.
  virtual Status run(const std::string &sequence, bool firstMicroStep = true) = 0;
  bool has(const std::string &sequence) const;

  /// Where the inputs of the next sequence are to be written, one address for each of Program::inputs. They belong to the executor from run() on.
  virtual Result<void *const *> inputs() = 0;
  /// Ends a step: `result` receives what the oldest step that was not told yet has measured, or nothing where no such step has come to its end.
  virtual Status finishStep(std::optional<StepResult> &result) = 0;
  /// What remains to be told after the last finishStep(), waited for.
  virtual Status lastResult(std::optional<StepResult> &result) = 0;

  /// Bytes of a buffer on this rank, from and to the host's memory, behind everything that was issued. The host's memory may be used again when they return.
  virtual Status upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) = 0;
  virtual Status download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) = 0;
  virtual Status zero(BufferId buffer, int64_t byteOffset, int64_t bytes) = 0;
  /// Waits for everything that was issued, and says where it failed.
  virtual Status synchronize() = 0;

  /// A state with a buffer of its own, as a number. Where the Program has no such state nothing happens.
  Status write(const std::string &state, double value);
  Status read(const std::string &state, double &value);

  /// Called after every GradientNorm, where all reduced gradients are there and no parameter has been updated.
  void onGradients(std::function<Status()> observer) { gradientObserver = std::move(observer); }
  /// Where given, every command that runs until endTrace() is appended, by then at the latest; reserve room for them.
  void traceInto(std::vector<ExecutedCommand> *events) { trace = events; }
  virtual Status endTrace() {
    trace = nullptr;
    return success();
  }

  const PeakMeter &peak() const { return meter; }
  /// Bytes of the device that are neither arenas nor planned, by name ("context", "libraries", ...), and the pinned memory of the host ("pinned"). Empty on a CPU.
  virtual std::vector<std::pair<std::string, int64_t>> unplannedMemory() const { return {}; }
  /// The model of the device that it runs on, as its driver tells it; empty: the host.
  virtual std::string deviceModel() const { return ""; }
  /// What collectives go through: "local", "mpi" or "nccl".
  virtual const char *exchange() const { return communicator.name(); }
  /// A warning about how it exchanges, or nothing; the same on every rank.
  virtual std::string remark() const { return ""; }

  /// What the terms of the loss are called, where it is a sum of several.
  const std::vector<std::string> &lossTerms() const { return termNames; }

  const Program &getProgram() const { return program; }
  Communicator &getCommunicator() const { return communicator; }
  int threads() const { return options.threads; }

protected:
  Executor(const Program &program, Communicator &communicator, const ExecutorOptions &options);
  const State *stateWithBuffer(const std::string &name) const;
  /// Index of a sequence, or -1.
  int sequenceIndex(const std::string &name) const;
  /// Where a buffer starts in its arena on this rank.
  int64_t offsetOf(BufferId buffer) const { return program.buffers[buffer].offset + communicator.rank() * program.buffers[buffer].rankStride; }

  const Program &program;
  Communicator &communicator;
  const ExecutorOptions options;
  PeakMeter meter;
  std::vector<std::string> termNames;
  std::vector<const State *> termStates; // one for each
  std::function<Status()> gradientObserver;
  std::vector<ExecutedCommand> *trace = nullptr;
};

/// An optimizer kernel's call on consecutive segments of equal decay and rate: blocks [begin, end) of kUpdateBlock elements of the rank's part of the bucket.
struct UpdateRun {
  int64_t begin = 0, end = 0;
  size_t segment = 0; // the first; the only one where the optimizer has a trust ratio
  std::vector<double> scalars; // decay, and the factor of the learning rate where the command has rates: the kernel's last arguments
};
/// The arrays of an Update on this rank, as (buffer, byte offset), in the order of the kernel's arguments, its scalars left out; and its calls.
struct UpdatePlan {
  std::vector<std::pair<BufferId, int64_t>> arrays;
  std::vector<UpdateRun> runs;
};
/// The parameters of a bucket, in order.
std::vector<const State *> segmentsOf(const Program &program, int32_t bucket);
/// The scalars of an Update (or ParameterNorms) among pointers that are made of its buffers, in the order of the kernel's arguments.
template <typename Pointer>
std::vector<Pointer> scalarsOf(const Command &command, const std::vector<Pointer> &pointers) {
  std::vector<Pointer> scalars(pointers.begin(), pointers.begin() + 4);
  if (command.buffers.size() > 5)
    scalars.push_back(pointers[5]);
  return scalars;
}
UpdatePlan planUpdate(const Program &program, const Command &command, int rank);

/// Elements that one outer iteration of the norm's and the optimizer's kernels takes.
constexpr int64_t kUpdateBlock = 128;

/// Bytes of an arena to poison, for the test mode.
struct PoisonRange {
  int32_t arena = 0;
  int64_t begin = 0, bytes = 0;
};
struct PoisonPlan {
  std::vector<PoisonRange> atStart;
  std::vector<std::vector<PoisonRange>> after; // one a command
};
PoisonPlan planPoison(const Program &program, const Sequence &sequence, int rank);
/// Bytes that turn every float type into NaN and every integer type into -1.
constexpr int kPoison = 0xff;

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_EXECUTOR_H
