//===- CudaExecutor.cpp - makes an executor, runs its sequences and ends it --===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the device, its libraries and its collectives are asked for before the first step, and what each sequence does.
//
//===----------------------------------------------------------------------===//

#include "CudaExecutor.h"
#include "Module.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <future>
#include <utility>

namespace zopt::runtime {
namespace cuda {

/// How long the end of an executor waits for its device.
static constexpr double kFarewellSeconds = 10;

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
    (void)attentionGradients.release();
    return;
  }
  sequences.clear();
  libraries.reset();
  attentionGradients.reset();
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
  ZOPT_RETURN_IF_FAILED(collectives->connect(program, arenas));
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
  // The driver compiles the kernels while cuDNN's plans are made, which is mostly compilation too.
  std::future<Status> kernels = std::async(std::launch::async, [this]() -> Status {
    ZOPT_CUDA(device->driver, cuCtxSetCurrent, device->context);
    return loadKernels();
  });
  const Status loaded = loadLibraries();
  ZOPT_RETURN_IF_FAILED(kernels.get());
  ZOPT_RETURN_IF_FAILED(loaded);
  Result<int64_t> after = device->freeBytes();
  if (after.failed())
    return after.getStatus();
  libraryBytes = *before - *after;
  return success();
}

Status CudaExecutor::loadLibraries() {
  bool usesLibraries = false;
  std::vector<PlanOf> plans;
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands) {
      const bool attention = command.kind == Command::Kind::Attention || command.kind == Command::Kind::AttentionGrad;
      if (command.ownKernels) {
        if (!attentionGradients)
          attentionGradients = std::make_unique<AttentionGradientKernels>(device->driver, device->device);
        ZOPT_RETURN_IF_FAILED(attentionGradients->load(command));
      } else if (attention || command.kind == Command::Kind::Convolution)
        plans.push_back({&command, scratchBytes(command, attention ? command.buffers.size() - 1 : 4)});
      usesLibraries |= attention || command.kind == Command::Kind::Matmul || command.kind == Command::Kind::Convolution;
    }
  if (!usesLibraries)
    return success();
  Result<std::unique_ptr<LibraryContext>> context = LibraryContext::create();
  if (context.failed())
    return context.getStatus();
  libraries = std::move(*context);
  ZOPT_RETURN_IF_FAILED(checkTuning(program, device->model, libraries->matmulLibrary()));
  preparePlans(*libraries, plans, [this] { device->driver.cuCtxSetCurrent(device->context); });
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
    if (sequence.inputsRead > 0 && inputsWritten)
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
    if (!isCapturing || !prepared.continues)
      ZOPT_RETURN_IF_FAILED(execute(prepared, firstMicroStep).in(prepared.command->location));
    else if (prepared.ready)
      ZOPT_CUDA(device->driver, cuEventRecordWithFlags, prepared.ready, device->compute, CU_EVENT_RECORD_EXTERNAL);
    if (waits)
      ZOPT_RETURN_IF_FAILED(synchronize().in(prepared.command->location));
    ZOPT_RETURN_IF_FAILED(passed(sequence, index, i));
    if (options.poison)
      ZOPT_RETURN_IF_FAILED(poison(sequence.poison.after[i]));
  }
  running = nullptr;
  return success();
}

Status CudaExecutor::passed(const PreparedSequence &sequence, size_t index, size_t command) {
  meter.note(index, command);
  if (command + 1 == sequence.inputsRead)
    ZOPT_CUDA(device->driver, cuEventRecordWithFlags, inputsFree, device->compute, isCapturing ? CU_EVENT_RECORD_EXTERNAL : CU_EVENT_RECORD_DEFAULT);
  return success();
}

Status CudaExecutor::synchronize() {
  meter.noteAllocation(allocationCounts().devicePeak - deviceBefore - planned);
  for (CUstream stream : {device->compute, device->exchange, device->reductions, device->copies, device->uploads})
    if (Status status = device->await(stream); status.failed())
      return failed(status);
  return success();
}

std::string CudaExecutor::standing() const {
  if (running)
    return running->location.empty() ? current : running->location;
  // Each stream's collectives run in the order of the program, sequence by sequence: the one behind the last that was passed is where the stream stands, or what comes after it.
  if (!progressWords)
    return current;
  std::string text;
  for (int word = 0; word < 2; ++word)
    for (size_t i = 0, passed = progressWords[word]; i < marked.size(); ++i) {
      const Mark &next = marked[(passed + i) % marked.size()];
      // Evaluation stands behind all and is entered by name only.
      if (next.word != word || (*next.sequence == "eval_step" && current != "eval_step"))
        continue;
      text += text.empty() ? concat(*next.sequence, ", at or before collective '", next.command->location, "'") : concat(" or '", next.command->location, "'");
      break;
    }
  return text.empty() ? current : text;
}

std::vector<std::pair<std::string, int64_t>> CudaExecutor::unplannedMemory() const {
  int64_t later = 0;
  if (Result<int64_t> free = device->freeBytes(); !free.failed())
    later = freeAtEnd - *free;
  return {{"context", contextBytes}, {"libraries", libraryBytes}, {"communication", communicationBytes}, {"graphs", later}, {"pinned host", allocationCounts().pinnedPeak}};
}

} // namespace cuda

Result<std::unique_ptr<Executor>> createCudaExecutor(const Program &program, Communicator &communicator, const ExecutorOptions &options) {
  auto executor = std::make_unique<cuda::CudaExecutor>(program, communicator, options);
  ZOPT_RETURN_IF_FAILED(executor->prepare());
  return std::unique_ptr<Executor>(std::move(executor));
}

} // namespace zopt::runtime
