//===- ModelFile.h - a model's bytes and its graph without them --*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_MODELFILE_H
#define ZOPT_LIB_IMPORT_MODELFILE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>
#include <onnx/onnx_pb.h>
#include <optional>
#include <string>

namespace zopt::importer {

/// An ONNX file, mapped, with its ModelProto. Tensor payloads of more than 1 KiB, documentation strings and node metadata are left out of the proto: a graph of a
/// gigabyte of inline weights parses in the time of its nodes, and each payload's place in the file, which a plan refers to, is known.
class ModelFile {
public:
  /// Returns an error's text ("truncated at byte 17"), empty on success.
  std::string open(llvm::StringRef path);

  llvm::StringRef bytes() const { return buffer->getBuffer(); }
  const onnx::ModelProto &model() const { return proto; }
  /// Gives an input another shape than the file declares; nothing where there is no input of that name.
  void setInputShape(llvm::StringRef name, llvm::ArrayRef<int64_t> shape);

  /// Where in the file a tensor's payload lies, one stretch of little-endian elements; nothing where it is external, absent or stored value by value.
  struct Payload {
    int64_t offset, length;
  };
  static std::optional<Payload> findPayload(const onnx::TensorProto &tensor);

  /// What the exporter wrote beside a value under a key of this ending; empty where it did not. Fields that libonnx's schema is too old for.
  static std::string metadata(const onnx::ValueInfoProto &info, llvm::StringRef ending);

private:
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  onnx::ModelProto proto;
};

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_MODELFILE_H
