//===- Directory.h - the folder that checkpoints are in ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// D/global_stepN/ holds a checkpoint, D/latest the name of the newest. A checkpoint is made as D/global_stepN.partial
// and renamed when it is complete and durable, and leaves as D/global_stepN.deleting, so that what is called
// global_stepN is whole at every moment. D/lock belongs to the one run that writes.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_DIRECTORY_H
#define ZOPT_RUNTIME_CHECKPOINT_DIRECTORY_H

#include "zopt/Runtime/Checkpoint/Index.h"
#include "zopt/Runtime/Core/Status.h"
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

std::string tagOf(int64_t step);
std::string partialTagOf(int64_t step);

/// The checkpoints in `directory`, in the order in which a run would resume from them: the one that `latest` names,
/// those of fewer steps, the others; each group from the most steps down. Empty where there is none, or no such folder.
/// Only folders with an index count; whether it can be read is for who opens it.
Result<std::vector<std::string>> listCheckpoints(const std::string &directory);
/// What D/latest names, or nothing.
std::string readLatest(const std::string &directory);

/// Fsyncs a folder.
Status syncFolder(const std::string &path);
Status makeFolders(const std::string &path);
/// Removes a folder and the files and folders in it, as far as that goes.
void removeTree(const std::string &path);
/// Removes what saves and removals that were cut short have left. For who holds the lock.
void removeLeftovers(const std::string &directory);

/// What stays when a new checkpoint is there.
struct Retention {
  int64_t keep = 0;           ///< so many of the newest; 0: all
  int64_t protectedStep = -1; ///< and this one, which is not counted among them
};

/// Publishes the checkpoint whose shards, of save `attempt`, lie in D/global_stepN.partial: verifies that all are
/// there, writes the index, renames, names it in `latest`, and then removes the oldest as `retention` says. Each step
/// is durable before the next. `index` is completed with the shards. `removed` receives the names of the checkpoints
/// that went.
Status publishCheckpoint(const std::string &directory, CheckpointIndex &index, const std::vector<std::string> &shards,
                         int64_t attempt, const Retention &retention, std::vector<std::string> &removed);

/// The checkpoint with the least evaluation loss of a folder, which D/best names.
struct BestCheckpoint {
  int64_t step = -1; ///< none yet
  double loss = std::numeric_limits<double>::infinity();
};
/// "global_stepN", and the loss on a line of its own; empty: none.
std::string formatBest(const BestCheckpoint &best);
/// None where the text is not such.
BestCheckpoint parseBest(const std::string &text);
/// None where there is no such file, or the checkpoint is gone.
BestCheckpoint readBest(const std::string &directory);
/// Durable when it returns.
Status writeBest(const std::string &directory, const BestCheckpoint &best);

/// The right to write into a folder: a lock of the kernel's on D/lock, which ends with the process that holds it, and
/// in it host, process and a lease for machines that do not see each other's locks.
class DirectoryLock {
public:
  /// Refuses where another run holds it. `note` receives what should be said of one that was taken over, or nothing.
  static Result<std::unique_ptr<DirectoryLock>> acquire(const std::string &directory, std::string &note);
  /// Gives it up; what follows may take it without a word.
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock &) = delete;
  DirectoryLock &operator=(const DirectoryLock &) = delete;
  /// Renews the lease. To be called more often than every kLeaseSeconds.
  void renew();

  static constexpr int kLeaseSeconds = 60;

private:
  DirectoryLock(std::string path, int descriptor) : path(std::move(path)), descriptor(descriptor) {}
  std::string path;
  int descriptor;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_DIRECTORY_H
