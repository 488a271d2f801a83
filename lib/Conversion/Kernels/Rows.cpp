//===- Rows.cpp - the index space of ops that work on rows -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

Rows::Rows(ArrayRef<int64_t> shape, ArrayRef<Access> given) : outer(shape.drop_back()), n(shape.back()), accesses(given) {
  SmallVector<int64_t> inner;
  for (Access &access : accesses)
    inner.push_back(access.strides.pop_back_val());
  collapseAxes(outer, accesses);
  for (auto [access, stride] : llvm::zip(accesses, inner))
    access.strides.push_back(stride);
}

SmallVector<int64_t> Rows::shape() const {
  SmallVector<int64_t> full = outer;
  full.push_back(n);
  return full;
}

SmallVector<Value> Rows::begin(KernelBuilder &kernel, SmallVectorImpl<View> &views, Value *outerIndex) const {
  for (const Access &access : accesses)
    views.push_back(kernel.argument(access, shape()));
  kernel.spreadRow(n);
  Value index = kernel.begin(count(), grainFor(n));
  if (outerIndex)
    *outerIndex = index;
  SmallVector<Value> coordinates = kernel.delinearize(index, outer);
  coordinates.push_back(Value());
  return coordinates;
}

Access kernels::rowAccess(unsigned argument, const TensorLayout &layout, bool write) {
  return Access{argument, layout.elementType, layout.strides, 0, write, layout.alignment};
}

Access kernels::perRowAccess(unsigned argument, const TensorLayout &layout, bool write) {
  Access access = rowAccess(argument, layout, write);
  access.strides.push_back(0);
  return access;
}

Access kernels::perColumnAccess(unsigned argument, const TensorLayout &layout, unsigned rank, bool write) {
  Access access{argument, layout.elementType, SmallVector<int64_t>(rank - 1, 0), 0, write, layout.alignment};
  access.strides.push_back(layout.strides[0]);
  return access;
}
