//===- KernelBuilder.cpp - writes the body of one kernel -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelBuilder.h"
#include "zopt/Dialect/Train/Train.h"
#include <limits>
#include <numeric>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

int64_t kernels::countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

Type kernels::getSignless(Type elementType) {
  return elementType.isUnsignedInteger() ? IntegerType::get(elementType.getContext(), elementType.getIntOrFloatBitWidth()) : elementType;
}

Type kernels::getStorageType(Type elementType) {
  return elementType.isInteger(1) ? IntegerType::get(elementType.getContext(), 8) : getSignless(elementType);
}

void kernels::collapseAxes(SmallVectorImpl<int64_t> &shape, MutableArrayRef<Access> accesses) {
  auto erase = [&](size_t axis) {
    shape.erase(shape.begin() + axis);
    for (Access &access : accesses)
      access.strides.erase(access.strides.begin() + axis);
  };
  for (size_t axis = shape.size(); axis-- > 0;)
    if (shape[axis] == 1)
      erase(axis);
  for (size_t axis = shape.size(); axis-- > 1;) {
    bool merges = llvm::all_of(accesses, [&](const Access &access) { return access.strides[axis - 1] == access.strides[axis] * shape[axis]; });
    if (!merges)
      continue;
    shape[axis] *= shape[axis - 1];
    erase(axis - 1);
  }
  if (shape.empty()) {
    shape.push_back(1);
    for (Access &access : accesses)
      access.strides.push_back(0);
  }
}

Access kernels::broadcastAccess(unsigned argument, const TensorLayout &layout, ArrayRef<int64_t> shape, bool write) {
  Access access{argument, layout.elementType, SmallVector<int64_t>(shape.size(), 0), 0, write, layout.alignment};
  size_t lead = shape.size() - layout.shape.size();
  for (size_t axis = 0; axis < layout.shape.size(); ++axis)
    if (layout.shape[axis] != 1)
      access.strides[lead + axis] = layout.strides[axis];
  return access;
}

//===----------------------------------------------------------------------===//
// Structure
//===----------------------------------------------------------------------===//

KernelBuilder::KernelBuilder(MLIRContext *context, StringRef name, KernelTarget target) : builder(context), loc(builder.getUnknownLoc()), target(target) {
  OperationState state(loc, plan::KernelOp::getOperationName());
  state.addRegion();
  kernel = cast<plan::KernelOp>(Operation::create(state));
  kernel->setSymName(name);
  entry = &kernel->getBody().emplaceBlock();
  builder.setInsertionPointToEnd(entry);
}

KernelBuilder::~KernelBuilder() = default;

View KernelBuilder::argument(const Access &access, ArrayRef<int64_t> shape) {
  View view;
  view.elementType = access.elementType;
  view.write = access.write;
  SmallVector<int64_t> sizes, strides;
  int64_t offset = access.offset;
  for (unsigned axis = 0; axis < shape.size(); ++axis) {
    if (access.strides[axis] == 0 || shape[axis] == 1)
      continue;
    // Addresses never go down: LLVM takes offsets for unsigned. An axis walked backwards counts from its end.
    bool backwards = access.strides[axis] < 0;
    view.axes.push_back(axis);
    view.reversed.push_back(backwards ? shape[axis] : 0);
    sizes.push_back(shape[axis]);
    strides.push_back(std::abs(access.strides[axis]));
    if (backwards)
      offset += (shape[axis] - 1) * access.strides[axis];
  }
  view.hasInner = !view.axes.empty() && view.axes.back() + 1 == shape.size();
  view.innerStride = !view.hasInner ? 0 : view.reversed.back() ? -strides.back() : strides.back();
  int64_t bytes = llvm::divideCeil(access.elementType.getIntOrFloatBitWidth(), 8);
  view.alignment = llvm::MinAlign(access.alignment ? access.alignment : bytes, offset * bytes);
  for (int64_t stride : view.hasInner ? ArrayRef(strides).drop_back() : ArrayRef(strides))
    view.alignment = llvm::MinAlign(view.alignment, stride * bytes);
  bool identity = offset == 0;
  int64_t expected = 1;
  for (size_t axis = sizes.size(); axis-- > 0;) {
    identity &= strides[axis] == expected;
    if (axis > 0) // the outermost size, which alone may be dynamic, is the stride of nothing
      expected *= sizes[axis];
  }
  MemRefLayoutAttrInterface layout;
  if (!identity)
    layout = StridedLayoutAttr::get(builder.getContext(), offset, strides);
  view.memref = entry->addArgument(MemRefType::get(sizes, getStorageType(access.elementType), layout), loc);
  if (access.write)
    launch.writes.push_back(launch.arguments.size());
  launch.arguments.push_back(access.argument);
  if (view.hasInner) {
    widest = std::max(widest, bytes);
    lanedViews.push_back(view);
  }
  return view;
}

View KernelBuilder::linear(unsigned argumentIndex, Type elementType, int64_t elements, bool write) {
  // A memref axis even where there is one element, so that it can be indexed.
  View view;
  view.elementType = elementType;
  view.axes.push_back(0);
  view.reversed.push_back(0);
  view.hasInner = true;
  view.innerStride = 1;
  view.write = write;
  view.alignment = llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8);
  view.memref = entry->addArgument(MemRefType::get({elements}, getStorageType(elementType)), loc);
  if (write)
    launch.writes.push_back(launch.arguments.size());
  launch.arguments.push_back(argumentIndex);
  return view;
}

Value KernelBuilder::scalarArgument(unsigned argumentIndex, Type type) {
  launch.arguments.push_back(argumentIndex);
  return entry->addArgument(type, loc);
}

Value KernelBuilder::begin(int64_t extent, int64_t grain) {
  launch.extent = extent;
  launch.grain = grain;
  declareRange();
  if (isGpu())
    return beginGpu();
  auto loop = scf::ForOp::create(builder, loc, lower, upper, index(1));
  plan::ReturnOp::create(builder, loc);
  builder.setInsertionPointToStart(loop.getBody());
  return loop.getInductionVar();
}

void KernelBuilder::declareRange() {
  lower = entry->addArgument(builder.getIndexType(), loc);
  upper = entry->addArgument(builder.getIndexType(), loc);
  kernel->setFunctionType(builder.getFunctionType(entry->getArgumentTypes(), {}));
  builder.setInsertionPointToEnd(entry);
}

KernelLaunch KernelBuilder::end() { return launch; }

plan::KernelOp KernelBuilder::release() { return kernel.release(); }

//===----------------------------------------------------------------------===//
// Index arithmetic and constants
//===----------------------------------------------------------------------===//

Value KernelBuilder::constant(TypedAttr value) {
  Value &known = constants[value];
  if (!known) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(entry);
    known = arith::ConstantOp::create(builder, loc, value);
  }
  return known;
}

Value KernelBuilder::index(int64_t value) { return constant(builder.getIndexAttr(value)); }

Value KernelBuilder::add(Value a, Value b) { return arith::AddIOp::create(builder, loc, a, b); }

Value KernelBuilder::add(Value a, int64_t b) {
  if (b == 0)
    return a;
  return arith::AddIOp::create(builder, loc, a, index(b));
}

Value KernelBuilder::mul(Value a, int64_t b) {
  if (b == 1)
    return a;
  return arith::MulIOp::create(builder, loc, a, index(b));
}

SmallVector<Value> KernelBuilder::delinearize(Value linear, ArrayRef<int64_t> shape) {
  SmallVector<Value> coordinates(shape.size());
  // 64-bit divisions cost a GPU dozens of instructions.
  bool narrow = isGpu() && shape.size() > 1 && countElements(shape) < std::numeric_limits<int32_t>::max();
  Type i32 = builder.getI32Type();
  auto toIndex = [&](Value value) -> Value { return narrow ? Value(arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(), value)) : value; };
  if (narrow)
    linear = arith::IndexCastUIOp::create(builder, loc, i32, linear);
  for (size_t axis = shape.size(); axis-- > 1;) {
    if (shape[axis] == 1) {
      coordinates[axis] = index(0);
      continue;
    }
    Value size = narrow ? constant(builder.getI32IntegerAttr(shape[axis])) : index(shape[axis]);
    coordinates[axis] = toIndex(arith::RemUIOp::create(builder, loc, linear, size));
    linear = arith::DivUIOp::create(builder, loc, linear, size);
  }
  if (!shape.empty())
    coordinates[0] = toIndex(linear);
  return coordinates;
}

static TypedAttr splatAttribute(int64_t lanes, Attribute element, Type elementType) {
  return cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(VectorType::get({lanes}, elementType), element)));
}

Value KernelBuilder::splat(double value, Type elementType) { return constant(splatAttribute(lanes(), builder.getFloatAttr(elementType, value), elementType)); }

Value KernelBuilder::splatInt(int64_t value, Type elementType) {
  return constant(splatAttribute(lanes(), builder.getIntegerAttr(elementType, value), elementType));
}

Value KernelBuilder::scalar(double value, Type type) { return constant(builder.getFloatAttr(type, value)); }

Value KernelBuilder::laneNumbers(Type elementType) {
  SmallVector<Attribute> numbers;
  for (int64_t lane = 0; lane < lanes(); ++lane)
    numbers.push_back(builder.getIntegerAttr(elementType, spread.interleaved ? lane * spread.threads : lane));
  return constant(cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(VectorType::get({lanes()}, elementType), numbers))));
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// The memref's indices of the element `lane` places after `indices` along the last axis.
SmallVector<Value> KernelBuilder::selectIndices(const View &view, ValueRange indices, int64_t lane) {
  SmallVector<Value> selected;
  for (auto [axis, size] : llvm::zip(view.axes, view.reversed)) {
    Value place = axis + 1 == indices.size() ? add(indices[axis], spread.interleaved ? lane * spread.threads : lane) : indices[axis];
    selected.push_back(size ? Value(arith::SubIOp::create(builder, loc, index(size - 1), place)) : place);
  }
  return selected;
}

Value KernelBuilder::mask(Lanes lanes) {
  if (lanes.mask)
    return lanes.mask;
  OpBuilder::InsertionGuard guard(builder);
  SmallVector<bool> bits(kCpuLanes, false);
  std::fill(bits.begin(), bits.begin() + lanes.valid, true);
  return constant(cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(VectorType::get({kCpuLanes}, builder.getI1Type()), bits))));
}

Value KernelBuilder::loadScalar(const View &view, ValueRange indices) { return loadElement(view, selectIndices(view, indices)); }

Value KernelBuilder::loadElement(const View &view, ValueRange selected) {
  Value value = memref::LoadOp::create(builder, loc, view.memref, selected);
  if (!view.elementType.isInteger(1))
    return value;
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, value, constant(builder.getI8IntegerAttr(0)));
}

void KernelBuilder::storeScalar(Value value, const View &view, ValueRange indices) {
  SmallVector<Value> selected = selectIndices(view, indices);
  if (spread.threads == 1)
    return storeElement(value, view, selected);
  ifThen(isLeader(), [&] { storeElement(value, view, selected); });
}

void KernelBuilder::storeHere(Value value, const View &view, ValueRange indices) { storeElement(value, view, selectIndices(view, indices)); }

void KernelBuilder::storeElement(Value value, const View &view, ValueRange selected) {
  if (view.elementType.isInteger(1))
    value = arith::ExtUIOp::create(builder, loc, builder.getI8Type(), value);
  memref::StoreOp::create(builder, loc, value, view.memref, selected);
}

Value KernelBuilder::load(const View &view, ValueRange indices, Lanes lanes) {
  if (isGpu())
    return loadGpu(view, indices, lanes);
  if (!view.hasInner)
    return broadcast(loadScalar(view, indices));
  SmallVector<Value> selected = selectIndices(view, indices);
  Type storage = getStorageType(view.elementType);
  auto type = VectorType::get({kCpuLanes}, storage);
  auto zeros = [&] { return constant(cast<TypedAttr>(builder.getZeroAttr(type))); };
  Value value;
  if (view.innerStride == 1 && lanes.full()) {
    value = vector::LoadOp::create(builder, loc, type, view.memref, selected);
  } else if (view.innerStride == 1) {
    Value valid = mask(lanes), none = zeros();
    value = vector::MaskedLoadOp::create(builder, loc, type, view.memref, selected, valid, none);
  } else {
    SmallVector<Value> elements;
    for (int64_t lane = 0; lane < lanes.valid; ++lane)
      elements.push_back(memref::LoadOp::create(builder, loc, view.memref, selectIndices(view, indices, lane)));
    if (!lanes.full())
      elements.append(kCpuLanes - lanes.valid, constant(cast<TypedAttr>(builder.getZeroAttr(storage))));
    value = vector::FromElementsOp::create(builder, loc, type, elements);
  }
  if (view.elementType.isInteger(1))
    value = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, value, zeros());
  return value;
}

void KernelBuilder::store(Value value, const View &view, ValueRange indices, Lanes lanes) {
  if (isGpu())
    return storeGpu(value, view, indices, lanes);
  if (view.elementType.isInteger(1))
    value = arith::ExtUIOp::create(builder, loc, VectorType::get({kCpuLanes}, builder.getI8Type()), value);
  SmallVector<Value> selected = selectIndices(view, indices);
  if (!view.hasInner) { // one element wide
    memref::StoreOp::create(builder, loc, vector::ExtractOp::create(builder, loc, value, 0), view.memref, selected);
  } else if (view.innerStride == 1 && lanes.full()) {
    vector::StoreOp::create(builder, loc, value, view.memref, selected);
  } else if (view.innerStride == 1) {
    vector::MaskedStoreOp::create(builder, loc, view.memref, selected, mask(lanes), value);
  } else {
    for (int64_t lane = 0; lane < lanes.valid; ++lane)
      memref::StoreOp::create(builder, loc, vector::ExtractOp::create(builder, loc, value, lane), view.memref, selectIndices(view, indices, lane));
  }
}

Value KernelBuilder::convert(Value value, Type elementType) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == elementType)
    return value;
  Type type = elementType;
  if (auto vectorType = dyn_cast<VectorType>(value.getType()))
    type = vectorType.clone(elementType);
  // 16-bit types convert from and to fp32 only.
  if (!from.isF32() && !elementType.isF32())
    return convert(convert(value, builder.getF32Type()), elementType);
  if (from.getIntOrFloatBitWidth() < elementType.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(builder, loc, type, value);
  return arith::TruncFOp::create(builder, loc, type, value);
}

/// Integers are computed in their own type.
static Type computeTypeOf(Type elementType) {
  return isa<FloatType>(elementType) ? Type(train::getComputeType(elementType)) : elementType;
}

Value KernelBuilder::loadCompute(const View &view, ValueRange indices, Lanes lanes) {
  return convert(load(view, indices, lanes), computeTypeOf(view.elementType));
}
void KernelBuilder::storeRounded(Value value, const View &view, ValueRange indices, Lanes lanes) {
  store(convert(value, view.elementType), view, indices, lanes);
}
Value KernelBuilder::loadComputeScalar(const View &view, ValueRange indices) {
  return convert(loadScalar(view, indices), computeTypeOf(view.elementType));
}
void KernelBuilder::storeRoundedScalar(Value value, const View &view, ValueRange indices) {
  storeScalar(convert(value, view.elementType), view, indices);
}

Value KernelBuilder::broadcast(Value scalarValue) {
  return vector::BroadcastOp::create(builder, loc, VectorType::get({lanes()}, scalarValue.getType()), scalarValue);
}

Value KernelBuilder::keepValid(Value value, Value other, Lanes lanes) {
  if (lanes.full())
    return value;
  return arith::SelectOp::create(builder, loc, mask(lanes), value, other);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Value KernelBuilder::addF(Value a, Value b) { return arith::AddFOp::create(builder, loc, a, b); }
Value KernelBuilder::subF(Value a, Value b) { return arith::SubFOp::create(builder, loc, a, b); }
Value KernelBuilder::mulF(Value a, Value b) { return arith::MulFOp::create(builder, loc, a, b); }
Value KernelBuilder::divF(Value a, Value b) { return arith::DivFOp::create(builder, loc, a, b); }
Value KernelBuilder::maxF(Value a, Value b) { return arith::MaximumFOp::create(builder, loc, a, b); }
Value KernelBuilder::expF(Value a) { return math::ExpOp::create(builder, loc, a); }
Value KernelBuilder::expOfDifference(Value a, Value reference, bool narrow) {
  if (!isGpu() || !narrow || !getElementTypeOrSelf(a.getType()).isF32())
    return expF(subF(a, reference));
  Value factor = isa<VectorType>(a.getType()) ? splat(1.4426950408889634, builder.getF32Type()) : scalar(1.4426950408889634, builder.getF32Type());
  Value exponent = math::FmaOp::create(builder, loc, a, factor, arith::NegFOp::create(builder, loc, mulF(reference, factor)));
  return math::Exp2Op::create(builder, loc, exponent, arith::FastMathFlags::afn);
}
Value KernelBuilder::logF(Value a) { return math::LogOp::create(builder, loc, a); }

Value KernelBuilder::combine(Combine kind, Value a, Value b) {
  if (isa<IntegerType>(getElementTypeOrSelf(a.getType()))) {
    if (kind == Combine::Sum)
      return arith::AddIOp::create(builder, loc, a, b);
    if (kind == Combine::Product)
      return arith::MulIOp::create(builder, loc, a, b);
    if (kind == Combine::MaxUnsigned)
      return arith::MaxUIOp::create(builder, loc, a, b);
    return arith::MaxSIOp::create(builder, loc, a, b);
  }
  return kind == Combine::Sum ? addF(a, b) : kind == Combine::Product ? mulF(a, b) : maxF(a, b);
}

Value KernelBuilder::identity(Combine kind, Type type) {
  if (auto integer = dyn_cast<IntegerType>(type))
    return splatInt(kind == Combine::Product ? 1 : kind == Combine::Max ? APInt::getSignedMinValue(integer.getWidth()).getSExtValue() : 0, type);
  return splat(kind == Combine::Sum ? 0.0 : kind == Combine::Product ? 1.0 : -std::numeric_limits<double>::infinity(), type);
}

Value KernelBuilder::horizontal(Combine kind, Value value) {
  for (int64_t half = lanes() / 2; half > 0; half /= 2) {
    SmallVector<int64_t> lowLanes(half), highLanes(half);
    std::iota(lowLanes.begin(), lowLanes.end(), 0);
    std::iota(highLanes.begin(), highLanes.end(), half);
    Value low = vector::ShuffleOp::create(builder, loc, value, value, lowLanes);
    Value high = vector::ShuffleOp::create(builder, loc, value, value, highLanes);
    value = combine(kind, low, high);
  }
  return vector::ExtractOp::create(builder, loc, value, 0);
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

void KernelBuilder::forRange(Value low, Value high, int64_t step, function_ref<void(Value)> body) {
  auto loop = scf::ForOp::create(builder, loc, low, high, index(step));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

SmallVector<Value> KernelBuilder::forRange(int64_t n, ValueRange init, function_ref<SmallVector<Value>(Value, ValueRange)> body) {
  if (n == 1)
    return body(index(0), init);
  auto loop = scf::ForOp::create(builder, loc, index(0), index(n), index(1), init);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(loop.getBody());
  SmallVector<Value> next = body(loop.getInductionVar(), loop.getRegionIterArgs());
  if (!init.empty())
    scf::YieldOp::create(builder, loc, next);
  return SmallVector<Value>(loop.getResults());
}

void KernelBuilder::forLanes(int64_t n, LaneBody body) {
  if (isGpu())
    return forLanesGpu(0, n, body);
  int64_t whole = n / kCpuLanes * kCpuLanes;
  if (whole == kCpuLanes)
    body(index(0), Lanes{});
  else if (whole > 0)
    forRange(index(0), index(whole), kCpuLanes, [&](Value i) { body(i, Lanes{}); });
  if (n != whole)
    body(index(whole), Lanes{n - whole});
}

void KernelBuilder::forLanesOfChunk(Value low, int64_t chunk, int64_t n, LaneBody body) {
  if (n <= chunk)
    return forLanes(n, body);
  if (isGpu())
    return runLanes(add(low, placeAt(0)), n % chunk == 0 ? Value() : index(n), n % lanes() == 0, body);
  Value high = add(low, chunk);
  int64_t whole = n / kCpuLanes * kCpuLanes;
  if (n % chunk != 0)
    high = arith::MinUIOp::create(builder, loc, high, index(whole));
  forRange(low, high, kCpuLanes, [&](Value i) { body(i, Lanes{}); });
  if (n == whole)
    return;
  Value last = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, low, index(n / chunk * chunk));
  auto rest = scf::IfOp::create(builder, loc, last, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(rest.thenBlock());
  body(index(whole), Lanes{n - whole});
}

void KernelBuilder::forColumnChunks(Value chunk, int64_t columns, int64_t chunkColumns, function_ref<void(Value, ArrayRef<Lanes>)> body) {
  if (isGpu()) {
    Value first = add(mul(chunk, chunkColumns), placeAt(0));
    return body(first, columns % chunkColumns == 0 ? Lanes{} : lanesBelow(first, index(columns), columns % lanes() == 0));
  }
  int64_t whole = columns / chunkColumns;
  SmallVector<Lanes> rest;
  for (int64_t column = whole * chunkColumns; column < columns; column += kCpuLanes)
    rest.push_back(Lanes{std::min(kCpuLanes, columns - column)});
  SmallVector<Lanes> all(chunkColumns / kCpuLanes);
  if (rest.empty())
    return body(mul(chunk, chunkColumns), all);
  if (whole == 0)
    return body(index(0), rest);
  Value isLast = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, chunk, index(whole));
  auto branch = scf::IfOp::create(builder, loc, isLast, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  body(index(whole * chunkColumns), rest);
  builder.setInsertionPointToStart(branch.elseBlock());
  body(mul(chunk, chunkColumns), all);
}

SmallVector<Value> KernelBuilder::reduceRow(int64_t n, ArrayRef<Combine> kinds, Type type, function_ref<SmallVector<Value>(Value, Lanes)> terms) {
  if (isGpu())
    return reduceRowGpu(n, kinds, type, terms);
  const size_t width = kinds.size();
  const int64_t unroll = n >= 256 ? 4 : 1;
  SmallVector<Value> partial;
  for (int64_t part = 0; part < unroll; ++part)
    for (Combine kind : kinds)
      partial.push_back(identity(kind, type));

  auto accumulate = [&](Value i, Lanes lanes, MutableArrayRef<Value> into) {
    SmallVector<Value> block = terms(i, lanes);
    for (size_t k = 0; k < width; ++k)
      into[k] = combine(kinds[k], into[k], keepValid(block[k], identity(kinds[k], type), lanes));
  };

  const int64_t step = unroll * kCpuLanes, whole = n / step * step;
  if (whole == step) {
    for (int64_t part = 0; part < unroll; ++part)
      accumulate(index(part * kCpuLanes), Lanes{}, MutableArrayRef(partial).slice(part * width, width));
  } else if (whole > 0) {
    auto loop = scf::ForOp::create(builder, loc, index(0), index(whole), index(step), partial);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    SmallVector<Value> next(loop.getRegionIterArgs());
    for (int64_t part = 0; part < unroll; ++part)
      accumulate(add(loop.getInductionVar(), part * kCpuLanes), Lanes{}, MutableArrayRef(next).slice(part * width, width));
    scf::YieldOp::create(builder, loc, next);
    partial.assign(loop.getResults().begin(), loop.getResults().end());
  }
  int64_t part = 0;
  for (int64_t i = whole; i < n; i += kCpuLanes, ++part)
    accumulate(index(i), Lanes{std::min(kCpuLanes, n - i)}, MutableArrayRef(partial).slice(part * width, width));

  for (int64_t stride = unroll / 2; stride > 0; stride /= 2)
    for (int64_t p = 0; p < stride; ++p)
      for (size_t k = 0; k < width; ++k)
        partial[p * width + k] = combine(kinds[k], partial[p * width + k], partial[(p + stride) * width + k]);
  SmallVector<Value> results;
  for (size_t k = 0; k < width; ++k)
    results.push_back(horizontal(kinds[k], partial[k]));
  return results;
}

SmallVector<Value> KernelBuilder::reduceRange(Combine kind, int64_t n, ArrayRef<Value> identities, function_ref<SmallVector<Value>(Value)> f) {
  constexpr int64_t kBlock = 64;
  auto combineAll = [&](ValueRange a, ValueRange b) {
    SmallVector<Value> result;
    for (auto [x, y] : llvm::zip(a, b))
      result.push_back(combine(kind, x, y));
    return result;
  };
  auto block = [&](Value base, int64_t size) {
    return forRange(size, identities, [&](Value i, ValueRange sums) { return combineAll(sums, f(base ? add(base, i) : i)); });
  };
  if (n <= kBlock)
    return block(Value(), n);
  int64_t blocks = n / kBlock;
  SmallVector<Value> total = forRange(blocks, identities, [&](Value i, ValueRange sums) { return combineAll(sums, block(mul(i, kBlock), kBlock)); });
  if (n % kBlock != 0)
    total = combineAll(total, block(index(blocks * kBlock), n % kBlock));
  return total;
}

SmallVector<Value> KernelBuilder::reduceNested(Combine kind, ArrayRef<int64_t> sizes, SmallVectorImpl<Value> &coordinates, ArrayRef<Value> identities,
                                               function_ref<SmallVector<Value>()> leaf) {
  if (sizes.empty())
    return leaf();
  return reduceRange(kind, sizes.front(), identities, [&](Value i) {
    coordinates.push_back(i);
    SmallVector<Value> result = reduceNested(kind, sizes.drop_front(), coordinates, identities, leaf);
    coordinates.pop_back();
    return result;
  });
}
