//===- Shard.h - a rank's part of a checkpoint ------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which elements of which logical tensors a rank writes, and the image of its shard in the host's memory. A rank writes
// its slice of every bucket, at every stage: where a bucket is whole on every rank, the slices are still divided, so
// that all ranks write in parallel and nothing is written twice. States outside of buckets, which are equal on all
// ranks, go to the rank with the least to write.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_SHARD_H
#define ZOPT_RUNTIME_CHECKPOINT_SHARD_H

#include "zopt/Runtime/Checkpoint/Index.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/States.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <atomic>

namespace zopt::runtime {

/// A piece as one rank has it in memory.
struct ShardPiece {
  size_t tensor = 0; // of CheckpointLayout::tensors
  int64_t begin = 0, end = 0;
  BufferId buffer = -1;
  int64_t byteOffset = 0; // in the buffer
};

struct CheckpointLayout {
  std::vector<LogicalTensor> tensors;          // with their pieces
  std::vector<std::vector<ShardPiece>> shards; // one a rank
  std::vector<const State *> scalars;          // of the Program
};

/// Everything that a Program's next step depends on: parameters (masters where there are any), buffers, optimizer
/// slots, scalars.
CheckpointLayout layOutCheckpoint(const Program &program);

/// "shard-00001-of-00004.safetensors", for rank 0 of 4.
std::string shardName(int64_t rank, int64_t ranks);

/// The file of a shard, in memory: mapped when it is made, at the size that it keeps.
class ShardImage {
public:
  static Result<std::unique_ptr<ShardImage>> create(const CheckpointLayout &layout, int rank);
  ~ShardImage();
  ShardImage(const ShardImage &) = delete;
  ShardImage &operator=(const ShardImage &) = delete;

  /// Bytes of memory, whole pages.
  int64_t bytes() const { return mapped; }
  /// Copies the states, behind everything that the executor was given.
  Status capture(Executor &executor);
  /// Hashes what was captured and writes the file, fsynced, removed again where that fails. `attempt` tells files of
  /// different saves of one step apart.
  Status write(const std::string &path, int64_t step, int64_t attempt);

  /// Makes a write() of another thread fail soon.
  void cancel() { cancelled = true; }

  /// Bytes of memory that a rank's image takes.
  static Result<int64_t> plannedBytes(const CheckpointLayout &layout, int rank);

private:
  ShardImage() = default;
  Status layOut(const CheckpointLayout &layout, int rank);
  SafetensorsMetadata metadata(int64_t step, int64_t attempt, const std::string &hash) const;

  std::vector<ShardPiece> pieces;
  std::vector<SafetensorsTensor> tensors; // one a piece
  int64_t fileBytes = 0, headerBytes = 0, mapped = 0;
  char *base = nullptr;
  std::atomic<bool> cancelled{false};
};

/// What a shard's header says of it, for who publishes a checkpoint: the entry of the index. Refuses a file that is not
/// the one that `step` and `attempt` wrote.
Result<ShardEntry> describeShard(const std::string &folder, const std::string &file, int64_t step, int64_t attempt);
/// Hash of the header of an open shard.
Result<std::string> hashOfHeader(const InputFile &file);
/// Hash of everything behind the header.
Result<std::string> hashOfData(const InputFile &file);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_SHARD_H
