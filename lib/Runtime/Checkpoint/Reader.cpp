//===- Reader.cpp - reads checkpoints, from any world into any world ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Reader.h"
#include "zopt/Runtime/Checkpoint/Shard.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/RandomState.h"
#include <algorithm>
#include <set>
#include <unordered_map>

namespace zopt::runtime {

Result<std::shared_ptr<CheckpointReader>> CheckpointReader::open(const std::string &folder) {
  const std::string path = folder + "/" + kIndexName;
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  std::string text(size_t(file->size()), '\0');
  ZOPT_RETURN_IF_FAILED(file->read(0, text.data(), file->size()));
  Result<CheckpointIndex> index = parseIndex(path, text);
  if (index.failed())
    return index.getStatus();
  std::shared_ptr<CheckpointReader> reader(new CheckpointReader(folder, std::move(*index)));
  ZOPT_RETURN_IF_FAILED(reader->openShards());
  return reader;
}

Status CheckpointReader::openShards() {
  std::vector<std::unordered_map<std::string, SafetensorsTensor>> stored;
  std::string problems;
  auto add = [&](const std::string &text) { problems += (problems.empty() ? "" : "\n") + text; };
  for (const ShardEntry &shard : contents.shards) {
    const std::string path = folder + "/" + shard.file;
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    if (file.failed()) {
      add(file.getStatus().message());
      continue;
    }
    std::unordered_map<std::string, SafetensorsTensor> tensors;
    for (const SafetensorsTensor &tensor : file->tensors())
      tensors.emplace(tensor.name, tensor);
    InputFile input = file->takeInput();
    Result<std::string> header = hashOfHeader(input);
    if (input.size() != shard.bytes)
      add(concat(path, ": has ", input.size(), " bytes, but ", shard.bytes, " were written"));
    else if (header.failed() || *header != shard.headerHash)
      add(concat(path, ": its header is not what was written"));
    stored.push_back(std::move(tensors));
    files.push_back(std::move(input));
  }
  if (!problems.empty())
    return inputError(problems);
  for (size_t t = 0; t < contents.tensors.size(); ++t) {
    const LogicalTensor &tensor = contents.tensors[t];
    byName[tensor.name] = t;
    std::vector<int64_t> offsets;
    for (const TensorPiece &piece : tensor.pieces) {
      auto found = stored[size_t(piece.shard)].find(tensor.name);
      if (found == stored[size_t(piece.shard)].end() || found->second.type != tensor.type ||
          found->second.bytes != (piece.end - piece.begin) * sizeOf(tensor.type)) {
        add(concat(files[size_t(piece.shard)].path(), ": has not the elements [", piece.begin, ", ", piece.end,
                   ") of '", tensor.name, "' that the index says it has"));
        continue;
      }
      offsets.push_back(found->second.offset);
    }
    pieceOffsets.push_back(std::move(offsets));
  }
  return problems.empty() ? success() : inputError(problems);
}

const LogicalTensor *CheckpointReader::find(const std::string &name) const {
  auto found = byName.find(name);
  return found == byName.end() ? nullptr : &contents.tensors[found->second];
}

const SavedScalar *CheckpointReader::findScalar(const std::string &name) const {
  for (const SavedScalar &scalar : contents.scalars)
    if (scalar.name == name)
      return &scalar;
  return nullptr;
}

Status CheckpointReader::verify(int part, int parts) const {
  for (size_t i = size_t(part); i < files.size(); i += size_t(parts)) {
    Result<std::string> hash = hashOfData(files[i]);
    if (hash.failed())
      return hash.getStatus();
    if (*hash != contents.shards[i].hash)
      return inputError(files[i].path(), ": is damaged: its data has the checksum ", *hash, ", but ",
                        contents.shards[i].hash, " was written");
  }
  return success();
}

Status CheckpointReader::read(const LogicalTensor &tensor, int64_t begin, int64_t count, DataType type,
                              void *destination) const {
  const std::vector<int64_t> &offsets = pieceOffsets[size_t(&tensor - contents.tensors.data())];
  const int64_t width = sizeOf(tensor.type);
  std::vector<char> raw;
  auto piece = std::upper_bound(tensor.pieces.begin(), tensor.pieces.end(), begin,
                                [](int64_t at, const TensorPiece &each) { return at < each.end; });
  for (int64_t at = begin; at < begin + count; ++piece) {
    if (piece == tensor.pieces.end())
      return inputError(folder, ": elements [", begin, ", ", begin + count, ") of '", tensor.name,
                        "' are wanted, but it has ", elementCount(tensor.shape));
    int64_t part = std::min(begin + count, piece->end) - at;
    char *to = static_cast<char *>(destination) + (at - begin) * sizeOf(type);
    int64_t offset = offsets[size_t(piece - tensor.pieces.begin())] + (at - piece->begin) * width;
    if (tensor.type == type) {
      ZOPT_RETURN_IF_FAILED(files[size_t(piece->shard)].read(offset, to, part * width));
    } else {
      raw.resize(size_t(part * width));
      ZOPT_RETURN_IF_FAILED(files[size_t(piece->shard)].read(offset, raw.data(), part * width));
      convertElements(tensor.type, raw.data(), type, to, part);
    }
    at += part;
  }
  return success();
}

bool CheckpointReader::covers(const State &state) const {
  if (const LogicalTensor *tensor = find(state.name))
    return tensor->shape == state.shape && isFloat(tensor->type) == isFloat(state.type);
  return elementCount(state.shape) == 1 && findScalar(state.name);
}

StateSource CheckpointReader::source() const {
  StateSource source;
  source.covers = [this](const State &state) { return covers(state); };
  source.read = [this](const State &state, int64_t begin, int64_t count, void *destination) -> Status {
    if (const LogicalTensor *tensor = find(state.name))
      return read(*tensor, begin, count, state.type, destination);
    const SavedScalar *scalar = findScalar(state.name);
    convertElements(scalar->type, &scalar->bits, state.type, destination, 1);
    return success();
  };
  return source;
}

std::vector<CheckpointDifference> compareCheckpoint(const CheckpointIndex &index, const Program &program,
                                                    const DataPosition &data) {
  std::vector<CheckpointDifference> differences;
  // A model that is another one altogether would fill pages.
  constexpr size_t most = 8;
  auto addAll = [&](const char *kind, const std::vector<std::string> &texts) {
    for (size_t i = 0; i < texts.size() && i < most; ++i)
      differences.push_back({kind, texts[i]});
    if (texts.size() > most)
      differences.push_back({kind, concat("and ", texts.size() - most, " more like the last one")});
  };
  std::map<std::string, const LogicalTensor *> saved;
  for (const LogicalTensor &tensor : index.tensors)
    saved[tensor.name] = &tensor;
  std::vector<std::string> missing, mismatched, training, unexpected, missingSlots;
  std::set<std::string> wanted, slots;
  const CheckpointLayout layout = layOutCheckpoint(program);
  for (const Bucket &bucket : program.buckets)
    slots.insert(bucket.slotNames.begin(), bucket.slotNames.end());
  for (const LogicalTensor &tensor : layout.tensors) {
    wanted.insert(tensor.name);
    auto found = saved.find(tensor.name);
    if (found == saved.end())
      (tensor.role == Role::Optimizer ? missingSlots : missing)
          .push_back(concat(roleName(tensor.role), " '", tensor.name, "' ", shapeText(tensor.shape),
                            " is not in the checkpoint"));
    else if (found->second->shape != tensor.shape)
      mismatched.push_back(concat(roleName(tensor.role), " '", tensor.name, "' has shape ", shapeText(tensor.shape),
                                  ", but ", shapeText(found->second->shape), " in the checkpoint"));
    else if (found->second->trained != tensor.trained && tensor.role == Role::Parameter)
      training.push_back(concat("parameter '", tensor.name, "' is ", tensor.trained ? "trained" : "frozen",
                                ", but was ", tensor.trained ? "frozen" : "trained"));
  }
  std::set<std::string> savedSlots(index.slots.begin(), index.slots.end());
  for (const LogicalTensor &tensor : index.tensors)
    if (!wanted.count(tensor.name) && tensor.role != Role::Optimizer)
      unexpected.push_back(concat(roleName(tensor.role), " '", tensor.name, "' ", shapeText(tensor.shape),
                                  " of the checkpoint is not in the plan"));
  addAll("model", missing);
  addAll("model", mismatched);
  addAll("model", unexpected);
  addAll("model", training);
  auto listText = [](const std::set<std::string> &names) {
    std::string text;
    for (const std::string &name : names)
      text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? std::string("none") : text;
  };
  if (slots != savedSlots)
    differences.push_back(
        {"optimizer", concat("the optimizer's state is ", listText(slots), ", but was ", listText(savedSlots))});
  else if (missing.empty() && training.empty())
    addAll("optimizer", missingSlots);
  int64_t batch = program.worldSize * program.microBatch * program.accumSteps;
  if (batch != index.globalBatch())
    differences.push_back({"batch", concat("the global batch is ", batch, ", but was ", index.globalBatch())});
  if (data.samples != index.data.samples)
    differences.push_back({"data", concat("the data has ", data.samples, " samples, but had ", index.data.samples)});
  else if (data.files.size() != index.data.files.size())
    differences.push_back(
        {"data", concat("the data has ", data.files.size(), " files, but had ", index.data.files.size())});
  else
    for (size_t i = 0; i < data.files.size(); ++i)
      if (auto contentOf = [](const std::string &text) { return text.substr(0, text.find(' ', text.find(' ') + 1)); };
          contentOf(data.files[i]) != contentOf(index.data.files[i]))
        differences.push_back({"data", concat("data file ", i + 1, " is ", data.files[i],
                                              " (bytes, fingerprint, name), but was ", index.data.files[i])});
  if (data.shuffle != index.data.shuffle)
    differences.push_back({"data", concat("samples are ", data.shuffle ? "" : "not ", "shuffled, but were ",
                                          index.data.shuffle ? "" : "not")});
  else if ((data.shuffle || data.samples == 0 || drawsRandomNumbers(program)) && data.seed != index.data.seed)
    differences.push_back({"data", concat("the seed is ", data.seed, ", but was ", index.data.seed)});
  return differences;
}

} // namespace zopt::runtime
