//===- Storage.cpp - what will be plan.buffers ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Storage.h"
#include "../PlanAccess.h"
#include "PackArena.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;

StorageTable::StorageTable(ModuleOp module) : context(module.getContext()) {
  for (Operation &op : *module.getBody())
    if (auto name = op.getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName()))
      taken.insert(name);
}

StorageId StorageTable::create(const Twine &name, int64_t bytes, plan::MemoryClass memoryClass, bool persistent) {
  auto attr = StringAttr::get(context, name);
  for (int64_t suffix = 1; !taken.insert(attr).second; ++suffix)
    attr = StringAttr::get(context, name + "." + Twine(suffix));
  auto id = static_cast<StorageId>(storages.size());
  storages.emplace_back();
  storages.back().name = attr;
  storages.back().bytes = bytes;
  storages.back().memoryClass = memoryClass;
  storages.back().persistent = persistent;
  ids[attr] = id;
  return id;
}

StorageId StorageTable::createSlice(StorageId whole, const Twine &name, int64_t bytes) {
  StorageId id = create(name, bytes, storages[whole].memoryClass, storages[whole].persistent);
  storages[id].parent = whole;
  return id;
}

StorageAccesses::StorageAccesses(ModuleOp module, StorageTable &storages) {
  PlanSymbols symbols(module);
  SmallVector<PlanAccess> found;
  for (auto sequence : module.getOps<plan::SequenceOp>())
    for (Operation &command : sequence.getBody().front()) {
      found.clear();
      collectAccesses(&command, symbols, found);
      const size_t begin = accesses.size();
      for (const PlanAccess &access : found) {
        StorageId id = storages.lookup(access.buffer);
        accesses.push_back({id, (access.end == kWholeBuffer ? storages[id].bytes : access.end) - access.begin, access.writes});
      }
      ranges[&command] = {begin, accesses.size()};
    }
}

void zopt::computeLifetimes(ModuleOp module, const StorageAccesses &accesses, StorageTable &storages) {
  int64_t position = 0;
  for (auto sequence : module.getOps<plan::SequenceOp>()) {
    DenseMap<int64_t, SmallVector<StorageId>> inFlight;
    for (Operation &command : sequence.getBody().front()) {
      auto touch = [&](StorageId id) {
        for (; id >= 0; id = storages[id].parent) {
          storages[id].first = std::min(storages[id].first, position);
          storages[id].last = std::max(storages[id].last, position);
        }
      };
      std::optional<int64_t> started = getStartedCollective(&command);
      for (const StorageAccess &access : accesses.lookup(&command)) {
        touch(access.storage);
        if (started)
          inFlight[*started].push_back(access.storage);
      }
      if (auto wait = dyn_cast<plan::WaitOp>(command))
        for (StorageId id : inFlight.lookup(wait.getId()))
          touch(id);
      ++position;
    }
  }
}

/// Bytes by class of what is live at the command where most bytes are.
static DictionaryAttr getPeakByClass(StorageTable &storages, int64_t arenaBytes, MLIRContext *context) {
  int64_t persistentBytes = 0, times = 0;
  for (Storage &storage : storages.getAll()) {
    if (storage.persistent && storage.parent < 0)
      persistentBytes += storage.bytes;
    times = std::max(times, storage.last + 1);
  }
  std::vector<int64_t> change(times + 1);
  for (Storage &storage : storages.getAll())
    if (!storage.persistent && storage.last >= 0) {
      change[storage.first] += storage.bytes;
      change[storage.last + 1] -= storage.bytes;
    }
  int64_t live = persistentBytes, most = persistentBytes, peak = -1;
  for (int64_t time = 0; time < times; ++time) {
    live += change[time];
    if (live > most) {
      most = live;
      peak = time;
    }
  }
  std::vector<int64_t> bytes(plan::getMaxEnumValForMemoryClass() + 1);
  for (Storage &storage : storages.getAll())
    if (storage.parent < 0 && (storage.persistent || (storage.first <= peak && peak <= storage.last)))
      bytes[static_cast<size_t>(storage.memoryClass)] += storage.bytes;
  Builder builder(context);
  SmallVector<NamedAttribute> entries;
  for (auto [index, count] : llvm::enumerate(bytes))
    entries.push_back(builder.getNamedAttr(plan::stringifyMemoryClass(static_cast<plan::MemoryClass>(index)), builder.getI64IntegerAttr(count)));
  // Holes of the packing, so that the entries add up to the arena.
  entries.push_back(builder.getNamedAttr("unused", builder.getI64IntegerAttr(arenaBytes - most)));
  return builder.getDictionaryAttr(entries);
}

int64_t zopt::placeStorages(StorageTable &storages, int64_t alignment) {
  int64_t base = 0, end = 0;
  SmallVector<PackedItem> items;
  SmallVector<Storage *> packed;
  for (Storage &storage : storages.getAll()) {
    if (storage.parent >= 0)
      continue;
    if (storage.persistent) {
      storage.offset = base;
      end = base + storage.bytes;
      base = llvm::alignTo(end, alignment);
    } else if (storage.last >= 0) {
      items.push_back({storage.bytes, storage.first, storage.last});
      packed.push_back(&storage);
    }
  }
  end = std::max(end, packArena(items, base, alignment));
  if (items.empty())
    end = std::min(end, base);
  for (auto [storage, item] : llvm::zip_equal(packed, items))
    storage->offset = item.offset;
  return end;
}

void zopt::createBuffers(ModuleOp module, StorageTable &storages, int64_t arenaBytes, OpBuilder &builder) {
  constexpr StringLiteral arena = "device";
  plan::ArenaOp::create(builder, module.getLoc(), arena, plan::Tier::device, arenaBytes);
  for (Storage &storage : storages.getAll()) {
    bool isSlice = storage.parent >= 0;
    int64_t offset = isSlice ? storages[storage.parent].offset : storage.offset;
    if (offset < 0)
      continue; // nothing touches it
    plan::BufferOp::create(builder, module.getLoc(), storage.name, FlatSymbolRefAttr::get(module.getContext(), arena), builder.getI64IntegerAttr(offset), builder.getI64IntegerAttr(storage.bytes),
                           plan::MemoryClassAttr::get(module.getContext(), storage.memoryClass), builder.getI64IntegerAttr(isSlice ? storage.bytes : 0),
                           storage.persistent ? builder.getUnitAttr() : nullptr);
  }
  module->setAttr("plan.peak_by_class", getPeakByClass(storages, arenaBytes, module.getContext()));
}
