//===- CudaExecutor.h - runs a Program on a GPU -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Commands are queued on the compute stream in the plan's order; collectives on a stream of their own between two events; results leave on a third. A sequence runs command by command the first time,
// which loads what libraries load lazily and tells precisely what fails, and is captured as a CUDA graph the second time: from then on a sequence is one call. Traced, poisoned and observed
// sequences, and those whose collectives need the host, are never replayed from a graph.
//
// CudaExecutor.cpp makes and ends it, and runs sequences; PrepareCommands.cpp makes launches of commands; ExecuteCommands.cpp issues them; GraphCapture.cpp replays a sequence; TraceSequence.cpp times
// one; Transfers.cpp moves what goes in and out.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_CUDAEXECUTOR_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_CUDAEXECUTOR_H

#include "AttentionGradient.h"
#include "Collectives.h"
#include "DeviceActivities.h"
#include "DeviceContext.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace zopt::runtime::cuda {

/// Pinned memory through which states travel: so many blocks, of so many bytes.
inline constexpr int kTransferBlocks = 3;
inline constexpr int64_t kTransferBytes = int64_t(4) << 20;
/// Micro-batches that may be written ahead, and steps whose results may be under way.
inline constexpr int kInputSlots = 2, kResultSlots = 2;

inline bool isCollective(Command::Kind kind) { return kind == Command::Kind::AllGather || kind == Command::Kind::ReduceScatter || kind == Command::Kind::AllReduce; }

/// One launch, with everything that cuLaunchKernel wants to be pointed at. Stays where it is made.
struct DeviceCall {
  CUfunction function = nullptr;
  std::vector<CUdeviceptr> pointers;
  std::vector<double> scalars; // decay and rate of an Update, in the master type
  int64_t begin = 0, end = 0;
  unsigned blocks = 0, threads = 0, sharedBytes = 0;
  std::vector<void *> parameters;
};

class CudaExecutor final : public Executor {
public:
  CudaExecutor(const Program &program, Communicator &communicator, const ExecutorOptions &options) : Executor(program, communicator, options) {}
  ~CudaExecutor() override;

  /// Every rank calls it, and all fail together.
  Status prepare();

  Status run(const std::string &sequence, bool firstMicroStep) override;
  Result<void *const *> inputs() override;
  Status finishStep(std::optional<StepResult> &result) override;
  Status lastResult(std::optional<StepResult> &result) override;
  Status upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) override;
  Status download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) override;
  Status zero(BufferId buffer, int64_t byteOffset, int64_t bytes) override;
  Status synchronize() override;
  Status endTrace() override;
  std::vector<std::pair<std::string, int64_t>> unplannedMemory() const override;
  std::string deviceModel() const override { return device->model; }
  const char *exchange() const override { return collectives ? collectives->name() : communicator.name(); }
  std::string remark() const override { return collectives ? collectives->remark() : ""; }

private:
  struct Prepared {
    const Command *command = nullptr;
    std::vector<CUdeviceptr> pointers;              // Command::buffers, with their byte offsets; 0 for those that are absent
    std::vector<std::unique_ptr<DeviceCall>> calls; // Launch: one. Update: one a run of segments. GradientNorm: sums of squares, one a kind of bucket, then the norm
    size_t summed = 0;                              // ParameterNorms: calls before those that make norms of sums
    std::unique_ptr<DeviceMatmul> matmul;
    std::unique_ptr<DeviceAttention> attention;
    std::unique_ptr<DeviceConvolution> convolution;
    Collective collective;
    uint32_t mark = 0;      // of a collective: its place among those of the program, from 1
    CUevent done = nullptr; // of a collective: recorded behind it
    CUevent awaited = nullptr; // Wait: that of its collective
    CUevent ready = nullptr;   // of a gather that goes on behind the end of its sequence: recorded in its place
    bool continues = false;    // such a gather, or its Wait
    std::vector<CUevent> firstUses; // of other sequences' gathers that go on: this command is the first that needs them
  };
  struct PreparedSequence {
    std::vector<Prepared> commands;
    PoisonPlan poison;
    size_t inputsRead = 0; // commands up to the last that reads inputs
    bool writesResults = false, hasNorm = false, hasCollectives = false;
    std::vector<size_t> continued; // gathers that go on behind its end
    bool dependsOnFirst = false; // on whether it is the first micro-step
    // One a variant: the first micro-step, the others.
    bool ran[2] = {false, false};
    CUgraphExec graphs[2] = {nullptr, nullptr};
  };
  struct Mark {
    const Command *command;
    const std::string *sequence;
    int word; // of progressWords
  };
  /// Pinned memory and what guards it: the event behind the last use.
  struct Slot {
    char *data = nullptr;
    CUevent event = nullptr;
    bool used = false;
  };

  Status prepareDevice();
  Status prepareCommands();
  Status prepareCommand(const Command &command, Prepared &prepared);
  /// Of buffer `index` of a command, which is scratch; 0 where there is none.
  int64_t scratchBytes(const Command &command, size_t index) const;
  Status prepareNorm(const Command &command, Prepared &prepared);
  void limitBlocks(DeviceCall &call, int64_t enough) const;
  Status prepareSlots();
  Status prepareProgress();
  /// Finds the gathers that nothing behind them in their sequence needs, and what needs them in others.
  Status continueGathers();
  Status issueContinued(PreparedSequence &sequence);
  /// Whether two buffers have bytes in common.
  bool overlap(BufferId a, BufferId b) const;
  /// Before the host reads or writes a buffer: behind the gathers that go on, where one of them is into it.
  Status awaitContinued(BufferId buffer);
  Status loadKernels();
  Status loadLibraries();
  Status makeCall(int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end, std::unique_ptr<DeviceCall> &made);
  Status makeSlot(Slot &slot, int64_t bytes);
  /// Of `transfers`, the one whose turn it is; the wait for the copy that was last issued from or to it; and the mark
  /// behind a copy that was issued now.
  Slot &nextBlock();
  Status awaitBlock(const Slot &slot);
  Status markBlock(Slot &slot);

  /// With `waits`, every command is waited for, so that a failure is told of the command that it happened in.
  Status issue(PreparedSequence &sequence, size_t index, bool firstMicroStep, bool waits);
  Status issueTraced(PreparedSequence &sequence, size_t index, bool firstMicroStep);
  Status issueBetweenEvents(PreparedSequence &sequence, size_t index, bool firstMicroStep);
  Status replay(PreparedSequence &sequence, size_t index, bool firstMicroStep);
  Status execute(Prepared &prepared, bool firstMicroStep);
  Status startCollective(Prepared &prepared, bool firstMicroStep);
  Status computeNorm(Prepared &prepared);
  Status sumParameterNorms(Prepared &prepared);
  Status copyInputs();
  /// Behind each command of a sequence, by number.
  Status passed(const PreparedSequence &sequence, size_t index, size_t command);
  /// Runs `body` on a stream of collectives, behind what the compute stream has so far; and without that.
  template <typename Body>
  Status onStream(CUstream stream, CUevent done, uint32_t mark, Body body);
  template <typename Body>
  Status inStream(CUstream stream, CUevent done, uint32_t mark, Body body);
  CUstream streamOf(const Command &collective) const {
    return collective.kind != Command::Kind::AllGather && collectives->reducesApart() ? device->reductions : device->exchange;
  }
  Status order(CUstream first, CUstream then, CUevent event);
  Status launch(const DeviceCall &call);
  Status poison(const std::vector<PoisonRange> &ranges);
  Status awaitResult(std::optional<StepResult> &result);
  std::string standing() const;
  /// Tells a failure of this rank, and that the device is not to be waited for.
  Status failed(const Status &status);

  CUdeviceptr address(BufferId buffer) const { return arenas[program.buffers[buffer].arena] + uint64_t(offsetOf(buffer)); }

  std::unique_ptr<DeviceContext> device;
  std::unique_ptr<LibraryContext> libraries;
  std::unique_ptr<AttentionGradientKernels> attentionGradients;
  std::unique_ptr<DeviceCollectives> collectives;
  CUmodule module = nullptr;
  std::vector<CUfunction> functions; // one a kernel of the program
  std::vector<CUdeviceptr> arenas;
  std::vector<PreparedSequence> sequences;
  bool graphs = true, everyCommand = false;
  CUevent continuing = nullptr;       // the last gather that goes on, until the compute stream waits for it
  std::vector<BufferId> continuedInto; // what such gathers write

  CUevent fork = nullptr; // of the compute stream, for others to wait behind; each use is waited for at once
  Slot transfers[kTransferBlocks];
  int nextTransfer = 0;

  Slot inputSlots[kInputSlots];
  std::vector<std::vector<void *>> inputAddresses; // one list a slot
  int inputSlot = 0;
  bool inputsWritten = false;
  CUevent inputsFree = nullptr; // behind the last command that reads them, in the sequence that was launched last
  bool isCapturing = false;

  Slot resultSlots[kResultSlots];
  std::vector<const State *> resultStates; // one for each of kResults, or null; then those of the loss's terms
  int64_t stepsIssued = 0, stepsTold = 0;

  std::string current = "start";      // the sequence that was issued last
  const Command *running = nullptr;   // where commands are waited for one by one
  std::vector<Mark> marked;           // collectives by mark
  volatile uint32_t *progressWords = nullptr; // pinned: the marks of the last collectives that the exchange stream and that of reductions came past

  bool isTracing = false;
  std::unique_ptr<DeviceActivities> activities; // while a step is traced, where CUPTI is there
  std::vector<const Command *> tracedCommands;  // in the order in which `activities` has them
  std::vector<CUevent> traceEvents;
  int64_t deviceBefore = 0; // that the thread had allocated
  int64_t planned = 0, contextBytes = 0, libraryBytes = 0, communicationBytes = 0, freeAtEnd = 0;
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_CUDAEXECUTOR_H
