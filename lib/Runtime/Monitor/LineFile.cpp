//===- LineFile.cpp - files that grow by whole lines ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/LineFile.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace zopt::runtime {

namespace {

Status failure(const std::string &path, const char *call, int number) {
  return Status(Error{ErrorKind::Runtime, -1, path, call, std::strerror(number)});
}

/// The length of the file's whole lines.
Result<int64_t> lengthOfLines(int descriptor, const std::string &path, int64_t size) {
  char block[4096];
  for (int64_t end = size; end > 0;) {
    int64_t begin = std::max<int64_t>(0, end - int64_t(sizeof block));
    ssize_t got = ::pread(descriptor, block, size_t(end - begin), begin);
    if (got < 0 && errno == EINTR)
      continue;
    if (got != end - begin)
      return failure(path, "pread", got < 0 ? errno : EIO);
    for (int64_t i = end - begin; i > 0; --i)
      if (block[i - 1] == '\n')
        return begin + i;
    end = begin;
  }
  return int64_t(0);
}

} // namespace

Result<LineFile> LineFile::open(const std::string &path, bool append) {
  LineFile file;
  file.path = path;
  file.descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (append ? 0 : O_TRUNC), 0666);
  if (file.descriptor < 0)
    return Status(Error{ErrorKind::Input, -1, path, "open", std::strerror(errno)});
  struct stat information;
  if (fstat(file.descriptor, &information) != 0)
    return failure(path, "fstat", errno);
  if (append && S_ISREG(information.st_mode)) {
    Result<int64_t> length = lengthOfLines(file.descriptor, path, information.st_size);
    if (length.failed())
      return length.getStatus();
    if (ftruncate(file.descriptor, *length) != 0)
      return failure(path, "ftruncate", errno);
    if (lseek(file.descriptor, *length, SEEK_SET) < 0)
      return failure(path, "lseek", errno);
    file.bytes = *length;
  }
  return Result<LineFile>(std::move(file));
}

Result<LineFile> LineFile::resume(const std::string &path, const std::function<bool(const std::string &)> &drop) {
  if (std::ifstream lines(path); lines) {
    int64_t end = 0;
    for (std::string text; std::getline(lines, text); end += int64_t(text.size()) + 1)
      if (drop(text)) {
        if (::truncate(path.c_str(), end) != 0)
          return failure(path, "truncate", errno);
        break;
      }
  }
  return open(path, /*append=*/true);
}

LineFile::LineFile(LineFile &&other) noexcept
    : path(std::move(other.path)), descriptor(std::exchange(other.descriptor, -1)), bytes(other.bytes) {}
LineFile &LineFile::operator=(LineFile &&other) noexcept {
  std::swap(path, other.path);
  std::swap(descriptor, other.descriptor);
  std::swap(bytes, other.bytes);
  return *this;
}
LineFile::~LineFile() {
  if (descriptor >= 0)
    ::close(descriptor);
}

Status LineFile::write(const std::string &line) {
  for (size_t done = 0; done < line.size();) {
    ssize_t wrote = ::write(descriptor, line.data() + done, line.size() - done);
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote < 0) {
      // Take the part of the line back; what failed is the write, so its error is the one to tell.
      int number = errno;
      if (ftruncate(descriptor, bytes) == 0)
        lseek(descriptor, bytes, SEEK_SET);
      return failure(path, "write", number);
    }
    done += size_t(wrote);
  }
  bytes += int64_t(line.size());
  return success();
}

} // namespace zopt::runtime
