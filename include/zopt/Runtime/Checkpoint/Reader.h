//===- Reader.h - reads checkpoints, from any world into any world ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_READER_H
#define ZOPT_RUNTIME_CHECKPOINT_READER_H

#include "zopt/Runtime/Checkpoint/Index.h"
#include "zopt/Runtime/Core/States.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <map>
#include <memory>

namespace zopt::runtime {

class CheckpointReader {
public:
  /// Opens a checkpoint's index and the headers of its shards; refuses what is missing, of another size, or does not
  /// agree with the index.
  static Result<std::shared_ptr<CheckpointReader>> open(const std::string &folder);

  const std::string &path() const { return folder; }
  const CheckpointIndex &index() const { return contents; }
  /// Null where there is none of this name.
  const LogicalTensor *find(const std::string &name) const;
  const SavedScalar *findScalar(const std::string &name) const;

  /// Reads and hashes the data of shards part, part + parts, ...: together, `parts` readers see every byte.
  Status verify(int part = 0, int parts = 1) const;
  /// Elements [begin, begin + count) of a tensor, converted to `type`.
  Status read(const LogicalTensor &tensor, int64_t begin, int64_t count, DataType type, void *destination) const;

  /// First values of every state that is here in its shape: parameters, buffers, slots, scalars. Valid for as long as
  /// the reader is.
  StateSource source() const;

private:
  CheckpointReader(std::string folder, CheckpointIndex index) : folder(std::move(folder)), contents(std::move(index)) {}
  Status openShards();
  bool covers(const State &state) const;

  std::string folder;
  CheckpointIndex contents;
  std::vector<InputFile> files;                   // one a shard
  std::vector<std::vector<int64_t>> pieceOffsets; // bytes in its shard's file, for each tensor and piece
  std::map<std::string, size_t> byName;
};

/// What of a plan, its data or its optimizer is not as it was when a checkpoint was written. `kind` is what
/// --allow-change takes.
struct CheckpointDifference {
  std::string kind; // model, optimizer, batch, data
  std::string text; // one line
};
/// `data` is the data set that the run reads now.
std::vector<CheckpointDifference> compareCheckpoint(const CheckpointIndex &index, const Program &program,
                                                    const DataPosition &data);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_READER_H
