//===- ProgramFile.h - Programs as files ------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A Program as a file: a header (magic, format, Program version, length and xxh3 checksum of the body), then the Program as CBOR. Written to a temporary name and renamed.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_PROGRAMFILE_H
#define ZOPT_RUNTIME_CORE_PROGRAMFILE_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <string>
#include <vector>

namespace zopt::runtime {

std::vector<uint8_t> serializeProgram(const Program &program);

/// Refuses bytes that are truncated, damaged, of another version or inconsistent (see verifyProgram). `name` is for messages.
Result<Program> deserializeProgram(const std::vector<uint8_t> &bytes, const std::string &name);

Status writeProgram(const Program &program, const std::string &path);
Result<Program> readProgram(const std::string &path);

/// Checks every index, offset and count of a Program against the tables that it points into, for every rank: a Program that passes cannot make the executor touch memory outside of its arenas.
Status verifyProgram(const Program &program);

/// Human-readable JSON, for tests and for people.
std::string programToText(const Program &program);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_PROGRAMFILE_H
