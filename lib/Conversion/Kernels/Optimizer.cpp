//===- Optimizer.cpp - kernels of the update and of the gradient's norm ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Elements of an outer iteration: segments begin at multiples of it.
static constexpr int64_t kBlock = 128;

/// A run of whole blocks, as many as the launch says.
static View blocks(KernelBuilder &kernel, unsigned argument, Type elementType, bool write) {
  // Buckets begin at multiples of 256 bytes, their runs at multiples of a block.
  return kernel.argument(Access{argument, elementType, {kBlock, 1}, 0, write, /*alignment=*/64}, {ShapedType::kDynamic, kBlock});
}

static bool isVector(Value value) { return isa<VectorType>(value.getType()); }

namespace {

/// One pass over gradient, parameters, master and slots. Values that depend on scalars alone (bias corrections, say) stay scalar. Of an optimizer with a trust ratio there are two: the first measures
/// parameter and direction, the second computes the direction again and goes along it. Of one with Newton-Schulz iterations the gradient is what they gave, and the rule has been evaluated before
/// (Direction.cpp).
struct Update {
  KernelBuilder &kernel;
  OpBuilder &b;
  Block &rule;
  Type type; // of master and slots, and of the rule's arithmetic
  bool hasMaster;
  bool measures;
  bool follows = false;      // matrices of Newton-Schulz iterations
  double averageDecay = 0;   // of a last slot that the rule does not know; 0: none
  bool cyclesMomentum;
  double least = 0, most = 0; // trust ratio, where `most` is not 0
  View gradient, parameters, master;
  SmallVector<View> slots, scalars; // scale, lr, step, finite, the momentum where it cycles, and on a CPU decay and rate
  SmallVector<Value> byValue;       // decay and rate, on a GPU
  bool hasRate;                     // a factor of lr
  SmallVector<Value> known; // what master, gradient and slots hold, where it has been loaded
  IRMapping map;
  SmallVector<Operation *> scalarOps, elementOps;

  Update(KernelBuilder &kernel, train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate, bool measures);
  void write();
  void writeGpu();
  void writeNorms();

private:
  Value loadScalar(unsigned index) { return kernel.loadScalar(scalars[index], kernel.index(0)); }
  Value loadFinite() { return arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::ONE, loadScalar(3), kernel.scalar(0, type)); }
  void mapScalars() {
    unsigned first = 2 + slots.size();
    auto ofSegment = [&](unsigned index) { return kernel.isGpu() ? byValue[index] : loadScalar((cyclesMomentum ? 5 : 4) + index); };
    map.map(rule.getArgument(first), hasRate ? kernel.mulF(loadScalar(1), ofSegment(1)) : loadScalar(1));
    map.map(rule.getArgument(first + 1), loadScalar(2));
    map.map(rule.getArgument(first + 2), ofSegment(0));
    if (cyclesMomentum)
      map.map(rule.getArgument(first + 3), loadScalar(4));
  }
  void shareScalars();
  /// Evaluates the rule for the elements at `at`; lanesOf gives a value of it.
  void evaluate(ValueRange at, Value scale, Lanes lanes = {});
  Value lanesOf(Value value) {
    Value mapped = map.lookup(value);
    return isVector(mapped) ? mapped : kernel.broadcast(mapped);
  }
  void scaleStep();
  /// What depends on scalars alone where the rule does not say it.
  void prepareScalars();
  Value followedParameter(ValueRange at);
  Value averagedParameter(Value average, Value updated);
  void updateElements(ValueRange at, Value scale);

  SmallVector<View> norms; // of the parameter and its direction: per segment, or sums of squares per block
  Value stepLength;        // step size * trust ratio
  Value rate, shrink;      // of Newton-Schulz: lr, lr * decay
  Value averageStart;      // 1 in the first step, then 0
};

} // namespace

Update::Update(KernelBuilder &kernel, train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate, bool measures)
    : kernel(kernel), b(kernel.builder), rule(optimizer.getBody().front()), type(rule.getArgument(0).getType()), hasMaster(hasMaster), measures(measures), follows(optimizer.getNewtonSchulz().has_value()),
      averageDecay(optimizer.getAverage() ? optimizer.getAverage()->convertToDouble() : 0), cyclesMomentum(optimizer.getCyclesMomentum()), hasRate(hasRate) {
  unsigned next = 0;
  gradient = blocks(kernel, next++, gradientType, false);
  parameters = blocks(kernel, next++, computeType, !measures);
  master = hasMaster ? blocks(kernel, next++, type, !measures) : parameters;
  for (size_t slot = 0; slot < optimizer.getSlots().size(); ++slot)
    slots.push_back(blocks(kernel, next++, type, !measures && (!follows || (averageDecay != 0 && slot + 1 == optimizer.getSlots().size()))));
  if (std::optional<ArrayRef<double>> ratio = optimizer.getTrustRatio()) {
    least = (*ratio)[0], most = (*ratio)[1];
    for (int norm = 0; norm < 2; ++norm, ++next)
      norms.push_back(measures ? kernel.argument(Access{next, b.getF64Type(), {1, 0}, 0, true}, {ShapedType::kDynamic, kBlock}) : kernel.linear(next, type, 1));
  }
  const int ofSegments = hasRate ? 2 : 1;
  const int common = cyclesMomentum ? 5 : 4;
  for (int scalar = 0; scalar < (kernel.isGpu() ? common : common + ofSegments); ++scalar)
    scalars.push_back(kernel.linear(next++, type, 1));
  for (int scalar = 0; scalar < (kernel.isGpu() ? ofSegments : 0); ++scalar)
    byValue.push_back(kernel.scalarArgument(next++, type));

  if (follows)
    return;
  DenseSet<Value> perElement(rule.args_begin(), rule.args_begin() + 2 + slots.size());
  for (Operation &op : rule.without_terminator()) {
    bool isPerElement = llvm::any_of(op.getOperands(), [&](Value operand) { return perElement.contains(operand); });
    (isPerElement ? elementOps : scalarOps).push_back(&op);
    if (isPerElement)
      perElement.insert(op.result_begin(), op.result_end());
  }
}

void Update::write() {
  Value block = kernel.begin(1, grainFor(kBlock));
  auto guarded = scf::IfOp::create(b, kernel.loc, loadFinite(), /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(guarded.thenBlock());
  mapScalars();
  Value scale = kernel.broadcast(loadScalar(0));
  for (Operation *op : scalarOps)
    b.clone(*op, map);
  prepareScalars();
  auto loop = scf::ForOp::create(b, kernel.loc, kernel.index(0), kernel.index(kBlock), kernel.index(kCpuLanes));
  b.setInsertionPointToStart(loop.getBody());
  updateElements({block, loop.getInductionVar()}, scale);
}

/// A warp for each of eight neighbouring blocks, 16 bytes of fp32 a thread. As many blocks of threads as run at once share all of them, or some times as many: each computes the scalars once, while it waits for its first elements,
/// and asks for the next ones before it changes those that it has: 56 bytes a thread of AdamW in flight, 57 KiB a multiprocessor.
void Update::writeGpu() {
  constexpr int64_t kWarps = 8, kWarp = 32, kRepeats = 4;
  kernel.setSpread({/*lanes=*/4, kWarps * kWarp, /*groups=*/1, /*repeats=*/1, /*interleaved=*/false, /*residents=*/4});
  const auto shares = kernel.beginShares(kWarps * kRepeats);
  const Value first = shares.first, end = shares.second; // captured below
  SmallVector<Value> split = kernel.delinearize(kernel.thread(), {kWarps, kWarp});
  Value own = kernel.add(first, split[0]), place = kernel.mul(split[1], kernel.lanes());
  SmallVector<View> streams;
  if (!follows) {
    streams = {master, gradient};
    llvm::append_range(streams, slots);
  }
  auto load = [&](Value block) { return llvm::map_to_vector(streams, [&](const View &view) { return kernel.load(view, {block, place}); }); };
  auto isBefore = [&](Value block) -> Value { return arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::ult, block, end); };
  SmallVector<Value> ahead = load(arith::SelectOp::create(b, kernel.loc, isBefore(own), own, first));
  Value finite = loadFinite(), scale = loadScalar(0);
  mapScalars();
  shareScalars();
  prepareScalars();
  kernel.ifThen(finite, [&] {
    auto loop = scf::ForOp::create(b, kernel.loc, own, end, kernel.index(kWarps), ahead);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value block = loop.getInductionVar(), following = kernel.add(block, kWarps);
    SmallVector<Value> next = load(arith::SelectOp::create(b, kernel.loc, isBefore(following), following, block));
    known.assign(loop.getRegionIterArgs().begin(), loop.getRegionIterArgs().end());
    updateElements({block, place}, kernel.broadcast(scale));
    if (!streams.empty())
      scf::YieldOp::create(b, kernel.loc, next);
  });
}

/// One thread of a block computes what depends on scalars alone and gives the others what they need of it: two exponentials in f64 would cost more than the elements that a thread updates.
void Update::shareScalars() {
  SmallVector<Operation *> computed;
  for (Operation *op : scalarOps)
    if (op->hasTrait<OpTrait::ConstantLike>())
      b.clone(*op, map);
    else
      computed.push_back(op);
  SmallVector<Value> shared, memories;
  for (Operation *op : computed)
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !llvm::is_contained(computed, user); })) {
        shared.push_back(result);
        memories.push_back(kernel.workgroupMemory({1}, result.getType()));
      }
  if (shared.empty())
    return;
  Value thread = gpu::ThreadIdOp::create(b, kernel.loc, gpu::Dimension::x);
  kernel.ifThen(arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, thread, kernel.index(0)), [&] {
    IRMapping inside = map;
    for (Operation *op : computed)
      b.clone(*op, inside);
    for (auto [value, memory] : llvm::zip(shared, memories))
      memref::StoreOp::create(b, kernel.loc, inside.lookup(value), memory, kernel.index(0));
  });
  kernel.barrier();
  for (auto [value, memory] : llvm::zip(shared, memories))
    map.map(value, memref::LoadOp::create(b, kernel.loc, memory, ValueRange{kernel.index(0)}).getResult());
}

/// ratio = |parameter| / |direction| between its bounds; 1 where either is 0.
void Update::scaleStep() {
  if (norms.empty() || measures)
    return;
  Value parameter = kernel.loadScalar(norms[0], kernel.index(0)), direction = kernel.loadScalar(norms[1], kernel.index(0));
  Value none = kernel.scalar(0, type), one = kernel.scalar(1, type);
  auto positive = [&](Value norm) -> Value { return arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::OGT, norm, none); };
  Value both = arith::AndIOp::create(b, kernel.loc, positive(parameter), positive(direction));
  Value ratio = kernel.maxF(kernel.divF(parameter, direction), kernel.scalar(least, type));
  ratio = arith::MinimumFOp::create(b, kernel.loc, ratio, kernel.scalar(most, type));
  ratio = arith::SelectOp::create(b, kernel.loc, both, ratio, one);
  stepLength = kernel.mulF(map.lookup(rule.getTerminator()->getOperand(1)), ratio);
}

void Update::prepareScalars() {
  scaleStep();
  const unsigned first = 2 + slots.size();
  if (follows) {
    rate = map.lookup(rule.getArgument(first));
    shrink = kernel.mulF(rate, map.lookup(rule.getArgument(first + 2)));
  }
  if (averageDecay != 0 && !measures) {
    Value one = kernel.scalar(1, type), left = kernel.subF(one, map.lookup(rule.getArgument(first + 1)));
    averageStart = kernel.maxF(kernel.addF(left, one), kernel.scalar(0, type));
  }
}

/// p - lr decay p - lr matrix, as AdamW's decay is taken.
Value Update::followedParameter(ValueRange at) {
  Value p = kernel.convert(kernel.load(master, at), type), matrix = kernel.load(gradient, at);
  map.map(rule.getArgument(0), p);
  Value kept = kernel.subF(p, kernel.mulF(kernel.broadcast(shrink), p));
  return kernel.subF(kept, kernel.mulF(kernel.broadcast(rate), matrix));
}

/// As the rules that know the new parameter have it (OptimizerRules.cpp): from the parameter's first value.
Value Update::averagedParameter(Value average, Value updated) {
  Value start = kernel.mulF(kernel.broadcast(averageStart), map.lookup(rule.getArgument(0)));
  Value kept = kernel.mulF(kernel.broadcast(kernel.scalar(averageDecay, type)), kernel.addF(average, start));
  return kernel.addF(kept, kernel.mulF(kernel.broadcast(kernel.scalar(1.0 - averageDecay, type)), updated));
}

void Update::evaluate(ValueRange at, Value scale, Lanes lanes) {
  auto load = [&](size_t stream, const View &view) { return known.empty() ? kernel.load(view, at, lanes) : known[stream]; };
  map.map(rule.getArgument(0), kernel.convert(load(0, master), type));
  map.map(rule.getArgument(1), kernel.mulF(kernel.convert(load(1, gradient), type), scale));
  for (auto [slot, view] : llvm::enumerate(slots))
    map.map(rule.getArgument(2 + slot), load(2 + slot, view));
  for (Operation *op : elementOps) {
    OperationState state(op->getLoc(), op->getName());
    for (Value operand : op->getOperands())
      state.operands.push_back(lanesOf(operand));
    for (Type resultType : op->getResultTypes())
      state.types.push_back(VectorType::get({kernel.lanes()}, resultType));
    state.propertiesAttr = op->getPropertiesAsAttribute();
    Operation *vectorized = b.create(state);
    map.map(op->getResults(), vectorized->getResults());
  }
}

/// Bytes moved an element: gradient, master (or parameters) and slots read once, all but the gradient written once.
void Update::updateElements(ValueRange at, Value scale) {
  Operation *yield = rule.getTerminator();
  Value updated;
  if (follows) {
    updated = followedParameter(at);
  } else {
    evaluate(at, scale);
    updated = lanesOf(yield->getOperand(0));
  }
  if (!norms.empty())
    updated = kernel.subF(map.lookup(rule.getArgument(0)), kernel.mulF(kernel.broadcast(stepLength), updated));
  kernel.store(kernel.convert(updated, master.elementType), master, at);
  if (hasMaster)
    kernel.storeRounded(updated, parameters, at);
  for (auto [slot, view] : llvm::enumerate(slots)) {
    if (averageDecay != 0 && slot + 1 == slots.size())
      kernel.store(averagedParameter(known.empty() ? kernel.load(view, at) : known[2 + slot], updated), view, at);
    else if (!follows)
      kernel.store(lanesOf(yield->getOperand((norms.empty() ? 1 : 2) + slot)), view, at);
  }
}

/// Bytes moved an element: gradient, master (or parameters) and slots, read once.
void Update::writeNorms() {
  if (kernel.isGpu()) {
    mapScalars();
    shareScalars();
  }
  kernel.spreadRow(kBlock);
  Value block = kernel.begin(1, grainFor(kBlock));
  if (!kernel.isGpu()) {
    mapScalars();
    for (Operation *op : scalarOps)
      b.clone(*op, map);
  }
  Value scale = loadScalar(0);
  using Combine = KernelBuilder::Combine;
  Type f64 = b.getF64Type();
  SmallVector<Value> sums = kernel.reduceRow(kBlock, {Combine::Sum, Combine::Sum}, f64, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    evaluate({block, i}, kernel.broadcast(scale), lanes);
    Value parameter = kernel.convert(map.lookup(rule.getArgument(0)), f64), direction = kernel.convert(lanesOf(rule.getTerminator()->getOperand(0)), f64);
    return {kernel.mulF(parameter, parameter), kernel.mulF(direction, direction)};
  });
  for (auto [sum, view] : llvm::zip(sums, norms))
    kernel.storeScalar(sum, view, {block, kernel.index(0)});
}

void kernels::writeUpdateKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate) {
  Update update(kernel, optimizer, computeType, gradientType, hasMaster, hasRate, /*measures=*/false);
  if (kernel.isGpu())
    update.writeGpu();
  else
    update.write();
}

void kernels::writeParameterNormsKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster, bool hasRate) {
  Update(kernel, optimizer, computeType, gradientType, hasMaster, hasRate, /*measures=*/true).writeNorms();
}

/// Bytes moved: the gradient once, 8 bytes a block. Squares of fp32 numbers are exact in f64.
void kernels::writeSquaresKernel(KernelBuilder &kernel, Type gradientType) {
  View gradient = blocks(kernel, 0, gradientType, false);
  View sums = kernel.argument(Access{1, kernel.builder.getF64Type(), {1, 0}, 0, true}, {ShapedType::kDynamic, kBlock});
  Value block = kernel.begin(1, grainFor(kBlock));
  Type f64 = kernel.builder.getF64Type();
  Value sum = kernel.reduceRow(kBlock, KernelBuilder::Combine::Sum, f64, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value x = kernel.convert(kernel.load(gradient, {block, i}, lanes), f64);
    return {kernel.mulF(x, x)};
  })[0];
  kernel.storeScalar(sum, sums, {block, kernel.index(0)});
}
