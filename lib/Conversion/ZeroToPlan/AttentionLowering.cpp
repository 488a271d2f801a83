//===- AttentionLowering.cpp - train.attention into plan.attention -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For targets whose library has attention. It reads and writes any strides with a unit one on the width: query, key and value where the projection left them, gradients where its backward wants them, and the
// output so that heads lie next to one another, as the projection behind it reads them.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"
#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Device/CUDA/AttentionRules.h"

using namespace mlir;
using namespace zopt;

/// Batch, position, head, width: the order of axes in memory of a [B, H, T, D] tensor behind a projection.
static constexpr int64_t kPositionsOutside[] = {0, 2, 1, 3};

/// A row's statistics [B, H, T] as [B, H, T, 1].
static View withUnitAxis(View view) {
  view.layout.shape.push_back(1);
  view.layout.strides.push_back(1);
  return view;
}

static runtime::DataType getTensorType(Type type) { return type.isF32() ? runtime::DataType::F32 : type.isF16() ? runtime::DataType::F16 : runtime::DataType::BF16; }

static SmallVector<int64_t> getScratchOffsets(ArrayRef<View> tensors) {
  return llvm::map_to_vector(tensors, [](const View &view) { return view.getByteOffset(); });
}

FailureOr<View> FunctionLowering::getUnitWidth(Value value) {
  View view = getView(value);
  return view.layout.strides.back() == 1 ? FailureOr<View>(view) : getContiguous(value);
}

View FunctionLowering::getAttentionResult(Value result) {
  auto it = destinations.find(result);
  if (it != destinations.end() && it->second.layout.strides.back() == 1)
    return it->second;
  return createPermuted(cast<RankedTensorType>(result.getType()), kPositionsOutside);
}

LogicalResult FunctionLowering::finishAttentionResult(Value result) {
  auto it = destinations.find(result);
  if (it == destinations.end() || it->second.layout.strides.back() == 1)
    return success();
  return copy(result.getLoc(), views[result], it->second);
}

template <typename Command>
void FunctionLowering::emitAttention(Location loc, ArrayRef<View> tensors, runtime::Command description, double scale, bool causal) {
  MLIRContext *mlirContext = builder.getContext();
  SmallVector<Attribute> buffers, layouts;
  for (const View &view : tensors) {
    buffers.push_back(getRef(view.storage));
    layouts.push_back(plan::MatmulOperandAttr::get(mlirContext, view.layout.elementType, DenseI64ArrayAttr::get(mlirContext, view.layout.shape), DenseI64ArrayAttr::get(mlirContext, view.layout.strides)));
    description.tensors.push_back({getTensorType(view.layout.elementType), {view.layout.shape.begin(), view.layout.shape.end()}, {view.layout.strides.begin(), view.layout.strides.end()}});
  }
  description.causal = causal;
  description.ownKernels = context.isHopper && runtime::cuda::takesOwnAttentionGradient(description);
  int64_t scratchBytes = runtime::cuda::attentionScratchBytes(description);
  FlatSymbolRefAttr scratch = getRef(context.storages.createTemporary(scratchBytes, plan::MemoryClass::workspace));
  auto command = Command::create(builder, loc, builder.getArrayAttr(buffers), builder.getArrayAttr(layouts), builder.getDenseI64ArrayAttr(getScratchOffsets(tensors)), scratch, builder.getF64FloatAttr(scale),
                                 causal ? builder.getUnitAttr() : nullptr, /*has_mask=*/nullptr);
  if constexpr (std::is_same_v<Command, plan::AttentionGradOp>)
    command.setOwnKernels(description.ownKernels);
}

LogicalResult FunctionLowering::lowerAttention(train::AttentionOp op) {
  if (op.getMask())
    return op.emitOpError("has a mask, which the target's library does not take");
  SmallVector<View> tensors;
  for (Value operand : {op.getQuery(), op.getKey(), op.getValue()}) {
    FailureOr<View> view = getUnitWidth(operand);
    if (failed(view))
      return failure();
    tensors.push_back(*view);
  }
  tensors.push_back(views[op.getResult()] = getAttentionResult(op.getResult()));
  views[op.getLse()] = getResultView(op.getLse());
  tensors.push_back(withUnitAxis(views[op.getLse()]));
  runtime::Command description;
  description.kind = runtime::Command::Kind::Attention;
  emitAttention<plan::AttentionOp>(op.getLoc(), tensors, description, op.getScale().convertToDouble(), op.getCausal());
  return finishAttentionResult(op.getResult());
}

LogicalResult FunctionLowering::lowerAttentionGrad(train::AttentionGradOp op) {
  if (op.getMask())
    return op.emitOpError("has a mask, which the target's library does not take");
  SmallVector<View> tensors;
  for (Value operand : {op.getQuery(), op.getKey(), op.getValue(), op.getOutput()}) {
    FailureOr<View> view = getUnitWidth(operand);
    if (failed(view))
      return failure();
    tensors.push_back(*view);
  }
  FailureOr<View> lse = getContiguous(op.getLse()), cotangent = getUnitWidth(op.getCotangent());
  if (failed(lse) || failed(cotangent))
    return failure();
  tensors.push_back(withUnitAxis(*lse));
  tensors.push_back(*cotangent);
  for (Value result : op.getResults())
    tensors.push_back(views[result] = getAttentionResult(result));
  runtime::Command description;
  description.kind = runtime::Command::Kind::AttentionGrad;
  emitAttention<plan::AttentionGradOp>(op.getLoc(), tensors, description, op.getScale().convertToDouble(), op.getCausal());
  for (Value result : op.getResults())
    if (failed(finishAttentionResult(result)))
      return failure();
  return success();
}
