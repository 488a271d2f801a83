//===- FuseElementwise.cpp - groups elementwise ops ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorValues.h"
#include "mlir/IR/IRMapping.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"
#include <limits>
#include <map>

namespace zopt {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

static constexpr StringLiteral kResidual = "zero.residual";

static ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

/// What every group that uses it gets a copy of.
static bool isCopied(Operation *op) {
  if (auto constant = dyn_cast_or_null<train::ConstantOp>(op))
    return isa<SplatElementsAttr>(constant.getValue());
  return isa_and_nonnull<train::IotaOp>(op);
}

static bool isMember(Operation *op) { return op->hasTrait<train::Elementwise>() || isa<train::BroadcastOp>(op); }

/// Elements up to which a kernel is over before the next one starts.
static constexpr int64_t kSmall = 4096;

/// Worth computing again at every element of a larger shape rather than reading it from memory.
static bool isCheap(Operation *op) {
  return isa<train::NegOp, train::AbsOp, train::ReluOp, train::NotOp, train::CastOp, train::AddOp, train::SubOp,
             train::MulOp, train::MaxOp, train::MinOp, train::AndOp, train::OrOp, train::CompareOp, train::SelectOp,
             train::BroadcastOp>(op);
}

namespace {

/// Ops of one block that become one. Places are positions in the block, doubled: an op that stays is at an even one, a
/// group may also stand right before an op.
struct Group {
  SmallVector<Operation *> ops; // in block order
  SmallVector<int64_t> space;   // the shape of its results
  int64_t place = 0;
  int64_t segment = 0;
  Attribute residual;
};

struct Fusion {
  Fusion(Block &block, unsigned maxOps, unsigned maxArguments)
      : block(block), maxOps(maxOps), maxArguments(maxArguments) {}

  Block &block;
  unsigned maxOps, maxArguments;
  DenseMap<Operation *, int64_t> position; // of the ops that the block had
  int64_t backwardSegment = std::numeric_limits<int64_t>::max();
  DenseMap<Operation *, int64_t> fusedPlace;
  DenseMap<Operation *, Group *> groupOf;
  std::vector<std::unique_ptr<Group>> groups;

  void run();
  void collect();
  bool mayMerge(const Group &first, const Group &second) const;
  bool merge(Group &producer, Group &consumer);
  void mergeSiblings();
  void mergeSmall();
  /// Merges groups of one space; where memory counts, unless that would lengthen lives.
  bool mergeSiblings(Group &first, Group &second, bool mayGrow = false);
  /// Merges neighbours of an order.
  void mergeNeighbours(SmallVector<Group *> order, bool mayGrow);
  /// Where a group of `members` with these boundaries stands: as late as its last op, and before its first reader; none
  /// where that is not behind all that it reads.
  std::optional<int64_t> findPlace(const DenseSet<Operation *> &members, Operation *last,
                                   const SetVector<Value> &inputs, const SetVector<Value> &outputs);
  /// Additions behind `train.backward`, where sums are of gradients.
  bool isSum(const Group &group) const {
    return group.segment >= backwardSegment && llvm::all_of(group.ops, llvm::IsaPred<train::AddOp>);
  }
  /// Bytes by which live memory grows between the places of a sibling and of the merged group, at most.
  int64_t growth(const Group &group, const Group &sibling, const DenseSet<Operation *> &members, int64_t place);
  void join(Group &from, Group &into, SmallVector<Operation *> ops, int64_t place);
  void materialize(Group &group);

  Operation *inBlock(Operation *op) { return block.findAncestorOpInBlock(*op); }
  int64_t placeOf(Operation *op) {
    if (auto group = groupOf.find(op); group != groupOf.end())
      return group->second->place;
    if (auto fused = fusedPlace.find(op); fused != fusedPlace.end())
      return fused->second;
    return 2 * position.lookup(op);
  }
  /// Values that the ops read from outside (without what is copied), and results that something outside uses.
  void findBoundary(const DenseSet<Operation *> &members, ArrayRef<Operation *> ops, SetVector<Value> &inputs,
                    SetVector<Value> &outputs);
};

struct FuseElementwisePass : zopt::impl::FuseElementwiseBase<FuseElementwisePass> {
  using FuseElementwiseBase::FuseElementwiseBase;
  void runOnOperation() override {
    for (Block &block : getOperation().getBody())
      Fusion(block, maxOps, maxArguments).run();
  }
};

} // namespace

void Fusion::findBoundary(const DenseSet<Operation *> &members, ArrayRef<Operation *> ops, SetVector<Value> &inputs,
                          SetVector<Value> &outputs) {
  for (Operation *op : ops) {
    for (Value operand : op->getOperands()) {
      Operation *definition = operand.getDefiningOp();
      if (!isCopied(definition) && !members.contains(definition))
        inputs.insert(operand);
    }
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !members.contains(user); }))
        outputs.insert(result);
  }
}

void Fusion::collect() {
  int64_t next = 0, segment = 0;
  for (Operation &op : block) {
    position[&op] = next++;
    if (isa<train::BackwardOp, zero::FreeOp>(op))
      ++segment;
    if (isa<train::BackwardOp>(op))
      backwardSegment = segment;
    if (!isMember(&op))
      continue;
    auto group = std::make_unique<Group>();
    group->ops.push_back(&op);
    group->space.assign(shapeOf(op.getResult(0)).begin(), shapeOf(op.getResult(0)).end());
    group->place = 2 * position[&op];
    group->segment = segment;
    group->residual = op.getAttr(kResidual);
    groupOf[&op] = group.get();
    groups.push_back(std::move(group));
  }
}

bool Fusion::mayMerge(const Group &first, const Group &second) const {
  return first.segment == second.segment && first.ops.size() + second.ops.size() <= maxOps &&
         (!first.residual || !second.residual || first.residual == second.residual);
}

std::optional<int64_t> Fusion::findPlace(const DenseSet<Operation *> &members, Operation *last,
                                         const SetVector<Value> &inputs, const SetVector<Value> &outputs) {
  int64_t lastInput = -1, firstUse = std::numeric_limits<int64_t>::max();
  for (Value input : inputs)
    if (Operation *definition = input.getDefiningOp())
      lastInput = std::max(lastInput, placeOf(definition));
  for (Value output : outputs)
    for (Operation *user : output.getUsers())
      if (!members.contains(user))
        firstUse = std::min(firstUse, placeOf(inBlock(user)));
  int64_t place = std::min(2 * position[last], firstUse - 1);
  return place > lastInput ? std::optional(place) : std::nullopt;
}

/// The ops of two groups in block order.
static SmallVector<Operation *> mergeOps(const Group &first, const Group &second,
                                         DenseMap<Operation *, int64_t> &position) {
  SmallVector<Operation *> ops = first.ops;
  ops.append(second.ops);
  llvm::sort(ops, [&](Operation *a, Operation *b) { return position[a] < position[b]; });
  return ops;
}

void Fusion::join(Group &from, Group &into, SmallVector<Operation *> ops, int64_t place) {
  for (Operation *op : from.ops)
    groupOf[op] = &into;
  from.ops.clear();
  into.ops = std::move(ops);
  into.place = place;
  if (!into.residual)
    into.residual = from.residual;
}

bool Fusion::merge(Group &producer, Group &consumer) {
  if (!mayMerge(producer, consumer))
    return false;
  bool broadcasts = producer.space != consumer.space;
  if (broadcasts && !llvm::all_of(producer.ops, isCheap))
    return false;

  SmallVector<Operation *> ops = mergeOps(producer, consumer, position);
  DenseSet<Operation *> members(ops.begin(), ops.end());
  SetVector<Value> inputs, outputs;
  findBoundary(members, ops, inputs, outputs);
  if (inputs.size() + outputs.size() > maxArguments)
    return false;
  // A result has the iteration space's shape.
  if (llvm::any_of(outputs, [&](Value output) { return shapeOf(output) != ArrayRef<int64_t>(consumer.space); }))
    return false;
  std::optional<int64_t> place = findPlace(members, ops.back(), inputs, outputs);
  if (!place)
    return false;
  // What is added up as it comes is not kept until the last of it is there; neighbours have nothing between them.
  if (isSum(producer) && isSum(consumer) && *place > producer.place + 2 &&
      growth(producer, consumer, members, *place) > 0)
    return false;
  join(producer, consumer, std::move(ops), *place);
  return true;
}

int64_t Fusion::growth(const Group &group, const Group &sibling, const DenseSet<Operation *> &members, int64_t place) {
  SetVector<Value> inputs, outputs;
  findBoundary(DenseSet<Operation *>(group.ops.begin(), group.ops.end()), group.ops, inputs, outputs);
  if (place == group.place || place == group.place + 1) // no command is between them
    return 0;
  const bool up = place < group.place;
  int64_t written = 0, ending = 0; // `ending`: operands that nothing else reads behind `place`
  for (Value output : outputs)
    written += bytesOf(output);
  for (Value input : inputs) {
    if (!input.getDefiningOp()) // an argument of the step lives all along
      continue;
    // Read by the sibling, which stands there, an operand lives until then anyway.
    bool isRead = llvm::any_of(input.getUsers(), [&](Operation *user) {
      return members.contains(user) ? !up && groupOf.lookup(user) == &sibling : placeOf(inBlock(user)) > place;
    });
    if (!isRead)
      ending += bytesOf(input);
  }
  return up ? written - ending : ending - written;
}

bool Fusion::mergeSiblings(Group &first, Group &second, bool mayGrow) {
  if (!mayMerge(first, second) || first.space != second.space)
    return false;
  SmallVector<Operation *> ops = mergeOps(first, second, position);
  DenseSet<Operation *> members(ops.begin(), ops.end());
  SetVector<Value> inputs, outputs;
  findBoundary(members, ops, inputs, outputs);
  if (inputs.size() + outputs.size() > maxArguments)
    return false;
  std::optional<int64_t> place = findPlace(members, ops.back(), inputs, outputs);
  if (!place || (!mayGrow && (growth(first, second, members, *place) > 0 || growth(second, first, members, *place) > 0)))
    return false;
  join(second, first, std::move(ops), *place);
  return true;
}

void Fusion::mergeSiblings() {
  // By each value that several groups read at every element: neighbours of the order in which they stand. No op between
  // them may depend on the one and be read by the other: `findPlace` sees to it.
  llvm::SetVector<Value> read;
  for (const std::unique_ptr<Group> &group : groups)
    for (Operation *op : group->ops)
      for (Value operand : op->getOperands())
        if (!isCopied(operand.getDefiningOp()) && shapeOf(operand) == ArrayRef<int64_t>(group->space))
          read.insert(operand);
  for (Value value : read) {
    SetVector<Group *> readers;
    for (Operation *user : value.getUsers())
      if (auto group = groupOf.find(user); group != groupOf.end())
        readers.insert(group->second);
    mergeNeighbours(readers.takeVector(), /*mayGrow=*/false);
  }
}

void Fusion::mergeNeighbours(SmallVector<Group *> order, bool mayGrow) {
  llvm::sort(order, [&](Group *a, Group *b) {
    return std::pair(a->place, position[a->ops[0]]) < std::pair(b->place, position[b->ops[0]]);
  });
  Group *first = nullptr;
  for (Group *next : order)
    if (!first || !mergeSiblings(*first, *next, mayGrow))
      first = next;
}

void Fusion::mergeSmall() {
  std::map<std::pair<int64_t, std::vector<int64_t>>, SmallVector<Group *>> bySpace; // of a segment
  for (const std::unique_ptr<Group> &group : groups)
    if (!group->ops.empty() && ShapedType::getNumElements(group->space) <= kSmall)
      bySpace[{group->segment, std::vector<int64_t>(group->space.begin(), group->space.end())}].push_back(group.get());
  for (auto &[space, order] : bySpace)
    mergeNeighbours(order, /*mayGrow=*/true);
}

void Fusion::materialize(Group &group) {
  DenseSet<Operation *> members(group.ops.begin(), group.ops.end());
  SetVector<Value> inputs, outputs;
  findBoundary(members, group.ops, inputs, outputs);
  if (outputs.empty())
    return; // dead
  bool copies = llvm::any_of(group.ops, [](Operation *op) {
    return llvm::any_of(op->getOperands(), [](Value operand) { return isCopied(operand.getDefiningOp()); });
  });
  if (group.ops.size() == 1 && !copies)
    return;

  OpBuilder builder = OpBuilder::atBlockTerminator(&block); // `run` puts it in its place
  SmallVector<Location> locations = llvm::map_to_vector(group.ops, [](Operation *op) { return op->getLoc(); });
  Location location = builder.getFusedLoc(locations);
  auto fused =
      train::FusedOp::create(builder, location, ValueRange(outputs.getArrayRef()).getTypes(), inputs.getArrayRef());
  if (group.residual)
    fused->setAttr(kResidual, group.residual);
  Block &body = fused.getBody().emplaceBlock();
  IRMapping map;
  for (Value input : inputs)
    map.map(input, body.addArgument(input.getType(), input.getLoc()));
  builder.setInsertionPointToEnd(&body);
  for (Operation *op : group.ops) {
    for (Value operand : op->getOperands())
      if (isCopied(operand.getDefiningOp()) && !map.contains(operand))
        builder.clone(*operand.getDefiningOp(), map);
    builder.clone(*op, map)->removeAttr(kResidual);
  }
  train::YieldOp::create(builder, location,
                         llvm::map_to_vector(outputs, [&](Value output) { return map.lookup(output); }));
  for (unsigned index = 0; index < outputs.size(); ++index)
    Value(outputs[index]).replaceUsesWithIf(fused.getOutputs()[index], [&](OpOperand &use) {
      return !members.contains(use.getOwner());
    });
  fusedPlace[fused] = group.place;
  for (Operation *op : llvm::reverse(group.ops)) {
    groupOf.erase(op);
    op->erase();
  }
  group.ops.clear();
}

void Fusion::run() {
  collect();
  // Consumers in order; each takes in the groups that it reads.
  for (Operation &op : llvm::make_early_inc_range(block)) {
    auto group = groupOf.find(&op);
    if (group == groupOf.end())
      continue;
    for (Value operand : op.getOperands()) {
      Operation *definition = operand.getDefiningOp();
      auto producer = definition ? groupOf.find(definition) : groupOf.end();
      if (producer != groupOf.end() && producer->second != groupOf[&op])
        merge(*producer->second, *groupOf[&op]);
    }
  }
  mergeSiblings();
  mergeSmall();
  llvm::erase_if(groups, [](const std::unique_ptr<Group> &group) { return group->ops.empty(); });
  llvm::sort(groups, [&](const auto &a, const auto &b) {
    return std::pair(a->place, position[a->ops[0]]) < std::pair(b->place, position[b->ops[0]]);
  });
  for (const std::unique_ptr<Group> &group : groups)
    materialize(*group);
  // What only groups used has been copied into them.
  for (Operation &op : llvm::make_early_inc_range(block))
    if (isCopied(&op) && op.use_empty())
      op.erase();
  SmallVector<std::pair<int64_t, int64_t>> order; // place, number
  SmallVector<Operation *> ops;
  for (Operation &op : block.without_terminator()) {
    order.push_back({placeOf(&op), ops.size()});
    ops.push_back(&op);
  }
  llvm::sort(order);
  for (auto [place, number] : order)
    ops[number]->moveBefore(block.getTerminator());
}
