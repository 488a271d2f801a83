//===- WindowLoops.cpp - loops over windows ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WindowLoops.h"

using namespace mlir;
using namespace zopt::kernels;

void Window::require(KernelBuilder &kernel, Value &inside, Value condition) { inside = inside ? arith::AndIOp::create(kernel.builder, kernel.loc, inside, condition) : condition; }

static Value isBelow(KernelBuilder &kernel, Value place, int64_t size) {
  // Negative places are large ones without a sign.
  return arith::CmpIOp::create(kernel.builder, kernel.loc, arith::CmpIPredicate::ult, place, kernel.index(size));
}

static Value orZero(KernelBuilder &kernel, Value condition, Value place) { return arith::SelectOp::create(kernel.builder, kernel.loc, condition, place, kernel.index(0)); }

Window::Place Window::inputOf(KernelBuilder &kernel, ValueRange o, ValueRange k) const {
  Place place;
  for (int64_t axis = 0; axis < axes(); ++axis) {
    Value at = kernel.add(kernel.add(kernel.mul(o[axis], strides[axis]), kernel.mul(k[axis], dilations[axis])), -pads[axis]);
    const int64_t last = (output[axis] - 1) * strides[axis] + (size[axis] - 1) * dilations[axis] - pads[axis];
    if (pads[axis] > 0 || last >= input[axis]) {
      Value inside = isBelow(kernel, at, input[axis]);
      require(kernel, place.inside, inside);
      at = orZero(kernel, inside, at);
    }
    place.at.push_back(at);
  }
  return place;
}

Window::Place Window::outputOf(KernelBuilder &kernel, ValueRange i, ValueRange k) const {
  OpBuilder &b = kernel.builder;
  Place place;
  for (int64_t axis = 0; axis < axes(); ++axis) {
    Value from = arith::SubIOp::create(b, kernel.loc, kernel.add(i[axis], pads[axis]), kernel.mul(k[axis], dilations[axis])), at = from;
    if (strides[axis] > 1) {
      // Of a negative one the quotient means nothing, but is large.
      Value rest = arith::RemUIOp::create(b, kernel.loc, from, kernel.index(strides[axis]));
      require(kernel, place.inside, arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, rest, kernel.index(0)));
      at = arith::DivUIOp::create(b, kernel.loc, from, kernel.index(strides[axis]));
    }
    Value inside = isBelow(kernel, at, output[axis]);
    require(kernel, place.inside, inside);
    place.at.push_back(orZero(kernel, inside, at));
  }
  return place;
}

SmallVector<Value> Window::forAll(KernelBuilder &kernel, ArrayRef<int64_t> sizes, ValueRange init, function_ref<SmallVector<Value>(ValueRange, ValueRange)> body) {
  SmallVector<Value> coordinates;
  auto nest = [&](auto &self, size_t axis, ValueRange carried) -> SmallVector<Value> {
    if (axis == sizes.size())
      return body(coordinates, carried);
    return kernel.forRange(sizes[axis], carried, [&](Value place, ValueRange inner) {
      coordinates.push_back(place);
      SmallVector<Value> next = self(self, axis + 1, inner);
      coordinates.pop_back();
      return next;
    });
  };
  return nest(nest, 0, init);
}
