//===- CommandTime.h - about how long commands take --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rough times, by what a command computes and moves: enough to tell how many products hide a gather. The schedule depends on them, and no result does.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_COMMANDTIME_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_COMMANDTIME_H

#include "../PlanAccess.h"
#include "Lowering.h"

namespace zopt {

class CommandTimes {
public:
  CommandTimes(KernelTarget target, int64_t worldSize, int64_t threads);

  /// Seconds that `command` keeps the rank's computation busy: 0 where it starts or awaits a collective. `accesses` is what it reads and writes.
  double getComputeTime(mlir::Operation *command, llvm::ArrayRef<StorageAccess> accesses) const;
  /// Seconds that a collective of `sentBytes` takes that has the links to itself.
  double getCollectiveTime(int64_t sentBytes) const { return sentBytes / linkBytesPerSecond; }
  /// Bytes that a rank sends to the others in the collective that `command` starts.
  int64_t getSentBytes(mlir::Operation *command) const;

private:
  int64_t worldSize;
  double flopsPerSecond; // of 16-bit operands
  double memoryBytesPerSecond, linkBytesPerSecond;
};

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_COMMANDTIME_H
