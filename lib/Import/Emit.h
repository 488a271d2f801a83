//===- Emit.h - short forms of train ops for compositions --------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For operators that become many train ops. Every member builds ops at the node's place; where nothing has to be done
// the value itself comes back. Shapes are not checked here: the caller has.
//
// Kinks are selections, so that a derivative takes one side as PyTorch does (max and min halve it on ties), and a
// condition that NaN fails leads to the branch that keeps NaN.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_EMIT_H
#define ZOPT_LIB_IMPORT_EMIT_H

#include "Importer.h"
#include "zopt/Dialect/Train/TrainBuilders.h"

namespace zopt::importer {

/// Elements of a tensor that one node may make: beyond it a size is a mistake (or an attack), which is said before
/// anything overflows.
constexpr int64_t mostElementsOfResult = int64_t(1) << 40;

class Emit {
public:
  using Predicate = train::ComparePredicate;

  explicit Emit(NodeImporter &node) : node(node), b(node.builder), loc(node.loc), i64(b.getI64Type()) {}

  NodeImporter &node;
  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type i64;

  static llvm::ArrayRef<int64_t> shapeOf(mlir::Value value) { return train::getTensorType(value).getShape(); }
  static mlir::Type elementOf(mlir::Value value) { return train::getTensorType(value).getElementType(); }
  static int64_t rankOf(mlir::Value value) { return train::getTensorType(value).getRank(); }

  //===--- numbers ---===//
  /// A rank-0 constant.
  mlir::Value number(mlir::Type element, double value) { return train::scalar(b, loc, element, value); }
  /// The same of x's element type; a float rounded as the attributes of ONNX are, to fp32.
  mlir::Value c(mlir::Value x, double value) { return number(elementOf(x), value); }
  mlir::Value number(int64_t value) {
    auto type = mlir::RankedTensorType::get({}, i64);
    return train::ConstantOp::create(b, loc, type, mlir::DenseElementsAttr::get(type, b.getI64IntegerAttr(value)));
  }
  /// start + step * (index along `axis`), in a shape that broadcasts: 1 along every other axis of `rank`.
  mlir::Value iota(int64_t rank, int64_t axis, int64_t size, int64_t start = 0, int64_t step = 1) {
    llvm::SmallVector<int64_t> shape(rank, 1);
    shape[axis] = size;
    return train::IotaOp::create(b, loc, mlir::RankedTensorType::get(shape, i64), axis, start, step);
  }
  /// A vector of integers: an iota, or literals of at most 1 KiB that are joined; null (and an error) where it has more
  /// than 8192 elements.
  mlir::Value table(llvm::ArrayRef<int64_t> values);
  /// The same for floats, of `element`.
  mlir::Value table(llvm::ArrayRef<double> values, mlir::Type element);

  //===--- elementwise, with broadcasting ---===//
  mlir::Value add(mlir::Value x, mlir::Value y) { return train::add(b, loc, x, y); }
  mlir::Value sub(mlir::Value x, mlir::Value y) { return train::sub(b, loc, x, y); }
  mlir::Value mul(mlir::Value x, mlir::Value y) { return train::mul(b, loc, x, y); }
  mlir::Value div(mlir::Value x, mlir::Value y) { return train::div(b, loc, x, y); }
  mlir::Value add(mlir::Value x, double y) { return add(x, c(x, y)); }
  mlir::Value sub(mlir::Value x, double y) { return sub(x, c(x, y)); }
  mlir::Value mul(mlir::Value x, double y) { return y == 1 ? x : mul(x, c(x, y)); }
  mlir::Value div(mlir::Value x, double y) { return y == 1 ? x : div(x, c(x, y)); }
  mlir::Value max(mlir::Value x, mlir::Value y) { return node.binary<train::MaxOp>(x, y); }
  mlir::Value min(mlir::Value x, mlir::Value y) { return node.binary<train::MinOp>(x, y); }
  mlir::Value max(mlir::Value x, double y) { return max(x, c(x, y)); }
  mlir::Value min(mlir::Value x, double y) { return min(x, c(x, y)); }
  template <typename Op>
  mlir::Value binary(mlir::Value x, mlir::Value y) {
    return node.binary<Op>(x, y);
  }
  mlir::Value logicalAnd(mlir::Value x, mlir::Value y) { return binary<train::AndOp>(x, y); }
  mlir::Value logicalOr(mlir::Value x, mlir::Value y) { return binary<train::OrOp>(x, y); }
  mlir::Value logicalNot(mlir::Value x) { return unary<train::NotOp>(x); }
  mlir::Value isNaN(mlir::Value x) {
    return train::IsNaNOp::create(b, loc, train::getTensorType(x).clone(b.getI1Type()), x);
  }
  mlir::Value compare(Predicate predicate, mlir::Value x, mlir::Value y) {
    return train::compare(b, loc, predicate, x, y);
  }
  mlir::Value compare(Predicate predicate, mlir::Value x, double y) { return compare(predicate, x, c(x, y)); }
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y) {
    return train::select(b, loc, condition, x, y);
  }
  mlir::Value cast(mlir::Value x, mlir::Type element) { return train::cast(b, loc, x, element); }
  template <typename Op>
  mlir::Value unary(mlir::Value x) {
    return Op::create(b, loc, x.getType(), x);
  }

  //===--- movement ---===//
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<int64_t> shape) { return train::reshape(b, loc, x, shape); }
  mlir::Value broadcast(mlir::Value x, llvm::ArrayRef<int64_t> shape) { return train::broadcast(b, loc, x, shape); }
  mlir::Value transpose(mlir::Value x, llvm::ArrayRef<int64_t> permutation) { return node.transpose(x, permutation); }
  /// size elements of one axis from `start` on, in steps of `step`.
  mlir::Value slice(mlir::Value x, int64_t axis, int64_t start, int64_t size, int64_t step = 1);
  /// Element `at` of one axis, which is dropped.
  mlir::Value pick(mlir::Value x, int64_t axis, int64_t at);
  mlir::Value concat(llvm::ArrayRef<mlir::Value> parts, int64_t axis);
  /// Axis `from` moved to place `to`, the others in order.
  mlir::Value moveAxis(mlir::Value x, int64_t from, int64_t to);
  /// The elements at `places` along an axis of the sources joined along it: slices, repetitions, or a gather by a
  /// table. Null (and an error) where the table would be too large.
  mlir::Value take(llvm::ArrayRef<mlir::Value> sources, int64_t axis, llvm::ArrayRef<int64_t> places);
  /// Rows of axis 0.
  mlir::Value gather(mlir::Value data, mlir::Value indices);

  //===--- reductions ---===//
  /// Over sorted axes, which stay with size 1.
  template <typename Op>
  mlir::Value reduce(mlir::Value x, llvm::ArrayRef<int64_t> axes) {
    if (axes.empty())
      return x;
    Shape kept(shapeOf(x));
    for (int64_t axis : axes)
      kept[axis] = 1;
    return Op::create(b, loc, mlir::RankedTensorType::get(kept, elementOf(x)), x, axes, /*keepdims=*/true);
  }
  mlir::Value sum(mlir::Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceSumOp>(x, axes); }
  mlir::Value mean(mlir::Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceMeanOp>(x, axes); }
  mlir::Value largest(mlir::Value x, llvm::ArrayRef<int64_t> axes) { return reduce<train::ReduceMaxOp>(x, axes); }
  /// Over axes, which go.
  mlir::Value sumAway(mlir::Value x, llvm::ArrayRef<int64_t> axes) {
    return axes.empty() ? x : train::reduceSum(b, loc, x, axes, /*keepdims=*/false);
  }
  /// The index of the first (or last) of the largest elements along an axis, which stays with size 1, as i64; a NaN
  /// counts as the largest.
  mlir::Value argMax(mlir::Value x, int64_t axis, bool last);

  /// Keys or values [batch, heads, length, size] for as many query heads: neighbours share one.
  mlir::Value repeatHeads(mlir::Value x, int64_t heads);

  //===--- indices and checks ---===//
  /// Indices of any integer type as i64 in [0, size): negative ones count from the end, others that are out of range
  /// are clamped, as the gather's kernel does it.
  mlir::Value normalize(mlir::Value indices, int64_t size);

  /// An error where the shape has more than mostElementsOfResult elements or a negative size.
  llvm::LogicalResult checkSize(llvm::ArrayRef<int64_t> shape);
  /// An error where one of these operands has no element.
  llvm::LogicalResult checkNotEmpty(llvm::ArrayRef<int> operands);
};

/// For each axis the elements that one step of it skips, row-major.
Shape rowMajorStrides(llvm::ArrayRef<int64_t> shape);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_EMIT_H
