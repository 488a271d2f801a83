//===- BatchNorm.cpp - kernels of batch normalization ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sums of a channel run over the samples and, within each, over the positions as one row; both are in row-major order,
// so the order depends on the shape alone. Where channels are last, samples are the rows of a column reduction. Else on a
// CPU a channel is an outer iteration; on a GPU samples and positions are one row of a group of threads, cut into chunks
// where there are few channels. Bytes moved: operands once, on a CPU for the statistics twice.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

/// Elements of a long row that are summed before the sum is added to a total.
static constexpr int64_t kRowBlock = 4096;
/// Elements that a block of a GPU sums at once where there are few channels.
static constexpr int64_t kGpuChunk = 16384;

namespace {

/// A number of each channel, `stride` elements apart, in memory as `elementType`.
struct ChannelVector {
  unsigned argument;
  Type elementType;
  int64_t stride = 1;
};

/// Sums over samples and positions of every channel of operand 0, [N, C, ...].
struct ChannelSums {
  ChannelSums(Context &context, StringRef name)
      : context(context), name(name), compute(train::getComputeType(context.operand(0).elementType)),
        samples(context.operand(0).shape[0]), channels(context.operand(0).shape[1]),
        positions(countElements(ArrayRef(context.operand(0).shape).drop_front(2))) {}

  Context &context;
  StringRef name;
  Type compute;
  int64_t samples, channels, positions;
  SmallVector<unsigned> inputs; // operands of the input's shape, contiguous
  SmallVector<ChannelVector> vectors;
  SmallVector<unsigned> results; // the op's
  /// The terms of each result, from the lanes of the inputs and the channel's elements of the vectors in all lanes.
  llvm::function_ref<SmallVector<Value>(KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors)> terms =
      nullptr;
  /// The results from the sums and the channel's elements of the vectors.
  llvm::function_ref<SmallVector<Value>(KernelBuilder &kernel, ArrayRef<Value> sums, ArrayRef<Value> vectors)> finish =
      nullptr;

  int64_t count() const { return samples * positions; }
  ChannelVector vectorOf(unsigned argument) const { return {argument, context.layouts[argument].elementType}; }
  /// The first element of each channel.
  ChannelVector firstElements() const { return {0, context.operand(0).elementType, positions}; }
  void generate() {
    if (positions == 1)
      return generateColumns();
    context.isGpu() ? generateOnGpu() : generateOnCpu();
  }

private:
  SmallVector<View> inputViews, vectorViews, resultViews;

  void generateOnCpu();
  void generateOnGpu();
  void generateColumns();
  Access accessOf(unsigned input) const {
    return Access{input, context.operand(input).elementType, {positions, channels * positions, 1}, 0,
                  false, context.operand(input).alignment};
  }
  void declareVectors(KernelBuilder &kernel) {
    vectorViews = llvm::map_to_vector(vectors, [&](const ChannelVector &vector) {
      return kernel.argument(Access{vector.argument, vector.elementType, {vector.stride}, 0, false}, {channels});
    });
  }
  void declareResults(KernelBuilder &kernel) {
    resultViews = llvm::map_to_vector(results, [&](unsigned result) {
      return kernel.argument(Access{context.resultArgument(result), compute, {1}, 0, true}, {channels});
    });
  }
  SmallVector<Value> loadVectors(KernelBuilder &kernel, Value channel) const {
    return llvm::map_to_vector(vectorViews, [&](const View &view) {
      return kernel.convert(kernel.loadScalar(view, {channel}), compute);
    });
  }
  static SmallVector<Value> inAllLanes(KernelBuilder &kernel, ArrayRef<Value> scalars) {
    return llvm::map_to_vector(scalars, [&](Value scalar) { return kernel.broadcast(scalar); });
  }
  void storeFinished(KernelBuilder &kernel, ArrayRef<Value> sums, ArrayRef<Value> ofChannel, Value channel) const {
    for (auto [value, view] : llvm::zip(finish(kernel, sums, ofChannel), resultViews))
      kernel.storeRoundedScalar(value, view, {channel});
  }
};

} // namespace

void ChannelSums::generateOnCpu() {
  KernelBuilder kernel(context.context(), name, context.target);
  for (unsigned input : inputs)
    inputViews.push_back(kernel.argument(accessOf(input), {channels, samples, positions}));
  declareVectors(kernel);
  declareResults(kernel);
  Value channel = kernel.begin(channels, grainFor(count()));
  SmallVector<Value> ofChannel = loadVectors(kernel, channel), inLanes = inAllLanes(kernel, ofChannel);
  SmallVector<Value> coordinates = {channel};
  SmallVector<Combine> kinds(results.size(), Combine::Sum);
  SmallVector<Value> identities(results.size(),
                                kernel.horizontal(Combine::Sum, kernel.identity(Combine::Sum, compute)));

  auto sumPart = [&](Value base, int64_t n) {
    return kernel.reduceRow(n, kinds, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      SmallVector<Value> at(coordinates);
      at.push_back(base ? kernel.add(base, i) : i);
      SmallVector<Value> loaded =
          llvm::map_to_vector(inputViews, [&](const View &view) { return kernel.loadCompute(view, at, lanes); });
      SmallVector<Value> values = terms(kernel, loaded, inLanes);
      for (Value &value : values)
        value = kernel.keepValid(value, kernel.splat(0, compute), lanes);
      return values;
    });
  };
  auto leaf = [&]() -> SmallVector<Value> {
    if (positions <= 2 * kRowBlock)
      return sumPart(Value(), positions);
    int64_t blocks = positions / kRowBlock;
    SmallVector<Value> totals = kernel.reduceRange(
        Combine::Sum, blocks, identities, [&](Value i) { return sumPart(kernel.mul(i, kRowBlock), kRowBlock); });
    if (positions % kRowBlock != 0) {
      SmallVector<Value> rest = sumPart(kernel.index(blocks * kRowBlock), positions % kRowBlock);
      for (auto [total, part] : llvm::zip(totals, rest))
        total = kernel.combine(Combine::Sum, total, part);
    }
    return totals;
  };
  SmallVector<int64_t> loops = {samples};
  SmallVector<Value> sums = kernel.reduceNested(Combine::Sum, loops, coordinates, identities, leaf);
  storeFinished(kernel, sums, ofChannel, channel);
  context.add(kernel);
}

void ChannelSums::generateOnGpu() {
  const int64_t n = count();
  const int64_t chunks = n > 2 * kGpuChunk && channels < 256 ? llvm::divideCeil(n, kGpuChunk) : 1;
  const int64_t length = chunks > 1 ? kGpuChunk : n;
  SmallVector<unsigned> workspaces;
  if (chunks > 1)
    for (size_t i = 0; i < results.size(); ++i)
      workspaces.push_back(
          context.addWorkspace(channels * chunks * llvm::divideCeil(compute.getIntOrFloatBitWidth(), 8)));
  SmallVector<Combine> kinds(results.size(), Combine::Sum);
  {
    KernelBuilder kernel(context.context(), name, context.target);
    const SmallVector<int64_t> rowShape = {samples, positions}, shape = {channels, samples, positions};
    for (unsigned input : inputs)
      inputViews.push_back(kernel.argument(accessOf(input), shape));
    declareVectors(kernel);
    if (chunks == 1)
      declareResults(kernel);
    for (unsigned workspace : workspaces)
      resultViews.push_back(kernel.linear(workspace, compute, channels * chunks, /*write=*/true));
    kernel.spreadRow(length);
    Value outer = kernel.begin(channels * chunks, 1);
    SmallVector<Value> at = kernel.delinearize(outer, {channels, chunks});
    Value channel = at[0], base = chunks > 1 ? kernel.mul(at[1], length) : Value();
    SmallVector<Value> ofChannel = loadVectors(kernel, channel), inLanes = inAllLanes(kernel, ofChannel);
    SmallVector<Value> sums = kernel.reduceRow(length, kinds, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      if (base)
        i = kernel.add(base, i);
      if (n % length != 0) // the last chunk
        lanes = kernel.lanesBelow(i, kernel.index(n), n % kernel.lanes() == 0);
      SmallVector<Value> loaded = llvm::map_to_vector(inputViews, [&](const View &view) {
        return kernel.convert(kernel.loadLanes(view, i, lanes,
                                               [&](Value place) {
                                                 SmallVector<Value> full = {channel};
                                                 full.append(kernel.delinearize(place, rowShape));
                                                 return full;
                                               }),
                              compute);
      });
      SmallVector<Value> values = terms(kernel, loaded, inLanes);
      for (Value &value : values)
        value = kernel.keepValid(value, kernel.splat(0, compute), lanes);
      return values;
    });
    if (chunks == 1)
      storeFinished(kernel, sums, ofChannel, channel);
    else
      for (auto [sum, view] : llvm::zip(sums, resultViews))
        kernel.storeScalar(sum, view, outer);
    context.add(kernel);
  }
  if (chunks == 1)
    return;
  TensorLayout partialLayout = TensorLayout::contiguous(RankedTensorType::get({channels, chunks}, compute));
  KernelBuilder kernel(context.context(), (name + "_total").str(), context.target);
  SmallVector<View> partials = llvm::map_to_vector(workspaces, [&](unsigned workspace) {
    return kernel.argument(rowAccess(workspace, partialLayout), partialLayout.shape);
  });
  declareVectors(kernel);
  declareResults(kernel);
  kernel.spreadRow(chunks);
  Value channel = kernel.begin(channels, 1);
  SmallVector<Value> sums = kernel.reduceRow(chunks, kinds, compute, [&](Value i, Lanes lanes) {
    return llvm::map_to_vector(partials, [&](const View &view) { return kernel.load(view, {channel, i}, lanes); });
  });
  storeFinished(kernel, sums, loadVectors(kernel, channel), channel);
  context.add(kernel);
}

/// Channels last: a sum of rows.
void ChannelSums::generateColumns() {
  const TensorLayout &layout = context.operand(0);
  ColumnReduction reduction;
  reduction.name = name;
  reduction.rows = samples;
  reduction.columns = channels;
  reduction.kind = Combine::Sum;
  reduction.results = results.size();
  reduction.type = compute;
  // Vectors that stay in registers leave fewer to what is read ahead.
  const int64_t accessBytes = vectors.size() > 2 ? 8 : 16;
  reduction.lanes = std::max<int64_t>(1, accessBytes / llvm::divideCeil(layout.elementType.getIntOrFloatBitWidth(), 8));
  for (unsigned result : results)
    reduction.destinations.push_back(Access{context.resultArgument(result), compute, {1}, 0, true});
  SmallVector<View> inRows;
  reduction.declare = [&](KernelBuilder &kernel) {
    for (unsigned input : inputs) {
      const TensorLayout &operand = context.operand(input);
      inputViews.push_back(kernel.argument(Access{input, operand.elementType, {channels, 1}, 0, false, operand.alignment},
                                           {samples, channels}));
    }
    for (const ChannelVector &vector : vectors)
      inRows.push_back(kernel.argument(Access{vector.argument, vector.elementType, {0, vector.stride}, 0, false},
                                       {samples, channels}));
  };
  reduction.terms = [&](KernelBuilder &kernel, ValueRange, Value row, Value column, const Lanes &lanes) {
    auto load = [&](const View &view) { return kernel.loadCompute(view, {row, column}, lanes); };
    return terms(kernel, llvm::map_to_vector(inputViews, load), llvm::map_to_vector(inRows, load));
  };
  reduction.declareFinish = [&](KernelBuilder &kernel) { declareVectors(kernel); };
  reduction.finish = [&](KernelBuilder &kernel, ArrayRef<Value> totals, ValueRange, Value column) {
    return finish(kernel, totals, loadVectors(kernel, column));
  };
  generateColumnReduction(context, reduction);
}

/// Mean, then the mean of squared distances from it: two passes.
static void generateStatisticsOnCpu(Context &context) {
  ChannelSums mean(context, "batch_mean");
  mean.inputs = {0};
  mean.results = {0};
  auto divide = [&](KernelBuilder &kernel, ArrayRef<Value> sums, ArrayRef<Value>) -> SmallVector<Value> {
    return {kernel.divF(sums[0], kernel.scalar(double(mean.count()), mean.compute))};
  };
  auto ofMean = [](KernelBuilder &, ArrayRef<Value> inputs, ArrayRef<Value>) -> SmallVector<Value> {
    return {inputs[0]};
  };
  mean.terms = ofMean;
  mean.finish = divide;
  mean.generate();

  ChannelSums variance(context, "batch_variance");
  variance.inputs = {0};
  variance.vectors = {variance.vectorOf(context.resultArgument(0))};
  variance.results = {1};
  auto ofVariance = [](KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value distance = kernel.subF(inputs[0], vectors[0]);
    return {kernel.mulF(distance, distance)};
  };
  variance.terms = ofVariance;
  variance.finish = divide;
  variance.generate();
}

/// One pass: sums of distances from the channel's first element and of their squares. What cancels in the variance is
/// the square of that element's distance from the mean, which is of the variance's size, not of the mean's square.
static void generateStatisticsOnGpu(Context &context) {
  ChannelSums sums(context, "batch_statistics");
  sums.inputs = {0};
  sums.vectors = {sums.firstElements()};
  sums.results = {0, 1};
  auto terms = [](KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value distance = kernel.subF(inputs[0], vectors[0]);
    return {distance, kernel.mulF(distance, distance)};
  };
  auto finish = [&](KernelBuilder &kernel, ArrayRef<Value> totals, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value count = kernel.scalar(double(sums.count()), sums.compute);
    Value distance = kernel.divF(totals[0], count), square = kernel.divF(totals[1], count);
    Value variance = kernel.subF(square, kernel.mulF(distance, distance));
    return {kernel.addF(vectors[0], distance), kernel.maxF(variance, kernel.scalar(0, sums.compute))};
  };
  sums.terms = terms;
  sums.finish = finish;
  sums.generate();
}

LogicalResult kernels::generateBatchStatistics(Context &context, train::BatchStatisticsOp op) {
  if (op.getInput().getType().getNumElements() == 0)
    return op.emitOpError("has an empty input");
  context.isGpu() ? generateStatisticsOnGpu(context) : generateStatisticsOnCpu(context);
  return success();
}

LogicalResult kernels::generateBatchNormSums(Context &context, train::BatchNormSumsOp op) {
  ChannelSums sums(context, "batch_norm_sums");
  sums.inputs = {0, 3};
  sums.results = {0, 1};
  for (unsigned argument : {1, 2})
    sums.vectors.push_back(sums.vectorOf(argument));
  if (op.getScale())
    for (unsigned argument : {4, 5})
      sums.vectors.push_back(sums.vectorOf(argument));
  auto terms = [&](KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value distance = kernel.subF(inputs[0], vectors[0]), cotangent = inputs[1];
    if (op.getScale()) {
      // The same operations, in the same order, as forward has them.
      Value result = kernel.addF(kernel.mulF(inputs[0], vectors[2]), vectors[3]), zero = kernel.splat(0, sums.compute);
      result = kernel.convert(kernel.convert(result, context.operand(0).elementType), sums.compute);
      Value isPositive = arith::CmpFOp::create(kernel.builder, kernel.loc, arith::CmpFPredicate::OGT, result, zero);
      cotangent = arith::SelectOp::create(kernel.builder, kernel.loc, isPositive, cotangent, zero);
    }
    return {cotangent, kernel.mulF(cotangent, distance)};
  };
  auto finish = [&](KernelBuilder &kernel, ArrayRef<Value> totals, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value one = kernel.scalar(1, sums.compute), epsilon = kernel.scalar(op.getEpsilon().convertToDouble(), sums.compute);
    Value deviation = math::SqrtOp::create(kernel.builder, kernel.loc, kernel.addF(vectors[1], epsilon));
    return {totals[0], kernel.mulF(totals[1], kernel.divF(one, deviation))};
  };
  sums.terms = terms;
  sums.finish = finish;
  sums.generate();
  return success();
}
