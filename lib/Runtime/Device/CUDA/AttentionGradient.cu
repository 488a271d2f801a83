//===- AttentionGradient.cu - the gradients of attention on Hopper --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// With S = scale Q K^T, P = exp(S - lse), dP = dO V^T and delta = rowsum(O dO), the gradients are (Dao et al., 2022: FlashAttention, appendix B)
//
//     dV = P^T dO,   dS = P (dP - delta),   dQ = scale dS K,   dK = scale dS^T Q.
//
// Two kernels compute them: one makes dQ for 128 queries from all keys, one makes dK and dV for 128 keys from all queries (of all heads of a group). Each computes S and dP of its own, seven products instead of five,
// and in return no sum crosses a block: results are the same bits in every run, and nothing of the size of S is ever written.
//
// A block has three warpgroups. A thread of the last one loads: 64-row tiles into a ring of stages by the bulk tensor copy engine, and what an item keeps. The other two multiply, each 64 rows of its own, so that S, dP, P and dS
// stay in registers: rows of what is kept are the rows of an accumulator, which as the left side of the next product needs no exchange. They take turns at the tensor cores: one multiplies while the other has exponentials to
// compute. Blocks take items from a counter, the longest of some heads first.
//
// Numerics: products of 16-bit values in fp32; P and dS are rounded to 16 bits as sides of products; exponentials by ex2.approx (2 ulp); sums over tiles in their order.
//
// Roofline of a head of T x T causal scores and width D: 7 T^2 D flops (5 would do), T D (2 * 5 + 2 * 5) bytes or so at 16 bits: bound by products from T = 500 on.
//
// Compiled by clang for sm_90a with ZOPT_WIDTH (64 or 128), ZOPT_HALF (1: f16, 0: bf16) and ZOPT_NAME (of the width and type, for the kernels' names); the PTX is part of zrun.
//
//===----------------------------------------------------------------------===//

#include "AttentionGradientLayout.h"

#define DEVICE __attribute__((device)) inline __attribute__((always_inline))
#define KERNEL extern "C" __attribute__((global))

using namespace zopt::runtime::cuda::attention_gradient;

namespace {

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

constexpr int kWidth = ZOPT_WIDTH;
constexpr bool kHalf = ZOPT_HALF;
constexpr float kLog2E = 1.44269504f;
constexpr float kInfinity = __builtin_inff();

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

DEVICE u32 threadIndex() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE u32 sharedAddress(const void *p) { return u32(u64((__attribute__((address_space(3))) const void *)p)); }
DEVICE int min(int a, int b) { return a < b ? a : b; }
DEVICE int max(int a, int b) { return a > b ? a : b; }

DEVICE void barrierInit(u32 barrier, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory"); }
DEVICE void barrierExpect(u32 barrier, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory"); }
DEVICE void barrierArrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
DEVICE void barrierWait(u32 barrier, u32 parity) {
  asm volatile("{\n"
               ".reg .pred done;\n"
               "WAIT:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@done bra DONE;\n"
               "bra WAIT;\n"
               "DONE:\n"
               "}" ::"r"(barrier),
               "r"(parity)
               : "memory");
}
DEVICE void loadTile(u32 destination, const TensorMap &map, u32 barrier, int column, int row, int head, int batch) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(destination), "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch) : "memory");
}
DEVICE void loadBytes(u32 destination, const void *source, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(destination), "l"(source), "r"(bytes), "r"(barrier) : "memory");
}
DEVICE void prefetchMap(const TensorMap &map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

DEVICE u32 shuffleXor(u32 value, u32 mask) {
  u32 result;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(value), "r"(mask));
  return result;
}
/// A value that all lanes of a warp share, made known as such to the assembler: products stay asynchronous only in branches that it sees to be uniform.
DEVICE int uniform(int value) {
  int result;
  asm volatile("shfl.sync.idx.b32 %0, %1, 0, 31, 0xffffffff;" : "=r"(result) : "r"(value));
  return result;
}
DEVICE int nextItem(u32 *counter) {
  u32 item;
  asm volatile("atom.global.relaxed.gpu.add.u32 %0, [%1], 1;" : "=r"(item) : "l"(counter) : "memory");
  return int(item);
}
DEVICE void storeWord(u32 address, u32 value) { asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory"); }
DEVICE u32 loadWord(u32 address) {
  u32 value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
struct Pair {
  float x, y;
};
DEVICE Pair loadPair(u32 address) {
  Pair pair;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(address) : "memory");
  return pair;
}
struct Quad {
  u32 x, y, z, w;
};
DEVICE Quad loadQuad(u32 address) {
  Quad quad;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(quad.x), "=r"(quad.y), "=r"(quad.z), "=r"(quad.w) : "r"(address) : "memory");
  return quad;
}

#if ZOPT_HALF
#define TYPE "f16"
#else
#define TYPE "bf16"
#endif
DEVICE u32 pack(float low, float high) {
  u32 packed;
  asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
/// sum + the products of both halves of two words.
DEVICE float multiplyAdd(u32 a, u32 b, float sum) {
  float aLow, aHigh, bLow, bHigh;
  if constexpr (kHalf) {
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(aLow), "=f"(aHigh) : "r"(a));
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(bLow), "=f"(bHigh) : "r"(b));
  } else {
    // A bf16 is the upper half of the f32 of its value.
    aLow = __builtin_bit_cast(float, a << 16), aHigh = __builtin_bit_cast(float, a & 0xffff0000u);
    bLow = __builtin_bit_cast(float, b << 16), bHigh = __builtin_bit_cast(float, b & 0xffff0000u);
  }
  return __builtin_fmaf(aHigh, bHigh, __builtin_fmaf(aLow, bLow, sum));
}
DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

//===----------------------------------------------------------------------===//
// Products of a warpgroup
//===----------------------------------------------------------------------===//
//
// An accumulator of 64 x n values: a thread has n / 2 of them. Warp w has rows 16 w to 16 w + 15; of each eight columns, lane l has columns 2 (l % 4) and the next in rows l / 4 (values 4 j, 4 j + 1) and l / 4 + 8 (4 j + 2,
// 4 j + 3). Rounded and packed two by two these are the registers of a left side.

DEVICE void productFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void productCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEVICE void productWait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
/// Nothing that reads or writes `values` moves across it.
template <int n>
DEVICE void keep(float (&values)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i)
    asm volatile("" : "+f"(values[i])::"memory");
}

/// Describes rows of 128 bytes in shared memory, swizzled by 128 bytes. `slice`: bytes to the next 64 columns, for products that sum over rows.
DEVICE u64 matrix(u32 address, u32 slice) { return (u64(1) << 62) | (u64(8 * kRowBytes >> 4) << 32) | (u64(slice >> 4) << 16) | u64((address & 0x3ffff) >> 4); }

#define FOUR(mode, d, i) mode(d[i]), mode(d[i + 1]), mode(d[i + 2]), mode(d[i + 3])
#define SIXTEEN(mode, d, i) FOUR(mode, d, i), FOUR(mode, d, i + 4), FOUR(mode, d, i + 8), FOUR(mode, d, i + 12)
#define VALUES32(mode, d, i) SIXTEEN(mode, d, i), SIXTEEN(mode, d, i + 16)
#define ADDED "+f"
#define WRITTEN "=f"
#define NAMES32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES64 NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define PRODUCT(columns, values, left, right, adds, transposed) "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." TYPE "." TYPE " {" values "}, " left ", " right ", " adds ", 1, 1, " transposed ";"
#define LEFT(a) "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3])

/// 64 rows that an item keeps, as left sides of products over the head's width: in registers where there are any left, which spares the tensor cores half of what they read of shared memory.
template <u32 kSliceBytes, bool kInRegisters>
struct Rows {
  u32 address;
  u32 values[kInRegisters ? kWidth / 4 : 1];

  DEVICE explicit Rows(u32 rows) : address(rows) {
    if constexpr (kInRegisters) {
      const u32 row = threadIndex() / 32 % 4 * 16 + threadIndex() % 16;
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) {
        const u32 chunk = 2 * k + threadIndex() % 32 / 16; // of 16 bytes, swizzled
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(values[4 * k]), "=r"(values[4 * k + 1]), "=r"(values[4 * k + 2]), "=r"(values[4 * k + 3])
                     : "r"(rows + chunk / 8 * kSliceBytes + row * kRowBytes + ((chunk ^ row) % 8) * 16)
                     : "memory");
      }
    }
  }

  /// d[64, 64] = these * right[64, width]^T.
  DEVICE void scores(float (&d)[32], u32 right, u32 rightSlice) const {
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      const u64 b = matrix(right + k / 4 * rightSlice + k % 4 * 32, 16);
      // What d held is not read by the first product, and the assembler must see that it is not.
      if constexpr (kInRegisters) {
        if (k == 0)
          asm volatile(PRODUCT("64", NAMES32, "{%32, %33, %34, %35}", "%36", "0", "0") : VALUES32(WRITTEN, d, 0) : LEFT(values), "l"(b));
        else
          asm volatile(PRODUCT("64", NAMES32, "{%32, %33, %34, %35}", "%36", "1", "0") : VALUES32(ADDED, d, 0) : LEFT(values + 4 * k), "l"(b));
      } else {
        const u64 a = matrix(address + k / 4 * kSliceBytes + k % 4 * 32, 16);
        if (k == 0)
          asm volatile(PRODUCT("64", NAMES32, "%32", "%33", "0", "0, 0") : VALUES32(WRITTEN, d, 0) : "l"(a), "l"(b));
        else
          asm volatile(PRODUCT("64", NAMES32, "%32", "%33", "1", "0, 0") : VALUES32(ADDED, d, 0) : "l"(a), "l"(b));
      }
    }
  }
};

/// d[64, width] += weights[64, 64] * right[64, width], which is read along its rows.
DEVICE void accumulate(float (&d)[kWidth / 2], const u32 (&weights)[16], u32 right, u32 rightSlice) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const u64 b = matrix(right + k * 16 * kRowBytes, rightSlice);
#if ZOPT_WIDTH == 64
    asm volatile(PRODUCT("64", NAMES32, "{%32, %33, %34, %35}", "%36", "1", "1") : VALUES32(ADDED, d, 0) : LEFT(weights + 4 * k), "l"(b));
#else
    asm volatile(PRODUCT("128", NAMES64, "{%64, %65, %66, %67}", "%68", "1", "1") : VALUES32(ADDED, d, 0), VALUES32(ADDED, d, 32) : LEFT(weights + 4 * k), "l"(b));
#endif
  }
}

/// Writes the first `rows` rows of an accumulator, times `factor`. Four lanes hold eight neighbouring columns of four groups two by two: they exchange, so that each stores 16 bytes of one group.
DEVICE void store(const float (&d)[kWidth / 2], float factor, u16 *destination, long long rowStride, int rows) {
  const int lane = threadIndex() % 32, quarter = lane % 4, row = threadIndex() / 32 % 4 * 16 + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int block = 0; block < kWidth / 32; ++block) {
      u32 v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        v[j] = pack(d[(4 * block + j) * 4 + 2 * half] * factor, d[(4 * block + j) * 4 + 2 * half + 1] * factor);
      // A 4 x 4 transpose: v[j] of lane q becomes v[q] of lane j.
#pragma unroll
      for (int mask = 1; mask < 4; mask *= 2)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if ((j & mask) == 0) {
            const bool isUpper = quarter & mask;
            const u32 a = v[j], b = v[j | mask], received = shuffleXor(isUpper ? a : b, mask);
            v[j] = isUpper ? received : a;
            v[j | mask] = isUpper ? b : received;
          }
      const int r = row + 8 * half;
      if (r < rows)
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(destination + r * rowStride + block * 32 + quarter * 8), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
    }
}

//===----------------------------------------------------------------------===//
// Items and stages
//===----------------------------------------------------------------------===//

extern __attribute__((shared)) __attribute__((aligned(1024))) char sharedMemory[];

/// A place in a ring, and the parity of the barriers there.
struct Position {
  u32 index = 0, phase = 0;
  template <int kCount>
  DEVICE void advance() {
    if (++index == kCount) {
      index = 0;
      phase ^= 1;
    }
  }
};

/// Items in an order that keeps what runs at once in the L2 cache: heads in groups; in a group the tiles from the first, or from the last.
struct Item {
  int tile, unit;
  DEVICE Item(int index, int tiles, int units, int unitsOfGroup, bool fromLast) {
    const int group = index / (unitsOfGroup * tiles), within = index - group * unitsOfGroup * tiles;
    const int here = min(unitsOfGroup, units - group * unitsOfGroup);
    tile = within / here;
    unit = group * unitsOfGroup + within - tile * here;
    if (fromLast)
      tile = tiles - 1 - tile;
  }
};

template <typename Shared>
DEVICE void initializeBarriers(u32 shared) {
  if (threadIndex() == 0) {
    for (int i = 0; i < Shared::kSlots; ++i) {
      barrierInit(shared + Shared::kItemFull + 8 * i, 1);
      barrierInit(shared + Shared::kItemEmpty + 8 * i, kConsumerWarps);
    }
    for (int i = 0; i < Shared::kStages; ++i) {
      barrierInit(shared + Shared::kStageFull + 8 * i, 1);
      barrierInit(shared + Shared::kStageEmpty + 8 * i, kConsumerWarps);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __nvvm_bar_sync(0);
}

// The two warpgroups take turns at the tensor cores. A warp that issues products waits until they are nearly through, so it computes nothing meanwhile; in step with one another both would have exponentials to compute at the same
// time, and the tensor cores nothing to do.
constexpr int kFirstTurn = 1; // named barriers: one for each warpgroup
DEVICE void enterTurn(int warpgroup) { asm volatile("bar.sync %0, 256;" ::"r"(kFirstTurn + warpgroup) : "memory"); }
DEVICE void leaveTurn(int warpgroup) { asm volatile("bar.arrive %0, 256;" ::"r"(kFirstTurn + 1 - warpgroup) : "memory"); }

/// Loads a matrix, slice by slice.
template <int kSlices, u32 kSliceBytes>
DEVICE void loadMatrix(u32 destination, const TensorMap &map, u32 barrier, int row, int head, int batch) {
  for (int slice = 0; slice < kSlices; ++slice)
    loadTile(destination + slice * kSliceBytes, map, barrier, slice * kSlice, row, head, batch);
}

//===----------------------------------------------------------------------===//
// The gradient of the query, and the rows' statistics
//===----------------------------------------------------------------------===//

using Query = QueryShared<kWidth>;

/// Tiles of keys that the first `rows` queries see.
DEVICE int keyTilesOf(const Parameters &p, int rows) {
  const int tiles = (p.keys + kTile - 1) / kTile;
  return p.causal ? min(tiles, (min(rows, p.queries) - 1 + p.keys - p.queries) / kTile + 1) : tiles;
}

DEVICE void loadQueries(const Parameters &p, u32 shared, int tiles, int units, int items) {
  Position slot, stage;
  prefetchMap(p.queryBlock), prefetchMap(p.cotangentBlock), prefetchMap(p.outputBlock), prefetchMap(p.keyTile), prefetchMap(p.valueTile);
  for (;;) {
    const int next = nextItem(p.counters);
    barrierWait(shared + Query::kItemEmpty + 8 * slot.index, slot.phase ^ 1);
    const u32 full = shared + Query::kItemFull + 8 * slot.index;
    storeWord(shared + Query::kItems + 4 * slot.index, next);
    if (next >= items) {
      barrierArrive(full);
      return;
    }
    const Item item(next, tiles, units, p.queryGroup, p.causal);
    const int batch = item.unit / p.heads, head = item.unit - batch * p.heads, keyHead = head / (p.heads / p.keyHeads), row = item.tile * kBlock;
    const u32 matrices = shared + slot.index * Query::kItemBytes;
    barrierExpect(full, Query::kItemBytes);
    loadMatrix<Query::kSlices, Query::kItemSlice>(matrices, p.queryBlock, full, row, head, batch);
    loadMatrix<Query::kSlices, Query::kItemSlice>(matrices + Query::kItemMatrix, p.cotangentBlock, full, row, head, batch);
    loadMatrix<Query::kSlices, Query::kItemSlice>(matrices + 2 * Query::kItemMatrix, p.outputBlock, full, row, head, batch);
    slot.advance<Query::kSlots>();
    const int end = keyTilesOf(p, row + kBlock);
    for (int tile = 0; tile < end; ++tile) {
      barrierWait(shared + Query::kStageEmpty + 8 * stage.index, stage.phase ^ 1);
      const u32 ready = shared + Query::kStageFull + 8 * stage.index, pair = shared + Query::kStage + stage.index * Query::kStageBytes;
      barrierExpect(ready, Query::kStageBytes);
      loadMatrix<Query::kSlices, Query::kStageSlice>(pair, p.keyTile, ready, tile * kTile, keyHead, batch);
      loadMatrix<Query::kSlices, Query::kStageSlice>(pair + Query::kStageMatrix, p.valueTile, ready, tile * kTile, keyHead, batch);
      stage.advance<Query::kStages>();
    }
  }
}

DEVICE void queryGradient(const Parameters &p) {
  const u32 shared = sharedAddress(sharedMemory);
  const int tiles = (p.queries + kBlock - 1) / kBlock, units = p.batches * p.heads, items = tiles * units, offset = p.keys - p.queries;
  initializeBarriers<Query>(shared);
  const int warpgroup = uniform(threadIndex() / 128), thread = threadIndex() % 128, lane = thread % 32;
  if (warpgroup == kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread == 0)
      loadQueries(p, shared, tiles, units, items);
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  Position slot, stage;
  const bool first = lane == 0;
  if (warpgroup == 1)
    leaveTurn(warpgroup);
  for (;;) {
    barrierWait(shared + Query::kItemFull + 8 * slot.index, slot.phase);
    const int next = uniform(loadWord(shared + Query::kItems + 4 * slot.index));
    if (next >= items)
      return;
    const Item item(next, tiles, units, p.queryGroup, p.causal);
    const int batch = item.unit / p.heads, head = item.unit - batch * p.heads, row = item.tile * kBlock + warpgroup * kTile;
    const int blockEnd = keyTilesOf(p, (item.tile + 1) * kBlock), end = keyTilesOf(p, row + kTile);
    const u32 query = shared + slot.index * Query::kItemBytes + warpgroup * kTile * kRowBytes, cotangent = query + Query::kItemMatrix, output = cotangent + Query::kItemMatrix;
    // Two threads share a row here; both want its logarithm, which takes a while to come.
    const int pairRow = thread / 2;
    float lse = kInfinity;
    if (row + pairRow < p.queries)
      lse = p.lse[(long long)item.unit * p.queries + row + pairRow];

    const Rows<Query::kItemSlice, kWidth == 64> queries(query), cotangents(cotangent);
    float s[32], ds[32], sum[kWidth / 2];
    u32 weights[16]; // dS, rounded
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i)
      sum[i] = 0;
    barrierWait(shared + Query::kStageFull + 8 * stage.index, stage.phase);
    u32 key = shared + Query::kStage + stage.index * Query::kStageBytes;
    enterTurn(warpgroup);
    productFence();
    queries.scores(s, key, Query::kStageSlice);
    cotangents.scores(ds, key + Query::kStageMatrix, Query::kStageSlice);
    productCommit();
    leaveTurn(warpgroup);

    // Of each row: the logarithm to base two, and the sum over output times cotangent. Rows that are not there have an infinite logarithm, so that their probabilities are zero.
    const u32 rows = shared + Query::kStatistics + warpgroup * kStatisticsBytes;
    {
      float delta = 0;
#pragma unroll
      for (int i = 0; i < kWidth / 16; ++i) {
        const int chunk = thread % 2 * (kWidth / 16) + i; // of 16 bytes, swizzled
        const u32 at = chunk / 8 * Query::kItemSlice + pairRow * kRowBytes + ((chunk % 8) ^ (pairRow % 8)) * 16;
        const Quad a = loadQuad(output + at), b = loadQuad(cotangent + at);
        delta = multiplyAdd(a.w, b.w, multiplyAdd(a.z, b.z, multiplyAdd(a.y, b.y, multiplyAdd(a.x, b.x, delta))));
      }
      delta += __builtin_bit_cast(float, shuffleXor(__builtin_bit_cast(u32, delta), 1));
      lse *= kLog2E;
      if (thread % 2 == 0) {
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(rows + pairRow * 8), "f"(lse), "f"(delta) : "memory");
        if (row < p.queries) {
          const int queryTiles = (p.queries + kTile - 1) / kTile;
          float *statistics = p.statistics + ((long long)item.unit * queryTiles + row / kTile) * (kStatisticsBytes / 4) + pairRow / 2 * 4 + pairRow % 2;
          statistics[0] = lse;
          statistics[2] = delta;
        }
      }
    }
    asm volatile("bar.sync %0, 128;" ::"r"(kFirstTurn + kConsumers + warpgroup) : "memory");
    const int myRow = thread / 32 * 16 + lane / 4;
    const Pair upper = loadPair(rows + myRow * 8), lower = loadPair(rows + (myRow + 8) * 8);

    // From the scores of a tile its probabilities, and from these the gradients of the scores.
    const auto differentiate = [&](int tile) __attribute__((always_inline)) {
      float probability[32];
#pragma unroll
      for (int i = 0; i < 32; ++i)
        probability[i] = exp2(__builtin_fmaf(s[i], p.scaleLog2, i % 4 < 2 ? -upper.x : -lower.x));
      if ((p.causal && tile * kTile + kTile - 1 > row + offset) || tile * kTile + kTile > p.keys) {
        const int lastColumn = p.causal ? row + myRow + offset : p.keys;
#pragma unroll
        for (int i = 0; i < 32; ++i) {
          const int column = tile * kTile + i / 4 * 8 + lane % 4 * 2 + i % 2;
          if (column > lastColumn + i % 4 / 2 * 8 || column >= p.keys)
            probability[i] = 0;
        }
      }
#pragma unroll
      for (int i = 0; i < 32; i += 2) {
        const float delta = i % 4 < 2 ? upper.y : lower.y;
        weights[i / 2] = pack(probability[i] * (ds[i] - delta), probability[i + 1] * (ds[i + 1] - delta));
      }
    };
    productWait();
    keep(s);
    keep(ds);
    differentiate(0);
    for (int tile = 1; tile < end; ++tile) {
      const u32 previousKey = key, previousEmpty = shared + Query::kStageEmpty + 8 * stage.index;
      stage.advance<Query::kStages>();
      barrierWait(shared + Query::kStageFull + 8 * stage.index, stage.phase);
      key = shared + Query::kStage + stage.index * Query::kStageBytes;
      enterTurn(warpgroup);
      productFence();
      queries.scores(s, key, Query::kStageSlice);
      accumulate(sum, weights, previousKey, Query::kStageSlice);
      cotangents.scores(ds, key + Query::kStageMatrix, Query::kStageSlice);
      productCommit();
      leaveTurn(warpgroup);
      productWait();
      keep(s);
      keep(ds);
      keep(sum);
      if (first)
        barrierArrive(previousEmpty);
      differentiate(tile);
    }
    productFence();
    accumulate(sum, weights, key, Query::kStageSlice);
    productCommit();
    productWait();
    keep(sum);
    if (first) {
      barrierArrive(shared + Query::kItemEmpty + 8 * slot.index);
      barrierArrive(shared + Query::kStageEmpty + 8 * stage.index);
    }
    slot.advance<Query::kSlots>();
    stage.advance<Query::kStages>();
    for (int tile = end; tile < blockEnd; ++tile) { // which only the other warpgroup sees
      barrierWait(shared + Query::kStageFull + 8 * stage.index, stage.phase);
      enterTurn(warpgroup);
      leaveTurn(warpgroup);
      if (first)
        barrierArrive(shared + Query::kStageEmpty + 8 * stage.index);
      stage.advance<Query::kStages>();
    }
    const long long *strides = p.queryGradientStrides;
    store(sum, p.scale, p.queryGradient + batch * strides[0] + head * strides[1] + row * strides[2], strides[2], p.queries - row);
  }
}

//===----------------------------------------------------------------------===//
// The gradients of key and value
//===----------------------------------------------------------------------===//

using Key = KeyShared<kWidth>;

/// The first tile of queries that sees a key of `row` or behind it.
DEVICE int firstQueryTile(const Parameters &p, int row) { return p.causal ? max(0, row - (p.keys - p.queries)) / kTile : 0; }

DEVICE void loadKeys(const Parameters &p, u32 shared, int tiles, int units, int items) {
  Position slot, stage;
  const int queryTiles = (p.queries + kTile - 1) / kTile, group = p.heads / p.keyHeads;
  prefetchMap(p.queryTile), prefetchMap(p.cotangentTile), prefetchMap(p.keyBlock), prefetchMap(p.valueBlock);
  for (;;) {
    const int next = nextItem(p.counters + 1);
    barrierWait(shared + Key::kItemEmpty + 8 * slot.index, slot.phase ^ 1);
    const u32 full = shared + Key::kItemFull + 8 * slot.index;
    storeWord(shared + Key::kItems + 4 * slot.index, next);
    if (next >= items) {
      barrierArrive(full);
      return;
    }
    const Item item(next, tiles, units, p.keyGroup, false);
    const int batch = item.unit / p.keyHeads, keyHead = item.unit - batch * p.keyHeads, row = item.tile * kBlock;
    const u32 matrices = shared + slot.index * Key::kItemBytes;
    barrierExpect(full, Key::kItemBytes);
    loadMatrix<Key::kSlices, Key::kItemSlice>(matrices, p.keyBlock, full, row, keyHead, batch);
    loadMatrix<Key::kSlices, Key::kItemSlice>(matrices + Key::kItemMatrix, p.valueBlock, full, row, keyHead, batch);
    slot.advance<Key::kSlots>();
    const int begin = firstQueryTile(p, row);
    for (int head = keyHead * group; head < (keyHead + 1) * group; ++head)
      for (int tile = begin; tile < queryTiles; ++tile) {
        barrierWait(shared + Key::kStageEmpty + 8 * stage.index, stage.phase ^ 1);
        const u32 ready = shared + Key::kStageFull + 8 * stage.index, pair = shared + Key::kStage + stage.index * Key::kStageBytes;
        barrierExpect(ready, Key::kStageBytes + kStatisticsBytes);
        loadMatrix<Key::kSlices, Key::kStageSlice>(pair, p.queryTile, ready, tile * kTile, head, batch);
        loadMatrix<Key::kSlices, Key::kStageSlice>(pair + Key::kStageMatrix, p.cotangentTile, ready, tile * kTile, head, batch);
        loadBytes(shared + Key::kStatistics + stage.index * kStatisticsBytes, p.statistics + ((long long)(batch * p.heads + head) * queryTiles + tile) * (kStatisticsBytes / 4), kStatisticsBytes, ready);
        stage.advance<Key::kStages>();
      }
  }
}

/// A warpgroup's walk over the query heads of a group and the tiles of each. Both warpgroups of a block make it; one passes by tiles that only the other one's keys are seen from.
struct QueryWalk {
  int heads, firstOfBlock, firstOfMine, end;
  int head, tile;
  Position &stage;
  u32 shared;
  int warpgroup;
  bool first;

  /// Goes to the next tile from here on that is mine, and waits until it is there.
  DEVICE void settle() {
    for (;;) {
      if (tile >= end) {
        ++head;
        tile = firstOfBlock;
      }
      if (head >= heads || firstOfBlock >= end)
        return;
      barrierWait(shared + Key::kStageFull + 8 * stage.index, stage.phase);
      if (tile >= firstOfMine)
        return;
      enterTurn(warpgroup);
      leaveTurn(warpgroup);
      if (first)
        barrierArrive(shared + Key::kStageEmpty + 8 * stage.index);
      stage.advance<Key::kStages>();
      ++tile;
    }
  }
};

DEVICE void keyValueGradient(const Parameters &p) {
  const u32 shared = sharedAddress(sharedMemory);
  const int tiles = (p.keys + kBlock - 1) / kBlock, units = p.batches * p.keyHeads, items = tiles * units, queryTiles = (p.queries + kTile - 1) / kTile, offset = p.keys - p.queries;
  initializeBarriers<Key>(shared);
  const int warpgroup = uniform(threadIndex() / 128), thread = threadIndex() % 128, lane = thread % 32;
  if (warpgroup == kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread == 0)
      loadKeys(p, shared, tiles, units, items);
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  Position slot, stage;
  const bool first = lane == 0;
  if (warpgroup == 1)
    leaveTurn(warpgroup);
  for (;;) {
    barrierWait(shared + Key::kItemFull + 8 * slot.index, slot.phase);
    const int next = uniform(loadWord(shared + Key::kItems + 4 * slot.index));
    if (next >= items)
      return;
    const Item item(next, tiles, units, p.keyGroup, false);
    const int batch = item.unit / p.keyHeads, keyHead = item.unit - batch * p.keyHeads, row = item.tile * kBlock + warpgroup * kTile;
    const u32 key = shared + slot.index * Key::kItemBytes + warpgroup * kTile * kRowBytes, value = key + Key::kItemMatrix;
    const int begin = firstQueryTile(p, item.tile * kBlock), group = p.heads / p.keyHeads;
    QueryWalk walk{group, begin, firstQueryTile(p, row), queryTiles, 0, begin, stage, shared, warpgroup, first};
    const int count = group * max(0, queryTiles - walk.firstOfMine);

    const Rows<Key::kItemSlice, kWidth == 64> keys(key);
    const Rows<Key::kItemSlice, kWidth == 64> values(value);
    float s[32], ds[32], ofKey[kWidth / 2], ofValue[kWidth / 2];
    u32 weights[16], scoreGradients[16]; // P and dS, rounded
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i)
      ofKey[i] = ofValue[i] = 0;
    walk.settle();
    if (count > 0) {
      u32 query = shared + Key::kStage + stage.index * Key::kStageBytes;
      enterTurn(warpgroup);
      productFence();
      keys.scores(s, query, Key::kStageSlice);
      values.scores(ds, query + Key::kStageMatrix, Key::kStageSlice);
      productCommit();
      leaveTurn(warpgroup);

      const auto differentiate = [&]() __attribute__((always_inline)) {
        float probability[32];
        const u32 statistics = shared + Key::kStatistics + stage.index * kStatisticsBytes + lane % 4 * 16;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const Pair lse = loadPair(statistics + j * 64);
#pragma unroll
          for (int i = 4 * j; i < 4 * j + 4; ++i)
            probability[i] = exp2(__builtin_fmaf(s[i], p.scaleLog2, i % 2 ? -lse.y : -lse.x));
        }
        if (p.causal && walk.tile * kTile + offset < row + kTile - 1) {
          const int firstColumn = row + thread / 32 * 16 + lane / 4 - offset - walk.tile * kTile;
#pragma unroll
          for (int i = 0; i < 32; ++i)
            if (i / 4 * 8 + lane % 4 * 2 + i % 2 < firstColumn + i % 4 / 2 * 8)
              probability[i] = 0;
        }
#pragma unroll
        for (int i = 0; i < 16; ++i)
          weights[i] = pack(probability[2 * i], probability[2 * i + 1]);
        if constexpr (kWidth == 128) { // which has no registers for the left sides of two products at once
          productFence();
          accumulate(ofValue, weights, query + Key::kStageMatrix, Key::kStageSlice);
          productCommit();
          productWait();
          keep(ofValue);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const Pair delta = loadPair(statistics + j * 64 + 8);
#pragma unroll
          for (int i = 4 * j; i < 4 * j + 4; i += 2)
            scoreGradients[i / 2] = pack(probability[i] * (ds[i] - delta.x), probability[i + 1] * (ds[i + 1] - delta.y));
        }
      };
      const auto accumulateBoth = [&](u32 ofQuery) __attribute__((always_inline)) {
        accumulate(ofKey, scoreGradients, ofQuery, Key::kStageSlice);
        if constexpr (kWidth == 64)
          accumulate(ofValue, weights, ofQuery + Key::kStageMatrix, Key::kStageSlice);
      };
      productWait();
      keep(s);
      keep(ds);
      differentiate();
      for (int i = 1; i < count; ++i) {
        const u32 previousQuery = query, previousEmpty = shared + Key::kStageEmpty + 8 * stage.index;
        stage.advance<Key::kStages>();
        ++walk.tile;
        walk.settle();
        query = shared + Key::kStage + stage.index * Key::kStageBytes;
        enterTurn(warpgroup);
        productFence();
        keys.scores(s, query, Key::kStageSlice);
        accumulateBoth(previousQuery);
        values.scores(ds, query + Key::kStageMatrix, Key::kStageSlice);
        productCommit();
        leaveTurn(warpgroup);
        productWait();
        keep(s);
        keep(ds);
        keep(ofKey);
        keep(ofValue);
        if (first)
          barrierArrive(previousEmpty);
        differentiate();
      }
      productFence();
      accumulateBoth(query);
      productCommit();
      productWait();
      keep(ofKey);
      keep(ofValue);
      if (first)
        barrierArrive(shared + Key::kStageEmpty + 8 * stage.index);
      stage.advance<Key::kStages>();
    }
    if (first)
      barrierArrive(shared + Key::kItemEmpty + 8 * slot.index);
    slot.advance<Key::kSlots>();
    const long long *ofKeys = p.keyGradientStrides, *ofValues = p.valueGradientStrides;
    store(ofValue, 1, p.valueGradient + batch * ofValues[0] + keyHead * ofValues[1] + row * ofValues[2], ofValues[2], p.keys - row);
    store(ofKey, p.scale, p.keyGradient + batch * ofKeys[0] + keyHead * ofKeys[1] + row * ofKeys[2], ofKeys[2], p.keys - row);
  }
}

} // namespace

#define JOINED(a, b) a##b
#define NAMED(prefix, name) JOINED(prefix, name)
KERNEL void __attribute__((launch_bounds(kThreads, 1))) NAMED(zopt_attention_query_gradient_, ZOPT_NAME)(const __attribute__((grid_constant)) Parameters p) { queryGradient(p); }
KERNEL void __attribute__((launch_bounds(kThreads, 1))) NAMED(zopt_attention_key_value_gradient_, ZOPT_NAME)(const __attribute__((grid_constant)) Parameters p) { keyValueGradient(p); }
