//===- DataFile.h - where a file keeps the samples of each input -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All formats come down to columns: sample i of an input is `elements` elements at offset + i * elements. Labels of text are its tokens, one further.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DATA_DATAFILE_H
#define ZOPT_LIB_RUNTIME_DATA_DATAFILE_H

#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Data/Dataset.h"

namespace zopt::runtime {

struct Column {
  DataType type = DataType::I64;
  bool isUnsigned32 = false; // type I32, but its values are unsigned: tokens, and no type of a graph
  bool isMade = false;       // the file has none: makeInput
  int64_t offset = 0;        // of the first sample, in bytes
  int64_t elements = 0;      // of a sample
};

struct DataFile {
  InputFile file;
  int64_t samples = 0;
  std::vector<Column> columns;      // one an input
  std::vector<std::string> ignored; // tensors that no input asks for
};

/// The inputs that tokens can feed: themselves, and their label.
struct TextInputs {
  int tokens = -1, labels = -1; // indices of Program::inputs; no labels in a forward plan
  int64_t sequence = 0;
  int64_t vocabulary = 0; // 0 where the plan does not tell
};
/// `path` is for messages. `withPairMask`: a mask over pairs of positions (Packing.h) is made by the caller.
Result<TextInputs> findTextInputs(const std::string &path, const Program &program, bool withPairMask = false);

Result<DataFile> openSafetensorsData(const std::string &path, const Program &program);
Result<DataFile> openBytesData(const std::string &path, const Program &program, bool askedFor);
Result<DataFile> openTokensData(const std::string &path, const Program &program, TokenType tokenType);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_DATA_DATAFILE_H
