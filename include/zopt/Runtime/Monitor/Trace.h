//===- Trace.h - when each command ran, for Perfetto ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One step of every rank as a Chrome trace: a rank is a process, and its streams (compute, collectives, copies) are threads; on a GPU copies run on the stream of the computations. A collective lasts from the command that
// starts it to the end of the command that waits for it, or where the device tells it to its own end; collectives under way at once get lanes of their own. Each rank collects into a buffer made before the step, turns it into text after it, and one of them writes the
// texts of all. Times are those of the machine's monotonic clock, which its processes share.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_MONITOR_TRACE_H
#define ZOPT_RUNTIME_MONITOR_TRACE_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

/// Commands of a Program with the times at which they ran. Holds pointers into the Program.
class TraceBuffer {
public:
  /// Room for `capacity` commands, allocated now; later ones are counted and dropped.
  explicit TraceBuffer(size_t capacity) { spans.reserve(capacity); }

  /// Nanoseconds of std::chrono::steady_clock. `ended`: a collective's end is its own, and not its wait's.
  void add(const Command &command, int64_t begin, int64_t end, bool ended = false) {
    if (spans.size() < spans.capacity())
      spans.push_back({&command, begin, end, ended});
    else
      ++dropped;
  }

  struct Span {
    const Command *command;
    int64_t begin, end;
    bool ended;
  };
  std::vector<Span> spans;
  int64_t dropped = 0;
};

/// "matmul", "all_gather", ...
const char *nameOf(Command::Kind kind);

/// This rank's events, as the inside of a JSON array.
std::string traceText(const Program &program, int64_t rank, const TraceBuffer &buffer);

/// Writes the trace of all ranks, whole or not at all.
Status writeTrace(const std::string &path, const std::vector<std::string> &rankTexts);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_MONITOR_TRACE_H
