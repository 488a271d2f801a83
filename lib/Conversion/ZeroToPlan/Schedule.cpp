//===- Schedule.cpp - when collectives start and end ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Communication hides behind computation where that costs no more memory than one further bucket: a gather starts when the one before it is there and those before that are no longer needed; a reduction is waited
// for when the next one starts. All ranks run the same file, so all start collectives in the same order. WidenSchedule.cpp then gives more time to those that need it.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace zopt;

namespace {

class Scheduler {
public:
  Scheduler(plan::SequenceOp sequence, ArrayRef<Collective> collectives, const StorageAccesses &accesses) : collectives(collectives) {
    for (Operation &command : sequence.getBody().front()) {
      positions[&command] = commands.size();
      for (const StorageAccess &access : accesses.lookup(&command))
        lastAccess[access.storage] = commands.size();
      commands.push_back(&command);
    }
  }

  /// At most the gathered bucket in use and the one that is used next are in memory.
  void prefetchGathers() {
    const Collective *previous = nullptr;
    int64_t free = -1; // the last command that touches a gathered bucket older than `previous`
    int64_t olderFree = -1;
    for (const Collective &gather : collectives) {
      if (gather.kind != Collective::Kind::Gather)
        continue;
      if (previous) {
        int64_t earliest = std::max(positions.lookup(previous->wait), olderFree);
        // Two copies of one bucket would be more than two neighbours.
        if (previous->bucket == gather.bucket)
          earliest = std::max(earliest, free);
        if (earliest < positions.lookup(gather.start))
          gather.start->moveAfter(commands[earliest]);
      }
      olderFree = free;
      free = std::max(free, lastAccess.lookup(gather.destination));
      previous = &gather;
    }
  }

  void delayWaits() {
    Operation *pending = nullptr; // the wait of the last reduction
    Operation *end = commands.empty() ? nullptr : commands.back();
    SmallVector<Operation *> atEnd;
    for (const Collective &collective : collectives) {
      if (collective.kind == Collective::Kind::Gather)
        continue;
      if (collective.kind == Collective::Kind::Publish) {
        atEnd.push_back(collective.wait);
        continue;
      }
      if (pending)
        pending->moveBefore(collective.start);
      pending = collective.wait;
    }
    if (pending)
      atEnd.insert(atEnd.begin(), pending);
    for (Operation *wait : atEnd) {
      if (wait != end)
        wait->moveAfter(end);
      end = wait;
    }
  }

private:
  ArrayRef<Collective> collectives;
  SmallVector<Operation *> commands;
  DenseMap<Operation *, int64_t> positions;
  DenseMap<StorageId, int64_t> lastAccess;
};

} // namespace

void zopt::scheduleCollectives(plan::SequenceOp sequence, ArrayRef<Collective> collectives, bool prefetch, const StorageAccesses &accesses) {
  Scheduler scheduler(sequence, collectives, accesses);
  if (prefetch)
    scheduler.prefetchGathers();
  scheduler.delayWaits();
}
