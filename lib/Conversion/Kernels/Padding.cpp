//===- Padding.cpp - zeros between the gradients of buckets, on GPUs -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What parameters leave free of their blocks of 128 elements is little, but there are hundreds of such places in a
// large model, and each would be a command that costs more than two microseconds. One launch sets all of them to 0: a
// block of threads has up to 256 words, and finds by its number, in constants, where they are. Layers have buckets that
// are alike, so the constants are few.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

static constexpr int64_t kThreads = 256;

void kernels::writeZeroKernel(KernelBuilder &kernel, ArrayRef<ZeroedWords> kinds) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  SmallVector<SmallVector<View>> buffers;
  SmallVector<SmallVector<std::pair<int64_t, int64_t>>> pieces; // of each kind, for a block each
  unsigned arguments = 0;
  int64_t blocks = 0;
  for (const ZeroedWords &kind : kinds) {
    buffers.emplace_back();
    for (int64_t i = 0; i < kind.count; ++i)
      buffers.back().push_back(
          kernel.linear(arguments++, b.getI16Type(), kind.stretches.back().second, /*write=*/true));
    pieces.emplace_back();
    for (auto [begin, end] : kind.stretches)
      for (int64_t first = begin; first < end; first += kThreads)
        pieces.back().push_back({first, std::min(first + kThreads, end)});
    blocks += kind.count * int64_t(pieces.back().size());
  }
  kernel.setSpread({/*lanes=*/1, kThreads});
  Value block = kernel.begin(blocks, 1), zero = kernel.constant(b.getI16IntegerAttr(0));
  auto below = [&](Value x, Value y) -> Value {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, x, y);
  };
  auto equal = [&](Value x, int64_t y) -> Value {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, x, kernel.index(y));
  };
  int64_t first = 0;
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    ArrayRef<View> views = buffers[kind];
    ArrayRef<std::pair<int64_t, int64_t>> parts = pieces[kind];
    const int64_t count = views.size() * parts.size();
    Value number = kernel.add(block, -first); // wraps where the block is of an earlier kind
    kernel.ifThen(below(number, kernel.index(count)), [&] {
      SmallVector<Value> split = kernel.delinearize(number, {int64_t(views.size()), int64_t(parts.size())});
      Value begin = kernel.index(parts[0].first), end = kernel.index(parts[0].second);
      for (size_t part = 1; part < parts.size(); ++part) {
        Value isPart = equal(split[1], part);
        begin = arith::SelectOp::create(b, loc, isPart, kernel.index(parts[part].first), begin);
        end = arith::SelectOp::create(b, loc, isPart, kernel.index(parts[part].second), end);
      }
      Value word = arith::AddIOp::create(b, loc, begin, kernel.thread());
      kernel.ifThen(below(word, end), [&] {
        for (size_t buffer = 0; buffer < views.size(); ++buffer)
          kernel.ifThen(equal(split[0], buffer),
                        [&] { memref::StoreOp::create(b, loc, zero, views[buffer].memref, ValueRange{word}); });
      });
    });
    first += count;
  }
}
