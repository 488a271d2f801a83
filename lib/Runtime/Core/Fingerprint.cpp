//===- Fingerprint.cpp - which weight file is this ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Fingerprint.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace zopt::runtime {

namespace {

constexpr int64_t headerBytes = 64 << 10;
constexpr int64_t pageBytes = 4 << 10;
constexpr int64_t samplePages = 256;

/// Reads exactly `bytes` at `offset`; the file was just seen to be that long, so a short read is an error.
bool readFully(int file, char *buffer, int64_t bytes, int64_t offset, std::string &error) {
  while (bytes > 0) {
    ssize_t got = pread(file, buffer, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      error = std::string("read: ") + (got < 0 ? std::strerror(errno) : "the file became shorter while it was read");
      return false;
    }
    buffer += got;
    bytes -= got;
    offset += got;
  }
  return true;
}

bool hashFile(int file, Fingerprint &result, std::string &error) {
  struct stat info;
  if (fstat(file, &info) != 0) {
    error = std::string("stat: ") + std::strerror(errno);
    return false;
  }
  if (!S_ISREG(info.st_mode)) {
    error = "not a regular file";
    return false;
  }
  const int64_t size = info.st_size;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  unsigned char sizeBytes[8];
  for (int i = 0; i < 8; ++i)
    sizeBytes[i] = static_cast<unsigned char>(static_cast<uint64_t>(size) >> (8 * i));
  XXH3_64bits_update(&state, sizeBytes, sizeof sizeBytes);

  std::vector<char> buffer(headerBytes);
  const int64_t header = std::min(size, headerBytes);
  if (!readFully(file, buffer.data(), header, 0, error))
    return false;
  XXH3_64bits_update(&state, buffer.data(), static_cast<size_t>(header));

  // Page i of `samples` is page i * pages / samples of what follows the header: every page where there are no more than samplePages.
  const int64_t pages = (size - header + pageBytes - 1) / pageBytes;
  const int64_t samples = std::min(pages, samplePages);
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t offset = header + i * pages / samples * pageBytes;
    const int64_t bytes = std::min(pageBytes, size - offset);
    if (!readFully(file, buffer.data(), bytes, offset, error))
      return false;
    XXH3_64bits_update(&state, buffer.data(), static_cast<size_t>(bytes));
  }

  char text[32];
  std::snprintf(text, sizeof text, "xxh3:%016llx", static_cast<unsigned long long>(XXH3_64bits_digest(&state)));
  result.size = size;
  result.text = text;
  return true;
}

} // namespace

bool fingerprintFile(const std::string &path, Fingerprint &result, std::string &error) {
  // O_NONBLOCK: a FIFO in the file's place is refused instead of waited for.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    error = std::string("open: ") + std::strerror(errno);
    return false;
  }
  const bool ok = hashFile(file, result, error);
  close(file);
  return ok;
}

} // namespace zopt::runtime
