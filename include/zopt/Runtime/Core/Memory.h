//===- Memory.h - arenas, and what of them is live --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The memory of a rank: arenas at the planned sizes, each ending at a guard page; which buffers a command reads and writes; and the measurement of the peak from the commands that
// were really executed.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_MEMORY_H
#define ZOPT_RUNTIME_CORE_MEMORY_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <map>
#include <vector>

namespace zopt::runtime {

/// Private memory of exactly the planned bytes, zeroed, page-aligned, followed by a page that nothing may touch.
class ArenaMemory {
public:
  static Result<ArenaMemory> allocate(const Arena &arena);
  ArenaMemory(ArenaMemory &&other) noexcept;
  ArenaMemory &operator=(ArenaMemory &&other) noexcept;
  ~ArenaMemory();

  char *data() const { return base; }
  int64_t bytes() const { return planned; }

private:
  ArenaMemory() = default;
  char *base = nullptr;
  int64_t planned = 0, mapped = 0;
};

struct BufferAccess {
  BufferId buffer = -1;
  bool reads = false, writes = false;
};

/// The buffers that a command touches between its start and its completion (collectives: until their Wait). A buffer appears once.
std::vector<BufferAccess> accessesOf(const Program &program, const Command &command);

/// First and last command of a sequence that touch each of its buffers; a collective's buffers are touched up to the Wait. Input and output buffers begin and end with the sequence.
struct BufferLife {
  BufferId buffer = -1;
  int32_t first = 0, last = 0;
};
/// `executed`, where given, has one flag a command: commands that did not run touch nothing. Persistent buffers and those that several sequences touch are left out: they live throughout.
std::vector<BufferLife> livesOf(const Program &program, const Sequence &sequence, const std::vector<bool> *executed = nullptr);

/// Whether a buffer lives across sequences: persistent, or touched by several.
std::vector<bool> longLivedBuffers(const Program &program);

/// Measured bytes of one tier.
struct TierPeak {
  int64_t planned = 0;   // the arenas' sizes
  int64_t measured = 0;  // high-water mark: the highest byte of each arena that a live buffer reached, and every other allocation of a step
  int64_t live = 0;      // most bytes live at one command, holes of the packing excluded
};

/// Follows what was executed. One per rank.
class PeakMeter {
public:
  PeakMeter(const Program &program, int rank);
  /// Command `index` of sequence `sequence` runs.
  void note(size_t sequence, size_t index) { executed[sequence][index] = true; }
  /// A library's allocation during a step, beyond the arenas.
  void noteAllocation(int64_t bytes) { outside = bytes > outside ? bytes : outside; }
  std::map<Tier, TierPeak> measure() const;

private:
  const Program &program;
  int rank;
  int64_t outside = 0;
  std::vector<std::vector<bool>> executed;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_MEMORY_H
