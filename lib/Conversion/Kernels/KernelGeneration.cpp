//===- KernelGeneration.cpp - kernels for train ops ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Conversion/KernelGeneration.h"
#include "Families.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

TensorLayout TensorLayout::contiguous(RankedTensorType type) {
  TensorLayout layout{getSignless(type.getElementType()), SmallVector<int64_t>(type.getShape()), SmallVector<int64_t>(type.getRank())};
  int64_t stride = 1;
  for (int64_t axis = type.getRank() - 1; axis >= 0; --axis) {
    layout.strides[axis] = stride;
    stride *= type.getDimSize(axis);
  }
  return layout;
}

bool TensorLayout::isContiguous() const {
  int64_t expected = 1;
  for (size_t axis = shape.size(); axis-- > 0; expected *= shape[axis])
    if (shape[axis] != 1 && strides[axis] != expected)
      return false;
  return true;
}

KernelGenerator::KernelGenerator(ModuleOp module, KernelTarget target) : module(module), target(target) {
  auto present = module.getOps<plan::KernelOp>();
  firstNumber = std::distance(present.begin(), present.end());
}

bool KernelGenerator::acceptsStrides(Operation *op, unsigned index) {
  // A reshape needs one side whose elements are in row-major order; scalars are read as they stand.
  if (isa<train::ReshapeOp>(op))
    return index == 0;
  if (isa<train::BatchStatisticsOp, train::BatchNormSumsOp>(op))
    return false;
  if (isa<train::CrossEntropyOp, train::CountCorrectOp>(op))
    return index < 2;
  if (isa<train::CrossEntropyGradOp>(op))
    return index != 3;
  if (isa<train::CrossEntropyStepOp>(op))
    return index < 2 || index == 3;
  return true;
}

/// The table of families.
static LogicalResult generateKernels(Context &context) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(context.op)
      .Case<train::FusedOp, train::IotaOp>([&](auto) { return generateElementwiseOp(context); })
      .Case([&](train::ConstantOp op) {
        return isa<SplatElementsAttr>(op.getValue()) ? generateElementwiseOp(context) : generateMovement(context);
      })
      .Case<train::ReshapeOp, train::TransposeOp, train::SliceOp, train::SliceGradOp, train::ConcatOp,
            train::BroadcastOp>([&](auto) { return generateMovement(context); })
      .Case([&](train::GatherOp op) { return generateGather(context, op); })
      .Case([&](train::GatherGradOp op) { return generateGatherGrad(context, op); })
      .Case([&](train::ScatterOp op) { return generateScatter(context, op); })
      .Case([&](train::TopKOp op) { return generateTopK(context, op); })
      .Case<train::ReduceSumOp, train::ReduceMeanOp, train::ReduceMaxOp, train::ReduceProdOp>(
          [&](auto) { return generateReduce(context); })
      .Case<train::SoftmaxOp, train::LogSoftmaxOp, train::SoftmaxGradOp, train::LogSoftmaxGradOp>(
          [&](auto) { return generateSoftmax(context); })
      .Case<train::LayerNormOp, train::LayerNormGradOp, train::RMSNormOp, train::RMSNormGradOp>(
          [&](auto) { return generateNorm(context); })
      .Case<train::LayerNormParameterGradOp, train::RMSNormParameterGradOp>(
          [&](auto) { return generateNormParameterGrad(context); })
      .Case([&](train::CrossEntropyOp op) { return generateCrossEntropy(context, op); })
      .Case([&](train::CrossEntropyGradOp op) { return generateCrossEntropyGrad(context, op); })
      .Case([&](train::CrossEntropyStepOp op) { return generateCrossEntropyStep(context, op); })
      .Case([&](train::CountCorrectOp op) { return generateCountCorrect(context, op); })
      .Case([&](train::AttentionProbabilitiesOp op) { return generateAttentionProbabilities(context, op); })
      .Case([&](train::AttentionScoresGradOp op) { return generateAttentionScoresGrad(context, op); })
      .Case([&](train::BatchStatisticsOp op) { return generateBatchStatistics(context, op); })
      .Case([&](train::BatchNormSumsOp op) { return generateBatchNormSums(context, op); })
      .Case([&](train::RotaryOp op) { return generateRotary(context, op); })
      .Case([&](train::MatmulOp op) { return generateMatmul(context, op); })
      .Case<train::ConvOp, train::ConvInputGradOp, train::ConvWeightGradOp>([&](auto) { return generateConvolution(context); })
      .Case<train::MaxPoolOp, train::MaxPoolGradOp, train::AveragePoolOp, train::AveragePoolGradOp>([&](auto) { return generatePool(context); })
      .Default([&](Operation *op) -> LogicalResult {
        if (op->hasTrait<train::Elementwise>())
          return generateElementwiseOp(context);
        return op->emitOpError("has no kernel");
      });
}

//===----------------------------------------------------------------------===//
// One kernel for equal ops
//===----------------------------------------------------------------------===//

static void appendPointer(std::string &key, const void *pointer) { key.append(reinterpret_cast<const char *>(&pointer), sizeof(pointer)); }
static void appendNumber(std::string &key, int64_t number) { key.append(reinterpret_cast<const char *>(&number), sizeof(number)); }

/// What the kernels of an op depend on, besides layouts: name, inherent attributes, types, and the same for its region. Attributes and types are unique in a context, so their addresses do.
static void appendOperation(std::string &key, Operation *op, DenseMap<Value, int64_t> &numbering) {
  appendPointer(key, op->getName().getAsOpaquePointer());
  appendPointer(key, op->getPropertiesAsAttribute().getAsOpaquePointer());
  appendNumber(key, op->getNumOperands());
  for (Value operand : op->getOperands()) {
    appendPointer(key, operand.getType().getAsOpaquePointer());
    auto known = numbering.find(operand);
    appendNumber(key, known == numbering.end() ? -1 : known->second);
  }
  for (Value result : op->getResults()) {
    appendPointer(key, result.getType().getAsOpaquePointer());
    numbering.try_emplace(result, numbering.size());
  }
  for (Region &region : op->getRegions())
    for (Block &block : region) {
      for (BlockArgument argument : block.getArguments())
        numbering.try_emplace(argument, numbering.size());
      for (Operation &inner : block)
        appendOperation(key, &inner, numbering);
    }
}

KernelLaunch KernelGenerator::finish(KernelBuilder &builder) {
  KernelLaunch launch = builder.end();
  plan::KernelOp kernel = builder.release();
  StringAttr prefix = kernel.getSymNameAttr();
  std::string text;
  {
    llvm::raw_string_ostream stream(text);
    kernel->print(stream, OpPrintingFlags().assumeVerified().useLocalScope());
  }
  FlatSymbolRefAttr &symbol = kernels[text];
  if (symbol) {
    kernel->erase();
  } else {
    std::string name = (prefix.getValue() + "_" + llvm::Twine(firstNumber + kernels.size() - 1)).str();
    kernel.setSymName(name);
    module.push_back(kernel);
    symbol = FlatSymbolRefAttr::get(module.getContext(), name);
  }
  launch.kernel = symbol;
  return launch;
}

FailureOr<KernelPlan> KernelGenerator::generate(Operation *op, ArrayRef<TensorLayout> layouts) {
  if (layouts.size() != op->getNumOperands() + op->getNumResults())
    return op->emitOpError("has ") << op->getNumOperands() << " operands and " << op->getNumResults() << " results, but got " << layouts.size() << " layouts";
  for (const TensorLayout &layout : layouts)
    if (llvm::any_of(layout.strides, [](int64_t stride) { return stride < 0; }))
      return op->emitOpError("has a view that runs backwards, which no kernel reads");
  std::string key;
  DenseMap<Value, int64_t> numbering;
  appendOperation(key, op, numbering);
  for (const TensorLayout &layout : layouts) {
    appendPointer(key, layout.elementType.getAsOpaquePointer());
    for (int64_t size : layout.shape)
      appendNumber(key, size);
    for (int64_t stride : layout.strides)
      appendNumber(key, stride);
    if (target == KernelTarget::Gpu)
      appendNumber(key, layout.alignment);
  }
  auto known = plans.find(key);
  if (known != plans.end())
    return known->second;
  auto finishKernel = [&](KernelBuilder &kernel) { return finish(kernel); };
  Context context{op, layouts, finishKernel, target, totalsApart, {}};
  if (failed(generateKernels(context)))
    return failure();
  plans.try_emplace(key, context.plan);
  return context.plan;
}

FlatSymbolRefAttr KernelGenerator::getUpdateKernel(train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate) {
  KernelBuilder kernel(module.getContext(), ("update_" + optimizer.getSymName()).str(), target);
  writeUpdateKernel(kernel, optimizer, computeType, gradientType, hasMaster, hasRate);
  return finish(kernel).kernel;
}

FlatSymbolRefAttr KernelGenerator::getParameterNormsKernel(train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate) {
  KernelBuilder kernel(module.getContext(), ("norms_" + optimizer.getSymName()).str(), target);
  writeParameterNormsKernel(kernel, optimizer, computeType, gradientType, hasMaster, hasRate);
  return finish(kernel).kernel;
}

KernelLaunch KernelGenerator::getDirectionKernel(train::OptimizerOp optimizer, Type gradientType, int64_t blocks) {
  KernelBuilder kernel(module.getContext(), ("direction_" + optimizer.getSymName()).str(), target);
  writeDirectionKernel(kernel, optimizer, gradientType, blocks);
  return finish(kernel);
}

KernelLaunch KernelGenerator::getJoined(const KernelPlan &plan, int64_t count) {
  StringRef name = plan.launches.back().kernel.getValue();
  KernelBuilder kernel(module.getContext(), name.drop_back(name.size() - name.rfind('_')), target);
  plan.joined(kernel, count);
  return finish(kernel);
}

KernelLaunch KernelGenerator::getZeroKernel(ArrayRef<ZeroedWords> kinds) {
  KernelBuilder kernel(module.getContext(), "zero_padding", target);
  writeZeroKernel(kernel, kinds);
  return finish(kernel);
}

FlatSymbolRefAttr KernelGenerator::getSquaresKernel(Type gradientType) {
  KernelBuilder kernel(module.getContext(), "squares", target);
  writeSquaresKernel(kernel, gradientType);
  return finish(kernel).kernel;
}

FlatSymbolRefAttr KernelGenerator::getSquareSumsKernel(Type gradientType, int64_t ranges) {
  KernelBuilder kernel(module.getContext(), "square_sums", target);
  writeSquareSumsKernel(kernel, gradientType, ranges);
  return finish(kernel).kernel;
}

FlatSymbolRefAttr KernelGenerator::getAccumulateKernel() {
  KernelBuilder kernel(module.getContext(), "accumulate_squares", target);
  writeAccumulateKernel(kernel);
  return finish(kernel).kernel;
}

FlatSymbolRefAttr KernelGenerator::getNormKernel(Type normType) {
  KernelBuilder kernel(module.getContext(), "norm", target);
  writeNormKernel(kernel, normType);
  return finish(kernel).kernel;
}
