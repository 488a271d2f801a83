//===- SafetensorsFile.h - files of named tensors ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The safetensors format: 8 bytes of header length, a JSON header, and the tensors' bytes without holes. The reader checks all of the header before anything is read through it; the writer's
// file appears whole or not at all. Errors name the file and the tensor.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DATA_SAFETENSORSFILE_H
#define ZOPT_RUNTIME_DATA_SAFETENSORSFILE_H

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace zopt::runtime {

struct SafetensorsTensor {
  std::string name;
  DataType type = DataType::F32;
  std::vector<int64_t> shape;
  int64_t offset = 0; ///< of the first byte, in the file
  int64_t bytes = 0;
};

/// Text pairs of the header's `__metadata__`.
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// What a header says, its tensors in the order of their bytes.
struct SafetensorsHeader {
  std::vector<SafetensorsTensor> tensors;
  SafetensorsMetadata metadata;
};

/// Parses and checks the JSON text of a header whose tensors' bytes are [8 + text.size(), fileBytes) of the file. `path` is for messages. Fails, whatever the text, with an error of the
/// input that is one line: bad JSON, names given twice, unknown types, shapes that do not fit the offsets, overlaps, holes, bytes behind the end of the file.
Result<SafetensorsHeader> parseSafetensorsHeader(const std::string &path, const std::string &text, int64_t fileBytes);

/// "F32", "I64", ... as the format spells types.
const char *safetensorsName(DataType type);

/// An open file. Reads are by position, so that threads may share it.
class SafetensorsFile {
public:
  static Result<SafetensorsFile> open(const std::string &path);

  const std::string &path() const { return file.path(); }
  const std::vector<SafetensorsTensor> &tensors() const { return header.tensors; }
  const SafetensorsMetadata &metadata() const { return header.metadata; }
  /// Null where there is no tensor of this name.
  const SafetensorsTensor *find(const std::string &name) const;

  /// Reads bytes [begin, begin + count) of the tensor.
  Status read(const SafetensorsTensor &tensor, int64_t begin, void *data, int64_t count) const;
  /// Gives up the descriptor, for those who read on by offset.
  InputFile takeInput() { return std::move(file); }

private:
  SafetensorsFile(InputFile file, SafetensorsHeader header) : file(std::move(file)), header(std::move(header)) {}
  InputFile file;
  SafetensorsHeader header;
};

/// Gives tensors their bytes and their offsets in a file, and the bytes in front of the first: the header's length and the header. Wider types come first, so that every tensor is aligned to its
/// elements. The order depends on types and places in the list alone. `path` is for messages.
Result<std::string> layOutSafetensors(const std::string &path, std::vector<SafetensorsTensor> &tensors, const SafetensorsMetadata &metadata);

/// Writes a file of tensors that are declared first and filled in any order, piece by piece.
class SafetensorsWriter {
public:
  /// `tensors`: names, types and shapes; offsets and sizes are computed. Wider types come first in the file, so that every tensor is aligned to its elements.
  static Result<SafetensorsWriter> create(const std::string &path, std::vector<SafetensorsTensor> tensors, const SafetensorsMetadata &metadata = {});

  /// Writes bytes [begin, begin + count) of tensor `index`, as numbered in create(). Every byte is written once.
  Status write(size_t index, int64_t begin, const void *data, int64_t count);
  /// Makes the file appear. Fails where a tensor has not been written in full.
  Status commit();

private:
  SafetensorsWriter(std::string path, OutputFile file) : path(std::move(path)), file(std::move(file)) {}
  std::string path;
  OutputFile file;
  std::vector<SafetensorsTensor> tensors;
  std::vector<int64_t> written; // bytes, one a tensor
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DATA_SAFETENSORSFILE_H
