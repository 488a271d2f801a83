//===- Elementwise.cpp - kernels of elementwise ops ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "Random.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// A longer row is cut into chunks of this many elements, so that one row can be split over threads.
static constexpr int64_t kChunk = 2048;

namespace {

/// A value that is computed from the position instead of being read: start + step * (index along the axis), as an access without memory.
struct Iota {
  SmallVector<int64_t> strides;
  int64_t start;
  Type elementType;
};

/// The kernel's index space after collapsing, and how an outer iteration maps to it.
struct Space {
  SmallVector<int64_t> shape;
  int64_t chunk, chunks;

  Space(KernelBuilder &kernel, ArrayRef<int64_t> collapsed) : shape(collapsed) {
    int64_t row = shape.back();
    if (kernel.isGpu())
      chunk = kernel.spreadElements(row);
    else
      chunk = row <= 2 * kChunk ? row : kChunk;
    chunks = (row + chunk - 1) / chunk;
  }
  int64_t extent() const { return countElements(ArrayRef(shape).drop_back()) * chunks; }

  /// Calls `body` with the coordinates of every vector of outer iteration `outer`.
  void forBlocks(KernelBuilder &kernel, Value outer, function_ref<void(ValueRange, Lanes)> body) const {
    SmallVector<int64_t> outerShape(ArrayRef(shape).drop_back());
    if (chunks > 1 || outerShape.empty())
      outerShape.push_back(chunks);
    SmallVector<Value> coordinates = kernel.delinearize(outer, outerShape);
    Value low;
    if (chunks > 1)
      low = kernel.mul(coordinates.back(), chunk);
    if (outerShape.size() == shape.size())
      coordinates.pop_back();
    coordinates.push_back(Value());
    auto run = [&](Value i, Lanes lanes) {
      coordinates.back() = i;
      body(coordinates, lanes);
    };
    if (chunks > 1)
      kernel.forLanesOfChunk(low, chunk, shape.back(), run);
    else
      kernel.forLanes(shape.back(), run);
  }
};

} // namespace

/// The values of an iota at a vector.
static Value emitIota(KernelBuilder &kernel, const Iota &iota, ValueRange coordinates) {
  OpBuilder &b = kernel.builder;
  Value base = kernel.index(iota.start);
  for (size_t axis = 0; axis < iota.strides.size(); ++axis)
    if (iota.strides[axis] != 0)
      base = kernel.add(base, kernel.mul(coordinates[axis], iota.strides[axis]));
  Type i64 = b.getI64Type();
  Value value = kernel.broadcast(arith::IndexCastOp::create(b, kernel.loc, i64, base));
  if (int64_t inner = iota.strides.back(); inner != 0) {
    Value lanes = kernel.laneNumbers(i64);
    value = arith::AddIOp::create(b, kernel.loc, value, arith::MulIOp::create(b, kernel.loc, lanes, kernel.splatInt(inner, i64)));
  }
  if (auto floating = dyn_cast<FloatType>(iota.elementType)) {
    Type compute = train::getComputeType(floating);
    return kernel.convert(arith::SIToFPOp::create(b, kernel.loc, VectorType::get({kernel.lanes()}, compute), value), floating);
  }
  if (iota.elementType == i64)
    return value;
  return arith::TruncIOp::create(b, kernel.loc, VectorType::get({kernel.lanes()}, iota.elementType), value);
}

/// What a kernel computes of a vector: `iotas` are appended to the values loaded; `places` has one entry a random
/// layout.
using PlacedBody = llvm::function_ref<SmallVector<Value>(KernelBuilder &kernel, ArrayRef<Value> loaded,
                                                         ArrayRef<RandomPlaces> places)>;

static void generate(Context &context, StringRef name, ArrayRef<int64_t> shape, ArrayRef<Access> accesses,
                     ArrayRef<Iota> iotas, ArrayRef<ArrayRef<int64_t>> layouts, PlacedBody body) {
  // Iotas and places in samples collapse like memory: all are linear in the coordinates.
  SmallVector<int64_t> collapsed(shape);
  SmallVector<Access> all(accesses);
  for (const Iota &iota : iotas)
    all.push_back(Access{0, iota.elementType, iota.strides});
  for (ArrayRef<int64_t> layout : layouts)
    splitSamples(collapsed, all, layout);
  const size_t firstPlace = all.size();
  for (ArrayRef<int64_t> layout : layouts) {
    auto [element, sample] = placesOf(collapsed, layout, context.context());
    all.push_back(element);
    all.push_back(sample);
  }
  collapseAxes(collapsed, all);

  KernelBuilder kernel(context.context(), name, context.target);
  SmallVector<View> reads, writes;
  for (const Access &access : ArrayRef(all).take_front(accesses.size()))
    (access.write ? writes : reads).push_back(kernel.argument(access, collapsed));
  Space space(kernel, collapsed);
  Value outer = kernel.begin(space.extent(), grainFor(space.chunk));
  space.forBlocks(kernel, outer, [&](ValueRange coordinates, Lanes lanes) {
    SmallVector<Value> loaded;
    for (const View &view : reads)
      loaded.push_back(kernel.load(view, coordinates, lanes));
    for (auto [iota, access] : llvm::zip(iotas, ArrayRef(all).drop_front(accesses.size())))
      loaded.push_back(emitIota(kernel, Iota{access.strides, iota.start, iota.elementType}, coordinates));
    SmallVector<RandomPlaces> places;
    for (size_t layout = 0; layout < layouts.size(); ++layout)
      places.push_back(emitPlaces(kernel, all[firstPlace + 2 * layout], all[firstPlace + 2 * layout + 1], coordinates));
    SmallVector<Value> stored = body(kernel, loaded, places);
    for (auto [value, view] : llvm::zip(stored, writes))
      kernel.store(value, view, coordinates, lanes);
  });
  context.add(kernel);
}

void kernels::generateElementwise(Context &context, StringRef name, ArrayRef<int64_t> shape, ArrayRef<Access> accesses, ElementwiseBody body) {
  generate(context, name, shape, accesses, {}, {},
           [&](KernelBuilder &kernel, ArrayRef<Value> loaded, ArrayRef<RandomPlaces>) { return body(kernel, loaded); });
}

/// The layout of an op's random numbers, after a check that a kernel over `shape` can draw them.
static FailureOr<ArrayRef<int64_t>> randomLayout(Operation *op, ArrayRef<int64_t> shape) {
  auto layout = op->getAttrOfType<DenseI64ArrayAttr>("layout");
  if (!layout || op->getNumOperands() != 3)
    return op->emitOpError("has no key and counter: zopt-add-random-state gives them");
  ArrayRef<int64_t> own = cast<RankedTensorType>(op->getResult(0).getType()).getShape();
  if (own != shape)
    return op->emitOpError("is in a kernel of another shape");
  return layout.asArrayRef();
}

static Iota makeIota(train::IotaOp op, ArrayRef<int64_t> shape) {
  auto type = cast<RankedTensorType>(op.getType());
  SmallVector<int64_t> strides(shape.size(), 0);
  size_t axis = shape.size() - type.getRank() + op.getAxis();
  if (shape[axis] != 1 && type.getDimSize(op.getAxis()) != 1)
    strides[axis] = op.getStep();
  return Iota{strides, static_cast<int64_t>(op.getStart()), getSignless(type.getElementType())};
}

/// A splat as a vector; null where the constant is none.
static Value emitSplat(KernelBuilder &kernel, train::ConstantOp op) {
  auto elements = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!elements || !elements.isSplat())
    return {};
  elements = elements.bitcast(getSignless(elements.getElementType()));
  auto type = VectorType::get({kernel.lanes()}, elements.getElementType());
  return kernel.constant(cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(type, elements.getSplatValue<Attribute>()))));
}

static LogicalResult generateFused(Context &context, train::FusedOp op) {
  ArrayRef<int64_t> shape = context.result(0).shape;
  SmallVector<Access> accesses;
  SmallVector<Iota> iotas;
  SmallVector<Value> read;
  for (auto [index, argument] : llvm::enumerate(op.getBody().getArguments())) {
    accesses.push_back(broadcastAccess(index, context.operand(index), shape));
    read.push_back(argument);
  }
  for (train::IotaOp iota : op.getBody().getOps<train::IotaOp>()) {
    iotas.push_back(makeIota(iota, shape));
    read.push_back(iota.getResult());
  }
  for (unsigned index = 0; index < op.getNumResults(); ++index)
    accesses.push_back(broadcastAccess(context.resultArgument(index), context.result(index), shape, /*write=*/true));
  for (Operation &inner : op.getBody().getOps())
    if (auto constant = dyn_cast<train::ConstantOp>(inner); constant && !isa<SplatElementsAttr>(constant.getValue()))
      return constant.emitOpError("is not a splat and cannot be part of a fused kernel");

  SmallVector<ArrayRef<int64_t>> layouts;
  for (Operation &inner : op.getBody().getOps()) {
    if (!isRandom(&inner))
      continue;
    FailureOr<ArrayRef<int64_t>> layout = randomLayout(&inner, shape);
    if (failed(layout))
      return failure();
    if (!llvm::is_contained(layouts, *layout))
      layouts.push_back(*layout);
  }

  Operation *unknown = nullptr;
  generate(context, "fused", shape, accesses, iotas, layouts,
           [&](KernelBuilder &kernel, ArrayRef<Value> loaded, ArrayRef<RandomPlaces> places) {
             DenseMap<Value, Value> values;
             for (auto [value, lanes] : llvm::zip(read, loaded))
               values[value] = lanes;
             SmallVector<Value> stored;
             for (Operation &inner : op.getBody().getOps()) {
               if (isa<train::IotaOp>(inner))
                 continue;
               if (auto constant = dyn_cast<train::ConstantOp>(inner)) {
                 values[constant.getResult()] = emitSplat(kernel, constant);
                 continue;
               }
               SmallVector<Value> operands =
                   llvm::map_to_vector(inner.getOperands(), [&](Value operand) { return values.lookup(operand); });
               if (isa<train::YieldOp>(inner))
                 return operands;
               if (isRandom(&inner)) {
                 size_t place = llvm::find(layouts, inner.getAttrOfType<DenseI64ArrayAttr>("layout").asArrayRef()) -
                                layouts.begin();
                 values[inner.getResult(0)] = emitRandomOp(kernel, &inner, operands, places[place]);
                 continue;
               }
               Value result = isa<train::BroadcastOp>(inner) ? operands[0] : emitElementwise(kernel, &inner, operands);
               if (!result) {
                 unknown = &inner;
                 result = kernel.constant(cast<TypedAttr>(kernel.builder.getZeroAttr(
                     VectorType::get({kernel.lanes()}, getElementTypeOrSelf(inner.getResult(0).getType())))));
               }
               values[inner.getResult(0)] = result;
             }
             return stored;
           });
  if (unknown)
    return unknown->emitOpError("has no elementwise kernel for its element type");
  return success();
}

LogicalResult kernels::generateElementwiseOp(Context &context) {
  Operation *op = context.op;
  if (auto fused = dyn_cast<train::FusedOp>(op))
    return generateFused(context, fused);
  ArrayRef<int64_t> shape = context.result(0).shape;
  SmallVector<Access> accesses;
  SmallVector<Iota> iotas;
  for (unsigned index = 0; index < op->getNumOperands(); ++index)
    accesses.push_back(broadcastAccess(index, context.operand(index), shape));
  accesses.push_back(broadcastAccess(context.resultArgument(0), context.result(0), shape, /*write=*/true));
  if (auto iota = dyn_cast<train::IotaOp>(op))
    iotas.push_back(makeIota(iota, shape));
  SmallVector<ArrayRef<int64_t>> layouts;
  if (isRandom(op)) {
    FailureOr<ArrayRef<int64_t>> layout = randomLayout(op, shape);
    if (failed(layout))
      return failure();
    layouts.push_back(*layout);
  }
  bool known = true;
  generate(context, op->getName().stripDialect(), shape, accesses, iotas, layouts,
           [&](KernelBuilder &kernel, ArrayRef<Value> loaded, ArrayRef<RandomPlaces> places) -> SmallVector<Value> {
             if (!iotas.empty())
               return {loaded[0]};
             if (!layouts.empty())
               return {emitRandomOp(kernel, op, loaded, places[0])};
             Value result;
             if (auto constant = dyn_cast<train::ConstantOp>(op))
               result = emitSplat(kernel, constant);
             else
               result = emitElementwise(kernel, op, loaded);
             if (result)
               return {result};
             known = false;
             return {};
           });
  if (!known)
    return op->emitOpError("has no elementwise kernel for its element type");
  return success();
}
