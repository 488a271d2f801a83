//===- BatchAnalysis.cpp - where samples lie in values --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BatchAnalysis.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Kind = SamplePlace::Kind;

static ArrayRef<int64_t> shapeOf(Value value) { return getTensorType(value).getShape(); }

static int64_t countFrom(ArrayRef<int64_t> shape, int64_t axis) {
  int64_t count = 1;
  for (int64_t size : shape.drop_front(axis))
    count *= size;
  return count;
}

namespace {

/// Samples as a factor of an axis: index i of it belongs to sample (i / post) % batch.
struct AxisFactor {
  int64_t axis, post;
};

/// What ops say of their operands, in terms of axes, until it is written down for the result.
class Follower {
public:
  Follower(Operation *op, Value result, int64_t batch) : op(op), shape(shapeOf(result)), batch(batch) {}

  /// The factor that samples are of an axis of a value.
  std::optional<AxisFactor> factorOf(ArrayRef<int64_t> of, int64_t inner) const {
    for (int64_t axis = of.size() - 1, after = 1; axis >= 0; after *= of[axis--])
      if (inner >= after && inner * batch <= after * of[axis]) {
        if (inner % after || of[axis] % (inner / after * batch))
          return std::nullopt;
        return AxisFactor{axis, inner / after};
      }
    return std::nullopt;
  }

  /// The samples of an operand lie along `axis` of the result, as that factor.
  void place(int64_t axis, int64_t post) {
    int64_t inner = countFrom(shape, axis + 1) * post;
    if (axis < 0 || shape[axis] % (post * batch))
      return mix();
    if (found.kind == Kind::Shared)
      found = SamplePlace::apart(inner);
    else if (found.kind == Kind::Apart && found.inner != inner)
      mix();
  }
  void mix() {
    if (found.kind != Kind::Mixed)
      found = SamplePlace::mixed(op);
  }
  void inherit(const SamplePlace &place) {
    if (found.kind != Kind::Mixed)
      found = place;
  }

  /// An operand whose axis a is axis `map(a)` of the result; -1 where it has none.
  void follow(Value operand, const SamplePlace &place, llvm::function_ref<int64_t(int64_t axis)> map) {
    if (place.kind == Kind::Shared)
      return;
    if (place.kind == Kind::Mixed)
      return inherit(place);
    std::optional<AxisFactor> factor = factorOf(shapeOf(operand), place.inner);
    if (!factor)
      return mix();
    int64_t axis = map(factor->axis);
    // The axis as a whole, or its samples cannot be told.
    if (axis < 0 || shape[axis] != shapeOf(operand)[factor->axis])
      return mix();
    this->place(axis, factor->post);
  }
  /// An operand that broadcasts, by NumPy's rules.
  void followBroadcast(Value operand, const SamplePlace &place) {
    int64_t lead = int64_t(shape.size()) - getTensorType(operand).getRank();
    follow(operand, place, [&](int64_t axis) { return axis + lead; });
  }

  SamplePlace take() const { return found; }

private:
  Operation *op;
  ArrayRef<int64_t> shape;
  const int64_t batch;
  SamplePlace found;
};

} // namespace

BatchAnalysis::BatchAnalysis(func::FuncOp forward, int64_t batch) : batch(batch) {
  for (BlockArgument argument : forward.getArguments()) {
    ArrayRef<int64_t> shape = shapeOf(argument);
    if (!shape.empty() && shape[0] == batch)
      places[argument] = SamplePlace::apart(countFrom(shape, 1));
  }
  for (Operation &op : forward.getBody().front().without_terminator())
    for (Value result : op.getResults())
      places[result] = follow(&op, result);
}

SamplePlace BatchAnalysis::follow(Operation *op, Value result) {
  if (batch == 1) {
    // One sample: its elements are numbered in row-major order, whatever axis it would have been.
    bool any = llvm::any_of(op->getOperands(), [&](Value operand) { return lookup(operand).kind == Kind::Apart; });
    return any ? SamplePlace::apart(getTensorType(result).getNumElements()) : SamplePlace::shared();
  }
  Follower follower(op, result, batch);
  auto sameAxis = [](int64_t axis) { return axis; };
  auto followAll = [&](ValueRange operands) {
    for (Value operand : operands)
      follower.followBroadcast(operand, lookup(operand));
  };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](ReshapeOp reshape) { follower.inherit(lookup(reshape.getInput())); })
      .Case([&](TransposeOp transpose) {
        follower.follow(transpose.getInput(), lookup(transpose.getInput()), [&](int64_t axis) {
          return std::distance(transpose.getPermutation().begin(), llvm::find(transpose.getPermutation(), axis));
        });
      })
      .Case([&](SliceOp slice) {
        follower.follow(slice.getInput(), lookup(slice.getInput()),
                        [&](int64_t axis) -> int64_t { return slice.getStrides()[axis] == 1 ? axis : -1; });
      })
      .Case([&](ConcatOp concat) {
        for (Value input : concat.getInputs())
          follower.follow(input, lookup(input),
                          [&](int64_t axis) -> int64_t { return axis == int64_t(concat.getAxis()) ? -1 : axis; });
      })
      .Case([&](BroadcastOp broadcast) {
        follower.followBroadcast(broadcast.getInput(), lookup(broadcast.getInput()));
        // Spread over a first axis of as many as there are samples: each has a copy of its own.
        ArrayRef<int64_t> from = shapeOf(broadcast.getInput()), to = shapeOf(result);
        if (follower.take().kind == Kind::Shared && to.size() > 1 && to[0] == batch &&
            (from.size() < to.size() || from[0] == 1))
          follower.place(0, 1);
      })
      .Case([&](GatherOp gather) {
        const int64_t axis = gather.getAxis(), added = getTensorType(gather.getIndices()).getRank();
        follower.follow(gather.getData(), lookup(gather.getData()), [&](int64_t data) -> int64_t {
          return data == axis ? -1 : data < axis ? data : data - 1 + added;
        });
        follower.follow(gather.getIndices(), lookup(gather.getIndices()), [&](int64_t index) { return index + axis; });
      })
      .Case<ReduceSumOp, ReduceMeanOp, ReduceMaxOp>([&](auto reduce) {
        follower.follow(reduce.getInput(), lookup(reduce.getInput()), [&](int64_t axis) -> int64_t {
          if (llvm::is_contained(reduce.getAxes(), axis))
            return -1;
          return reduce.getKeepdims()
                     ? axis
                     : axis - llvm::count_if(reduce.getAxes(), [&](int64_t reduced) { return reduced < axis; });
        });
      })
      .Case<SoftmaxOp, LogSoftmaxOp, LayerNormOp, RMSNormOp>([&](Operation *) {
        // Rows along the last axis; statistics lack it.
        Value input = op->getOperand(0);
        const int64_t last = getTensorType(input).getRank() - 1;
        follower.follow(input, lookup(input), [&](int64_t axis) -> int64_t { return axis == last ? -1 : axis; });
        for (Value operand : op->getOperands().drop_front())
          if (lookup(operand).kind != Kind::Shared)
            follower.mix();
      })
      .Case([&](BatchNormOp norm) { // whatever samples the statistics depend on
        follower.follow(norm.getInput(), lookup(norm.getInput()), sameAxis);
      })
      .Case([&](MatmulOp matmul) {
        auto side = [&](Value operand, bool transposed, int64_t kept) {
          const int64_t rank = getTensorType(operand).getRank(), lead = int64_t(shapeOf(result).size()) - rank;
          follower.follow(operand, lookup(operand), [&](int64_t axis) -> int64_t {
            if (axis < rank - 2)
              return axis + lead;
            const int64_t own = transposed ? 2 * rank - 3 - axis : axis; // as it would be without the flag
            return own == rank - 2 + kept ? lead + own : -1;
          });
        };
        side(matmul.getLhs(), matmul.getTransposeLhs(), 0);
        side(matmul.getRhs(), matmul.getTransposeRhs(), 1);
        if (matmul.getBias() && lookup(matmul.getBias()).kind != Kind::Shared)
          follower.mix();
      })
      .Case([&](AttentionOp attention) {
        for (Value operand : {attention.getQuery(), attention.getKey(), attention.getValue()})
          follower.follow(operand, lookup(operand), [&](int64_t axis) -> int64_t { return axis == 0 ? 0 : -1; });
        if (attention.getMask())
          if (SamplePlace mask = lookup(attention.getMask()); mask.kind == Kind::Mixed)
            follower.inherit(mask);
      })
      .Case([&](RotaryOp rotary) { follower.follow(rotary.getInput(), lookup(rotary.getInput()), sameAxis); })
      .Default([&](Operation *) {
        if (op->hasTrait<Elementwise>())
          return followAll(op->getOperands());
        // What is not known here keeps samples that are the whole first axis of the first operand, as convolutions do;
        // statistics over samples do not.
        for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
          SamplePlace place = lookup(operand);
          if (place.kind == Kind::Shared)
            continue;
          if (index == 0 && !isa<BatchStatisticsOp, ReadStateOp>(op))
            follower.follow(operand, place, [&](int64_t axis) -> int64_t { return axis == 0 ? 0 : -1; });
          else
            follower.mix();
        }
      });
  return follower.take();
}
