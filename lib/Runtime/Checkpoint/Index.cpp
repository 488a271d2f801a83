//===- Index.cpp - what a checkpoint says of itself -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Index.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace zopt::runtime {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char *kRoleNames[] = {"parameter", "buffer", "optimizer", "gradient", "scalar"};
constexpr const char *kFormat = "zopt-checkpoint";

const char *roleName(Role role) { return kRoleNames[int(role)]; }

std::string hashText(uint64_t hash) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

static json numberOrText(double value) {
  return std::isfinite(value) ? json(value) : json(std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

std::string toJson(const CheckpointIndex &index) {
  ordered_json root;
  root["format"] = kFormat;
  root["version"] = index.version;
  root["step"] = index.step;
  root["time"] = index.time;
  root["plan"] = index.planHash;
  root["model"] = index.model;
  root["world_size"] = index.worldSize;
  root["micro_batch"] = index.microBatch;
  root["accum_steps"] = index.accumSteps;
  root["learning_rate"] = numberOrText(index.learningRate);
  root["seed"] = index.seed;
  root["slots"] = index.slots;
  const DataPosition &data = index.data;
  root["data"] = {{"epoch", data.epoch},     {"position", data.position}, {"consumed", data.consumed},
                  {"samples", data.samples}, {"shuffle", data.shuffle},   {"seed", data.seed},
                  {"files", data.files}};
  root["scalars"] = ordered_json::object();
  for (const SavedScalar &scalar : index.scalars) // `bits` are what is read; `value` is for people
    root["scalars"][scalar.name] = {{"dtype", safetensorsName(scalar.type)},
                                    {"bits", hashText(scalar.bits)},
                                    {"value", numberOrText(loadAsDouble(scalar.type, &scalar.bits, 0))}};
  root["shards"] = ordered_json::array();
  for (const ShardEntry &shard : index.shards)
    root["shards"].push_back(
        {{"file", shard.file}, {"bytes", shard.bytes}, {"header_xxh3", shard.headerHash}, {"xxh3", shard.hash}});
  root["tensors"] = ordered_json::array();
  for (const LogicalTensor &tensor : index.tensors) {
    ordered_json entry = {{"name", tensor.name},
                          {"role", roleName(tensor.role)},
                          {"dtype", safetensorsName(tensor.type)},
                          {"shape", tensor.shape},
                          {"trained", tensor.trained}};
    if (!tensor.sourceName.empty())
      entry["source_name"] = tensor.sourceName;
    if (!tensor.sourcePermutation.empty())
      entry["source_permutation"] = tensor.sourcePermutation;
    if (!tensor.tied.empty())
      entry["tied"] = tensor.tied;
    entry["pieces"] = ordered_json::array(); // [shard, begin, end)
    for (const TensorPiece &piece : tensor.pieces)
      entry["pieces"].push_back({piece.shard, piece.begin, piece.end});
    root["tensors"].push_back(std::move(entry));
  }
  return root.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

namespace {

/// What is wrong with an index; caught in parseIndex.
struct Mistake {
  std::string text;
};
template <typename... Parts>
[[noreturn]] void mistake(const Parts &...parts) {
  throw Mistake{concat(parts...)};
}

const json &field(const json &object, const char *key, const std::string &where) {
  auto found = object.find(key);
  if (found == object.end())
    mistake(where, "has no '", key, "'");
  return *found;
}
int64_t integer(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  bool fits =
      value.is_number_unsigned() ? value.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max()) : false;
  if (!fits)
    mistake(where, "has a '", key, "' that is not an integer from 0 to 2^63 - 1");
  return value.get<int64_t>();
}
uint64_t word(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  if (!value.is_number_unsigned())
    mistake(where, "has a '", key, "' that is not an integer from 0 to 2^64 - 1");
  return value.get<uint64_t>();
}
std::string text(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  if (!value.is_string())
    mistake(where, "has a '", key, "' that is not text");
  return value.get<std::string>();
}
bool flag(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  if (!value.is_boolean())
    mistake(where, "has a '", key, "' that is neither true nor false");
  return value.get<bool>();
}
double number(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  if (value.is_string())
    return std::strtod(value.get_ref<const std::string &>().c_str(), nullptr);
  if (!value.is_number())
    mistake(where, "has a '", key, "' that is not a number");
  return value.get<double>();
}
const json &list(const json &object, const char *key, const std::string &where) {
  const json &value = field(object, key, where);
  if (!value.is_array())
    mistake(where, "has a '", key, "' that is not a list");
  return value;
}
std::vector<std::string> texts(const json &object, const char *key, const std::string &where) {
  std::vector<std::string> result;
  for (const json &value : list(object, key, where)) {
    if (!value.is_string())
      mistake(where, "has a '", key, "' with an entry that is not text");
    result.push_back(value.get<std::string>());
  }
  return result;
}
std::vector<int64_t> integers(const json &values, const char *key, const std::string &where) {
  std::vector<int64_t> result;
  for (const json &value : values) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()))
      mistake(where, "has a '", key, "' with an entry that is not an integer from 0 to 2^63 - 1");
    result.push_back(value.get<int64_t>());
  }
  return result;
}
DataType dataType(const json &object, const std::string &where) {
  std::string name = text(object, "dtype", where);
  for (int type = 0; type <= int(DataType::Bool); ++type)
    if (name == safetensorsName(DataType(type)))
      return DataType(type);
  mistake(where, "has the unknown dtype '", name, "'");
}

LogicalTensor parseTensor(const json &entry, size_t shards) {
  LogicalTensor tensor;
  if (!entry.is_object())
    mistake("has a tensor that is not an object");
  tensor.name = text(entry, "name", "a tensor ");
  std::string where = "tensor '" + tensor.name + "' ";
  std::string role = text(entry, "role", where);
  bool known = false;
  for (int i = 0; i <= int(Role::Scalar); ++i)
    if (role == kRoleNames[i]) {
      tensor.role = Role(i);
      known = true;
    }
  if (!known)
    mistake(where, "has the unknown role '", role, "'");
  tensor.type = dataType(entry, where);
  tensor.shape = integers(list(entry, "shape", where), "shape", where);
  int64_t elements = 1;
  for (int64_t size : tensor.shape)
    if (__builtin_mul_overflow(elements, size, &elements) || elements > int64_t(1) << 56)
      mistake(where, "has shape ", shapeText(tensor.shape), ", which is too large");
  tensor.trained = flag(entry, "trained", where);
  if (entry.contains("source_name"))
    tensor.sourceName = text(entry, "source_name", where);
  if (entry.contains("source_permutation")) {
    tensor.sourcePermutation = integers(list(entry, "source_permutation", where), "source_permutation", where);
    std::set<int64_t> axes(tensor.sourcePermutation.begin(), tensor.sourcePermutation.end());
    if (axes.size() != tensor.shape.size() || tensor.sourcePermutation.size() != tensor.shape.size() ||
        (!axes.empty() && *axes.rbegin() != int64_t(tensor.shape.size()) - 1))
      mistake(where, "has the source_permutation ", shapeText(tensor.sourcePermutation), " of shape ",
              shapeText(tensor.shape));
  }
  if (entry.contains("tied"))
    tensor.tied = texts(entry, "tied", where);
  int64_t end = 0;
  for (const json &value : list(entry, "pieces", where)) {
    std::vector<int64_t> numbers = value.is_array() ? integers(value, "pieces", where) : std::vector<int64_t>();
    if (numbers.size() != 3 || numbers[0] >= int64_t(shards) || numbers[1] != end || numbers[2] <= end)
      mistake(where, "has a piece ", shapeText(numbers), " behind element ", end, ", which is not [shard below ",
              shards, ", begin, end) without a gap");
    end = numbers[2];
    tensor.pieces.push_back({int32_t(numbers[0]), numbers[1], numbers[2]});
  }
  if (end != elements)
    mistake(where, "has ", elements, " elements, but pieces of ", end);
  return tensor;
}

CheckpointIndex parse(const json &root) {
  CheckpointIndex index;
  if (!root.is_object() || !root.contains("format") || root["format"] != kFormat)
    mistake("is not the index of a checkpoint");
  std::string where;
  int64_t version = integer(root, "version", where);
  if (version < 1 || version > kCheckpointVersion)
    mistake("has version ", version, ", but this zrun reads up to ", kCheckpointVersion);
  index.version = int(version);
  index.step = integer(root, "step", where);
  index.time = number(root, "time", where);
  index.planHash = text(root, "plan", where);
  index.model = text(root, "model", where);
  index.worldSize = integer(root, "world_size", where);
  index.microBatch = integer(root, "micro_batch", where);
  index.accumSteps = integer(root, "accum_steps", where);
  index.learningRate = number(root, "learning_rate", where);
  index.seed = word(root, "seed", where);
  index.slots = texts(root, "slots", where);
  const json &data = field(root, "data", where);
  index.data.epoch = integer(data, "epoch", "data ");
  index.data.position = integer(data, "position", "data ");
  index.data.consumed = integer(data, "consumed", "data ");
  index.data.samples = integer(data, "samples", "data ");
  index.data.shuffle = flag(data, "shuffle", "data ");
  index.data.seed = word(data, "seed", "data ");
  index.data.files = texts(data, "files", "data ");
  for (const auto &[name, entry] : field(root, "scalars", where).items()) {
    SavedScalar scalar;
    scalar.name = name;
    std::string place = "scalar '" + name + "' ";
    scalar.type = dataType(entry, place);
    std::string bits = text(entry, "bits", place);
    char *end = nullptr;
    scalar.bits = std::strtoull(bits.c_str(), &end, 16);
    if (bits.size() != 16 || *end)
      mistake(place, "has bits '", bits, "' that are not 16 hexadecimal digits");
    index.scalars.push_back(scalar);
  }
  for (const json &entry : list(root, "shards", where)) {
    ShardEntry shard;
    shard.file = text(entry, "file", "a shard ");
    if (shard.file.empty() || shard.file.find('/') != std::string::npos)
      mistake("has a shard in '", shard.file, "', which is not a file beside it");
    shard.bytes = integer(entry, "bytes", "shard '" + shard.file + "' ");
    shard.headerHash = text(entry, "header_xxh3", "shard '" + shard.file + "' ");
    shard.hash = text(entry, "xxh3", "shard '" + shard.file + "' ");
    index.shards.push_back(shard);
  }
  std::set<std::string> names;
  for (const json &entry : list(root, "tensors", where)) {
    index.tensors.push_back(parseTensor(entry, index.shards.size()));
    if (!names.insert(index.tensors.back().name).second)
      mistake("names the tensor '", index.tensors.back().name, "' twice");
  }
  return index;
}

} // namespace

Result<CheckpointIndex> parseIndex(const std::string &path, const std::string &text) {
  json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded())
    return inputError(path, ": has ", text.size(), " bytes that are not JSON");
  try {
    return parse(root);
  } catch (const Mistake &found) {
    return inputError(path, ": ", found.text);
  } catch (const json::exception &exception) {
    return inputError(path, ": ", exception.what());
  }
}

} // namespace zopt::runtime
