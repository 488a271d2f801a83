//===- BatchNorm.cpp - kernels of batch normalization ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sums of a channel run over the samples and, within each, over the positions as one row; both are in row-major order,
// so the order depends on the shape alone. On a CPU a channel is an outer iteration; on a GPU samples and positions are
// one row of a group of threads, cut into chunks where there are few channels, or where channels are last the rows of a
// column reduction. Bytes moved: operands once, for the
// statistics twice.
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
  SmallVector<unsigned> inputs;  // operands of the input's shape, contiguous
  SmallVector<unsigned> vectors; // arguments with an element a channel, of the compute type
  SmallVector<unsigned> results; // the op's
  double divisor = 1;
  /// The terms of each result, from the lanes of the inputs and the channel's elements of the vectors in all lanes.
  llvm::function_ref<SmallVector<Value>(KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors)> terms =
      nullptr;

  int64_t count() const { return samples * positions; }
  void generate() {
    if (!context.isGpu())
      return generateOnCpu();
    positions == 1 ? generateColumnsOnGpu() : generateOnGpu();
  }

private:
  SmallVector<View> inputViews, vectorViews, resultViews;

  void generateOnCpu();
  void generateOnGpu();
  void generateColumnsOnGpu();
  Access accessOf(unsigned input) const {
    return Access{input, context.operand(input).elementType, {positions, channels * positions, 1}, 0,
                  false, context.operand(input).alignment};
  }
  View declareVector(KernelBuilder &kernel, unsigned argument, bool write) const {
    return kernel.argument(Access{argument, compute, {1}, 0, write}, {channels});
  }
  SmallVector<Value> loadVectors(KernelBuilder &kernel, Value channel) const {
    return llvm::map_to_vector(vectorViews,
                               [&](const View &view) { return kernel.broadcast(kernel.loadScalar(view, {channel})); });
  }
  Value finish(KernelBuilder &kernel, Value sum) const {
    return divisor == 1 ? sum : kernel.divF(sum, kernel.scalar(divisor, compute));
  }
};

} // namespace

void ChannelSums::generateOnCpu() {
  // A row of positions, or of samples where there is one position each.
  const bool byPositions = positions > 1;
  const int64_t row = byPositions ? positions : samples;
  KernelBuilder kernel(context.context(), name, context.target);
  SmallVector<int64_t> shape = {channels, byPositions ? samples : 1, row};
  for (unsigned input : inputs) {
    Access access = accessOf(input);
    if (!byPositions)
      access.strides = {1, 0, channels};
    inputViews.push_back(kernel.argument(access, shape));
  }
  for (unsigned vector : vectors)
    vectorViews.push_back(declareVector(kernel, vector, false));
  for (unsigned result : results)
    resultViews.push_back(declareVector(kernel, context.resultArgument(result), true));
  Value channel = kernel.begin(channels, grainFor(count()));
  SmallVector<Value> ofChannel = loadVectors(kernel, channel);
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
      SmallVector<Value> values = terms(kernel, loaded, ofChannel);
      for (Value &value : values)
        value = kernel.keepValid(value, kernel.splat(0, compute), lanes);
      return values;
    });
  };
  auto leaf = [&]() -> SmallVector<Value> {
    if (row <= 2 * kRowBlock)
      return sumPart(Value(), row);
    int64_t blocks = row / kRowBlock;
    SmallVector<Value> totals = kernel.reduceRange(
        Combine::Sum, blocks, identities, [&](Value i) { return sumPart(kernel.mul(i, kRowBlock), kRowBlock); });
    if (row % kRowBlock != 0) {
      SmallVector<Value> rest = sumPart(kernel.index(blocks * kRowBlock), row % kRowBlock);
      for (auto [total, part] : llvm::zip(totals, rest))
        total = kernel.combine(Combine::Sum, total, part);
    }
    return totals;
  };
  SmallVector<int64_t> loops = {shape[1]};
  SmallVector<Value> sums = kernel.reduceNested(Combine::Sum, loops, coordinates, identities, leaf);
  for (auto [sum, view] : llvm::zip(sums, resultViews))
    kernel.storeRoundedScalar(finish(kernel, sum), view, {channel});
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
    for (unsigned vector : vectors)
      vectorViews.push_back(declareVector(kernel, vector, false));
    for (auto [index, result] : llvm::enumerate(results))
      resultViews.push_back(chunks > 1 ? kernel.linear(workspaces[index], compute, channels * chunks, /*write=*/true)
                                       : declareVector(kernel, context.resultArgument(result), true));
    kernel.spreadRow(length);
    Value outer = kernel.begin(channels * chunks, 1);
    SmallVector<Value> at = kernel.delinearize(outer, {channels, chunks});
    Value channel = at[0], base = chunks > 1 ? kernel.mul(at[1], length) : Value();
    SmallVector<Value> ofChannel = loadVectors(kernel, channel);
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
      SmallVector<Value> values = terms(kernel, loaded, ofChannel);
      for (Value &value : values)
        value = kernel.keepValid(value, kernel.splat(0, compute), lanes);
      return values;
    });
    for (auto [sum, view] : llvm::zip(sums, resultViews)) {
      if (chunks > 1)
        kernel.storeScalar(sum, view, outer);
      else
        kernel.storeRoundedScalar(finish(kernel, sum), view, {channel});
    }
    context.add(kernel);
  }
  if (chunks == 1)
    return;
  TensorLayout partialLayout = TensorLayout::contiguous(RankedTensorType::get({channels, chunks}, compute));
  for (auto [workspace, result] : llvm::zip(workspaces, results)) {
    KernelBuilder kernel(context.context(), (name + "_total").str(), context.target);
    View partial = kernel.argument(rowAccess(workspace, partialLayout), partialLayout.shape),
         destination = declareVector(kernel, context.resultArgument(result), true);
    kernel.spreadRow(chunks);
    Value outer = kernel.begin(channels, 1);
    Value sum = kernel.reduceRow(chunks, Combine::Sum, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      return {kernel.load(partial, {outer, i}, lanes)};
    })[0];
    kernel.storeRoundedScalar(finish(kernel, sum), destination, {outer});
    context.add(kernel);
  }
}

/// Channels last: a sum of rows.
void ChannelSums::generateColumnsOnGpu() {
  ColumnReduction reduction;
  reduction.name = name;
  reduction.rows = samples;
  reduction.columns = channels;
  reduction.kind = Combine::Sum;
  reduction.results = results.size();
  reduction.type = compute;
  reduction.lanes = std::max<int64_t>(1, 16 / llvm::divideCeil(context.operand(0).elementType.getIntOrFloatBitWidth(), 8));
  for (unsigned result : results)
    reduction.destinations.push_back(Access{context.resultArgument(result), compute, {1}, 0, true});
  reduction.declare = [&](KernelBuilder &kernel) {
    for (unsigned input : inputs)
      inputViews.push_back(kernel.argument(Access{input, context.operand(input).elementType, {channels, 1}, 0, false, context.operand(input).alignment}, {samples, channels}));
    for (unsigned vector : vectors)
      vectorViews.push_back(kernel.argument(Access{vector, compute, {0, 1}, 0, false}, {samples, channels}));
  };
  reduction.terms = [&](KernelBuilder &kernel, ValueRange, Value row, Value column, const Lanes &lanes) {
    auto load = [&](const View &view) { return kernel.loadCompute(view, {row, column}, lanes); };
    return terms(kernel, llvm::map_to_vector(inputViews, load), llvm::map_to_vector(vectorViews, load));
  };
  reduction.finish = [&](KernelBuilder &kernel, Value sum) { return finish(kernel, sum); };
  generateColumnReduction(context, reduction);
}

LogicalResult kernels::generateBatchStatistics(Context &context, train::BatchStatisticsOp op) {
  if (op.getInput().getType().getNumElements() == 0)
    return op.emitOpError("has an empty input");
  ChannelSums mean(context, "batch_mean");
  mean.inputs = {0};
  mean.results = {0};
  mean.divisor = double(mean.count());
  auto ofMean = [](KernelBuilder &, ArrayRef<Value> inputs, ArrayRef<Value>) -> SmallVector<Value> {
    return {inputs[0]};
  };
  mean.terms = ofMean;
  mean.generate();

  ChannelSums variance(context, "batch_variance");
  variance.inputs = {0};
  variance.vectors = {context.resultArgument(0)};
  variance.results = {1};
  variance.divisor = double(variance.count());
  auto ofVariance = [](KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value distance = kernel.subF(inputs[0], vectors[0]);
    return {kernel.mulF(distance, distance)};
  };
  variance.terms = ofVariance;
  variance.generate();
  return success();
}

/// 1 / sqrt(variance + epsilon).
static Value inverseDeviation(KernelBuilder &kernel, Value variance, double epsilon) {
  Type type = getElementTypeOrSelf(variance.getType());
  Value root = math::SqrtOp::create(kernel.builder, kernel.loc, kernel.addF(variance, kernel.splat(epsilon, type)));
  return kernel.divF(kernel.splat(1, type), root);
}

LogicalResult kernels::generateBatchNormSums(Context &context, train::BatchNormSumsOp op) {
  ChannelSums sums(context, "batch_norm_sums");
  sums.inputs = {0, 3};
  sums.vectors = {1, 2};
  sums.results = {0, 1};
  auto terms = [&](KernelBuilder &kernel, ArrayRef<Value> inputs, ArrayRef<Value> vectors) -> SmallVector<Value> {
    Value normal = kernel.mulF(kernel.subF(inputs[0], vectors[0]),
                               inverseDeviation(kernel, vectors[1], op.getEpsilon().convertToDouble()));
    return {inputs[1], kernel.mulF(inputs[1], normal)};
  };
  sums.terms = terms;
  sums.generate();
  return success();
}

Value kernels::emitBatchNorm(KernelBuilder &k, Operation *op, ArrayRef<Value> operands) {
  Type type = getElementTypeOrSelf(operands[0].getType()), compute = train::getComputeType(type);
  SmallVector<Value> x = llvm::map_to_vector(operands, [&](Value operand) { return k.convert(operand, compute); });
  const double epsilon = cast<FloatAttr>(op->getAttr("epsilon")).getValueAsDouble();
  Value deviation = inverseDeviation(k, x[2], epsilon);
  Value normal = k.mulF(k.subF(x[0], x[1]), deviation);
  if (isa<train::BatchNormOp>(op))
    return k.convert(k.addF(k.mulF(normal, x[3]), x[4]), type);
  Value inner = x[4];
  if (x.size() > 5) {
    Value count = k.splat(cast<train::BatchNormGradOp>(op).getCount().convertToDouble(), compute);
    inner = k.subF(inner, k.divF(k.addF(x[5], k.mulF(normal, x[6])), count));
  }
  return k.convert(k.mulF(k.mulF(x[3], deviation), inner), type);
}
