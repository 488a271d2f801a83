//===- FunctionLowering.cpp - one function into commands -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace mlir;
using namespace zopt;

LogicalResult zopt::lowerFunction(func::FuncOp function, plan::SequenceOp sequence, OpBuilder &declarations, LoweringContext &context, SmallVectorImpl<Collective> &collectives) {
  return FunctionLowering(function, sequence, declarations, context, collectives).run();
}

LogicalResult FunctionLowering::run() {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  if (failed(lowerArguments()))
    return failure();
  computeLastReads();
  assignDestinations();
  for (Operation &op : llvm::make_early_inc_range(function.getBody().front()))
    if (failed(lower(&op)))
      return failure();
  launchJoined();
  zeroGaps();
  return success();
}

std::pair<StringAttr, StringAttr> FunctionLowering::getSymbol(StringAttr name, StringRef kind) {
  if (!context.module.lookupSymbol(name))
    return {name, StringAttr()};
  std::string symbol = (name.getValue() + kind).str();
  for (unsigned number = 1; context.module.lookupSymbol(symbol); ++number)
    symbol = (name.getValue() + kind + llvm::Twine(number)).str();
  return {StringAttr::get(function.getContext(), symbol), name};
}

LogicalResult FunctionLowering::lowerArguments() {
  for (BlockArgument argument : function.getArguments()) {
    unsigned index = argument.getArgNumber();
    auto name = function.getArgAttrOfType<StringAttr>(index, "train.name");
    if (!name)
      return function.emitOpError("argument ") << index << " has no train.name";
    auto type = cast<RankedTensorType>(argument.getType());
    if (auto known = context.inputOf.find(name); known != context.inputOf.end()) {
      if (known->second.second != type)
        return function.emitOpError("argument ") << index << " is '" << name.getValue() << "' of " << type << ", which another function takes as " << known->second.second;
      views[argument] = View::contiguous(known->second.first, type);
      continue;
    }
    auto [symbol, tensorName] = getSymbol(name, ".input");
    StorageId storage = context.storages.create(name.getValue() + ".value", type.getNumElements() * getElementBytes(type.getElementType()), plan::MemoryClass::inputs, /*persistent=*/true);
    views[argument] = View::contiguous(storage, type);
    context.inputOf[name] = {storage, type};
    bool isLabel = function.getArgAttr(index, "train.label") != nullptr;
    auto limit = function.getArgAttrOfType<IntegerAttr>(index, "train.limit");
    plan::InputOp::create(declarations, argument.getLoc(), symbol, plan::InputKindAttr::get(function.getContext(), isLabel ? plan::InputKind::label : plan::InputKind::input), getRef(storage),
                          TypeAttr::get(type), declarations.getI64IntegerAttr(limit ? limit.getInt() : 0), function.getArgAttrOfType<IntegerAttr>(index, "train.ignore_index"), tensorName);
  }
  return success();
}

LogicalResult FunctionLowering::lower(Operation *op) {
  if (isa<zero::GradientNormOp, zero::DirectionOp, zero::UpdateOp>(op))
    launchJoined();
  if (context.isGpu() && isa<zero::GradientNormOp, zero::UpdateOp>(op))
    zeroTogether();
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](func::ReturnOp op) { return lowerReturn(op); })
      .Case<train::BackwardOp, zero::FreeOp>([](auto) { return success(); })
      .Case([&](train::ReadStateOp op) { return lowerReadState(op); })
      .Case([&](train::WriteStateOp op) { return lowerWriteState(op); })
      .Case([&](train::AccumulateOp op) { return lowerAccumulate(op); })
      .Case([&](train::MatmulOp op) { return lowerMatmul(op); })
      .Case([&](train::FusedMatmulOp op) { return lowerFusedMatmul(op); })
      .Case([&](train::AttentionOp op) { return lowerAttention(op); })
      .Case([&](train::AttentionGradOp op) { return lowerAttentionGrad(op); })
      .Case<train::ConvOp, train::ConvInputGradOp, train::ConvWeightGradOp>([&](auto op) { return lowerConvolution(op); })
      .Case([&](train::ConcatOp op) { return lowerConcat(op); })
      .Case([&](zero::AllGatherOp op) { return lowerAllGather(op), success(); })
      .Case([&](zero::ViewOp op) { return lowerView(op), success(); })
      .Case([&](zero::ReduceGradientsOp op) { return lowerReduceGradients(op); })
      .Case([&](zero::AllReduceOp op) { return lowerAllReduce(op); })
      .Case([&](zero::GradientNormOp op) { return lowerGradientNorm(op), success(); })
      .Case([&](zero::DirectionOp op) { return lowerDirection(op); })
      .Case([&](zero::UpdateOp op) { return lowerUpdate(op); })
      .Case([&](zero::PublishOp op) { return lowerPublish(op), success(); })
      .Default([&](Operation *op) -> LogicalResult {
        if (!isa<train::TrainDialect>(op->getDialect()))
          return op->emitOpError("has no place in a final plan");
        return isMovement(op) ? lowerMovement(op) : lowerToKernel(op);
      });
}

//===----------------------------------------------------------------------===//
// States, inputs, outputs
//===----------------------------------------------------------------------===//

LogicalResult FunctionLowering::lowerReturn(func::ReturnOp op) {
  for (auto [index, value] : llvm::enumerate(op.getOperands())) {
    auto type = cast<RankedTensorType>(value.getType());
    View output = View::contiguous(outputs[index], type);
    if (!written[op][index] && failed(copy(op.getLoc(), getView(value), output)))
      return failure();
    auto name = function.getResultAttrOfType<StringAttr>(index, "train.name");
    if (!name)
      return op.emitOpError("gives back result ") << index << ", which has no train.name";
    auto [symbol, tensorName] = getSymbol(name, ".output");
    plan::OutputOp::create(declarations, op.getLoc(), symbol, getRef(outputs[index]), TypeAttr::get(type), tensorName);
  }
  return success();
}

LogicalResult FunctionLowering::lowerReadState(train::ReadStateOp op) {
  StringAttr name = op.getStateAttr().getAttr();
  RankedTensorType type = op.getType();
  if (BucketHome *home = context.homeOf.lookup(name)) {
    if (home->parametersSharded)
      return op.emitOpError("reads ") << op.getStateAttr() << ", which is sharded";
    views[op] = home->getView(home->parameters, name, type);
    return success();
  }
  auto it = context.stateOf.find(name);
  if (it == context.stateOf.end())
    return op.emitOpError("reads ") << op.getStateAttr() << ", which is in an optimizer's slot";
  View state = View::contiguous(it->second, type);
  views[op] = state;
  // What is set while it is still read keeps its old value for those who read it here.
  if (llvm::any_of(writers.lookup(name), [&](Operation *writer) { return op->isBeforeInBlock(writer) && !isReadBefore(op, writer); })) {
    views[op] = createTemporary(type);
    return copy(op.getLoc(), state, views[op]);
  }
  return success();
}

/// The first micro-step finds zeros.
static void zeroFirst(OpBuilder &builder, Location loc, FlatSymbolRefAttr storage, int64_t bytes) {
  OpBuilder first = OpBuilder::atBlockBegin(builder.getInsertionBlock());
  plan::ZeroOp::create(first, loc, storage, first.getI64IntegerAttr(0), first.getI64IntegerAttr(bytes), first.getUnitAttr());
}

LogicalResult FunctionLowering::lowerWriteState(train::WriteStateOp op) {
  if (op.getAccumulates())
    if (auto state = context.stateOf.find(op.getStateAttr().getAttr()); state != context.stateOf.end())
      zeroFirst(builder, op.getLoc(), getRef(state->second), context.storages[state->second].bytes);
  if (auto it = written.find(op); it != written.end() && it->second.front())
    return success();
  auto state = context.stateOf.find(op.getStateAttr().getAttr());
  if (state == context.stateOf.end())
    return op.emitOpError("sets ") << op.getStateAttr() << ", which lives in a bucket";
  return copy(op.getLoc(), getView(op.getValue()), View::contiguous(state->second, cast<RankedTensorType>(op.getValue().getType())));
}

LogicalResult FunctionLowering::lowerAccumulate(train::AccumulateOp op) {
  auto it = context.stateOf.find(op.getStateAttr().getAttr());
  if (it == context.stateOf.end())
    return op.emitOpError("adds to ") << op.getStateAttr() << ", which lives in a bucket";
  auto type = cast<RankedTensorType>(op.getValue().getType());
  View state = View::contiguous(it->second, type);
  zeroFirst(builder, op.getLoc(), getRef(it->second), context.storages[it->second].bytes);
  if (context.storages[it->second].bytes != type.getNumElements() * getElementBytes(type.getElementType()))
    return op.emitOpError("adds ") << type << " to a state of another type";

  FailureOr<View> value = getContiguous(op.getValue());
  if (failed(value))
    return failure();
  OpBuilder temporary(op);
  auto add = train::AddOp::create(temporary, op.getLoc(), type, op.getValue(), op.getValue());
  return launchKernels(add, {state, *value, state}, op.getLoc()); // the op goes with the function
}

//===----------------------------------------------------------------------===//
// Movement and kernels
//===----------------------------------------------------------------------===//

LogicalResult FunctionLowering::lowerMovement(Operation *op) {
  Value result = op->getResult(0);
  View input = getView(op->getOperand(0));
  if (auto it = movedTo.find(op); it != movedTo.end()) {
    views[result] = getResultView(result);
    return copy(op->getLoc(), input, it->second);
  }
  std::optional<View> view = viewResult(op, input);
  auto destination = destinations.find(result);
  if (view && destination == destinations.end()) {
    views[result] = *view;
    return success();
  }
  View target = getResultView(result);
  views[result] = target;
  if (view)
    return copy(op->getLoc(), *view, target);
  if (isa<train::ReshapeOp>(op) && !input.isContiguous())
    context.layoutChanges.add(op->getLoc(), input.getElements(), input.layout.elementType);
  return launchKernels(op, {input, target}, op->getLoc());
}

/// The view of tensors that lie one behind the other in one storage, as neighbouring parameters of a bucket do.
static std::optional<View> joinViews(train::ConcatOp op, ArrayRef<View> parts) {
  if (op.getAxis() != 0)
    return std::nullopt;
  int64_t next = parts.front().offset;
  for (const View &part : parts) {
    if (part.storage != parts.front().storage || !part.isContiguous() || part.offset != next)
      return std::nullopt;
    next += part.getElements();
  }
  return View::contiguous(parts.front().storage, op.getType(), parts.front().offset);
}

LogicalResult FunctionLowering::lowerConcat(train::ConcatOp op) {
  if (!destinations.contains(op.getResult())) {
    if (std::optional<View> joined = joinViews(op, llvm::map_to_vector(op.getInputs(), [&](Value input) { return getView(input); }))) {
      views[op.getResult()] = *joined;
      return success();
    }
    written[op].assign(op.getInputs().size(), false);
  }
  View result = getResultView(op.getResult());
  views[op.getResult()] = result;
  SmallVector<int64_t> starts(op.getType().getRank(), 0), steps(op.getType().getRank(), 1);
  for (auto [index, input] : llvm::enumerate(op.getInputs())) {
    ArrayRef<int64_t> sizes = cast<RankedTensorType>(input.getType()).getShape();
    if (!written[op][index] && failed(copy(op.getLoc(), getView(input), sliceView(result, starts, sizes, steps))))
      return failure();
    starts[op.getAxis()] += sizes[op.getAxis()];
  }
  return success();
}

LogicalResult FunctionLowering::lowerToKernel(Operation *op) {
  SmallVector<View> arguments;
  for (OpOperand &operand : op->getOpOperands()) {
    View view = getView(operand.get());
    if (!view.isContiguous() && !KernelGenerator::acceptsStrides(op, operand.getOperandNumber())) {
      FailureOr<View> contiguous = getContiguous(operand.get());
      if (failed(contiguous))
        return failure();
      view = *contiguous;
    }
    arguments.push_back(view);
  }
  for (Value result : op->getResults()) {
    View view = getResultView(result);
    views[result] = view;
    arguments.push_back(view);
  }
  return launchKernels(op, arguments, op->getLoc());
}

FailureOr<View> FunctionLowering::getContiguous(Value value) {
  View view = getView(value);
  if (view.isContiguous())
    return view;
  auto [it, isNew] = copies.try_emplace(value);
  if (isNew) {
    it->second = createTemporary(cast<RankedTensorType>(value.getType()));
    View target = it->second;
    if (failed(copy(value.getLoc(), view, target)))
      return failure();
    return target;
  }
  return it->second;
}

/// The axes of a view as they lie in memory, outermost first.
static SmallVector<int64_t> getAxesByStride(const View &view) {
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(0, view.layout.shape.size()));
  llvm::sort(axes, [&](int64_t a, int64_t b) { return std::pair(-view.layout.strides[a], a) < std::pair(-view.layout.strides[b], b); });
  return axes;
}

/// Whether a walk through the one in memory's order leaps in the other. Axes of size 1 and broadcast ones have no place
/// in it.
static bool changesOrder(const View &a, const View &b) {
  auto walk = [&](const View &view) {
    SmallVector<int64_t> axes = getAxesByStride(view);
    llvm::erase_if(axes, [&](int64_t axis) {
      return a.layout.shape[axis] == 1 || a.layout.strides[axis] == 0 || b.layout.strides[axis] == 0;
    });
    return axes;
  };
  return walk(a) != walk(b);
}

void LayoutChanges::add(Location loc, int64_t elements, Type elementType) {
  constexpr size_t most = 3;
  ++count;
  bytes += elements * getElementBytes(elementType);
  if (first.size() < most && !llvm::is_contained(first, loc))
    first.push_back(loc);
}

View FunctionLowering::getResultView(Value value) {
  auto it = destinations.find(value);
  if (it != destinations.end())
    return it->second;
  if (std::optional<View> inPlace = getInPlaceView(value))
    return *inPlace;
  auto type = cast<RankedTensorType>(value.getType());
  Operation *op = value.getDefiningOp();
  View view;
  if (auto product = dyn_cast_or_null<train::MatmulOp>(op); product && context.isGpu())
    view = createProductResult(product);
  else if (context.isGpu() && isa_and_nonnull<train::RotaryOp>(op))
    view = createPermuted(type, getAxesByStride(getView(op->getOperand(0)))); // heads stay next to one another, as projections have them
  else if (op && isPool(op))
    view = createPermuted(type, getChannelsLastOrder(type.getRank()));
  else
    view = createTemporary(type);
  owners[view.storage] = value;
  return view;
}

/// Rows of a product that do not start at multiples of 16 bytes keep the library from its fast kernels: a head of 50257 classes runs at a fifth of its speed. From this size on the rows are padded.
static constexpr int64_t kPitchedColumns = 1024;
/// Elements; 128 bytes of the narrow types.
static constexpr int64_t kPitch = 64;

View FunctionLowering::createProductResult(train::MatmulOp op) {
  RankedTensorType type = op.getType();
  int64_t columns = type.getShape().back(), elementBytes = getElementBytes(type.getElementType());
  // Where the left operand has zeros behind its rows, the result has room for the rows that they give.
  View lhs = getView(op.getLhs());
  size_t rows = lhs.layout.shape.size() - (op.getTransposeLhs() ? 1 : 2);
  if (const ZeroPadding &padding = lhs.padding; type.getRank() == 2 && padding.to > 0 && lhs.layout.shape[rows] == padding.from && lhs.layout.strides[rows] == padding.stride) {
    View view = View::contiguous(context.storages.createTemporary(padding.to * columns * elementBytes, plan::MemoryClass::activations), type);
    view.padding = {padding.from, padding.to, columns};
    return view;
  }
  if (columns < kPitchedColumns || columns * elementBytes % 16 == 0)
    return createTemporary(type);
  int64_t pitch = llvm::alignTo(columns, kPitch), count = type.getNumElements() / columns;
  View view{context.storages.createTemporary(count * pitch * elementBytes, plan::MemoryClass::activations), 0, TensorLayout::contiguous(type)};
  for (int64_t axis = type.getRank() - 2, stride = pitch; axis >= 0; stride *= type.getDimSize(axis--))
    view.layout.strides[axis] = stride;
  return view;
}

View FunctionLowering::createPermuted(RankedTensorType type, ArrayRef<int64_t> order) {
  View view = createTemporary(type);
  int64_t stride = 1;
  for (int64_t axis : llvm::reverse(order)) {
    view.layout.strides[axis] = stride;
    stride *= type.getDimSize(axis);
  }
  return view;
}

View FunctionLowering::createTemporary(RankedTensorType type, plan::MemoryClass memoryClass) {
  return View::contiguous(context.storages.createTemporary(type.getNumElements() * getElementBytes(type.getElementType()), memoryClass), type);
}

LogicalResult FunctionLowering::copy(Location loc, const View &source, const View &destination) {
  Type elementType = source.layout.elementType;
  if (source.getElements() == 0)
    return success();
  if (source.isContiguous() && destination.isContiguous()) {
    plan::CopyOp::create(builder, loc, getRef(source.storage), builder.getI64IntegerAttr(source.getByteOffset()), getRef(destination.storage), builder.getI64IntegerAttr(destination.getByteOffset()),
                         builder.getI64IntegerAttr(source.getElements() * getElementBytes(elementType)));
    return success();
  }
  if (changesOrder(source, destination))
    context.layoutChanges.add(loc, source.getElements(), elementType);
  // A transposition that leaves axes where they are.
  OpBuilder temporary(function.getContext());
  temporary.setInsertionPointToStart(&function.getBody().front());
  auto type = RankedTensorType::get(source.layout.shape, elementType);
  auto zeros = train::ConstantOp::create(temporary, loc, type, DenseElementsAttr::get(type, temporary.getZeroAttr(elementType)));
  auto move = train::TransposeOp::create(temporary, loc, type, zeros, temporary.getDenseI64ArrayAttr(llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()))));
  return launchKernels(move, {source, destination}, loc); // the op goes with the function
}

LogicalResult FunctionLowering::launchKernels(Operation *op, ArrayRef<View> arguments, Location loc) {
  if (op->getNumResults() > 0 && llvm::all_of(op->getResultTypes(), [](Type type) { return cast<RankedTensorType>(type).getNumElements() == 0; }))
    return success(); // nothing to write
  SmallVector<TensorLayout> layouts(llvm::map_range(arguments, [&](const View &view) {
    TensorLayout layout = view.layout;
    if (context.isGpu())
      layout.alignment = llvm::MinAlign(view.getByteOffset(), 16);
    return layout;
  }));
  FailureOr<KernelPlan> kernels = context.kernels.get(op, layouts);
  if (failed(kernels))
    return failure();
  SmallVector<std::pair<FlatSymbolRefAttr, int64_t>> buffers(llvm::map_range(arguments, [&](const View &view) { return std::make_pair(getRef(view.storage), view.getByteOffset()); }));
  for (auto [index, bytes] : llvm::enumerate(kernels->workspaces)) {
    if (int64_t(index) != kernels->counters) {
      buffers.push_back({getRef(context.storages.createTemporary(bytes, plan::MemoryClass::workspace)), 0});
      continue;
    }
    // One launch after the other uses them.
    if (context.counters < 0)
      context.counters = context.storages.create("counters", 0, plan::MemoryClass::workspace, /*persistent=*/true);
    int64_t &available = context.storages[context.counters].bytes;
    available = std::max(available, bytes);
    buffers.push_back({getRef(context.counters), 0});
  }
  const bool joins = kernels->joined && mayJoin(op, *kernels);
  for (const KernelLaunch &launch : ArrayRef(kernels->launches).drop_back(joins ? 1 : 0))
    emitLaunch(loc, launch, buffers);
  if (!joins)
    return success();
  // What waits keeps its workspaces, so little may.
  constexpr int64_t mostBytes = 24 << 20;
  constexpr size_t mostOps = 8;
  auto bytesOf = [](const KernelPlan &plan) { return std::accumulate(plan.workspaces.begin(), plan.workspaces.end(), int64_t(0)); };
  int64_t bytes = bytesOf(*kernels);
  for (const Waiting &other : waiting)
    bytes += bytesOf(other.kernels);
  if (bytes > mostBytes || waiting.size() == mostOps)
    launchJoined();
  waiting.push_back({loc, *kernels, buffers});
  return success();
}

void FunctionLowering::emitLaunch(Location loc, const KernelLaunch &launch, ArrayRef<std::pair<FlatSymbolRefAttr, int64_t>> buffers) {
  SmallVector<Attribute> names;
  SmallVector<int64_t> offsets;
  for (unsigned argument : launch.arguments) {
    names.push_back(buffers[argument].first);
    offsets.push_back(buffers[argument].second);
  }
  if (llvm::all_of(offsets, [](int64_t offset) { return offset == 0; }))
    offsets.clear();
  plan::LaunchOp::create(builder, loc, launch.kernel, builder.getArrayAttr(names), builder.getDenseI64ArrayAttr(offsets), builder.getDenseI64ArrayAttr(launch.writes),
                         builder.getI64IntegerAttr(launch.extent), builder.getI64IntegerAttr(launch.grain));
}

bool FunctionLowering::mayJoin(Operation *op, const KernelPlan &kernels) {
  const KernelLaunch &last = kernels.launches.back();
  for (int64_t index : last.writes) {
    const unsigned argument = last.arguments[index];
    if (argument < op->getNumOperands() || argument >= op->getNumOperands() + op->getNumResults())
      return false;
    Value result = op->getResult(argument - op->getNumOperands());
    if (!destinations.contains(result) || !result.hasOneUse() || !isa<zero::ReduceGradientsOp>(*result.getUsers().begin()))
      return false;
  }
  return true;
}

void FunctionLowering::launchJoined() {
  while (!waiting.empty()) {
    const Waiting first = waiting.front();
    KernelLaunch launch = first.kernels.launches.back();
    SmallVector<std::pair<FlatSymbolRefAttr, int64_t>> buffers;
    int64_t count = 0;
    llvm::erase_if(waiting, [&](const Waiting &other) {
      const KernelLaunch &last = other.kernels.launches.back();
      if (last.kernel != launch.kernel)
        return false;
      for (unsigned argument : last.arguments)
        buffers.push_back(other.buffers[argument]);
      ++count;
      return true;
    });
    if (count > 1)
      launch = context.kernels.getGenerator().getJoined(first.kernels, count);
    else
      launch.arguments = llvm::to_vector(llvm::seq<unsigned>(0, buffers.size()));
    emitLaunch(first.loc, launch, buffers);
  }
}
