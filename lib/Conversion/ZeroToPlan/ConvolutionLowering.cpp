//===- ConvolutionLowering.cpp - train.conv into plan.convolution --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Libraries have their fast convolutions for tensors with channels last, so that is how inputs and outputs lie, whoever made them: what lies otherwise is copied, and zopt-channels-last sees to it that
// little does. A weight stays as the model has it; on a CPU the command itself brings it into the library's order, on CUDA it is copied. What the library has no planned implementation
// for is a generated kernel.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"
#include "zopt/Runtime/Device/CUDA/ConvolutionRules.h"
#include "zopt/Runtime/Device/Convolution.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;

namespace {

/// A convolution or a gradient of one: its tensors, of which one is the op's result.
struct Parts {
  plan::ConvolutionKind kind;
  Value input, weight, output, bias;
  ArrayRef<int64_t> strides, dilations, pads;
  int64_t groups;
};

template <typename Op>
Parts makeParts(Op op, plan::ConvolutionKind kind, Value input, Value weight, Value output, Value bias = {}) {
  return {kind, input, weight, output, bias, op.getStrides(), op.getDilations(), op.getPads(), static_cast<int64_t>(op.getGroups())};
}

Parts getParts(Operation *op) {
  return llvm::TypeSwitch<Operation *, Parts>(op)
      .Case([](train::ConvOp op) { return makeParts(op, plan::ConvolutionKind::forward, op.getInput(), op.getWeight(), op.getResult(), op.getBias()); })
      .Case([](train::ConvInputGradOp op) { return makeParts(op, plan::ConvolutionKind::input_grad, op.getResult(), op.getWeight(), op.getCotangent()); })
      .Case([](train::ConvWeightGradOp op) { return makeParts(op, plan::ConvolutionKind::weight_grad, op.getInput(), op.getResult(), op.getCotangent()); });
}

std::optional<runtime::DataType> getDataType(Type type) {
  if (type.isF32())
    return runtime::DataType::F32;
  if (type.isBF16())
    return runtime::DataType::BF16;
  if (type.isF16())
    return runtime::DataType::F16;
  if (type.isF64())
    return runtime::DataType::F64;
  return std::nullopt;
}

/// The view with the strides that a dense tensor has in this order of axes, outermost first: those of axes of size 1 say nothing, and libraries look at them. Nothing where it lies otherwise.
std::optional<View> takeOrder(View view, ArrayRef<int64_t> order) {
  int64_t stride = 1;
  for (int64_t axis : llvm::reverse(order)) {
    if (view.layout.shape[axis] != 1 && view.layout.strides[axis] != stride)
      return std::nullopt;
    view.layout.strides[axis] = stride;
    stride *= view.layout.shape[axis];
  }
  return view;
}

} // namespace

bool FunctionLowering::isPool(Operation *op) { return isa<train::MaxPoolOp, train::MaxPoolGradOp, train::AveragePoolOp, train::AveragePoolGradOp>(op); }

SmallVector<int64_t> FunctionLowering::getChannelsLastOrder(int64_t rank) {
  SmallVector<int64_t> order = {0};
  llvm::append_range(order, llvm::seq<int64_t>(2, rank));
  order.push_back(1);
  return order;
}

FailureOr<View> FunctionLowering::getChannelsLast(Value value) {
  View view = getView(value);
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> order = getChannelsLastOrder(type.getRank());
  if (std::optional<View> inPlace = takeOrder(view, order))
    return *inPlace;
  auto [it, isNew] = channelsLastCopies.try_emplace(value);
  if (!isNew)
    return it->second;
  View target = it->second = createPermuted(type, order);
  if (failed(copy(value.getLoc(), view, target)))
    return failure();
  return target;
}

LogicalResult FunctionLowering::lowerConvolution(Operation *op) {
  const Parts parts = getParts(op);
  const Value result = op->getResult(0);
  const SmallVector<int64_t> channelsLast = getChannelsLastOrder(cast<RankedTensorType>(result.getType()).getRank());
  // Where the library can write: the result's own place, or a temporary that is copied there.
  auto placeResult = [&](Value value, bool needsChannelsLast) -> View {
    auto destination = destinations.find(value);
    if (destination != destinations.end()) {
      if (!needsChannelsLast && destination->second.isContiguous())
        return destination->second;
      if (needsChannelsLast)
        if (std::optional<View> inPlace = takeOrder(destination->second, channelsLast))
          return *inPlace;
    }
    auto type = cast<RankedTensorType>(value.getType());
    View view = needsChannelsLast ? createPermuted(type, channelsLast) : createTemporary(type);
    owners[view.storage] = value;
    return view;
  };
  SmallVector<View> tensors;
  for (Value value : {parts.input, parts.weight, parts.output}) {
    const bool needsChannelsLast = value != parts.weight || context.isGpu();
    if (value == result) {
      tensors.push_back(placeResult(value, needsChannelsLast));
      continue;
    }
    FailureOr<View> view = needsChannelsLast ? getChannelsLast(value) : getContiguous(value);
    if (failed(view))
      return failure();
    tensors.push_back(*view);
  }
  if (parts.bias) {
    FailureOr<View> view = getContiguous(parts.bias);
    if (failed(view))
      return failure();
    tensors.push_back(*view);
  }
  const View written = tensors[parts.kind == plan::ConvolutionKind::forward ? 2 : parts.kind == plan::ConvolutionKind::input_grad ? 0 : 1];

  runtime::Command command;
  command.kind = runtime::Command::Kind::Convolution;
  command.convolution = {runtime::Convolution::Kind(parts.kind), parts.strides.vec(), parts.dilations.vec(), parts.pads.vec(), parts.groups};
  bool known = true;
  for (const View &view : tensors) {
    std::optional<runtime::DataType> type = getDataType(view.layout.elementType);
    known &= type.has_value();
    command.tensors.push_back({type.value_or(runtime::DataType::F32), {view.layout.shape.begin(), view.layout.shape.end()}, {view.layout.strides.begin(), view.layout.strides.end()}});
    command.byteOffsets.push_back(view.getByteOffset());
  }
  const int64_t scratchBytes = !known ? -1 : context.isGpu() ? runtime::cuda::convolutionScratchBytes(command) : runtime::convolutionScratchBytes(command, context.threads);
  if (scratchBytes >= 0) {
    MLIRContext *mlirContext = builder.getContext();
    SmallVector<Attribute> buffers, layouts;
    SmallVector<int64_t> offsets;
    for (const View &view : tensors) {
      buffers.push_back(getRef(view.storage));
      layouts.push_back(plan::MatmulOperandAttr::get(mlirContext, view.layout.elementType, DenseI64ArrayAttr::get(mlirContext, view.layout.shape), DenseI64ArrayAttr::get(mlirContext, view.layout.strides)));
      offsets.push_back(view.getByteOffset());
    }
    FlatSymbolRefAttr scratch;
    if (scratchBytes > 0)
      scratch = getRef(context.storages.createTemporary(scratchBytes, plan::MemoryClass::workspace));
    plan::ConvolutionOp::create(builder, op->getLoc(), parts.kind, builder.getArrayAttr(buffers), builder.getArrayAttr(layouts), offsets, scratch, parts.strides, parts.dilations, parts.pads, parts.groups);
  } else {
    SmallVector<View> arguments;
    for (Value operand : op->getOperands())
      arguments.push_back(operand == parts.input ? tensors[0] : operand == parts.weight ? tensors[1] : operand == parts.output ? tensors[2] : tensors[3]);
    arguments.push_back(written);
    if (failed(launchKernels(op, arguments, op->getLoc())))
      return failure();
  }
  views[result] = written;
  auto destination = destinations.find(result);
  if (destination == destinations.end() || (destination->second.storage == written.storage && destination->second.offset == written.offset))
    return success();
  views[result] = destination->second;
  return copy(op->getLoc(), written, destination->second);
}
