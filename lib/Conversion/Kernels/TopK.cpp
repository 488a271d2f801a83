//===- TopK.cpp - the kernels of top_k ---------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A short row is sorted by counting: an element's place is the number of those that come before it. A long one is cut
// into chunks that are sorted so, each to its first k; then runs are merged two by two, each again to its first k: an
// element's place is its own in its run and, by bisection, that in the other. So a row of n costs n times a chunk and
// n k / chunk log k, or n log n log n where all of it is wanted. Runs hold places in the row; nothing else is moved.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Elements of a chunk, and rows that are not cut.
static constexpr int64_t kChunk = 256, kLongestCounted = 512;

namespace {

class TopK {
public:
  TopK(Context &context, train::TopKOp op)
      : context(context), op(op), input(context.operand(0)),
        rows(input.shape, {rowAccess(0, input), rowAccess(1, context.result(0), /*write=*/true),
                           rowAccess(2, context.result(1), /*write=*/true)}),
        n(rows.n), k(context.result(0).shape.back()) {}

  void generate() {
    if (n <= kLongestCounted)
      return count(n, std::nullopt);
    // Runs of one launch are read by the next, which writes others.
    int64_t places[2] = {0, 0};
    unsigned turn = 0;
    for (int64_t width = kChunk; width < n; width *= 2, turn ^= 1) {
      const Runs runs(n, k, width);
      places[turn] = std::max(places[turn], runs.count * runs.slots);
    }
    unsigned from = context.addWorkspace(rows.count() * places[0] * 4);
    unsigned to = places[1] ? context.addWorkspace(rows.count() * places[1] * 4) : 0;
    count(kChunk, from);
    for (int64_t width = kChunk; width < n; width *= 2) {
      merge(width, from, to);
      std::swap(from, to);
    }
  }

private:
  /// Places of the sorted runs of `width` elements each, the first k of them.
  struct Runs {
    Runs(int64_t n, int64_t k, int64_t width)
        : width(width), count(llvm::divideCeil(n, width)), slots(std::min(k, width)) {}
    int64_t width, count, slots;
  };

  /// Where the results go: `values` and `indices` with room for the place behind the row's coordinates.
  struct Results {
    View values, indices;
  };
  Results declareResults(KernelBuilder &kernel) {
    SmallVector<int64_t> selected = rows.shape();
    selected.back() = k;
    return {kernel.argument(rows.accesses[1], selected), kernel.argument(rows.accesses[2], selected)};
  }

  /// Sorts chunks of a row by counting: into runs, or, where a chunk is the row, into the results. One outer iteration
  /// is one element.
  void count(int64_t chunk, std::optional<unsigned> workspace) {
    const Runs runs(n, k, chunk);
    SmallVector<int64_t> shape = rows.shape();
    KernelBuilder kernel(context.context(), workspace ? "top_k_chunks" : "top_k", context.target);
    OpBuilder &b = kernel.builder;
    Location loc = kernel.loc;
    Type i32 = b.getI32Type(), f32 = b.getF32Type();
    View elements = kernel.argument(rows.accesses[0], shape);
    Results results;
    View places;
    if (workspace)
      places = kernel.linear(*workspace, i32, rows.count() * runs.count * runs.slots, /*write=*/true);
    else
      results = declareResults(kernel);
    // Windows begin anywhere in a row.
    if (workspace && context.isGpu())
      kernel.setSpread({/*lanes=*/1, /*threads=*/32, /*groups=*/8});
    else
      kernel.spreadRow(chunk);
    Value outer = kernel.begin(countElements(shape), grainFor(chunk));
    SmallVector<Value> at = kernel.delinearize(outer, shape);
    Value place = at.back(), stored = kernel.loadScalar(elements, at);
    Value own = kernel.broadcast(computed(kernel, stored));
    auto asInteger = [&](Value index) -> Value { return arith::IndexCastOp::create(b, loc, i32, index); };
    Value ownPlace = kernel.broadcast(asInteger(place));
    // The last chunk of a row ends with it: before its own elements its window has some of the one before.
    Value number, first, window;
    if (workspace) {
      number = kernel.delinearize(place, {runs.count, chunk})[0];
      first = kernel.mul(number, chunk);
      window = arith::MinSIOp::create(b, loc, first, kernel.index(n - chunk));
    }
    Value counted =
        kernel.reduceRow(chunk, {KernelBuilder::Combine::Sum}, f32, [&](Value i, Lanes lanes) -> SmallVector<Value> {
          Value start = window ? kernel.add(window, i) : i;
          at.back() = start;
          Value other = isReal() ? kernel.loadCompute(elements, at, lanes) : kernel.load(elements, at, lanes);
          Value otherPlace = arith::AddIOp::create(b, loc, kernel.broadcast(asInteger(start)), kernel.laneNumbers(i32));
          Value earlier = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, otherPlace, ownPlace);
          Value tie = arith::AndIOp::create(b, loc, isSame(kernel, other, own), earlier);
          Value precedes = arith::OrIOp::create(b, loc, isBefore(kernel, other, own), tie);
          if (window) {
            Value bound = kernel.broadcast(asInteger(first));
            Value belongs = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, otherPlace, bound);
            precedes = arith::AndIOp::create(b, loc, precedes, belongs);
          }
          return {arith::SelectOp::create(b, loc, precedes, kernel.splat(1, f32), kernel.splat(0, f32))};
        })[0];
    Value rank = arith::IndexCastOp::create(b, loc, b.getIndexType(), arith::FPToSIOp::create(b, loc, i32, counted));
    kernel.ifThen(isBelow(kernel, rank, kernel.index(runs.slots)), [&] {
      if (workspace) {
        Value row = kernel.delinearize(outer, {rows.count(), n})[0];
        Value run = kernel.add(kernel.mul(row, runs.count), number);
        kernel.storeScalar(asInteger(place), places, kernel.add(kernel.mul(run, runs.slots), rank));
        return;
      }
      at.back() = rank;
      kernel.storeScalar(stored, results.values, at);
      kernel.storeScalar(arith::IndexCastOp::create(b, loc, b.getI64Type(), place), results.indices, at);
    });
    context.add(kernel);
  }

  /// Merges runs of `width` two by two, the last two into the results. One outer iteration is one place of a run.
  void merge(int64_t width, unsigned from, unsigned to) {
    const Runs runs(n, k, width), merged(n, k, 2 * width);
    const bool isLast = merged.count == 1;
    KernelBuilder kernel(context.context(), "top_k_merge", context.target);
    OpBuilder &b = kernel.builder;
    Location loc = kernel.loc;
    Type i32 = b.getI32Type(), index = b.getIndexType();
    View elements = kernel.argument(rows.accesses[0], rows.shape());
    View places = kernel.linear(from, i32, rows.count() * runs.count * runs.slots);
    Results results;
    View target;
    if (isLast)
      results = declareResults(kernel);
    else
      target = kernel.linear(to, i32, rows.count() * merged.count * merged.slots, /*write=*/true);
    if (context.isGpu())
      kernel.setSpread({/*lanes=*/1, /*threads=*/1, /*groups=*/256});
    const int64_t steps = llvm::Log2_64_Ceil(runs.slots + 1);
    Value outer = kernel.begin(rows.count() * runs.count * runs.slots, grainFor(16 * steps));
    SmallVector<Value> split = kernel.delinearize(outer, {rows.count(), runs.count, runs.slots});
    Value row = split[0], run = split[1], slot = split[2];
    SmallVector<Value> at(rows.outer.empty() ? SmallVector<Value>() : kernel.delinearize(row, rows.outer));
    at.push_back(Value());
    auto placeIn = [&](Value someRun, Value someSlot) -> Value {
      Value linear = kernel.add(kernel.mul(kernel.add(kernel.mul(row, runs.count), someRun), runs.slots), someSlot);
      return arith::IndexCastOp::create(b, loc, index, kernel.loadScalar(places, linear));
    };
    auto elementAt = [&](Value place) {
      at.back() = place;
      return kernel.loadScalar(elements, at);
    };
    // The last run of a row may be shorter, and have no other beside it.
    auto lengthOf = [&](Value someRun) -> Value {
      Value rest = arith::SubIOp::create(b, loc, kernel.index(n), kernel.mul(someRun, width));
      return arith::MinSIOp::create(b, loc, kernel.index(runs.slots), rest);
    };
    kernel.ifThen(isBelow(kernel, slot, lengthOf(run)), [&] {
      Value place = placeIn(run, slot), stored = elementAt(place), own = computed(kernel, stored);
      Value other = arith::XOrIOp::create(b, loc, run, kernel.index(1));
      Value length = arith::MaxSIOp::create(b, loc, lengthOf(other), kernel.index(0));
      Value reachable = arith::MinSIOp::create(b, loc, other, kernel.index(runs.count - 1));
      // Elements of the left run are the earlier ones.
      Value isLeft = isBelow(kernel, run, other);
      Value rank =
          kernel.forRange(steps, {kernel.index(0), length}, [&](Value, ValueRange bounds) -> SmallVector<Value> {
            Value low = bounds[0], high = bounds[1];
            Value isOpen = isBelow(kernel, low, high);
            Value middle = arith::ShRUIOp::create(b, loc, kernel.add(low, high), kernel.index(1));
            Value readable = arith::MinSIOp::create(b, loc, middle, kernel.index(runs.slots - 1));
            // What a closed search looks at may never have been written.
            Value found = placeIn(reachable, readable);
            found = arith::SelectOp::create(b, loc, isOpen, found, place);
            Value theirs = computed(kernel, elementAt(found));
            Value theirsFirst = isBefore(kernel, theirs, own);
            Value notOursFirst =
                arith::XOrIOp::create(b, loc, isBefore(kernel, own, theirs), kernel.constant(b.getBoolAttr(true)));
            Value precedes = arith::SelectOp::create(b, loc, isLeft, theirsFirst, notOursFirst);
            Value goesUp = arith::AndIOp::create(b, loc, isOpen, precedes);
            Value next = arith::SelectOp::create(b, loc, isOpen, middle, high);
            return {arith::SelectOp::create(b, loc, goesUp, kernel.add(middle, 1), low),
                    arith::SelectOp::create(b, loc, precedes, high, next)};
          })[0];
      rank = kernel.add(slot, rank);
      kernel.ifThen(isBelow(kernel, rank, kernel.index(merged.slots)), [&] {
        if (isLast) {
          at.back() = rank;
          kernel.storeScalar(stored, results.values, at);
          kernel.storeScalar(arith::IndexCastOp::create(b, loc, b.getI64Type(), place), results.indices, at);
          return;
        }
        Value pair = arith::ShRUIOp::create(b, loc, run, kernel.index(1));
        Value linear = kernel.add(kernel.mul(kernel.add(kernel.mul(row, merged.count), pair), merged.slots), rank);
        kernel.storeScalar(arith::IndexCastOp::create(b, loc, i32, place), target, linear);
      });
    });
    context.add(kernel);
  }

  bool isReal() const { return isa<FloatType>(input.elementType); }

  Value computed(KernelBuilder &kernel, Value stored) const {
    return isReal() ? kernel.convert(stored, train::getComputeType(input.elementType)) : stored;
  }

  static Value isBelow(KernelBuilder &kernel, Value a, Value b) {
    return arith::CmpIOp::create(kernel.builder, kernel.loc, arith::CmpIPredicate::slt, a, b);
  }

  static Value compare(KernelBuilder &kernel, arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(kernel.builder, kernel.loc, predicate, x, y);
  }

  /// Whether x comes before y by its value: NaN is larger than every number.
  Value isBefore(KernelBuilder &kernel, Value x, Value y) {
    OpBuilder &b = kernel.builder;
    const bool smallest = op.getSmallest();
    if (!isReal()) {
      const bool isUnsigned = getElementTypeOrSelf(op.getInput().getType()).isUnsignedInteger() || input.elementType.isInteger(1);
      return arith::CmpIOp::create(b, kernel.loc,
                                   smallest ? (isUnsigned ? arith::CmpIPredicate::ult : arith::CmpIPredicate::slt)
                                            : (isUnsigned ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt),
                                   x, y);
    }
    using arith::CmpFPredicate;
    Value larger = smallest ? y : x, lower = smallest ? x : y;
    Value isAbove = compare(kernel, CmpFPredicate::OGT, larger, lower);
    Value largerIsNaN = compare(kernel, CmpFPredicate::UNO, larger, larger);
    Value lowerIsNumber = compare(kernel, CmpFPredicate::ORD, lower, lower);
    return arith::OrIOp::create(b, kernel.loc, isAbove,
                                arith::AndIOp::create(b, kernel.loc, largerIsNaN, lowerIsNumber));
  }

  Value isSame(KernelBuilder &kernel, Value x, Value y) {
    OpBuilder &b = kernel.builder;
    if (!isReal())
      return arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, x, y);
    using arith::CmpFPredicate;
    Value areNaN = arith::AndIOp::create(b, kernel.loc, compare(kernel, CmpFPredicate::UNO, x, x),
                                         compare(kernel, CmpFPredicate::UNO, y, y));
    return arith::OrIOp::create(b, kernel.loc, compare(kernel, CmpFPredicate::OEQ, x, y), areNaN);
  }

  Context &context;
  train::TopKOp op;
  const TensorLayout &input;
  const Rows rows;
  const int64_t n, k;
};

} // namespace

LogicalResult kernels::generateTopK(Context &context, train::TopKOp op) {
  TopK(context, op).generate();
  return success();
}
