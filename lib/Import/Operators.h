//===- Operators.h - Operator::lower of every ONNX operator ------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_OPERATORS_H
#define ZOPT_LIB_IMPORT_OPERATORS_H

#include "Importer.h"

namespace zopt::importer {

// OperatorsElementwise.cpp
llvm::LogicalResult lowerUnary(NodeImporter &node);
llvm::LogicalResult lowerBinary(NodeImporter &node);
llvm::LogicalResult lowerCompare(NodeImporter &node);
llvm::LogicalResult lowerWhere(NodeImporter &node);
llvm::LogicalResult lowerCast(NodeImporter &node);
llvm::LogicalResult lowerGelu(NodeImporter &node);
llvm::LogicalResult lowerClip(NodeImporter &node);
llvm::LogicalResult lowerIsNaN(NodeImporter &node);
llvm::LogicalResult lowerIdentity(NodeImporter &node);
llvm::LogicalResult lowerDropout(NodeImporter &node);

// OperatorsMovement.cpp
llvm::LogicalResult lowerConstant(NodeImporter &node);
llvm::LogicalResult lowerShape(NodeImporter &node);
llvm::LogicalResult lowerSize(NodeImporter &node);
llvm::LogicalResult lowerReshape(NodeImporter &node);
llvm::LogicalResult lowerTranspose(NodeImporter &node);
llvm::LogicalResult lowerExpand(NodeImporter &node);
llvm::LogicalResult lowerConcat(NodeImporter &node);
llvm::LogicalResult lowerSlice(NodeImporter &node);
llvm::LogicalResult lowerSplit(NodeImporter &node);
llvm::LogicalResult lowerGather(NodeImporter &node);
llvm::LogicalResult lowerTrilu(NodeImporter &node);
/// For operators that are shape arithmetic or masks: they fold, or are refused.
llvm::LogicalResult lowerKnownOnly(NodeImporter &node);

// OperatorsCompute.cpp
llvm::LogicalResult lowerMatMul(NodeImporter &node);
llvm::LogicalResult lowerGemm(NodeImporter &node);
llvm::LogicalResult lowerReduce(NodeImporter &node);
llvm::LogicalResult lowerSoftmax(NodeImporter &node);
llvm::LogicalResult lowerLayerNormalization(NodeImporter &node);
llvm::LogicalResult lowerRMSNormalization(NodeImporter &node);
llvm::LogicalResult lowerRotaryEmbedding(NodeImporter &node);
llvm::LogicalResult lowerAttention(NodeImporter &node);

// OperatorsConvolution.cpp
llvm::LogicalResult lowerConv(NodeImporter &node);
llvm::LogicalResult lowerConvTranspose(NodeImporter &node);
llvm::LogicalResult lowerPool(NodeImporter &node);
llvm::LogicalResult lowerGlobalPool(NodeImporter &node);
llvm::LogicalResult lowerInstanceNormalization(NodeImporter &node);
llvm::LogicalResult lowerGroupNormalization(NodeImporter &node);
llvm::LogicalResult lowerBatchNormalization(NodeImporter &node);
llvm::LogicalResult lowerLRN(NodeImporter &node);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_OPERATORS_H
