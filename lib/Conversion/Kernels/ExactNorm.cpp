//===- ExactNorm.cpp - the gradient's norm as an exact sum, on GPUs --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What runtime::ExactSum does: a sum of doubles that is a fixed-point number, 75 words of i64. Word i counts units of 2^(32 i - 1074); the last three count NaNs, +infinities and -infinities. Sums of
// integers are exact, so atomics in any order give the same bits.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

static constexpr int64_t kLimbs = 72, kWords = kLimbs + 3;
static constexpr int64_t kThreads = 256, kWarp = 32;
/// Values of a thread. A block's 4096 keep the digits below, of less than 2^16 each, within 32 bits.
static constexpr int64_t kRepeats = 16;

namespace {

/// Short names for integer arithmetic.
struct Int {
  KernelBuilder &k;
  OpBuilder &b = k.builder;
  Location loc = k.loc;

  Value c(int64_t value, Type type) { return k.constant(b.getIntegerAttr(type, value)); }
  Value c64(int64_t value) { return c(value, b.getI64Type()); }
  Value c32(int64_t value) { return c(value, b.getI32Type()); }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
  Value band(Value x, Value y) { return arith::AndIOp::create(b, loc, x, y); }
  Value bor(Value x, Value y) { return arith::OrIOp::create(b, loc, x, y); }
  Value shl(Value x, Value y) { return arith::ShLIOp::create(b, loc, x, y); }
  Value shr(Value x, Value y) { return arith::ShRUIOp::create(b, loc, x, y); }
  Value sar(Value x, Value y) { return arith::ShRSIOp::create(b, loc, x, y); }
  Value compare(arith::CmpIPredicate predicate, Value x, Value y) { return arith::CmpIOp::create(b, loc, predicate, x, y); }
  Value equal(Value x, Value y) { return compare(arith::CmpIPredicate::eq, x, y); }
  Value differs(Value x, Value y) { return compare(arith::CmpIPredicate::ne, x, y); }
  Value select(Value condition, Value x, Value y) { return arith::SelectOp::create(b, loc, condition, x, y); }
  Value toIndex(Value x) { return arith::IndexCastOp::create(b, loc, b.getIndexType(), x); }
  Value to32(Value x) { return arith::TruncIOp::create(b, loc, b.getI32Type(), x); }
  Value to64(Value x) { return arith::ExtSIOp::create(b, loc, b.getI64Type(), x); }
  Value bits(Value x) { return arith::BitcastOp::create(b, loc, b.getI64Type(), x); }
  Value asDouble(Value x) { return arith::BitcastOp::create(b, loc, b.getF64Type(), x); }
  Value load(Value memory, ValueRange at) { return memref::LoadOp::create(b, loc, memory, at); }
  void store(Value x, Value memory, ValueRange at) { memref::StoreOp::create(b, loc, x, memory, at); }
  void atomicAdd(Value x, Value memory, ValueRange at) { memref::AtomicRMWOp::create(b, loc, arith::AtomicRMWKind::addi, x, memory, at); }
};

} // namespace

/// Every lane of a warp has digits of its own, so that its threads, whose values are alike, do not wait for one another: digit d of lane l counts units of 2^(16 d - 1074). At the end a block adds
/// the digits up and the words that are not 0 to those in memory. Bytes moved: the block sums once.
void kernels::writeAccumulateKernel(KernelBuilder &kernel) {
  Int m{kernel};
  OpBuilder &b = kernel.builder;
  View sums = kernel.argument(Access{0, b.getF64Type(), {1}, 0, false, 16}, {ShapedType::kDynamic});
  View words = kernel.linear(1, b.getI64Type(), kWords, /*write=*/true);
  // Rows of 32: two for each limb, one for each count.
  const int64_t rows = 2 * kLimbs + 3;
  Value digits = kernel.workgroupMemory({rows, kWarp}, b.getI32Type());
  Value thread = gpu::ThreadIdOp::create(b, kernel.loc, gpu::Dimension::x);
  kernel.forRange(thread, kernel.index(rows * kWarp), kThreads, [&](Value i) {
    SmallVector<Value> at = kernel.delinearize(i, {rows, kWarp});
    m.store(m.c32(0), digits, at);
  });
  kernel.barrier();

  kernel.setSpread({/*lanes=*/1, /*threads=*/1, kThreads, kRepeats});
  {
    Value element = kernel.begin(1, 1);
    Value lane = arith::RemUIOp::create(b, kernel.loc, thread, kernel.index(kWarp));
    Value bits = m.bits(kernel.loadScalar(sums, element));
    Value exponent = m.band(m.shr(bits, m.c64(52)), m.c64(0x7FF)), fraction = m.band(bits, m.c64((int64_t(1) << 52) - 1));
    Value negative = m.compare(arith::CmpIPredicate::slt, bits, m.c64(0));
    Value isSpecial = m.equal(exponent, m.c64(0x7FF)), isSubnormal = m.equal(exponent, m.c64(0));
    kernel.ifThen(isSpecial, [&] {
      Value kind = m.select(negative, m.c64(2 * kLimbs + 2), m.c64(2 * kLimbs + 1));
      kind = m.select(m.differs(fraction, m.c64(0)), m.c64(2 * kLimbs), kind);
      m.atomicAdd(m.c32(1), digits, {m.toIndex(kind), lane});
    });
    Value isZero = m.equal(m.bor(exponent, fraction), m.c64(0));
    Value adds = m.equal(m.bor(isSpecial, isZero), m.c(0, b.getI1Type()));
    kernel.ifThen(adds, [&] {
      // mantissa << position units of 2^-1074: a digit's number and five digits from there on.
      Value mantissa = m.select(isSubnormal, fraction, m.bor(fraction, m.c64(int64_t(1) << 52)));
      Value position = m.sub(m.select(isSubnormal, m.c64(1), exponent), m.c64(1));
      Value first = m.shr(position, m.c64(4)), shift = m.band(position, m.c64(15));
      Value low = m.shl(mantissa, shift), high = m.shr(m.shr(mantissa, m.c64(1)), m.sub(m.c64(63), shift));
      for (int64_t digit = 0; digit < 5; ++digit) {
        Value value = digit < 4 ? m.band(m.shr(low, m.c64(16 * digit)), m.c64(0xFFFF)) : high;
        value = m.to32(m.select(negative, m.sub(m.c64(0), value), value));
        kernel.ifThen(m.differs(value, m.c32(0)), [&] { m.atomicAdd(value, digits, {m.toIndex(m.add(first, m.c64(digit))), lane}); });
      }
    });
  }
  kernel.afterIterations();
  kernel.barrier();
  kernel.ifThen(arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ult, thread, kernel.index(kWords)), [&] {
    // Each thread begins with another lane: no two of a warp read the same bank.
    Value isLimb = arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ult, thread, kernel.index(kLimbs));
    Value row = m.select(isLimb, kernel.mul(thread, 2), kernel.add(thread, kLimbs));
    Value next = m.select(isLimb, kernel.add(row, 1), row);
    SmallVector<Value> total = kernel.forRange(kWarp, {m.c64(0), m.c64(0)}, [&](Value i, ValueRange carried) -> SmallVector<Value> {
      Value lane = arith::RemUIOp::create(b, kernel.loc, kernel.add(thread, i), kernel.index(kWarp));
      return {m.add(carried[0], m.to64(m.load(digits, {row, lane}))), m.add(carried[1], m.to64(m.load(digits, {next, lane})))};
    });
    Value word = m.select(isLimb, m.add(total[0], m.shl(total[1], m.c64(16))), total[0]);
    kernel.ifThen(m.differs(word, m.c64(0)), [&] { m.atomicAdd(word, words.memref, {thread}); });
  });
}

/// A warp or three add the two sums; one thread propagates the carries and rounds the leading bits to nearest even, as ExactSum::round does. Sums of squares are not negative.
void kernels::writeNormKernel(KernelBuilder &kernel, Type normType) {
  Int m{kernel};
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View words = kernel.linear(0, b.getI64Type(), 2 * kWords), norm = kernel.linear(1, normType, 1, /*write=*/true);
  Value sum = kernel.workgroupMemory({kWords}, b.getI64Type());
  kernel.setSpread({/*lanes=*/1, /*threads=*/96});
  kernel.begin(1, 1);
  Value thread = kernel.thread();
  kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, thread, kernel.index(kWords)), [&] {
    m.store(m.add(m.load(words.memref, {thread}), m.load(words.memref, {kernel.add(thread, kWords)})), sum, {thread});
  });
  kernel.barrier();
  kernel.ifThen(kernel.isLeader(), [&] {
    // Digits of 32 bits from below: the leading three, and whether anything is below them.
    Value zero = m.c64(0);
    SmallVector<Value> top = kernel.forRange(kLimbs, {zero, zero, zero, zero, zero, zero}, [&](Value i, ValueRange carried) -> SmallVector<Value> {
      Value carry = carried[0], value = m.add(m.load(sum, {i}), carry), digit = m.band(value, m.c64(0xFFFFFFFF));
      // The three last digits seen; they are kept where the newest is not 0.
      Value d1 = carried[1], d2 = carried[2], below = carried[3]; // the digits before this one, and what is below those
      Value isTop = m.differs(digit, zero);
      Value packed = m.bor(m.shl(digit, m.c64(32)), d1);
      Value sticky = m.bor(m.shl(d2, m.c64(1)), m.select(m.differs(below, zero), m.c64(1), zero));
      Value place = arith::IndexCastOp::create(b, loc, b.getI64Type(), i);
      return {m.sar(value, m.c64(32)), digit, d1, m.bor(below, d2), m.select(isTop, packed, carried[4]), m.select(isTop, m.bor(m.shl(place, m.c64(40)), sticky), carried[5])};
    });
    // top[4]: the two leading digits; top[5]: the place of the first, the digit below them and a sticky bit.
    Value leading = top[4], place = m.shr(top[5], m.c64(40)), third = m.band(m.shr(top[5], m.c64(1)), m.c64(0xFFFFFFFF)), sticky = m.band(top[5], m.c64(1));
    Value zeros = math::CountLeadingZerosOp::create(b, loc, leading);
    zeros = m.band(zeros, m.c64(31)); // fewer than 32 unless all is 0
    Value low = m.shl(third, zeros);  // its upper word joins, the rest is sticky
    Value mantissa = m.bor(m.shl(leading, zeros), m.shr(low, m.c64(32)));
    sticky = m.bor(sticky, m.select(m.differs(m.band(low, m.c64(0xFFFFFFFF)), zero), m.c64(1), zero));
    Value kept = m.shr(mantissa, m.c64(11)), dropped = m.bor(m.shl(m.band(mantissa, m.c64(0x7FF)), m.c64(1)), sticky);
    Value half = m.c64(0x800);
    Value up = m.bor(m.compare(arith::CmpIPredicate::ugt, dropped, half), m.band(m.equal(dropped, half), m.differs(m.band(kept, m.c64(1)), zero)));
    kept = m.add(kept, m.select(up, m.c64(1), zero));
    // kept * 2^exponent, in two exact steps: only the last product can overflow.
    Value exponent = m.sub(m.add(m.shl(m.sub(place, m.c64(1)), m.c64(5)), m.c64(11 - 1074)), zeros);
    Value first = m.sar(exponent, m.c64(1)), second = m.sub(exponent, first);
    auto power = [&](Value e) { return m.asDouble(m.shl(m.add(e, m.c64(1023)), m.c64(52))); };
    Value value = arith::UIToFPOp::create(b, loc, b.getF64Type(), kept);
    value = kernel.mulF(kernel.mulF(value, power(first)), power(second));
    auto count = [&](int64_t word) { return m.differs(m.load(sum, {kernel.index(word)}), zero); };
    Value nans = count(kLimbs), positive = count(kLimbs + 1), negative = count(kLimbs + 2);
    Type f64 = b.getF64Type();
    value = m.select(positive, kernel.scalar(std::numeric_limits<double>::infinity(), f64), value);
    value = m.select(m.bor(nans, negative), kernel.scalar(std::numeric_limits<double>::quiet_NaN(), f64), value); // the root of -infinity is none
    value = math::SqrtOp::create(b, loc, value);
    kernel.storeHere(kernel.convert(value, normType), norm, kernel.index(0));
  });
}
