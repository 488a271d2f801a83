//===- Fingerprint.h - which weight file is this ------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_FINGERPRINT_H
#define ZOPT_RUNTIME_CORE_FINGERPRINT_H

#include <cstdint>
#include <string>

namespace zopt::runtime {

/// What a plan records of a weight file, so that another file under the same name is noticed before its bytes are used.
struct Fingerprint {
  int64_t size = -1; ///< of the file, in bytes
  std::string text;  ///< "xxh3:" and 16 hexadecimal digits
};

/// Fingerprints the file at `path`: XXH3 (64 bits) over its size (8 bytes, little-endian), its first 64 KiB and, behind them, 256 evenly spread pages of 4 KiB (every
/// byte of a file of up to 64 KiB + 1 MiB). Reads at most about 1.1 MiB, however large the file. Returns false and sets `error` ("open: No such file or directory") where
/// the file cannot be opened or read, or is not a regular file.
bool fingerprintFile(const std::string &path, Fingerprint &result, std::string &error);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_FINGERPRINT_H
