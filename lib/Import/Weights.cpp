//===- Weights.cpp - where a model's weights lie --------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Weights.h"

#include "zopt/Runtime/Core/Fingerprint.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <cstring>
#include <filesystem>

using namespace mlir;

namespace zopt::importer {

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

int64_t elementBytes(int32_t onnxType) {
  switch (onnxType) {
  case onnx::TensorProto::BOOL:
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT8:
    return 1;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT16:
    return 2;
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::UINT32:
    return 4;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::INT64:
  case onnx::TensorProto::UINT64:
    return 8;
  default:
    return 0;
  }
}

/// The type of a tensor's elements in its file.
static Type storedElementType(int32_t onnxType, MLIRContext *context) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT16:
    return Float16Type::get(context);
  case onnx::TensorProto::BFLOAT16:
    return BFloat16Type::get(context);
  case onnx::TensorProto::BOOL: // a byte each
  case onnx::TensorProto::UINT8:
    return IntegerType::get(context, 8, onnxType == onnx::TensorProto::BOOL ? IntegerType::Signless : IntegerType::Unsigned);
  case onnx::TensorProto::UINT16:
    return IntegerType::get(context, 16, IntegerType::Unsigned);
  case onnx::TensorProto::UINT32:
    return IntegerType::get(context, 32, IntegerType::Unsigned);
  default:
    return convertElementType(onnxType, context);
  }
}

static double half(uint16_t bits) { return APFloat(APFloat::IEEEhalf(), APInt(16, bits)).convertToFloat(); }
static double bfloat(uint16_t bits) { return llvm::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

std::optional<Constant> constantOf(int32_t onnxType, StringRef bytes, ArrayRef<int64_t> shape) {
  const int64_t size = elementBytes(onnxType), count = countElements(shape);
  if (size == 0 || count > static_cast<int64_t>(bytes.size()) || count * size != static_cast<int64_t>(bytes.size()))
    return std::nullopt;
  using namespace llvm::support;
  std::vector<Scalar> values;
  values.reserve(count);
  Element element = Element::Integer;
  for (const char *p = bytes.begin(); p != bytes.end(); p += size) {
    switch (onnxType) {
    case onnx::TensorProto::BOOL:
      element = Element::Bool;
      values.push_back({*p != 0, 0});
      break;
    case onnx::TensorProto::INT8:
      values.push_back({static_cast<signed char>(*p), 0});
      break;
    case onnx::TensorProto::UINT8:
      values.push_back({static_cast<unsigned char>(*p), 0});
      break;
    case onnx::TensorProto::INT16:
      values.push_back({endian::read<int16_t>(p, llvm::endianness::little), 0});
      break;
    case onnx::TensorProto::UINT16:
      values.push_back({endian::read<uint16_t>(p, llvm::endianness::little), 0});
      break;
    case onnx::TensorProto::INT32:
      values.push_back({endian::read<int32_t>(p, llvm::endianness::little), 0});
      break;
    case onnx::TensorProto::UINT32:
      values.push_back({endian::read<uint32_t>(p, llvm::endianness::little), 0});
      break;
    case onnx::TensorProto::INT64:
    case onnx::TensorProto::UINT64:
      values.push_back({endian::read<int64_t>(p, llvm::endianness::little), 0});
      break;
    case onnx::TensorProto::FLOAT16:
      element = Element::Float;
      values.push_back({0, half(endian::read<uint16_t>(p, llvm::endianness::little))});
      break;
    case onnx::TensorProto::BFLOAT16:
      element = Element::Float;
      values.push_back({0, bfloat(endian::read<uint16_t>(p, llvm::endianness::little))});
      break;
    case onnx::TensorProto::FLOAT:
      element = Element::Float;
      values.push_back({0, llvm::bit_cast<float>(endian::read<uint32_t>(p, llvm::endianness::little))});
      break;
    case onnx::TensorProto::DOUBLE:
      element = Element::Double;
      values.push_back({0, llvm::bit_cast<double>(endian::read<uint64_t>(p, llvm::endianness::little))});
      break;
    }
  }
  return Constant(element, shape, shape, std::move(values));
}

std::optional<Constant> constantOf(const onnx::TensorProto &tensor, ArrayRef<int64_t> shape) {
  if (tensor.has_raw_data())
    return constantOf(tensor.data_type(), tensor.raw_data(), shape);
  const int32_t type = tensor.data_type();
  std::vector<Scalar> values;
  Element element = Element::Integer;
  switch (type) {
  case onnx::TensorProto::FLOAT:
    element = Element::Float;
    for (float value : tensor.float_data())
      values.push_back({0, value});
    break;
  case onnx::TensorProto::DOUBLE:
    element = Element::Double;
    for (double value : tensor.double_data())
      values.push_back({0, value});
    break;
  case onnx::TensorProto::INT64:
    for (int64_t value : tensor.int64_data())
      values.push_back({value, 0});
    break;
  case onnx::TensorProto::UINT64:
  case onnx::TensorProto::UINT32:
    for (uint64_t value : tensor.uint64_data())
      values.push_back({static_cast<int64_t>(value), 0});
    break;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
    element = Element::Float;
    for (int32_t bits : tensor.int32_data())
      values.push_back({0, type == onnx::TensorProto::FLOAT16 ? half(static_cast<uint16_t>(bits)) : bfloat(static_cast<uint16_t>(bits))});
    break;
  default:
    element = type == onnx::TensorProto::BOOL ? Element::Bool : Element::Integer;
    for (int32_t value : tensor.int32_data())
      values.push_back({value, 0});
  }
  if (static_cast<int64_t>(values.size()) != countElements(shape) || elementBytes(type) == 0)
    return std::nullopt;
  return Constant(element, shape, shape, std::move(values));
}

//===----------------------------------------------------------------------===//
// WeightFiles
//===----------------------------------------------------------------------===//

int WeightFiles::addFile(StringRef filePath, StringRef location, int64_t size) {
  File &file = files.emplace_back();
  file.path = filePath.str();
  file.location = location.str();
  file.size = size;
  return static_cast<int>(files.size()) - 1;
}

/// The file at a relative location; nothing after an error. A file that is not there is a warning and has size -1.
std::optional<int> WeightFiles::external(StringRef location, StringRef name) {
  if (location.empty() || location.contains('\0')) {
    problems.error(name, "external data has no valid location");
    return std::nullopt;
  }
  auto [it, isNew] = known.try_emplace(location, std::nullopt);
  if (!isNew)
    return it->second;
  namespace fs = std::filesystem;
  const fs::path relative(location.str());
  if (relative.is_absolute() || llvm::is_contained(relative, fs::path(".."))) {
    problems.error(name, "external data location '" + location + "' leaves the model's folder");
    return std::nullopt;
  }
  std::error_code code;
  fs::path folder = fs::path(path).parent_path();
  if (folder.empty())
    folder = ".";
  const fs::path target = folder / relative;
  const fs::path real = fs::weakly_canonical(target, code), home = code ? fs::path() : fs::canonical(folder, code);
  if (code) {
    problems.error(name, "external data location '" + location + "' cannot be resolved: " + code.message());
    return std::nullopt;
  }
  const fs::path inside = real.lexically_relative(home);
  if (inside.empty() || *inside.begin() == "..") {
    problems.error(name, "external data location '" + location + "' is a link that leaves the model's folder, to '" + real.string() + "'");
    return std::nullopt;
  }
  const fs::file_status status = fs::status(real, code);
  if (status.type() == fs::file_type::not_found) {
    problems.warning("", "the weight file '" + location + "' is missing: zrun needs it, or --init or --weights");
    return it->second = addFile(target.string(), location, -1);
  }
  if (code || status.type() != fs::file_type::regular) {
    problems.error(name, "external data location '" + location + "' is not a regular file" + (code ? ": " + code.message() : std::string()));
    return std::nullopt;
  }
  const int64_t size = static_cast<int64_t>(fs::file_size(real, code));
  return it->second = addFile(target.string(), location, size);
}

bool WeightFiles::locate(const onnx::TensorProto &proto, Initializer &result, StringRef name) {
  result.name = name.str();
  result.proto = &proto;
  MLIRContext *context = problems.getContext();
  result.element = convertElementType(proto.data_type(), context);
  result.stored = storedElementType(proto.data_type(), context);
  if (!result.element) {
    problems.error(name, "has the element type " + elementTypeName(proto.data_type()) + ", which is not supported");
    return false;
  }
  int64_t count = 1;
  for (int64_t size : proto.dims()) {
    if (size < 0 || (size > 0 && __builtin_mul_overflow(count, size, &count))) {
      problems.error(name, "the initializer's shape " + describe(ArrayRef(proto.dims().data(), proto.dims_size())) + " is not one");
      return false;
    }
    result.shape.push_back(size);
  }
  count = countElements(result.shape);
  if (__builtin_mul_overflow(count, elementBytes(proto.data_type()), &result.bytes)) {
    problems.error(name, "the initializer's shape " + describe(result.shape) + " is too large");
    return false;
  }
  result.isFloat = isa<FloatType>(result.element);

  auto check = [&](int64_t length, const char *what) {
    if (length == result.bytes)
      return true;
    problems.error(name, Twine(what) + " has " + Twine(length) + " bytes, but the shape " + describe(result.shape) + " needs " + Twine(result.bytes));
    return false;
  };
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    std::string location;
    int64_t offset = 0, length = result.bytes;
    for (const onnx::StringStringEntryProto &entry : proto.external_data()) {
      bool bad = false;
      if (entry.key() == "location")
        location = entry.value();
      else if (entry.key() == "offset")
        bad = StringRef(entry.value()).getAsInteger(10, offset) || offset < 0;
      else if (entry.key() == "length")
        bad = StringRef(entry.value()).getAsInteger(10, length) || length < 0;
      if (bad) {
        problems.error(name, "external data has " + StringRef(entry.key()) + " '" + entry.value() + "'");
        return false;
      }
    }
    if (!check(length, "external data"))
      return false;
    std::optional<int> file = external(location, name);
    if (!file)
      return false;
    int64_t end;
    if (__builtin_add_overflow(offset, length, &end) || (files[*file].size >= 0 && end > files[*file].size)) {
      problems.error(name, "external data is short: bytes " + Twine(offset) + " to " + Twine(offset) + "+" + Twine(length) + " of '" + location + "', which has " + Twine(files[*file].size));
      return false;
    }
    result.file = *file;
    result.offset = offset;
    return true;
  }
  if (std::optional<ModelFile::Payload> payload = ModelFile::findPayload(proto)) {
    if (!check(payload->length, "the initializer"))
      return false;
    // The model itself is the one file without an external location.
    auto [it, isNew] = known.try_emplace("", std::nullopt);
    if (isNew)
      it->second = addFile(path, llvm::sys::path::filename(path), static_cast<int64_t>(model.bytes().size()));
    result.file = *it->second;
    result.offset = payload->offset;
    return true;
  }
  const int64_t held = std::max({proto.float_data_size(), proto.double_data_size(), proto.int32_data_size(), proto.int64_data_size(), proto.uint64_data_size()});
  if (held == count)
    return true;
  problems.error(name, "the initializer holds " + Twine(held) + " values, but the shape " + describe(result.shape) + " needs " + Twine(count));
  return false;
}

StringRef WeightFiles::bytes(const Initializer &initializer) {
  if (initializer.file < 0)
    return initializer.proto->raw_data();
  File &file = files[initializer.file];
  if (file.size < 0)
    return "";
  if (file.path == path)
    return model.bytes().substr(initializer.offset, initializer.bytes);
  if (!file.buffer) {
    llvm::ErrorOr<std::unique_ptr<llvm::MemoryBuffer>> buffer = llvm::MemoryBuffer::getFile(file.path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer) {
      problems.warning("", "the weight file '" + file.location + "' cannot be read: " + buffer.getError().message());
      file.size = -1;
      return "";
    }
    file.buffer = std::move(*buffer);
  }
  return file.buffer->getBuffer().substr(initializer.offset, initializer.bytes);
}

std::optional<Constant> WeightFiles::read(const Initializer &initializer, int64_t limit) {
  if (initializer.bytes > limit)
    return std::nullopt;
  if (initializer.proto->data_location() != onnx::TensorProto::EXTERNAL)
    if (std::optional<Constant> own = constantOf(*initializer.proto, initializer.shape))
      return own;
  StringRef data = bytes(initializer);
  if (static_cast<int64_t>(data.size()) != initializer.bytes)
    return std::nullopt;
  return constantOf(initializer.proto->data_type(), data, initializer.shape);
}

/// `file` as a path relative to `folder`, or absolute where there is none (another root).
static std::string relativeTo(const std::string &file, StringRef folder) {
  namespace fs = std::filesystem;
  std::error_code code;
  const fs::path result = fs::proximate(file, fs::path(folder.str()), code);
  return code || result.empty() ? file : result.generic_string();
}

std::string WeightFiles::modelPath(StringRef planDirectory) const { return planDirectory.empty() ? llvm::sys::path::filename(path).str() : relativeTo(path, planDirectory); }

std::vector<FlatSymbolRefAttr> WeightFiles::emit(OpBuilder &builder, StringRef planDirectory, ArrayRef<bool> used) {
  std::vector<FlatSymbolRefAttr> symbols;
  for (auto [i, file] : llvm::enumerate(files)) {
    if (!used[i]) {
      symbols.emplace_back();
      continue;
    }
    std::string name = "weights" + std::to_string(llvm::count_if(symbols, [](FlatSymbolRefAttr symbol) { return bool(symbol); }));
    runtime::Fingerprint fingerprint;
    std::string error;
    if (file.size >= 0 && !runtime::fingerprintFile(file.path, fingerprint, error))
      problems.error("", "the weight file '" + file.location + "' cannot be read: " + error);
    train::WeightFileOp::create(builder, builder.getUnknownLoc(), name, planDirectory.empty() ? file.location : relativeTo(file.path, planDirectory), fingerprint.size, fingerprint.text);
    symbols.push_back(FlatSymbolRefAttr::get(builder.getContext(), name));
  }
  return symbols;
}

} // namespace zopt::importer
