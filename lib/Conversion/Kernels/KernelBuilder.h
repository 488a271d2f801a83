//===- KernelBuilder.h - writes the body of one kernel ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/Kernels. A kernel for a CPU is a loop over outer iterations; inside, everything is done on vectors of 16 lanes. What is left over at the end of a row is a masked vector that
// runs the same operations, so that an element's bits depend neither on its place nor on the split over threads. Reductions keep their partial sums in a layout that depends on the row's
// length alone.
//
// A kernel for a GPU gives every outer iteration to a group of threads, each of which handles a vector of up to 8 lanes at a time. KernelBuilderGpu.cpp has what differs: `begin`, memory, `forLanes` and
// `reduceRow`; so a family that is written with these runs on both.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_KERNELBUILDER_H
#define ZOPT_LIB_CONVERSION_KERNELS_KERNELBUILDER_H

#include "zopt/Conversion/KernelGeneration.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace zopt::kernels {

/// Lanes of every vector of a CPU kernel, whatever the element type: a reduction's layout must not depend on the machine.
constexpr int64_t kCpuLanes = 16;

/// Elements that make a thread worth waking, about 10 microseconds of memory traffic.
constexpr int64_t kGrainElements = 16384;

/// The least iterations worth a thread where one handles `elements` elements.
inline int64_t grainFor(int64_t elements) { return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements)); }

/// Product of sizes.
int64_t countElements(llvm::ArrayRef<int64_t> shape);

/// How a tensor is reached from a kernel's index space: one stride (elements, 0 where it is broadcast) an axis, and the element that index 0 is at.
struct Access {
  unsigned argument = 0; // in the launch: operands ++ results ++ workspaces
  mlir::Type elementType;
  llvm::SmallVector<int64_t> strides;
  int64_t offset = 0;
  bool write = false;
  int64_t alignment = 0; // bytes; of the tensor's first element, before `offset`; 0: that of an element
};

/// A tensor inside a kernel.
struct View {
  mlir::Value memref;
  mlir::Type elementType;              // i1 is stored as a byte
  llvm::SmallVector<unsigned> axes;    // the axes of the index space that the memref has
  llvm::SmallVector<int64_t> reversed; // for each of them its size where it is walked backwards, otherwise 0
  bool hasInner = false;               // the last axis is one of them
  int64_t innerStride = 0;
  bool write = false;
  int64_t alignment = 1; // bytes; of every element whose place along the last axis is 0
};

/// Which lanes of a vector hold elements.
struct Lanes {
  int64_t valid = kCpuLanes; // on a CPU: the first so many
  // On a GPU: those whose place is below `limit`; null: all.
  mlir::Value limit = {};
  mlir::Value mask = {};  // the same as a vector of i1
  mlir::Value whole = {}; // whether all lanes do
  bool together = false;  // all lanes do, or none: the row's length is a multiple of the lanes
  bool ragged = false;    // `whole` is known to be false
  bool full() const { return valid == kCpuLanes && !limit; }
};

/// How the threads of a GPU block share its outer iterations: neighbouring iterations have groups of neighbouring threads.
struct Spread {
  int64_t lanes = kCpuLanes; // elements that a thread handles at a time
  int64_t threads = 1;       // of a group
  int64_t groups = 1;        // in a block
  int64_t repeats = 1;       // iterations that a group runs one after another
  bool interleaved = false;  // lane l of thread t is element t + l * threads instead of t * lanes + l: coalesced where wide accesses are not aligned
  int64_t residents = 0;     // blocks that a multiprocessor must hold; 0: as many as it happens to
  bool backwards = false;    // the first blocks have the last iterations: a cache may still hold the end of what has just been written
  int64_t step() const { return lanes * threads; }
};

class KernelBuilder {
public:
  enum class Combine { Sum, Max, MaxUnsigned, Product };

  /// Starts a kernel called `name`, a prefix of its final symbol.
  KernelBuilder(mlir::MLIRContext *context, llvm::StringRef name, KernelTarget target);
  ~KernelBuilder();

  /// Declares the next argument. All are declared before `begin`.
  View argument(const Access &access, llvm::ArrayRef<int64_t> shape);
  /// An argument of any length whose elements are read by linear index.
  View linear(unsigned argument, mlir::Type elementType, int64_t elements, bool write = false);

  /// A float that is passed by value. GPU only.
  mlir::Value scalarArgument(unsigned argument, mlir::Type type);

  //===--- the threads of a block; nothing of this changes a CPU kernel ---===//
  bool isGpu() const { return target == KernelTarget::Gpu; }
  int64_t lanes() const { return spread.lanes; }
  /// Chooses the group for rows of n elements, after all arguments and before `begin`. For reductions the choice depends on n and the element types alone, so that the order of a sum does not
  /// depend on layouts. Rows that are moved or computed element by element (`spreadElements`) look at alignment too; they are cut into chunks of the size that is returned.
  void spreadRow(int64_t n);
  int64_t spreadElements(int64_t n);
  void setSpread(Spread chosen) { spread = chosen; }
  const Spread &getSpread() const { return spread; }
  /// The thread's number in its group, and whether it is the first.
  mlir::Value thread();
  /// The thread's first place in the part of a row that begins at `base`, a multiple of the group's step.
  mlir::Value placeAt(int64_t base);
  mlir::Value isLeader();
  /// GPU: the first `count` elements of a row that registers do not hold, in the memory of the block. A second pass that reads them there leaves more of a cache to the rest. Each thread reads what it has
  /// written itself, so nobody waits.
  struct KeptRow {
    mlir::Value memory;
    int64_t count = 0;
  };
  KeptRow keepRow(int64_t n, mlir::Type elementType);
  /// Where a pass finds a vector of such a row: in memory, in memory from where it goes into the block's, or in the block's.
  enum class Source { Memory, Keep, Kept };
  using SourceLoad = llvm::function_ref<mlir::Value(mlir::Value index, Lanes lanes, Source source)>;
  mlir::Value loadFrom(Source source, const KeptRow &kept, const View &view, mlir::ValueRange indices, Lanes lanes);
  /// One pass over a row: its maximum, and the sum of e^(x - maximum), by `expOfDifference`. Each thread keeps the largest element that it has seen and a sum relative to it. GPU only.
  std::pair<mlir::Value, mlir::Value> reduceLogSumExp(int64_t n, mlir::Type type, bool narrow, const KeptRow &kept, SourceLoad load);
  /// GPU: `forLanes` over a row whose first elements are kept.
  void forLanesOfKept(int64_t n, const KeptRow &kept, llvm::function_ref<void(mlir::Value index, Lanes lanes, Source source)> body);
  /// Whether the calling thread has the element at `place` of the row.
  mlir::Value owns(mlir::Value place);
  /// The values of all threads of the group, combined in one fixed order; each thread gets the same bits.
  mlir::Value groupReduce(Combine kind, mlir::Value value);
  mlir::Value shuffleXor(mlir::Value value, int64_t distance);
  mlir::Value workgroupMemory(llvm::ArrayRef<int64_t> shape, mlir::Type elementType);
  void barrier();
  /// GPU, by all threads of a block: whether the block is the last of `blocks` that come here for counter number `counter` of i32. It then sees what all of them have stored before. The counter is 0 before
  /// the first block comes and behind the last.
  mlir::Value isLast(const View &counters, mlir::Value counter, int64_t blocks);
  /// `forLanes` and a reduction over [low, min(high, n)) of a row of n, where both bounds are multiples of the group's step.
  void forLanesBetween(mlir::Value low, mlir::Value high, int64_t n, llvm::function_ref<void(mlir::Value index, Lanes lanes)> body);
  mlir::Value reduceLanesBetween(Combine kind, mlir::Value low, mlir::Value high, int64_t n, mlir::Type type, llvm::function_ref<mlir::Value(mlir::Value index, Lanes lanes)> terms);
  /// `body` where `condition` holds.
  void ifThen(mlir::Value condition, llvm::function_ref<void()> body);
  /// Lanes from place i on of a row that ends at `limit`.
  Lanes lanesBelow(mlir::Value i, mlir::Value limit, bool together, bool ragged = false);

  /// Opens the loop over outer iterations and returns its index; `extent` and `grain` go into the launch.
  mlir::Value begin(int64_t extent, int64_t grain);
  /// GPU: begins a kernel whose blocks share out `iterations` each by themselves, and returns the block's first one. None of them may go beyond the last of the launch.
  mlir::Value beginBlock(int64_t iterations);
  /// GPU: begins a kernel whose launch may have any number of blocks, up to one for `iterations`, which share the launch's iterations out evenly; returns the first of the block's and the end of them.
  std::pair<mlir::Value, mlir::Value> beginShares(int64_t iterations);
  /// GPU: a kernel whose outer iterations are blocks that walk over all `iterations` together, from the last to the first, as many of them as have `perBlock` each; each group of a block carries values along.
  struct Walk {
    llvm::SmallVector<mlir::Value> carried; // the last ones of the thread's group
    mlir::Value block, group, number;       // of the block, and of the group and the thread in the block
  };
  /// Begins it and writes the walk. `init` gives the values that a group's first iteration gets, `step` those that go on to the `next`, which is `iteration` itself in the end: it may read ahead. What
  /// follows is done behind the walk.
  Walk walk(int64_t iterations, int64_t perBlock, llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iteration)> init,
            llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iteration, mlir::Value next, mlir::ValueRange carried)> step);
  /// GPU: whether a row of n stays in its group's registers, and each of its elements is read once, however often it is asked for.
  bool fitsRegisters(int64_t n) const;
  /// GPU: the vectors of a row that a thread has, from `from` on, a multiple of the group's step, each with its first place.
  llvm::SmallVector<std::pair<mlir::Value, Lanes>> vectorsOfRow(int64_t n, int64_t from = 0);
  /// GPU: what follows is done by all threads of a block, after its iterations.
  void afterIterations() { builder.setInsertionPoint(entry->getTerminator()); }
  /// Closes the kernel. It stays owned by the builder until `release`.
  KernelLaunch end();
  plan::KernelOp release();

  //===--- index arithmetic ---===//
  mlir::Value index(int64_t value);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value add(mlir::Value a, int64_t b);
  mlir::Value mul(mlir::Value a, int64_t b);
  /// Row-major coordinates of `linear` in `shape`.
  llvm::SmallVector<mlir::Value> delinearize(mlir::Value linear, llvm::ArrayRef<int64_t> shape);

  //===--- constants ---===//
  /// Splat over all lanes of a float or integer element type.
  mlir::Value splat(double value, mlir::Type elementType);
  mlir::Value splatInt(int64_t value, mlir::Type elementType);
  mlir::Value scalar(double value, mlir::Type type);
  mlir::Value constant(mlir::TypedAttr value);
  /// The lanes' distances from the first: 0, 1, ..., 15 of an integer or index type.
  mlir::Value laneNumbers(mlir::Type elementType);

  //===--- memory ---===//
  /// The lanes from `indices` on along the last axis. Lanes that are not valid hold 0 on a CPU, some element of the row on a GPU.
  mlir::Value load(const View &view, mlir::ValueRange indices, Lanes lanes = {});
  void store(mlir::Value vector, const View &view, mlir::ValueRange indices, Lanes lanes = {});
  mlir::Value loadScalar(const View &view, mlir::ValueRange indices);
  /// By one thread of the group; by each that comes here.
  void storeScalar(mlir::Value value, const View &view, mlir::ValueRange indices);
  void storeHere(mlir::Value value, const View &view, mlir::ValueRange indices);
  /// GPU: a vector whose lanes' indices `at` makes from their places, from i on.
  mlir::Value loadLanes(const View &view, mlir::Value i, const Lanes &lanes, llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value place)> at);
  /// One element as it is stored.
  mlir::Value loadStorage(const View &view, mlir::ValueRange indices) { return mlir::memref::LoadOp::create(builder, loc, view.memref, selectIndices(view, indices)); }
  void storeStorage(mlir::Value value, const View &view, mlir::ValueRange indices) { mlir::memref::StoreOp::create(builder, loc, value, view.memref, selectIndices(view, indices)); }
  /// `load` and conversion to the compute type of the element type; `store` of a value rounded to the element type.
  mlir::Value loadCompute(const View &view, mlir::ValueRange indices, Lanes lanes = {});
  void storeRounded(mlir::Value vector, const View &view, mlir::ValueRange indices, Lanes lanes = {});
  mlir::Value loadComputeScalar(const View &view, mlir::ValueRange indices);
  void storeRoundedScalar(mlir::Value value, const View &view, mlir::ValueRange indices);

  /// Converts floats (vectors or scalars) to another float type, rounding to nearest even.
  mlir::Value convert(mlir::Value value, mlir::Type elementType);
  /// A scalar in all lanes.
  mlir::Value broadcast(mlir::Value scalar);
  mlir::Value mask(Lanes lanes);
  /// `value` in the valid lanes, `other` elsewhere.
  mlir::Value keepValid(mlir::Value value, mlir::Value other, Lanes lanes);

  //===--- arithmetic on vectors or scalars of the compute type ---===//
  mlir::Value addF(mlir::Value a, mlir::Value b);
  mlir::Value subF(mlir::Value a, mlir::Value b);
  mlir::Value mulF(mlir::Value a, mlir::Value b);
  mlir::Value divF(mlir::Value a, mlir::Value b);
  mlir::Value maxF(mlir::Value a, mlir::Value b);
  mlir::Value expF(mlir::Value a);
  mlir::Value logF(mlir::Value a);
  /// e^(a - reference). Where `narrow` says that a is of 16 bits, a GPU takes 2^(a log2 e - reference log2 e): a multiply-add and an instruction, whose result is off by about 2^-24 (|a - reference| + |reference|)
  /// of itself, where a is off by 2^-9 or 2^-12 of itself. The reference is finite or NaN.
  mlir::Value expOfDifference(mlir::Value a, mlir::Value reference, bool narrow);

  //===--- loops ---===//
  using LaneBody = llvm::function_ref<void(mlir::Value index, Lanes lanes)>;
  /// Every 16-lane block of [0, n): a loop, and a masked block for the rest.
  void forLanes(int64_t n, LaneBody body);
  /// The same over [low, min(low + chunk, n)), where low is a multiple of chunk and chunk one of 16.
  void forLanesOfChunk(mlir::Value low, int64_t chunk, int64_t n, LaneBody body);
  /// A loop over [0, n) that carries `init`; `body` returns the next values.
  llvm::SmallVector<mlir::Value> forRange(int64_t n, mlir::ValueRange init, llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value index, mlir::ValueRange carried)> body);
  void forRange(mlir::Value low, mlir::Value high, int64_t step, llvm::function_ref<void(mlir::Value index)> body);

  /// Column chunk `chunk` of [0, columns): `body` gets the first column and the blocks of 16 that the chunk has; the last, shorter chunk has code of its own.
  void forColumnChunks(mlir::Value chunk, int64_t columns, int64_t chunkColumns, llvm::function_ref<void(mlir::Value first, llvm::ArrayRef<Lanes> blocks)> body);

  /// One reduction over a row for each entry of `kinds`: `terms` gives the terms of each at a vector. On a CPU, partial results live in 16 lanes (64 where n >= 256) by index modulo their number, and
  /// are combined in one fixed order. Returns scalars of `type`.
  llvm::SmallVector<mlir::Value> reduceRow(int64_t n, llvm::ArrayRef<Combine> kinds, mlir::Type type,
                                           llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value index, Lanes lanes)> terms);
  /// Combines f(0), ..., f(n - 1) in order, in blocks of 64 whose results are combined: rounding errors grow with the square root of n only.
  llvm::SmallVector<mlir::Value> reduceRange(Combine kind, int64_t n, llvm::ArrayRef<mlir::Value> identities, llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value index)> f);
  /// `reduceRange` over each of `sizes`, the last innermost, around `leaf`; meanwhile `coordinates` ends with the loops' indices.
  llvm::SmallVector<mlir::Value> reduceNested(Combine kind, llvm::ArrayRef<int64_t> sizes, llvm::SmallVectorImpl<mlir::Value> &coordinates, llvm::ArrayRef<mlir::Value> identities,
                                              llvm::function_ref<llvm::SmallVector<mlir::Value>()> leaf);
  mlir::Value combine(Combine kind, mlir::Value a, mlir::Value b);
  mlir::Value identity(Combine kind, mlir::Type type);
  /// The lanes to one scalar: halves, quarters, ...
  mlir::Value horizontal(Combine kind, mlir::Value vector);

  mlir::OpBuilder builder;
  const mlir::Location loc;

private:
  llvm::SmallVector<mlir::Value> selectIndices(const View &view, mlir::ValueRange indices, int64_t lane = 0);
  mlir::Value loadElement(const View &view, mlir::ValueRange selected);
  void storeElement(mlir::Value value, const View &view, mlir::ValueRange selected);

  void declareRange();

  //===--- KernelBuilderGpu.cpp ---===//
  void setBlock(int64_t threads, int64_t iterations);
  mlir::Value beginGpu();
  int64_t pieceOf(const View &view) const;
  mlir::Value loadGpu(const View &view, mlir::ValueRange indices, const Lanes &lanes);
  mlir::Value loadPieces(const View &view, mlir::ValueRange indices);
  mlir::Value loadEach(const View &view, mlir::ValueRange indices, const Lanes &lanes);
  void storeGpu(mlir::Value value, const View &view, mlir::ValueRange indices, const Lanes &lanes);
  void storePieces(mlir::Value value, const View &view, mlir::ValueRange indices);
  void storeEach(mlir::Value value, const View &view, mlir::ValueRange indices, const Lanes &lanes);
  void forLanesGpu(int64_t from, int64_t n, LaneBody body);
  void runLanes(mlir::Value i, mlir::Value limit, bool together, LaneBody body);
  llvm::SmallVector<mlir::Value> reduceRowGpu(int64_t n, llvm::ArrayRef<Combine> kinds, mlir::Type type,
                                              llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value index, Lanes lanes)> terms);
  /// Carries `init` over a row: `fold` gets some vectors of it at a time, whose loads may be in flight together.
  using FoldBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(llvm::ArrayRef<std::pair<mlir::Value, Lanes>> vectors, llvm::ArrayRef<mlir::Value> carried)>;
  llvm::SmallVector<mlir::Value> foldRow(int64_t from, int64_t n, llvm::ArrayRef<mlir::Value> init, FoldBody fold);
  struct StoresLast;

  const KernelTarget target;
  Spread spread;
  mlir::Block *body = nullptr; // of an outer iteration
  mlir::Value threadInGroup, firstPlace;
  llvm::DenseMap<int64_t, mlir::Value> places;
  llvm::DenseMap<llvm::SmallVector<mlir::Value, 4>, mlir::Value> loaded; // by view and indices
  StoresLast *storesLast = nullptr;
  llvm::SmallVector<View> lanedViews; // read or written by lanes
  int64_t widest = 1; // bytes of the largest element that is read or written by lanes

  mlir::OwningOpRef<plan::KernelOp> kernel;
  mlir::Block *entry;
  mlir::Value lower, upper;
  llvm::DenseMap<mlir::Attribute, mlir::Value> constants;
  KernelLaunch launch;
};

/// The type that holds an element in memory: a byte for i1.
mlir::Type getStorageType(mlir::Type elementType);
/// The signless type of an unsigned integer's width: in kernels the operation says how bits are meant. Other types as they are.
mlir::Type getSignless(mlir::Type elementType);

/// Drops axes of size 1 and merges neighbours that every access walks as one.
void collapseAxes(llvm::SmallVectorImpl<int64_t> &shape, llvm::MutableArrayRef<Access> accesses);

/// A layout as an access over `shape`, to which it broadcasts by NumPy's rules.
Access broadcastAccess(unsigned argument, const TensorLayout &layout, llvm::ArrayRef<int64_t> shape, bool write = false);

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_KERNELBUILDER_H
