//===- InitialValues.h - first values of states, once more -------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_INITIALVALUES_H
#define ZOPT_RUNTIME_CORE_INITIALVALUES_H

#include "zopt/Runtime/Core/States.h"
#include <memory>

namespace zopt::runtime {

/// What initializeStates would give states, before it is rounded to the type that a run computes in. Frozen parameters
/// of bf16 and fp16 runs live rounded, and are written as they came.
class InitialValues {
public:
  /// What `options` points to and `executor` must outlive this.
  InitialValues(Executor &executor, const InitializationOptions &options);
  ~InitialValues();

  /// Elements [begin, begin + count) of a state, in its type. Fails where they cannot be read any more.
  Status read(const State &state, int64_t begin, int64_t count, void *destination);

private:
  struct Reader;
  std::unique_ptr<Reader> reader;
};

/// Normal numbers of a rank's states, made by a team of `threads` threads while there is no executor yet, in the order
/// in which initializeStates() takes them. Once `bytesAhead` bytes wait to be taken, no more are made. What the program
/// and the options point to must outlive this.
class InitialNumbers {
public:
  /// What may wait in memory for a device that is being prepared, of all ranks together.
  static constexpr int64_t kMostBytes = int64_t(512) << 20;

  InitialNumbers(const Program &program, int rank, int threads, int64_t bytesAhead,
                 const InitializationOptions &options);
  ~InitialNumbers();

  /// Elements [begin, begin + count) of a state, in its type: waited for where they are next, null where they are not.
  std::unique_ptr<char[]> take(const State &state, int64_t begin, int64_t count);

private:
  struct Maker;
  std::unique_ptr<Maker> maker;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_INITIALVALUES_H
