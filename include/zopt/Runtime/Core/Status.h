//===- Status.h - errors of the runtime -------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every call of a library, a file or the operating system is checked; what failed travels as a Status: the kind (which is zrun's exit code), the process rank, the operation of
// the plan, the call and the library's text. Nothing in the runtime throws across a function of its interface.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_STATUS_H
#define ZOPT_RUNTIME_CORE_STATUS_H

#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace zopt::runtime {

/// The values are zrun's exit codes.
enum class ErrorKind { Input = 1, Usage = 2, Runtime = 3 };

struct Error {
  ErrorKind kind = ErrorKind::Runtime;
  int rank = -1;         // process rank, or -1
  std::string operation; // command or collective of the plan
  std::string call;      // library or system call
  std::string text;      // the library's text, or ours
};

/// Success, or an Error. Cheap to return; must be looked at.
class [[nodiscard]] Status {
public:
  Status() = default;
  Status(Error error) : error(std::make_shared<const Error>(std::move(error))) {}

  bool failed() const { return error != nullptr; }
  bool succeeded() const { return !error; }
  /// Only where failed().
  const Error &getError() const { return *error; }
  ErrorKind kind() const { return error->kind; }

  /// "rank 3: operation: call: text", without the parts that are empty.
  std::string message() const;

  /// The same error, told of this rank or operation where it does not name one yet.
  Status onRank(int rank) const;
  Status in(const std::string &operation) const;

private:
  std::shared_ptr<const Error> error;
};

inline Status success() { return Status(); }

/// Joins anything printable.
template <typename... Parts>
std::string concat(const Parts &...parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

template <typename... Parts>
Status inputError(const Parts &...parts) {
  return Status(Error{ErrorKind::Input, -1, "", "", concat(parts...)});
}
template <typename... Parts>
Status usageError(const Parts &...parts) {
  return Status(Error{ErrorKind::Usage, -1, "", "", concat(parts...)});
}
template <typename... Parts>
Status runtimeError(const Parts &...parts) {
  return Status(Error{ErrorKind::Runtime, -1, "", "", concat(parts...)});
}
/// A library or system call that failed, with its text.
Status callError(const std::string &call, const std::string &text);
/// A system call that failed on `path`, with the text of `errorNumber`. Missing and forbidden files are errors of the input; everything else is one of the run.
Status fileError(const std::string &path, const std::string &call, int errorNumber);

/// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
public:
  Result(T value) : value(std::move(value)) {}
  Result(Status status) : status(std::move(status)) {}
  Result(Error error) : status(std::move(error)) {}

  bool failed() const { return status.failed(); }
  const Status &getStatus() const { return status; }
  T &operator*() { return *value; }
  const T &operator*() const { return *value; }
  T *operator->() { return &*value; }
  const T *operator->() const { return &*value; }

private:
  std::optional<T> value;
  Status status;
};

} // namespace zopt::runtime

/// Returns from the function with the Status of `expression` if that failed.
#define ZOPT_RETURN_IF_FAILED(expression)                                                                              \
  do {                                                                                                                 \
    if (::zopt::runtime::Status zoptStatus = (expression); zoptStatus.failed())                                        \
      return zoptStatus;                                                                                               \
  } while (false)

#endif // ZOPT_RUNTIME_CORE_STATUS_H
