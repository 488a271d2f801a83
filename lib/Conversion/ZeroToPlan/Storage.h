//===- Storage.h - what will be plan.buffers ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Commands are written against storages, which have a name and a size but no place yet. When all commands stand, their lifetimes are known and the arena is packed.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_STORAGE_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_STORAGE_H

#include "Views.h"
#include "llvm/ADT/DenseSet.h"

namespace zopt {

struct Storage {
  mlir::StringAttr name;
  int64_t bytes = 0;
  plan::MemoryClass memoryClass = plan::MemoryClass::activations;
  bool persistent = false;
  StorageId parent = -1; // the storage whose rank-th slice this is; it lies at rank * bytes
  // Commands from the first that touches it to the last, counted over all sequences; where it is not persistent.
  int64_t first = std::numeric_limits<int64_t>::max(), last = -1;
  int64_t offset = -1;
};

class StorageTable {
public:
  explicit StorageTable(mlir::ModuleOp module);

  /// A storage named `name`, or `name` and a number where a symbol has that name.
  StorageId create(const llvm::Twine &name, int64_t bytes, plan::MemoryClass memoryClass, bool persistent = false);
  /// A storage that lives inside a sequence, named by its number.
  StorageId createTemporary(int64_t bytes, plan::MemoryClass memoryClass) { return create("t" + llvm::Twine(storages.size()), bytes, memoryClass); }
  /// The rank's slice of `whole`, `bytes` long.
  StorageId createSlice(StorageId whole, const llvm::Twine &name, int64_t bytes);

  Storage &operator[](StorageId id) { return storages[id]; }
  mlir::FlatSymbolRefAttr getRef(StorageId id) { return mlir::FlatSymbolRefAttr::get(storages[id].name); }
  StorageId lookup(mlir::StringAttr name) { return ids.lookup_or(name, -1); }
  llvm::MutableArrayRef<Storage> getAll() { return storages; }

private:
  mlir::MLIRContext *context;
  llvm::SmallVector<Storage> storages;
  llvm::DenseMap<mlir::StringAttr, StorageId> ids;
  llvm::DenseSet<mlir::StringAttr> taken;
};

/// Bytes of a storage that a command reads or writes.
struct StorageAccess {
  StorageId storage;
  int64_t bytes;
  bool writes;
};

/// What the commands of a module's sequences touch. It stays true when commands move.
class StorageAccesses {
public:
  StorageAccesses(mlir::ModuleOp module, StorageTable &storages);

  llvm::ArrayRef<StorageAccess> lookup(mlir::Operation *command) const {
    auto [begin, end] = ranges.lookup(command);
    return llvm::ArrayRef(accesses).slice(begin, end - begin);
  }

private:
  llvm::SmallVector<StorageAccess, 0> accesses;
  llvm::DenseMap<mlir::Operation *, std::pair<size_t, size_t>> ranges;
};

/// Sets the lifetimes of all storages from the sequences of `module`.
void computeLifetimes(mlir::ModuleOp module, const StorageAccesses &accesses, StorageTable &storages);

/// Gives every storage its place in one arena, at a multiple of `alignment` bytes, by its lifetime. Returns the arena's bytes.
int64_t placeStorages(StorageTable &storages, int64_t alignment);

/// Writes plan.arena and the plan.buffers above the sequences, and leaves the bytes by class at the peak on the module as `plan.peak_by_class`.
void createBuffers(mlir::ModuleOp module, StorageTable &storages, int64_t arenaBytes, mlir::OpBuilder &builder);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_STORAGE_H
