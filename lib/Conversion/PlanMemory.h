//===- PlanMemory.h - whose bytes are in memory ------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Follows a sequence byte by byte: which buffer's value each byte of an arena holds, and which bytes belong to a collective in flight. A strided access counts as its whole span.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_PLANMEMORY_H
#define ZOPT_LIB_CONVERSION_PLANMEMORY_H

#include "PlanAccess.h"
#include <map>

namespace zopt {

/// A plan.buffer, resolved.
struct PlacedBuffer {
  plan::BufferOp op;
  int64_t arena = 0;             // index
  int64_t offset = 0, bytes = 0; // on rank 0
  int64_t reach = 0;             // bytes that the ranks' buffers span together
  bool persistent = false;
};

/// Bytes [begin, end) of an arena.
struct ArenaRange {
  int64_t arena = 0, begin = 0, end = 0;
  bool overlaps(const ArenaRange &other) const { return arena == other.arena && begin < other.end && other.begin < end; }
};

class PlanMemory {
public:
  explicit PlanMemory(const llvm::DenseMap<mlir::StringAttr, PlacedBuffer> &buffers) : buffers(buffers) {}

  /// Forgets what buffers inside a sequence hold; persistent and spanning ones keep their values.
  void startSequence();

  /// Says that a buffer that is not persistent is read by a later sequence than the one that writes it.
  void markSpanning(mlir::StringAttr buffer) { spanning.insert(buffer); }

  /// Lets `command` happen: its reads find their own buffer's bytes, and nothing that it touches is in flight. Emits one error.
  mlir::LogicalResult execute(mlir::Operation *command, llvm::ArrayRef<PlanAccess> accesses, std::optional<int64_t> startedCollective);
  /// Completes a collective.
  mlir::LogicalResult wait(plan::WaitOp op);
  /// No collective is in flight.
  mlir::LogicalResult endSequence(plan::SequenceOp sequence);

  /// Says that a persistent buffer holds nothing before it is written.
  void markUnwritten(mlir::StringAttr buffer) { unwritten.insert(buffer); }

private:
  struct InFlight {
    mlir::Operation *start;
    llvm::SmallVector<std::pair<ArenaRange, bool>> ranges; // and whether the collective writes them
  };

  /// The bytes that an access may touch on any rank.
  ArenaRange getRange(const PlanAccess &access) const;
  mlir::LogicalResult checkRead(mlir::Operation *command, const PlanAccess &access);
  void recordWrite(mlir::Operation *command, const PlanAccess &access);

  struct Owner {
    int64_t end;
    mlir::StringAttr buffer;
    mlir::Operation *writer;
  };

  const llvm::DenseMap<mlir::StringAttr, PlacedBuffer> &buffers;
  std::map<std::pair<int64_t, int64_t>, Owner> owners; // by (arena, begin); disjoint
  std::map<int64_t, InFlight> inFlight;                // by id
  llvm::DenseMap<int64_t, mlir::Operation *> started;  // all ids so far
  llvm::DenseSet<mlir::StringAttr> unwritten;
  llvm::DenseSet<mlir::StringAttr> spanning;
};

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_PLANMEMORY_H
