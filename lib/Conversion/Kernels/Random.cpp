//===- Random.cpp - random numbers of elementwise kernels ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) makes four words at once, for four
// neighbouring elements. On a CPU each lane makes those of its own element and keeps one: sixteen lanes of four words
// are as many vectors as one lane's. On a GPU a thread whose lanes are neighbours makes each group of four once.
//
//===----------------------------------------------------------------------===//

#include "Random.h"
#include <array>
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

bool kernels::isRandom(Operation *op) { return isa<train::DropoutOp, train::DropoutMaskOp, train::UniformOp>(op); }

/// Cuts the axis that the place with `inner` elements to its right divides, if there is one.
static void splitAt(SmallVectorImpl<int64_t> &shape, MutableArrayRef<Access> accesses, int64_t inner) {
  int64_t after = 1;
  for (size_t axis = shape.size(); axis-- > 0; after *= shape[axis]) {
    if (inner <= after || inner >= after * shape[axis])
      continue;
    const int64_t size = inner / after;
    shape[axis] /= size;
    shape.insert(shape.begin() + axis + 1, size);
    for (Access &access : accesses) {
      const int64_t stride = access.strides[axis];
      access.strides[axis] = stride * size;
      access.strides.insert(access.strides.begin() + axis + 1, stride);
    }
    return;
  }
}

void kernels::splitSamples(SmallVectorImpl<int64_t> &shape, MutableArrayRef<Access> accesses,
                           ArrayRef<int64_t> layout) {
  if (layout[1] == 1)
    return;
  splitAt(shape, accesses, layout[2]);
  splitAt(shape, accesses, layout[2] * layout[1]);
}

std::pair<Access, Access> kernels::placesOf(ArrayRef<int64_t> shape, ArrayRef<int64_t> layout, MLIRContext *context) {
  Access element{0, IntegerType::get(context, 32), SmallVector<int64_t>(shape.size(), 0)}, sample = element;
  int64_t after = 1;
  for (size_t axis = shape.size(); axis-- > 0; after *= shape[axis]) {
    if (shape[axis] == 1)
      continue;
    if (layout[1] == 1 || after < layout[2])
      element.strides[axis] = after;
    else if (after < layout[2] * layout[1])
      sample.strides[axis] = after / layout[2];
    else
      element.strides[axis] = after / layout[1];
  }
  return {element, sample};
}

RandomPlaces kernels::emitPlaces(KernelBuilder &kernel, const Access &element, const Access &sample,
                                 ValueRange coordinates) {
  OpBuilder &b = kernel.builder;
  auto first = [&](const Access &access) -> Value {
    Value base = kernel.index(0);
    for (auto [coordinate, stride] : llvm::zip(coordinates, access.strides))
      if (stride != 0)
        base = kernel.add(base, kernel.mul(coordinate, stride));
    return arith::IndexCastOp::create(b, kernel.loc, b.getI32Type(), base);
  };
  RandomPlaces places;
  places.element = first(element);
  places.elementStep = element.strides.back();
  places.sampleStep = sample.strides.back();
  if (llvm::any_of(sample.strides, [](int64_t stride) { return stride != 0; }))
    places.sample = first(sample);
  // Vectors begin at multiples of their lanes.
  places.aligned = kernel.lanes() % 4 == 0 && !kernel.getSpread().interleaved && places.elementStep == 1 &&
                   places.sampleStep == 0 &&
                   llvm::all_of(ArrayRef(element.strides).drop_back(), [](int64_t stride) { return stride % 4 == 0; });
  return places;
}

namespace {

/// Arithmetic on i32, scalars or vectors.
struct Words {
  KernelBuilder &k;
  Type type;

  Value constant(uint32_t value) {
    auto attribute = k.builder.getIntegerAttr(k.builder.getI32Type(), int32_t(value));
    if (auto vector = dyn_cast<VectorType>(type))
      return k.constant(cast<TypedAttr>(static_cast<Attribute>(DenseElementsAttr::get(vector, Attribute(attribute)))));
    return k.constant(attribute);
  }
  Value spread(Value scalar) { return isa<VectorType>(type) ? k.broadcast(scalar) : scalar; }
  Value add(Value x, Value y) { return arith::AddIOp::create(k.builder, k.loc, x, y); }
  Value exclusiveOr(Value x, Value y) { return arith::XOrIOp::create(k.builder, k.loc, x, y); }

  /// Ten rounds over the counter (c0, c1, c2, 0) with a key of scalars.
  std::array<Value, 4> philox(Value c0, Value c1, Value c2, Value key0, Value key1) {
    std::array<Value, 4> counter = {c0, c1, c2, constant(0)};
    Value multiplier0 = constant(0xD2511F53), multiplier1 = constant(0xCD9E8D57);
    Words scalars{k, k.builder.getI32Type()};
    Value weyl0 = scalars.constant(0x9E3779B9), weyl1 = scalars.constant(0xBB67AE85);
    for (int round = 0; round < 10; ++round) {
      if (round > 0) {
        key0 = scalars.add(key0, weyl0);
        key1 = scalars.add(key1, weyl1);
      }
      auto product0 = arith::MulUIExtendedOp::create(k.builder, k.loc, multiplier0, counter[0]);
      auto product1 = arith::MulUIExtendedOp::create(k.builder, k.loc, multiplier1, counter[2]);
      counter = {exclusiveOr(exclusiveOr(product1.getHigh(), counter[1]), spread(key0)), product1.getLow(),
                 exclusiveOr(exclusiveOr(product0.getHigh(), counter[3]), spread(key1)), product0.getLow()};
    }
    return counter;
  }
};

} // namespace

/// The random word of each lane.
static Value emitWords(KernelBuilder &k, Value key, Value counter, const RandomPlaces &places) {
  OpBuilder &b = k.builder;
  Type i32 = b.getI32Type();
  auto vector = VectorType::get({k.lanes()}, i32);
  auto shiftRight = [&](Value value, int64_t bits, Type type) -> Value {
    auto amount = b.getIntegerAttr(getElementTypeOrSelf(type), bits);
    Value by = isa<VectorType>(type) ? k.constant(cast<TypedAttr>(static_cast<Attribute>(
                                           DenseElementsAttr::get(cast<ShapedType>(type), Attribute(amount)))))
                                     : k.constant(amount);
    return arith::ShRUIOp::create(b, k.loc, value, by);
  };
  // Both are the same in all lanes.
  auto halves = [&](Value lanes) -> std::pair<Value, Value> {
    Value word = vector::ExtractOp::create(b, k.loc, lanes, int64_t(0));
    return {arith::TruncIOp::create(b, k.loc, i32, word),
            arith::TruncIOp::create(b, k.loc, i32, shiftRight(word, 32, b.getI64Type()))};
  };
  auto [id, seed] = halves(key);
  auto [firstSample, step] = halves(counter);

  if (k.isGpu() && places.aligned) {
    Words words{k, i32};
    Value sample = places.sample ? words.add(firstSample, places.sample) : firstSample;
    Value block = shiftRight(places.element, 2, i32);
    SmallVector<Value> lanes;
    for (int64_t group = 0; group < k.lanes() / 4; ++group)
      llvm::append_range(lanes,
                         words.philox(group ? words.add(block, words.constant(group)) : block, sample, step, seed, id));
    return vector::FromElementsOp::create(b, k.loc, vector, lanes);
  }
  Words words{k, vector};
  auto lanesFrom = [&](Value first, int64_t by) -> Value {
    Value spread = k.broadcast(first);
    if (by == 0)
      return spread;
    Value distance = k.laneNumbers(i32);
    if (by != 1)
      distance = arith::MulIOp::create(b, k.loc, distance, k.splatInt(by, i32));
    return words.add(spread, distance);
  };
  Value element = lanesFrom(places.element, places.elementStep), sample = k.broadcast(firstSample);
  if (places.sample)
    sample = words.add(sample, lanesFrom(places.sample, places.sampleStep));
  std::array<Value, 4> four = words.philox(shiftRight(element, 2, vector), sample, k.broadcast(step), seed, id);
  auto bit = [&](int64_t value) -> Value {
    Value masked = arith::AndIOp::create(b, k.loc, element, k.splatInt(value, i32));
    return arith::CmpIOp::create(b, k.loc, arith::CmpIPredicate::ne, masked, k.splatInt(0, i32));
  };
  Value odd = bit(1);
  Value low = arith::SelectOp::create(b, k.loc, odd, four[1], four[0]),
        high = arith::SelectOp::create(b, k.loc, odd, four[3], four[2]);
  return arith::SelectOp::create(b, k.loc, bit(2), high, low);
}

Value kernels::emitRandomOp(KernelBuilder &k, Operation *op, ArrayRef<Value> operands, const RandomPlaces &places) {
  OpBuilder &b = k.builder;
  if (isa<train::UniformOp>(op)) {
    Value word = emitWords(k, operands[1], operands[2], places);
    Value drawn = arith::ShRUIOp::create(b, k.loc, word,
                                         k.splatInt(8, b.getI32Type())); // below 2^24: exact in f32, and not negative
    Type type = getElementTypeOrSelf(op->getResult(0).getType());
    Value number = arith::SIToFPOp::create(b, k.loc, VectorType::get({k.lanes()}, type), drawn);
    return k.mulF(number, k.splat(0x1p-24, type));
  }
  const double ratio = cast<FloatAttr>(op->getAttr("ratio")).getValueAsDouble();
  const uint32_t threshold = uint32_t(std::min(std::nearbyint(std::ldexp(ratio, 32)), 4294967295.0));
  Value word = emitWords(k, operands[1], operands[2], places);
  Value kept =
      arith::CmpIOp::create(b, k.loc, arith::CmpIPredicate::uge, word, k.splatInt(int32_t(threshold), b.getI32Type()));
  if (isa<train::DropoutMaskOp>(op))
    return kept;
  // A product, so that an element that is not a number stays one, as PyTorch has it.
  Type type = getElementTypeOrSelf(operands[0].getType()), compute = train::getComputeType(type);
  Value factor = arith::SelectOp::create(b, k.loc, kept, k.splat(1 / (1 - ratio), compute), k.splat(0, compute));
  return k.convert(k.mulF(k.convert(operands[0], compute), factor), type);
}
