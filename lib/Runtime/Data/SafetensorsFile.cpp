//===- SafetensorsFile.cpp - files of named tensors -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>
#include <unordered_set>

namespace zopt::runtime {

namespace {

/// The reference implementation's own limit; a longer header is a corrupt one.
constexpr int64_t kMaximalHeaderBytes = 100'000'000;
constexpr size_t kMaximalRank = 32;

struct TypeName {
  DataType type;
  const char *name;
};
constexpr TypeName kTypeNames[] = {{DataType::F64, "F64"}, {DataType::F32, "F32"},   {DataType::F16, "F16"},
                                   {DataType::BF16, "BF16"}, {DataType::I64, "I64"}, {DataType::I32, "I32"},
                                   {DataType::I16, "I16"}, {DataType::U16, "U16"},   {DataType::I8, "I8"},
                                   {DataType::U8, "U8"},   {DataType::Bool, "BOOL"},
                                   {DataType::U64, "U64"}, {DataType::U32, "U32"}};

/// A string of a file for a message: one line of printable characters, not too long.
std::string printable(const std::string &text) {
  constexpr size_t limit = 200;
  std::string result;
  for (unsigned char c : text.substr(0, limit)) {
    if (c >= 0x20 && c != 0x7f) {
      result += char(c);
      continue;
    }
    constexpr char digits[] = "0123456789abcdef";
    result += {'\\', 'x', digits[c >> 4], digits[c & 15]};
  }
  return text.size() > limit ? result + "..." : result;
}

bool parseTypeName(const std::string &name, DataType &type) {
  for (const TypeName &entry : kTypeNames)
    if (name == entry.name) {
      type = entry.type;
      return true;
    }
  return false;
}

/// The bytes of a tensor; false where its sizes, those of an empty one too, do not fit an int64_t together.
bool byteCount(const SafetensorsTensor &tensor, int64_t &bytes) {
  bytes = sizeOf(tensor.type);
  bool isEmpty = false;
  for (int64_t size : tensor.shape) {
    isEmpty |= size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes))
      return false;
  }
  if (isEmpty)
    bytes = 0;
  return true;
}

/// A non-negative integer of the header; nlohmann's own conversions would round floats and wrap.
bool parseSize(const nlohmann::json &value, int64_t &size) {
  if (!value.is_number_unsigned())
    return false;
  uint64_t wide = value.get<uint64_t>();
  size = int64_t(wide);
  return wide <= uint64_t(std::numeric_limits<int64_t>::max());
}

/// Offsets are left relative to the data's begin, as the header has them.
Status parseTensor(const std::string &where, const nlohmann::json &entry, SafetensorsTensor &tensor) {
  if (!entry.is_object())
    return inputError(where, "has no object with dtype, shape and data_offsets in the header");
  for (const char *key : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(key))
      return inputError(where, "has no ", key, " in the header");

  const nlohmann::json &type = entry["dtype"];
  if (!type.is_string() || !parseTypeName(type.get_ref<const std::string &>(), tensor.type)) {
    std::string names;
    for (const TypeName &known : kTypeNames)
      names += concat(names.empty() ? "" : ", ", known.name);
    return inputError(where, "has dtype ", type.is_string() ? printable(type.get<std::string>()) : "of another kind than text",
                      ", which is not one of ", names);
  }

  const nlohmann::json &shape = entry["shape"];
  if (!shape.is_array() || shape.size() > kMaximalRank)
    return inputError(where, "has a shape that is not a list of at most ", kMaximalRank, " sizes");
  for (const nlohmann::json &value : shape) {
    int64_t size;
    if (!parseSize(value, size))
      return inputError(where, "has a size in its shape that is not an integer from 0 to 2^63 - 1");
    tensor.shape.push_back(size);
  }

  const nlohmann::json &offsets = entry["data_offsets"];
  int64_t begin, end;
  if (!offsets.is_array() || offsets.size() != 2 || !parseSize(offsets[0], begin) || !parseSize(offsets[1], end))
    return inputError(where, "has data_offsets that are not two integers from 0 to 2^63 - 1");
  if (begin > end)
    return inputError(where, "has data_offsets [", begin, ", ", end, "], which end before they begin");
  tensor.offset = begin;
  tensor.bytes = end - begin;

  int64_t needed;
  if (!byteCount(tensor, needed))
    return inputError(where, "has shape ", shapeText(tensor.shape), ", whose bytes exceed 2^63 - 1");
  if (needed != tensor.bytes)
    return inputError(where, "has data_offsets [", begin, ", ", end, "] of ", tensor.bytes, " bytes, but shape ",
                      shapeText(tensor.shape), " of ", safetensorsName(tensor.type), " needs ", needed);
  return success();
}

/// The tensors, sorted by offset, must tile the data exactly, as the format demands: an overlap or a hole is a corrupt file.
Status checkTiling(const std::string &path, const std::vector<SafetensorsTensor> &tensors, int64_t dataBytes) {
  int64_t end = 0;
  const SafetensorsTensor *last = nullptr;
  for (const SafetensorsTensor &tensor : tensors) {
    std::string where = path + ": " + printable(tensor.name) + ": ";
    if (tensor.bytes > dataBytes - std::min(dataBytes, tensor.offset))
      return inputError(where, "has data_offsets [", tensor.offset, ", ", tensor.offset + tensor.bytes,
                        "], but the file holds ", dataBytes, " bytes of data (is it truncated?)");
    if (tensor.offset < end)
      return inputError(where, "has data_offsets [", tensor.offset, ", ", tensor.offset + tensor.bytes,
                        "], which overlap those of ", printable(last->name), " that end at ", end);
    if (tensor.offset > end)
      return inputError(where, "has data_offsets [", tensor.offset, ", ", tensor.offset + tensor.bytes, "], but bytes [",
                        end, ", ", tensor.offset, ") before it belong to no tensor");
    end = tensor.offset + tensor.bytes;
    last = &tensor;
  }
  if (end != dataBytes)
    return inputError(path, ": has ", dataBytes, " bytes of data, but its tensors end at ", end);
  return success();
}

} // namespace

const char *safetensorsName(DataType type) {
  for (const TypeName &entry : kTypeNames)
    if (entry.type == type)
      return entry.name;
  return "?";
}

Result<SafetensorsHeader> parseSafetensorsHeader(const std::string &path, const std::string &text, int64_t fileBytes) {
  // nlohmann keeps the last of equal keys without a word; a name given twice is an error here.
  std::unordered_set<std::string> names;
  std::string duplicate;
  bool hasDuplicate = false;
  auto noteKeys = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json &parsed) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
      hasDuplicate = true;
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  nlohmann::json json = nlohmann::json::parse(text, noteKeys, /*allow_exceptions=*/false);
  if (json.is_discarded())
    return inputError(path, ": has a header of ", text.size(), " bytes that is not JSON");
  if (!json.is_object())
    return inputError(path, ": has a header that is not a JSON object");
  if (hasDuplicate)
    return inputError(path, ": ", printable(duplicate), ": is named twice in the header");

  SafetensorsHeader header;
  for (const auto &[name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object())
        return inputError(path, ": has a __metadata__ that is not a JSON object");
      for (const auto &[key, value] : entry.items()) {
        if (!value.is_string())
          return inputError(path, ": has a __metadata__ entry ", printable(key), " that is not text");
        header.metadata.emplace_back(key, value.get<std::string>());
      }
      continue;
    }
    SafetensorsTensor tensor;
    tensor.name = name;
    ZOPT_RETURN_IF_FAILED(parseTensor(path + ": " + printable(name) + ": ", entry, tensor));
    header.tensors.push_back(std::move(tensor));
  }
  // Empty tensors share their offset with what follows.
  std::sort(header.tensors.begin(), header.tensors.end(), [](const SafetensorsTensor &a, const SafetensorsTensor &b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  int64_t dataBegin = 8 + int64_t(text.size());
  ZOPT_RETURN_IF_FAILED(checkTiling(path, header.tensors, fileBytes - dataBegin));
  for (SafetensorsTensor &tensor : header.tensors)
    tensor.offset += dataBegin;
  return Result<SafetensorsHeader>(std::move(header));
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  unsigned char lengthBytes[8];
  if (file->size() < int64_t(sizeof lengthBytes))
    return inputError(path, ": has ", file->size(), " bytes, too few for a safetensors file");
  ZOPT_RETURN_IF_FAILED(file->read(0, lengthBytes, sizeof lengthBytes));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | lengthBytes[i];
  if (length > uint64_t(kMaximalHeaderBytes))
    return inputError(path, ": has a header length of ", length, " bytes, more than a safetensors file's ", kMaximalHeaderBytes);
  if (int64_t(length) > file->size() - 8)
    return inputError(path, ": has a header length of ", length, " bytes, but only ", file->size() - 8,
                      " bytes follow (is it truncated?)");
  std::string text(length, '\0');
  ZOPT_RETURN_IF_FAILED(file->read(8, text.data(), int64_t(length)));
  Result<SafetensorsHeader> header = parseSafetensorsHeader(path, text, file->size());
  if (header.failed())
    return header.getStatus();
  return SafetensorsFile(std::move(*file), std::move(*header));
}

const SafetensorsTensor *SafetensorsFile::find(const std::string &name) const {
  for (const SafetensorsTensor &tensor : header.tensors)
    if (tensor.name == name)
      return &tensor;
  return nullptr;
}

Status SafetensorsFile::read(const SafetensorsTensor &tensor, int64_t begin, void *data, int64_t count) const {
  if (begin < 0 || count < 0 || begin > tensor.bytes || count > tensor.bytes - begin)
    return inputError(path(), ": ", printable(tensor.name), ": bytes [", begin, ", ", begin + count, ") are wanted, but it has ",
                      tensor.bytes);
  return file.read(tensor.offset + begin, data, count);
}

Result<std::string> layOutSafetensors(const std::string &path, std::vector<SafetensorsTensor> &tensors, const SafetensorsMetadata &metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto &[key, value] : metadata)
    json["__metadata__"][key] = value;

  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    int64_t sizeA = sizeOf(tensors[a].type), sizeB = sizeOf(tensors[b].type);
    return sizeA != sizeB ? sizeA > sizeB : a < b;
  });
  int64_t end = 0;
  for (size_t index : order) {
    SafetensorsTensor &tensor = tensors[index];
    if (json.contains(tensor.name))
      return inputError(path, ": ", printable(tensor.name), ": is to be written twice");
    tensor.offset = end;
    if (!byteCount(tensor, tensor.bytes) || __builtin_add_overflow(end, tensor.bytes, &end))
      return inputError(path, ": ", printable(tensor.name), ": has shape ", shapeText(tensor.shape),
                        ", with which the file's bytes exceed 2^63 - 1");
    json[tensor.name] = {{"dtype", safetensorsName(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {tensor.offset, end}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception &) {
    return inputError(path, ": a name to be written is not valid UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' '); // the data is aligned, as the reference implementation does it
  for (SafetensorsTensor &tensor : tensors)
    tensor.offset += 8 + int64_t(text.size());
  std::string header;
  for (int i = 0; i < 8; ++i)
    header += char(static_cast<unsigned char>(uint64_t(text.size()) >> (8 * i)));
  return header + text;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string &path, std::vector<SafetensorsTensor> tensors,
                                                    const SafetensorsMetadata &metadata) {
  Result<std::string> header = layOutSafetensors(path, tensors, metadata);
  if (header.failed())
    return header.getStatus();
  Result<OutputFile> file = OutputFile::create(path);
  if (file.failed())
    return file.getStatus();
  SafetensorsWriter writer(path, std::move(*file));
  ZOPT_RETURN_IF_FAILED(writer.file.writeAt(0, header->data(), int64_t(header->size())));
  writer.written.assign(tensors.size(), 0);
  writer.tensors = std::move(tensors);
  return Result<SafetensorsWriter>(std::move(writer));
}

Status SafetensorsWriter::write(size_t index, int64_t begin, const void *data, int64_t count) {
  const SafetensorsTensor &tensor = tensors[index];
  if (begin < 0 || count < 0 || begin > tensor.bytes || count > tensor.bytes - begin)
    return runtimeError(path, ": ", tensor.name, ": bytes [", begin, ", ", begin + count, ") are to be written, but it has ", tensor.bytes);
  ZOPT_RETURN_IF_FAILED(file.writeAt(tensor.offset + begin, data, count));
  written[index] += count;
  return success();
}

Status SafetensorsWriter::commit() {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (written[i] != tensors[i].bytes)
      return runtimeError(path, ": ", tensors[i].name, ": ", written[i], " of its ", tensors[i].bytes, " bytes were written");
  return file.commit();
}

} // namespace zopt::runtime
