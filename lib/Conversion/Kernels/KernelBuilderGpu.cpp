//===- KernelBuilderGpu.cpp - outer iterations on groups of threads --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Memory-bound kernels live from wide, coalesced and independent accesses. So a thread handles vectors of 16 bytes or more; a row that fits into the registers of its group is straight-line code that
// reads each element once, whatever the number of passes; and the stores of a pass come after its loads, because a store may alias what is loaded next (results are written in place of operands), so
// no compiler moves a load across it.
//
//===----------------------------------------------------------------------===//

#include "KernelBuilder.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/Support/MathExtras.h"
#include <functional>
#include <limits>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

static constexpr int64_t kWarp = 32;
/// Threads of a block, where the work does not say otherwise: eight such blocks fill a multiprocessor.
static constexpr int64_t kBlockThreads = 256;
/// Threads that share a row at most; longer rows are loops.
static constexpr int64_t kRowThreads = 512;
/// Vectors a thread that are straight-line code.
static constexpr int64_t kUnrolledSteps = 4;
/// The memory space of what a block's threads share.
static constexpr unsigned kWorkgroupSpace = 3;

static int64_t bytesOf(Type elementType) { return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8); }

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

void KernelBuilder::spreadRow(int64_t n) {
  if (!isGpu())
    return;
  spread = Spread();
  spread.lanes = widest <= 4 ? 8 : 4;
  // Short rows keep the whole warp busy instead.
  while (spread.lanes > 1 && n < kWarp * spread.lanes)
    spread.lanes /= 2;
  int64_t vectors = llvm::divideCeil(n, spread.lanes);
  spread.threads = kWarp;
  if (vectors > kWarp * kUnrolledSteps)
    spread.threads = std::min<int64_t>(kRowThreads, llvm::PowerOf2Ceil(llvm::divideCeil(vectors, kUnrolledSteps)));
  spread.groups = spread.threads == kWarp ? kBlockThreads / kWarp : 1;
  spread.backwards = true;
}

int64_t KernelBuilder::spreadElements(int64_t n) {
  if (!isGpu())
    return n;
  spread = Spread();
  spread.lanes = widest <= 4 ? 8 : 4;
  if (n < kBlockThreads)
    while (n % spread.lanes != 0)
      spread.lanes /= 2;
  // Where an access would be narrower than 8 bytes, neighbouring threads take neighbouring elements.
  for (const View &view : lanedViews) {
    int64_t bytes = bytesOf(view.elementType);
    if (view.innerStride == 1 && pieceOf(view) * bytes < std::min<int64_t>(8, spread.lanes * bytes)) {
      spread.interleaved = true;
      break;
    }
  }
  int64_t vectors = llvm::divideCeil(n, spread.lanes);
  if (vectors <= kBlockThreads)
    spread.threads = vectors;
  else if (vectors <= 16 * kBlockThreads) // parts of equal size
    spread.threads = llvm::alignTo(llvm::divideCeil(vectors, llvm::divideCeil(vectors, kBlockThreads)), kWarp);
  else
    spread.threads = kBlockThreads;
  spread.groups = std::max<int64_t>(1, kBlockThreads / spread.threads);
  return spread.step();
}

void KernelBuilder::setBlock(int64_t threads, int64_t iterations) {
  kernel->setBlockThreads(threads);
  kernel->setBlockIterations(iterations);
  // Blocks that share a long row come two at a time to a multiprocessor: while one reduces its row, the other moves memory. It leaves 64 registers to a thread.
  if (int64_t residents = threads == kRowThreads ? 2 : spread.residents)
    kernel->setResidentBlocks(residents);
}

Value KernelBuilder::beginGpu() {
  const int64_t busy = spread.threads * spread.groups, iterations = spread.groups * spread.repeats;
  setBlock(llvm::alignTo(busy, kWarp), iterations);
  auto end = plan::ReturnOp::create(builder, loc);
  builder.setInsertionPoint(end);
  Value number = gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x), group = index(0);
  Value block = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x);
  if (spread.backwards)
    block = arith::SubIOp::create(builder, loc, add(gpu::GridDimOp::create(builder, loc, gpu::Dimension::x), -1), block);
  Value iteration = add(lower, mul(block, iterations));
  threadInGroup = number;
  if (spread.groups > 1) {
    SmallVector<Value> split = delinearize(number, {spread.groups, spread.threads});
    group = split[0];
    threadInGroup = split[1];
    iteration = add(iteration, group);
  }
  if (spread.repeats > 1) {
    auto loop = scf::ForOp::create(builder, loc, index(0), index(iterations), index(spread.groups));
    builder.setInsertionPointToStart(loop.getBody());
    iteration = add(iteration, loop.getInductionVar());
  }
  Value runs;
  if (iterations > 1)
    runs = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, iteration, upper);
  if (busy % kWarp != 0) {
    Value isBusy = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, number, index(busy));
    runs = runs ? Value(arith::AndIOp::create(builder, loc, runs, isBusy)) : isBusy;
  }
  if (runs) {
    auto branch = scf::IfOp::create(builder, loc, runs, /*withElseRegion=*/false);
    builder.setInsertionPointToStart(branch.thenBlock());
  }
  body = builder.getInsertionBlock();
  firstPlace = spread.interleaved ? add(threadInGroup, index(0)) : Value(arith::MulIOp::create(builder, loc, threadInGroup, index(spread.lanes)));
  return iteration;
}

Value KernelBuilder::beginBlock(int64_t iterations) {
  declareRange();
  setBlock(spread.threads, iterations);
  builder.setInsertionPoint(plan::ReturnOp::create(builder, loc));
  body = entry;
  threadInGroup = gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x);
  firstPlace = mul(threadInGroup, spread.lanes);
  return add(lower, mul(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x), iterations));
}

std::pair<Value, Value> KernelBuilder::beginShares(int64_t iterations) {
  beginBlock(iterations);
  Value all = arith::SubIOp::create(builder, loc, upper, lower), blocks = gpu::GridDimOp::create(builder, loc, gpu::Dimension::x), block = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x);
  auto share = [&](Value number) -> Value {
    return arith::AddIOp::create(builder, loc, lower, arith::DivUIOp::create(builder, loc, arith::MulIOp::create(builder, loc, all, number), blocks));
  };
  return {share(block), share(add(block, 1))};
}

KernelBuilder::Walk KernelBuilder::walk(int64_t iterations, int64_t perBlock, function_ref<SmallVector<Value>(Value)> init, function_ref<SmallVector<Value>(Value, Value, ValueRange)> step) {
  launch.extent = llvm::divideCeil(iterations, perBlock);
  launch.grain = 1;
  declareRange();
  setBlock(spread.threads * spread.groups, /*iterations=*/1);
  builder.setInsertionPoint(plan::ReturnOp::create(builder, loc));
  Walk result;
  result.number = gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x);
  result.group = index(0);
  threadInGroup = result.number;
  if (spread.groups > 1) {
    SmallVector<Value> split = delinearize(result.number, {spread.groups, spread.threads});
    result.group = split[0];
    threadInGroup = split[1];
  }
  firstPlace = arith::MulIOp::create(builder, loc, threadInGroup, index(spread.lanes));
  result.block = add(lower, gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
  // Places from the end on.
  const int64_t stride = launch.extent * spread.groups;
  auto at = [&](Value place) -> Value { return arith::SubIOp::create(builder, loc, index(iterations - 1), place); };
  Value first = add(mul(result.block, spread.groups), result.group), limit = index(iterations);
  Value start = first; // a group of the last block may have no iteration
  if (stride > iterations)
    start = arith::MinUIOp::create(builder, loc, first, index(iterations - 1));
  body = entry;
  SmallVector<Value> initial = init(at(start));
  loaded.clear();
  auto loop = scf::ForOp::create(builder, loc, first, limit, index(stride), initial);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    body = loop.getBody();
    Value place = loop.getInductionVar(), following = add(place, stride);
    Value next = arith::SelectOp::create(builder, loc, arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, following, limit), following, place);
    scf::YieldOp::create(builder, loc, step(at(place), at(next), loop.getRegionIterArgs()));
  }
  body = entry;
  loaded.clear();
  result.carried.assign(loop.getResults().begin(), loop.getResults().end());
  return result;
}

Value KernelBuilder::thread() { return threadInGroup; }

Value KernelBuilder::isLeader() { return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, threadInGroup, index(0)); }

void KernelBuilder::ifThen(Value condition, function_ref<void()> then) {
  auto branch = scf::IfOp::create(builder, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  then();
}

void KernelBuilder::barrier() { gpu::BarrierOp::create(builder, loc); }

Value KernelBuilder::isLast(const View &counters, Value counter, int64_t blocks) {
  Type i32 = builder.getI32Type();
  Value flag = workgroupMemory({1}, i32), number = gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x);
  auto word = [&](int32_t value) { return constant(builder.getI32IntegerAttr(value)); };
  barrier(); // What the block's threads have stored is before the arrival of its first, and that of the last block before what its threads load.
  ifThen(arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, number, index(0)), [&] {
    auto arrived = memref::AtomicRMWOp::create(builder, loc, arith::AtomicRMWKind::addi, word(1), counters.memref, counter);
    arrived->setAttr(plan::kOrdersMemoryAttr, builder.getUnitAttr());
    Value last = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, arrived, word(blocks - 1));
    memref::StoreOp::create(builder, loc, arith::ExtUIOp::create(builder, loc, i32, last), flag, ValueRange{index(0)});
    ifThen(last, [&] { memref::StoreOp::create(builder, loc, word(0), counters.memref, counter); });
  });
  barrier();
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, memref::LoadOp::create(builder, loc, flag, ValueRange{index(0)}), word(0));
}

Value KernelBuilder::workgroupMemory(ArrayRef<int64_t> shape, Type elementType) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(entry);
  auto type = MemRefType::get(shape, elementType, MemRefLayoutAttrInterface(), builder.getI64IntegerAttr(kWorkgroupSpace));
  return memref::AllocaOp::create(builder, loc, type, builder.getI64IntegerAttr(16));
}

Value KernelBuilder::shuffleXor(Value value, int64_t distance) {
  Type type = value.getType(), i32 = builder.getI32Type(), i64 = builder.getI64Type();
  auto shuffle = [&](Value word) -> Value { return gpu::ShuffleOp::create(builder, loc, word, distance, kWarp, gpu::ShuffleMode::XOR).getShuffleResult(); };
  if (type.isF32() || type.isInteger(32))
    return shuffle(value);
  if (type.getIntOrFloatBitWidth() < 32)
    return arith::TruncIOp::create(builder, loc, type, shuffle(arith::ExtUIOp::create(builder, loc, i32, value)));
  // Two words.
  Value bits = type.isInteger(64) ? value : Value(arith::BitcastOp::create(builder, loc, i64, value));
  Value half = constant(builder.getI64IntegerAttr(32));
  Value low = shuffle(arith::TruncIOp::create(builder, loc, i32, bits));
  Value high = shuffle(arith::TruncIOp::create(builder, loc, i32, arith::ShRUIOp::create(builder, loc, bits, half)));
  bits = arith::OrIOp::create(builder, loc, arith::ExtUIOp::create(builder, loc, i64, low),
                              arith::ShLIOp::create(builder, loc, arith::ExtUIOp::create(builder, loc, i64, high), half));
  return type.isInteger(64) ? bits : Value(arith::BitcastOp::create(builder, loc, type, bits));
}

Value KernelBuilder::groupReduce(Combine kind, Value value) {
  // Both sides of an exchange add the same two numbers, so all threads have the same bits.
  auto exchange = [&](int64_t width) {
    for (int64_t distance = width / 2; distance > 0; distance /= 2)
      value = combine(kind, value, shuffleXor(value, distance));
  };
  exchange(std::min(spread.threads, kWarp));
  if (spread.threads <= kWarp)
    return value;
  const int64_t warps = spread.threads / kWarp;
  Value memory = workgroupMemory({warps}, value.getType());
  Value lane = arith::RemUIOp::create(builder, loc, threadInGroup, index(kWarp)), warp = arith::DivUIOp::create(builder, loc, threadInGroup, index(kWarp));
  ifThen(arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, lane, index(0)), [&] { memref::StoreOp::create(builder, loc, value, memory, warp); });
  barrier();
  value = memref::LoadOp::create(builder, loc, memory, ValueRange{arith::RemUIOp::create(builder, loc, lane, index(warps))});
  exchange(warps);
  // The next round of a loop writes the same memory.
  if (builder.getInsertionBlock()->getParentOp()->getParentOfType<scf::ForOp>() || isa<scf::ForOp>(builder.getInsertionBlock()->getParentOp()))
    barrier();
  return value;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// While one of these lives, stores wait for its end.
struct KernelBuilder::StoresLast {
  explicit StoresLast(KernelBuilder &kernel) : kernel(kernel), outer(std::exchange(kernel.storesLast, this)) {}
  ~StoresLast() {
    kernel.storesLast = nullptr;
    for (const std::function<void()> &store : stores)
      store();
    kernel.storesLast = outer;
  }
  KernelBuilder &kernel;
  StoresLast *outer;
  std::vector<std::function<void()>> stores;
};

Lanes KernelBuilder::lanesBelow(Value i, Value limit, bool together, bool ragged) {
  Lanes lanes;
  lanes.limit = limit;
  lanes.together = together && !spread.interleaved;
  lanes.ragged = ragged;
  auto below = [&](Value place) -> Value { return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, place, limit); };
  if (lanes.together) {
    lanes.whole = below(i);
    lanes.mask = broadcast(lanes.whole);
    return lanes;
  }
  int64_t reach = spread.interleaved ? spread.step() - spread.threads : spread.lanes - 1; // the last lane's distance
  lanes.whole = below(add(i, reach));
  Value rest = arith::MinSIOp::create(builder, loc, arith::SubIOp::create(builder, loc, limit, i), index(reach + 1));
  Type i32 = builder.getI32Type();
  rest = arith::IndexCastOp::create(builder, loc, i32, arith::MaxSIOp::create(builder, loc, rest, index(0)));
  lanes.mask = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, laneNumbers(i32), broadcast(rest));
  return lanes;
}

/// Elements of one access of a thread.
int64_t KernelBuilder::pieceOf(const View &view) const {
  if (spread.interleaved || view.innerStride != 1)
    return 1;
  int64_t bytes = bytesOf(view.elementType);
  if (view.alignment >= std::min<int64_t>(16, spread.lanes * bytes))
    return spread.lanes;
  return std::max<int64_t>(1, view.alignment / bytes);
}

Value KernelBuilder::loadPieces(const View &view, ValueRange indices) {
  Type storage = getStorageType(view.elementType);
  auto type = VectorType::get({spread.lanes}, storage);
  int64_t piece = pieceOf(view);
  if (piece == 1) {
    SmallVector<Value> elements;
    for (int64_t lane = 0; lane < spread.lanes; ++lane)
      elements.push_back(memref::LoadOp::create(builder, loc, view.memref, selectIndices(view, indices, lane)));
    return vector::FromElementsOp::create(builder, loc, type, elements);
  }
  int64_t alignment = std::min<int64_t>(16, piece * bytesOf(storage));
  SmallVector<Value> elements;
  for (int64_t lane = 0; lane < spread.lanes; lane += piece) {
    auto load = vector::LoadOp::create(builder, loc, VectorType::get({piece}, storage), view.memref, selectIndices(view, indices, lane));
    load->setAttr("alignment", builder.getI64IntegerAttr(alignment));
    if (piece == spread.lanes)
      return load;
    for (int64_t part = 0; part < piece; ++part)
      elements.push_back(vector::ExtractOp::create(builder, loc, load, part));
  }
  return vector::FromElementsOp::create(builder, loc, type, elements);
}

/// One element a lane; lanes beyond the row's end read its last element.
Value KernelBuilder::loadEach(const View &view, ValueRange indices, const Lanes &lanes) {
  SmallVector<Value> elements, at(indices);
  Value last = add(lanes.limit, -1);
  for (int64_t lane = 0; lane < spread.lanes; ++lane) {
    at.back() = arith::MinSIOp::create(builder, loc, add(indices.back(), spread.interleaved ? lane * spread.threads : lane), last);
    elements.push_back(memref::LoadOp::create(builder, loc, view.memref, selectIndices(view, at)));
  }
  return vector::FromElementsOp::create(builder, loc, VectorType::get({spread.lanes}, getStorageType(view.elementType)), elements);
}

Value KernelBuilder::loadLanes(const View &view, Value i, const Lanes &lanes, function_ref<SmallVector<Value>(Value)> at) {
  SmallVector<Value> elements;
  for (int64_t lane = 0; lane < spread.lanes; ++lane) {
    Value place = add(i, lane);
    if (lanes.limit)
      place = arith::MinSIOp::create(builder, loc, place, add(lanes.limit, -1));
    elements.push_back(loadScalar(view, at(place)));
  }
  return vector::FromElementsOp::create(builder, loc, VectorType::get({spread.lanes}, view.elementType), elements);
}

Value KernelBuilder::loadGpu(const View &view, ValueRange indices, const Lanes &lanes) {
  // Entries are made in the iteration's own block, before whatever is written now.
  SmallVector<Value, 4> key = {view.memref};
  for (auto [axis, place] : llvm::enumerate(indices))
    if (llvm::is_contained(view.axes, axis))
      key.push_back(place);
  if (!view.write)
    if (Value known = loaded.lookup(key))
      return known;
  Value value;
  if (!view.hasInner) {
    value = broadcast(loadScalar(view, indices));
  } else {
    if (lanes.full()) {
      value = loadPieces(view, indices);
    } else if (lanes.together) { // beyond the end: the last elements
      SmallVector<Value> at(indices);
      at.back() = arith::MinSIOp::create(builder, loc, at.back(), add(lanes.limit, -spread.lanes));
      value = loadPieces(view, at);
    } else if (lanes.ragged || pieceOf(view) == 1) {
      value = loadEach(view, indices, lanes);
    } else {
      auto branch = scf::IfOp::create(builder, loc, TypeRange(VectorType::get({spread.lanes}, getStorageType(view.elementType))), lanes.whole, /*withElseRegion=*/true);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(branch.thenBlock());
      scf::YieldOp::create(builder, loc, loadPieces(view, indices));
      builder.setInsertionPointToStart(branch.elseBlock());
      scf::YieldOp::create(builder, loc, loadEach(view, indices, lanes));
      value = branch.getResult(0);
    }
    if (view.elementType.isInteger(1))
      value = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, value, constant(cast<TypedAttr>(builder.getZeroAttr(value.getType()))));
  }
  if (!view.write && builder.getInsertionBlock() == body)
    loaded[key] = value;
  return value;
}

void KernelBuilder::storePieces(Value value, const View &view, ValueRange indices) {
  int64_t piece = pieceOf(view), alignment = std::min<int64_t>(16, piece * bytesOf(view.elementType));
  for (int64_t lane = 0; lane < spread.lanes; lane += piece) {
    SmallVector<Value> selected = selectIndices(view, indices, lane);
    if (piece == 1) {
      memref::StoreOp::create(builder, loc, vector::ExtractOp::create(builder, loc, value, lane), view.memref, selected);
      continue;
    }
    Value part = value;
    if (piece != spread.lanes)
      part = vector::ShuffleOp::create(builder, loc, value, value, llvm::to_vector(llvm::seq<int64_t>(lane, lane + piece)));
    auto store = vector::StoreOp::create(builder, loc, part, view.memref, selected);
    store->setAttr("alignment", builder.getI64IntegerAttr(alignment));
  }
}

void KernelBuilder::storeEach(Value value, const View &view, ValueRange indices, const Lanes &lanes) {
  for (int64_t lane = 0; lane < spread.lanes; ++lane) {
    SmallVector<Value> selected = selectIndices(view, indices, lane);
    ifThen(vector::ExtractOp::create(builder, loc, lanes.mask, lane),
           [&] { memref::StoreOp::create(builder, loc, vector::ExtractOp::create(builder, loc, value, lane), view.memref, selected); });
  }
}

void KernelBuilder::storeGpu(Value value, const View &view, ValueRange indices, const Lanes &lanes) {
  if (storesLast) {
    storesLast->stores.push_back([this, value, view, at = SmallVector<Value>(indices), lanes] { storeGpu(value, view, at, lanes); });
    return;
  }
  if (view.elementType.isInteger(1))
    value = arith::ExtUIOp::create(builder, loc, VectorType::get({spread.lanes}, builder.getI8Type()), value);
  if (!view.hasInner) { // one element wide
    auto element = [&] { memref::StoreOp::create(builder, loc, vector::ExtractOp::create(builder, loc, value, 0), view.memref, selectIndices(view, indices)); };
    if (lanes.full())
      return element();
    return ifThen(vector::ExtractOp::create(builder, loc, lanes.mask, 0), element);
  }
  if (lanes.full())
    return storePieces(value, view, indices);
  if (lanes.together)
    return ifThen(lanes.whole, [&] { storePieces(value, view, indices); });
  if (lanes.ragged || pieceOf(view) == 1)
    return storeEach(value, view, indices, lanes);
  auto branch = scf::IfOp::create(builder, loc, lanes.whole, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  storePieces(value, view, indices);
  builder.setInsertionPointToStart(branch.elseBlock());
  storeEach(value, view, indices, lanes);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// The thread's first place in the part of a row that begins at `base`: the same value each time, so that loads there are found again.
Value KernelBuilder::placeAt(int64_t base) {
  if (base == 0)
    return firstPlace;
  Value &place = places[base];
  if (!place) {
    OpBuilder::InsertionGuard guard(builder);
    Value distance = index(base);
    builder.setInsertionPointAfterValue(firstPlace);
    place = add(firstPlace, distance);
  }
  return place;
}

bool KernelBuilder::fitsRegisters(int64_t n) const { return n <= kUnrolledSteps * spread.step(); }

SmallVector<std::pair<Value, Lanes>> KernelBuilder::vectorsOfRow(int64_t n, int64_t from) {
  const int64_t step = spread.step(), whole = n / step * step;
  SmallVector<std::pair<Value, Lanes>> vectors;
  for (int64_t base = from; base < whole; base += step)
    vectors.push_back({placeAt(base), Lanes{}});
  if (whole != n)
    vectors.push_back({placeAt(whole), lanesBelow(placeAt(whole), index(n), n % spread.lanes == 0)});
  return vectors;
}

void KernelBuilder::runLanes(Value i, Value limit, bool together, LaneBody laneBody) {
  auto run = [&](const Lanes &lanes) {
    StoresLast stores(*this);
    laneBody(i, lanes);
  };
  if (!limit)
    return run(Lanes{});
  Lanes lanes = lanesBelow(i, limit, together);
  if (lanes.together)
    return ifThen(lanes.whole, [&] { run(Lanes{}); });
  lanes.ragged = true;
  auto branch = scf::IfOp::create(builder, loc, lanes.whole, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  run(Lanes{});
  builder.setInsertionPointToStart(branch.elseBlock());
  ifThen(arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, i, limit), [&] { run(lanes); });
}

/// `from` is a multiple of all unrolled steps.
void KernelBuilder::forLanesGpu(int64_t from, int64_t n, LaneBody laneBody) {
  const int64_t step = spread.step(), whole = n / step * step;
  bool together = n % spread.lanes == 0 && !spread.interleaved;
  if (n - from <= kUnrolledSteps * step) {
    {
      StoresLast stores(*this);
      for (int64_t base = from; base < whole; base += step)
        laneBody(placeAt(base), Lanes{});
      if (whole != n && together)
        laneBody(placeAt(whole), lanesBelow(placeAt(whole), index(n), together));
    }
    if (whole != n && !together)
      runLanes(placeAt(whole), index(n), together, laneBody);
    return;
  }
  const int64_t unrolled = whole / (kUnrolledSteps * step) * (kUnrolledSteps * step);
  forRange(index(from), index(unrolled), kUnrolledSteps * step, [&](Value base) {
    StoresLast stores(*this);
    for (int64_t part = 0; part < kUnrolledSteps; ++part)
      laneBody(add(base, placeAt(part * step)), Lanes{});
  });
  for (int64_t base = unrolled; base < whole; base += step)
    runLanes(placeAt(base), Value(), together, laneBody);
  if (whole != n)
    runLanes(placeAt(whole), index(n), together, laneBody);
}

void KernelBuilder::forLanesBetween(Value low, Value high, int64_t n, LaneBody laneBody) {
  bool together = n % spread.lanes == 0;
  forRange(low, high, spread.step(), [&](Value base) { runLanes(add(base, placeAt(0)), n % spread.step() == 0 ? Value() : index(n), together, laneBody); });
}

/// `from` is a multiple of all unrolled steps.
SmallVector<Value> KernelBuilder::foldRow(int64_t from, int64_t n, ArrayRef<Value> init, FoldBody fold) {
  const int64_t step = spread.step(), whole = n / step * step;
  SmallVector<Value> carried(init);
  int64_t done = from;
  if (n - from > kUnrolledSteps * step) {
    done = whole / (kUnrolledSteps * step) * (kUnrolledSteps * step);
    auto loop = scf::ForOp::create(builder, loc, index(from), index(done), index(kUnrolledSteps * step), carried);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    SmallVector<std::pair<Value, Lanes>> vectors;
    for (int64_t part = 0; part < kUnrolledSteps; ++part)
      vectors.push_back({add(loop.getInductionVar(), placeAt(part * step)), Lanes{}});
    scf::YieldOp::create(builder, loc, fold(vectors, SmallVector<Value>(loop.getRegionIterArgs())));
    carried.assign(loop.getResults().begin(), loop.getResults().end());
  }
  SmallVector<std::pair<Value, Lanes>> vectors = vectorsOfRow(n, done);
  return vectors.empty() ? carried : fold(vectors, carried);
}

SmallVector<Value> KernelBuilder::reduceRowGpu(int64_t n, ArrayRef<Combine> kinds, Type type, function_ref<SmallVector<Value>(Value, Lanes)> terms) {
  SmallVector<Value> identities = llvm::map_to_vector(kinds, [&](Combine kind) { return identity(kind, type); });
  SmallVector<Value> partial = foldRow(0, n, identities, [&](ArrayRef<std::pair<Value, Lanes>> vectors, ArrayRef<Value> carried) {
    SmallVector<Value> next(carried);
    for (auto &[i, lanes] : vectors) {
      SmallVector<Value> block = terms(i, lanes);
      for (size_t k = 0; k < kinds.size(); ++k) {
        Value term = keepValid(block[k], identities[k], lanes);
        next[k] = next[k] == identities[k] ? term : combine(kinds[k], next[k], term);
      }
    }
    return next;
  });
  SmallVector<Value> results;
  for (size_t k = 0; k < kinds.size(); ++k)
    results.push_back(groupReduce(kinds[k], horizontal(kinds[k], partial[k])));
  return results;
}

Value KernelBuilder::owns(Value place) {
  Value vector = spread.interleaved ? place : Value(arith::DivUIOp::create(builder, loc, place, index(spread.lanes)));
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, arith::RemUIOp::create(builder, loc, vector, index(spread.threads)), threadInGroup);
}

/// Of what a block may share on every GPU (99 KiB); on an H100 two such blocks run at once.
static constexpr int64_t kKeptBytes = 96 << 10;

KernelBuilder::KeptRow KernelBuilder::keepRow(int64_t n, Type elementType) {
  const int64_t part = kUnrolledSteps * spread.step();
  KeptRow kept;
  if (spread.groups == 1 && !spread.interleaved && !fitsRegisters(n))
    kept.count = std::min(n, kKeptBytes / bytesOf(elementType)) / part * part;
  if (kept.count)
    kept.memory = workgroupMemory({kept.count}, getStorageType(elementType));
  return kept;
}

Value KernelBuilder::loadFrom(Source source, const KeptRow &kept, const View &view, ValueRange indices, Lanes lanes) {
  auto aligned = [&](auto op) {
    op->setAttr("alignment", builder.getI64IntegerAttr(std::min<int64_t>(16, spread.lanes * bytesOf(view.elementType))));
    return op;
  };
  if (source == Source::Kept)
    return aligned(vector::LoadOp::create(builder, loc, VectorType::get({spread.lanes}, getStorageType(view.elementType)), kept.memory, indices.back()));
  Value value = load(view, indices, lanes);
  if (source == Source::Keep)
    aligned(vector::StoreOp::create(builder, loc, value, kept.memory, indices.back()));
  return value;
}

void KernelBuilder::forLanesOfKept(int64_t n, const KeptRow &kept, function_ref<void(Value, Lanes, Source)> laneBody) {
  if (kept.count)
    forLanesGpu(0, kept.count, [&](Value i, Lanes lanes) { laneBody(i, lanes, Source::Kept); });
  if (kept.count < n)
    forLanesGpu(kept.count, n, [&](Value i, Lanes lanes) { laneBody(i, lanes, Source::Memory); });
}

std::pair<Value, Value> KernelBuilder::reduceLogSumExp(int64_t n, Type type, bool narrow, const KeptRow &kept, SourceLoad load) {
  // The least finite number instead of -infinity: a difference of two of them would be NaN. Where elements are narrow, its product with log2 e must be finite too; less counts as -infinity.
  double lowest = type.isF64() ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
  if (narrow)
    lowest /= 2;
  Value hidden = splat(-std::numeric_limits<double>::infinity(), type);
  Source source = kept.count ? Source::Keep : Source::Memory;
  auto fold = [&](ArrayRef<std::pair<Value, Lanes>> vectors, ArrayRef<Value> carried) -> SmallVector<Value> {
    SmallVector<Value> values;
    for (auto &[i, lanes] : vectors)
      values.push_back(keepValid(load(i, lanes, source), hidden, lanes));
    Value largest = values.front();
    for (Value value : ArrayRef(values).drop_front())
      largest = maxF(largest, value);
    Value max = maxF(carried[0], horizontal(Combine::Max, largest)), maxes = broadcast(max);
    Value sums;
    for (Value value : values) {
      Value terms = expOfDifference(value, maxes, narrow);
      sums = sums ? addF(sums, terms) : terms;
    }
    Value earlier = mulF(carried[1], expOfDifference(carried[0], max, narrow));
    return {max, addF(earlier, horizontal(Combine::Sum, sums))};
  };
  SmallVector<Value> partial = {scalar(lowest, type), scalar(0, type)};
  if (kept.count)
    partial = foldRow(0, kept.count, partial, fold);
  source = Source::Memory;
  if (kept.count < n)
    partial = foldRow(kept.count, n, partial, fold);
  Value max = groupReduce(Combine::Max, partial[0]);
  return {max, groupReduce(Combine::Sum, mulF(partial[1], expOfDifference(partial[0], max, narrow)))};
}

Value KernelBuilder::reduceLanesBetween(Combine kind, Value low, Value high, int64_t n, Type type, function_ref<Value(Value, Lanes)> terms) {
  auto loop = scf::ForOp::create(builder, loc, low, high, index(spread.step()), identity(kind, type));
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value i = add(loop.getInductionVar(), placeAt(0));
    Lanes lanes = n % spread.step() == 0 ? Lanes{} : lanesBelow(i, index(n), n % spread.lanes == 0);
    scf::YieldOp::create(builder, loc, combine(kind, loop.getRegionIterArg(0), keepValid(terms(i, lanes), identity(kind, type), lanes)));
  }
  return groupReduce(kind, horizontal(kind, loop.getResult(0)));
}
