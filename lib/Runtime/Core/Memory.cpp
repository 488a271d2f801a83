//===- Memory.cpp - arenas, and what of them is live ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Memory.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace zopt::runtime {

Result<ArenaMemory> ArenaMemory::allocate(const Arena &arena) {
  int64_t page = sysconf(_SC_PAGESIZE);
  ArenaMemory memory;
  memory.planned = arena.bytes;
  int64_t rounded = (arena.bytes + page - 1) / page * page;
  memory.mapped = rounded + page;
  void *address = mmap(nullptr, size_t(memory.mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED)
    return callError("mmap", concat("arena '", arena.name, "' of ", arena.bytes, " bytes: ", std::strerror(errno)));
  memory.base = static_cast<char *>(address);
  if (mprotect(memory.base + rounded, size_t(page), PROT_NONE) != 0)
    return callError("mprotect", std::strerror(errno));
  return Result<ArenaMemory>(std::move(memory));
}

ArenaMemory::ArenaMemory(ArenaMemory &&other) noexcept : base(std::exchange(other.base, nullptr)), planned(other.planned), mapped(other.mapped) {}
ArenaMemory &ArenaMemory::operator=(ArenaMemory &&other) noexcept {
  std::swap(base, other.base);
  std::swap(planned, other.planned);
  std::swap(mapped, other.mapped);
  return *this;
}
ArenaMemory::~ArenaMemory() {
  if (base)
    munmap(base, size_t(mapped));
}

namespace {

class AccessList {
public:
  void add(BufferId buffer, bool reads, bool writes) {
    if (buffer < 0)
      return;
    for (BufferAccess &access : accesses)
      if (access.buffer == buffer) {
        access.reads |= reads;
        access.writes |= writes;
        return;
      }
    accesses.push_back({buffer, reads, writes});
  }
  void reads(BufferId buffer) { add(buffer, true, false); }
  void writes(BufferId buffer) { add(buffer, false, true); }
  void updates(BufferId buffer) { add(buffer, true, true); }

  std::vector<BufferAccess> accesses;
};

} // namespace

std::vector<BufferAccess> accessesOf(const Program &program, const Command &command) {
  AccessList list;
  auto buffer = [&](size_t index) { return index < command.buffers.size() ? command.buffers[index] : BufferId(-1); };
  switch (command.kind) {
  case Command::Kind::Launch:
    for (size_t i = 0; i < command.buffers.size(); ++i) {
      bool written = std::find(command.writes.begin(), command.writes.end(), int32_t(i)) != command.writes.end();
      list.add(command.buffers[i], !written, written);
    }
    break;
  case Command::Kind::Matmul:
    list.reads(buffer(0));
    list.reads(buffer(1));
    list.writes(buffer(2));
    list.reads(buffer(3));
    list.writes(buffer(4));
    list.add(buffer(5), command.epilogue == Epilogue::GeluGrad, command.epilogue == Epilogue::Gelu);
    list.writes(buffer(6));
    list.reads(buffer(7));
    break;
  case Command::Kind::Attention:
  case Command::Kind::AttentionGrad: {
    const bool grad = command.kind == Command::Kind::AttentionGrad;
    const size_t firstWritten = grad ? 6 : 3, endWritten = grad ? 9 : 5;
    for (size_t i = 0; i < command.buffers.size(); ++i) {
      bool written = (i >= firstWritten && i < endWritten) || i + 1 == command.buffers.size(); // the scratch is last
      list.add(command.buffers[i], !written, written);
    }
    break;
  }
  case Command::Kind::Convolution: {
    const size_t written = command.convolution.kind == Convolution::Kind::Forward ? 2 : command.convolution.kind == Convolution::Kind::InputGrad ? 0 : 1;
    for (size_t i = 0; i < command.buffers.size(); ++i)
      list.add(command.buffers[i], i != written && i != 4, i == written || i == 4); // the scratch is last
    break;
  }
  case Command::Kind::Copy:
  case Command::Kind::AllGather:
  case Command::Kind::AllReduceScalars:
    list.reads(buffer(0));
    list.writes(buffer(1));
    break;
  case Command::Kind::Zero:
    list.writes(buffer(0));
    break;
  case Command::Kind::ReduceScatter:
    list.reads(buffer(0));
    list.add(buffer(1), command.accumulate, true);
    list.writes(buffer(2));
    break;
  case Command::Kind::AllReduce:
    list.updates(buffer(0));
    list.writes(buffer(1));
    break;
  case Command::Kind::Wait:
    break;
  case Command::Kind::GradientNorm:
    list.add(buffer(0), buffer(2) >= 0, buffer(2) < 0); // on a device a list that is read
    list.writes(buffer(1));
    list.writes(buffer(2));
    for (int32_t bucket : command.buckets)
      list.reads(program.buckets[bucket].gradient);
    break;
  case Command::Kind::ParameterNorms:
    for (BufferId scalar : command.buffers)
      list.reads(scalar);
    for (int32_t index : command.buckets) {
      const Bucket &bucket = program.buckets[index];
      if (!hasOwnGradient(command))
        list.reads(bucket.gradient);
      list.reads(bucket.master >= 0 ? bucket.master : bucket.parameters);
      for (BufferId slot : bucket.slots)
        list.reads(slot);
    }
    for (BufferId written : command.norms)
      list.writes(written);
    break;
  case Command::Kind::Update:
    for (BufferId norm : command.norms)
      list.reads(norm);
    for (BufferId scalar : command.buffers)
      list.reads(scalar);
    for (int32_t index : command.buckets) {
      const Bucket &bucket = program.buckets[index];
      if (!hasOwnGradient(command)) // otherwise the gradient is among them
        list.reads(bucket.gradient);
      list.updates(bucket.parameters);
      list.updates(bucket.master);
      for (BufferId slot : bucket.slots)
        list.updates(slot);
    }
    break;
  }
  return list.accesses;
}

std::vector<bool> longLivedBuffers(const Program &program) {
  std::vector<bool> longLived(program.buffers.size());
  std::vector<int32_t> sequenceOf(program.buffers.size(), -1);
  for (size_t i = 0; i < program.buffers.size(); ++i)
    longLived[i] = program.buffers[i].persistent;
  for (size_t sequence = 0; sequence < program.sequences.size(); ++sequence)
    for (const Command &command : program.sequences[sequence].commands)
      for (const BufferAccess &access : accessesOf(program, command)) {
        int32_t &seen = sequenceOf[access.buffer];
        if (seen >= 0 && seen != int32_t(sequence))
          longLived[access.buffer] = true;
        seen = int32_t(sequence);
      }
  // States have values before the first step and after the last.
  auto keep = [&](BufferId buffer) {
    if (buffer >= 0)
      longLived[buffer] = true;
  };
  for (const State &state : program.states)
    keep(state.buffer);
  for (const Bucket &bucket : program.buckets) {
    keep(bucket.parameters);
    keep(bucket.master);
    for (BufferId slot : bucket.slots)
      keep(slot);
  }
  return longLived;
}

std::vector<BufferLife> livesOf(const Program &program, const Sequence &sequence, const std::vector<bool> *executed) {
  std::vector<bool> longLived = longLivedBuffers(program);
  std::vector<int32_t> first(program.buffers.size(), -1), last(program.buffers.size(), -1);
  std::map<int64_t, std::vector<BufferId>> inFlight; // collectives, by id
  auto touch = [&](BufferId buffer, int32_t position) {
    if (first[buffer] < 0)
      first[buffer] = position;
    last[buffer] = position;
  };
  int32_t end = int32_t(sequence.commands.size());
  for (int32_t position = 0; position < end; ++position) {
    if (executed && !(*executed)[position])
      continue;
    const Command &command = sequence.commands[position];
    for (const BufferAccess &access : accessesOf(program, command)) {
      touch(access.buffer, position);
      if (command.kind == Command::Kind::AllGather || command.kind == Command::Kind::ReduceScatter || command.kind == Command::Kind::AllReduce)
        inFlight[command.id].push_back(access.buffer);
    }
    if (command.kind == Command::Kind::Wait) {
      for (BufferId buffer : inFlight[command.id])
        touch(buffer, position);
      inFlight.erase(command.id);
    }
  }
  for (const Input &input : program.inputs)
    if (input.buffer >= 0 && first[input.buffer] >= 0)
      first[input.buffer] = 0;
  for (const Output &output : program.outputs)
    if (output.buffer >= 0 && first[output.buffer] >= 0)
      last[output.buffer] = std::max(0, end - 1);
  std::vector<BufferLife> lives;
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if (first[i] >= 0 && !longLived[i])
      lives.push_back({BufferId(i), first[i], last[i]});
  return lives;
}

PeakMeter::PeakMeter(const Program &program, int rank) : program(program), rank(rank) {
  for (const Sequence &sequence : program.sequences)
    executed.emplace_back(sequence.commands.size());
}

std::map<Tier, TierPeak> PeakMeter::measure() const {
  std::map<Tier, TierPeak> peaks;
  peaks[Tier::Device];
  std::vector<int64_t> highest(program.arenas.size()), live(program.arenas.size());

  using Range = std::pair<int64_t, int64_t>;
  auto rangeOf = [&](BufferId id) {
    const Buffer &buffer = program.buffers[id];
    int64_t begin = buffer.offset + rank * buffer.rankStride;
    return Range(begin, begin + buffer.bytes);
  };
  auto unionBytes = [](std::vector<Range> ranges) {
    std::sort(ranges.begin(), ranges.end());
    int64_t total = 0, reached = 0;
    for (auto [begin, end] : ranges) {
      total += std::max<int64_t>(0, end - std::max(begin, reached));
      reached = std::max(reached, end);
    }
    return total;
  };

  std::vector<bool> longLived = longLivedBuffers(program);
  std::vector<std::vector<Range>> always(program.arenas.size());
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if (longLived[i]) {
      Range range = rangeOf(BufferId(i));
      always[program.buffers[i].arena].push_back(range);
      highest[program.buffers[i].arena] = std::max(highest[program.buffers[i].arena], range.second);
    }
  for (size_t arena = 0; arena < program.arenas.size(); ++arena)
    live[arena] = unionBytes(always[arena]);

  for (size_t s = 0; s < program.sequences.size(); ++s) {
    std::vector<BufferLife> lives = livesOf(program, program.sequences[s], &executed[s]);
    // The live set only grows where a life begins: those are the candidates for the peak.
    std::vector<int32_t> positions;
    for (const BufferLife &life : lives) {
      positions.push_back(life.first);
      int32_t arena = program.buffers[life.buffer].arena;
      highest[arena] = std::max(highest[arena], rangeOf(life.buffer).second);
    }
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
    for (int32_t position : positions) {
      std::vector<std::vector<Range>> ranges = always;
      for (const BufferLife &life : lives)
        if (life.first <= position && position <= life.last)
          ranges[program.buffers[life.buffer].arena].push_back(rangeOf(life.buffer));
      for (size_t arena = 0; arena < program.arenas.size(); ++arena)
        live[arena] = std::max(live[arena], unionBytes(std::move(ranges[arena])));
    }
  }
  for (size_t arena = 0; arena < program.arenas.size(); ++arena) {
    TierPeak &peak = peaks[program.arenas[arena].tier];
    peak.planned += program.arenas[arena].bytes;
    peak.measured += highest[arena];
    peak.live += live[arena];
  }
  peaks[Tier::Device].measured += outside;
  return peaks;
}

} // namespace zopt::runtime
