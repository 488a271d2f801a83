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

// OperatorsMath.cpp
llvm::LogicalResult lowerActivation(NodeImporter &node);
llvm::LogicalResult lowerPRelu(NodeImporter &node);
llvm::LogicalResult lowerIsInf(NodeImporter &node);
llvm::LogicalResult lowerMod(NodeImporter &node);
llvm::LogicalResult lowerDet(NodeImporter &node);
llvm::LogicalResult lowerSwiGLU(NodeImporter &node);

// OperatorsReduce.cpp
llvm::LogicalResult lowerReduce(NodeImporter &node);
llvm::LogicalResult lowerArgMax(NodeImporter &node);
llvm::LogicalResult lowerSoftmax(NodeImporter &node);
llvm::LogicalResult lowerLpNormalization(NodeImporter &node);
llvm::LogicalResult lowerCumulative(NodeImporter &node);

// OperatorsNorm.cpp
llvm::LogicalResult lowerGroupNormalization(NodeImporter &node);
llvm::LogicalResult lowerMeanVarianceNormalization(NodeImporter &node);

// OperatorsLoss.cpp
llvm::LogicalResult lowerLikelihoodLoss(NodeImporter &node);

// OperatorsMicrosoft.cpp
llvm::LogicalResult lowerFusedMatMul(NodeImporter &node);
llvm::LogicalResult lowerMicrosoftGelu(NodeImporter &node);
llvm::LogicalResult lowerSkipNormalization(NodeImporter &node);
llvm::LogicalResult lowerSimplifiedLayerNormalization(NodeImporter &node);
llvm::LogicalResult lowerMicrosoftRotary(NodeImporter &node);
llvm::LogicalResult lowerMultiHeadAttention(NodeImporter &node);

// OperatorsStateful.cpp
llvm::LogicalResult lowerLinearAttention(NodeImporter &node);
llvm::LogicalResult lowerCausalConv(NodeImporter &node);

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
llvm::LogicalResult lowerLayerNormalization(NodeImporter &node);
llvm::LogicalResult lowerRMSNormalization(NodeImporter &node);
llvm::LogicalResult lowerRotaryEmbedding(NodeImporter &node);
llvm::LogicalResult lowerAttention(NodeImporter &node);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_OPERATORS_H
