//===- Export.h - checkpoints as other files --------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_EXPORT_H
#define ZOPT_RUNTIME_CHECKPOINT_EXPORT_H

#include "zopt/Runtime/Checkpoint/Reader.h"
#include <optional>

namespace zopt::runtime {

struct ExportOptions {
  bool sourceNames = false;          // names and layouts of the source model, ties under every name
  bool ties = false;                 // the latter with the initializers' names too
  std::optional<DataType> floatType; // of floating-point weights; as saved where empty
  int64_t shardBytes = 0;            // of data in a file; 0: one file
};

/// Writes the parameters and buffers of a checkpoint. With `shardBytes`, `path` is a folder, which receives
/// model-00001-of-0000N.safetensors and model.safetensors.index.json in the way of Hugging Face; otherwise it is the
/// file. Holds at most one tensor in memory, and that only where it is transposed.
Status exportWeights(const CheckpointReader &reader, const std::string &path, const ExportOptions &options);

/// Writes the checkpoint once more as `shards` shards of equal size, into a new folder.
Status convertCheckpoint(const CheckpointReader &reader, const std::string &folder, int64_t shards);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_EXPORT_H
