//===- Pool.cpp - maxima and means over windows ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One outer iteration makes a vector of channels, up to 64 of them, of one place of the result: channels last is the layout in which this is fast. A gradient collects from the windows over its place, in order of the
// window's elements, so nothing is scattered.
//
// On a GPU the maxima of 16-bit elements and their gradient have forms of their own, in straight-line code whose loads are all in flight at once: a loop has one a thread, and what it compares and selects for each element
// takes longer than memory does. A multiprocessor has 13 bytes a cycle of 3 TB/s, and 64 comparisons and selections.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "WindowLoops.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/TypeSwitch.h"
#include <limits>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

namespace {

/// The index space: batch, places in input and output, channels.
class Generator {
public:
  template <typename Op>
  Generator(Context &context, Op op, const TensorLayout &input, const TensorLayout &output) : context(context), space(input.shape.size() - 2) {
    auto spaceOf = [](const TensorLayout &layout) { return SmallVector<int64_t>(ArrayRef(layout.shape).drop_front(2)); };
    window = {spaceOf(input), spaceOf(output), SmallVector<int64_t>(op.getWindow()), op.getStrides(), op.getDilations(), op.getPads()};
    shape = {input.shape[0]};
    shape.append(window.input);
    shape.append(window.output);
    shape.push_back(input.shape[1]);
  }

  Access ofInput(unsigned argument, const TensorLayout &layout, bool write = false) const { return at(inputAxis(), argument, layout, write); }
  Access ofOutput(unsigned argument, const TensorLayout &layout, bool write = false) const { return at(outputAxis(), argument, layout, write); }

  /// Writes the kernel: `body` makes one vector at `coordinates` and stores it. Where `tiles` are given, one outer iteration is a tile instead of a place, and the coordinates say which one. GPU: `residents` as in Spread.
  void generate(StringRef name, ArrayRef<Access> accesses, int64_t firstAxis, function_ref<void(KernelBuilder &, ArrayRef<View>, ArrayRef<Value> coordinates, Lanes)> body, ArrayRef<int64_t> tiles = {}, int64_t residents = 0) {
    KernelBuilder kernel(context.context(), name, context.target);
    SmallVector<View> views;
    for (const Access &access : accesses)
      views.push_back(kernel.argument(access, shape));
    const int64_t channels = shape.back(), chunkChannels = context.isGpu() ? kernel.spreadElements(channels) : 4 * kCpuLanes;
    if (residents) {
      Spread spread = kernel.getSpread();
      spread.residents = residents;
      kernel.setSpread(spread);
    }
    SmallVector<int64_t> outerShape = {shape[0]};
    llvm::append_range(outerShape, tiles.empty() ? ArrayRef(shape).slice(firstAxis, space) : tiles);
    outerShape.push_back((channels + chunkChannels - 1) / chunkChannels);
    Value iteration = kernel.begin(countElements(outerShape), grainFor(std::min(channels, chunkChannels) * countElements(window.size)));
    SmallVector<Value> places = kernel.delinearize(iteration, outerShape);
    Value chunk = places.pop_back_val();
    SmallVector<Value> coordinates(shape.size(), kernel.index(0));
    // On a GPU from the last sample on: what the launch before wrote last, a cache may still hold.
    coordinates[0] = context.isGpu() ? Value(arith::SubIOp::create(kernel.builder, kernel.loc, kernel.index(shape[0] - 1), places[0])) : places[0];
    llvm::copy(ArrayRef(places).drop_front(), coordinates.begin() + firstAxis);
    kernel.forColumnChunks(chunk, channels, chunkChannels, [&](Value first, ArrayRef<Lanes> blocks) {
      for (auto [block, lanes] : llvm::enumerate(blocks)) {
        coordinates.back() = kernel.add(first, block * kCpuLanes);
        body(kernel, views, coordinates, lanes);
      }
    });
    context.add(kernel);
  }

  int64_t inputAxis() const { return 1; }
  int64_t outputAxis() const { return 1 + space; }
  /// The row-major place of `k` in the window.
  Value placeInWindow(KernelBuilder &kernel, ValueRange k) const {
    Value place = kernel.index(0);
    for (int64_t axis = 0; axis < space; ++axis)
      place = kernel.add(kernel.mul(place, window.size[axis]), k[axis]);
    return place;
  }

  Context &context;
  int64_t space;
  Window window;
  SmallVector<int64_t> shape;

private:
  Access at(int64_t axis, unsigned argument, const TensorLayout &layout, bool write) const {
    Access access{argument, layout.elementType, SmallVector<int64_t>(shape.size(), 0), 0, write, layout.alignment};
    access.strides[0] = layout.strides[0];
    access.strides.back() = layout.strides[1];
    llvm::copy(ArrayRef(layout.strides).drop_front(2), access.strides.begin() + axis);
    return access;
  }
};

Value selectF(KernelBuilder &kernel, Value condition, Value a, Value b) { return condition ? arith::SelectOp::create(kernel.builder, kernel.loc, condition, a, b) : a; }

/// A condition on lanes that holds only where the scalar one does; that may be null.
Value andAll(KernelBuilder &kernel, Value lanes, Value scalar) { return scalar ? arith::AndIOp::create(kernel.builder, kernel.loc, lanes, kernel.broadcast(scalar)) : lanes; }

/// Elements of windows that straight-line code takes.
constexpr int64_t kMostUnrolled = 16;

/// Whether every window has an element in the input, and its elements are neighbours.
bool isPlain(const Window &window) {
  for (int64_t axis = 0; axis < window.axes(); ++axis)
    if (window.dilations[axis] != 1 || window.pads[axis] < 0 || window.pads[axis] >= window.size[axis] || (window.output[axis] - 1) * window.strides[axis] - window.pads[axis] >= window.input[axis])
      return false;
  return countElements(window.size) <= kMostUnrolled;
}

/// The maxima of the windows and the numbers of their elements: the first of equal ones, the last NaN.
std::pair<Value, Value> findMaxima(KernelBuilder &kernel, const Generator &g, const View &input, ArrayRef<Value> coordinates, Lanes lanes, Type type) {
  OpBuilder &b = kernel.builder;
  // Numbers in the registers' own width. Which element is the first is the same in all lanes.
  Type numberType = b.getI32Type();
  Value isFirst = arith::ConstantOp::create(b, kernel.loc, b.getBoolAttr(true)), no = arith::ConstantOp::create(b, kernel.loc, b.getBoolAttr(false));
  SmallVector<Value> init = {kernel.splat(-std::numeric_limits<double>::infinity(), type), kernel.splatInt(0, numberType), isFirst};
  SmallVector<Value> found = Window::forAll(kernel, g.window.size, init, [&](ValueRange k, ValueRange best) -> SmallVector<Value> {
    Window::Place place = g.window.inputOf(kernel, coordinates.slice(g.outputAxis(), g.space), k);
    SmallVector<Value> at(coordinates);
    llvm::copy(place.at, at.begin() + g.inputAxis());
    Value x = kernel.loadCompute(input, at, lanes);
    // The first element, a greater one, or a NaN.
    Value isGreater = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OGT, x, best[0]);
    Value isNaN = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::UNO, x, x);
    Value isBetter = arith::OrIOp::create(b, kernel.loc, arith::OrIOp::create(b, kernel.loc, isGreater, isNaN), kernel.broadcast(best[2]));
    Value takes = andAll(kernel, isBetter, place.inside);
    Value number = kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, numberType, g.placeInWindow(kernel, k)));
    Value stillFirst = place.inside ? Value(arith::SelectOp::create(b, kernel.loc, place.inside, no, best[2])) : no;
    return {selectF(kernel, takes, x, best[0]), selectF(kernel, takes, number, best[1]), stillFirst};
  });
  return {found[0], found[1]};
}

/// The same of 16-bit elements on a GPU, as they are stored: maxima two at a time, and then the first element that is equal. Elements beyond a border are the ones at it, with their numbers. Of zeros of both signs the maximum
/// is the positive one. Where it is a NaN the loop looks again.
std::pair<Value, Value> findMaximaOnGpu(KernelBuilder &kernel, const Generator &g, const View &input, ArrayRef<Value> coordinates, Lanes lanes, Type type) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  const Window &window = g.window;
  SmallVector<Value> vectors, numbers;
  SmallVector<SmallVector<Value>> at(window.axes()), elements(window.axes()); // by axis and element
  for (int64_t axis = 0; axis < window.axes(); ++axis) {
    Value start = kernel.add(kernel.mul(coordinates[g.outputAxis() + axis], window.strides[axis]), -window.pads[axis]);
    const int64_t last = (window.output[axis] - 1) * window.strides[axis] - window.pads[axis] + window.size[axis] - 1;
    for (int64_t k = 0; k < window.size[axis]; ++k) {
      Value place = kernel.add(start, k), element = kernel.index(k);
      if (window.pads[axis] > 0 || last >= window.input[axis]) {
        place = arith::MinSIOp::create(b, loc, arith::MaxSIOp::create(b, loc, place, kernel.index(0)), kernel.index(window.input[axis] - 1));
        element = arith::SubIOp::create(b, loc, place, start);
      }
      at[axis].push_back(place);
      elements[axis].push_back(element);
    }
  }
  for (int64_t i = 0, count = countElements(window.size); i < count; ++i) {
    SmallVector<Value> here(coordinates), k(window.axes());
    for (int64_t axis = window.axes(), rest = i; axis-- > 0; rest /= window.size[axis]) {
      here[g.inputAxis() + axis] = at[axis][rest % window.size[axis]];
      k[axis] = elements[axis][rest % window.size[axis]];
    }
    vectors.push_back(kernel.load(input, here, lanes));
    numbers.push_back(kernel.broadcast(arith::IndexCastOp::create(b, loc, b.getI32Type(), g.placeInWindow(kernel, k))));
  }
  Value maximum = vectors[0];
  for (Value vector : ArrayRef(vectors).drop_front())
    maximum = arith::MaximumFOp::create(b, loc, maximum, vector);
  Value areNaN = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, maximum, maximum), isNaN;
  for (int64_t lane = 0; lane < kernel.lanes(); ++lane) {
    Value one = vector::ExtractOp::create(b, loc, areNaN, lane);
    isNaN = isNaN ? Value(arith::OrIOp::create(b, loc, isNaN, one)) : one;
  }
  auto branch = scf::IfOp::create(b, loc, TypeRange{maximum.getType(), numbers[0].getType()}, isNaN, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  auto [value, place] = findMaxima(kernel, g, input, coordinates, lanes, type);
  scf::YieldOp::create(b, loc, ValueRange{kernel.convert(value, input.elementType), place});
  b.setInsertionPointToStart(branch.elseBlock());
  // Two lanes after another: there are seven predicate registers.
  SmallVector<Value> found;
  for (int64_t lane = 0; lane < kernel.lanes(); lane += 2) {
    const int64_t pair = std::min<int64_t>(2, kernel.lanes() - lane);
    auto part = [&](Value vector) -> Value { return vector::ShuffleOp::create(b, loc, vector, vector, llvm::to_vector(llvm::seq(lane, lane + pair))); };
    Value greatest = part(maximum), number = part(numbers.back());
    for (size_t i = vectors.size() - 1; i-- > 0;)
      number = arith::SelectOp::create(b, loc, arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, part(vectors[i]), greatest), part(numbers[i]), number);
    for (int64_t i = 0; i < pair; ++i)
      found.push_back(vector::ExtractOp::create(b, loc, number, i));
  }
  scf::YieldOp::create(b, loc, ValueRange{maximum, vector::FromElementsOp::create(b, loc, cast<VectorType>(numbers[0].getType()), found)});
  return {branch.getResult(0), branch.getResult(1)};
}

LogicalResult generateMax(Context &context, train::MaxPoolOp op) {
  const TensorLayout &input = context.operand(0), &result = context.result(0), &indices = context.result(1);
  Generator g(context, op, input, result);
  Type type = train::getComputeType(input.elementType), indexType = indices.elementType;
  const bool inPairs = context.isGpu() && input.elementType.getIntOrFloatBitWidth() == 16 && isPlain(g.window);
  g.generate("max_pool", {g.ofInput(0, input), g.ofOutput(context.resultArgument(0), result, true), g.ofOutput(context.resultArgument(1), indices, true)}, g.outputAxis(),
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
               OpBuilder &b = kernel.builder;
               auto [maximum, number] = inPairs ? findMaximaOnGpu(kernel, g, views[0], coordinates, lanes, type) : findMaxima(kernel, g, views[0], coordinates, lanes, type);
               kernel.storeRounded(maximum, views[1], coordinates, lanes);
               if (const unsigned width = indexType.getIntOrFloatBitWidth(); width != 32) {
                 auto vector = VectorType::get({kernel.lanes()}, indexType);
                 number = width < 32 ? Value(arith::TruncIOp::create(b, kernel.loc, vector, number)) : Value(arith::ExtUIOp::create(b, kernel.loc, vector, number));
               }
               kernel.store(number, views[2], coordinates, lanes);
             });
  return success();
}

/// On a GPU a thread makes a tile of as many places as a step has, from that which a window begins at. Its places share the windows that it reads, and which of their elements they are is known: for windows of 3 x 3 in
/// steps of 2, four windows and 9 comparisons a channel for 4 places, of the 16 that places by themselves take. The order of a sum is that of forCovering.
void generateMaxGradTiles(Context &context, Generator &g, ArrayRef<Access> accesses, Type type) {
  const Window &window = g.window;
  SmallVector<int64_t> tiles, windows;
  for (int64_t axis = 0; axis < g.space; ++axis) {
    tiles.push_back((window.input[axis] + window.pads[axis] - 1) / window.strides[axis] + 1);
    windows.push_back((window.size[axis] - 1) / window.strides[axis] + 1); // over a tile, from the last on
  }
  const int64_t places = countElements(window.strides);
  auto split = [&](int64_t number, ArrayRef<int64_t> sizes) {
    SmallVector<int64_t> digits(sizes.size());
    for (size_t axis = sizes.size(); axis-- > 0; number /= sizes[axis])
      digits[axis] = number % sizes[axis];
    return digits;
  };
  g.generate(
      "max_pool_grad", accesses, g.inputAxis(),
      [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
        OpBuilder &b = kernel.builder;
        Location loc = kernel.loc;
        ArrayRef<Value> tile = coordinates.slice(g.inputAxis(), g.space);
        auto isBelow = [&](Value place, int64_t size) -> Value { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, place, kernel.index(size)); };
        struct Read {
          SmallVector<int64_t> back;
          Value inside, numbers, cotangents;
        };
        SmallVector<Read> reads;
        for (int64_t i = 0, count = countElements(windows); i < count; ++i) {
          Read &read = reads.emplace_back(Read{split(i, windows), {}, {}, {}});
          SmallVector<Value> at(coordinates);
          for (int64_t axis = 0; axis < g.space; ++axis) {
            Value place = kernel.add(tile[axis], -read.back[axis]), inside = isBelow(place, window.output[axis]);
            at[g.outputAxis() + axis] = arith::SelectOp::create(b, loc, inside, place, kernel.index(0));
            read.inside = read.inside ? Value(arith::AndIOp::create(b, loc, read.inside, inside)) : inside;
          }
          read.numbers = kernel.load(views[0], at, lanes);
          read.cotangents = kernel.load(views[1], at, lanes);
        }
        auto numberType = VectorType::get({kernel.lanes()}, b.getI32Type());
        for (Read &read : reads) {
          if (const unsigned width = getElementTypeOrSelf(read.numbers.getType()).getIntOrFloatBitWidth(); width != 32)
            read.numbers = width < 32 ? Value(arith::ExtUIOp::create(b, loc, numberType, read.numbers)) : Value(arith::TruncIOp::create(b, loc, numberType, read.numbers));
          read.cotangents = kernel.convert(read.cotangents, type);
        }
        auto sumAt = [&](ArrayRef<int64_t> within) {
          Value sum = kernel.splat(0, type);
          for (Read &read : reads) {
            int64_t number = 0;
            bool isOver = true;
            for (int64_t axis = 0; axis < g.space; ++axis) {
              const int64_t k = within[axis] + read.back[axis] * window.strides[axis];
              isOver &= k < window.size[axis];
              number = number * window.size[axis] + k;
            }
            if (!isOver)
              continue;
            // A window that is not there has no such element.
            Value wanted = arith::SelectOp::create(b, loc, read.inside, kernel.constant(b.getI32IntegerAttr(number)), kernel.constant(b.getI32IntegerAttr(-1)));
            Value isMaximum = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, read.numbers, kernel.broadcast(wanted));
            sum = arith::SelectOp::create(b, loc, isMaximum, kernel.addF(sum, read.cotangents), sum);
          }
          return sum;
        };
        struct Written {
          SmallVector<int64_t> within;
          SmallVector<Value> at;
          Value inside; // null: always
        };
        SmallVector<Written> writes;
        Value allInside;
        for (int64_t i = 0; i < places; ++i) {
          Written &write = writes.emplace_back(Written{split(i, window.strides), SmallVector<Value>(coordinates), {}});
          for (int64_t axis = 0; axis < g.space; ++axis) {
            Value place = kernel.add(kernel.mul(tile[axis], window.strides[axis]), write.within[axis] - window.pads[axis]);
            write.at[g.inputAxis() + axis] = place;
            if (window.pads[axis] == 0 && tiles[axis] * window.strides[axis] == window.input[axis])
              continue;
            Value isThere = isBelow(place, window.input[axis]);
            write.inside = write.inside ? Value(arith::AndIOp::create(b, loc, write.inside, isThere)) : isThere;
          }
          if (write.inside)
            allInside = allInside ? Value(arith::AndIOp::create(b, loc, allInside, write.inside)) : write.inside;
        }
        auto writeAll = [&] {
          for (Written &write : writes)
            kernel.storeRounded(sumAt(write.within), views[2], write.at, lanes);
        };
        if (!allInside)
          return writeAll();
        // Places at a border have code of their own: a branch around each would have its own loads wait.
        auto branch = scf::IfOp::create(b, loc, allInside, /*withElseRegion=*/true);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(branch.thenBlock());
        writeAll();
        b.setInsertionPointToStart(branch.elseBlock());
        for (Written &write : writes)
          kernel.ifThen(write.inside, [&] { kernel.storeRounded(sumAt(write.within), views[2], write.at, lanes); });
      },
      tiles, /*residents=*/3);
}

LogicalResult generateMaxGrad(Context &context, train::MaxPoolGradOp op) {
  const TensorLayout &indices = context.operand(0), &cotangent = context.operand(1), &result = context.result(0);
  Generator g(context, op, result, cotangent);
  Type type = train::getComputeType(cotangent.elementType), indexType = indices.elementType;
  if (context.isGpu() && cotangent.elementType.getIntOrFloatBitWidth() == 16 && isPlain(g.window) && countElements(g.window.strides) <= 4) {
    generateMaxGradTiles(context, g, {g.ofOutput(0, indices), g.ofOutput(1, cotangent), g.ofInput(context.resultArgument(0), result, true)}, type);
    return success();
  }
  g.generate("max_pool_grad", {g.ofOutput(0, indices), g.ofOutput(1, cotangent), g.ofInput(context.resultArgument(0), result, true)}, g.inputAxis(),
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
               OpBuilder &b = kernel.builder;
               SmallVector<Value> sums = g.window.forCovering(kernel, coordinates.slice(g.inputAxis(), g.space), {kernel.splat(0, type)}, [&](const Window::Place &place, ValueRange k, ValueRange sum) -> SmallVector<Value> {
                 SmallVector<Value> at(coordinates);
                 llvm::copy(place.at, at.begin() + g.outputAxis());
                 Value number = kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, indexType, g.placeInWindow(kernel, k)));
                 Value isMaximum = andAll(kernel, arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, kernel.load(views[0], at, lanes), number), place.inside);
                 return {kernel.addF(sum[0], selectF(kernel, isMaximum, kernel.loadCompute(views[1], at, lanes), kernel.splat(0, type)))};
               });
               kernel.storeRounded(sums[0], views[2], coordinates, lanes);
             });
  return success();
}

/// The window elements of output place `o` along `axis` that lie in the input or the margin that counts.
Value countAlong(KernelBuilder &kernel, const Window &window, ArrayRef<int64_t> counted, int64_t axis, Value o) {
  OpBuilder &b = kernel.builder;
  const int64_t size = window.size[axis], dilation = window.dilations[axis], low = -counted[axis], high = window.input[axis] - 1 + counted[window.axes() + axis];
  const int64_t first = -window.pads[axis], last = (window.output[axis] - 1) * window.strides[axis] + first + (size - 1) * dilation;
  if (first >= low && last <= high)
    return kernel.index(size);
  Value start = kernel.add(kernel.mul(o, window.strides[axis]), first);
  auto divide = [&](Value value) -> Value { return dilation == 1 ? value : Value(arith::DivUIOp::create(b, kernel.loc, value, kernel.index(dilation))); };
  // No window starts behind the input, so `behind` is not negative.
  Value before = arith::MaxSIOp::create(b, kernel.loc, kernel.index(0), arith::SubIOp::create(b, kernel.loc, kernel.index(low), start));
  Value behind = arith::SubIOp::create(b, kernel.loc, kernel.index(high), start);
  Value from = divide(kernel.add(before, dilation - 1)), to = arith::MinSIOp::create(b, kernel.loc, kernel.index(size - 1), divide(behind));
  return kernel.add(arith::SubIOp::create(b, kernel.loc, to, from), 1);
}

Value countOf(KernelBuilder &kernel, const Window &window, ArrayRef<int64_t> counted, ValueRange o, Type type) {
  OpBuilder &b = kernel.builder;
  Value count;
  for (int64_t axis = 0; axis < window.axes(); ++axis) {
    Value along = countAlong(kernel, window, counted, axis, o[axis]);
    count = count ? arith::MulIOp::create(b, kernel.loc, count, along) : along;
  }
  return kernel.broadcast(arith::SIToFPOp::create(b, kernel.loc, type, arith::IndexCastOp::create(b, kernel.loc, b.getI64Type(), count)));
}

LogicalResult generateAverage(Context &context, train::AveragePoolOp op) {
  const TensorLayout &input = context.operand(0), &result = context.result(0);
  Generator g(context, op, input, result);
  Type type = train::getComputeType(input.elementType);
  g.generate("average_pool", {g.ofInput(0, input), g.ofOutput(context.resultArgument(0), result, true)}, g.outputAxis(),
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
               ArrayRef<Value> o = coordinates.slice(g.outputAxis(), g.space);
               SmallVector<Value> sums = Window::forAll(kernel, g.window.size, {kernel.splat(0, type)}, [&](ValueRange k, ValueRange sum) -> SmallVector<Value> {
                 Window::Place place = g.window.inputOf(kernel, o, k);
                 SmallVector<Value> at(coordinates);
                 llvm::copy(place.at, at.begin() + g.inputAxis());
                 return {kernel.addF(sum[0], selectF(kernel, place.inside, kernel.loadCompute(views[0], at, lanes), kernel.splat(0, type)))};
               });
               kernel.storeRounded(kernel.divF(sums[0], countOf(kernel, g.window, op.getCounted(), o, type)), views[1], coordinates, lanes);
             });
  return success();
}

LogicalResult generateAverageGrad(Context &context, train::AveragePoolGradOp op) {
  const TensorLayout &cotangent = context.operand(0), &result = context.result(0);
  Generator g(context, op, result, cotangent);
  Type type = train::getComputeType(cotangent.elementType);
  g.generate("average_pool_grad", {g.ofOutput(0, cotangent), g.ofInput(context.resultArgument(0), result, true)}, g.inputAxis(),
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
               SmallVector<Value> sums = g.window.forCovering(kernel, coordinates.slice(g.inputAxis(), g.space), {kernel.splat(0, type)}, [&](const Window::Place &place, ValueRange k, ValueRange sum) -> SmallVector<Value> {
                 SmallVector<Value> at(coordinates);
                 llvm::copy(place.at, at.begin() + g.outputAxis());
                 Value share = kernel.divF(kernel.loadCompute(views[0], at, lanes), countOf(kernel, g.window, op.getCounted(), place.at, type));
                 return {kernel.addF(sum[0], selectF(kernel, place.inside, share, kernel.splat(0, type)))};
               });
               kernel.storeRounded(sums[0], views[1], coordinates, lanes);
             });
  return success();
}

} // namespace

LogicalResult kernels::generatePool(Context &context) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(context.op)
      .Case([&](train::MaxPoolOp op) { return generateMax(context, op); })
      .Case([&](train::MaxPoolGradOp op) { return generateMaxGrad(context, op); })
      .Case([&](train::AveragePoolOp op) { return generateAverage(context, op); })
      .Case([&](train::AveragePoolGradOp op) { return generateAverageGrad(context, op); })
      .Default([](Operation *op) { return op->emitOpError("is no pooling"); });
}
