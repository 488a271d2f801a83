//===- ModelFile.cpp - a model's bytes and its graph without them ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The file is walked in protobuf's wire format (https://protobuf.dev/programming-guides/encoding) and copied without its large payloads into a skeleton that libonnx
// parses. In the skeleton a tensor with a payload has two entries in external_data, "zopt.offset" and "zopt.length", while its data_location is not EXTERNAL; entries of that
// kind in the file itself are dropped, so that no file can forge them.
//
//===----------------------------------------------------------------------===//

#include "ModelFile.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include <climits>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/unknown_field_set.h>

using llvm::StringRef;

namespace zopt::importer {

namespace {

constexpr size_t largestInlinePayload = 1024;
constexpr unsigned deepestGraph = 16;

enum WireType : unsigned { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

struct Field {
  uint32_t number;
  unsigned wire;
  uint64_t value;    ///< of a varint
  StringRef payload; ///< of Bytes
  StringRef whole;   ///< tag and payload
};

/// The messages in which something is left out; everything else is copied.
enum class Message { Model, Graph, Node, Attribute, Tensor, Function };

class Skeleton {
public:
  explicit Skeleton(StringRef file) : file(file) {}

  bool copy(Message kind, StringRef bytes, std::string &out, unsigned depth = 0) {
    if (depth > deepestGraph)
      return fail(bytes, "graphs are nested too deeply");
    if (kind == Message::Tensor)
      return copyTensor(bytes, out);
    while (!bytes.empty()) {
      Field field;
      if (!next(bytes, field))
        return false;
      std::optional<Message> inner = child(kind, field);
      if (inner) {
        std::string message;
        if (!copy(*inner, field.payload, message, depth + (*inner == Message::Graph)))
          return false;
        writeBytes(field.number, message, out);
      } else if (!isDropped(kind, field)) {
        out.append(field.whole.data(), field.whole.size());
      }
    }
    return true;
  }

  std::string error;

private:
  bool fail(StringRef at, const char *what) {
    error = (llvm::Twine(what) + " at byte " + llvm::Twine(at.data() - file.data())).str();
    return false;
  }

  bool readVarint(StringRef &bytes, uint64_t &value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (bytes.empty())
        return fail(bytes, "truncated");
      const uint8_t byte = bytes.front();
      bytes = bytes.drop_front();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return true;
    }
    return fail(bytes, "not an ONNX file: a number has too many bytes");
  }

  bool next(StringRef &bytes, Field &field) {
    const char *start = bytes.data();
    uint64_t tag;
    if (!readVarint(bytes, tag))
      return false;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire = tag & 7;
    if (field.number == 0 || tag > UINT32_MAX)
      return fail(StringRef(start, 0), "not an ONNX file: a field has no valid number");
    size_t length = 0;
    switch (field.wire) {
    case Varint:
      if (!readVarint(bytes, field.value))
        return false;
      break;
    case Fixed64:
      length = 8;
      break;
    case Fixed32:
      length = 4;
      break;
    case Bytes: {
      uint64_t count;
      if (!readVarint(bytes, count))
        return false;
      if (count > bytes.size())
        return fail(bytes, "truncated");
      length = count;
      break;
    }
    default:
      return fail(StringRef(start, 0), "not an ONNX file: a field has an unknown wire type");
    }
    if (length > bytes.size())
      return fail(bytes, "truncated");
    field.payload = bytes.take_front(length);
    bytes = bytes.drop_front(length);
    field.whole = StringRef(start, bytes.data() - start);
    return true;
  }

  static std::optional<Message> child(Message kind, const Field &field) {
    if (field.wire != Bytes)
      return std::nullopt;
    switch (kind) {
    case Message::Model:
      if (field.number == onnx::ModelProto::kGraphFieldNumber)
        return Message::Graph;
      if (field.number == onnx::ModelProto::kFunctionsFieldNumber)
        return Message::Function;
      break;
    case Message::Graph:
      if (field.number == onnx::GraphProto::kNodeFieldNumber)
        return Message::Node;
      if (field.number == onnx::GraphProto::kInitializerFieldNumber)
        return Message::Tensor;
      break;
    case Message::Function:
      if (field.number == onnx::FunctionProto::kNodeFieldNumber)
        return Message::Node;
      break;
    case Message::Node:
      if (field.number == onnx::NodeProto::kAttributeFieldNumber)
        return Message::Attribute;
      break;
    case Message::Attribute:
      if (field.number == onnx::AttributeProto::kTFieldNumber)
        return Message::Tensor;
      if (field.number == onnx::AttributeProto::kGFieldNumber)
        return Message::Graph;
      break;
    case Message::Tensor:
      break;
    }
    return std::nullopt;
  }

  /// Documentation and metadata (field 9 of a node since IR 10: stack traces of a kilobyte each).
  static bool isDropped(Message kind, const Field &field) {
    constexpr uint32_t nodeMetadata = 9;
    switch (kind) {
    case Message::Model:
      return field.number == onnx::ModelProto::kDocStringFieldNumber;
    case Message::Graph:
      return field.number == onnx::GraphProto::kDocStringFieldNumber;
    case Message::Node:
      return field.number == onnx::NodeProto::kDocStringFieldNumber || field.number == nodeMetadata;
    default:
      return false;
    }
  }

  static void writeVarint(uint64_t value, std::string &out) {
    for (; value >= 0x80; value >>= 7)
      out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
  }

  static void writeBytes(uint32_t number, StringRef payload, std::string &out) {
    writeVarint(uint64_t(number) << 3 | Bytes, out);
    writeVarint(payload.size(), out);
    out.append(payload.data(), payload.size());
  }

  static void writeEntry(StringRef key, const std::string &value, std::string &out) {
    std::string entry;
    writeBytes(onnx::StringStringEntryProto::kKeyFieldNumber, key, entry);
    writeBytes(onnx::StringStringEntryProto::kValueFieldNumber, value, entry);
    writeBytes(onnx::TensorProto::kExternalDataFieldNumber, entry, out);
  }

  bool copyTensor(StringRef bytes, std::string &out) {
    llvm::SmallVector<Field, 8> fields;
    bool external = false;
    while (!bytes.empty()) {
      Field &field = fields.emplace_back();
      if (!next(bytes, field))
        return false;
      if (field.number == onnx::TensorProto::kDataLocationFieldNumber && field.wire == Varint)
        external = field.value == onnx::TensorProto::EXTERNAL;
    }
    for (const Field &field : fields) {
      switch (field.number) {
      case onnx::TensorProto::kRawDataFieldNumber:
      case onnx::TensorProto::kFloatDataFieldNumber:  // packed: little-endian floats, as raw data has them
      case onnx::TensorProto::kDoubleDataFieldNumber:
        if (field.wire != Bytes || external)
          break;
        writeEntry("zopt.offset", std::to_string(field.payload.data() - file.data()), out);
        writeEntry("zopt.length", std::to_string(field.payload.size()), out);
        if (field.payload.size() > largestInlinePayload)
          continue;
        break;
      case onnx::TensorProto::kExternalDataFieldNumber:
        if (!external)
          continue;
        break;
      case onnx::TensorProto::kDocStringFieldNumber:
        continue;
      }
      out.append(field.whole.data(), field.whole.size());
    }
    return true;
  }

  StringRef file;
};

} // namespace

std::string ModelFile::open(StringRef path) {
  llvm::sys::fs::file_status status;
  if (std::error_code code = llvm::sys::fs::status(path, status))
    return "cannot be opened: " + code.message();
  if (!llvm::sys::fs::is_regular_file(status))
    return "is not a regular file";
  llvm::ErrorOr<std::unique_ptr<llvm::MemoryBuffer>> file = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file)
    return "cannot be read: " + file.getError().message();
  buffer = std::move(*file);
  if (bytes().empty())
    return "is empty";
  if (bytes().size() > INT_MAX)
    return ("has " + llvm::Twine(bytes().size()) + " bytes, but protobuf's limit is 2147483647: store the weights as external data").str();

  Skeleton skeleton(bytes());
  std::string graph;
  if (!skeleton.copy(Message::Model, bytes(), graph))
    return "is not a complete ONNX model: " + skeleton.error;
  google::protobuf::LogSilencer silence; // our message says it
  if (!proto.ParseFromString(graph))
    return "is not an ONNX model: protobuf cannot parse it";
  if (!proto.has_graph())
    return "is not an ONNX model: it has no graph";
  return "";
}

std::optional<ModelFile::Payload> ModelFile::findPayload(const onnx::TensorProto &tensor) {
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL || tensor.external_data_size() != 2)
    return std::nullopt;
  Payload payload;
  if (StringRef(tensor.external_data(0).value()).getAsInteger(10, payload.offset) || StringRef(tensor.external_data(1).value()).getAsInteger(10, payload.length))
    return std::nullopt;
  return payload;
}

std::string ModelFile::metadata(const onnx::ValueInfoProto &info, StringRef ending) {
  constexpr int properties = 4;
  const google::protobuf::UnknownFieldSet &unknown = info.GetReflection()->GetUnknownFields(info);
  for (int i = 0; i < unknown.field_count(); ++i) {
    const google::protobuf::UnknownField &field = unknown.field(i);
    if (field.number() != properties || field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      continue;
    onnx::StringStringEntryProto entry;
    if (entry.ParseFromString(field.length_delimited()) && StringRef(entry.key()).ends_with(ending))
      return entry.value();
  }
  return "";
}

void ModelFile::setInputShape(llvm::StringRef name, llvm::ArrayRef<int64_t> shape) {
  for (onnx::ValueInfoProto &input : *proto.mutable_graph()->mutable_input()) {
    if (input.name() != name)
      continue;
    onnx::TensorShapeProto *dimensions = input.mutable_type()->mutable_tensor_type()->mutable_shape();
    dimensions->clear_dim();
    for (int64_t size : shape)
      dimensions->add_dim()->set_dim_value(size);
  }
}

} // namespace zopt::importer
