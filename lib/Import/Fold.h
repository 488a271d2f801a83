//===- Fold.h - ONNX operators on known tensors ------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each function is Operator::fold of the operators it is named after: all inputs are constants; it sets the results and returns true, or returns false and has done nothing
// (the operands are wrong, which `lower` reports, or the result is too large).
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_FOLD_H
#define ZOPT_LIB_IMPORT_FOLD_H

#include "Importer.h"

namespace zopt::importer {

bool foldUnary(
    NodeImporter &node); ///< Abs Ceil Cos Erf Exp Floor Log Neg Not Reciprocal Relu Sigmoid Sign Sin Sqrt Tanh IsNaN
bool foldBinary(NodeImporter &node);   ///< Add Sub Mul Div Mod Pow Max Min And Or Xor and comparisons; Max and Min of any number
bool foldWhere(NodeImporter &node);
bool foldCast(NodeImporter &node);     ///< and CastLike
bool foldReduce(NodeImporter &node);   ///< ReduceSum ReduceProd ReduceMax ReduceMin
bool foldCumSum(NodeImporter &node);
bool foldTrilu(NodeImporter &node);
bool foldReshape(NodeImporter &node);  ///< Reshape Squeeze Unsqueeze Flatten: sets the shape that `lower` would
bool foldTranspose(NodeImporter &node);
bool foldExpand(NodeImporter &node);
bool foldConcat(NodeImporter &node);
bool foldSlice(NodeImporter &node);
bool foldSplit(NodeImporter &node);
bool foldGather(NodeImporter &node);
bool foldGatherND(NodeImporter &node);
bool foldTile(NodeImporter &node);
bool foldRange(NodeImporter &node);
bool foldConstantOfShape(NodeImporter &node);

// FoldIndexing.cpp
bool foldFloatRange(NodeImporter &node); ///< Range of integers too
/// The length of a Range of known numbers; nothing where it has none or more than 2^40.
std::optional<int64_t> rangeLength(NodeImporter &node);
bool foldPad(NodeImporter &node); ///< constant mode
bool foldGatherElements(NodeImporter &node);
bool foldScatter(NodeImporter &node); ///< ScatterElements ScatterND, of integers
bool foldCompress(NodeImporter &node);
bool foldNonZero(NodeImporter &node);
bool foldUnique(NodeImporter &node);
bool foldMelWeightMatrix(NodeImporter &node); ///< OperatorsSpectrum.cpp

// Shapes of movement ops, shared by folding and lowering. They report what is wrong.
mlir::FailureOr<Shape> reshapedShape(NodeImporter &node);
struct SliceBounds {
  Shape starts, steps, sizes; ///< one an axis
};
mlir::FailureOr<SliceBounds> sliceBounds(NodeImporter &node);
mlir::FailureOr<llvm::SmallVector<int64_t, 8>> splitSizes(NodeImporter &node, int64_t axis);
mlir::FailureOr<llvm::SmallVector<int64_t, 8>> reduceAxes(NodeImporter &node);
mlir::FailureOr<llvm::SmallVector<int64_t, 8>> transposition(NodeImporter &node);
mlir::FailureOr<int32_t> castTarget(NodeImporter &node);

/// A slice of a constant, of any kind of it.
std::optional<Constant> slice(const Constant &input, const SliceBounds &bounds);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_FOLD_H
