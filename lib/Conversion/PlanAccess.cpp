//===- PlanAccess.cpp - which bytes a command reads and writes -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanAccess.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;

static int64_t getBytes(Type elementType) { return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8); }

static int64_t getSpan(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides) {
  int64_t last = 0;
  for (auto [size, stride] : llvm::zip_equal(shape, strides)) {
    if (size == 0)
      return 0;
    last += (size - 1) * stride;
  }
  return last + 1;
}

int64_t zopt::getSpanBytes(MemRefType type) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (!type.hasStaticShape() || failed(type.getStridesAndOffset(strides, offset)) || llvm::is_contained(strides, ShapedType::kDynamic) || ShapedType::isDynamic(offset))
    return -1;
  int64_t span = getSpan(type.getShape(), strides);
  return span == 0 ? 0 : (offset + span) * getBytes(type.getElementType());
}

int64_t zopt::getSpanBytes(plan::MatmulOperandAttr operand) { return getSpan(operand.getShape(), operand.getStrides()) * getBytes(operand.getElementType()); }

PlanSymbols::PlanSymbols(ModuleOp module) {
  for (Operation &op : *module.getBody()) {
    if (auto target = dyn_cast<plan::TargetOp>(op))
      worldSize = target.getWorldSize();
    else if (auto placed = dyn_cast<plan::PlacedBucketOp>(op))
      placedBuckets.try_emplace(placed.getBucketAttr().getAttr(), placed);
    else if (auto kernel = dyn_cast<plan::KernelOp>(op))
      kernels.try_emplace(kernel.getSymNameAttr(), kernel);
  }
}

std::optional<int64_t> zopt::getStartedCollective(Operation *command) {
  return llvm::TypeSwitch<Operation *, std::optional<int64_t>>(command)
      .Case<plan::AllGatherOp, plan::ReduceScatterOp, plan::AllReduceOp>([](auto op) { return op.getId(); })
      .Default([](Operation *) { return std::nullopt; });
}

/// Attention (or a convolution) writes the buffers of `written` and reads all others.
template <typename AttentionLike, typename Read, typename Write>
static void collectAttention(AttentionLike op, ArrayRef<size_t> written, Read read, Write write) {
  for (auto [index, buffer, tensor] : llvm::enumerate(op.getBuffers().template getAsRange<FlatSymbolRefAttr>(), op.getTensors().template getAsRange<plan::MatmulOperandAttr>())) {
    if (llvm::is_contained(written, index))
      write(buffer, op.getByteOffsets()[index], getSpanBytes(tensor));
    else
      read(buffer, op.getByteOffsets()[index], getSpanBytes(tensor));
  }
  if (op.getScratch())
    write(op.getScratchAttr(), 0, kWholeBuffer);
}

void zopt::collectAccesses(Operation *command, const PlanSymbols &symbols, SmallVectorImpl<PlanAccess> &accesses) {
  SmallVector<PlanAccess> writes;
  auto read = [&](FlatSymbolRefAttr buffer, int64_t begin, int64_t bytes) { accesses.push_back({buffer.getAttr(), begin, bytes < 0 ? kWholeBuffer : begin + bytes, false}); };
  auto write = [&](FlatSymbolRefAttr buffer, int64_t begin, int64_t bytes) { writes.push_back({buffer.getAttr(), begin, bytes < 0 ? kWholeBuffer : begin + bytes, true}); };
  int64_t world = symbols.worldSize;

  llvm::TypeSwitch<Operation *>(command)
      .Case([&](plan::LaunchOp op) {
        plan::KernelOp kernel = symbols.kernels.lookup(op.getKernelAttr().getAttr());
        if (!kernel)
          return;
        ArrayRef<Type> types = kernel.getFunctionType().getInputs().drop_back(2);
        for (auto [index, buffer] : llvm::enumerate(op.getBuffers().getAsRange<FlatSymbolRefAttr>())) {
          if (index >= types.size())
            break;
          int64_t begin = op.getByteOffsets().empty() ? 0 : op.getByteOffsets()[index];
          auto memref = dyn_cast<MemRefType>(types[index]);
          if (!memref)
            continue;
          int64_t bytes = getSpanBytes(memref);
          if (llvm::is_contained(op.getWrites(), static_cast<int64_t>(index)))
            write(buffer, begin, bytes);
          else
            read(buffer, begin, bytes);
        }
      })
      .Case([&](plan::MatmulOp op) {
        ArrayRef<int64_t> offsets = op.getByteOffsets();
        read(op.getLhsAttr(), offsets[0], getSpanBytes(op.getLhsOperand()));
        read(op.getRhsAttr(), offsets[1], getSpanBytes(op.getRhsOperand()));
        if (op.getBias())
          read(op.getBiasAttr(), offsets[3], getSpanBytes(*op.getBiasOperand()));
        write(op.getOutAttr(), offsets[2], getSpanBytes(op.getOutOperand()));
        if (op.getScratch())
          write(op.getScratchAttr(), 0, kWholeBuffer);
        if (op.getEpilogue() == plan::Epilogue::gelu)
          write(op.getAuxAttr(), offsets[4], getSpanBytes(*op.getAuxOperand()));
        else if (op.getEpilogue() == plan::Epilogue::gelu_grad)
          read(op.getAuxAttr(), offsets[4], getSpanBytes(*op.getAuxOperand()));
        if (op.getAddend())
          read(op.getAddendAttr(), offsets[6], getSpanBytes(op.getOutOperand()));
        if (op.getBiasGradient()) {
          ArrayRef<int64_t> shape = op.getOutOperand().getShape();
          int64_t elements = op.getBiasGradientKind() == plan::BiasGradient::lhs_rows ? shape[shape.size() - 2] : shape.back();
          write(op.getBiasGradientAttr(), offsets[5], elements * getBytes(op.getOutOperand().getElementType()));
        }
      })
      .Case([&](plan::AttentionOp op) { collectAttention(op, {3, 4}, read, write); })
      .Case([&](plan::AttentionGradOp op) { collectAttention(op, {6, 7, 8}, read, write); })
      .Case([&](plan::ConvolutionOp op) {
        // Forward writes the output, the gradients the input or the weight.
        const size_t written = op.getKind() == plan::ConvolutionKind::forward ? 2 : op.getKind() == plan::ConvolutionKind::input_grad ? 0 : 1;
        collectAttention(op, {written}, read, write);
      })
      .Case([&](plan::CopyOp op) {
        read(op.getSourceAttr(), op.getSourceOffset(), op.getBytes());
        write(op.getDestinationAttr(), op.getDestinationOffset(), op.getBytes());
      })
      .Case([&](plan::ZeroOp op) { write(op.getBufferAttr(), op.getOffset(), op.getBytes()); })
      .Case([&](plan::AllGatherOp op) {
        read(op.getSourceAttr(), 0, op.getBytesPerRank());
        write(op.getDestinationAttr(), 0, world * op.getBytesPerRank());
      })
      .Case([&](plan::ReduceScatterOp op) {
        int64_t source = op.getElementsPerRank() * getBytes(op.getSourceType()), destination = op.getElementsPerRank() * getBytes(op.getDestinationType());
        read(op.getSourceAttr(), 0, world * source);
        write(op.getDestinationAttr(), 0, destination);
        if (world > 1)
          write(op.getWorkspaceAttr(), 0, world * source);
      })
      .Case([&](plan::AllReduceOp op) {
        int64_t bytes = world * op.getElementsPerRank() * getBytes(op.getType());
        read(op.getBufferAttr(), 0, bytes);
        write(op.getBufferAttr(), 0, bytes);
        if (world > 1)
          write(op.getWorkspaceAttr(), 0, bytes);
      })
      .Case([&](plan::AllReduceScalarsOp op) {
        int64_t bytes = op.getCount() * getBytes(op.getType());
        read(op.getSourceAttr(), 0, bytes);
        write(op.getDestinationAttr(), 0, bytes);
      })
      .Case([&](plan::GradientNormOp op) {
        int64_t workspace = 0;
        for (auto name : op.getBuckets().getAsRange<FlatSymbolRefAttr>()) {
          plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(name.getAttr());
          if (!placed || !placed.getGradient())
            continue;
          int64_t elements = placed.getGradientWhole() ? placed.getPadded() : placed.getSlice();
          read(placed.getGradientAttr(), 0, elements * getBytes(*placed.getGradientType()));
          workspace = std::max<int64_t>(workspace, elements / zero::kBlockElements * sizeof(double));
        }
        if (op.getWords()) {
          read(op.getWorkspaceAttr(), 0, kWholeBuffer);
          write(op.getWordsAttr(), 0, kWholeBuffer);
        } else {
          write(op.getWorkspaceAttr(), 0, workspace);
        }
        write(op.getNormAttr(), 0, getBytes(op.getType()));
      })
      .Case([&](plan::ParameterNormsOp op) {
        for (FlatSymbolRefAttr scalar : {op.getScaleAttr(), op.getLrAttr(), op.getStepAttr(), op.getFiniteAttr()})
          read(scalar, 0, kWholeBuffer);
        if (op.getMomentum())
          read(op.getMomentumAttr(), 0, kWholeBuffer);
        plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(op.getBucketAttr().getAttr());
        if (!placed)
          return;
        if (op.getGradient() || placed.getGradient())
          read(op.getGradient() ? op.getGradientAttr() : placed.getGradientAttr(), 0, kWholeBuffer);
        read(placed.getMaster() ? placed.getMasterAttr() : placed.getParametersAttr(), 0, kWholeBuffer);
        for (auto slot : placed.getSlots().getAsRange<FlatSymbolRefAttr>())
          read(slot, 0, kWholeBuffer);
        write(op.getWorkspaceAttr(), 0, kWholeBuffer);
        if (op.getWords())
          write(op.getWordsAttr(), 0, kWholeBuffer);
        write(op.getNormsAttr(), 0, kWholeBuffer);
      })
      .Case([&](plan::UpdateOp op) {
        if (op.getNorms())
          read(op.getNormsAttr(), 0, kWholeBuffer);
        for (FlatSymbolRefAttr scalar : {op.getScaleAttr(), op.getLrAttr(), op.getStepAttr(), op.getFiniteAttr()})
          read(scalar, 0, kWholeBuffer);
        if (op.getMomentum())
          read(op.getMomentumAttr(), 0, kWholeBuffer);
        plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(op.getBucketAttr().getAttr());
        if (!placed)
          return;
        if (op.getGradient())
          read(op.getGradientAttr(), 0, kWholeBuffer);
        else if (placed.getGradient())
          read(placed.getGradientAttr(), 0, kWholeBuffer);
        auto update = [&](FlatSymbolRefAttr buffer) {
          read(buffer, 0, kWholeBuffer);
          write(buffer, 0, kWholeBuffer);
        };
        update(placed.getParametersAttr());
        if (placed.getMaster())
          update(placed.getMasterAttr());
        for (auto slot : placed.getSlots().getAsRange<FlatSymbolRefAttr>())
          update(slot);
      });
  accesses.append(writes.begin(), writes.end());
}
