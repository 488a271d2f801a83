//===- Transpose.cpp - copies that swap axes, on GPUs ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where source and destination have their neighbouring elements along different axes, a block moves a tile through workgroup memory, so that warps read and write neighbours. Bytes moved: each
// element read and written once.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

static constexpr int64_t kThreads = 256;
/// Shorter axes leave most of a tile empty.
static constexpr int64_t kLeastSize = 16;

bool kernels::generateTransposition(Context &context, StringRef name, ArrayRef<int64_t> givenShape, Access source, Access destination) {
  SmallVector<int64_t> shape(givenShape);
  SmallVector<Access> accesses = {source, destination};
  collapseAxes(shape, accesses);
  const size_t last = shape.size() - 1;
  size_t swapped = last;
  for (size_t axis = 0; axis < last; ++axis)
    if (accesses[0].strides[axis] == 1 && shape[axis] >= kLeastSize)
      swapped = axis;
  if (swapped == last || accesses[0].strides[last] == 1 || accesses[1].strides[last] != 1 || shape[last] < kLeastSize)
    return false;

  // A side is at least 64 bytes. Rows are padded to an odd number of banks: a column is in all of them.
  Type storage = getStorageType(source.elementType);
  const int64_t bytes = storage.getIntOrFloatBitWidth() / 8, side = bytes <= 2 ? 64 : 32, pitch = side + std::max<int64_t>(1, 4 / bytes);
  KernelBuilder kernel(context.context(), name, context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View from = kernel.argument(accesses[0], shape), to = kernel.argument(accesses[1], shape);
  SmallVector<int64_t> outerShape = shape;
  for (size_t axis : {swapped, last})
    outerShape[axis] = llvm::divideCeil(shape[axis], side);
  kernel.setSpread({/*lanes=*/1, kThreads});
  SmallVector<Value> at = kernel.delinearize(kernel.begin(countElements(outerShape), 1), outerShape);
  Value firstRow = kernel.mul(at[swapped], side), firstColumn = kernel.mul(at[last], side);
  Value memory = kernel.workgroupMemory({side, pitch}, storage);
  SmallVector<Value> split = kernel.delinearize(kernel.thread(), {kThreads / side, side});
  Value line = split[0], place = split[1];
  const int64_t lines = kThreads / side;
  auto clamped = [&](Value index, size_t axis) -> Value { return shape[axis] % side == 0 ? index : arith::MinUIOp::create(b, loc, index, kernel.index(shape[axis] - 1)); };

  // Lines of the tile are columns of the destination while it is read, rows while it is written.
  SmallVector<Value> loaded;
  for (int64_t first = 0; first < side; first += lines) {
    at[swapped] = clamped(kernel.add(firstRow, place), swapped);
    at[last] = clamped(kernel.add(firstColumn, kernel.add(line, first)), last);
    loaded.push_back(kernel.loadStorage(from, at));
  }
  for (auto [part, value] : llvm::enumerate(loaded))
    memref::StoreOp::create(b, loc, value, memory, ValueRange{kernel.add(line, part * lines), place});
  kernel.barrier();
  for (int64_t first = 0; first < side; first += lines) {
    Value row = kernel.add(line, first);
    Value value = memref::LoadOp::create(b, loc, memory, ValueRange{place, row});
    at[swapped] = kernel.add(firstRow, row);
    at[last] = kernel.add(firstColumn, place);
    Value inside;
    for (size_t axis : {swapped, last}) {
      if (shape[axis] % side == 0)
        continue;
      Value below = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, at[axis], kernel.index(shape[axis]));
      inside = inside ? Value(arith::AndIOp::create(b, loc, inside, below)) : below;
    }
    auto store = [&] { kernel.storeStorage(value, to, at); };
    if (inside)
      kernel.ifThen(inside, store);
    else
      store();
  }
  context.add(kernel);
  return true;
}
