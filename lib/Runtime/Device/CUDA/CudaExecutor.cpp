//===- CudaExecutor.cpp - runs a Program on a GPU -------------------------===//
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
//===----------------------------------------------------------------------===//

#include "Collectives.h"
#include "DeviceContext.h"
#include "Module.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

namespace zopt::runtime {

using namespace cuda;

namespace {

/// Pinned memory through which states travel: so many blocks, of so many bytes.
constexpr int kTransferBlocks = 3;
constexpr int64_t kTransferBytes = int64_t(4) << 20;
/// Micro-batches that may be written ahead, and steps whose results may be under way.
constexpr int kInputSlots = 2, kResultSlots = 2;
/// How long the end of an executor waits for its device.
constexpr double kFarewellSeconds = 10;
constexpr const char *kResults[] = {"zopt.loss", "zopt.norm", "zopt.finite", "zopt.loss_scale", "zopt.loss_scale_exhausted"};

int64_t nanoseconds() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool isSet(const char *variable, bool otherwise) {
  const char *text = std::getenv(variable);
  return text && *text ? std::strcmp(text, "0") != 0 : otherwise;
}

bool isCollective(Command::Kind kind) { return kind == Command::Kind::AllGather || kind == Command::Kind::ReduceScatter || kind == Command::Kind::AllReduce; }

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
  std::vector<std::pair<std::string, int64_t>> unplannedMemory() const override;
  std::string deviceModel() const override { return device->model; }
  const char *exchange() const override { return collectives ? collectives->name() : communicator.name(); }

private:
  struct Prepared {
    const Command *command = nullptr;
    std::vector<CUdeviceptr> pointers;              // Command::buffers, with their byte offsets; 0 for those that are absent
    std::vector<std::unique_ptr<DeviceCall>> calls; // Launch: one. Update: one a run of segments. GradientNorm: squares and sums, bucket by bucket, then the norm
    size_t summed = 0;                              // ParameterNorms: calls before those that make norms of sums
    std::unique_ptr<DeviceMatmul> matmul;
    std::unique_ptr<DeviceAttention> attention;
    std::unique_ptr<DeviceConvolution> convolution;
    Collective collective;
    uint32_t mark = 0;      // of a collective: its place among those of the program, from 1
    CUevent done = nullptr; // of a collective: recorded behind it
    CUevent awaited = nullptr; // Wait: that of its collective
  };
  struct PreparedSequence {
    std::vector<Prepared> commands;
    PoisonPlan poison;
    bool readsInputs = false, writesResults = false, hasNorm = false, hasCollectives = false;
    bool dependsOnFirst = false; // on whether it is the first micro-step
    // One a variant: the first micro-step, the others.
    bool ran[2] = {false, false};
    CUgraphExec graphs[2] = {nullptr, nullptr};
  };
  struct Mark {
    const Command *command;
    const std::string *sequence;
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
  Status prepareSlots();
  Status prepareProgress();
  Status loadKernels();
  Status makeCall(int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end, std::unique_ptr<DeviceCall> &made);
  Status makeSlot(Slot &slot, int64_t bytes);

  /// With `waits`, every command is waited for, so that a failure is told of the command that it happened in.
  Status issue(PreparedSequence &sequence, size_t index, bool firstMicroStep, bool waits);
  Status issueTraced(PreparedSequence &sequence, size_t index, bool firstMicroStep);
  Status replay(PreparedSequence &sequence, size_t index, bool firstMicroStep);
  Status execute(Prepared &prepared, bool firstMicroStep);
  Status startCollective(Prepared &prepared, bool firstMicroStep);
  Status computeNorm(Prepared &prepared);
  Status sumParameterNorms(Prepared &prepared);
  Status copyInputs();
  /// Runs `body` on the exchange stream, behind what the compute stream has so far.
  template <typename Body>
  Status onExchange(CUevent done, uint32_t mark, Body body);
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
  std::unique_ptr<DeviceCollectives> collectives;
  CUmodule module = nullptr;
  std::vector<CUfunction> functions; // one a kernel of the program
  std::vector<CUdeviceptr> arenas;
  std::vector<PreparedSequence> sequences;
  bool graphs = true, everyCommand = false;

  CUevent fork = nullptr; // of the compute stream, for others to wait behind; each use is waited for at once
  Slot transfers[kTransferBlocks];
  int nextTransfer = 0;

  Slot inputSlots[kInputSlots];
  std::vector<std::vector<void *>> inputAddresses; // one list a slot
  int inputSlot = 0;
  bool inputsWritten = false;

  Slot resultSlots[kResultSlots];
  std::vector<const State *> resultStates; // one for each of kResults, or null; then those of the loss's terms
  int64_t stepsIssued = 0, stepsTold = 0;

  std::string current = "start";      // the sequence that was issued last
  const Command *running = nullptr;   // where commands are waited for one by one
  std::vector<Mark> marked;           // collectives by mark
  volatile uint32_t *progressWord = nullptr; // pinned: the mark of the last collective that the exchange stream came past

  std::vector<CUevent> traceEvents;
  int64_t deviceBefore = 0; // that the thread had allocated
  int64_t planned = 0, contextBytes = 0, libraryBytes = 0, communicationBytes = 0, freeAtEnd = 0;
};

CudaExecutor::~CudaExecutor() {
  if (!device)
    return;
  // What still runs may use everything below. After a failure elsewhere it may also wait for a peer that never comes.
  device->timeoutSeconds = std::min(device->timeoutSeconds, kFarewellSeconds);
  if (!device->broken && synchronize().failed())
    device->broken = true;
  const Driver &driver = device->driver;
  if (!device->broken)
    for (PreparedSequence &sequence : sequences)
      for (CUgraphExec graph : sequence.graphs)
        if (graph)
          driver.cuGraphExecDestroy(graph);
  // Where the device may be busy for ever, communicators are told to give up, and the rest is left to the end of the process.
  collectives.reset();
  if (device->broken) {
    for (PreparedSequence &sequence : sequences)
      for (Prepared &prepared : sequence.commands) {
        (void)prepared.matmul.release();
        (void)prepared.attention.release();
      }
    (void)libraries.release();
    return;
  }
  sequences.clear();
  libraries.reset();
  if (module)
    driver.cuModuleUnload(module);
  for (CUdeviceptr arena : arenas)
    if (arena)
      driver.cuMemFree(arena);
}

Status CudaExecutor::failed(const Status &status) {
  if (device)
    device->broken = true;
  return status.onRank(communicator.rank());
}

//===----------------------------------------------------------------------===//
// Preparation
//===----------------------------------------------------------------------===//

Status CudaExecutor::prepare() {
  bool wrongTier = false;
  for (const Arena &arena : program.arenas) {
    wrongTier |= arena.tier != Tier::Device;
    planned += arena.bytes;
  }
  if (wrongTier) // the same on every rank
    return inputError("an arena is in a tier that this machine's target does not have");
  Result<std::unique_ptr<DeviceContext>> made = DeviceContext::create(communicator, planned, options.timeoutSeconds);
  if (made.failed())
    return made.getStatus();
  device = std::move(*made);
  device->where = [this] { return standing(); };
  device->health = [this]() -> Status {
    if (collectives)
      ZOPT_RETURN_IF_FAILED(collectives->health());
    return communicator.checkPeers(standing());
  };
  contextBytes = device->totalBytes - device->freeAtStart;
  AllocationCounts &counts = allocationCounts();
  counts.devicePeak = deviceBefore = counts.device;
  counts.pinnedPeak = counts.pinned;
  ZOPT_RETURN_IF_FAILED(communicator.agree("start", prepareDevice()));

  bool exchanges = false;
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands)
      exchanges |= isCollective(command.kind) || (communicator.size() > 1 && (command.kind == Command::Kind::AllReduceScalars || command.kind == Command::Kind::GradientNorm || command.kind == Command::Kind::ParameterNorms));
  double shares = device->shared;
  ZOPT_RETURN_IF_FAILED(communicator.allReduceMaximum("devices", &shares, 1));
  Result<int64_t> before = device->freeBytes();
  bool nccl = exchanges && (options.exchange == DeviceExchange::Nccl || (options.exchange == DeviceExchange::Automatic && shares == 0));
  Result<std::unique_ptr<DeviceCollectives>> chosen =
      nccl ? makeNcclCollectives(*device, communicator, program, options.timeoutSeconds) : makeStagedCollectives(*device, communicator, program);
  // NCCL's ranks fail together already; that they agree once more does no harm.
  ZOPT_RETURN_IF_FAILED(communicator.agree("start", chosen.getStatus()));
  collectives = std::move(*chosen);
  Result<int64_t> after = device->freeBytes();
  if (!before.failed() && !after.failed())
    communicationBytes = *before - *after;

  ZOPT_RETURN_IF_FAILED(communicator.agree("start", prepareCommands()));
  Result<int64_t> end = device->freeBytes();
  if (!after.failed() && !end.failed()) {
    libraryBytes += *after - *end;
    freeAtEnd = *end;
  }
  return success();
}

Status CudaExecutor::prepareDevice() {
  for (const Arena &arena : program.arenas) {
    CUdeviceptr memory = 0;
    if (arena.bytes > 0)
      if (CUresult code = device->driver.cuMemAlloc(&memory, size_t(arena.bytes)); code != CUDA_SUCCESS)
        return device->driver.error("cuMemAlloc", code).in(concat("arena '", arena.name, "' of ", bytesText(arena.bytes)));
    arenas.push_back(memory);
  }
  Result<int64_t> before = device->freeBytes();
  if (before.failed())
    return before.getStatus();
  // Arenas start zeroed, as they do on a CPU.
  for (size_t i = 0; i < arenas.size(); ++i)
    if (arenas[i])
      ZOPT_CUDA(device->driver, cuMemsetD8Async, arenas[i], 0, size_t(program.arenas[i].bytes), device->compute);
  ZOPT_RETURN_IF_FAILED(loadKernels());
  bool usesLibraries = false;
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands)
      usesLibraries |= command.kind == Command::Kind::Matmul || command.kind == Command::Kind::Attention || command.kind == Command::Kind::AttentionGrad || command.kind == Command::Kind::Convolution;
  if (usesLibraries) {
    Result<std::unique_ptr<LibraryContext>> context = LibraryContext::create();
    if (context.failed())
      return context.getStatus();
    libraries = std::move(*context);
    ZOPT_RETURN_IF_FAILED(checkTuning(program, device->model, libraries->matmulLibrary()));
  }
  Result<int64_t> after = device->freeBytes();
  if (after.failed())
    return after.getStatus();
  libraryBytes = *before - *after;
  return success();
}

Status CudaExecutor::loadKernels() {
  if (program.kernels.empty())
    return success();
  Result<InputFile> file = InputFile::open(options.kernelFile);
  if (file.failed())
    return file.getStatus();
  std::string ptx(size_t(file->size()), '\0');
  ZOPT_RETURN_IF_FAILED(file->read(0, ptx.data(), file->size()));
  ZOPT_RETURN_IF_FAILED(loadModule(device->driver, ptx, module).in(options.kernelFile));
  for (const Kernel &kernel : program.kernels) {
    if (kernel.blockThreads < 1 || kernel.blockThreads > 1024 || kernel.blockIterations < 1)
      return inputError("kernel '", kernel.symbol, "' has blocks of ", kernel.blockThreads, " threads and ", kernel.blockIterations, " iterations, which no GPU has");
    CUfunction function = nullptr;
    if (CUresult code = device->driver.cuModuleGetFunction(&function, module, kernel.symbol.c_str()); code != CUDA_SUCCESS)
      return device->driver.error("cuModuleGetFunction", code).in(concat("kernel '", kernel.symbol, "'"));
    if (kernel.sharedBytes > 0)
      if (CUresult code = device->driver.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel.sharedBytes); code != CUDA_SUCCESS)
        return device->driver.error("cuFuncSetAttribute", code).in(concat("kernel '", kernel.symbol, "', whose blocks share ", kernel.sharedBytes, " bytes"));
    functions.push_back(function);
  }
  return success();
}

Status CudaExecutor::makeSlot(Slot &slot, int64_t bytes) {
  Result<void *> block = device->pinned(bytes);
  if (block.failed())
    return block.getStatus();
  Result<CUevent> event = device->event();
  if (event.failed())
    return event.getStatus();
  slot.data = static_cast<char *>(*block);
  slot.event = *event;
  return success();
}

Status CudaExecutor::prepareSlots() {
  for (Slot &slot : transfers)
    ZOPT_RETURN_IF_FAILED(makeSlot(slot, kTransferBytes));
  int64_t inputBytes = 0;
  std::vector<int64_t> offsets;
  for (const Input &input : program.inputs) {
    offsets.push_back(inputBytes);
    inputBytes += (elementCount(input.shape) * sizeOf(input.type) + 63) / 64 * 64;
  }
  inputAddresses.resize(kInputSlots);
  for (int i = 0; i < kInputSlots; ++i) {
    ZOPT_RETURN_IF_FAILED(makeSlot(inputSlots[i], inputBytes));
    for (int64_t offset : offsets)
      inputAddresses[size_t(i)].push_back(inputSlots[i].data + offset);
  }
  for (Slot &slot : resultSlots)
    ZOPT_RETURN_IF_FAILED(makeSlot(slot, int64_t(std::size(kResults) + termStates.size()) * 8));
  for (const char *name : kResults)
    resultStates.push_back(stateWithBuffer(name));
  resultStates.insert(resultStates.end(), termStates.begin(), termStates.end());
  Result<CUevent> event = device->event();
  if (event.failed())
    return event.getStatus();
  fork = *event;
  if (communicator.size() > 1 && !collectives->needsHost())
    return prepareProgress();
  return success();
}

Status CudaExecutor::prepareProgress() {
  Result<void *> word = device->pinned(64);
  if (word.failed())
    return word.getStatus();
  progressWord = static_cast<uint32_t *>(*word);
  *progressWord = 0;
  // A driver that cannot put such writes into graphs costs messages their precision, and no more.
  const Driver &driver = device->driver;
  CUgraph probe = nullptr;
  ZOPT_CUDA(driver, cuStreamBeginCapture, device->compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  CUresult written = driver.cuStreamWriteValue32(device->compute, CUdeviceptr(reinterpret_cast<uintptr_t>(progressWord)), 0, CU_STREAM_WRITE_VALUE_DEFAULT);
  CUresult ended = driver.cuStreamEndCapture(device->compute, &probe);
  if (probe)
    driver.cuGraphDestroy(probe);
  if (written != CUDA_SUCCESS || ended != CUDA_SUCCESS)
    progressWord = nullptr;
  return success();
}

Status CudaExecutor::prepareCommands() {
  ZOPT_RETURN_IF_FAILED(prepareSlots());
  everyCommand = isSet("ZOPT_CUDA_SYNC", false);
  graphs = isSet("ZOPT_CUDA_GRAPH", true) && !options.poison && !everyCommand;
  std::vector<bool> isInput(program.buffers.size()), isResult(program.buffers.size());
  for (const Input &input : program.inputs)
    isInput[input.buffer] = true;
  for (const State *state : resultStates)
    if (state)
      isResult[state->buffer] = true;
  sequences.resize(program.sequences.size());
  for (size_t s = 0; s < program.sequences.size(); ++s) {
    const Sequence &sequence = program.sequences[s];
    PreparedSequence &prepared = sequences[s];
    prepared.commands.resize(sequence.commands.size());
    std::map<int64_t, CUevent> open; // of the collectives in flight
    for (size_t i = 0; i < sequence.commands.size(); ++i) {
      const Command &command = sequence.commands[i];
      ZOPT_RETURN_IF_FAILED(prepareCommand(command, prepared.commands[i]).in(command.location));
      for (const BufferAccess &access : accessesOf(program, command)) {
        prepared.readsInputs |= isInput[access.buffer];
        prepared.writesResults |= access.writes && isResult[access.buffer];
      }
      prepared.hasNorm |= command.kind == Command::Kind::GradientNorm;
      prepared.dependsOnFirst |= (command.kind == Command::Kind::Zero && command.firstMicroStep) || (command.kind == Command::Kind::ReduceScatter && command.accumulate);
      prepared.hasCollectives |= isCollective(command.kind) || command.kind == Command::Kind::ParameterNorms || command.kind == Command::Kind::AllReduceScalars || command.kind == Command::Kind::GradientNorm;
      if (isCollective(command.kind)) {
        open[command.id] = prepared.commands[i].done;
        marked.push_back({&command, &sequence.name});
        prepared.commands[i].mark = uint32_t(marked.size());
      }
      if (command.kind == Command::Kind::Wait)
        prepared.commands[i].awaited = open[command.id];
    }
    if (options.poison)
      prepared.poison = planPoison(program, sequence, communicator.rank());
  }
  return synchronize();
}

Status CudaExecutor::makeCall(int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end, std::unique_ptr<DeviceCall> &made) {
  const Kernel &description = program.kernels[kernel];
  made = std::make_unique<DeviceCall>();
  made->function = functions[size_t(kernel)];
  made->pointers = std::move(pointers);
  made->begin = begin;
  made->end = end;
  int64_t blocks = (end - begin + description.blockIterations - 1) / description.blockIterations;
  if (blocks < 0 || blocks > 0x7fffffff)
    return inputError("kernel '", description.symbol, "' needs ", blocks, " blocks, which is more than a grid holds");
  made->blocks = unsigned(blocks);
  made->threads = unsigned(description.blockThreads);
  made->sharedBytes = unsigned(description.sharedBytes);
  return success();
}

Status CudaExecutor::prepareCommand(const Command &command, Prepared &prepared) {
  prepared.command = &command;
  for (size_t i = 0; i < command.buffers.size(); ++i) {
    int64_t offset = i < command.byteOffsets.size() ? command.byteOffsets[i] : 0;
    prepared.pointers.push_back(command.buffers[i] < 0 ? 0 : address(command.buffers[i]) + uint64_t(offset));
  }
  prepared.collective = {command.id, command.location};
  auto scratchBytes = [&](size_t index) {
    if (index >= command.buffers.size() || command.buffers[index] < 0)
      return int64_t(0);
    return program.buffers[command.buffers[index]].bytes - (index < command.byteOffsets.size() ? command.byteOffsets[index] : 0);
  };
  auto call = [&](int32_t kernel, std::vector<CUdeviceptr> pointers, int64_t begin, int64_t end) {
    return makeCall(kernel, std::move(pointers), begin, end, prepared.calls.emplace_back());
  };

  switch (command.kind) {
  case Command::Kind::Launch:
    ZOPT_RETURN_IF_FAILED(call(command.kernel, prepared.pointers, 0, command.extent));
    break;
  case Command::Kind::Matmul: {
    prepared.pointers.resize(kAddendBuffer + 1, 0);
    Result<std::unique_ptr<DeviceMatmul>> made = createMatmul(*libraries, command, scratchBytes(4));
    if (made.failed())
      return made.getStatus();
    prepared.matmul = std::move(*made);
    break;
  }
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad: {
    Result<std::unique_ptr<DeviceAttention>> made = createAttention(*libraries, command, scratchBytes(command.buffers.size() - 1));
    if (made.failed())
      return made.getStatus();
    prepared.attention = std::move(*made);
    break;
  }
  case Command::Kind::Convolution: {
    Result<std::unique_ptr<DeviceConvolution>> made = createConvolution(*libraries, command, scratchBytes(4));
    if (made.failed())
      return made.getStatus();
    prepared.convolution = std::move(*made);
    break;
  }
  case Command::Kind::AllGather:
  case Command::Kind::ReduceScatter:
  case Command::Kind::AllReduce: {
    Result<CUevent> event = device->event();
    if (event.failed())
      return event.getStatus();
    prepared.done = *event;
    break;
  }
  case Command::Kind::GradientNorm: {
    // Sums of squares of 128 elements each, added exactly to the words of one of two sums (of slices, which the ranks add up; of whole gradients), and the norm of both. As many buckets' sums as the
    // workspace holds are added at once: one bucket's do not fill a device.
    const size_t buckets = command.buckets.size();
    const CUdeviceptr words = prepared.pointers[2];
    const int64_t room = program.buffers[command.buffers[0]].bytes / int64_t(sizeof(double));
    int64_t sums = 0;
    bool whole = false; // those of which the workspace has the sums
    auto add = [&]() -> Status {
      if (const int64_t count = std::exchange(sums, 0))
        return call(command.kernels[buckets], {prepared.pointers[0], words + (whole ? ExactSum::kWords * sizeof(int64_t) : 0)}, 0, count);
      return success();
    };
    for (size_t i = 0; i < buckets; ++i) {
      const Bucket &bucket = program.buckets[command.buckets[i]];
      int64_t blocks = (bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements) / kUpdateBlock;
      if (sums + blocks > room || bucket.gradientWhole != whole)
        ZOPT_RETURN_IF_FAILED(add());
      whole = bucket.gradientWhole;
      ZOPT_RETURN_IF_FAILED(call(command.kernels[i], {address(bucket.gradient), prepared.pointers[0] + CUdeviceptr(sums) * sizeof(double)}, 0, blocks));
      sums += blocks;
    }
    ZOPT_RETURN_IF_FAILED(add());
    ZOPT_RETURN_IF_FAILED(call(command.kernels[buckets + 1], {words, prepared.pointers[1]}, 0, 1));
    break;
  }
  case Command::Kind::ParameterNorms:
  case Command::Kind::Update: {
    UpdatePlan plan = planUpdate(program, command, communicator.rank());
    const bool measures = command.kind == Command::Kind::ParameterNorms;
    const Bucket &bucket = program.buckets[command.buckets[0]];
    const uint64_t width = uint64_t(sizeOf(bucket.masterType)), wordBytes = ExactSum::kWords * sizeof(int64_t);
    // Sums of the blocks, or a segment's norms.
    auto normOf = [&](size_t segment, int half) {
      return measures ? address(command.norms[1]) + uint64_t(half * program.buffers[command.norms[1]].bytes / 2) : address(command.norms[0]) + (2 * segment + uint64_t(half)) * width;
    };
    std::vector<CUdeviceptr> arguments;
    for (auto [buffer, offset] : plan.arrays)
      arguments.push_back(address(buffer) + uint64_t(offset));
    for (const UpdateRun &run : plan.runs) {
      std::vector<CUdeviceptr> pointers = arguments;
      if (!command.norms.empty())
        pointers.insert(pointers.end(), {normOf(run.segment, 0), normOf(run.segment, 1)});
      const std::vector<CUdeviceptr> scalars = scalarsOf(command, prepared.pointers);
      pointers.insert(pointers.end(), scalars.begin(), scalars.end());
      ZOPT_RETURN_IF_FAILED(call(command.kernel, pointers, run.begin, run.end));
      for (double scalar : run.scalars)
        storeDouble(bucket.masterType, &prepared.calls.back()->scalars.emplace_back(), 0, scalar);
    }
    if (!measures)
      break;
    // The blocks of a segment are added to two sums; a norm is that of a sum and of another, which is 0.
    const CUdeviceptr words = address(command.norms[2]);
    for (const UpdateRun &run : plan.runs)
      for (int half = 0; half < 2; ++half)
        ZOPT_RETURN_IF_FAILED(call(command.kernels[0], {normOf(run.segment, half), words + (4 * run.segment + 2 * uint64_t(half)) * wordBytes}, run.begin, run.end));
    prepared.summed = prepared.calls.size();
    for (size_t i = 0; i < 2 * command.decays.size(); ++i)
      ZOPT_RETURN_IF_FAILED(call(command.kernels[1], {words + 2 * i * wordBytes, address(command.norms[0]) + i * width}, 0, 1));
    break;
  }
  default:
    break;
  }
  for (std::unique_ptr<DeviceCall> &made : prepared.calls) {
    for (CUdeviceptr &pointer : made->pointers)
      made->parameters.push_back(&pointer);
    for (double &scalar : made->scalars)
      made->parameters.push_back(&scalar);
    made->parameters.push_back(&made->begin);
    made->parameters.push_back(&made->end);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Sequences
//===----------------------------------------------------------------------===//

Status CudaExecutor::run(const std::string &name, bool firstMicroStep) {
  int index = sequenceIndex(name);
  if (index < 0)
    return inputError("the plan has no sequence '", name, "'");
  PreparedSequence &sequence = sequences[size_t(index)];
  current = name;
  auto go = [&]() -> Status {
    // The last step's results may still be on their way out.
    if (sequence.writesResults && stepsIssued > 0)
      ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, resultSlots[(stepsIssued - 1) % kResultSlots].event, CU_EVENT_WAIT_DEFAULT);
    if (sequence.readsInputs && inputsWritten)
      ZOPT_RETURN_IF_FAILED(copyInputs());
    if (trace)
      return issueTraced(sequence, size_t(index), firstMicroStep);
    const int variant = sequence.dependsOnFirst && !firstMicroStep;
    const bool needsHost = (sequence.hasCollectives && collectives->needsHost()) || (sequence.hasNorm && gradientObserver);
    const bool first = !std::exchange(sequence.ran[variant], true);
    if (!graphs || needsHost || first)
      return issue(sequence, size_t(index), firstMicroStep, first || everyCommand);
    return replay(sequence, size_t(index), firstMicroStep);
  };
  if (Status status = go(); status.failed())
    return failed(status);
  return communicator.progress();
}

Status CudaExecutor::issue(PreparedSequence &sequence, size_t index, bool firstMicroStep, bool waits) {
  if (options.poison)
    ZOPT_RETURN_IF_FAILED(poison(sequence.poison.atStart));
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    Prepared &prepared = sequence.commands[i];
    if (waits)
      running = prepared.command;
    ZOPT_RETURN_IF_FAILED(execute(prepared, firstMicroStep).in(prepared.command->location));
    if (waits)
      ZOPT_RETURN_IF_FAILED(synchronize().in(prepared.command->location));
    meter.note(index, i);
    if (options.poison)
      ZOPT_RETURN_IF_FAILED(poison(sequence.poison.after[i]));
  }
  running = nullptr;
  return success();
}

Status CudaExecutor::replay(PreparedSequence &sequence, size_t index, bool firstMicroStep) {
  const Driver &driver = device->driver;
  CUgraphExec &graph = sequence.graphs[sequence.dependsOnFirst && !firstMicroStep];
  if (!graph) {
    CUgraph captured = nullptr;
    // Other ranks may be threads of this process, which go on with calls that a capture forbids.
    ZOPT_CUDA(driver, cuStreamBeginCapture, device->compute, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    Status issued = issue(sequence, index, firstMicroStep, /*waits=*/false);
    CUresult code = driver.cuStreamEndCapture(device->compute, &captured);
    ZOPT_RETURN_IF_FAILED(issued);
    if (code != CUDA_SUCCESS)
      return driver.error("cuStreamEndCapture", code);
    // Messages keep their stream's priority inside the graph.
    code = driver.cuGraphInstantiate(&graph, captured, CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
    driver.cuGraphDestroy(captured);
    if (code != CUDA_SUCCESS) {
      graph = nullptr;
      return driver.error("cuGraphInstantiate", code);
    }
  }
  ZOPT_CUDA(driver, cuGraphLaunch, graph, device->compute);
  return success();
}

Status CudaExecutor::issueTraced(PreparedSequence &sequence, size_t index, bool firstMicroStep) {
  const Driver &driver = device->driver;
  while (traceEvents.size() < 2 * sequence.commands.size() + 1) {
    Result<CUevent> event = device->event(/*timing=*/true);
    if (event.failed())
      return event.getStatus();
    traceEvents.push_back(*event);
  }
  // The device's clock against the host's, where nothing else runs.
  ZOPT_RETURN_IF_FAILED(synchronize());
  CUevent origin = traceEvents.back();
  ZOPT_CUDA(driver, cuEventRecord, origin, device->compute);
  ZOPT_RETURN_IF_FAILED(device->await(origin));
  const int64_t originTime = nanoseconds();
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    Prepared &prepared = sequence.commands[i];
    bool elsewhere = isCollective(prepared.command->kind);
    if (elsewhere)
      ZOPT_RETURN_IF_FAILED(order(device->compute, device->exchange, fork));
    CUstream stream = elsewhere ? device->exchange : device->compute;
    ZOPT_CUDA(driver, cuEventRecord, traceEvents[2 * i], stream);
    ZOPT_RETURN_IF_FAILED(execute(prepared, firstMicroStep).in(prepared.command->location));
    ZOPT_CUDA(driver, cuEventRecord, traceEvents[2 * i + 1], stream);
    meter.note(index, i);
  }
  ZOPT_RETURN_IF_FAILED(synchronize());
  for (size_t i = 0; i < sequence.commands.size(); ++i) {
    float begin = 0, end = 0; // milliseconds
    ZOPT_CUDA(driver, cuEventElapsedTime, &begin, origin, traceEvents[2 * i]);
    ZOPT_CUDA(driver, cuEventElapsedTime, &end, origin, traceEvents[2 * i + 1]);
    trace->push_back({sequence.commands[i].command, originTime + int64_t(double(begin) * 1e6), originTime + int64_t(double(end) * 1e6), /*ended=*/true});
  }
  return success();
}

Status CudaExecutor::order(CUstream first, CUstream then, CUevent event) {
  ZOPT_CUDA(device->driver, cuEventRecord, event, first);
  ZOPT_CUDA(device->driver, cuStreamWaitEvent, then, event, CU_EVENT_WAIT_DEFAULT);
  return success();
}

template <typename Body>
Status CudaExecutor::onExchange(CUevent done, uint32_t mark, Body body) {
  ZOPT_RETURN_IF_FAILED(order(device->compute, device->exchange, fork));
  ZOPT_RETURN_IF_FAILED(body(device->exchange));
  if (mark && progressWord)
    ZOPT_CUDA(device->driver, cuStreamWriteValue32, device->exchange, CUdeviceptr(reinterpret_cast<uintptr_t>(progressWord)), mark, CU_STREAM_WRITE_VALUE_DEFAULT);
  ZOPT_CUDA(device->driver, cuEventRecord, done, device->exchange);
  return success();
}

Status CudaExecutor::launch(const DeviceCall &call) {
  if (call.blocks == 0)
    return success();
  ZOPT_CUDA(device->driver, cuLaunchKernel, call.function, call.blocks, 1, 1, call.threads, 1, 1, call.sharedBytes, device->compute, const_cast<void **>(call.parameters.data()), nullptr);
  return success();
}

Status CudaExecutor::poison(const std::vector<PoisonRange> &ranges) {
  for (const PoisonRange &range : ranges)
    if (range.bytes > 0)
      ZOPT_CUDA(device->driver, cuMemsetD8Async, arenas[range.arena] + uint64_t(range.begin), kPoison, size_t(range.bytes), device->compute);
  return success();
}

Status CudaExecutor::execute(Prepared &prepared, bool firstMicroStep) {
  const Command &command = *prepared.command;
  const std::vector<CUdeviceptr> &pointers = prepared.pointers;
  const Driver &driver = device->driver;
  switch (command.kind) {
  case Command::Kind::Launch:
  case Command::Kind::Update:
    for (const std::unique_ptr<DeviceCall> &call : prepared.calls)
      ZOPT_RETURN_IF_FAILED(launch(*call));
    return success();
  case Command::Kind::ParameterNorms:
    return sumParameterNorms(prepared);
  case Command::Kind::Matmul:
    return prepared.matmul->run(device->compute, pointers.data());
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad:
    return prepared.attention->run(device->compute, pointers.data());
  case Command::Kind::Convolution:
    return prepared.convolution->run(device->compute, pointers.data());
  case Command::Kind::Copy: {
    // The driver copies in no particular order: ranges that overlap move in pieces as long as their distance, from the end that is not overwritten.
    const int64_t distance = pointers[0] > pointers[1] ? int64_t(pointers[0] - pointers[1]) : int64_t(pointers[1] - pointers[0]);
    if (distance == 0 || command.bytes == 0)
      return success();
    const int64_t piece = std::min(distance, command.bytes), pieces = (command.bytes + piece - 1) / piece;
    for (int64_t i = 0; i < pieces; ++i) {
      int64_t at = (pointers[1] < pointers[0] ? i : pieces - 1 - i) * piece;
      ZOPT_CUDA(driver, cuMemcpyDtoDAsync, pointers[1] + uint64_t(at), pointers[0] + uint64_t(at), size_t(std::min(piece, command.bytes - at)), device->compute);
    }
    return success();
  }
  case Command::Kind::Zero:
    if ((!command.firstMicroStep || firstMicroStep) && command.bytes > 0)
      ZOPT_CUDA(driver, cuMemsetD8Async, pointers[0], 0, size_t(command.bytes), device->compute);
    return success();
  case Command::Kind::AllGather:
  case Command::Kind::ReduceScatter:
  case Command::Kind::AllReduce:
    return startCollective(prepared, firstMicroStep);
  case Command::Kind::AllReduceScalars:
    ZOPT_RETURN_IF_FAILED(onExchange(fork, 0, [&](CUstream stream) { return collectives->allReduceScalars(command.location, stream, pointers[0], pointers[1], command.elements, command.type); }));
    ZOPT_CUDA(driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
    return success();
  case Command::Kind::Wait:
    ZOPT_CUDA(driver, cuStreamWaitEvent, device->compute, prepared.awaited, CU_EVENT_WAIT_DEFAULT);
    return success();
  case Command::Kind::GradientNorm:
    return computeNorm(prepared);
  }
  return success();
}

Status CudaExecutor::startCollective(Prepared &prepared, bool firstMicroStep) {
  const Command &command = *prepared.command;
  const std::vector<CUdeviceptr> &pointers = prepared.pointers;
  return onExchange(prepared.done, prepared.mark, [&](CUstream stream) {
    if (command.kind == Command::Kind::AllGather)
      return collectives->allGather(prepared.collective, stream, pointers[0], pointers[1], command.bytes);
    if (command.kind == Command::Kind::ReduceScatter)
      return collectives->reduceScatter(prepared.collective, stream, pointers[0], command.type, pointers[1], command.destinationType, pointers[2], command.elements, command.accumulate && !firstMicroStep);
    return collectives->allReduce(prepared.collective, stream, pointers[0], command.type, pointers[1], command.elements);
  });
}

Status CudaExecutor::computeNorm(Prepared &prepared) {
  const Command &command = *prepared.command;
  const CUdeviceptr words = prepared.pointers[2];
  ZOPT_CUDA(device->driver, cuMemsetD8Async, words, 0, 2 * ExactSum::kWords * sizeof(int64_t), device->compute);
  for (size_t i = 0; i + 1 < prepared.calls.size(); ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  bool anySliced = false;
  for (int32_t bucket : command.buckets)
    anySliced |= !program.buckets[bucket].gradientWhole;
  if (anySliced && communicator.size() > 1) {
    ZOPT_RETURN_IF_FAILED(onExchange(fork, 0, [&](CUstream stream) { return collectives->allReduceIntegers(command.location, stream, words, ExactSum::kWords); }));
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
  }
  ZOPT_RETURN_IF_FAILED(launch(*prepared.calls.back()));
  if (!gradientObserver)
    return success();
  ZOPT_RETURN_IF_FAILED(synchronize());
  return gradientObserver();
}

Status CudaExecutor::sumParameterNorms(Prepared &prepared) {
  const Command &command = *prepared.command;
  const CUdeviceptr words = address(command.norms[2]);
  const int64_t count = 4 * int64_t(command.decays.size()) * ExactSum::kWords;
  ZOPT_CUDA(device->driver, cuMemsetD8Async, words, 0, size_t(count) * sizeof(int64_t), device->compute);
  for (size_t i = 0; i < prepared.summed; ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  if (program.buckets[command.buckets[0]].optimizerSharded && communicator.size() > 1) {
    ZOPT_RETURN_IF_FAILED(onExchange(fork, 0, [&](CUstream stream) { return collectives->allReduceIntegers(command.location, stream, words, count); }));
    ZOPT_CUDA(device->driver, cuStreamWaitEvent, device->compute, fork, CU_EVENT_WAIT_DEFAULT);
  }
  for (size_t i = prepared.summed; i < prepared.calls.size(); ++i)
    ZOPT_RETURN_IF_FAILED(launch(*prepared.calls[i]));
  return success();
}

//===----------------------------------------------------------------------===//
// What goes in and out
//===----------------------------------------------------------------------===//

Result<void *const *> CudaExecutor::inputs() {
  Slot &slot = inputSlots[inputSlot];
  if (slot.used && !inputsWritten)
    if (Status status = device->await(slot.event); status.failed())
      return failed(status);
  inputsWritten = true;
  return inputAddresses[size_t(inputSlot)].data();
}

Status CudaExecutor::copyInputs() {
  Slot &slot = inputSlots[inputSlot];
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const Input &input = program.inputs[i];
    ZOPT_CUDA(device->driver, cuMemcpyHtoDAsync, address(input.buffer), inputAddresses[size_t(inputSlot)][i], size_t(elementCount(input.shape) * sizeOf(input.type)), device->compute);
  }
  ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->compute);
  slot.used = true;
  inputSlot = (inputSlot + 1) % kInputSlots;
  inputsWritten = false;
  return success();
}

Status CudaExecutor::finishStep(std::optional<StepResult> &result) {
  result.reset();
  auto copyOut = [&]() -> Status {
    Slot &slot = resultSlots[stepsIssued % kResultSlots];
    ZOPT_RETURN_IF_FAILED(order(device->compute, device->copies, fork));
    for (size_t i = 0; i < resultStates.size(); ++i)
      if (const State *state = resultStates[i])
        ZOPT_CUDA(device->driver, cuMemcpyDtoHAsync, slot.data + 8 * i, address(state->buffer), size_t(sizeOf(state->type)), device->copies);
    ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->copies);
    ++stepsIssued;
    return success();
  };
  if (Status status = copyOut(); status.failed())
    return failed(status);
  return stepsIssued - stepsTold < kResultSlots ? success() : awaitResult(result);
}

Status CudaExecutor::lastResult(std::optional<StepResult> &result) {
  result.reset();
  if (stepsTold < stepsIssued)
    ZOPT_RETURN_IF_FAILED(awaitResult(result));
  return synchronize();
}

Status CudaExecutor::awaitResult(std::optional<StepResult> &result) {
  Slot &slot = resultSlots[stepsTold % kResultSlots];
  if (Status status = device->await(slot.event); status.failed())
    return failed(status);
  ++stepsTold;
  result.emplace();
  double *values[] = {&result->loss, &result->norm, &result->finite, &result->lossScale, &result->lossScaleExhausted};
  result->terms.resize(termStates.size());
  for (size_t i = 0; i < resultStates.size(); ++i)
    if (resultStates[i])
      (i < std::size(kResults) ? *values[i] : result->terms[i - std::size(kResults)]) =
          loadAsDouble(resultStates[i]->type, slot.data + 8 * i, 0);
  return success();
}

Status CudaExecutor::upload(BufferId buffer, int64_t byteOffset, const void *source, int64_t bytes) {
  auto copy = [&]() -> Status {
    for (int64_t done = 0; done < bytes; done += kTransferBytes) {
      int64_t size = std::min(kTransferBytes, bytes - done);
      Slot &slot = transfers[nextTransfer];
      nextTransfer = (nextTransfer + 1) % kTransferBlocks;
      if (slot.used)
        ZOPT_RETURN_IF_FAILED(device->await(slot.event));
      std::memcpy(slot.data, static_cast<const char *>(source) + done, size_t(size));
      ZOPT_CUDA(device->driver, cuMemcpyHtoDAsync, address(buffer) + uint64_t(byteOffset + done), slot.data, size_t(size), device->compute);
      ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->compute);
      slot.used = true;
    }
    return success();
  };
  Status status = copy();
  return status.failed() ? failed(status) : success();
}

Status CudaExecutor::download(BufferId buffer, int64_t byteOffset, void *destination, int64_t bytes) {
  auto copy = [&]() -> Status {
    // One block travels while another is copied out.
    struct Piece {
      Slot *slot;
      int64_t at, size;
    };
    std::vector<Piece> onTheWay;
    auto take = [&]() -> Status {
      Piece piece = onTheWay.front();
      onTheWay.erase(onTheWay.begin());
      ZOPT_RETURN_IF_FAILED(device->await(piece.slot->event));
      std::memcpy(static_cast<char *>(destination) + piece.at, piece.slot->data, size_t(piece.size));
      return success();
    };
    for (int64_t done = 0; done < bytes; done += kTransferBytes) {
      int64_t size = std::min(kTransferBytes, bytes - done);
      Slot &slot = transfers[nextTransfer];
      nextTransfer = (nextTransfer + 1) % kTransferBlocks;
      // An upload from this block may be under way; a download is not, because fewer than all blocks are.
      if (slot.used)
        ZOPT_RETURN_IF_FAILED(device->await(slot.event));
      ZOPT_CUDA(device->driver, cuMemcpyDtoHAsync, slot.data, address(buffer) + uint64_t(byteOffset + done), size_t(size), device->compute);
      ZOPT_CUDA(device->driver, cuEventRecord, slot.event, device->compute);
      slot.used = true;
      onTheWay.push_back({&slot, done, size});
      if (onTheWay.size() == 2)
        ZOPT_RETURN_IF_FAILED(take());
    }
    while (!onTheWay.empty())
      ZOPT_RETURN_IF_FAILED(take());
    return success();
  };
  Status status = copy();
  return status.failed() ? failed(status) : success();
}

Status CudaExecutor::zero(BufferId buffer, int64_t byteOffset, int64_t bytes) {
  if (bytes == 0)
    return success();
  if (CUresult code = device->driver.cuMemsetD8Async(address(buffer) + uint64_t(byteOffset), 0, size_t(bytes), device->compute); code != CUDA_SUCCESS)
    return failed(device->driver.error("cuMemsetD8Async", code));
  return success();
}

Status CudaExecutor::synchronize() {
  meter.noteAllocation(allocationCounts().devicePeak - deviceBefore - planned);
  for (CUstream stream : {device->compute, device->exchange, device->copies})
    if (Status status = device->await(stream); status.failed())
      return failed(status);
  return success();
}

std::string CudaExecutor::standing() const {
  if (running)
    return running->location.empty() ? current : running->location;
  // Collectives run in the order of the program, sequence by sequence: the one behind the last that was passed is where the device stands, or what comes after it.
  if (progressWord && !marked.empty()) {
    uint32_t passed = *progressWord;
    // Evaluation stands behind all and is entered by name only.
    auto isOther = [&](const Mark &mark) { return *mark.sequence == "eval_step" && current != "eval_step"; };
    size_t place = passed < marked.size() ? passed : 0;
    if (isOther(marked[place]))
      place = 0;
    const Mark &next = marked[place];
    return concat(*next.sequence, ", at or before collective '", next.command->location, "'");
  }
  return current;
}

std::vector<std::pair<std::string, int64_t>> CudaExecutor::unplannedMemory() const {
  int64_t later = 0;
  if (Result<int64_t> free = device->freeBytes(); !free.failed())
    later = freeAtEnd - *free;
  return {{"context", contextBytes}, {"libraries", libraryBytes}, {"communication", communicationBytes}, {"graphs", later}, {"pinned host", allocationCounts().pinnedPeak}};
}

} // namespace

Result<std::unique_ptr<Executor>> createCudaExecutor(const Program &program, Communicator &communicator, const ExecutorOptions &options) {
  auto executor = std::make_unique<CudaExecutor>(program, communicator, options);
  ZOPT_RETURN_IF_FAILED(executor->prepare());
  return std::unique_ptr<Executor>(std::move(executor));
}

} // namespace zopt::runtime
