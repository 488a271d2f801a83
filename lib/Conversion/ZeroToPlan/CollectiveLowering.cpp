//===- CollectiveLowering.cpp - zero ops into commands -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../PlanAccess.h"
#include "FunctionLowering.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;

void FunctionLowering::gather(Location loc, Collective::Kind kind, BucketHome &home, StorageId source, StorageId destination, int64_t bytesPerRank, StringRef what) {
  IntegerAttr id = builder.getI64IntegerAttr(context.nextCollective++);
  auto start = plan::AllGatherOp::create(builder, loc, id, getRef(source), getRef(destination), builder.getI64IntegerAttr(bytesPerRank),
                                         builder.getStringAttr(what + " " + home.op.getSymName()));
  auto wait = plan::WaitOp::create(builder, loc, id);
  collectives.push_back({kind, start, wait, home.op, destination});
}

void FunctionLowering::lowerAllGather(zero::AllGatherOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  if (!home.parametersSharded) {
    gathered[op.getGathered()] = home.parameters;
    return;
  }
  // Where backward begins with the bucket that forward ended with, it is there already.
  if (lastGather.first == &home) {
    gathered[op.getGathered()] = lastGather.second;
    return;
  }
  int64_t elementBytes = getElementBytes(home.op.getComputeType());
  StorageId storage = context.storages.createTemporary(home.padded * elementBytes, plan::MemoryClass::gathered);
  gathered[op.getGathered()] = storage;
  lastGather = {&home, storage};
  gather(op.getLoc(), Collective::Kind::Gather, home, home.parameters, storage, home.slice * elementBytes, "gather");
}

void FunctionLowering::lowerView(zero::ViewOp op) {
  auto gatherOp = op.getGathered().getDefiningOp<zero::AllGatherOp>();
  BucketHome &home = *context.bucketOf.lookup(gatherOp.getBucketAttr().getAttr());
  views[op.getResult()] = home.getView(gathered.lookup(op.getGathered()), op.getParameterAttr().getAttr(), cast<RankedTensorType>(op.getType()));
}

LogicalResult FunctionLowering::lowerReduceGradients(zero::ReduceGradientsOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  Type type = home.op.getGradientType();
  int64_t elementBytes = getElementBytes(type);
  StorageId source = bucketGradients.lookup(op);

  // Between segments and behind the last there are zeros: norms are taken over whole blocks. On a CPU, what lies between two that are near is written later and may be zeroed with them.
  const int64_t nearBytes = context.isGpu() ? 0 : int64_t(1) << 16;
  int64_t end = 0;
  auto zeroUpTo = [&](int64_t begin) {
    if (begin <= end)
      return;
    const int64_t from = end * elementBytes, to = begin * elementBytes;
    if (!gaps.empty() && gaps.back().storage == source && from - gaps.back().end <= nearBytes)
      gaps.back().end = to;
    else
      gaps.push_back({op.getLoc(), source, from, to});
  };
  for (auto [index, segment] : llvm::enumerate(home.op.getSegments().getAsRange<zero::SegmentAttr>())) {
    zeroUpTo(segment.getOffset());
    end = segment.getOffset() + segment.getElements(); // the zeros that a segment reserves are zeroed with the rest
    Value gradient = op.getGradients()[index];
    if (!written[op][index] && failed(copy(op.getLoc(), getView(gradient), View::contiguous(source, cast<RankedTensorType>(gradient.getType()), segment.getOffset()))))
      return failure();
  }
  zeroUpTo(home.padded);

  bool alone = context.isAlone();
  if (alone && !home.accumulates)
    return success(); // nobody reads them in this function but norms and updates
  launchJoined();
  if (context.isGpu())
    zeroTogether();
  IntegerAttr id = builder.getI64IntegerAttr(context.nextCollective++), elements = builder.getI64IntegerAttr(home.slice);
  StringAttr label = builder.getStringAttr("reduce " + home.op.getSymName());
  // A rank alone receives nothing.
  FlatSymbolRefAttr workspace = getRef(context.worldSize == 1 ? source : context.storages.createTemporary(home.padded * elementBytes, plan::MemoryClass::communication));
  Operation *start;
  if (home.accumulates || home.optimizerSharded)
    start = plan::ReduceScatterOp::create(builder, op.getLoc(), id, getRef(source), getRef(home.gradient), workspace, elements, TypeAttr::get(type), TypeAttr::get(home.gradientType),
                                          home.accumulates ? builder.getUnitAttr() : nullptr, label);
  else
    start = plan::AllReduceOp::create(builder, op.getLoc(), id, getRef(source), workspace, elements, TypeAttr::get(type), label);
  auto wait = plan::WaitOp::create(builder, op.getLoc(), id);
  collectives.push_back({Collective::Kind::Reduce, start, wait, home.op, -1});
  return success();
}

/// One launch, of all buckets that wait for it. Large parts, such as rows behind those of a vocabulary, are no padding: a library's fill has more bandwidth.
void FunctionLowering::zeroTogether() {
  constexpr int64_t largeBytes = 1 << 14, wordBytes = 2;
  constexpr size_t mostBuffers = 256; // whose addresses a launch takes: 2 of 4 KiB
  llvm::MapVector<StorageId, SmallVector<std::pair<int64_t, int64_t>>> stretches;
  auto zero = [&](const Gap &gap) {
    plan::ZeroOp::create(builder, gap.loc, getRef(gap.storage), builder.getI64IntegerAttr(gap.begin), builder.getI64IntegerAttr(gap.end - gap.begin), nullptr);
  };
  llvm::erase_if(gaps, [&](const Gap &gap) {
    bool isLarge = gap.end - gap.begin >= largeBytes;
    if (isLarge)
      zero(gap);
    return isLarge;
  });
  if (gaps.size() == 1)
    zero(gaps.front());
  else
    for (const Gap &gap : gaps)
      stretches[gap.storage].push_back({gap.begin / wordBytes, gap.end / wordBytes});
  Location loc = gaps.empty() ? builder.getUnknownLoc() : gaps.front().loc;
  gaps.clear();
  auto buckets = stretches.takeVector();
  for (auto rest = ArrayRef(buckets); !rest.empty(); rest = rest.drop_front(std::min(rest.size(), mostBuffers))) {
    // Buckets that are alike one behind the other.
    SmallVector<ZeroedWords> kinds;
    SmallVector<SmallVector<FlatSymbolRefAttr>> buffers;
    for (const auto &bucket : rest.take_front(mostBuffers)) {
      auto *kind = llvm::find_if(kinds, [&](const ZeroedWords &other) { return other.stretches == bucket.second; });
      if (kind == kinds.end()) {
        kinds.push_back({0, bucket.second});
        buffers.emplace_back();
        kind = &kinds.back();
      }
      ++kind->count;
      buffers[kind - kinds.begin()].push_back(getRef(bucket.first));
    }
    SmallVector<std::pair<FlatSymbolRefAttr, int64_t>> arguments;
    for (ArrayRef<FlatSymbolRefAttr> ofKind : buffers)
      for (FlatSymbolRefAttr buffer : ofKind)
        arguments.push_back({buffer, 0});
    emitLaunch(loc, context.kernels.getGenerator().getZeroKernel(kinds), arguments);
  }
}

void FunctionLowering::zeroGaps() {
  if (context.isGpu())
    return zeroTogether();
  if (gaps.empty())
    return;
  DenseMap<StorageId, Operation *> firstAccess;
  for (const Gap &gap : gaps)
    firstAccess[gap.storage] = nullptr;
  PlanSymbols symbols(context.module);
  SmallVector<PlanAccess> accesses;
  for (Operation &command : *builder.getInsertionBlock()) {
    accesses.clear();
    collectAccesses(&command, symbols, accesses);
    for (const PlanAccess &access : accesses)
      for (StorageId id = context.storages.lookup(access.buffer); id >= 0; id = context.storages[id].parent)
        if (auto found = firstAccess.find(id); found != firstAccess.end() && !found->second)
          found->second = &command;
  }
  for (const Gap &gap : gaps) {
    Operation *first = firstAccess.lookup(gap.storage);
    OpBuilder before = first ? OpBuilder(first) : builder;
    plan::ZeroOp::create(before, gap.loc, getRef(gap.storage), before.getI64IntegerAttr(gap.begin), before.getI64IntegerAttr(gap.end - gap.begin), nullptr);
  }
}

LogicalResult FunctionLowering::lowerAllReduce(zero::AllReduceOp op) {
  // The sum over one rank is the value itself.
  if (context.isAlone()) {
    for (auto [input, result] : llvm::zip_equal(op.getInputs(), op.getResults()))
      views[result] = getView(input);
    return success();
  }
  Type elementType = cast<RankedTensorType>(op.getInputs().front().getType()).getElementType();
  int64_t elementBytes = getElementBytes(elementType), count = 0;
  for (Value input : op.getInputs())
    count += cast<RankedTensorType>(input.getType()).getNumElements();
  StorageId source = context.storages.createTemporary(count * elementBytes, plan::MemoryClass::communication);
  StorageId sums = context.storages.createTemporary(count * elementBytes, plan::MemoryClass::communication);
  int64_t at = 0;
  for (auto [index, input] : llvm::enumerate(op.getInputs())) {
    auto type = cast<RankedTensorType>(input.getType());
    if (type.getElementType() != elementType)
      return op.emitOpError("expects scalars of one type, but got ") << elementType << " and " << type.getElementType();
    if (failed(copy(op.getLoc(), getView(input), View::contiguous(source, type, at))))
      return failure();
    views[op.getResult(index)] = View::contiguous(sums, type, at);
    at += type.getNumElements();
  }
  plan::AllReduceScalarsOp::create(builder, op.getLoc(), getRef(source), getRef(sums), builder.getI64IntegerAttr(count), TypeAttr::get(elementType), builder.getStringAttr("sum scalars"));
  return success();
}

void FunctionLowering::lowerGradientNorm(zero::GradientNormOp op) {
  View norm = getResultView(op.getNorm());
  views[op.getNorm()] = norm;
  int64_t workspaceBytes = 0;
  SmallVector<Attribute> kernels;
  for (auto name : op.getBuckets().getAsRange<FlatSymbolRefAttr>()) {
    BucketHome &home = *context.bucketOf.lookup(name.getAttr());
    bool whole = home.gradient == home.gradientWhole || context.isAlone();
    KernelGenerator &generator = context.kernels.getGenerator();
    kernels.push_back(context.isGpu() ? generator.getSquareSumsKernel(home.gradientType, op.getBuckets().size()) : generator.getSquaresKernel(home.gradientType));
    workspaceBytes = std::max<int64_t>(workspaceBytes, (whole ? home.padded : home.slice) / zero::kBlockElements * sizeof(double));
  }
  StorageId workspace;
  FlatSymbolRefAttr words, finish;
  if (!context.isGpu()) {
    workspace = context.storages.createTemporary(workspaceBytes, plan::MemoryClass::workspace);
  } else {
    // Where the gradients are, which the runtime writes once.
    workspace = context.storages.create("gradient_ranges", op.getBuckets().size() * 3 * sizeof(int64_t), plan::MemoryClass::workspace, /*persistent=*/true);
    words = getRef(context.storages.create("gradient_sums", 2 * runtime::ExactSum::kWords * sizeof(int64_t), plan::MemoryClass::workspace, /*persistent=*/true));
    finish = context.kernels.getGenerator().getNormKernel(norm.layout.elementType);
  }
  plan::GradientNormOp::create(builder, op.getLoc(), op.getBuckets(), builder.getArrayAttr(kernels), getRef(workspace), getRef(norm.storage), TypeAttr::get(norm.layout.elementType), words, finish);
}

FailureOr<FlatSymbolRefAttr> FunctionLowering::getScalar(Value value) {
  View view = getView(value);
  if (view.offset != 0) {
    View whole = createTemporary(cast<RankedTensorType>(value.getType()));
    if (failed(copy(value.getLoc(), view, whole)))
      return failure();
    view = whole;
  }
  return getRef(view.storage);
}

LogicalResult FunctionLowering::lowerUpdate(zero::UpdateOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  auto optimizer = context.module.lookupSymbol<train::OptimizerOp>(*home.op.getOptimizer());
  SmallVector<FlatSymbolRefAttr> scalars;
  for (Value value : {op.getScale(), op.getLr(), op.getStep(), op.getFinite()}) {
    FailureOr<FlatSymbolRefAttr> scalar = getScalar(value);
    if (failed(scalar))
      return failure();
    scalars.push_back(*scalar);
  }
  FlatSymbolRefAttr momentum;
  if (Value value = op.getMomentum()) {
    FailureOr<FlatSymbolRefAttr> scalar = getScalar(value);
    if (failed(scalar))
      return failure();
    momentum = *scalar;
  }
  FlatSymbolRefAttr gradient;
  Type gradientType = home.gradientType;
  if (!op.getDirections().empty()) {
    FailureOr<FlatSymbolRefAttr> directions = collectDirections(op);
    if (failed(directions))
      return failure();
    gradient = *directions;
    gradientType = home.stateType;
  } else if (home.accumulates && !home.optimizerSharded && !context.isAlone()) {
    // Every rank updates everything, but accumulates a slice.
    int64_t elementBytes = getElementBytes(home.gradientType);
    StorageId whole = context.storages.createTemporary(home.padded * elementBytes, plan::MemoryClass::communication);
    gather(op.getLoc(), Collective::Kind::Gather, home, home.gradient, whole, home.slice * elementBytes, "gather gradient of");
    gradient = getRef(whole);
  }
  FlatSymbolRefAttr norms;
  if (optimizer.getTrustRatio()) {
    KernelGenerator &generator = context.kernels.getGenerator();
    const int64_t segments = home.op.getSegments().size(), blocks = (home.optimizerSharded ? home.slice : home.padded) / zero::kBlockElements;
    Type type = optimizer.getBody().front().getArgument(0).getType();
    auto temporary = [&](int64_t bytes) { return getRef(context.storages.createTemporary(bytes, plan::MemoryClass::workspace)); };
    FlatSymbolRefAttr workspace = temporary(2 * blocks * sizeof(double)), words, accumulate, finish;
    norms = temporary(2 * segments * getElementBytes(type));
    if (context.isGpu()) {
      words = temporary(4 * segments * runtime::ExactSum::kWords * sizeof(int64_t));
      accumulate = generator.getAccumulateKernel();
      finish = generator.getNormKernel(type);
    }
    FlatSymbolRefAttr measure = generator.getParameterNormsKernel(optimizer, home.op.getComputeType(), home.gradientType, home.master >= 0, op.getRates().has_value());
    plan::ParameterNormsOp::create(builder, op.getLoc(), op.getBucketAttr(), measure, workspace, norms, scalars[0], scalars[1], scalars[2], scalars[3], momentum, op.getDecaysAttr(), op.getRatesAttr(), gradient, words,
                                   accumulate, finish);
  }
  FlatSymbolRefAttr kernel = context.kernels.getGenerator().getUpdateKernel(optimizer, home.op.getComputeType(), gradientType, home.master >= 0, op.getRates().has_value());
  plan::UpdateOp::create(builder, op.getLoc(), op.getBucketAttr(), kernel, scalars[0], scalars[1], scalars[2], scalars[3], momentum, op.getDecaysAttr(), op.getRatesAttr(), gradient, norms);
  return success();
}

void FunctionLowering::lowerPublish(zero::PublishOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  if (home.parameterSlice < 0)
    return; // a rank alone
  gather(op.getLoc(), Collective::Kind::Publish, home, home.parameterSlice, home.parameters, home.slice * getElementBytes(home.op.getComputeType()), "publish");
}
