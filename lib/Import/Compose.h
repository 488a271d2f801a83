//===- Compose.h - short names for ops that an operator becomes --*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Operators that are no op of the training graph are written as several. Kinks are selections, so that a derivative takes one side as PyTorch does (max and min halve it on ties), and a condition
// that NaN fails leads to the branch that keeps NaN.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_COMPOSE_H
#define ZOPT_LIB_IMPORT_COMPOSE_H

#include "Importer.h"
#include "zopt/Dialect/Train/TrainBuilders.h"

namespace zopt::importer {

class Compose {
public:
  using Value = mlir::Value;
  using Predicate = train::ComparePredicate;

  explicit Compose(NodeImporter &node) : b(node.builder), loc(node.loc) {}

  static mlir::Type element(Value x) { return train::getTensorType(x).getElementType(); }
  static llvm::ArrayRef<int64_t> shape(Value x) { return train::getTensorType(x).getShape(); }
  static int64_t rank(Value x) { return train::getTensorType(x).getRank(); }

  /// A number of x's element type; a float rounded as the attributes of ONNX are, to fp32.
  Value c(Value like, double value) { return train::scalar(b, loc, element(like), value); }
  Value add(Value x, Value y) { return train::add(b, loc, x, y); }
  Value sub(Value x, Value y) { return train::sub(b, loc, x, y); }
  Value mul(Value x, Value y) { return train::mul(b, loc, x, y); }
  Value div(Value x, Value y) { return train::div(b, loc, x, y); }
  Value add(Value x, double y) { return add(x, c(x, y)); }
  Value mul(Value x, double y) { return y == 1 ? x : mul(x, c(x, y)); }
  Value div(Value x, double y) { return div(x, c(x, y)); }
  Value compare(Predicate predicate, Value x, Value y) { return train::compare(b, loc, predicate, x, y); }
  Value compare(Predicate predicate, Value x, double y) { return compare(predicate, x, c(x, y)); }
  Value select(Value condition, Value x, Value y) { return train::select(b, loc, condition, x, y); }
  Value cast(Value x, mlir::Type to) { return train::cast(b, loc, x, to); }
  Value reshape(Value x, llvm::ArrayRef<int64_t> to) { return train::reshape(b, loc, x, to); }
  Value broadcast(Value x, llvm::ArrayRef<int64_t> to) { return train::broadcast(b, loc, x, to); }
  Value transpose(Value x, llvm::ArrayRef<int64_t> permutation) { return train::transpose(b, loc, x, permutation); }
  template <typename Op> Value unary(Value x) { return Op::create(b, loc, x.getType(), x); }
  template <typename Op> Value binary(Value x, Value y) {
    return Op::create(b, loc, mlir::RankedTensorType::get(*importer::broadcast(shape(x), shape(y)), element(x)), x, y);
  }
  Value logicalAnd(Value x, Value y) { return binary<train::AndOp>(x, y); }
  Value logicalOr(Value x, Value y) { return binary<train::OrOp>(x, y); }
  Value logicalNot(Value x) { return unary<train::NotOp>(x); }
  Value isNaN(Value x) { return train::IsNaNOp::create(b, loc, train::getTensorType(x).clone(b.getI1Type()), x); }

  /// A reduction over sorted axes, which stay with size 1.
  template <typename Op> Value reduce(Value x, llvm::ArrayRef<int64_t> axes) {
    if (axes.empty())
      return x;
    Shape kept(shape(x));
    for (int64_t axis : axes)
      kept[axis] = 1;
    return Op::create(b, loc, mlir::RankedTensorType::get(kept, element(x)), x, axes, /*keepdims=*/true);
  }
  Value sum(Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceSumOp>(x, axes); }
  Value mean(Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceMeanOp>(x, axes); }
  Value max(Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceMaxOp>(x, axes); }

  /// 0, 1, ... along an axis of a tensor of `rank` axes whose other sizes are 1.
  Value iota(int64_t axis, int64_t size, int64_t rank, mlir::Type type, int64_t start = 0, int64_t step = 1) {
    Shape sizes(rank, 1);
    sizes[axis] = size;
    return train::IotaOp::create(b, loc, mlir::RankedTensorType::get(sizes, type), axis, start, step);
  }
  /// `count` places along an axis from `start` on.
  Value slice(Value x, int64_t axis, int64_t start, int64_t count, int64_t step = 1) {
    Shape sizes(shape(x)), starts(rank(x), 0), steps(rank(x), 1);
    if (step == 1 && start == 0 && count == sizes[axis])
      return x;
    sizes[axis] = count;
    starts[axis] = start;
    steps[axis] = count > 1 ? step : 1;
    return train::SliceOp::create(b, loc, mlir::RankedTensorType::get(sizes, element(x)), x, starts, steps);
  }
  Value concat(llvm::ArrayRef<Value> parts, int64_t axis) {
    Shape sizes(shape(parts.front()));
    sizes[axis] = 0;
    for (Value part : parts)
      sizes[axis] += shape(part)[axis];
    return train::ConcatOp::create(b, loc, mlir::RankedTensorType::get(sizes, element(parts.front())), parts, axis);
  }
  /// The index of the first (or last) of the largest elements along an axis, which stays with size 1, as i64; a NaN counts as the largest.
  Value argMax(Value x, int64_t axis, bool last);

  mlir::OpBuilder &b;
  mlir::Location loc;
};

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_COMPOSE_H
