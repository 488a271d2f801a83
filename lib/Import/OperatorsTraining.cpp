//===- OperatorsTraining.cpp - operators that differ in training ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Dropout and BatchNormalization: as the node says, or as --training-mode does.
//
//===----------------------------------------------------------------------===//

#include "Operators.h"
#include "Weights.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace zopt::importer {

/// Dropout since opset 12 has ratio and training_mode as operands; before, the ratio is an attribute and the node is
/// one of inference.
LogicalResult lowerDropout(NodeImporter &node) {
  const int64_t id = node.graph.dropouts++;
  double ratio = node.attribute("ratio", 0.5);
  if (node.has(1)) {
    if (!node.constant(1) || !node.constant(1)->asSplat())
      return node.error("the ratio depends on the data, but it must be known when the model is imported");
    ratio = node.constant(1)->asSplat()->real;
  }
  bool training = false;
  if (node.has(2)) {
    if (!node.constant(2) || !node.constant(2)->asSplat())
      return node.error("training_mode depends on the data, but it must be known when the model is imported");
    training = node.constant(2)->asSplat()->integer != 0;
  }
  if (node.graph.options.trainingMode != TrainingMode::Keep)
    training = node.graph.options.trainingMode == TrainingMode::Train;
  if (!training || ratio == 0) {
    node.forward(0, 0);
    if (node.wants(1))
      node.result(1, Constant::splat(Element::Bool, node.shape(0), {1, 0}), node.builder.getI1Type());
    return success();
  }
  if (!(ratio > 0 && ratio < 1))
    return node.error(llvm::formatv("ratio is {0}, but training needs at least 0 and less than 1", ratio).str());
  Value input = node.operand(0);
  if (!input)
    return failure();
  if (!isa<FloatType>(node.element(0)))
    return node.error("needs a float operand");
  auto exact = node.builder.getF64FloatAttr(ratio);
  auto number = node.builder.getI64IntegerAttr(id);
  node.result(0, train::DropoutOp::create(node.builder, node.loc, input.getType(), input, ValueRange(), exact, number,
                                          DenseI64ArrayAttr()));
  if (node.wants(1))
    node.result(1,
                train::DropoutMaskOp::create(node.builder, node.loc, node.type(node.shape(0), node.builder.getI1Type()),
                                             input, ValueRange(), exact, number, DenseI64ArrayAttr()));
  return success();
}

/// The state that a running average is kept in; null where it is no initializer.
static Initializer *findState(const Tensor &tensor) {
  const Tensor *source = &tensor;
  while (source->alias)
    source = source->alias;
  return source->initializer;
}

LogicalResult lowerBatchNormalization(NodeImporter &node) {
  if (node.inputs() != 5)
    return node.error("has " + Twine(node.inputs()) + " operands, expected 5");
  if (node.rank(0) < 2)
    return node.error("needs an input [batch, channels, ...], but got " + describe(node.shape(0)));
  const int64_t channels = node.shape(0)[1];
  for (int i = 0; i < 5; ++i) {
    if (!isa<FloatType>(node.element(i)))
      return node.error("operand " + Twine(i) + " is no tensor of floats");
    if (i > 0 && node.shape(i) != ArrayRef<int64_t>(channels))
      return node.error("operand " + Twine(i) + " has shape " + describe(node.shape(i)) + ", but the input has " +
                        Twine(channels) + " channels");
  }
  const double epsilon = node.attribute("epsilon", double(1e-5f)), momentum = node.attribute("momentum", double(0.9f));
  // Before opset 14 it is the outputs that say so.
  bool training =
      node.graph.opset >= 14 ? node.attribute("training_mode", int64_t(0)) != 0 : node.wants(1) || node.wants(2);
  if (node.graph.options.trainingMode != TrainingMode::Keep)
    training = node.graph.options.trainingMode == TrainingMode::Train;
  if (training && !(momentum >= 0 && momentum <= 1))
    return node.error(llvm::formatv("momentum is {0}, expected 0 to 1", momentum).str());

  Value input = node.operand(0), gamma = input ? node.operand(1) : Value(), beta = gamma ? node.operand(2) : Value();
  if (!beta)
    return failure();
  // Running averages are states even where their values are small enough for literals: a run moves them, and saves them
  // with the weights.
  Value running[2];
  Initializer *states[2];
  for (int i = 0; i < 2; ++i) {
    states[i] = findState(node.input(3 + i));
    if (states[i] && states[i]->tiedTo)
      states[i] = states[i]->tiedTo;
    if (states[i] && states[i]->parameter)
      return node.error("the running averages are a parameter, '" + states[i]->name + "'");
    if (states[i] && states[i]->file < 0) {
      if (training)
        return node.error("training needs running averages that a plan can refer to, but operand " + Twine(3 + i) + " is none");
      states[i] = nullptr;
    }
    if (states[i]) {
      states[i]->used = true;
      running[i] = train::ReadStateOp::create(node.builder, node.loc, states[i]->stateType(),
                                              FlatSymbolRefAttr::get(node.graph.context, states[i]->name));
    } else if (!(running[i] = node.operand(3 + i))) { // what is computed has no state that could move
      return failure();
    }
  }
  Shape spread(node.rank(0) - 1, 1);
  spread[0] = channels;
  // Parameters and averages may be of other float types than the input, in which it is computed.
  auto as = [&](Value value, Type element) { return train::cast(node.builder, node.loc, value, element); };
  auto toChannels = [&](Value value) { return node.reshape(as(value, node.element(0)), spread); };
  Value mean = running[0], variance = running[1];
  if (training) {
    auto type = node.type({channels}, train::getComputeType(node.element(0)));
    auto statistics = train::BatchStatisticsOp::create(node.builder, node.loc, type, type, input);
    mean = statistics.getMean();
    variance = statistics.getVariance();
    auto exact = node.builder.getF64FloatAttr(momentum);
    const Value computed[] = {mean, variance};
    for (auto [i, value] : llvm::enumerate(computed)) {
      Value average = as(value, node.element(3 + i));
      if (states[i])
        train::RunningAverageOp::create(node.builder, node.loc,
                                        FlatSymbolRefAttr::get(node.graph.context, states[i]->name), average, exact);
      if (node.wants(1 + i)) {
        Value kept = node.binary<train::MulOp>(running[i], node.splat(momentum, node.element(3 + i)));
        node.result(1 + i,
                    node.binary<train::AddOp>(
                        kept, node.binary<train::MulOp>(average, node.splat(1 - momentum, node.element(3 + i)))));
      }
      node.result(3 + i, value);
    }
  } else {
    for (int i = 0; i < 4; ++i)
      if (node.wants(1 + i))
        node.result(1 + i, running[i % 2]);
  }
  node.result(0, train::BatchNormOp::create(node.builder, node.loc, input.getType(), input, toChannels(mean),
                                            toChannels(variance), toChannels(gamma), toChannels(beta),
                                            node.builder.getF64FloatAttr(epsilon),
                                            training ? node.builder.getUnitAttr() : UnitAttr()));
  return success();
}

} // namespace zopt::importer
