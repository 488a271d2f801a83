//===- TrainVerifiers.cpp - constraints of train ops ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The labels (C1), (C2), ... are those of the op's description in TrainOps.td.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// "4x10", for messages.
static std::string text(ArrayRef<int64_t> shape) {
  std::string result;
  llvm::raw_string_ostream stream(result);
  stream << "[";
  llvm::interleave(shape, stream, "x");
  stream << "]";
  return result;
}

static ArrayRef<int64_t> shapeOf(Value value) { return getTensorType(value).getShape(); }
static Type elementOf(Value value) { return getTensorType(value).getElementType(); }

/// The shape that operands broadcast to is the result's.
static LogicalResult verifyBroadcast(Operation *op, ValueRange operands, ArrayRef<int64_t> result) {
  SmallVector<int64_t> shape(shapeOf(operands.front()));
  for (Value operand : operands.drop_front()) {
    FailureOr<SmallVector<int64_t>> merged = broadcastShapes(shape, shapeOf(operand));
    if (failed(merged))
      return op->emitOpError() << "operand shapes " << text(shape) << " and " << text(shapeOf(operand)) << " do not broadcast";
    shape = *merged;
  }
  if (ArrayRef<int64_t>(shape) != result)
    return op->emitOpError() << "operands broadcast to " << text(shape) << " but the result is " << text(result);
  return success();
}

static LogicalResult verifyShape(Operation *op, StringRef what, ArrayRef<int64_t> actual, ArrayRef<int64_t> expected) {
  if (actual == expected)
    return success();
  return op->emitOpError() << what << " has shape " << text(actual) << ", expected " << text(expected);
}

static LogicalResult verifyElement(Operation *op, StringRef what, Type actual, Type expected) {
  if (actual == expected)
    return success();
  return op->emitOpError() << what << " has element type " << actual << ", expected " << expected;
}

static LogicalResult verifyAxis(Operation *op, int64_t axis, int64_t rank) {
  if (axis >= 0 && axis < rank)
    return success();
  return op->emitOpError() << "axis " << axis << " is out of range for rank " << rank;
}

//===----------------------------------------------------------------------===//
// Module-level symbols
//===----------------------------------------------------------------------===//

LogicalResult StateOp::verify() {
  RankedTensorType type = getTensorType();
  if (getTrained() && getRole() != Role::parameter) // (C3)
    return emitOpError() << "is trained but its role is " << stringifyRole(getRole());
  if (std::optional<ArrayRef<int64_t>> permutation = getSourcePermutation())
    if (static_cast<int64_t>(permutation->size()) != type.getRank())
      return emitOpError() << "source_permutation has " << permutation->size() << " entries for rank " << type.getRank();
  if (!getInit())
    return success();
  auto weight = dyn_cast<WeightAttr>(*getInit());
  if (!weight) {
    if (!isa<FloatAttr, IntegerAttr>(*getInit()))
      return emitOpError() << "init is neither #train.weight nor a scalar: " << *getInit();
    return success();
  }
  // (C2). i1 is stored as a byte an element.
  if (!weight.getElementType().isIntOrFloat())
    return emitOpError() << "weight has element type " << weight.getElementType();
  int64_t bytes = type.getNumElements() * llvm::divideCeil(weight.getElementType().getIntOrFloatBitWidth(), 8);
  if (weight.getBytes() != bytes)
    return emitOpError() << "weight has " << weight.getBytes() << " bytes, expected " << bytes;
  if (weight.getOffset() < 0)
    return emitOpError() << "weight has offset " << weight.getOffset();
  auto module = (*this)->getParentOfType<ModuleOp>();
  if (module && !module.lookupSymbol<WeightFileOp>(weight.getFile().getAttr()))
    return emitOpError() << "names no train.weight_file: " << weight.getFile();
  return success();
}

LogicalResult OptimizerOp::verify() {
  Block &body = getBody().front();
  unsigned arguments = 5 + getSlots().size() + getCyclesMomentum(); // (C1)
  if (body.getNumArguments() != arguments)
    return emitOpError() << "body has " << body.getNumArguments() << " arguments, expected " << arguments;
  Type type = body.getArgument(0).getType();
  if (!isa<FloatType>(type) || !llvm::all_equal(body.getArgumentTypes()))
    return emitOpError("body's arguments are not of one float type");
  auto yield = dyn_cast<YieldOp>(body.getTerminator()); // (C2)
  if (!yield)
    return emitOpError("body does not end in train.yield");
  if (std::optional<APFloat> average = getAverage()) { // (C5)
    const double decay = average->convertToDouble();
    if (!(decay > 0 && decay < 1))
      return emitOpError() << "has an average of decay " << decay << ", expected more than 0 and less than 1";
    if (getSlots().empty() || !(getTrustRatio() || getNewtonSchulz()))
      return emitOpError("has an average, but ") << (getSlots().empty() ? "no slot for it" : "a body that knows the new parameter");
  }
  const size_t yields = (getTrustRatio() ? 2 : 1) + getSlots().size() - (getAverage() ? 1 : 0);
  if (yield.getNumOperands() != yields)
    return emitOpError() << "yields " << yield.getNumOperands() << " values, expected " << yields;
  if (std::optional<ArrayRef<double>> ratio = getTrustRatio(); ratio && !(ratio->size() == 2 && (*ratio)[0] > 0 && (*ratio)[0] <= (*ratio)[1])) // (C3)
    return emitOpError("trust ratio is not two numbers, 0 < least <= most");
  if (std::optional<int64_t> iterations = getNewtonSchulz()) { // (C4)
    if (*iterations < 1)
      return emitOpError() << "makes " << *iterations << " Newton-Schulz iterations, expected at least 1";
    if (getTrustRatio() || getCyclesMomentum())
      return emitOpError("makes Newton-Schulz iterations, and has a ") << (getTrustRatio() ? "trust ratio" : "momentum that cycles");
    const unsigned scalars = 2 + getSlots().size();
    for (unsigned unknown : {0u, scalars, scalars + 1, scalars + 2})
      if (!body.getArgument(unknown).use_empty())
        return emitOpError() << "uses argument " << unknown << " for the direction of its Newton-Schulz iterations, which is made of gradient and slots";
  }
  for (Type yielded : yield.getOperandTypes())
    if (yielded != type)
      return emitOpError() << "yields " << yielded << ", expected " << type;
  return success();
}

//===----------------------------------------------------------------------===//
// States inside functions
//===----------------------------------------------------------------------===//

static FailureOr<StateOp> lookupState(Operation *op, FlatSymbolRefAttr name, SymbolTableCollection &symbols) {
  auto state = symbols.lookupNearestSymbolFrom<StateOp>(op, name);
  if (state)
    return state;
  op->emitOpError() << "names no train.state: " << name;
  return failure();
}

LogicalResult ReadStateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<StateOp> state = lookupState(*this, getStateAttr(), symbols);
  if (failed(state))
    return failure();
  if (failed(verifyShape(*this, "result", shapeOf(getValue()), state->getTensorType().getShape())))
    return failure();
  Type stored = state->getTensorType().getElementType(), read = elementOf(getValue());
  if (stored != read && !(isa<FloatType>(stored) && isa<FloatType>(read)))
    return emitOpError() << "reads " << read << " of a state of " << stored;
  return success();
}

LogicalResult WriteStateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<StateOp> state = lookupState(*this, getStateAttr(), symbols);
  if (failed(state))
    return failure();
  if (state->getTensorType() != getValue().getType())
    return emitOpError() << "writes " << getValue().getType() << " to a state of " << state->getTensorType();
  return success();
}

LogicalResult AccumulateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<StateOp> state = lookupState(*this, getStateAttr(), symbols);
  if (failed(state))
    return failure();
  bool gradient = state->getRole() == Role::parameter && state->getTrained();
  if (!gradient && state->getRole() != Role::gradient && state->getRole() != Role::scalar)
    return emitOpError() << "adds to " << getStateAttr() << ", which is no trained parameter, gradient or scalar";
  if (!isa<FloatType>(elementOf(getValue())))
    return verifyElement(*this, "value", elementOf(getValue()), state->getTensorType().getElementType());
  return verifyShape(*this, "value", shapeOf(getValue()), state->getTensorType().getShape());
}

LogicalResult UpdateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<StateOp> state = lookupState(*this, getParameterAttr(), symbols);
  if (failed(state))
    return failure();
  if (state->getRole() != Role::parameter || !state->getTrained()) // (C1)
    return emitOpError() << "updates " << getParameterAttr() << ", which is no trained parameter";
  auto optimizer = symbols.lookupNearestSymbolFrom<OptimizerOp>(*this, getOptimizerAttr());
  if (!optimizer)
    return emitOpError() << "names no train.optimizer: " << getOptimizerAttr();
  for (StringAttr slot : optimizer.getSlots().getAsRange<StringAttr>()) { // (C2)
    std::string name = (getParameter() + "." + slot.getValue()).str();
    auto slotState = symbols.lookupNearestSymbolFrom<StateOp>(*this, StringAttr::get(getContext(), name));
    if (!slotState || slotState.getRole() != Role::optimizer)
      return emitOpError() << "has no state '" << name << "' of role optimizer";
    if (failed(verifyShape(*this, "state '" + name + "'", slotState.getTensorType().getShape(), state->getTensorType().getShape())))
      return failure();
  }
  if (optimizer.getCyclesMomentum() != static_cast<bool>(getMomentum())) // (C3)
    return emitOpError() << (getMomentum() ? "has a momentum, which " : "has no momentum, which ") << getOptimizerAttr() << (getMomentum() ? " does not take" : " takes");
  if (const int64_t rank = state->getTensorType().getRank(); optimizer.getNewtonSchulz() && rank != 2 && rank != 4) // (C4)
    return emitOpError() << "makes Newton-Schulz iterations over " << getParameterAttr() << " of " << rank << " axes, expected 2 or 4";
  return success();
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

LogicalResult ConstantOp::verify() {
  if (getValue().getShapedType() != getResult().getType())
    return emitOpError() << "literal of " << getValue().getShapedType() << " for a result of " << getResult().getType();
  if (isa<DenseResourceElementsAttr>(getValue()))
    return emitOpError("literal is a resource; weights are referenced by #train.weight");
  RankedTensorType type = getTensorType(getResult());
  int64_t bytes = type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  if (!getValue().isSplat() && bytes > 1024)
    return emitOpError() << "literal has " << bytes << " bytes, more than 1024";
  return success();
}

LogicalResult IotaOp::verify() {
  return verifyAxis(*this, getAxis(), getTensorType(getResult()).getRank());
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

static LogicalResult verifyBinary(Operation *op) {
  Type type = elementOf(op->getResult(0)); // (C1)
  if (failed(verifyElement(op, "left operand", elementOf(op->getOperand(0)), type)) ||
      failed(verifyElement(op, "right operand", elementOf(op->getOperand(1)), type)))
    return failure();
  return verifyBroadcast(op, op->getOperands(), shapeOf(op->getResult(0))); // (C2)
}

LogicalResult AddOp::verify() { return verifyBinary(*this); }
LogicalResult SubOp::verify() { return verifyBinary(*this); }
LogicalResult MulOp::verify() { return verifyBinary(*this); }
LogicalResult DivOp::verify() { return verifyBinary(*this); }
LogicalResult PowOp::verify() { return verifyBinary(*this); }
LogicalResult MaxOp::verify() { return verifyBinary(*this); }
LogicalResult MinOp::verify() { return verifyBinary(*this); }
LogicalResult RemOp::verify() { return verifyBinary(*this); }

static LogicalResult verifyLogic(Operation *op) {
  if (!isa<IntegerType>(elementOf(op->getResult(0))))
    return op->emitOpError() << "has element type " << elementOf(op->getResult(0)) << ", expected an integer";
  return verifyBinary(op);
}

LogicalResult AndOp::verify() { return verifyLogic(*this); }
LogicalResult XorOp::verify() { return verifyLogic(*this); }
LogicalResult ShiftLeftOp::verify() { return verifyLogic(*this); }
LogicalResult ShiftRightOp::verify() { return verifyLogic(*this); }
LogicalResult OrOp::verify() { return verifyLogic(*this); }

LogicalResult CompareOp::verify() {
  if (failed(verifyElement(*this, "right operand", elementOf(getRhs()), elementOf(getLhs())))) // (C1)
    return failure();
  return verifyBroadcast(*this, getOperands(), shapeOf(getResult())); // (C2)
}

LogicalResult SelectOp::verify() {
  Type type = elementOf(getResult()); // (C1)
  if (failed(verifyElement(*this, "first value", elementOf(getOnTrue()), type)) ||
      failed(verifyElement(*this, "second value", elementOf(getOnFalse()), type)))
    return failure();
  return verifyBroadcast(*this, getOperands(), shapeOf(getResult())); // (C2)
}

LogicalResult FusedOp::verify() {
  Block &body = getBody().front();
  if (!llvm::equal(body.getArgumentTypes(), getInputs().getTypes()))
    return emitOpError("body's arguments do not mirror the operands");
  auto yield = dyn_cast<YieldOp>(body.getTerminator());
  if (!yield)
    return emitOpError("body does not end in train.yield");
  if (!llvm::equal(yield.getOperandTypes(), getOutputs().getTypes()))
    return emitOpError("body does not yield the result types");
  for (Operation &op : body.without_terminator()) // (C1)
    if (!op.hasTrait<Elementwise>() && !isa<ConstantOp, IotaOp, BroadcastOp>(op))
      return emitOpError() << "holds '" << op.getName() << "', which is not elementwise";
  if (getOutputs().empty())
    return emitOpError("has no result");
  ArrayRef<int64_t> space = shapeOf(getOutputs().front()); // (C2)
  for (Value output : getOutputs())
    if (failed(verifyShape(*this, "result", shapeOf(output), space)))
      return failure();
  for (Value input : getInputs()) {
    FailureOr<SmallVector<int64_t>> shape = broadcastShapes(shapeOf(input), space);
    if (failed(shape) || ArrayRef<int64_t>(*shape) != space)
      return emitOpError() << "operand of shape " << text(shapeOf(input)) << " does not broadcast to " << text(space);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Movement
//===----------------------------------------------------------------------===//

LogicalResult ReshapeOp::verify() {
  if (failed(verifyElement(*this, "result", elementOf(getResult()), elementOf(getInput()))))
    return failure();
  if (getTensorType(getInput()).getNumElements() != getTensorType(getResult()).getNumElements())
    return emitOpError() << "reshapes " << text(shapeOf(getInput())) << " to " << text(shapeOf(getResult())) << ", which has another number of elements";
  return success();
}

LogicalResult TransposeOp::verify() {
  ArrayRef<int64_t> permutation = getPermutation(), input = shapeOf(getInput());
  SmallVector<bool> seen(input.size(), false);
  SmallVector<int64_t> shape;
  for (int64_t axis : permutation) { // (C1)
    if (axis < 0 || axis >= static_cast<int64_t>(input.size()) || seen[axis])
      return emitOpError() << "permutation " << text(permutation) << " does not permute " << input.size() << " axes";
    seen[axis] = true;
    shape.push_back(input[axis]);
  }
  if (permutation.size() != input.size())
    return emitOpError() << "permutation " << text(permutation) << " does not permute " << input.size() << " axes";
  if (failed(verifyElement(*this, "result", elementOf(getResult()), elementOf(getInput()))))
    return failure();
  return verifyShape(*this, "result", shapeOf(getResult()), shape); // (C2)
}

/// What slice on `whole` gives `part`: starts and strides agree with the rank and stay in bounds.
static LogicalResult verifySlice(Operation *op, RankedTensorType whole, RankedTensorType part, ArrayRef<int64_t> starts, ArrayRef<int64_t> strides) {
  int64_t rank = whole.getRank();
  if (failed(verifyElement(op, "result", elementOf(op->getResult(0)), elementOf(op->getOperand(0)))))
    return failure();
  if (part.getRank() != rank || static_cast<int64_t>(starts.size()) != rank || static_cast<int64_t>(strides.size()) != rank) // (C1)
    return op->emitOpError() << "has " << starts.size() << " starts and " << strides.size() << " strides between ranks " << rank << " and " << part.getRank();
  for (int64_t axis = 0; axis < rank; ++axis) { // (C2)
    if (strides[axis] == 0)
      return op->emitOpError() << "has stride 0 on axis " << axis;
    if (part.getDimSize(axis) == 0)
      continue;
    int64_t last = starts[axis] + (part.getDimSize(axis) - 1) * strides[axis];
    if (std::min(starts[axis], last) < 0 || std::max(starts[axis], last) >= whole.getDimSize(axis))
      return op->emitOpError() << "reads positions " << starts[axis] << " to " << last << " of axis " << axis << ", which has " << whole.getDimSize(axis);
  }
  return success();
}

LogicalResult SliceOp::verify() {
  return verifySlice(*this, getTensorType(getInput()), getTensorType(getResult()), getStarts(), getStrides());
}

LogicalResult SliceGradOp::verify() {
  return verifySlice(*this, getTensorType(getResult()), getTensorType(getCotangent()), getStarts(), getStrides());
}

LogicalResult BitcastOp::verify() {
  Type from = elementOf(getInput()), to = elementOf(getResult());
  if (isa<FloatType>(from) == isa<FloatType>(to)) // (C1)
    return emitOpError() << "takes " << from << " to " << to << ", expected one of floats and one of integers";
  Type integers = isa<FloatType>(from) ? to : from;
  if (!isa<FloatType>(getFormat()) || getFormat().getIntOrFloatBitWidth() != integers.getIntOrFloatBitWidth()) // (C2)
    return emitOpError() << "has the format " << getFormat() << ", expected a float of the width of " << integers;
  return success();
}

LogicalResult ConcatOp::verify() {
  if (getInputs().empty())
    return emitOpError("has no operand");
  RankedTensorType result = getTensorType(getResult());
  int64_t axis = getAxis();
  if (failed(verifyAxis(*this, axis, result.getRank())))
    return failure();
  int64_t sum = 0;
  for (Value input : getInputs()) {
    if (failed(verifyElement(*this, "operand", elementOf(input), result.getElementType())))
      return failure();
    SmallVector<int64_t> expected(result.getShape());
    if (shapeOf(input).size() == expected.size())
      expected[axis] = shapeOf(input)[axis];
    if (failed(verifyShape(*this, "operand", shapeOf(input), expected)))
      return failure();
    sum += expected[axis];
  }
  if (sum != result.getDimSize(axis))
    return emitOpError() << "operands have " << sum << " along axis " << axis << " but the result " << result.getDimSize(axis);
  return success();
}

LogicalResult BroadcastOp::verify() {
  if (failed(verifyElement(*this, "result", elementOf(getResult()), elementOf(getInput()))))
    return failure();
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(shapeOf(getInput()), shapeOf(getResult()));
  if (failed(shape) || ArrayRef<int64_t>(*shape) != shapeOf(getResult()))
    return emitOpError() << "shape " << text(shapeOf(getInput())) << " does not broadcast to " << text(shapeOf(getResult()));
  return success();
}

/// (C1) of gather and gather_grad.
static LogicalResult verifyGather(Operation *op, RankedTensorType data, RankedTensorType indices, RankedTensorType rows, int64_t axis) {
  if (failed(verifyAxis(op, axis, data.getRank())))
    return failure();
  SmallVector<int64_t> expected(data.getShape().take_front(axis));
  llvm::append_range(expected, indices.getShape());
  llvm::append_range(expected, data.getShape().drop_front(axis + 1));
  return verifyShape(op, isa<GatherOp>(op) ? "result" : "cotangent", rows.getShape(), expected);
}

LogicalResult GatherOp::verify() {
  if (failed(verifyElement(*this, "result", elementOf(getResult()), elementOf(getData()))))
    return failure();
  return verifyGather(*this, getTensorType(getData()), getTensorType(getIndices()), getTensorType(getResult()), getAxis());
}

LogicalResult GatherGradOp::verify() {
  return verifyGather(*this, getTensorType(getResult()), getTensorType(getIndices()), getTensorType(getCotangent()), getAxis());
}

//===----------------------------------------------------------------------===//
// Reductions and rows
//===----------------------------------------------------------------------===//

static LogicalResult verifyReduce(Operation *op, ArrayRef<int64_t> axes, bool keepdims) {
  RankedTensorType input = getTensorType(op->getOperand(0)), result = getTensorType(op->getResult(0));
  SmallVector<bool> reduced(input.getRank(), false);
  int64_t previous = -1;
  for (int64_t axis : axes) { // (C1)
    if (axis <= previous || axis >= input.getRank())
      return op->emitOpError() << "axes " << text(axes) << " are not sorted and unique below rank " << input.getRank();
    previous = axis;
    reduced[axis] = true;
  }
  SmallVector<int64_t> shape;
  for (int64_t axis = 0; axis < input.getRank(); ++axis) {
    if (!reduced[axis])
      shape.push_back(input.getDimSize(axis));
    else if (keepdims)
      shape.push_back(1);
  }
  bool floats = isa<FloatType>(input.getElementType()) && isa<FloatType>(result.getElementType());
  if (!floats && failed(verifyElement(op, "result", result.getElementType(), input.getElementType())))
    return failure();
  return verifyShape(op, "result", result.getShape(), shape); // (C2)
}

LogicalResult ReduceSumOp::verify() { return verifyReduce(*this, getAxes(), getKeepdims()); }
LogicalResult ReduceMeanOp::verify() { return verifyReduce(*this, getAxes(), getKeepdims()); }
LogicalResult ReduceMaxOp::verify() { return verifyReduce(*this, getAxes(), getKeepdims()); }
LogicalResult ReduceProdOp::verify() { return verifyReduce(*this, getAxes(), getKeepdims()); }

/// A statistic of each row: the input's shape without the last axis, in the type that the op computes in.
static LogicalResult verifyStatistic(Operation *op, StringRef what, Value statistic, Value input) {
  if (failed(verifyElement(op, what, elementOf(statistic), getComputeType(elementOf(input)))))
    return failure();
  return verifyShape(op, what, shapeOf(statistic), shapeOf(input).drop_back());
}

static LogicalResult verifyRows(Operation *op, Value input) {
  if (shapeOf(input).empty())
    return op->emitOpError("has an input of rank 0");
  return success();
}

/// A vector of the last axis' size.
static LogicalResult verifyVector(Operation *op, StringRef what, Value vector, Value input) {
  return verifyShape(op, what, shapeOf(vector), shapeOf(input).take_back());
}

LogicalResult LayerNormOp::verify() {
  if (failed(verifyRows(*this, getInput())))
    return failure();
  if ((getGamma() && failed(verifyVector(*this, "gamma", getGamma(), getInput()))) || // (C1)
      (getBeta() && failed(verifyVector(*this, "beta", getBeta(), getInput()))))
    return failure();
  if (getResult().getType() != getInput().getType()) // (C2)
    return emitOpError() << "result is " << getResult().getType() << ", expected " << getInput().getType();
  return verifyStatistic(*this, "mean", getMean(), getInput());
}

static LogicalResult verifyAddend(Operation *op, Value addend, Value input) {
  if (!addend || addend.getType() == input.getType())
    return success();
  return op->emitOpError() << "addend is " << addend.getType() << ", expected " << input.getType();
}

/// (C3) of gradients of norms.
static LogicalResult verifySums(Operation *op, Value input, ArrayRef<std::pair<StringRef, Value>> sums) {
  for (auto [what, value] : sums)
    if (value && failed(verifyVector(op, what, value, input)))
      return failure();
  return success();
}

LogicalResult LayerNormGradOp::verify() {
  if (failed(verifyAddend(*this, getAddend(), getInput()))) // (C2)
    return failure();
  if (failed(verifyRows(*this, getInput())) || (getGamma() && failed(verifyVector(*this, "gamma", getGamma(), getInput()))) ||
      failed(verifyShape(*this, "cotangent", shapeOf(getCotangent()), shapeOf(getInput()))))
    return failure();
  if (static_cast<bool>(getGammaGrad()) != static_cast<bool>(getBetaGrad()))
    return emitOpError() << "has " << (getGammaGrad() ? "gamma's" : "beta's") << " gradient without " << (getGammaGrad() ? "beta's" : "gamma's");
  if (failed(verifySums(*this, getInput(), {{"gamma's gradient", getGammaGrad()}, {"beta's gradient", getBetaGrad()}, {"sum", getSum()}})))
    return failure();
  return verifyStatistic(*this, "mean", getMean(), getInput());
}

LogicalResult LayerNormParameterGradOp::verify() {
  if (failed(verifyRows(*this, getInput())) || failed(verifyShape(*this, "cotangent", shapeOf(getCotangent()), shapeOf(getInput()))) ||
      failed(verifyStatistic(*this, "mean", getMean(), getInput()))) // (C1)
    return failure();
  if (failed(verifyVector(*this, "gamma's gradient", getGammaGrad(), getInput()))) // (C2)
    return failure();
  return verifyVector(*this, "beta's gradient", getBetaGrad(), getInput());
}

LogicalResult RMSNormOp::verify() {
  if (failed(verifyRows(*this, getInput())) || (getGamma() && failed(verifyVector(*this, "gamma", getGamma(), getInput())))) // (C1)
    return failure();
  if (getResult().getType() != getInput().getType()) // (C2)
    return emitOpError() << "result is " << getResult().getType() << ", expected " << getInput().getType();
  return verifyStatistic(*this, "rstd", getRstd(), getInput());
}

LogicalResult RMSNormGradOp::verify() {
  if (failed(verifyRows(*this, getInput())) || (getGamma() && failed(verifyVector(*this, "gamma", getGamma(), getInput()))) || // (C1)
      failed(verifyShape(*this, "cotangent", shapeOf(getCotangent()), shapeOf(getInput()))) ||
      failed(verifyStatistic(*this, "rstd", getRstd(), getInput())))
    return failure();
  if (getResult().getType() != getInput().getType()) // (C2)
    return emitOpError() << "result is " << getResult().getType() << ", expected " << getInput().getType();
  if (failed(verifySums(*this, getInput(), {{"gamma's gradient", getGammaGrad()}, {"sum", getSum()}})))
    return failure();
  return verifyAddend(*this, getAddend(), getInput());
}

LogicalResult RMSNormParameterGradOp::verify() {
  if (failed(verifyRows(*this, getInput())) || failed(verifyShape(*this, "cotangent", shapeOf(getCotangent()), shapeOf(getInput()))) ||
      failed(verifyStatistic(*this, "rstd", getRstd(), getInput()))) // (C1)
    return failure();
  return verifyVector(*this, "gamma's gradient", getGammaGrad(), getInput()); // (C2)
}

static LogicalResult verifySmoothing(Operation *op, const APFloat &smoothing) {
  double value = smoothing.convertToDouble();
  if (value >= 0.0 && value <= 1.0)
    return success();
  return op->emitOpError() << "label_smoothing " << value << " is not between 0 and 1";
}

LogicalResult CrossEntropyOp::verify() {
  if (failed(verifyRows(*this, getLogits())) || failed(verifySmoothing(*this, getLabelSmoothing())))
    return failure();
  if (failed(verifyShape(*this, "labels", shapeOf(getLabels()), shapeOf(getLogits()).drop_back()))) // (C1)
    return failure();
  if (failed(verifyShape(*this, "loss", shapeOf(getLoss()), {})) ||
      failed(verifyElement(*this, "loss", elementOf(getLoss()), getComputeType(elementOf(getLogits())))))
    return failure();
  return verifyStatistic(*this, "lse", getLse(), getLogits());
}

LogicalResult CrossEntropyStepOp::verify() {
  if (failed(verifyRows(*this, getLogits())) || failed(verifySmoothing(*this, getLabelSmoothing())))
    return failure();
  if (failed(verifyShape(*this, "labels", shapeOf(getLabels()), shapeOf(getLogits()).drop_back())) || failed(verifyShape(*this, "loss", shapeOf(getLoss()), {}))) // (C1)
    return failure();
  return verifyElement(*this, "loss", elementOf(getLoss()), getComputeType(elementOf(getLogits())));
}

LogicalResult CountCorrectOp::verify() {
  if (failed(verifyRows(*this, getLogits())))
    return failure();
  if (failed(verifyShape(*this, "labels", shapeOf(getLabels()), shapeOf(getLogits()).drop_back())) || failed(verifyShape(*this, "count", shapeOf(getCount()), {}))) // (C1)
    return failure();
  return verifyElement(*this, "count", elementOf(getCount()), getComputeType(elementOf(getLogits())));
}

LogicalResult CrossEntropyGradOp::verify() {
  if (failed(verifyRows(*this, getLogits())) || failed(verifySmoothing(*this, getLabelSmoothing())))
    return failure();
  if (failed(verifyShape(*this, "labels", shapeOf(getLabels()), shapeOf(getLogits()).drop_back())) || // (C1)
      failed(verifyStatistic(*this, "lse", getLse(), getLogits())))
    return failure();
  if (getResult().getType() != getLogits().getType()) // (C2)
    return emitOpError() << "result is " << getResult().getType() << ", expected " << getLogits().getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

/// The rules of a product, of train.matmul and of what is fused with one.
template <typename Product>
static LogicalResult verifyProduct(Product op) {
  auto emitOpError = [&] { return op.emitOpError(); };
  ArrayRef<int64_t> lhs = shapeOf(op.getLhs()), rhs = shapeOf(op.getRhs());
  if (lhs.size() < 2 || rhs.size() < 2) // (C1)
    return emitOpError() << "operands have ranks " << lhs.size() << " and " << rhs.size() << ", expected at least 2";
  ArrayRef<int64_t> a = lhs.take_back(2), b = rhs.take_back(2);
  int64_t inner = a[op.getTransposeLhs() ? 0 : 1], other = b[op.getTransposeRhs() ? 1 : 0];
  if (inner != other)
    return emitOpError() << "inner sizes " << inner << " and " << other << " differ";
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(lhs.drop_back(2), rhs.drop_back(2)); // (C2)
  if (failed(shape))
    return emitOpError() << "batch shapes " << text(lhs.drop_back(2)) << " and " << text(rhs.drop_back(2)) << " do not broadcast";
  shape->push_back(a[op.getTransposeLhs() ? 1 : 0]);
  shape->push_back(b[op.getTransposeRhs() ? 0 : 1]);
  if (failed(verifyShape(op, "result", shapeOf(op.getResult()), *shape)))
    return failure();
  if (failed(verifyElement(op, "right operand", elementOf(op.getRhs()), elementOf(op.getLhs())))) // (C3)
    return failure();
  return op.getBias() ? verifyShape(op, "bias", shapeOf(op.getBias()), ArrayRef<int64_t>(*shape).take_back()) : success();
}

LogicalResult MatmulOp::verify() { return verifyProduct(*this); }

LogicalResult FusedMatmulOp::verify() {
  if (failed(verifyProduct(*this))) // (C1)
    return failure();
  if (getAddend() && (getAddend().getType() != getResult().getType() || getEpilogue() != MatmulEpilogue::none || getBiasGradient()))
    return emitOpError() << "has an addend of type " << getAddend().getType() << ", expected " << getResult().getType() << " and neither an epilogue nor a bias gradient";
  ArrayRef<int64_t> result = shapeOf(getResult());
  // (C2)
  for (auto [value, epilogue, what] : {std::tuple(Value(getPreActivation()), MatmulEpilogue::gelu, "pre_activation"), std::tuple(Value(getAux()), MatmulEpilogue::gelu_grad, "aux")}) {
    if ((getEpilogue() == epilogue) != static_cast<bool>(value))
      return emitOpError() << "with epilogue " << stringifyMatmulEpilogue(getEpilogue()) << (value ? " has " : " lacks ") << what;
    if (value && failed(verifyShape(*this, what, shapeOf(value), result)))
      return failure();
  }
  // (C3)
  BiasGradient kind = getBiasGradientKind();
  if ((kind != BiasGradient::none) != static_cast<bool>(getBiasGradient()))
    return emitOpError() << "has bias gradient kind " << stringifyBiasGradient(kind) << (getBiasGradient() ? " and" : ", but no") << " bias_gradient";
  if (kind == BiasGradient::none)
    return success();
  if (kind != BiasGradient::out_columns && (shapeOf(getLhs()).size() != 2 || shapeOf(getRhs()).size() != 2))
    return emitOpError() << "sums an operand, but its operands have ranks " << shapeOf(getLhs()).size() << " and " << shapeOf(getRhs()).size() << ", expected 2";
  return verifyShape(*this, "bias_gradient", shapeOf(getBiasGradient()), kind == BiasGradient::lhs_rows ? result.drop_back().take_back() : result.take_back());
}

/// Scores of q [B, H, T, D] and k [B, G, S, D] with v [B, G, S, D']: [B, H, T, S].
static FailureOr<SmallVector<int64_t>> verifyAttention(Operation *op, Value query, Value key, Value value, Value mask) {
  ArrayRef<int64_t> q = shapeOf(query), k = shapeOf(key), v = shapeOf(value);
  if (q.size() != 4 || k.size() != 4 || v.size() != 4) {
    op->emitOpError() << "query, key and value have ranks " << q.size() << ", " << k.size() << " and " << v.size() << ", expected 4";
    return failure();
  }
  if (q[0] != k[0] || q[3] != k[3] || k[1] == 0 || q[1] % k[1] != 0 || k.take_front(3) != v.take_front(3)) {
    op->emitOpError() << "query " << text(q) << ", key " << text(k) << " and value " << text(v) << " do not agree";
    return failure();
  }
  if (elementOf(key) != elementOf(query) || elementOf(value) != elementOf(query)) {
    op->emitOpError() << "query, key and value have element types " << elementOf(query) << ", " << elementOf(key) << " and " << elementOf(value);
    return failure();
  }
  SmallVector<int64_t> scores = {q[0], q[1], q[2], k[2]};
  if (mask) {
    FailureOr<SmallVector<int64_t>> shape = broadcastShapes(shapeOf(mask), scores);
    if (failed(shape) || *shape != scores) {
      op->emitOpError() << "mask " << text(shapeOf(mask)) << " does not broadcast to the scores' " << text(scores);
      return failure();
    }
    if (!isa<FloatType>(elementOf(mask)) && !elementOf(mask).isInteger(1)) {
      op->emitOpError() << "mask has element type " << elementOf(mask) << ", expected i1 or a float";
      return failure();
    }
  }
  return scores;
}

LogicalResult AttentionOp::verify() {
  FailureOr<SmallVector<int64_t>> scores = verifyAttention(*this, getQuery(), getKey(), getValue(), getMask());
  if (failed(scores))
    return failure();
  SmallVector<int64_t> result(*scores);
  result.back() = shapeOf(getValue())[3];
  if (failed(verifyShape(*this, "result", shapeOf(getResult()), result)) ||
      failed(verifyElement(*this, "result", elementOf(getResult()), elementOf(getQuery()))))
    return failure();
  return verifyStatistic(*this, "lse", getLse(), getQuery());
}

LogicalResult AttentionGradOp::verify() {
  FailureOr<SmallVector<int64_t>> scores = verifyAttention(*this, getQuery(), getKey(), getValue(), getMask());
  if (failed(scores)) // (C1)
    return failure();
  SmallVector<int64_t> result(*scores);
  result.back() = shapeOf(getValue())[3];
  if (failed(verifyShape(*this, "output", shapeOf(getOutput()), result)) ||
      failed(verifyShape(*this, "cotangent", shapeOf(getCotangent()), result)) || failed(verifyStatistic(*this, "lse", getLse(), getQuery())))
    return failure();
  for (unsigned i = 0; i < 3; ++i) // (C2)
    if (failed(verifyShape(*this, "result", shapeOf(getResult(i)), shapeOf(getOperand(i)))))
      return failure();
  return success();
}

/// The mask of scores [B, H, T, S].
static LogicalResult verifyScores(Operation *op, Value scores, Value mask) {
  if (shapeOf(scores).size() != 4)
    return op->emitOpError() << "scores have rank " << shapeOf(scores).size() << ", expected 4";
  if (!mask)
    return success();
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(shapeOf(mask), shapeOf(scores));
  if (failed(shape) || ArrayRef<int64_t>(*shape) != shapeOf(scores))
    return op->emitOpError() << "mask " << text(shapeOf(mask)) << " does not broadcast to the scores' " << text(shapeOf(scores));
  if (!isa<FloatType>(elementOf(mask)) && !elementOf(mask).isInteger(1))
    return op->emitOpError() << "mask has element type " << elementOf(mask) << ", expected i1 or a float";
  return success();
}

LogicalResult AttentionProbabilitiesOp::verify() {
  if (failed(verifyScores(*this, getScores(), getMask()))) // (C2)
    return failure();
  if (failed(verifyShape(*this, "result", shapeOf(getResult()), shapeOf(getScores())))) // (C1)
    return failure();
  return verifyStatistic(*this, "lse", getLse(), getScores());
}

LogicalResult AttentionScoresGradOp::verify() {
  if (failed(verifyScores(*this, getScores(), getMask())))
    return failure();
  for (Value value : {getProbabilityGrad(), getProbabilities(), getScoresGrad()}) // (C1)
    if (failed(verifyShape(*this, "dp or result", shapeOf(value), shapeOf(getScores()))))
      return failure();
  if (failed(verifyStatistic(*this, "lse", getLse(), getScores())))
    return failure();
  SmallVector<int64_t> output(shapeOf(getScores())); // (C2)
  output.back() = shapeOf(getOutput()).empty() ? 0 : shapeOf(getOutput()).back();
  if (failed(verifyShape(*this, "output", shapeOf(getOutput()), output)))
    return failure();
  return verifyShape(*this, "cotangent", shapeOf(getCotangent()), output);
}

LogicalResult RotaryOp::verify() {
  ArrayRef<int64_t> input = shapeOf(getInput());
  if (input.size() != 4)
    return emitOpError() << "input has rank " << input.size() << ", expected 4";
  if (input[3] % 2 != 0) // (C1)
    return emitOpError() << "rotates an odd last axis of " << input[3];
  SmallVector<int64_t> angles = {input[0], 1, input[2], input[3] / 2};
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(shapeOf(getCos()), angles);
  if (failed(shape) || *shape != angles)
    return emitOpError() << "cos and sin " << text(shapeOf(getCos())) << " do not broadcast to " << text(angles);
  if (shapeOf(getCos()).empty() || shapeOf(getCos()).back() != input[3] / 2)
    return emitOpError() << "cos and sin " << text(shapeOf(getCos())) << " do not end in " << input[3] / 2;
  return success();
}
