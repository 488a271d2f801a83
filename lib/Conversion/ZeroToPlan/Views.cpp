//===- Views.cpp - tensors as strided views of storage -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Views.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;

int64_t zopt::getElementBytes(Type elementType) { return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8); }

static int64_t countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

int64_t View::getElements() const { return countElements(layout.shape); }

bool View::isDense() const {
  SmallVector<std::pair<int64_t, int64_t>> axes; // (stride, size)
  for (auto [size, stride] : llvm::zip_equal(layout.shape, layout.strides))
    if (size != 1)
      axes.push_back({stride, size});
  llvm::sort(axes);
  int64_t expected = 1;
  for (auto [stride, size] : axes) {
    if (stride != expected)
      return false;
    expected *= size;
  }
  return true;
}

std::optional<View> zopt::reshapeView(const View &view, ArrayRef<int64_t> shape) {
  int64_t elements = view.getElements();
  if (elements == 0 || elements != countElements(shape))
    return std::nullopt;
  // Axes of size 1 have no say; the others are matched group by group, each group with as many elements on both sides.
  SmallVector<int64_t> sizes, strides;
  for (auto [size, stride] : llvm::zip_equal(view.layout.shape, view.layout.strides))
    if (size != 1) {
      sizes.push_back(size);
      strides.push_back(stride);
    }
  SmallVector<int64_t> result(shape.size(), 1);
  size_t oldBegin = 0, newBegin = 0;
  while (oldBegin < sizes.size()) {
    size_t oldEnd = oldBegin + 1, newEnd = newBegin + 1;
    int64_t oldCount = sizes[oldBegin], newCount = shape[newBegin];
    while (oldCount != newCount) {
      if (newCount < oldCount)
        newCount *= shape[newEnd++];
      else
        oldCount *= sizes[oldEnd++];
    }
    // The old axes of the group must run through memory as one.
    for (size_t axis = oldBegin; axis + 1 < oldEnd; ++axis)
      if (strides[axis] != strides[axis + 1] * sizes[axis + 1])
        return std::nullopt;
    int64_t stride = strides[oldEnd - 1];
    for (size_t axis = newEnd; axis-- > newBegin;) {
      result[axis] = stride;
      stride *= shape[axis];
    }
    oldBegin = oldEnd;
    newBegin = newEnd;
  }
  View reshaped = view;
  reshaped.layout.shape.assign(shape.begin(), shape.end());
  // What is left over are axes of size 1.
  int64_t inner = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] == 1)
      result[axis] = inner;
    inner = result[axis] * shape[axis];
  }
  reshaped.layout.strides = result;
  return reshaped;
}

View zopt::sliceView(const View &view, ArrayRef<int64_t> starts, ArrayRef<int64_t> sizes, ArrayRef<int64_t> steps) {
  View part = view;
  part.layout.shape.assign(sizes.begin(), sizes.end());
  for (size_t axis = 0; axis < starts.size(); ++axis) {
    part.offset += starts[axis] * view.layout.strides[axis];
    part.layout.strides[axis] *= steps[axis];
  }
  return part;
}

bool zopt::isMovement(Operation *op) { return isa<train::ReshapeOp, train::TransposeOp, train::SliceOp, train::BroadcastOp>(op); }

std::optional<View> zopt::viewResult(Operation *op, const View &input) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(op->getResult(0).getType()).getShape();
  return llvm::TypeSwitch<Operation *, std::optional<View>>(op)
      .Case([&](train::ReshapeOp) { return reshapeView(input, shape); })
      .Case([&](train::TransposeOp transpose) {
        View view = input;
        for (auto [axis, source] : llvm::enumerate(transpose.getPermutation())) {
          view.layout.shape[axis] = input.layout.shape[source];
          view.layout.strides[axis] = input.layout.strides[source];
        }
        return view;
      })
      .Case([&](train::SliceOp slice) -> std::optional<View> {
        // Nothing downstream reads backwards.
        if (llvm::any_of(slice.getStrides(), [](int64_t step) { return step < 0; }))
          return std::nullopt;
        return sliceView(input, slice.getStarts(), shape, slice.getStrides());
      })
      .Case([&](train::BroadcastOp) {
        View view = input;
        size_t missing = shape.size() - input.layout.shape.size();
        view.layout.shape.assign(shape.begin(), shape.end());
        view.layout.strides.assign(shape.size(), 0);
        for (size_t axis = missing; axis < shape.size(); ++axis)
          if (input.layout.shape[axis - missing] == shape[axis])
            view.layout.strides[axis] = input.layout.strides[axis - missing];
        return view;
      })
      .Default([](Operation *) { return std::nullopt; });
}

std::optional<View> zopt::viewOperand(Operation *op, const View &result) {
  return llvm::TypeSwitch<Operation *, std::optional<View>>(op)
      .Case([&](train::ReshapeOp reshape) { return reshapeView(result, cast<RankedTensorType>(reshape.getInput().getType()).getShape()); })
      .Case([&](train::TransposeOp transpose) {
        View view = result;
        for (auto [axis, source] : llvm::enumerate(transpose.getPermutation())) {
          view.layout.shape[source] = result.layout.shape[axis];
          view.layout.strides[source] = result.layout.strides[axis];
        }
        return view;
      })
      .Default([](Operation *) { return std::nullopt; });
}
