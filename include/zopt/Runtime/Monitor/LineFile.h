//===- LineFile.h - files that grow by whole lines --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Files that others may read while they grow: each line is written at once, and one that does not fit is taken back, so
// that a reader of a running or killed run meets whole lines only.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_LINEFILE_H
#define ZOPT_RUNTIME_MONITOR_LINEFILE_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <functional>
#include <string>

namespace zopt::runtime {

class LineFile {
public:
  /// A new file replaces one that is there; with `append` it goes on behind the last whole line.
  static Result<LineFile> open(const std::string &path, bool append);
  /// Goes on with a file that may be there, without its lines from the first one on that `drop` is true for.
  static Result<LineFile> resume(const std::string &path, const std::function<bool(const std::string &)> &drop);
  LineFile(LineFile &&other) noexcept;
  LineFile &operator=(LineFile &&other) noexcept;
  ~LineFile();

  /// Bytes of whole lines.
  int64_t size() const { return bytes; }
  /// `line` ends with its newline. Allocates nothing.
  Status write(const std::string &line);

private:
  LineFile() = default;
  std::string path;
  int descriptor = -1;
  int64_t bytes = 0;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_LINEFILE_H
