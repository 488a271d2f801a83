//===- Convolution.cpp - convolutions as loops, where no library has them ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For f64, which is for tests, and for the few shapes and types that a library refuses. One outer iteration makes up to 64 channels of one place: channels of the output forward, of the input for its
// gradient; for the gradient of a weight, output channels of one element of it. Sums run in order of the window, then of channels (a weight's gradient: of batch, then of space).
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "WindowLoops.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

namespace {

/// The index space: batch, group, a channel that is summed over (or, of a weight's gradient, an input channel), places in input, output and window, and the channels of a vector.
class Generator {
public:
  template <typename Op>
  Generator(Context &context, Op op, const TensorLayout &input, const TensorLayout &weight, const TensorLayout &output, bool lanesAreInputs)
      : context(context), groups(op.getGroups()), space(input.shape.size() - 2), lanesAreInputs(lanesAreInputs) {
    auto spaceOf = [](const TensorLayout &layout) { return SmallVector<int64_t>(ArrayRef(layout.shape).drop_front(2)); };
    window = {spaceOf(input), spaceOf(output), spaceOf(weight), op.getStrides(), op.getDilations(), op.getPads()};
    inputs = weight.shape[1];
    outputs = weight.shape[0] / groups;
    shape = {input.shape[0], groups, lanesAreInputs ? outputs : inputs};
    for (const SmallVector<int64_t> *sizes : {&window.input, &window.output, &window.size})
      shape.append(*sizes);
    shape.push_back(lanesAreInputs ? inputs : outputs);
  }

  Access ofInput(unsigned argument, const TensorLayout &layout, bool write = false) const {
    Access access = empty(argument, layout, write);
    access.strides[0] = layout.strides[0];
    access.strides[1] = inputs * layout.strides[1];
    access.strides[lanesAreInputs ? lane() : 2] = layout.strides[1];
    llvm::copy(ArrayRef(layout.strides).drop_front(2), access.strides.begin() + 3);
    return access;
  }
  Access ofOutput(unsigned argument, const TensorLayout &layout, bool write = false) const {
    Access access = empty(argument, layout, write);
    access.strides[0] = layout.strides[0];
    access.strides[1] = outputs * layout.strides[1];
    access.strides[lanesAreInputs ? 2 : lane()] = layout.strides[1];
    llvm::copy(ArrayRef(layout.strides).drop_front(2), access.strides.begin() + 3 + space);
    return access;
  }
  Access ofWeight(unsigned argument, const TensorLayout &layout, bool write = false) const {
    Access access = empty(argument, layout, write);
    access.strides[1] = outputs * layout.strides[0];
    access.strides[lanesAreInputs ? 2 : lane()] = layout.strides[0];
    access.strides[lanesAreInputs ? lane() : 2] = layout.strides[1];
    llvm::copy(ArrayRef(layout.strides).drop_front(2), access.strides.begin() + 3 + 2 * space);
    return access;
  }
  Access ofBias(unsigned argument, const TensorLayout &layout) const {
    Access access = empty(argument, layout, false);
    access.strides[1] = outputs * layout.strides[0];
    access.strides[lane()] = layout.strides[0];
    return access;
  }

  /// Writes the kernel. The outer iterations are those of `outer`, axes of the index space, by vectors of channels; `sum` gives the terms of a block of lanes, by loops that carry the sums.
  void generate(StringRef name, ArrayRef<Access> accesses, ArrayRef<int64_t> outer, int64_t terms, Type type,
                function_ref<SmallVector<Value>(KernelBuilder &, ArrayRef<View>, ArrayRef<Value> coordinates, ArrayRef<Lanes>, ArrayRef<Value> zeros)> sum) {
    KernelBuilder kernel(context.context(), name, context.target);
    SmallVector<View> views;
    for (const Access &access : accesses)
      views.push_back(kernel.argument(access, shape));
    const int64_t channels = shape.back(), chunkChannels = context.isGpu() ? kernel.spreadElements(channels) : 4 * kCpuLanes;
    SmallVector<int64_t> outerShape;
    for (int64_t axis : outer)
      outerShape.push_back(shape[axis]);
    outerShape.push_back((channels + chunkChannels - 1) / chunkChannels);
    Value iteration = kernel.begin(countElements(outerShape), grainFor(std::min(channels, chunkChannels) * terms));
    SmallVector<Value> places = kernel.delinearize(iteration, outerShape);
    Value chunk = places.pop_back_val();
    SmallVector<Value> coordinates(shape.size(), kernel.index(0));
    for (auto [axis, place] : llvm::zip(outer, places))
      coordinates[axis] = place;
    kernel.forColumnChunks(chunk, channels, chunkChannels, [&](Value first, ArrayRef<Lanes> blocks) {
      coordinates.back() = first;
      SmallVector<Value> zeros(blocks.size(), kernel.splat(0, type));
      SmallVector<Value> sums = sum(kernel, views, coordinates, blocks, zeros);
      for (auto [block, lanes] : llvm::enumerate(blocks)) {
        coordinates.back() = kernel.add(first, block * kCpuLanes);
        Value value = sums[block];
        if (hasBias)
          value = kernel.addF(value, kernel.convert(kernel.loadCompute(views[2], coordinates, lanes), type));
        kernel.storeRounded(value, views.back(), coordinates, lanes);
      }
    });
    context.add(kernel);
  }

  /// sums + scalar * vector where `inside` holds.
  SmallVector<Value> addProducts(KernelBuilder &kernel, ValueRange sums, const View &scalars, const View &vectors, ArrayRef<Value> coordinates, ArrayRef<Lanes> blocks, Value inside, Type type) const {
    SmallVector<Value> at(coordinates), next;
    Value first = at.back(), factor = kernel.broadcast(kernel.convert(kernel.loadComputeScalar(scalars, at), type));
    for (auto [block, lanes] : llvm::enumerate(blocks)) {
      at.back() = kernel.add(first, block * kCpuLanes);
      Value product = kernel.mulF(factor, kernel.convert(kernel.loadCompute(vectors, at, lanes), type));
      if (inside)
        product = arith::SelectOp::create(kernel.builder, kernel.loc, inside, product, kernel.splat(0, type));
      next.push_back(kernel.addF(sums[block], product));
    }
    return next;
  }

  size_t lane() const { return shape.size() - 1; }
  int64_t inputAxis() const { return 3; }
  int64_t outputAxis() const { return 3 + space; }
  int64_t windowAxis() const { return 3 + 2 * space; }
  void set(SmallVectorImpl<Value> &coordinates, int64_t axis, ValueRange places) const { llvm::copy(places, coordinates.begin() + axis); }

  Context &context;
  int64_t groups, space, inputs, outputs; // channels of a group
  bool lanesAreInputs, hasBias = false;
  Window window;
  SmallVector<int64_t> shape;

private:
  Access empty(unsigned argument, const TensorLayout &layout, bool write) const { return Access{argument, layout.elementType, SmallVector<int64_t>(shape.size(), 0), 0, write, layout.alignment}; }
};

SmallVector<int64_t> axesFrom(std::initializer_list<int64_t> first, int64_t axis, int64_t count) {
  SmallVector<int64_t> axes(first);
  for (int64_t i = 0; i < count; ++i)
    axes.push_back(axis + i);
  return axes;
}

LogicalResult generateForward(Context &context, train::ConvOp op) {
  const TensorLayout &input = context.operand(0), &weight = context.operand(1), &output = context.result(0);
  Generator g(context, op, input, weight, output, /*lanesAreInputs=*/false);
  g.hasBias = op.getBias() != nullptr;
  SmallVector<Access> accesses = {g.ofInput(0, input), g.ofWeight(1, weight)};
  if (g.hasBias)
    accesses.push_back(g.ofBias(2, context.operand(2)));
  accesses.push_back(g.ofOutput(context.resultArgument(0), output, /*write=*/true));
  Type type = train::getComputeType(input.elementType);
  g.generate("conv", accesses, axesFrom({0, 1}, g.outputAxis(), g.space), countElements(g.window.size) * g.inputs, type,
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, ArrayRef<Lanes> blocks, ArrayRef<Value> zeros) {
               return Window::forAll(kernel, g.window.size, zeros, [&](ValueRange k, ValueRange sums) {
                 Window::Place place = g.window.inputOf(kernel, coordinates.slice(g.outputAxis(), g.space), k);
                 SmallVector<Value> at(coordinates);
                 g.set(at, g.inputAxis(), place.at);
                 g.set(at, g.windowAxis(), k);
                 return kernel.forRange(g.inputs, sums, [&](Value channel, ValueRange inner) {
                   at[2] = channel;
                   return g.addProducts(kernel, inner, views[0], views[1], at, blocks, place.inside, type);
                 });
               });
             });
  return success();
}

LogicalResult generateInputGrad(Context &context, train::ConvInputGradOp op) {
  const TensorLayout &weight = context.operand(0), &cotangent = context.operand(1), &input = context.result(0);
  Generator g(context, op, input, weight, cotangent, /*lanesAreInputs=*/true);
  SmallVector<Access> accesses = {g.ofWeight(0, weight), g.ofOutput(1, cotangent), g.ofInput(context.resultArgument(0), input, /*write=*/true)};
  Type type = train::getComputeType(weight.elementType);
  g.generate("conv_input_grad", accesses, axesFrom({0, 1}, g.inputAxis(), g.space), countElements(g.window.size) * g.outputs, type,
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, ArrayRef<Lanes> blocks, ArrayRef<Value> zeros) {
               return g.window.forCovering(kernel, coordinates.slice(g.inputAxis(), g.space), zeros, [&](const Window::Place &place, ValueRange k, ValueRange sums) {
                 SmallVector<Value> at(coordinates);
                 g.set(at, g.outputAxis(), place.at);
                 g.set(at, g.windowAxis(), k);
                 return kernel.forRange(g.outputs, sums, [&](Value channel, ValueRange inner) {
                   at[2] = channel;
                   return g.addProducts(kernel, inner, views[1], views[0], at, blocks, place.inside, type);
                 });
               });
             });
  return success();
}

LogicalResult generateWeightGrad(Context &context, train::ConvWeightGradOp op) {
  const TensorLayout &input = context.operand(0), &cotangent = context.operand(1), &weight = context.result(0);
  Generator g(context, op, input, weight, cotangent, /*lanesAreInputs=*/false);
  SmallVector<Access> accesses = {g.ofInput(0, input), g.ofOutput(1, cotangent), g.ofWeight(context.resultArgument(0), weight, /*write=*/true)};
  Type type = train::getComputeType(input.elementType);
  SmallVector<int64_t> summed = {g.shape[0]};
  summed.append(g.window.output);
  g.generate("conv_weight_grad", accesses, axesFrom({1, 2}, g.windowAxis(), g.space), countElements(summed), type,
             [&](KernelBuilder &kernel, ArrayRef<View> views, ArrayRef<Value> coordinates, ArrayRef<Lanes> blocks, ArrayRef<Value> zeros) {
               return Window::forAll(kernel, summed, zeros, [&](ValueRange places, ValueRange sums) {
                 Window::Place place = g.window.inputOf(kernel, places.drop_front(), coordinates.slice(g.windowAxis(), g.space));
                 SmallVector<Value> at(coordinates);
                 at[0] = places[0];
                 g.set(at, g.outputAxis(), places.drop_front());
                 g.set(at, g.inputAxis(), place.at);
                 return g.addProducts(kernel, sums, views[0], views[1], at, blocks, place.inside, type);
               });
             });
  return success();
}

} // namespace

LogicalResult kernels::generateConvolution(Context &context) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(context.op)
      .Case([&](train::ConvOp op) { return generateForward(context, op); })
      .Case([&](train::ConvInputGradOp op) { return generateInputGrad(context, op); })
      .Case([&](train::ConvWeightGradOp op) { return generateWeightGrad(context, op); })
      .Default([](Operation *op) { return op->emitOpError("is no convolution"); });
}
