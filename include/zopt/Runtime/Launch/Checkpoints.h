//===- Checkpoints.h - checkpoints in the run of a rank ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a rank does with checkpoints: before the first step it finds the one to go on from, between steps it saves.
// Every method but the constructor, makeSaver() and word() is called by every rank.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_CHECKPOINTS_H
#define ZOPT_RUNTIME_LAUNCH_CHECKPOINTS_H

#include "zopt/Runtime/Checkpoint/Reader.h"
#include "zopt/Runtime/Checkpoint/Saver.h"
#include "zopt/Runtime/Launch/Run.h"
#include <functional>

namespace zopt::runtime {

/// Where a run begins.
struct RunPosition {
  int64_t step = 0;     // steps that were done before
  int64_t dataStep = 0; // the data set's step that comes next
  int64_t samples = 0;  // consumed before
};

class RankCheckpoints {
public:
  /// `report` tells of a save that ended, on rank 0.
  RankCheckpoints(const Run &run, Communicator &communicator, std::function<void(const SaveResult &)> report);

  /// Takes the folder's lock, finds the checkpoint to resume from, verifies it and compares it with the plan.
  Status open();
  /// What initial values are read from, or null: a fresh run.
  const StateSource *source() const { return reader ? &restored : nullptr; }
  /// The path of the checkpoint that the run goes on from, or nothing.
  const std::string &resumedFrom() const { return resumedPath; }
  const RunPosition &position() const { return start; }
  /// Reserves the memory that checkpoints are written from; nothing without --checkpoint-dir.
  Status makeSaver(Executor &executor);
  /// Gives up what was needed to read initial values.
  void closeReader() { reader.reset(); }
  /// Bytes of the host's memory that checkpoints take on this rank.
  int64_t copyBytes() const { return saver ? saver->copyBytes() : 0; }

  uint8_t word();
  /// With the words of all ranks, after `done` steps of the run. Fails after kFailuresInARow.
  Status exchange(const std::vector<uint8_t> &words, int64_t done);
  /// --keep-best, after an evaluation that gave `loss` after `done` steps: where that is the least so far, the state is saved, and stays when newer ones push others out.
  Status evaluated(double loss, int64_t done);
  /// Goes back to the newest good checkpoint of the folder after `done` steps: source() and position() are its, but the data goes on behind what has been consumed. Gives false where there is none yet.
  Result<bool> goBack(int64_t done);
  /// The end of a run after `done` steps: what is in flight is waited for, what is not saved is.
  Status finish(int64_t done);

private:
  Status resume();
  Status choose(const Result<std::vector<std::string>> &found, bool goesBack);
  Result<std::vector<std::string>> candidates() const;
  Status compare() const;
  DataPosition dataPosition(int64_t done) const;
  Status begin(int64_t done);
  Status readBest();
  /// Where the best checkpoint so far is complete, its name is written down.
  Status recordBest(const SaveResult &result);
  Status took(const std::optional<SaveResult> &result);
  Status togetherAt(const char *what, const Status &mine) { return communicator.agree(what, mine); }

  const Run &run;
  const CheckpointOptions &options;
  Communicator &communicator;
  const bool root;
  std::function<void(const SaveResult &)> report;
  std::unique_ptr<DirectoryLock> lock;
  std::shared_ptr<CheckpointReader> reader;
  StateSource restored;
  std::string resumedPath;
  RunPosition start;
  std::unique_ptr<CheckpointSaver> saver;
  std::vector<std::string> dataFiles; // with their fingerprints; on rank 0
  BestCheckpoint best;                        // with the least loss so far; the same on every rank
  std::optional<BestCheckpoint> bestUnderWay; // whose save has begun
  int failures = 0;
};

/// What must hold before ranks start: a folder that is empty or resumed from, a checkpoint where one is asked for.
/// `resumes` says whether initial values will come from one.
Status checkCheckpoints(const CheckpointOptions &options, bool &resumes);
/// Bytes of the host's memory that the rank with the largest shard takes for checkpoints.
Result<int64_t> plannedCheckpointBytes(const CheckpointOptions &options, const Program &program);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_CHECKPOINTS_H
