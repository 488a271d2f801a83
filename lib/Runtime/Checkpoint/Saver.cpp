//===- Saver.cpp - saves checkpoints beside the training ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Saver.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace zopt::runtime {

namespace {
constexpr uint8_t kStageBits = 7, kRequested = 8;
/// Between renewals of the lease.
constexpr auto kRenewal = std::chrono::seconds(DirectoryLock::kLeaseSeconds / 4);
} // namespace

CheckpointSaver::CheckpointSaver(Executor &executor, SaverOptions options, std::unique_ptr<DirectoryLock> lock)
    : executor(executor), communicator(executor.getCommunicator()), options(std::move(options)),
      root(communicator.rank() == 0), layout(layOutCheckpoint(executor.getProgram())), lock(std::move(lock)) {}

Result<std::unique_ptr<CheckpointSaver>> CheckpointSaver::create(Executor &executor, const SaverOptions &options,
                                                                 std::unique_ptr<DirectoryLock> lock) {
  std::unique_ptr<CheckpointSaver> saver(new CheckpointSaver(executor, options, std::move(lock)));
  Result<std::unique_ptr<ShardImage>> image = ShardImage::create(saver->layout, saver->communicator.rank());
  if (image.failed())
    return image.getStatus();
  saver->image = std::move(*image);
  // Signals are for the threads that know what to do with them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  saver->worker = std::thread([pointer = saver.get()] { pointer->work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return Result<std::unique_ptr<CheckpointSaver>>(std::move(saver));
}

CheckpointSaver::~CheckpointSaver() {
  // A run that ends with a save in flight has failed: what it has to say is not to wait for the disk.
  if (image)
    image->cancel();
  {
    std::lock_guard<std::mutex> guard(mutex);
    ends = true;
  }
  wakesWorker.notify_all();
  if (worker.joinable())
    worker.join();
}

void CheckpointSaver::work() {
  // Training goes first where cores are short.
  setpriority(PRIO_PROCESS, id_t(syscall(SYS_gettid)), 10);
  std::unique_lock<std::mutex> guard(mutex);
  while (true) {
    wakesWorker.wait_for(guard, kRenewal, [&] { return job || ends; });
    if (lock)
      lock->renew();
    if (!job && ends)
      return;
    if (!job)
      continue;
    std::function<Status()> mine = std::exchange(job, nullptr);
    guard.unlock();
    Status status = mine();
    guard.lock();
    failure = status;
    now = status.failed() ? Stage::Failed : after;
    wakesTrainer.notify_all();
  }
}

void CheckpointSaver::post(std::function<Status()> next, Stage running, Stage ended) {
  std::lock_guard<std::mutex> guard(mutex);
  job = std::move(next);
  now = running;
  after = ended;
  wakesWorker.notify_all();
}

CheckpointSaver::Stage CheckpointSaver::stage() {
  std::lock_guard<std::mutex> guard(mutex);
  return now;
}

void CheckpointSaver::waitForWork() {
  std::unique_lock<std::mutex> guard(mutex);
  wakesTrainer.wait(guard, [&] { return now != Stage::Writing && now != Stage::Publishing; });
}

uint8_t CheckpointSaver::word(bool requested) {
  // Rank 0's clock is everybody's.
  if (root && options.everySeconds > 0 && !active &&
      std::chrono::duration<double>(Clock::now() - lastBegan).count() >= options.everySeconds)
    requested = true;
  return uint8_t(uint8_t(stage()) | (requested ? kRequested : 0));
}

Status CheckpointSaver::begin(int64_t step, const std::function<void(CheckpointIndex &)> &describe) {
  began = lastBegan = Clock::now();
  active = true;
  publishing = due = false;
  currentStep = step;
  ++attempt;
  ZOPT_RETURN_IF_FAILED(image->capture(executor));
  if (root) {
    index = CheckpointIndex();
    index.step = step;
    index.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const Program &program = executor.getProgram();
    index.planHash = program.planHash;
    index.model = program.model;
    index.worldSize = program.worldSize;
    index.microBatch = program.microBatch;
    index.accumSteps = program.accumSteps;
    for (const Bucket &bucket : program.buckets)
      for (const std::string &slot : bucket.slotNames)
        if (std::find(index.slots.begin(), index.slots.end(), slot) == index.slots.end())
          index.slots.push_back(slot);
    index.tensors = layout.tensors;
    for (const State *state : layout.scalars) {
      SavedScalar scalar;
      scalar.name = state->name;
      scalar.type = state->type;
      ZOPT_RETURN_IF_FAILED(executor.download(state->buffer, 0, &scalar.bits, sizeOf(state->type)));
      index.scalars.push_back(scalar);
    }
    describe(index);
  }
  stall = std::chrono::duration<double>(Clock::now() - began).count();
  const std::string folder = options.directory + "/" + partialTagOf(step),
                    path = folder + "/" + shardName(communicator.rank(), communicator.size());
  post(
      [this, folder, path, step, number = attempt]() -> Status {
        const Clock::time_point start = Clock::now();
        if (::mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST)
          return Status(Error{ErrorKind::Runtime, -1, folder, "mkdir", std::strerror(errno)});
        ZOPT_RETURN_IF_FAILED(image->write(path, step, number));
        Status synced = syncFolder(folder);
        writeSeconds = std::chrono::duration<double>(Clock::now() - start).count();
        return synced;
      },
      Stage::Writing, Stage::Written);
  return success();
}

/// What follows a save that has ended one way or the other, on every rank.
SaveResult CheckpointSaver::conclude(const Status &verdict) {
  SaveResult result;
  result.step = currentStep;
  result.failure = verdict;
  result.seconds = std::chrono::duration<double>(Clock::now() - began).count();
  result.writeSeconds = writeSeconds;
  result.stallSeconds = stall;
  if (verdict.failed()) {
    if (root)
      removeTree(options.directory + "/" + partialTagOf(currentStep));
  } else {
    savedStep = currentStep;
    for (const ShardEntry &shard : index.shards)
      result.bytes += shard.bytes;
    result.removed = std::move(removed);
  }
  removed.clear();
  active = publishing = false;
  std::lock_guard<std::mutex> guard(mutex);
  now = Stage::Idle;
  failure = success();
  return result;
}

Status CheckpointSaver::exchange(const std::vector<uint8_t> &words, int64_t step,
                                 const std::function<void(CheckpointIndex &)> &describe,
                                 std::optional<SaveResult> &result) {
  bool anyRuns = false, anyFailed = false, allWritten = true;
  for (uint8_t each : words) {
    Stage told = Stage(each & kStageBits);
    anyRuns |= told == Stage::Writing || told == Stage::Publishing;
    anyFailed |= told == Stage::Failed;
    allWritten &= told == Stage::Written;
    due |= (each & kRequested) != 0;
  }
  due |= options.everySteps > 0 && step > 0 && step % options.everySteps == 0 && step != dueStep &&
         !(active && step == currentStep);
  dueStep = step;
  if (active && !anyRuns) {
    if (anyFailed) {
      Status mine;
      if (stage() == Stage::Failed)
        mine = failure;
      Status verdict = communicator.agree("checkpoint", mine);
      if (verdict.failed() && !isAgreed(verdict))
        return verdict;
      result = conclude(verdict);
    } else if (publishing) {
      result = conclude(success()); // rank 0 told that it has published
    } else if (allWritten) {
      publishing = true;
      if (root)
        post([this, number = attempt] { return publish(number); }, Stage::Publishing, Stage::Published);
    }
  }
  // A failure may be the one that ends the run: nothing is begun that would be left half-written.
  if (result && result->failure.failed())
    return success();
  if (due && !active && step != savedStep)
    return begin(step, describe);
  if (due && !active)
    due = false;
  return success();
}

Status CheckpointSaver::publish(int64_t number) {
  std::vector<std::string> shards;
  for (int rank = 0; rank < communicator.size(); ++rank)
    shards.push_back(shardName(rank, communicator.size()));
  return publishCheckpoint(options.directory, index, shards, number, {options.keep, protectedStep}, removed);
}

Status CheckpointSaver::finish(std::optional<SaveResult> &result) {
  if (!active)
    return success();
  auto verdictOf = [&](Status &verdict) -> Status {
    waitForWork();
    Status mine;
    if (stage() == Stage::Failed)
      mine = failure;
    verdict = communicator.agree("checkpoint", mine);
    return verdict.failed() && !isAgreed(verdict) ? verdict : success();
  };
  Status verdict;
  ZOPT_RETURN_IF_FAILED(verdictOf(verdict));
  if (verdict.succeeded() && !publishing) {
    publishing = true;
    if (root)
      post([this, number = attempt] { return publish(number); }, Stage::Publishing, Stage::Published);
    ZOPT_RETURN_IF_FAILED(verdictOf(verdict));
  }
  result = conclude(verdict);
  // Rank 0 has removed what was written before anyone writes there again.
  return verdict.failed() ? communicator.barrier("checkpoint") : success();
}

} // namespace zopt::runtime
