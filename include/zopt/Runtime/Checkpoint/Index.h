//===- Index.h - what a checkpoint says of itself ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A checkpoint is a folder: one safetensors shard a rank, and index.json, which says what the shards hold as logical
// tensors. Nothing in it depends on the ZeRO stage, the buckets or the number of ranks that wrote it: a piece is a
// range of elements of a logical tensor, in the tensor's own row-major order, so any plan of the same model reads the
// ranges that its ranks need.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CHECKPOINT_INDEX_H
#define ZOPT_RUNTIME_CHECKPOINT_INDEX_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

/// Changes with the meaning of a field; readers refuse newer ones.
constexpr int kCheckpointVersion = 1;
constexpr const char *kIndexName = "index.json";

struct ShardEntry {
  std::string file;             // beside the index
  int64_t bytes = 0;            // of the file
  std::string headerHash, hash; // XXH3 (64 bits, hexadecimal) of the header's bytes and of all data behind it
};

/// Elements [begin, end) of a logical tensor, which lie in a shard under the tensor's name.
struct TensorPiece {
  int32_t shard = 0;
  int64_t begin = 0, end = 0;
};

/// A parameter (its master where it has one), a buffer, or a slot of the optimizer, which is called PARAMETER.SLOT.
struct LogicalTensor {
  std::string name;
  Role role = Role::Parameter;
  DataType type = DataType::F32;
  std::vector<int64_t> shape;
  bool trained = false;
  std::string sourceName;
  std::vector<int64_t> sourcePermutation;
  std::vector<std::string> tied;
  std::vector<TensorPiece> pieces; // in order, without a gap
};

/// A state of one element that has a role of its own: step counters, loss scale, schedule. Kept as bits.
struct SavedScalar {
  std::string name;
  DataType type = DataType::F32;
  uint64_t bits = 0;
};

/// Where the run stands in its data: the samples [0, position) of `epoch` have been consumed. Independent of ranks and
/// of how a global batch is divided.
struct DataPosition {
  int64_t epoch = 0, position = 0;
  int64_t consumed = 0; // samples since the run began
  int64_t samples = 0;  // of the data set; 0: synthetic
  bool shuffle = false;
  uint64_t seed = 0;
  std::vector<std::string> files; // "BYTES FINGERPRINT NAME"
};

struct CheckpointIndex {
  int version = kCheckpointVersion;
  int64_t step = 0; // steps of the run, skipped ones included
  double time = 0;  // seconds since 1970
  std::string planHash, model;
  int64_t worldSize = 1, microBatch = 1, accumSteps = 1;
  double learningRate = 0;
  uint64_t seed = 0;
  std::vector<std::string> slots; // of the optimizer
  DataPosition data;
  std::vector<SavedScalar> scalars;
  std::vector<ShardEntry> shards;
  std::vector<LogicalTensor> tensors;

  int64_t globalBatch() const { return worldSize * microBatch * accumSteps; }
};

std::string toJson(const CheckpointIndex &index);
/// Refuses what is not JSON, another version, missing or mistyped fields, pieces that leave a gap or overlap, and names
/// that would leave the folder. `path` is for messages.
Result<CheckpointIndex> parseIndex(const std::string &path, const std::string &text);

/// "parameter", "buffer", "optimizer", "gradient" or "scalar".
const char *roleName(Role role);

/// 16 hexadecimal digits.
std::string hashText(uint64_t hash);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CHECKPOINT_INDEX_H
