//===- WidenSchedule.cpp - more time for large collectives ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Schedule.cpp lets one further bucket be under way, which is right where buckets are alike: where a norm's 8 KB stand between two tables of 1 GB, the norm has the time that the tables would need. Here each
// collective gets about as much computation as it takes: starts of gathers move up and waits of reductions move down, past other collectives where need be. Memory does not grow: no more is live than was at
// the peak, and the arena is packed before anything moves; moves that would enlarge it are not made.
//
// Gathers keep their order among themselves, and so do reductions: each kind is one stream of the runtime. Starts of reductions and waits of gathers stay where they are: data is sent when it is there, and
// awaited where it is used.
//
//===----------------------------------------------------------------------===//

#include "CommandTime.h"
#include "llvm/ADT/SmallSet.h"
#include <numeric>

using namespace mlir;
using namespace zopt;

/// A collective takes longer beside another, and where ranks come to it one after the other.
static constexpr double kAllowance = 1.5;
/// A collective passes at most so many of its kind, so that all of it takes linear time.
static constexpr int64_t kMostPassed = 8;
/// Of all computation: what is gained less is not worth that the arena is packed.
static constexpr double kLeastGain = 1e-3;
/// So often the arena is packed, until what has not been tried stays where it is.
static constexpr int kMostPackings = 8;

namespace {

/// A collective whose start (a gather's) or wait (a reduction's) may move. A gap is named by the command behind it.
struct Movable {
  int64_t start = 0, wait = 0; // commands
  int64_t bound = 0;           // the furthest gap that data allows
  double time = 0;             // 0: not worth hiding
  int64_t bytes = 0;           // of storages whose life begins with the start of a gather, or ends with the wait for a reduction
  std::optional<int64_t> gap;  // where it moves
  bool mayMove = true;
};

class Widener {
public:
  /// Storages have their lifetimes and places.
  Widener(ArrayRef<ScheduledSequence> sequences, bool prefetch, int64_t leastBytes, const CommandTimes &times, const StorageAccesses &accesses, StorageTable &storages) : accesses(accesses), storages(storages) {
    readCommands(sequences, times);
    for (const ScheduledSequence &scheduled : sequences)
      addStreams(scheduled, prefetch, leastBytes, times);
    for (const Storage &storage : storages.getAll())
      lives.push_back({storage.first, storage.last, storage.offset});
  }

  /// Moves what it can within `arena` bytes, and returns what the arena has then. Storages have the lifetimes and places of the schedule that comes of it.
  int64_t run(int64_t arena, int64_t alignment) {
    decide();
    SmallVector<Movable *> wanted;
    double gain = 0;
    for (std::vector<Stream> *streams : {&gathers, &reductions})
      for (Stream &stream : *streams)
        for (Movable &movable : stream) {
          movable.mayMove = false;
          if (!movable.gap)
            continue;
          wanted.push_back(&movable);
          if (movable.time > 0)
            gain += std::abs(begins[*movable.gap] - begins[streams == &gathers ? movable.start : movable.wait]);
        }
    if (gain < kLeastGain * begins.back() || wanted.empty())
      return arena;
    SmallVector<Placement> kept = lives;
    SmallVector<MutableArrayRef<Movable *>> untried = {wanted};
    for (int packings = 0; packings < kMostPackings && !untried.empty(); ++packings) {
      MutableArrayRef<Movable *> group = untried.pop_back_val();
      auto allow = [&](bool mayMove) {
        for (Movable *movable : group)
          movable->mayMove = mayMove;
      };
      allow(true);
      decide();
      setLifetimes();
      if (int64_t packed = placeStorages(storages, alignment); packed <= arena) {
        arena = packed;
        for (auto [storage, placement] : llvm::zip_equal(storages.getAll(), kept))
          placement = {storage.first, storage.last, storage.offset};
        continue;
      }
      // Halves, in which neighbours stay together: some make way for others.
      allow(false);
      if (size_t half = group.size() / 2; half > 0) {
        untried.push_back(group.drop_front(half));
        untried.push_back(group.take_front(half));
      }
    }
    decide();
    for (auto [storage, placement] : llvm::zip_equal(storages.getAll(), kept))
      std::tie(storage.first, storage.last, storage.offset) = std::tie(placement.first, placement.last, placement.offset);
    moveCommands();
    return arena;
  }

private:
  using Stream = SmallVector<Movable, 0>; // of one sequence and kind, in the order of starts
  struct Placement {
    int64_t first, last, offset;
  };

  /// Decides what moves of what may, by the bytes that are live.
  void decide() {
    live.assign(commands.size() + 1, 0);
    for (auto [storage, life] : llvm::zip_equal(storages.getAll(), lives))
      if (!storage.persistent && storage.parent < 0 && life.last >= 0) {
        live[life.first] += storage.bytes;
        live[life.last + 1] -= storage.bytes;
      }
    std::partial_sum(live.begin(), live.end(), live.begin());
    peak = *llvm::max_element(live);
    for (Stream &stream : gathers)
      moveStarts(stream);
    for (Stream &stream : reductions)
      moveWaits(stream);
  }

  /// Sets the lifetimes of storages to what they are once all has moved.
  void setLifetimes() {
    SmallVector<int64_t> places(commands.size());
    for (auto [place, command] : llvm::enumerate(getOrder()))
      places[command] = place;
    for (auto [storage, life] : llvm::zip_equal(storages.getAll(), lives))
      if (life.last >= 0) {
        storage.first = places[life.first];
        storage.last = places[life.last];
      }
  }

  void moveCommands() {
    SmallVector<bool> moves(commands.size());
    forEachMove([&](int64_t, int64_t command) { moves[command] = true; });
    Operation *before = nullptr;
    for (int64_t index : getOrder()) {
      Operation *command = commands[index];
      if (moves[index]) {
        // Nothing moves between sequences: whatever is before it in its own is there already.
        if (before && before->getBlock() == command->getBlock())
          command->moveAfter(before);
        else
          command->moveBefore(&command->getBlock()->front());
      }
      before = command;
    }
  }

  static bool isPacked(const Storage &storage) { return !storage.persistent && storage.parent < 0 && storage.last >= 0; }

  StorageId getWhole(StorageId id) {
    while (storages[id].parent >= 0)
      id = storages[id].parent;
    return id;
  }

  void readCommands(ArrayRef<ScheduledSequence> sequences, const CommandTimes &times) {
    double now = 0;
    for (const ScheduledSequence &scheduled : sequences)
      for (Operation &command : scheduled.sequence->getRegion(0).front()) {
        positions[&command] = commands.size();
        commands.push_back(&command);
        begins.push_back(now);
        now += times.getComputeTime(&command, accesses.lookup(&command));
      }
  }

  void addStreams(const ScheduledSequence &scheduled, bool prefetch, int64_t leastBytes, const CommandTimes &times) {
    if (scheduled.collectives.empty())
      return;
    Block &block = scheduled.sequence->getRegion(0).front();
    const int64_t begin = positions.lookup(&block.front()), end = begin + int64_t(block.getOperations().size());
    Stream starts, waits;
    for (const Collective &collective : scheduled.collectives) {
      if (collective.kind == Collective::Kind::Publish || (collective.kind == Collective::Kind::Gather && !prefetch))
        continue;
      Movable movable;
      movable.start = positions.lookup(collective.start);
      movable.wait = positions.lookup(collective.wait);
      if (int64_t sent = times.getSentBytes(collective.start); sent >= leastBytes)
        movable.time = times.getCollectiveTime(sent);
      llvm::SmallSet<StorageId, 4> counted;
      const bool isGather = collective.kind == Collective::Kind::Gather;
      for (const StorageAccess &access : accesses.lookup(collective.start))
        if (const Storage &storage = storages[access.storage];
            isPacked(storage) && (isGather ? storage.first == movable.start : storage.last == movable.wait) && counted.insert(access.storage).second)
          movable.bytes += storage.bytes;
      (isGather ? starts : waits).push_back(std::move(movable));
    }
    boundStarts(starts, begin);
    boundWaits(waits, end);
    if (!starts.empty())
      gathers.push_back(std::move(starts));
    if (!waits.empty())
      reductions.push_back(std::move(waits));
  }

  /// A gather starts behind what last wrote its source or touched its destination.
  void boundStarts(Stream &stream, int64_t begin) {
    std::vector<int64_t> touched(storages.getAll().size(), begin - 1), written = touched;
    int64_t i = begin;
    for (Movable &gather : stream) {
      for (; i < gather.start; ++i)
        for (const StorageAccess &access : accesses.lookup(commands[i])) {
          StorageId whole = getWhole(access.storage);
          touched[whole] = i;
          if (access.writes)
            written[whole] = i;
        }
      gather.bound = begin;
      for (const StorageAccess &access : accesses.lookup(commands[gather.start]))
        gather.bound = std::max(gather.bound, (access.writes ? touched : written)[getWhole(access.storage)] + 1);
    }
  }

  /// A reduction is awaited before anything else touches what is its own meanwhile, and before the sequence's last command.
  void boundWaits(Stream &stream, int64_t end) {
    std::vector<int64_t> touched(storages.getAll().size(), end - 1);
    int64_t i = end - 1;
    for (Movable &reduction : llvm::reverse(stream)) {
      for (; i > reduction.wait; --i)
        for (const StorageAccess &access : accesses.lookup(commands[i]))
          touched[getWhole(access.storage)] = i;
      reduction.bound = end - 1;
      for (const StorageAccess &access : accesses.lookup(commands[reduction.start]))
        reduction.bound = std::min(reduction.bound, touched[getWhole(access.storage)]);
    }
  }

  /// Each gather should be there when it is awaited, and the stream be free for the next.
  void moveStarts(Stream &stream) {
    SmallVector<int64_t> wanted(stream.size());
    double latest = std::numeric_limits<double>::infinity();
    for (size_t i = stream.size(); i-- > 0;) {
      const Movable &gather = stream[i];
      if (gather.time > 0)
        latest = std::min(latest, begins[gather.wait]) - kAllowance * gather.time;
      // The last command that begins by then.
      wanted[i] = std::upper_bound(begins.begin(), begins.begin() + gather.start + 1, latest) - begins.begin() - 1;
    }
    for (auto [i, gather] : llvm::enumerate(stream)) {
      gather.gap.reset();
      if (!gather.mayMove)
        continue;
      int64_t earliest = std::max(wanted[i], gather.bound);
      if (i > 0)
        earliest = std::max(earliest, stream[i - 1].gap.value_or(stream[i - 1].start + 1));
      if (int64_t(i) > kMostPassed)
        earliest = std::max(earliest, stream[i - kMostPassed].start);
      int64_t gap = gather.start;
      while (gap > earliest && live[gap - 1] + gather.bytes <= peak)
        --gap;
      if (gap == gather.start)
        continue;
      for (int64_t at = gap; at < gather.start; ++at)
        live[at] += gather.bytes;
      gather.gap = gap;
    }
  }

  /// Each reduction should be complete when it is awaited, those before it included.
  void moveWaits(Stream &stream) {
    SmallVector<int64_t> wanted;
    double earliest = 0;
    for (const Movable &reduction : stream) {
      if (reduction.time > 0)
        earliest = std::max(earliest, begins[reduction.start]) + kAllowance * reduction.time;
      wanted.push_back(std::lower_bound(begins.begin() + reduction.wait, begins.end(), earliest) - begins.begin());
    }
    for (size_t i = stream.size(); i-- > 0;) {
      Movable &reduction = stream[i];
      reduction.gap.reset();
      if (!reduction.mayMove)
        continue;
      int64_t latest = std::min(wanted[i], reduction.bound);
      if (i + 1 < stream.size())
        latest = std::min(latest, stream[i + 1].gap.value_or(stream[i + 1].wait));
      if (i + kMostPassed < stream.size())
        latest = std::min(latest, stream[i + kMostPassed].wait);
      int64_t gap = reduction.wait + 1;
      while (gap < latest && live[gap] + reduction.bytes <= peak)
        ++gap;
      if (gap == reduction.wait + 1)
        continue;
      for (int64_t at = reduction.wait + 1; at < gap; ++at)
        live[at] += reduction.bytes;
      reduction.gap = gap;
    }
  }

  /// Calls `visit` with each gap and the command that moves there: waits before starts, so that memory is free before it is taken.
  void forEachMove(function_ref<void(int64_t gap, int64_t command)> visit) const {
    for (const Stream &stream : reductions)
      for (const Movable &reduction : stream)
        if (reduction.gap)
          visit(*reduction.gap, reduction.wait);
    for (const Stream &stream : gathers)
      for (const Movable &gather : stream)
        if (gather.gap)
          visit(*gather.gap, gather.start);
  }

  /// All commands, as they stand once all has moved.
  SmallVector<int64_t> getOrder() const {
    SmallVector<std::tuple<int64_t, size_t, int64_t>> moves; // by gap, in the order of visits
    SmallVector<bool> leaves(commands.size());
    forEachMove([&](int64_t gap, int64_t command) {
      moves.push_back({gap, moves.size(), command});
      leaves[command] = true;
    });
    llvm::sort(moves);
    SmallVector<int64_t> order;
    auto *move = moves.begin();
    for (int64_t i = 0, end = commands.size(); i < end; ++i) {
      for (; move != moves.end() && std::get<0>(*move) == i; ++move)
        order.push_back(std::get<2>(*move));
      if (!leaves[i])
        order.push_back(i);
    }
    return order;
  }

  const StorageAccesses &accesses;
  StorageTable &storages;
  SmallVector<Operation *> commands; // of all sequences
  DenseMap<Operation *, int64_t> positions;
  SmallVector<double> begins; // when each begins where nothing is waited for
  std::vector<Stream> gathers, reductions;
  SmallVector<Placement> lives;  // of storages, before anything moves
  std::vector<int64_t> live;     // bytes at each command, with what has moved
  int64_t peak = 0;              // of it before
};

} // namespace

int64_t zopt::widenSchedule(ArrayRef<ScheduledSequence> sequences, bool prefetch, int64_t leastBytes, const CommandTimes &times, const StorageAccesses &accesses, StorageTable &storages, int64_t arena, int64_t alignment) {
  if (llvm::all_of(sequences, [](const ScheduledSequence &scheduled) { return scheduled.collectives.empty(); }))
    return arena;
  return Widener(sequences, prefetch, leastBytes, times, accesses, storages).run(arena, alignment);
}
