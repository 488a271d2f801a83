//===- File.h - files, read by position and written whole -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Files as the runtime uses them: read at positions, without a shared file offset; written to a temporary name beside the destination, fsynced and renamed, so that a file appears whole or
// not at all.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_FILE_H
#define ZOPT_RUNTIME_CORE_FILE_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>

namespace zopt::runtime {

class InputFile {
public:
  static Result<InputFile> open(const std::string &path);
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&other) noexcept;
  ~InputFile();

  int64_t size() const { return bytes; }
  const std::string &path() const { return name; }
  /// Reads exactly `count` bytes at `offset`, or fails: at the end of the file as an error of the input.
  Status read(int64_t offset, void *data, int64_t count) const;

private:
  InputFile() = default;
  std::string name;
  int descriptor = -1;
  int64_t bytes = 0;
};

/// Removed again unless commit() succeeds.
class OutputFile {
public:
  static Result<OutputFile> create(const std::string &path);
  OutputFile(OutputFile &&other) noexcept;
  OutputFile &operator=(OutputFile &&other) noexcept;
  ~OutputFile();

  Status append(const void *data, int64_t count);
  Status writeAt(int64_t offset, const void *data, int64_t count);
  /// Makes the file appear under its own name. Nothing may be written afterwards.
  Status commit();

private:
  OutputFile() = default;
  std::string name, temporary;
  int descriptor = -1;
  int64_t position = 0;
};

/// A file with this content, whole or as it was; durable when it returns.
Status replaceFile(const std::string &path, const std::string &content);

/// Whether a file of this name could be created or replaced; says why not.
Status checkWritable(const std::string &path);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_FILE_H
