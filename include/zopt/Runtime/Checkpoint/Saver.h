//===- Saver.h - saves checkpoints beside the training ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A save has three parts. Capture: between two steps every rank copies its shard into the host's memory, which is all
// that training waits for. Write: a thread of every rank writes and fsyncs its shard. Publish: when every rank is done,
// rank 0's thread verifies, writes the index, renames and removes old ones. How far a rank is travels as one byte with
// what ranks tell each other before every step, so that all of them take each turn at the same step and never two saves
// are in flight. Threads of this file never communicate.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_SAVER_H
#define ZOPT_RUNTIME_CHECKPOINT_SAVER_H

#include "zopt/Runtime/Checkpoint/Directory.h"
#include "zopt/Runtime/Checkpoint/Shard.h"
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace zopt::runtime {

struct SaverOptions {
  std::string directory;
  int64_t everySteps = 0;  // 0: not by steps
  double everySeconds = 0; // 0: not by time
  int64_t keep = 0;        // 0: all
};

/// Whether a failure is one that Communicator::agree gave to all ranks, and none of the agreement itself.
inline bool isAgreed(const Status &status) {
  return status.failed() && status.getError().operation.empty() && status.getError().rank >= 0;
}

/// How a save ended, told to all ranks at the same step.
struct SaveResult {
  int64_t step = 0;
  Status failure;                   // with the rank that it is of
  int64_t bytes = 0;                // of all shards; on rank 0
  double seconds = 0;               // from capture to the end
  double writeSeconds = 0;          // that this rank hashed, wrote and fsynced its shard
  double stallSeconds = 0;          // that this rank's training waited for the copy
  std::vector<std::string> removed; // checkpoints that went; on rank 0
};

class CheckpointSaver {
public:
  /// Reserves the memory of the copy. Rank 0 has the lock.
  static Result<std::unique_ptr<CheckpointSaver>> create(Executor &executor, const SaverOptions &options,
                                                         std::unique_ptr<DirectoryLock> lock);
  ~CheckpointSaver();

  int64_t copyBytes() const { return image->bytes(); }

  /// What this rank tells the others before a step; `requested`: it was asked for a save.
  uint8_t word(bool requested);
  /// Takes what all ranks told, before step `step` (as many are done): ends a save that is complete or has failed, and
  /// begins one that is due. Every rank calls it with the same words. `describe` fills what the index says of the run.
  /// `result` receives a save that ended.
  Status exchange(const std::vector<uint8_t> &words, int64_t step,
                  const std::function<void(CheckpointIndex &)> &describe, std::optional<SaveResult> &result);

  /// Waits for the save in flight, if any. Every rank calls it. `result` receives it.
  Status finish(std::optional<SaveResult> &result);
  /// Begins a save of the state after `step` steps. Every rank calls it, with none in flight.
  Status begin(int64_t step, const std::function<void(CheckpointIndex &)> &describe);

  /// The checkpoint of this step is not removed, however many newer ones there are; -1: none. Not while a save is in flight.
  void protect(int64_t step) { protectedStep = step; }

  bool inFlight() const { return active; }
  /// Of the last save that was begun and did not fail; -1: none.
  int64_t lastStep() const { return savedStep; }
  /// The run stands at a step that has been read from this folder: it need not be saved again.
  void resumedFrom(int64_t step) { savedStep = step; }

private:
  enum class Stage : uint8_t { Idle, Writing, Written, Publishing, Published, Failed };
  CheckpointSaver(Executor &executor, SaverOptions options, std::unique_ptr<DirectoryLock> lock);
  void work();
  void post(std::function<Status()> job, Stage running, Stage ended);
  Stage stage();
  void waitForWork();
  Status publish(int64_t number);
  SaveResult conclude(const Status &failure);

  Executor &executor;
  Communicator &communicator;
  const SaverOptions options;
  const bool root;
  CheckpointLayout layout;
  std::unique_ptr<ShardImage> image;
  std::unique_ptr<DirectoryLock> lock;

  // Of the thread that trains.
  bool active = false, publishing = false, due = false;
  int64_t currentStep = -1, savedStep = -1, dueStep = -1, protectedStep = -1, attempt = 0;
  using Clock = std::chrono::steady_clock;
  Clock::time_point began, lastBegan = Clock::now();
  double stall = 0;

  // Between the two threads.
  std::mutex mutex;
  std::condition_variable wakesWorker, wakesTrainer;
  std::function<Status()> job;
  Stage now = Stage::Idle, after = Stage::Idle;
  Status failure;
  double writeSeconds = 0;
  CheckpointIndex index;            // of the save in flight; rank 0's
  std::vector<std::string> removed; // by it
  bool ends = false;
  std::thread worker;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_SAVER_H
