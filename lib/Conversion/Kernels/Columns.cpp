//===- Columns.cpp - reductions over rows, on GPUs -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A block sums a part of the rows, a chunk, for a warp's width of columns: each of its threads every 8th row (or so) in registers, then the threads of a column in workgroup memory. Where there is more
// than one chunk, their results are a workspace, whose columns the last block that comes to its end sums, or where it would have too much to read, a second launch of the same form. Both have the same order, which depends on
// the number of rows and columns alone.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

/// Blocks that are on an H100 at once, four a multiprocessor, as 64 registers a thread allow: a few more would run alone at the end.
static constexpr int64_t kBlocksPerProcessor = 4, kBlocks = 132 * kBlocksPerProcessor;
/// Rows that a thread should at least have.
static constexpr int64_t kRowsPerThread = 16;
/// Bytes of a thread's loads that are in flight together, and rows that these are of at least and at most.
static constexpr int64_t kBytesInFlight = 64, kLeastUnroll = 4, kMostUnroll = 16;
/// Bytes of partial results that the last block of some columns reads at most. A launch of its own costs 1 to 1.5 us between two commands and 2 to 3 us to begin, read a few results and end; a block that goes on needs about 1 us to
/// find that it is the last and 0.7 us until the first results come, and one multiprocessor reads 50 to 60 bytes a ns from the second cache: 80 KiB more take 1.5 us.
static constexpr int64_t kMostTail = 80 << 10;
/// Columns that a block should have where it has fewer than its threads could: rows of 64 bytes in 16 bits.
static constexpr int64_t kLeastColumns = 32;
/// Registers of a thread, of 32 bits, that hold sums of the tail.
static constexpr int64_t kTailSums = 32;

namespace {

/// The threads of a block as columns (neighbouring threads) by slots of rows.
struct Tile {
  int64_t threads, lanes, columnThreads, unroll;

  Tile(int64_t threads, int64_t lanes, int64_t columns, int64_t elementBytes) : threads(threads), lanes(lanes) {
    // Few columns: a warp has several rows, as long as accesses stay wide and whole. A quarter of it at least has columns.
    while (this->lanes > 1 && columns < 32 * this->lanes && (columns < 8 * this->lanes || columns % this->lanes != 0))
      this->lanes /= 2;
    columnThreads = std::min<int64_t>(32, llvm::PowerOf2Ceil(llvm::divideCeil(columns, this->lanes)));
    unroll = std::clamp<int64_t>(kBytesInFlight / (this->lanes * elementBytes), kLeastUnroll, kMostUnroll);
  }
  int64_t columns() const { return columnThreads * lanes; }
  int64_t slots() const { return threads / columnThreads; }
  bool canNarrow() const { return columns() > kLeastColumns && columnThreads > 1; }
  /// Half as many columns by twice as many rows.
  Tile narrowed() const {
    Tile half = *this;
    half.columnThreads /= 2;
    return half;
  }
};

struct Launch {
  const ColumnReduction &reduction;
  Tile tile;
  int64_t rows, chunks;

  /// What the last block does with the partial results of all chunks.
  struct Tail {
    ArrayRef<View> partials;
    View counters;
    llvm::function_ref<void(ArrayRef<Value> totals, ValueRange outer, Value column)> store;
  };
  using Terms = llvm::function_ref<SmallVector<Value>(ValueRange outer, Value row, Value column, const Lanes &lanes)>;
  using Store = llvm::function_ref<void(ArrayRef<Value> totals, ValueRange outer, Value chunk, Value column)>;
  void write(KernelBuilder &kernel, Terms terms, Store store, const Tail *tail = nullptr);

private:
  /// The columns of a block, and where its threads leave what one of each column adds up.
  struct Place {
    SmallVector<Value> outer;
    Value columnChunk, firstColumn, slot, place, column, memory;
    Lanes lanes;
  };
  void leave(KernelBuilder &kernel, const Place &at, ArrayRef<Value> sums);
  /// By one thread a column: the first `slots` of what was left, in order, behind `earlier`, or from the first of them on.
  void addUp(KernelBuilder &kernel, const Place &at, int64_t slots, Value earlier, llvm::function_ref<void(Value number, Value column, ArrayRef<Value> totals)> finish);
  void writeTail(KernelBuilder &kernel, const Place &at, const Tail &tail);
};

} // namespace

/// How a launch of its own sums the partial results of `chunks` chunks.
static Tile totalTile(const ColumnReduction &reduction, int64_t chunks) {
  return Tile(/*threads=*/chunks > 64 ? 1024 : 256, /*lanes=*/1, reduction.columns, llvm::divideCeil(reduction.type.getIntOrFloatBitWidth(), 8));
}

/// The body of a kernel whose arguments are declared.
void Launch::write(KernelBuilder &kernel, Terms terms, Store store, const Tail *tail) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  const int64_t columns = reduction.columns, columnChunks = llvm::divideCeil(columns, tile.columns());
  const int64_t slots = tile.slots();
  const size_t width = reduction.results;
  SmallVector<int64_t> outerShape = reduction.outer;
  outerShape.append({chunks, columnChunks});
  Spread spread{tile.lanes, tile.threads};
  if (chunks > 1)
    spread.residents = kBlocksPerProcessor;
  kernel.setSpread(spread);
  SmallVector<Value> outer = kernel.delinearize(kernel.begin(countElements(outerShape), 1), outerShape);
  Value columnChunk = outer.pop_back_val(), chunk = outer.pop_back_val();
  SmallVector<Value> split = kernel.delinearize(kernel.thread(), {slots, tile.columnThreads});
  Value slot = split[0], place = kernel.mul(split[1], tile.lanes), firstColumn = kernel.mul(columnChunk, tile.columns());
  Value column = kernel.add(firstColumn, place);
  Lanes lanes;
  if (columns % tile.columns() != 0)
    lanes = kernel.lanesBelow(column, kernel.index(columns), columns % tile.lanes == 0);

  // Rounds from the last to the first, in each of which the chunks have neighbouring units: together they read the tensor from its end, which a cache still holds where it has just been written. What is no whole round is
  // shared out evenly, and read first. In a unit a thread has the rows slot, slot + slots, ...
  const int64_t unit = slots * tile.unroll, rounds = rows / (chunks * unit), left = rows - rounds * chunks * unit, share = llvm::divideCeil(left, chunks);
  auto sumRows = [&](Value first, Value count, ValueRange init) { // of a unit whose first row of the thread this is; count: null, or how many it has
    SmallVector<SmallVector<Value>> loaded;
    for (int64_t part = 0; part < tile.unroll; ++part) {
      Value number = kernel.index(part); // behind the last, the last again, which does not count
      if (count && part > 0)
        number = arith::MinUIOp::create(b, loc, number, kernel.add(count, -1));
      loaded.push_back(terms(outer, kernel.add(first, kernel.mul(number, slots)), column, lanes));
    }
    SmallVector<Value> sums(init);
    for (auto [part, row] : llvm::enumerate(loaded)) {
      Value counts;
      if (count && part > 0)
        counts = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, kernel.index(part), count);
      for (size_t k = 0; k < width; ++k) {
        Value sum = kernel.combine(reduction.kind, sums[k], row[k]);
        sums[k] = counts ? Value(arith::SelectOp::create(b, loc, counts, sum, sums[k])) : sum;
      }
    }
    scf::YieldOp::create(b, loc, sums);
  };
  SmallVector<Value> sums(width, kernel.identity(reduction.kind, reduction.type));
  if (left > 0) {
    Value low = kernel.add(kernel.mul(chunk, share), rounds * chunks * unit);
    Value end = arith::MinUIOp::create(b, loc, kernel.add(low, share), kernel.index(rows));
    low = kernel.add(low, slot);
    Value rest = arith::MaxSIOp::create(b, loc, arith::SubIOp::create(b, loc, end, low), kernel.index(0));
    Value count = arith::DivUIOp::create(b, loc, kernel.add(rest, slots - 1), kernel.index(slots));
    Value hasRest = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, count, kernel.index(0));
    auto branch = scf::IfOp::create(b, loc, ValueRange(sums).getTypes(), hasRest, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    sumRows(low, count, sums);
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, sums);
    sums.assign(branch.getResults().begin(), branch.getResults().end());
  }
  if (rounds > 0) {
    auto loop = scf::ForOp::create(b, loc, kernel.index(0), kernel.index(rounds), kernel.index(1), sums);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value round = arith::SubIOp::create(b, loc, kernel.index(rounds - 1), loop.getInductionVar());
    sumRows(kernel.add(kernel.mul(kernel.add(kernel.mul(round, chunks), chunk), unit), slot), Value(), loop.getRegionIterArgs());
    sums.assign(loop.getResults().begin(), loop.getResults().end());
  }

  Place at{outer, columnChunk, firstColumn, slot, place, column, kernel.workgroupMemory({static_cast<int64_t>(width), slots, tile.columns()}, reduction.type), lanes};
  leave(kernel, at, sums);
  kernel.barrier();
  addUp(kernel, at, slots, Value(), [&](Value, Value own, ArrayRef<Value> totals) { store(totals, outer, chunk, own); });
  if (tail)
    writeTail(kernel, at, *tail);
}

void Launch::leave(KernelBuilder &kernel, const Place &at, ArrayRef<Value> sums) {
  OpBuilder &b = kernel.builder;
  for (auto [k, sum] : llvm::enumerate(sums)) {
    auto store = vector::StoreOp::create(b, kernel.loc, sum, at.memory, ValueRange{kernel.index(k), at.slot, at.place});
    store->setAttr("alignment", b.getI64IntegerAttr(std::min<int64_t>(16, tile.lanes * llvm::divideCeil(reduction.type.getIntOrFloatBitWidth(), 8))));
  }
}

void Launch::addUp(KernelBuilder &kernel, const Place &at, int64_t slots, Value earlier, llvm::function_ref<void(Value, Value, ArrayRef<Value>)> finish) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  kernel.forRange(kernel.thread(), kernel.index(tile.columns()), tile.threads, [&](Value number) {
    Value own = kernel.add(at.firstColumn, number);
    auto sum = [&] {
      SmallVector<Value> totals;
      for (size_t k = 0; k < reduction.results; ++k) {
        Value first = earlier ? memref::LoadOp::create(b, loc, earlier, ValueRange{kernel.index(k), number}) : memref::LoadOp::create(b, loc, at.memory, ValueRange{kernel.index(k), kernel.index(0), number});
        auto loop = scf::ForOp::create(b, loc, kernel.index(earlier ? 0 : 1), kernel.index(slots), kernel.index(1), first);
        {
          OpBuilder::InsertionGuard guard(b);
          b.setInsertionPointToStart(loop.getBody());
          Value next = memref::LoadOp::create(b, loc, at.memory, ValueRange{kernel.index(k), loop.getInductionVar(), number});
          scf::YieldOp::create(b, loc, kernel.combine(reduction.kind, loop.getRegionIterArg(0), next));
        }
        totals.push_back(loop.getResult(0));
      }
      finish(number, own, totals);
    };
    if (reduction.columns % tile.columns() == 0)
      sum();
    else
      kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, own, kernel.index(reduction.columns)), sum);
  });
}

/// In the order of a launch of its own: that has so many slots, of which a thread here has one or, in rounds, several.
void Launch::writeTail(KernelBuilder &kernel, const Place &at, const Tail &tail) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  const Tile total = totalTile(reduction, chunks);
  const int64_t width = reduction.results, slots = std::min(tile.slots(), total.slots()), rounds = total.slots() / slots;
  Value counter = kernel.index(0);
  for (auto [coordinate, size] : llvm::zip_equal(at.outer, reduction.outer))
    counter = kernel.add(kernel.mul(counter, size), coordinate);
  counter = kernel.add(kernel.mul(counter, llvm::divideCeil(reduction.columns, tile.columns())), at.columnChunk);
  // The places of a slot's rows behind its first, as `write` takes them: what is no whole unit, then units from the last to the first.
  const int64_t unit = total.slots() * total.unroll, left = chunks % unit;
  SmallVector<int64_t> places;
  for (int64_t row = chunks - left; row < chunks; row += total.slots())
    places.push_back(row);
  for (int64_t first = chunks - left - unit; first >= 0; first -= unit)
    for (int64_t part = 0; part < total.unroll; ++part)
      places.push_back(first + part * total.slots());
  const int64_t bytes = tile.lanes * llvm::divideCeil(reduction.type.getIntOrFloatBitWidth(), 8), together = std::clamp<int64_t>(2 * kBytesInFlight / (bytes * width), 2, kMostUnroll);
  auto sumSlot = [&](Value slot) {
    SmallVector<Value> sums(width, kernel.identity(reduction.kind, reduction.type));
    for (ArrayRef<int64_t> rest = places; !rest.empty(); rest = rest.drop_front(std::min<int64_t>(together, rest.size()))) {
      SmallVector<std::pair<Value, SmallVector<Value>>> loaded; // whether it counts, null where it does; the terms
      for (int64_t place : rest.take_front(together)) {
        Value row = kernel.add(slot, place), counts;
        if (place + total.slots() > chunks) {
          counts = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, row, kernel.index(chunks));
          row = arith::MinUIOp::create(b, loc, row, kernel.index(chunks - 1));
        }
        SmallVector<Value> from = {row};
        from.append(at.outer.begin(), at.outer.end());
        from.push_back(at.column);
        loaded.push_back({counts, llvm::map_to_vector(tail.partials, [&](const View &view) { return kernel.load(view, from, at.lanes); })});
      }
      for (auto &[counts, terms] : loaded)
        for (int64_t k = 0; k < width; ++k) {
          Value sum = kernel.combine(reduction.kind, sums[k], terms[k]);
          sums[k] = counts ? Value(arith::SelectOp::create(b, loc, counts, sum, sums[k])) : sum;
        }
    }
    return sums;
  };
  Value earlier = rounds > 1 ? kernel.workgroupMemory({width, tile.columns()}, reduction.type) : Value();
  kernel.ifThen(kernel.isLast(tail.counters, counter, chunks), [&] {
    const int64_t ahead = std::clamp<int64_t>(kTailSums * 4 / (bytes * width), 1, rounds); // rounds whose results are loaded together
    SmallVector<SmallVector<Value>> sums;
    for (int64_t round = 0; round < rounds; ++round) {
      if (sums.empty() && slots == tile.slots())
        for (int64_t next = round; next < std::min(round + ahead, rounds); ++next)
          sums.push_back(sumSlot(kernel.add(at.slot, next * slots)));
      if (round > 0)
        kernel.barrier(); // what was left before has been added up
      if (slots == tile.slots()) {
        leave(kernel, at, sums.front());
        sums.erase(sums.begin());
      } else {
        kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, at.slot, kernel.index(slots)), [&] { leave(kernel, at, sumSlot(at.slot)); });
      }
      kernel.barrier();
      addUp(kernel, at, slots, round > 0 ? earlier : Value(), [&](Value number, Value own, ArrayRef<Value> totals) {
        if (round + 1 == rounds)
          return tail.store(totals, at.outer, own);
        for (auto [k, sum] : llvm::enumerate(totals))
          memref::StoreOp::create(b, loc, sum, earlier, ValueRange{kernel.index(k), number});
      });
    }
  });
}

static SmallVector<int64_t> resultShape(const ColumnReduction &reduction) {
  SmallVector<int64_t> shape = reduction.outer;
  shape.push_back(reduction.columns);
  return shape;
}

SmallVector<View> kernels::declareColumnResults(KernelBuilder &kernel, const ColumnReduction &reduction) {
  if (reduction.declareFinish)
    reduction.declareFinish(kernel);
  return llvm::map_to_vector(reduction.destinations,
                             [&](const Access &access) { return kernel.argument(access, resultShape(reduction)); });
}

void kernels::storeColumnResults(KernelBuilder &kernel, const ColumnReduction &reduction, ArrayRef<View> views,
                                 ArrayRef<Value> totals, ValueRange outer, Value column) {
  SmallVector<Value> at(outer);
  at.push_back(column);
  SmallVector<Value> results = reduction.finish ? reduction.finish(kernel, totals, outer, column) : SmallVector<Value>(totals);
  for (auto [value, view] : llvm::zip(results, views))
    kernel.storeHere(kernel.convert(value, view.elementType), view, at);
}

/// Partial results lie as (chunk, outer..., column).
static TensorLayout partialLayout(const ColumnReduction &reduction, int64_t chunks) {
  SmallVector<int64_t> shape = {chunks};
  shape.append(resultShape(reduction));
  return TensorLayout::contiguous(RankedTensorType::get(shape, reduction.type));
}

unsigned kernels::addPartials(Context &context, const ColumnReduction &reduction, int64_t chunks) {
  return context.addWorkspace(chunks * countElements(resultShape(reduction)) *
                              llvm::divideCeil(reduction.type.getIntOrFloatBitWidth(), 8));
}

View kernels::declarePartials(KernelBuilder &kernel, const ColumnReduction &reduction, int64_t chunks,
                              unsigned workspace, bool write) {
  TensorLayout layout = partialLayout(reduction, chunks);
  return kernel.argument(rowAccess(workspace, layout, write), layout.shape);
}

void kernels::writeColumnTotals(KernelBuilder &kernel, const ColumnReduction &reduction, ArrayRef<unsigned> workspaces, int64_t chunks, int64_t count, unsigned arguments) {
  // Of several ops, each has its columns behind those of the one before: an outermost axis.
  SmallVector<SmallVector<View>> partials(count), results(count);
  for (int64_t i = 0; i < count; ++i) {
    for (unsigned workspace : workspaces)
      partials[i].push_back(declarePartials(kernel, reduction, chunks, workspace + i * arguments, /*write=*/false));
    ColumnReduction own = reduction;
    for (Access &destination : own.destinations)
      destination.argument += i * arguments;
    results[i] = declareColumnResults(kernel, own);
  }
  ColumnReduction all = reduction;
  if (count > 1)
    all.outer.insert(all.outer.begin(), count);
  auto isOf = [&](Value number, int64_t i) -> Value { return arith::CmpIOp::create(kernel.builder, kernel.loc, arith::CmpIPredicate::eq, number, kernel.index(i)); };
  Launch launch{all, totalTile(reduction, chunks), /*rows=*/chunks, /*chunks=*/1};
  launch.write(
      kernel,
      [&](ValueRange outer, Value row, Value column, const Lanes &lanes) {
        SmallVector<Value> at = {row};
        llvm::append_range(at, count > 1 ? outer.drop_front() : outer);
        at.push_back(column);
        SmallVector<Value> terms;
        for (size_t k = 0; k < workspaces.size(); ++k) {
          View view = partials[0][k];
          for (int64_t i = 1; i < count; ++i)
            view.memref = arith::SelectOp::create(kernel.builder, kernel.loc, isOf(outer.front(), i), partials[i][k].memref, view.memref);
          terms.push_back(kernel.load(view, at, lanes));
        }
        return terms;
      },
      [&](ArrayRef<Value> totals, ValueRange outer, Value, Value column) {
        if (count == 1)
          return storeColumnResults(kernel, reduction, results[0], totals, outer, column);
        for (int64_t i = 0; i < count; ++i)
          kernel.ifThen(isOf(outer.front(), i), [&] { storeColumnResults(kernel, reduction, results[i], totals, outer.drop_front(), column); });
      });
}

void kernels::generateColumnTotals(Context &context, const ColumnReduction &reduction, ArrayRef<unsigned> workspaces, int64_t chunks) {
  KernelBuilder kernel(context.context(), (reduction.name + "_total").str(), context.target);
  writeColumnTotals(kernel, reduction, workspaces, chunks, /*count=*/1, /*arguments=*/0);
  context.add(kernel);
}

/// Chunks of the rows: as many blocks as run at once, with enough rows for a thread.
static int64_t chunksOf(const ColumnReduction &reduction, const Tile &tile) {
  int64_t others = countElements(reduction.outer) * llvm::divideCeil(reduction.columns, tile.columns());
  return std::clamp<int64_t>(reduction.rows / (tile.slots() * kRowsPerThread), 1, std::max<int64_t>(1, kBlocks / others));
}

/// Whether the last block of some columns may sum their partial results.
static bool mayTotal(const ColumnReduction &reduction, const Tile &tile) {
  return chunksOf(reduction, tile) * tile.columns() * std::max(reduction.results, reduction.mostResults) * llvm::divideCeil(reduction.type.getIntOrFloatBitWidth(), 8) <= kMostTail;
}

void kernels::generateColumnReduction(Context &context, const ColumnReduction &reduction) {
  if (!context.isGpu())
    return generateColumnReductionOnCpu(context, reduction);
  const Tile widest(/*threads=*/256, reduction.lanes, reduction.columns, /*elementBytes=*/std::max<int64_t>(1, 16 / reduction.lanes));
  // Half the columns have half the chunks too: a quarter of the results for a block to sum.
  Tile tile = widest;
  while (!mayTotal(reduction, tile) && tile.canNarrow())
    tile = tile.narrowed();
  bool totals = mayTotal(reduction, tile);
  if (!totals)
    tile = widest;
  totals &= !context.totalsApart;
  const int64_t chunks = chunksOf(reduction, tile);
  SmallVector<unsigned> workspaces;
  if (chunks > 1)
    for (unsigned k = 0; k < reduction.results; ++k)
      workspaces.push_back(addPartials(context, reduction, chunks));
  KernelBuilder kernel(context.context(), reduction.name, context.target);
  reduction.declare(kernel);
  SmallVector<View> partials, results;
  for (unsigned workspace : workspaces)
    partials.push_back(declarePartials(kernel, reduction, chunks, workspace, /*write=*/true));
  if (chunks == 1 || totals)
    results = declareColumnResults(kernel, reduction);
  auto storeTotals = [&](ArrayRef<Value> sums, ValueRange outer, Value column) { storeColumnResults(kernel, reduction, results, sums, outer, column); };
  std::optional<Launch::Tail> tail;
  if (chunks > 1 && totals) {
    const int64_t counters = countElements(reduction.outer) * llvm::divideCeil(reduction.columns, tile.columns());
    tail.emplace(Launch::Tail{partials, kernel.linear(context.addCounters(counters), kernel.builder.getI32Type(), counters, /*write=*/true), storeTotals});
  }
  Launch launch{reduction, tile, reduction.rows, chunks};
  launch.write(
      kernel,
      [&](ValueRange outer, Value row, Value column, const Lanes &lanes) {
        return reduction.terms(kernel, outer, row, column, lanes);
      },
      [&](ArrayRef<Value> sums, ValueRange outer, Value chunk, Value column) {
        if (chunks == 1)
          return storeTotals(sums, outer, column);
        SmallVector<Value> at = {chunk};
        at.append(outer.begin(), outer.end());
        at.push_back(column);
        for (auto [value, view] : llvm::zip(sums, partials))
          kernel.storeHere(value, view, at);
      },
      tail ? &*tail : nullptr);
  context.add(kernel);
  if (chunks > 1 && !totals)
    generateColumnTotals(context, reduction, workspaces, chunks);
}
