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
/// Values of a thread that sums blocks' sums.
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

/// A block's part of an exact sum. Every lane of a warp has digits of its own, so that its threads, whose values are alike, do not wait for one another: digit d of lane l counts units of
/// 2^(16 d - 1074). A value adds less than 2^16 to each of five digits, so that a lane takes 2^15 values, a block 2^20. At the end the block adds the digits up, and the words that are not 0 to those in memory.
struct Digits {
  // Rows of 32: two for each limb, one for each count.
  static constexpr int64_t kRows = 2 * kLimbs + 3;

  /// Sets them to 0, which a barrier must follow.
  explicit Digits(KernelBuilder &kernel) : kernel(kernel), memory(kernel.workgroupMemory({kRows, kWarp}, kernel.builder.getI32Type())) {
    thread = gpu::ThreadIdOp::create(b, kernel.loc, gpu::Dimension::x);
    lane = arith::RemUIOp::create(b, kernel.loc, thread, kernel.index(kWarp));
    kernel.forRange(thread, kernel.index(kRows * kWarp), kThreads, [&](Value i) { m.store(m.c32(0), memory, kernel.delinearize(i, {kRows, kWarp})); });
  }

  void add(Value value) {
    Value bits = m.bits(value);
    Value exponent = m.band(m.shr(bits, m.c64(52)), m.c64(0x7FF)), fraction = m.band(bits, m.c64((int64_t(1) << 52) - 1));
    Value negative = m.compare(arith::CmpIPredicate::slt, bits, m.c64(0));
    Value isSpecial = m.equal(exponent, m.c64(0x7FF)), isSubnormal = m.equal(exponent, m.c64(0));
    kernel.ifThen(isSpecial, [&] {
      Value kind = m.select(negative, m.c64(2 * kLimbs + 2), m.c64(2 * kLimbs + 1));
      kind = m.select(m.differs(fraction, m.c64(0)), m.c64(2 * kLimbs), kind);
      m.atomicAdd(m.c32(1), memory, {m.toIndex(kind), lane});
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
        Value part = digit < 4 ? m.band(m.shr(low, m.c64(16 * digit)), m.c64(0xFFFF)) : high;
        part = m.to32(m.select(negative, m.sub(m.c64(0), part), part));
        kernel.ifThen(m.differs(part, m.c32(0)), [&] { m.atomicAdd(part, memory, {m.toIndex(m.add(first, m.c64(digit))), lane}); });
      }
    });
  }

  void addTo(const View &words) {
    kernel.barrier();
    kernel.ifThen(arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ult, thread, kernel.index(kWords)), [&] {
      // Each thread begins with another lane: no two of a warp read the same bank.
      Value isLimb = arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ult, thread, kernel.index(kLimbs));
      Value row = m.select(isLimb, kernel.mul(thread, 2), kernel.add(thread, kLimbs));
      Value next = m.select(isLimb, kernel.add(row, 1), row);
      SmallVector<Value> total = kernel.forRange(kWarp, {m.c64(0), m.c64(0)}, [&](Value i, ValueRange carried) -> SmallVector<Value> {
        Value from = arith::RemUIOp::create(b, kernel.loc, kernel.add(thread, i), kernel.index(kWarp));
        return {m.add(carried[0], m.to64(m.load(memory, {row, from}))), m.add(carried[1], m.to64(m.load(memory, {next, from})))};
      });
      Value word = m.select(isLimb, m.add(total[0], m.shl(total[1], m.c64(16))), total[0]);
      kernel.ifThen(m.differs(word, m.c64(0)), [&] { m.atomicAdd(word, words.memref, {thread}); });
    });
  }

  KernelBuilder &kernel;
  OpBuilder &b = kernel.builder;
  Int m{kernel};
  Value memory, thread, lane;
};

} // namespace

/// Bytes moved: the block sums once.
void kernels::writeAccumulateKernel(KernelBuilder &kernel) {
  View sums = kernel.argument(Access{0, kernel.builder.getF64Type(), {1}, 0, false, 16}, {ShapedType::kDynamic});
  View words = kernel.linear(1, kernel.builder.getI64Type(), kWords, /*write=*/true);
  Digits digits(kernel);
  kernel.barrier();
  kernel.setSpread({/*lanes=*/1, /*threads=*/1, kThreads, kRepeats});
  digits.add(kernel.loadScalar(sums, kernel.begin(1, 1)));
  kernel.afterIterations();
  digits.addTo(words);
}

/// Bytes moved: the gradients once. As many blocks as a device holds at once share all of them, so that a launch begins, ends and adds to the words in memory once, however many buckets there are.
/// A thread asks for its next four vectors of 16 bytes before it looks at the last four: 2 KiB in flight a warp, 64 KiB a multiprocessor with 1024 threads, where 3 TB/s at 800 ns need 18 KiB. For each
/// 2 KiB of bf16 a warp issues about 250 instructions, which take 64 of the 157 cycles that the bytes take.
///
/// The threads of a block of 128 elements are half a warp or a whole one. Squares of fp32 numbers are exact in f64, so that a fused multiply-add is the square and the sum. The sums over threads are exchanged
/// at once: each keeps half of what it has in the first two steps, after which `share` threads have the same sum. In each of as many rounds another of them keeps its sum, so that all threads have one to add.
void kernels::writeSquareSumsKernel(KernelBuilder &kernel, Type gradientType, int64_t ranges) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  Int m{kernel};
  constexpr int64_t kBlock = 128, kWarps = kThreads / kWarp, kLoads = 4;
  const int64_t bits = gradientType.getIntOrFloatBitWidth(), lanes = bits == 16 ? 8 : 4, threads = kBlock / lanes, share = threads / kLoads;
  const int64_t width = kWarp / threads, tile = kWarps * kLoads * width; // blocks that a warp loads at a time; that all do in a round
  View gradients = kernel.argument(Access{0, gradientType, {1}, 0, false, /*alignment=*/64}, {ShapedType::kDynamic});
  View list = kernel.linear(1, b.getI64Type(), 3 * ranges), words = kernel.linear(2, b.getI64Type(), kWords, /*write=*/true);
  kernel.setSpread({lanes, kThreads, /*groups=*/1, /*repeats=*/1, /*interleaved=*/false, /*residents=*/bits == 64 ? 2 : 4});
  const std::pair<Value, Value> shares = kernel.beginShares(tile * share);
  Value first = shares.first, end = shares.second;
  auto entry = [&](Value range, int64_t field) { return m.toIndex(m.load(list.memref, {kernel.add(kernel.mul(range, 3), field)})); };
  auto below = [&](Value x, Value y) { return m.compare(arith::CmpIPredicate::ult, x, y); };

  // The ranges that the block's first and last block of 128 elements are in.
  Value bounds = kernel.workgroupMemory({2}, b.getI64Type());
  Digits digits(kernel);
  kernel.forRange(digits.thread, kernel.index(ranges), kThreads, [&](Value range) {
    Value low = entry(range, 1), high = entry(range, 2), last = kernel.add(end, -1);
    auto has = [&](Value block) -> Value { return m.band(m.compare(arith::CmpIPredicate::ule, low, block), below(block, high)); };
    Value number = arith::IndexCastOp::create(b, loc, b.getI64Type(), range);
    kernel.ifThen(has(first), [&] { m.store(number, bounds, {kernel.index(0)}); });
    kernel.ifThen(has(last), [&] { m.store(number, bounds, {kernel.index(1)}); });
  });
  kernel.barrier();

  SmallVector<Value> split = kernel.delinearize(kernel.thread(), {kWarps, width, threads});
  Value lane = split[2], ofWarp = kernel.add(kernel.mul(split[0], kLoads * width), split[1]);
  Value turn = arith::AndIOp::create(b, loc, lane, kernel.index(share - 1)), place = kernel.mul(lane, lanes);
  // Of a round's blocks of the warp, the one whose sum the thread gets; of all rounds', the one that it keeps.
  Value sumOf = kernel.add(ofWarp, kernel.mul(arith::DivUIOp::create(b, loc, lane, kernel.index(share)), width));
  Value keptOf = kernel.add(sumOf, kernel.mul(turn, tile));
  Type f64 = b.getF64Type();
  auto hasBit = [&](int64_t bit) -> Value { return m.differs(arith::AndIOp::create(b, loc, lane, kernel.index(bit)), kernel.index(0)); };
  auto sumOfSquares = [&](ValueRange loaded) {
    SmallVector<Value> kept;
    for (Value vector : loaded) {
      Value x = kernel.convert(vector, f64), sum;
      for (int64_t i = 0; i < lanes; ++i) {
        Value element = vector::ExtractOp::create(b, loc, x, i);
        sum = sum ? Value(math::FmaOp::create(b, loc, element, element, sum)) : kernel.mulF(element, element);
      }
      kept.push_back(sum);
    }
    for (int64_t distance = threads / 2; distance > 0; distance /= 2) {
      if (kept.size() == 1) {
        kept[0] = kernel.addF(kept[0], kernel.shuffleXor(kept[0], distance));
        continue;
      }
      SmallVector<Value> next;
      Value upper = hasBit(distance);
      for (size_t i = 0, half = kept.size() / 2; i < half; ++i) {
        Value own = m.select(upper, kept[half + i], kept[i]), other = m.select(upper, kept[i], kept[half + i]);
        next.push_back(kernel.addF(own, kernel.shuffleXor(other, distance)));
      }
      kept = next;
    }
    return kept[0];
  };

  kernel.forRange(m.toIndex(m.load(bounds, {kernel.index(0)})), kernel.add(m.toIndex(m.load(bounds, {kernel.index(1)})), 1), 1, [&](Value range) {
    Value begin = entry(range, 1), low = arith::MaxUIOp::create(b, loc, first, begin), high = arith::MinUIOp::create(b, loc, end, entry(range, 2)), last = kernel.add(high, -1);
    Value base = kernel.add(m.sub(entry(range, 0), kernel.mul(begin, kBlock)), place);
    auto load = [&](Value round) {
      SmallVector<Value> loaded;
      for (int64_t load = 0; load < kLoads; ++load) { // beyond the end: the last block again
        Value block = arith::MinUIOp::create(b, loc, kernel.add(kernel.add(round, ofWarp), load * width), last);
        loaded.push_back(kernel.load(gradients, {kernel.add(base, kernel.mul(block, kBlock))}));
      }
      return loaded;
    };
    SmallVector<Value> carried = load(low);
    carried.append({kernel.scalar(0, f64), kernel.index(0)});
    auto loop = scf::ForOp::create(b, loc, low, high, kernel.index(tile), carried);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value round = loop.getInductionVar(), number = loop.getRegionIterArgs().back(), following = kernel.add(round, tile);
    SmallVector<Value> next = load(following);
    Value sum = sumOfSquares(loop.getRegionIterArgs().take_front(kLoads));
    Value kept = m.select(m.equal(turn, number), sum, loop.getRegionIterArgs()[kLoads]);
    Value isLast = m.bor(m.equal(number, kernel.index(share - 1)), m.compare(arith::CmpIPredicate::uge, following, high));
    kernel.ifThen(isLast, [&] {
      Value block = kernel.add(m.sub(round, kernel.mul(number, tile)), keptOf);
      kernel.ifThen(m.band(below(block, high), m.compare(arith::CmpIPredicate::ule, turn, number)), [&] { digits.add(kept); });
    });
    next.append({kept, m.select(isLast, kernel.index(0), kernel.add(number, 1))});
    scf::YieldOp::create(b, loc, next);
  });
  digits.addTo(words);
}

/// A warp or three add the two sums; one thread propagates the carries and rounds the leading bits to nearest even, as ExactSum::round does, and the words are 0 again. Sums of squares are not negative.
void kernels::writeNormKernel(KernelBuilder &kernel, Type normType) {
  Int m{kernel};
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View words = kernel.linear(0, b.getI64Type(), 2 * kWords, /*write=*/true), norm = kernel.linear(1, normType, 1, /*write=*/true);
  Value sum = kernel.workgroupMemory({kWords}, b.getI64Type()), bounds = kernel.workgroupMemory({2}, b.getI32Type());
  kernel.setSpread({/*lanes=*/1, /*threads=*/96});
  kernel.begin(1, 1);
  Value thread = kernel.thread();
  kernel.ifThen(kernel.isLeader(), [&] {
    m.store(m.c32(kLimbs), bounds, {kernel.index(0)});
    m.store(m.c32(0), bounds, {kernel.index(1)});
  });
  kernel.barrier();
  kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, thread, kernel.index(kWords)), [&] {
    Value both = m.add(m.load(words.memref, {thread}), m.load(words.memref, {kernel.add(thread, kWords)}));
    m.store(both, sum, {thread});
    for (Value at : {thread, kernel.add(thread, kWords)})
      m.store(m.c64(0), words.memref, {at});
    // The limbs that are not 0. What the last of them carries ends in the two behind it.
    Value isLimb = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, thread, kernel.index(kLimbs));
    kernel.ifThen(m.band(isLimb, m.differs(both, m.c64(0))), [&] {
      Value limb = arith::IndexCastOp::create(b, loc, b.getI32Type(), thread);
      memref::AtomicRMWOp::create(b, loc, arith::AtomicRMWKind::minu, limb, bounds, kernel.index(0));
      memref::AtomicRMWOp::create(b, loc, arith::AtomicRMWKind::maxu, arith::MinUIOp::create(b, loc, m.add(limb, m.c32(3)), m.c32(kLimbs)), bounds, kernel.index(1));
    });
  });
  kernel.barrier();
  kernel.ifThen(kernel.isLeader(), [&] {
    // Digits of 32 bits from below: the leading three, and whether anything is below them.
    Value zero = m.c64(0);
    auto bound = [&](int64_t which) { return m.toIndex(m.load(bounds, {kernel.index(which)})); };
    auto walk = scf::ForOp::create(b, loc, bound(0), bound(1), kernel.index(1), SmallVector<Value>(6, zero));
    auto next = [&](Value i, ValueRange carried) -> SmallVector<Value> {
      Value carry = carried[0], value = m.add(m.load(sum, {i}), carry), digit = m.band(value, m.c64(0xFFFFFFFF));
      // The three last digits seen; they are kept where the newest is not 0.
      Value d1 = carried[1], d2 = carried[2], below = carried[3]; // the digits before this one, and what is below those
      Value isTop = m.differs(digit, zero);
      Value packed = m.bor(m.shl(digit, m.c64(32)), d1);
      Value sticky = m.bor(m.shl(d2, m.c64(1)), m.select(m.differs(below, zero), m.c64(1), zero));
      Value place = arith::IndexCastOp::create(b, loc, b.getI64Type(), i);
      return {m.sar(value, m.c64(32)), digit, d1, m.bor(below, d2), m.select(isTop, packed, carried[4]), m.select(isTop, m.bor(m.shl(place, m.c64(40)), sticky), carried[5])};
    };
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(walk.getBody());
      scf::YieldOp::create(b, loc, next(walk.getInductionVar(), walk.getRegionIterArgs()));
    }
    ValueRange top = walk.getResults();
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
