//===- Recompute.cpp - compute values again in backward instead of keeping them -===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which values are kept is a minimum cut of the forward graph, between what cannot be computed again and what backward
// reads, with bytes as capacities (as PyTorch's partitioner has it; Jain et al., "Checkmate", 2020, give the exact
// problem). With `full` everything can be computed again, but in segments (Chen et al., "Training Deep Nets with
// Sublinear Memory Cost", 2016): what crosses a segment's end is kept, and so is the last segment, which backward
// begins with.
//
// Clones carry `train.recomputed`, without which CSE would see that they are what they repeat.
//
//===----------------------------------------------------------------------===//

#include "MinCut.h"
#include "Residuals.h"
#include "StepStates.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RECOMPUTE
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

constexpr llvm::StringLiteral kRecomputed = "train.recomputed";

/// A result this many times smaller than an operand is a statistic: kept, because a pass over the operand costs more
/// than its bytes.
constexpr int64_t kStatisticRatio = 8;

int64_t getBytes(Value value) {
  RankedTensorType type = train::getTensorType(value);
  return llvm::divideCeil(type.getNumElements() * type.getElementTypeBitWidth(), 8);
}

/// The ops of @micro_step up to train.backward, and what is known of their results.
class ForwardGraph {
public:
  explicit ForwardGraph(train::BackwardOp backward) : backward(backward) {
    for (Operation &op : *backward->getBlock()) {
      if (&op == backward)
        break;
      position[&op] = ops.size();
      ops.push_back(&op);
      for (Value result : op.getResults()) {
        if (!isFree(result)) {
          numbers[result] = values.size();
          values.push_back(result);
        }
      }
    }
    for (Operation *op : ops)
      if (op->getNumResults() > 0 && isFixed(op))
        fixed.insert(op);
  }

  ArrayRef<Operation *> getOps() const { return ops; }
  ArrayRef<Value> getValues() const { return values; }
  int64_t getNumber(Value value) const { return numbers.find(value)->second; }
  int64_t getPosition(Operation *op) const { return position.find(op)->second; }

  /// Values that cost nothing to have in backward: inputs, states, constants.
  bool isFree(Value value) const {
    Operation *op = value.getDefiningOp();
    return !op || isa<train::ReadStateOp>(op) || op->hasTrait<OpTrait::ConstantLike>();
  }

  bool isForward(Operation *op) const { return position.contains(op); }

  bool isReadInBackward(Value value) const {
    return llvm::any_of(value.getUsers(), [&](Operation *user) { return !isForward(user) && user != backward; });
  }

  /// Whether an op computes from states and constants alone: no batch makes its result another.
  bool isFixedOp(Operation *op) const { return fixed.contains(op); }

private:
  bool isFixed(Operation *op) const {
    return llvm::all_of(op->getOperands(), [&](Value operand) {
      Operation *definition = operand.getDefiningOp();
      return definition && (isFree(operand) || fixed.contains(definition));
    });
  }

  train::BackwardOp backward;
  SmallVector<Operation *> ops;
  SmallVector<Value> values;
  DenseMap<Value, int64_t> numbers;
  DenseMap<Operation *, int64_t> position;
  DenseSet<Operation *> fixed;
};

/// Decides which values are kept.
class ResidualSolver {
public:
  ResidualSolver(const ForwardGraph &graph, bool contractions) : graph(graph), contractions(contractions) {}

  /// The values to keep: `sunk` ones, which are kept in any case and cost nothing more, and the cheapest others from
  /// which backward can have all that it reads.
  DenseSet<Value> solve(const DenseSet<Value> &sunk) {
    ArrayRef<Value> values = graph.getValues();
    const int64_t source = 2 * values.size(), sink = source + 1;
    MinCut network(sink + 1);
    auto isPriced = [&](Value value) { return !graph.isFree(value) && !sunk.contains(value); };
    for (auto [number, value] : llvm::enumerate(values)) {
      if (sunk.contains(value))
        continue;
      const int64_t in = 2 * number, out = in + 1;
      network.addEdge(in, out, getBytes(value));
      if (graph.isReadInBackward(value))
        network.addEdge(out, sink, MinCut::kUnlimited);
      Operation *op = value.getDefiningOp();
      if (!isRepeatable(op) || isStatistic(value)) {
        network.addEdge(source, in, MinCut::kUnlimited);
        continue;
      }
      for (Value operand : op->getOperands())
        if (isPriced(operand))
          network.addEdge(2 * graph.getNumber(operand) + 1, in, MinCut::kUnlimited);
    }
    llvm::BitVector needed = network.findSinkSide(source, sink);
    DenseSet<Value> kept = sunk;
    for (auto [number, value] : llvm::enumerate(values))
      if (!sunk.contains(value) && needed.test(2 * number + 1) && !needed.test(2 * number))
        kept.insert(value);
    return kept;
  }

private:
  /// A lookup is cheap, but at stage 3 its whole table would be gathered once more. Sorting is dear.
  bool isRepeatable(Operation *op) const {
    return isPure(op) && op->getNumRegions() == 0 && !graph.isFixedOp(op) && !isa<train::GatherOp, train::ScatterOp, train::TopKOp>(op) &&
           (contractions || !isa<train::CostOpInterface>(op));
  }

  static bool isStatistic(Value value) {
    return llvm::any_of(value.getDefiningOp()->getOperands(),
                        [&](Value operand) { return getBytes(operand) >= kStatisticRatio * getBytes(value); });
  }

  const ForwardGraph &graph;
  bool contractions; ///< whether products and attention are computed again too
};

/// Cuts the forward ops into segments and returns what is kept without a choice: values that cross a segment's end, and
/// those of the last segment.
class Segmentation {
public:
  explicit Segmentation(const ForwardGraph &graph)
      : graph(graph), crossing(graph.getOps().size() + 1), residual(graph.getOps().size() + 1) {
    const int64_t end = graph.getOps().size();
    SmallVector<int64_t> change(end + 2);
    for (Value value : graph.getValues()) {
      const int64_t from = graph.getPosition(value.getDefiningOp()) + 1, bytes = getBytes(value);
      const int64_t to = getLastUse(value);
      if (to > from - 1) {
        change[from] += bytes;
        change[to + 1] -= bytes;
      }
      if (graph.isReadInBackward(value))
        residual[from] += bytes;
    }
    for (int64_t cut = 0, live = 0; cut <= end; ++cut) {
      live += change[cut];
      crossing[cut] = live;
      residual[cut] += cut ? residual[cut - 1] : 0;
    }
  }

  DenseSet<Value> getKept() const {
    SmallVector<int64_t> best;
    int64_t bestBytes = residual.back();
    // The bound on a segment's residuals is swept geometrically; what counts is what the cuts keep plus the largest
    // segment.
    for (int64_t bound = residual.back(); bound >= std::max<int64_t>(1, residual.back() / 4096);
         bound -= std::max<int64_t>(1, bound / 6)) {
      SmallVector<int64_t> cuts = cutAt(bound);
      int64_t bytes = getPeak(cuts);
      if (bytes < bestBytes) {
        bestBytes = bytes;
        best = cuts;
      }
    }
    DenseSet<Value> kept;
    const int64_t last = best.empty() ? 0 : best.back();
    for (Value value : graph.getValues()) {
      const int64_t from = graph.getPosition(value.getDefiningOp()) + 1, to = getLastUse(value);
      auto *cut = llvm::lower_bound(best, from);
      if (from > last || (cut != best.end() && *cut <= to))
        kept.insert(value);
    }
    return kept;
  }

private:
  /// Position of the last forward op that reads `value`.
  int64_t getLastUse(Value value) const {
    int64_t last = -1;
    for (Operation *user : value.getUsers())
      if (graph.isForward(user))
        last = std::max(last, graph.getPosition(user));
    return last;
  }

  /// Greedily: each segment goes on while its residuals are within `bound`, and ends at the place, in its second half,
  /// that the fewest bytes cross.
  SmallVector<int64_t> cutAt(int64_t bound) const {
    SmallVector<int64_t> cuts;
    const int64_t end = crossing.size() - 1;
    for (int64_t begin = 0; begin < end;) {
      int64_t limit = begin + 1;
      while (limit < end && residual[limit + 1] - residual[begin] <= bound)
        ++limit;
      if (limit >= end)
        break;
      int64_t best = limit;
      for (int64_t cut = limit; cut > begin && residual[cut] - residual[begin] >= bound / 2; --cut)
        if (crossing[cut] < crossing[best])
          best = cut;
      cuts.push_back(best);
      begin = best;
    }
    return cuts;
  }

  int64_t getPeak(ArrayRef<int64_t> cuts) const {
    int64_t kept = 0, largest = 0, begin = 0;
    for (int64_t cut : cuts) {
      kept += crossing[cut];
      largest = std::max(largest, residual[cut] - residual[begin]);
      begin = cut;
    }
    return kept + std::max(largest, residual.back() - residual[begin]);
  }

  const ForwardGraph &graph;
  // By cut, which lies in front of the op of that position:
  SmallVector<int64_t> crossing; // bytes live across
  SmallVector<int64_t> residual; // bytes that backward reads of the ops before
};

/// Lets backward read clones of what is not kept, each made right before its first reader.
class Materializer {
public:
  Materializer(const ForwardGraph &graph, const DenseSet<Value> &kept) : graph(graph), kept(kept) {}

  void run(train::BackwardOp backward) {
    for (Operation *op = backward->getNextNode(); op; op = op->getNextNode())
      for (OpOperand &operand : op->getOpOperands()) {
        OpBuilder builder(op);
        operand.set(materialize(builder, operand.get()));
      }
  }

  int64_t getClones() const { return clones; }
  int64_t getFlops() const { return flops; }

private:
  bool isThere(Value value) const {
    Operation *op = value.getDefiningOp();
    return !op || !graph.isForward(op) || graph.isFree(value) || kept.contains(value) || mapping.contains(value);
  }

  /// With a stack of its own: chains are as long as a model is deep.
  Value materialize(OpBuilder &builder, Value value) {
    SmallVector<Value> stack = {value};
    while (!stack.empty()) {
      Value next = stack.back();
      if (isThere(next)) {
        stack.pop_back();
        continue;
      }
      Operation *op = next.getDefiningOp();
      size_t waiting = stack.size();
      for (Value operand : op->getOperands())
        if (!isThere(operand))
          stack.push_back(operand);
      if (stack.size() > waiting)
        continue;
      // Results that are kept stay what they are.
      IRMapping operands;
      for (Value operand : op->getOperands())
        operands.map(operand, mapping.lookupOrDefault(operand));
      Operation *clone = builder.clone(*op, operands);
      clone->setAttr(kRecomputed, builder.getUnitAttr());
      for (auto [original, again] : llvm::zip_equal(op->getResults(), clone->getResults()))
        if (!kept.contains(original))
          mapping.map(original, again);
      ++clones;
      if (auto cost = dyn_cast<train::CostOpInterface>(clone))
        flops += cost.getFlops();
    }
    return kept.contains(value) ? value : mapping.lookupOrDefault(value);
  }

  const ForwardGraph &graph;
  const DenseSet<Value> &kept;
  IRMapping mapping;
  int64_t clones = 0, flops = 0;
};

struct RecomputePass : zopt::impl::RecomputeBase<RecomputePass> {
  using RecomputeBase::RecomputeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (policy != "none" && policy != "selective" && policy != "full") {
      module.emitError("policy is '") << policy << "', but expects none, selective or full";
      return signalPassFailure();
    }
    auto step = module.lookupSymbol<func::FuncOp>(kMicroStep);
    if (policy == "none" || !step)
      return;
    auto backwards = step.getOps<train::BackwardOp>();
    if (backwards.empty())
      return;
    train::BackwardOp backward = *backwards.begin();

    const int64_t before = getResidualBytes(step);
    ForwardGraph graph(backward);
    const bool full = policy == "full";
    DenseSet<Value> kept = ResidualSolver(graph, full).solve(full ? Segmentation(graph).getKept() : DenseSet<Value>());
    Materializer materializer(graph, kept);
    materializer.run(backward);
    step.emitRemark() << "recompute=" << policy << ": " << materializer.getClones() << " ops run again in backward ("
                      << materializer.getFlops() << " flops in products); bytes kept for backward " << before << " -> "
                      << getResidualBytes(step);
  }

private:
  static int64_t getResidualBytes(func::FuncOp step) {
    Operation *backward = *step.getOps<train::BackwardOp>().begin();
    int64_t bytes = 0;
    for (Operation *op : findResiduals(step))
      for (Value result : op->getResults())
        if (llvm::any_of(result.getUsers(), [&](Operation *user) { return backward->isBeforeInBlock(user); }))
          bytes += getBytes(result);
    return bytes;
  }
};

} // namespace
