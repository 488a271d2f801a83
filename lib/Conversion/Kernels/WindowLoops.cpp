//===- WindowLoops.cpp - loops over windows ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WindowLoops.h"
#include "llvm/Support/MathExtras.h"

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

SmallVector<Value> Window::forCovering(KernelBuilder &kernel, ValueRange i, ValueRange init, function_ref<SmallVector<Value>(const Place &, ValueRange, ValueRange)> body) const {
  OpBuilder &b = kernel.builder;
  // Where steps are longer than 1, only each stride-th window element can be over the place: the loop counts windows back from the last that begins at it or before.
  struct Axis {
    bool byWindows = false;
    Value from, last, first; // the place in the padded input; of that window the number, and its element over the place
  };
  SmallVector<Axis> axes;
  SmallVector<int64_t> counts;
  for (int64_t axis = 0; axis < this->axes(); ++axis) {
    Axis &made = axes.emplace_back();
    made.from = kernel.add(i[axis], pads[axis]);
    made.byWindows = strides[axis] > 1 && dilations[axis] == 1 && pads[axis] >= 0;
    counts.push_back(made.byWindows ? llvm::divideCeil(size[axis], strides[axis]) : size[axis]);
    if (!made.byWindows)
      continue;
    made.last = arith::DivUIOp::create(b, kernel.loc, made.from, kernel.index(strides[axis]));
    made.first = arith::SubIOp::create(b, kernel.loc, made.from, kernel.mul(made.last, strides[axis]));
  }
  return forAll(kernel, counts, init, [&](ValueRange numbers, ValueRange carried) {
    Place place;
    SmallVector<Value> k;
    for (auto [axis, made] : llvm::enumerate(axes)) {
      Value at;
      if (made.byWindows) {
        at = arith::SubIOp::create(b, kernel.loc, made.last, numbers[axis]);
        k.push_back(kernel.add(made.first, kernel.mul(numbers[axis], strides[axis])));
        if (size[axis] % strides[axis] != 0) {
          Value isElement = isBelow(kernel, k.back(), size[axis]);
          require(kernel, place.inside, isElement);
          k.back() = orZero(kernel, isElement, k.back());
        }
      } else {
        k.push_back(numbers[axis]);
        at = arith::SubIOp::create(b, kernel.loc, made.from, kernel.mul(k.back(), dilations[axis]));
        if (strides[axis] > 1) {
          // Of a negative one the quotient means nothing, but is large.
          Value rest = arith::RemUIOp::create(b, kernel.loc, at, kernel.index(strides[axis]));
          require(kernel, place.inside, arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, rest, kernel.index(0)));
          at = arith::DivUIOp::create(b, kernel.loc, at, kernel.index(strides[axis]));
        }
      }
      Value inside = isBelow(kernel, at, output[axis]);
      require(kernel, place.inside, inside);
      place.at.push_back(orZero(kernel, inside, at));
    }
    return body(place, k, carried);
  });
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
