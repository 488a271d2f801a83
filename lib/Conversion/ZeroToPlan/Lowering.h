//===- Lowering.h - functions into sequences of commands ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_LOWERING_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_LOWERING_H

#include "Storage.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace zopt {

/// Where a bucket lives on a rank. On one rank everything is replicated, whatever the placement says.
struct BucketHome {
  zero::BucketOp op;
  int64_t padded = 0, slice = 0;
  bool parametersSharded = false, optimizerSharded = false, gradientsSharded = false;
  bool accumulates = false; // `gradient` is an accumulator over micro-steps, the rank's slice
  mlir::Type stateType;     // of masters and slots
  mlir::Type gradientType;  // of the reduced gradient; null where there is none
  StorageId parameters = -1;
  StorageId parameterSlice = -1; // the rank's part of replicated parameters that are published
  StorageId master = -1;
  llvm::SmallVector<StorageId> slots;
  StorageId gradient = -1;      // what norm and update read
  StorageId gradientWhole = -1; // persistent gradients that are reduced in place
  llvm::DenseMap<mlir::StringAttr, int64_t> offsets; // elements, by parameter
  llvm::DenseMap<mlir::StringAttr, int64_t> reserved; // elements of zeros behind a parameter, where there are any

  /// The view of a parameter, or of its gradient, in a storage of the bucket's flat layout.
  View getView(StorageId storage, mlir::StringAttr parameter, mlir::RankedTensorType type) const;
};

/// A start and its wait, which stand together until they are scheduled.
struct Collective {
  enum class Kind { Gather, Reduce, Publish };
  Kind kind;
  mlir::Operation *start, *wait;
  zero::BucketOp bucket;
  StorageId destination; // of a gather
};

/// Kernels of ops, generated once for all that are alike.
class KernelCache {
public:
  explicit KernelCache(KernelGenerator &generator) : generator(generator) {}
  mlir::FailureOr<KernelPlan> get(mlir::Operation *op, llvm::ArrayRef<TensorLayout> layouts);
  KernelGenerator &getGenerator() { return generator; }

private:
  struct Entry {
    mlir::Operation *op;
    llvm::SmallVector<TensorLayout> layouts;
    KernelPlan plan;
  };
  KernelGenerator &generator;
  llvm::DenseMap<size_t, llvm::SmallVector<Entry, 1>> entries; // by a hash of the op
};

/// Kernels that do nothing but write a tensor's elements in another order of axes: what is left of transposes once
/// views have taken the others.
struct LayoutChanges {
  void add(mlir::Location loc, int64_t elements, mlir::Type elementType);
  int64_t count = 0, bytes = 0;            // of one call of each function
  llvm::SmallVector<mlir::Location> first; // some of their places
};

/// What the lowering of all functions shares.
struct LoweringContext {
  LoweringContext(mlir::ModuleOp module, KernelTarget target, int64_t worldSize, int64_t accumSteps, int64_t threads, StorageTable &storages, KernelCache &kernels)
      : module(module), target(target), worldSize(worldSize), accumSteps(accumSteps), threads(threads), storages(storages), kernels(kernels) {}

  bool isGpu() const { return target == KernelTarget::Gpu; }
  /// On one rank everything is replicated, whatever the placement says, and nothing is exchanged; unless that is what is to be seen.
  bool isAlone() const { return worldSize == 1 && !keepCollectives; }

  mlir::ModuleOp module;
  KernelTarget target;
  int64_t worldSize, accumSteps, threads;
  StorageTable &storages;
  KernelCache &kernels;
  llvm::DenseMap<mlir::StringAttr, BucketHome *> bucketOf; // by the bucket's name
  llvm::DenseMap<mlir::StringAttr, BucketHome *> homeOf;   // by the parameter's
  llvm::DenseMap<mlir::StringAttr, StorageId> stateOf;     // states that are in no bucket
  llvm::DenseMap<mlir::StringAttr, std::pair<StorageId, mlir::RankedTensorType>> inputOf; // by name: functions share what is named alike
  LayoutChanges layoutChanges;
  StorageId counters = -1; // KernelPlan::counters of all kernels
  int64_t nextCollective = 0;
  bool keepCollectives = false;
};

/// Lays out buckets and other states: creates their storages, and the plan ops that say where they live.
class StatePlacement {
public:
  StatePlacement(LoweringContext &context) : context(context) {}
  mlir::LogicalResult place(mlir::OpBuilder &builder);

private:
  void placeBucket(BucketHome &home, mlir::OpBuilder &builder);
  LoweringContext &context;
  std::vector<std::unique_ptr<BucketHome>> homes;
};

/// Writes the commands of `function` into `sequence`. Declarations of inputs and outputs go to `declarations`.
mlir::LogicalResult lowerFunction(mlir::func::FuncOp function, plan::SequenceOp sequence, mlir::OpBuilder &declarations, LoweringContext &context, llvm::SmallVectorImpl<Collective> &collectives);

/// Moves starts of gathers up (where `prefetch`), and waits of reductions and publications down.
void scheduleCollectives(plan::SequenceOp sequence, llvm::ArrayRef<Collective> collectives, bool prefetch, StorageTable &storages);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_LOWERING_H
