//===- CommandTime.cpp - about how long commands take --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CommandTime.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;

/// GPUs beyond one host's reach each other by a network.
static constexpr int64_t kRanksOfOneHost = 8;

/// Tensors as large as what it writes that a kernel reads at most.
static constexpr double kMostReads = 8;

CommandTimes::CommandTimes(KernelTarget target, int64_t worldSize, int64_t threads) : worldSize(worldSize) {
  if (target == KernelTarget::Gpu) {
    // An H100 or H200: what products and generated kernels reach there, and copies between two of a host.
    flopsPerSecond = 7e14;
    memoryBytesPerSecond = 3e12;
    linkBytesPerSecond = worldSize <= kRanksOfOneHost ? 3e11 : 4e10;
  } else {
    flopsPerSecond = 2e11 * threads;
    memoryBytesPerSecond = 2e10;
    linkBytesPerSecond = 4e9;
  }
}

static double getElements(plan::MatmulOperandAttr tensor) {
  double elements = 1;
  for (int64_t size : tensor.getShape().asArrayRef())
    elements *= size;
  return elements;
}

/// Of a product, attention or a convolution.
static double getFlops(Operation *command) {
  auto tensor = [](auto op, unsigned index) { return cast<plan::MatmulOperandAttr>(op.getTensors()[index]); };
  // Products of all queries with all keys: scores and sums forward, five backward; half of it with a causal mask.
  auto attention = [&](auto op, double products) {
    ArrayRef<int64_t> key = tensor(op, 1).getShape().asArrayRef();
    return products * 2 * getElements(tensor(op, 0)) * key[key.size() - 2] * (op.getCausal() ? 0.5 : 1);
  };
  return llvm::TypeSwitch<Operation *, double>(command)
      .Case([&](plan::MatmulOp op) { return 2 * getElements(op.getOutOperand()) * op.getLhsOperand().getShape().asArrayRef().back(); })
      .Case([&](plan::AttentionOp op) { return attention(op, 2); })
      .Case([&](plan::AttentionGradOp op) { return attention(op, 5); })
      .Case([&](plan::ConvolutionOp op) { return 2 * getElements(tensor(op, 2)) * getElements(tensor(op, 1)) / tensor(op, 1).getShape().asArrayRef().front(); })
      .Default([](Operation *) { return 0.0; });
}

/// Of the operands; wider ones take longer.
static unsigned getWidth(Operation *command) {
  return llvm::TypeSwitch<Operation *, unsigned>(command)
      .Case([](plan::MatmulOp op) { return op.getLhsOperand().getElementType().getIntOrFloatBitWidth(); })
      .Case<plan::AttentionOp, plan::AttentionGradOp, plan::ConvolutionOp>([](auto op) { return cast<plan::MatmulOperandAttr>(op.getTensors()[0]).getElementType().getIntOrFloatBitWidth(); })
      .Default([](Operation *) { return 16; });
}

double CommandTimes::getComputeTime(Operation *command, ArrayRef<StorageAccess> accesses) const {
  if (getStartedCollective(command) || isa<plan::WaitOp>(command))
    return 0;
  double read = 0, written = 0;
  for (const StorageAccess &access : accesses)
    (access.writes ? written : read) += access.bytes;
  // A kernel that is given a table reads a few of its rows.
  const double bytes = written + std::min(read, kMostReads * written);
  return std::max(bytes / memoryBytesPerSecond, getFlops(command) * getWidth(command) / 16 / flopsPerSecond);
}

int64_t CommandTimes::getSentBytes(Operation *command) const {
  auto bytesOf = [](Type type) { return int64_t(llvm::divideCeil(type.getIntOrFloatBitWidth(), 8)); };
  return (worldSize - 1) * llvm::TypeSwitch<Operation *, int64_t>(command)
                               .Case([](plan::AllGatherOp op) { return op.getBytesPerRank(); })
                               .Case([&](plan::ReduceScatterOp op) { return op.getElementsPerRank() * bytesOf(op.getSourceType()); })
                               .Case([&](plan::AllReduceOp op) { return 2 * op.getElementsPerRank() * bytesOf(op.getType()); })
                               .Default([](Operation *) { return 0; });
}
