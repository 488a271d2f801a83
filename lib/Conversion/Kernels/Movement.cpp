//===- Movement.cpp - kernels that copy elements to other places -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Movement that did not become a view. Each kernel reads and writes every element once; bytes are moved as they are, so NaNs keep theirs.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

static void generateCopy(Context &context, StringRef name, ArrayRef<int64_t> shape, Access source, Access destination) {
  destination.write = true;
  if (context.isGpu() && generateTransposition(context, name, shape, source, destination))
    return;
  generateElementwise(context, name, shape, {source, destination},
                      [](KernelBuilder &, ArrayRef<Value> loaded) { return SmallVector<Value>(loaded); });
}

static Access accessOf(unsigned argument, const TensorLayout &layout) { return rowAccess(argument, layout); }

/// The part of `layout` that starts at `starts` and walks `steps` elements an axis.
static Access sliceOf(unsigned argument, const TensorLayout &layout, ArrayRef<int64_t> starts, ArrayRef<int64_t> steps) {
  Access access = accessOf(argument, layout);
  for (size_t axis = 0; axis < starts.size(); ++axis) {
    access.offset += starts[axis] * layout.strides[axis];
    access.strides[axis] *= steps[axis];
  }
  return access;
}

static LogicalResult generateReshape(Context &context, train::ReshapeOp op) {
  const TensorLayout &source = context.operand(0), &destination = context.result(0);
  // A contiguous side can take the other's shape.
  if (destination.isContiguous()) {
    TensorLayout reshaped = TensorLayout::contiguous(RankedTensorType::get(source.shape, source.elementType));
    reshaped.alignment = destination.alignment;
    generateCopy(context, "copy", source.shape, accessOf(0, source), accessOf(1, reshaped));
    return success();
  }
  if (!source.isContiguous())
    return op.emitOpError("has neither a contiguous operand nor a contiguous result");
  TensorLayout reshaped = TensorLayout::contiguous(RankedTensorType::get(destination.shape, source.elementType));
  reshaped.alignment = source.alignment;
  generateCopy(context, "copy", destination.shape, accessOf(0, reshaped), accessOf(1, destination));
  return success();
}

static LogicalResult generateConcat(Context &context, train::ConcatOp op) {
  const TensorLayout &destination = context.result(0);
  SmallVector<int64_t> starts(destination.shape.size(), 0), steps(destination.shape.size(), 1);
  for (unsigned index = 0; index < op->getNumOperands(); ++index) {
    const TensorLayout &source = context.operand(index);
    if (countElements(source.shape) != 0)
      generateCopy(context, "concat", source.shape, accessOf(index, source), sliceOf(context.resultArgument(0), destination, starts, steps));
    starts[op.getAxis()] += source.shape[op.getAxis()];
  }
  return success();
}

/// GPU only: zeros behind the operand along some axes, where rows of the result are whole vectors of 16 bytes. A thread writes one, from elements that lie anywhere. False where it is not that.
static bool generatePadding(Context &context, train::SliceGradOp op) {
  constexpr int64_t kThreads = 256;
  const TensorLayout &source = context.operand(0), &destination = context.result(0);
  const int64_t unit = 16 / std::max<int64_t>(1, source.elementType.getIntOrFloatBitWidth() / 8), rank = destination.shape.size();
  if (!context.isGpu() || rank == 0 || unit > 8 || destination.shape.back() % unit != 0 || !destination.isContiguous() || destination.alignment < 16 ||
      llvm::any_of(op.getStarts(), [](int64_t start) { return start != 0; }) || llvm::any_of(op.getStrides(), [](int64_t step) { return step != 1; }))
    return false;
  KernelBuilder kernel(context.context(), "pad", context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View from = kernel.argument(accessOf(0, source), source.shape);
  Access whole = accessOf(1, destination);
  whole.write = true;
  View to = kernel.argument(whole, destination.shape);
  SmallVector<int64_t> vectors = destination.shape;
  vectors.back() /= unit;
  const int64_t count = countElements(vectors);
  kernel.setSpread({unit, kThreads});
  Value block = kernel.begin(llvm::divideCeil(count, kThreads), 1), number = kernel.add(kernel.mul(block, kThreads), kernel.thread());
  auto write = [&] {
    SmallVector<Value> at = kernel.delinearize(number, vectors);
    at.back() = kernel.mul(at.back(), unit);
    Value zero = kernel.constant(cast<TypedAttr>(b.getZeroAttr(source.elementType)));
    SmallVector<Value> elements;
    for (int64_t lane = 0; lane < unit; ++lane) {
      if (vectors.back() == 1 && lane >= source.shape.back()) {
        elements.push_back(zero);
        continue;
      }
      SmallVector<Value> place(at);
      place.back() = kernel.add(place.back(), lane);
      Value inside;
      for (int64_t axis = 0; axis < rank; ++axis) {
        if (source.shape[axis] == destination.shape[axis] || (axis == rank - 1 && vectors.back() == 1))
          continue;
        Value isBelow = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, place[axis], kernel.index(source.shape[axis]));
        inside = inside ? Value(arith::AndIOp::create(b, loc, inside, isBelow)) : isBelow;
        place[axis] = arith::MinUIOp::create(b, loc, place[axis], kernel.index(source.shape[axis] - 1));
      }
      Value element = kernel.loadStorage(from, place);
      elements.push_back(inside ? Value(arith::SelectOp::create(b, loc, inside, element, zero)) : element);
    }
    kernel.store(vector::FromElementsOp::create(b, loc, VectorType::get({unit}, source.elementType), elements), to, at);
  };
  if (count % kThreads == 0)
    write();
  else
    kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, number, kernel.index(count)), write);
  context.add(kernel);
  return true;
}

static LogicalResult generateSliceGrad(Context &context, train::SliceGradOp op) {
  const TensorLayout &source = context.operand(0), &destination = context.result(0);
  if (countElements(source.shape) != 0 && generatePadding(context, op))
    return success();
  Access whole = accessOf(1, destination);
  whole.write = true;
  generateElementwise(context, "zeros", destination.shape, {whole}, [&](KernelBuilder &kernel, ArrayRef<Value>) -> SmallVector<Value> {
    return {kernel.constant(cast<TypedAttr>(kernel.builder.getZeroAttr(VectorType::get({kernel.lanes()}, destination.elementType))))};
  });
  generateCopy(context, "slice_grad", source.shape, accessOf(0, source), sliceOf(1, destination, op.getStarts(), op.getStrides()));
  return success();
}

/// A literal is part of the kernel: one iteration stores it, 16 elements at a time.
static LogicalResult generateLiteral(Context &context, train::ConstantOp op) {
  auto elements = cast<DenseElementsAttr>(op.getValue());
  elements = elements.bitcast(getSignless(elements.getElementType()));
  const TensorLayout &destination = context.result(0);
  SmallVector<Attribute> values(elements.getValues<Attribute>());
  KernelBuilder kernel(context.context(), "literal", context.target);
  SmallVector<int64_t> shape = destination.shape;
  SmallVector<Access> access = {accessOf(0, destination)};
  access[0].write = true;
  collapseAxes(shape, access);
  View view = kernel.argument(access[0], shape);
  kernel.setSpread({/*lanes=*/context.isGpu() ? 1 : kCpuLanes});
  kernel.begin(1, 1);
  int64_t row = shape.back();
  for (int64_t first = 0; first < static_cast<int64_t>(values.size()); first += row) {
    SmallVector<Value> coordinates(shape.size());
    for (int64_t axis = shape.size() - 1, rest = first; axis >= 0; rest /= shape[axis], --axis)
      coordinates[axis] = kernel.index(rest % shape[axis]);
    if (context.isGpu()) { // one thread, one element at a time
      for (int64_t i = 0; i < row; ++i) {
        coordinates.back() = kernel.index(i);
        kernel.storeScalar(kernel.constant(cast<TypedAttr>(values[first + i])), view, coordinates);
      }
      continue;
    }
    for (int64_t i = 0; i < row; i += kCpuLanes) {
      Lanes lanes{std::min(kCpuLanes, row - i)};
      SmallVector<Attribute> block(ArrayRef(values).slice(first + i, lanes.valid));
      block.resize(kCpuLanes, block.back());
      auto type = VectorType::get({kernel.lanes()}, destination.elementType);
      coordinates.back() = kernel.index(i);
      kernel.store(kernel.constant(cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(type, block)))), view, coordinates, lanes);
    }
  }
  context.add(kernel);
  return success();
}

LogicalResult kernels::generateMovement(Context &context) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(context.op)
      .Case([&](train::ReshapeOp op) { return generateReshape(context, op); })
      .Case([&](train::ConcatOp op) { return generateConcat(context, op); })
      .Case([&](train::SliceGradOp op) { return generateSliceGrad(context, op); })
      .Case([&](train::ConstantOp op) { return generateLiteral(context, op); })
      .Case([&](train::TransposeOp op) {
        const TensorLayout &source = context.operand(0);
        Access access{0, source.elementType, {}, 0, false, source.alignment};
        for (int64_t axis : op.getPermutation())
          access.strides.push_back(source.strides[axis]);
        generateCopy(context, "copy", context.result(0).shape, access, accessOf(1, context.result(0)));
        return success();
      })
      .Case([&](train::SliceOp op) {
        generateCopy(context, "copy", context.result(0).shape, sliceOf(0, context.operand(0), op.getStarts(), op.getStrides()), accessOf(1, context.result(0)));
        return success();
      })
      .Case([&](train::BroadcastOp) {
        ArrayRef<int64_t> shape = context.result(0).shape;
        generateCopy(context, "copy", shape, broadcastAccess(0, context.operand(0), shape), accessOf(1, context.result(0)));
        return success();
      })
      .Default([](Operation *op) { return op->emitOpError("has no movement kernel"); });
}
