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
llvm::LogicalResult lowerBitCast(NodeImporter &node);
llvm::LogicalResult lowerGelu(NodeImporter &node);
llvm::LogicalResult lowerClip(NodeImporter &node);
llvm::LogicalResult lowerIsNaN(NodeImporter &node);
llvm::LogicalResult lowerIdentity(NodeImporter &node);

// OperatorsMath.cpp
/// The floats that hold what integers are scaled and interpolated in: f32 for up to 16 bits, else f64. Floats are their
/// own.
mlir::Type realType(mlir::Type element);
class Emit;
/// What was interpolated, as the element type: integers are rounded, halves to the even one, and limited to what the
/// type holds.
mlir::Value roundTo(Emit &emit, mlir::Value x, mlir::Type element);
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
/// For operators that are shape arithmetic or masks: they fold, or are refused.
llvm::LogicalResult lowerKnownOnly(NodeImporter &node);

// GatherGrid.cpp
/// GatherND whose known tuples count along axes of the result or stay the same; null where they do something else.
mlir::Value gatherGrid(NodeImporter &node);

// OperatorsIndexing.cpp
llvm::LogicalResult lowerGatherElements(NodeImporter &node);
llvm::LogicalResult lowerGatherND(NodeImporter &node);
llvm::LogicalResult lowerScatterElements(NodeImporter &node);
llvm::LogicalResult lowerScatterND(NodeImporter &node);
llvm::LogicalResult lowerTensorScatter(NodeImporter &node);
llvm::LogicalResult lowerMaxUnpool(NodeImporter &node);
llvm::LogicalResult lowerOneHot(NodeImporter &node);
llvm::LogicalResult lowerTopK(NodeImporter &node);
llvm::LogicalResult lowerReverseSequence(NodeImporter &node);
llvm::LogicalResult lowerCompress(NodeImporter &node);
/// For operators whose result's shape is in their operands' values: they fold, or are refused.
llvm::LogicalResult lowerDataDependent(NodeImporter &node);

// OperatorsArranging.cpp
llvm::LogicalResult lowerPad(NodeImporter &node);
llvm::LogicalResult lowerCenterCropPad(NodeImporter &node);
llvm::LogicalResult lowerTile(NodeImporter &node);
llvm::LogicalResult lowerDepthToSpace(NodeImporter &node);
llvm::LogicalResult lowerCol2Im(NodeImporter &node);
llvm::LogicalResult lowerEyeLike(NodeImporter &node);
llvm::LogicalResult lowerTrilu(NodeImporter &node);
llvm::LogicalResult lowerRange(NodeImporter &node);
llvm::LogicalResult lowerWindow(NodeImporter &node);

// ControlFlow.cpp
/// What the names in a node's bodies begin with.
std::string scopeOf(NodeImporter &node);
llvm::LogicalResult lowerIf(NodeImporter &node);
llvm::LogicalResult lowerLoop(NodeImporter &node);
llvm::LogicalResult lowerScan(NodeImporter &node);
llvm::LogicalResult lowerSequence(NodeImporter &node);
llvm::LogicalResult lowerSplitToSequence(NodeImporter &node);
llvm::LogicalResult lowerSequenceMap(NodeImporter &node);
llvm::LogicalResult lowerOptional(NodeImporter &node);
/// Whether an operator's lowering knows sequences and empty optionals.
bool takesSequences(llvm::StringRef op);

// OperatorsRecurrent.cpp
llvm::LogicalResult lowerRecurrent(NodeImporter &node);

// OperatorsAttention.cpp
llvm::LogicalResult lowerAttention(NodeImporter &node);

// OperatorsFlexAttention.cpp
llvm::LogicalResult lowerFlexAttention(NodeImporter &node);

// OperatorsResize.cpp
llvm::LogicalResult lowerResize(NodeImporter &node);

// OperatorsSampling.cpp
llvm::LogicalResult lowerGridSample(NodeImporter &node);
llvm::LogicalResult lowerAffineGrid(NodeImporter &node);
llvm::LogicalResult lowerRoiAlign(NodeImporter &node);
llvm::LogicalResult lowerMaxRoiPool(NodeImporter &node);

// OperatorsSpectrum.cpp
llvm::LogicalResult lowerMelWeightMatrix(NodeImporter &node);

// OperatorsRandom.cpp
llvm::LogicalResult lowerRandom(NodeImporter &node);

// OperatorsEinsum.cpp
llvm::LogicalResult lowerEinsum(NodeImporter &node);
llvm::LogicalResult lowerDFT(NodeImporter &node);
llvm::LogicalResult lowerSTFT(NodeImporter &node);

// OperatorsCompute.cpp
llvm::LogicalResult lowerMatMul(NodeImporter &node);
llvm::LogicalResult lowerGemm(NodeImporter &node);
/// What a norm computes its statistics in, by its stash_type: f64 where it says so, else the operands' type (halves
/// compute in fp32 here).
mlir::FailureOr<mlir::Type> statisticsType(NodeImporter &node);
llvm::LogicalResult lowerLayerNormalization(NodeImporter &node);
llvm::LogicalResult lowerRMSNormalization(NodeImporter &node);
llvm::LogicalResult lowerRotaryEmbedding(NodeImporter &node);

// OperatorsTraining.cpp
llvm::LogicalResult lowerDropout(NodeImporter &node);
llvm::LogicalResult lowerBatchNormalization(NodeImporter &node);

// OperatorsConvolution.cpp
llvm::LogicalResult lowerConv(NodeImporter &node);
llvm::LogicalResult lowerDeformConv(NodeImporter &node);
llvm::LogicalResult lowerConvTranspose(NodeImporter &node);
llvm::LogicalResult lowerPool(NodeImporter &node);
llvm::LogicalResult lowerGlobalPool(NodeImporter &node);
llvm::LogicalResult lowerLRN(NodeImporter &node);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_OPERATORS_H
