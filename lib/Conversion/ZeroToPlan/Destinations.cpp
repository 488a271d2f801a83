//===- Destinations.cpp - results that are born where they are needed ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A gradient is written by its producer into the bucket, an operand of a concatenation into its part of the result: no packing copies. Uses are walked backwards, so that a concatenation that is itself
// written somewhere passes that on to its operands.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"

using namespace mlir;
using namespace zopt;

void FunctionLowering::assignDestinations() {
  for (Operation &op : function.getBody().front()) {
    if (auto read = dyn_cast<train::ReadStateOp>(op))
      readers[read.getStateAttr().getAttr()].push_back(read);
    else if (auto write = dyn_cast<train::WriteStateOp>(op))
      writers[write.getStateAttr().getAttr()].push_back(write);
    else if (auto accumulate = dyn_cast<train::AccumulateOp>(op)) {
      readers[accumulate.getStateAttr().getAttr()].push_back(accumulate);
      writers[accumulate.getStateAttr().getAttr()].push_back(accumulate);
    }
  }

  for (Operation &op : llvm::reverse(function.getBody().front())) {
    if (auto reduce = dyn_cast<zero::ReduceGradientsOp>(op)) {
      assignGradients(reduce);
    } else if (auto update = dyn_cast<zero::UpdateOp>(op); update && !update.getDirections().empty()) {
      assignDirections(update);
    } else if (auto concat = dyn_cast<train::ConcatOp>(op)) {
      assignConcat(concat);
    } else if (auto write = dyn_cast<train::WriteStateOp>(op)) {
      StringAttr state = write.getStateAttr().getAttr();
      if (context.stateOf.contains(state) && mayOverwrite(write)) {
        View view = View::contiguous(context.stateOf.lookup(state), cast<RankedTensorType>(write.getValue().getType()));
        written[write] = {assignDestination(write.getValue(), view, /*mayHaveOtherUses=*/true)};
      }
    } else if (auto results = dyn_cast<func::ReturnOp>(op)) {
      for (auto [index, value] : llvm::enumerate(results.getOperands())) {
        auto type = cast<RankedTensorType>(value.getType());
        auto name = function.getResultAttrOfType<StringAttr>(index, "train.name");
        outputs.push_back(context.storages.create((name ? name.getValue() : StringRef("output")) + ".value", type.getNumElements() * getElementBytes(type.getElementType()),
                                                  plan::MemoryClass::activations, /*persistent=*/true));
        written[results].push_back(assignDestination(value, View::contiguous(outputs.back(), type), /*mayHaveOtherUses=*/true));
      }
    }
  }
}

void FunctionLowering::assignGradients(zero::ReduceGradientsOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  StorageId storage = home.gradientWhole;
  if (storage < 0) // a bucket that is freed when it is reduced
    storage = context.storages.createTemporary(home.padded * getElementBytes(home.op.getGradientType()), plan::MemoryClass::communication);
  bucketGradients[op] = storage;
  DenseMap<Value, View> places;
  for (auto [value, segment] : llvm::zip_equal(op.getGradients(), home.op.getSegments().getAsRange<zero::SegmentAttr>()))
    places[value] = home.getView(storage, segment.getParameter().getAttr(), cast<RankedTensorType>(value.getType()));
  // A bucket of one gradient may begin to live with the first term of its sum: that lives no longer in a place of its
  // own.
  const bool begins = home.gradientWhole >= 0 || op.getGradients().size() == 1;
  for (Value value : op.getGradients()) {
    written[op].push_back(assignJoined(value, places) || assignDestination(value, places.lookup(value)));
    if (begins && written[op].back())
      assignTerms(value, places.lookup(value));
  }
}

void FunctionLowering::assignTerms(Value sum, const View &destination) {
  while (isa_and_nonnull<train::AddOp, train::FusedOp>(sum.getDefiningOp()) && sum.getDefiningOp()->hasOneUse()) {
    Operation *op = sum.getDefiningOp();
    // Its kernel reads each element before it writes it. What was there first is there longest.
    Value first;
    for (Value operand : op->getOperands())
      if (Operation *definition = operand.getDefiningOp();
          definition && operand.getType() == sum.getType() && operand.hasOneUse() && !isMovement(definition) &&
          !destinations.contains(operand) && (!first || definition->isBeforeInBlock(first.getDefiningOp())))
        first = operand;
    if (op->getNumResults() != 1 || !first || !assignDestination(first, destination))
      return;
    sum = first;
  }
}

/// The rows of one product may be the gradients of several parameters: where these are neighbours in the bucket, the product is written there as a whole.
bool FunctionLowering::assignJoined(Value gradient, const DenseMap<Value, View> &places) {
  auto slice = gradient.getDefiningOp<train::SliceOp>();
  auto product = slice ? slice.getInput().getDefiningOp<train::MatmulOp>() : train::MatmulOp();
  if (!product || product.getType().getRank() != 2)
    return false;
  // Where the product begins, as each of its parts says.
  const int64_t columns = product.getType().getDimSize(1);
  std::optional<int64_t> begin;
  int64_t rows = 0;
  for (OpOperand &use : product->getUses()) {
    auto part = dyn_cast<train::SliceOp>(use.getOwner());
    auto place = part ? places.find(part.getResult()) : places.end();
    if (place == places.end() || !part->hasOneUse() || part.getType().getDimSize(1) != columns || part.getStarts()[1] != 0 || llvm::any_of(part.getStrides(), [](int64_t stride) { return stride != 1; }))
      return false;
    int64_t own = place->second.offset - part.getStarts()[0] * columns;
    if (!place->second.isContiguous() || begin.value_or(own) != own)
      return false;
    begin = own;
    rows += part.getType().getDimSize(0);
  }
  if (rows != product.getType().getDimSize(0))
    return false;
  return destinations.contains(product.getResult()) || assignDestination(product.getResult(), View::contiguous(places.lookup(gradient).storage, product.getType(), *begin), /*mayHaveOtherUses=*/true);
}

void FunctionLowering::assignConcat(train::ConcatOp op) {
  if (op->use_empty())
    return;
  // Parameters are copied, or lie side by side already; see lowerConcat.
  if (!destinations.contains(op.getResult()) && llvm::all_of(op.getInputs(), [](Value input) { return isa_and_nonnull<train::ReadStateOp, zero::ViewOp>(input.getDefiningOp()); }))
    return;
  View &whole = destinations.try_emplace(op.getResult()).first->second;
  if (whole.storage < 0)
    whole = createTemporary(op.getType());
  View result = whole;
  SmallVector<int64_t> starts(op.getType().getRank(), 0), steps(op.getType().getRank(), 1);
  for (Value input : op.getInputs()) {
    ArrayRef<int64_t> sizes = cast<RankedTensorType>(input.getType()).getShape();
    written[op].push_back(assignDestination(input, sliceView(result, starts, sizes, steps)));
    starts[op.getAxis()] += sizes[op.getAxis()];
  }
}

bool FunctionLowering::assignDestination(Value value, const View &destination, bool mayHaveOtherUses) {
  Operation *op = value.getDefiningOp();
  if (!op || !isa<train::TrainDialect>(op->getDialect()) || isa<train::ReadStateOp>(op) || destinations.contains(value) || (!mayHaveOtherUses && !value.hasOneUse()))
    return false;
  if (isMovement(op)) {
    std::optional<View> operand = viewOperand(op, destination);
    if (operand && assignDestination(op->getOperand(0), *operand))
      return true;
    if (operand)
      movedTo[op] = *operand; // one copy, from wherever the operand lies
    else if (!destination.isContiguous())
      return false;
  } else if (auto matmul = dyn_cast<train::MatmulOp>(op)) {
    ArrayRef<int64_t> strides = destination.layout.strides;
    bool columns = strides.back() == 1, rows = strides[strides.size() - 2] == 1 && !matmul.getBias();
    if (!destination.isDense() || (!columns && !rows))
      return false;
  } else if (!isa<train::ConcatOp>(op)) {
    unsigned index = op->getNumOperands() + cast<OpResult>(value).getResultNumber();
    if (!destination.isContiguous() && !KernelGenerator::acceptsStrides(op, index))
      return false;
  }
  destinations[value] = destination;
  return true;
}
