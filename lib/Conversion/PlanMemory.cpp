//===- PlanMemory.cpp - whose bytes are in memory ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanMemory.h"

using namespace mlir;
using namespace zopt;

ArenaRange PlanMemory::getRange(const PlanAccess &access) const {
  const PlacedBuffer &buffer = buffers.find(access.buffer)->second;
  int64_t end = access.end == kWholeBuffer ? buffer.bytes : access.end;
  // A rank's slice stands for the slices of all ranks.
  if (buffer.reach > buffer.bytes)
    return {buffer.arena, buffer.offset, buffer.offset + buffer.reach};
  return {buffer.arena, buffer.offset + access.begin, buffer.offset + end};
}

void PlanMemory::startSequence() {
  for (auto it = owners.begin(); it != owners.end();)
    it = spanning.contains(it->second.buffer) ? std::next(it) : owners.erase(it);
}

LogicalResult PlanMemory::execute(Operation *command, ArrayRef<PlanAccess> accesses, std::optional<int64_t> startedCollective) {
  for (const PlanAccess &access : accesses) {
    ArenaRange range = getRange(access);
    for (auto &[id, collective] : inFlight)
      for (auto &[other, isWritten] : collective.ranges)
        if (range.overlaps(other) && (access.writes || isWritten))
          return command->emitOpError(access.writes ? "writes @" : "reads @")
                 << access.buffer.getValue() << " at bytes [" << range.begin << ", " << range.end << ") of its arena while collective " << id << (isWritten ? " writes" : " reads") << " bytes [" << other.begin
                 << ", " << other.end << ")";
    if (!access.writes && failed(checkRead(command, access)))
      return failure();
  }
  for (const PlanAccess &access : accesses)
    if (access.writes)
      recordWrite(command, access);
  if (!startedCollective)
    return success();
  if (!started.try_emplace(*startedCollective, command).second)
    return command->emitOpError("starts collective ") << *startedCollective << ", which was started before";
  // Its own buffers lie apart, but for a slice of the whole.
  for (const PlanAccess &written : accesses)
    for (const PlanAccess &other : accesses)
      if (written.writes && written.buffer != other.buffer && getRange(written).overlaps(getRange(other)) &&
          !(buffers.find(written.buffer)->second.persistent && buffers.find(other.buffer)->second.persistent))
        return command->emitOpError("writes @") << written.buffer.getValue() << " over its own @" << other.buffer.getValue();
  InFlight &collective = inFlight[*startedCollective];
  collective.start = command;
  for (const PlanAccess &access : accesses)
    collective.ranges.push_back({getRange(access), access.writes});
  return success();
}

LogicalResult PlanMemory::wait(plan::WaitOp op) {
  if (inFlight.erase(op.getId()))
    return success();
  if (started.contains(op.getId()))
    return op.emitOpError("waits for collective ") << op.getId() << ", which is complete";
  return op.emitOpError("waits for collective ") << op.getId() << ", which was not started";
}

LogicalResult PlanMemory::endSequence(plan::SequenceOp sequence) {
  if (inFlight.empty())
    return success();
  auto &[id, collective] = *inFlight.begin();
  return collective.start->emitOpError("starts collective ") << id << ", which is not waited for in @" << sequence.getSymName();
}

LogicalResult PlanMemory::checkRead(Operation *command, const PlanAccess &access) {
  const PlacedBuffer &buffer = buffers.find(access.buffer)->second;
  if (buffer.persistent) {
    if (unwritten.contains(access.buffer))
      return command->emitOpError("reads @") << access.buffer.getValue() << ", which nothing has written";
    return success();
  }
  ArenaRange range = getRange(access);
  int64_t cursor = range.begin;
  auto it = owners.upper_bound({range.arena, cursor});
  if (it != owners.begin() && std::prev(it)->first.first == range.arena && std::prev(it)->second.end > cursor)
    --it;
  while (cursor < range.end) {
    bool isCovered = it != owners.end() && it->first.first == range.arena && it->first.second <= cursor;
    if (!isCovered)
      return command->emitOpError("reads byte ") << cursor - buffer.offset << " of @" << access.buffer.getValue() << ", which nothing has written";
    if (it->second.buffer != access.buffer)
      return command->emitOpError("reads byte ") << cursor - buffer.offset << " of @" << access.buffer.getValue() << ", which '" << it->second.writer->getName() << "' has overwritten with @"
                                                 << it->second.buffer.getValue();
    cursor = it->second.end;
    ++it;
  }
  return success();
}

void PlanMemory::recordWrite(Operation *command, const PlanAccess &access) {
  unwritten.erase(access.buffer);
  if (buffers.find(access.buffer)->second.persistent)
    return;
  ArenaRange range = getRange(access);
  if (range.begin >= range.end)
    return;
  // Cut what was there at both ends.
  auto it = owners.upper_bound({range.arena, range.begin});
  if (it != owners.begin() && std::prev(it)->first.first == range.arena && std::prev(it)->second.end > range.begin)
    --it;
  while (it != owners.end() && it->first.first == range.arena && it->first.second < range.end) {
    auto [key, old] = *it;
    it = owners.erase(it);
    if (key.second < range.begin)
      owners[key] = {range.begin, old.buffer, old.writer};
    if (old.end > range.end)
      it = owners.insert_or_assign({range.arena, range.end}, old).first;
  }
  owners[{range.arena, range.begin}] = {range.end, access.buffer, command};
}
