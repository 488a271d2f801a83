//===- Export.cpp - checkpoints as other files ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Export.h"
#include "zopt/Runtime/Checkpoint/Directory.h"
#include "zopt/Runtime/Checkpoint/Shard.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/SourceLayout.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

constexpr int64_t kChunk = int64_t(1) << 20; // elements

State stateOf(const LogicalTensor &tensor) {
  State state;
  state.name = tensor.name;
  state.role = tensor.role;
  state.shape = tensor.shape;
  state.sourceName = tensor.sourceName;
  state.sourcePermutation = tensor.sourcePermutation;
  state.tied = tensor.tied;
  return state;
}

/// A tensor of the output and where it comes from.
struct Exported {
  const LogicalTensor *from;
  SafetensorsTensor tensor;
  bool permuted;
};

Status writeTensor(const CheckpointReader &reader, const Exported &each, SafetensorsWriter &writer, size_t index) {
  const int64_t elements = elementCount(each.from->shape), width = sizeOf(each.tensor.type);
  std::vector<char> values;
  if (each.permuted) {
    values.resize(size_t(elements * width));
    ZOPT_RETURN_IF_FAILED(reader.read(*each.from, 0, elements, each.tensor.type, values.data()));
    std::vector<char> transposed(values.size());
    SourceIndex position(stateOf(*each.from));
    for (int64_t i = 0; i < elements; ++i)
      std::memcpy(transposed.data() + position(i) * width, values.data() + i * width, size_t(width));
    return writer.write(index, 0, transposed.data(), elements * width);
  }
  values.resize(size_t(std::min(elements, kChunk) * width));
  for (int64_t at = 0; at < elements; at += kChunk) {
    int64_t count = std::min(kChunk, elements - at);
    ZOPT_RETURN_IF_FAILED(reader.read(*each.from, at, count, each.tensor.type, values.data()));
    ZOPT_RETURN_IF_FAILED(writer.write(index, at * width, values.data(), count * width));
  }
  return success();
}

Status writeTensors(const CheckpointReader &reader, const std::string &path, const std::vector<Exported> &tensors) {
  std::vector<SafetensorsTensor> declared;
  for (const Exported &each : tensors)
    declared.push_back(each.tensor);
  // "format" is what transformers looks for before it takes a file.
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, declared, {{"format", "pt"}});
  if (writer.failed())
    return writer.getStatus();
  for (size_t i = 0; i < tensors.size(); ++i)
    ZOPT_RETURN_IF_FAILED(writeTensor(reader, tensors[i], *writer, i));
  return writer->commit();
}

std::string modelShardName(size_t index, size_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return text;
}

} // namespace

Status exportWeights(const CheckpointReader &reader, const std::string &path, const ExportOptions &options) {
  std::vector<Exported> tensors;
  for (const LogicalTensor &tensor : reader.index().tensors) {
    if (tensor.role != Role::Parameter && tensor.role != Role::Buffer)
      continue;
    State state = stateOf(tensor);
    std::vector<std::string> names = {nameIn(state, options.sourceNames)};
    if (options.sourceNames || options.ties)
      names.insert(names.end(), tensor.tied.begin(), tensor.tied.end());
    for (const std::string &name : names) {
      Exported each{&tensor, {}, isPermuted(state, options.sourceNames)};
      each.tensor.name = name;
      each.tensor.type = options.floatType && isFloat(tensor.type) ? *options.floatType : tensor.type;
      each.tensor.shape = shapeIn(state, options.sourceNames);
      tensors.push_back(std::move(each));
    }
  }
  if (options.shardBytes <= 0)
    return writeTensors(reader, path, tensors);

  ZOPT_RETURN_IF_FAILED(makeFolders(path));
  std::vector<std::vector<Exported>> files(1);
  int64_t filled = 0, total = 0;
  for (const Exported &each : tensors) {
    int64_t bytes = elementCount(each.tensor.shape) * sizeOf(each.tensor.type);
    if (!files.back().empty() && filled + bytes > options.shardBytes) {
      files.emplace_back();
      filled = 0;
    }
    files.back().push_back(each);
    filled += bytes;
    total += bytes;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = nlohmann::ordered_json::object();
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name = modelShardName(i, files.size());
    ZOPT_RETURN_IF_FAILED(writeTensors(reader, path + "/" + name, files[i]));
    for (const Exported &each : files[i])
      index["weight_map"][each.tensor.name] = name;
  }
  // Last, so that a folder with an index is complete.
  Result<OutputFile> file = OutputFile::create(path + "/model.safetensors.index.json");
  if (file.failed())
    return file.getStatus();
  std::string text = index.dump(2) + "\n";
  ZOPT_RETURN_IF_FAILED(file->append(text.data(), int64_t(text.size())));
  return file->commit();
}

Status convertCheckpoint(const CheckpointReader &reader, const std::string &folder, int64_t shards) {
  struct stat information;
  if (::stat(folder.c_str(), &information) == 0)
    return inputError(folder, ": is there already");
  const std::string partial = folder + ".partial";
  removeTree(partial);
  ZOPT_RETURN_IF_FAILED(makeFolders(partial));
  CheckpointIndex index = reader.index();

  // The concatenation of all tensors, cut into parts of equal bytes.
  int64_t total = 0, at = 0;
  for (const LogicalTensor &tensor : index.tensors)
    total += elementCount(tensor.shape) * sizeOf(tensor.type);
  const int64_t part = std::max<int64_t>(1, (total + shards - 1) / shards);
  struct Piece {
    size_t tensor;
    int64_t begin, end;
  };
  std::vector<std::vector<Piece>> pieces(static_cast<size_t>(shards));
  for (size_t t = 0; t < index.tensors.size(); ++t) {
    LogicalTensor &tensor = index.tensors[t];
    const int64_t width = sizeOf(tensor.type), elements = elementCount(tensor.shape);
    tensor.pieces.clear();
    for (int64_t begin = 0; begin < elements;) {
      int64_t shard = std::min(shards - 1, (at + begin * width) / part);
      int64_t past = ((shard + 1) * part - at + width - 1) / width; // the first element that begins in the next part
      int64_t end = shard == shards - 1 ? elements : std::min(elements, past);
      tensor.pieces.push_back({int32_t(shard), begin, end});
      pieces[size_t(shard)].push_back({t, begin, end});
      begin = end;
    }
    at += elements * width;
  }
  index.shards.clear();
  std::vector<char> values;
  for (int64_t shard = 0; shard < shards; ++shard) {
    std::vector<SafetensorsTensor> declared;
    for (const Piece &piece : pieces[size_t(shard)]) {
      const LogicalTensor &tensor = index.tensors[piece.tensor];
      SafetensorsTensor stored;
      stored.name = tensor.name;
      stored.type = tensor.type;
      stored.shape = piece.begin == 0 && piece.end == elementCount(tensor.shape)
                         ? tensor.shape
                         : std::vector<int64_t>{piece.end - piece.begin};
      declared.push_back(std::move(stored));
    }
    ShardEntry entry;
    entry.file = shardName(shard, shards);
    const std::string path = partial + "/" + entry.file;
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, declared, {{"format", "zopt"}});
    if (writer.failed())
      return writer.getStatus();
    for (size_t i = 0; i < declared.size(); ++i) {
      const Piece &piece = pieces[size_t(shard)][i];
      const LogicalTensor &tensor = reader.index().tensors[piece.tensor];
      const int64_t width = sizeOf(tensor.type);
      for (int64_t begin = piece.begin; begin < piece.end; begin += kChunk) {
        int64_t count = std::min(kChunk, piece.end - begin);
        values.resize(size_t(count * width));
        ZOPT_RETURN_IF_FAILED(reader.read(tensor, begin, count, tensor.type, values.data()));
        ZOPT_RETURN_IF_FAILED(writer->write(i, (begin - piece.begin) * width, values.data(), count * width));
      }
    }
    ZOPT_RETURN_IF_FAILED(writer->commit());
    Result<InputFile> file = InputFile::open(path);
    if (file.failed())
      return file.getStatus();
    entry.bytes = file->size();
    Result<std::string> header = hashOfHeader(*file), data = hashOfData(*file);
    if (header.failed() || data.failed())
      return header.failed() ? header.getStatus() : data.getStatus();
    entry.headerHash = *header;
    entry.hash = *data;
    index.shards.push_back(std::move(entry));
  }
  Result<OutputFile> file = OutputFile::create(partial + "/" + kIndexName);
  if (file.failed())
    return file.getStatus();
  std::string text = toJson(index);
  ZOPT_RETURN_IF_FAILED(file->append(text.data(), int64_t(text.size())));
  ZOPT_RETURN_IF_FAILED(file->commit());
  if (::rename(partial.c_str(), folder.c_str()) != 0)
    return fileError(partial, "rename", errno);
  size_t slash = folder.rfind('/');
  return syncFolder(slash == std::string::npos ? "." : slash == 0 ? "/" : folder.substr(0, slash));
}

} // namespace zopt::runtime
