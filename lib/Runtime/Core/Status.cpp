//===- Status.cpp - errors of the runtime ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Status.h"
#include <cerrno>
#include <cstring>

namespace zopt::runtime {

std::string Status::message() const {
  if (!error)
    return "success";
  std::string text;
  if (error->rank >= 0)
    text += concat("rank ", error->rank, ": ");
  for (const std::string &part : {error->operation, error->call})
    if (!part.empty())
      text += part + ": ";
  return text + error->text;
}

Status Status::onRank(int rank) const {
  if (!error || error->rank >= 0)
    return *this;
  Error copy = *error;
  copy.rank = rank;
  return Status(std::move(copy));
}

Status Status::in(const std::string &operation) const {
  if (!error || !error->operation.empty())
    return *this;
  Error copy = *error;
  copy.operation = operation;
  return Status(std::move(copy));
}

Status callError(const std::string &call, const std::string &text) {
  return Status(Error{ErrorKind::Runtime, -1, "", call, text});
}

Status fileError(const std::string &path, const std::string &call, int errorNumber) {
  bool input = errorNumber == ENOENT || errorNumber == EACCES || errorNumber == EISDIR || errorNumber == ENOTDIR || errorNumber == ELOOP;
  return Status(Error{input ? ErrorKind::Input : ErrorKind::Runtime, -1, path, call, std::strerror(errorNumber)});
}

} // namespace zopt::runtime
