//===- OperatorsLoss.cpp - losses that a graph computes itself -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

using namespace mlir;

namespace zopt::importer {

using Predicate = train::ComparePredicate;

/// The mean or sum of rows of unweighted scores is the loss that the compiler knows: one pass over the scores, and sums in fp32 in every precision.
static Value crossEntropy(NodeImporter &node, Emit &k, Value scores, Value labels, bool mean) {
  SmallVector<int64_t, 8> classesLast = {0};
  for (int64_t axis = 2; axis < node.rank(0); ++axis)
    classesLast.push_back(axis);
  classesLast.push_back(1);
  Value rows = node.transpose(scores, classesLast);
  Type sumType = train::getComputeType(node.element(0));
  RankedTensorType scalar = node.type({}, sumType);
  OpBuilder &b = node.builder;
  auto op = train::CrossEntropyOp::create(b, node.loc, TypeRange{scalar, scalar, node.type(node.shape(1), sumType)}, rows, k.cast(labels, b.getI64Type()),
                                          b.getI64IntegerAttr(node.attribute("ignore_index", int64_t(-100))), b.getF64FloatAttr(0));
  Value result = op.getLoss();
  if (mean) // the count is a whole number, through which nothing is differentiated
    result = k.div(result, k.cast(k.cast(op.getCount(), b.getI64Type()), sumType));
  return k.cast(result, node.element(0));
}

/// NegativeLogLikelihoodLoss of log probabilities [N, C, ...], and SoftmaxCrossEntropyLoss, which makes them of scores: each label's element, negated and weighted by its class, 0 where the label is
/// ignored; its sum, or that over the sum of the weights that counted. The label is found by comparing it with every class, so that classes of probability 0 do not disturb.
LogicalResult lowerLikelihoodLoss(NodeImporter &node) {
  if (node.inputs() < 2 || node.inputs() > 3)
    return node.error("has " + Twine(node.inputs()) + " operands");
  const bool ofScores = node.proto.op_type() == "SoftmaxCrossEntropyLoss";
  if (!isa<FloatType>(node.element(0)) || isa<FloatType>(node.element(1)) || node.element(1).isInteger(1))
    return node.error("needs float scores and integer labels");
  const int64_t rank = node.rank(0);
  if (rank < 2)
    return node.error("needs scores [batch, classes, ...], but got " + describe(node.shape(0)));
  const int64_t classes = node.shape(0)[1];
  Shape labelShape(node.shape(0)), weightShape(rank, 1), unweighted(rank, 1);
  labelShape.erase(labelShape.begin() + 1);
  weightShape[1] = classes;
  if (node.shape(1) != ArrayRef(labelShape))
    return node.error("labels of shape " + describe(node.shape(1)) + " do not fit scores " + describe(node.shape(0)));
  if (node.has(2) && (node.element(2) != node.element(0) || node.shape(2) != ArrayRef(classes)))
    return node.error("needs a weight for each of " + Twine(classes) + " classes, but got " + describe(node.shape(2)));
  StringRef reduction = node.attribute("reduction", StringRef("mean"));
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    return node.error("reduction is '" + reduction + "', but it must be mean, sum or none");
  Value x = node.operand(0), labels = x ? node.operand(1) : Value(), weights = labels && node.has(2) ? node.operand(2) : Value();
  if (!labels || (node.has(2) && !weights))
    return failure();

  Emit k(node);
  if (ofScores && !weights && reduction != "none" && !node.wants(1)) {
    node.result(0, crossEntropy(node, k, x, labels, reduction == "mean"));
    return success();
  }
  Value logProbabilities = x;
  if (ofScores) { // rows are along the last axis
    SmallVector<int64_t, 8> swap = llvm::to_vector<8>(llvm::seq<int64_t>(0, rank));
    std::swap(swap[1], swap[rank - 1]);
    logProbabilities = node.transpose(k.unary<train::LogSoftmaxOp>(node.transpose(x, swap)), swap);
  }
  Shape column(node.shape(0));
  column[1] = 1;
  Value label = k.reshape(k.cast(labels, node.builder.getI64Type()), column);
  Value isLabel = k.compare(Predicate::eq, k.iota(rank, 1, classes), label);
  if (node.find("ignore_index"))
    isLabel = k.logicalAnd(isLabel, k.compare(Predicate::ne, label, static_cast<double>(node.attribute("ignore_index", int64_t(0)))));
  Value weight = weights ? k.reshape(weights, weightShape) : k.c(x, 1);
  Value none = k.c(x, 0);
  Value weighted = weights ? k.mul(logProbabilities, weight) : logProbabilities;
  Value each = k.unary<train::NegOp>(k.sum(k.select(isLabel, weighted, none), 1));
  Value result = k.reshape(each, labelShape);
  if (reduction != "none") {
    SmallVector<int64_t, 8> all = llvm::to_vector<8>(llvm::seq<int64_t>(0, static_cast<int64_t>(labelShape.size())));
    result = k.reshape(k.sum(result, all), {});
    if (reduction == "mean") {
      SmallVector<int64_t, 8> every = llvm::to_vector<8>(llvm::seq<int64_t>(0, rank));
      Value counted = k.broadcast(k.select(isLabel, weight, none), node.shape(0));
      result = k.div(result, k.reshape(k.sum(counted, every), {}));
    }
  }
  node.result(0, result);
  if (node.wants(1))
    node.result(1, logProbabilities);
  return success();
}

} // namespace zopt::importer
