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
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "WindowLoops.h"
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

  /// Writes the kernel: `body` makes one vector at `coordinates` and stores it.
  void generate(StringRef name, ArrayRef<Access> accesses, int64_t firstAxis, function_ref<void(KernelBuilder &, ArrayRef<View>, ArrayRef<Value> coordinates, Lanes)> body) {
    KernelBuilder kernel(context.context(), name, context.target);
    SmallVector<View> views;
    for (const Access &access : accesses)
      views.push_back(kernel.argument(access, shape));
    const int64_t channels = shape.back(), chunkChannels = context.isGpu() ? kernel.spreadElements(channels) : 4 * kCpuLanes;
    SmallVector<int64_t> outerShape = {shape[0]};
    outerShape.append(shape.begin() + firstAxis, shape.begin() + firstAxis + space);
    outerShape.push_back((channels + chunkChannels - 1) / chunkChannels);
    Value iteration = kernel.begin(countElements(outerShape), grainFor(std::min(channels, chunkChannels) * countElements(window.size)));
    SmallVector<Value> places = kernel.delinearize(iteration, outerShape);
    Value chunk = places.pop_back_val();
    SmallVector<Value> coordinates(shape.size(), kernel.index(0));
    coordinates[0] = places[0];
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

LogicalResult generateMax(Context &context, train::MaxPoolOp op) {
  const TensorLayout &input = context.operand(0), &result = context.result(0), &indices = context.result(1);
  Generator g(context, op, input, result);
  Type type = train::getComputeType(input.elementType), indexType = indices.elementType;
  g.generate("max_pool", {g.ofInput(0, input), g.ofOutput(context.resultArgument(0), result, true), g.ofOutput(context.resultArgument(1), indices, true)}, g.outputAxis(),
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, Lanes lanes) {
               OpBuilder &b = kernel.builder;
               // Numbers in the registers' own width. Which element is the first is the same in all lanes.
               Type numberType = b.getI32Type();
               Value isFirst = arith::ConstantOp::create(b, kernel.loc, b.getBoolAttr(true)), no = arith::ConstantOp::create(b, kernel.loc, b.getBoolAttr(false));
               SmallVector<Value> init = {kernel.splat(-std::numeric_limits<double>::infinity(), type), kernel.splatInt(0, numberType), isFirst};
               SmallVector<Value> found = Window::forAll(kernel, g.window.size, init, [&](ValueRange k, ValueRange best) -> SmallVector<Value> {
                 Window::Place place = g.window.inputOf(kernel, coordinates.slice(g.outputAxis(), g.space), k);
                 SmallVector<Value> at(coordinates);
                 llvm::copy(place.at, at.begin() + g.inputAxis());
                 Value x = kernel.loadCompute(views[0], at, lanes);
                 // The first element, a greater one, or a NaN.
                 Value isGreater = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OGT, x, best[0]);
                 Value isNaN = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::UNO, x, x);
                 Value isBetter = arith::OrIOp::create(b, kernel.loc, arith::OrIOp::create(b, kernel.loc, isGreater, isNaN), kernel.broadcast(best[2]));
                 Value takes = andAll(kernel, isBetter, place.inside);
                 Value number = kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, numberType, g.placeInWindow(kernel, k)));
                 Value stillFirst = place.inside ? Value(arith::SelectOp::create(b, kernel.loc, place.inside, no, best[2])) : no;
                 return {selectF(kernel, takes, x, best[0]), selectF(kernel, takes, number, best[1]), stillFirst};
               });
               kernel.storeRounded(found[0], views[1], coordinates, lanes);
               Value number = found[1];
               if (const unsigned width = indexType.getIntOrFloatBitWidth(); width != 32) {
                 auto vector = VectorType::get({kernel.lanes()}, indexType);
                 number = width < 32 ? Value(arith::TruncIOp::create(b, kernel.loc, vector, number)) : Value(arith::ExtUIOp::create(b, kernel.loc, vector, number));
               }
               kernel.store(number, views[2], coordinates, lanes);
             });
  return success();
}

LogicalResult generateMaxGrad(Context &context, train::MaxPoolGradOp op) {
  const TensorLayout &indices = context.operand(0), &cotangent = context.operand(1), &result = context.result(0);
  Generator g(context, op, result, cotangent);
  Type type = train::getComputeType(cotangent.elementType), indexType = indices.elementType;
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
