//===- VerifyPlan.cpp - the gate of the final level ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Checks a final plan without running it. It trusts nothing that the compiler meant: places and sizes are compared with what commands do, and memory is followed byte by byte. No
// deadlock: there is no control flow, so all ranks start the same collectives in the same order. No race: what a collective touches is touched by nothing else before its wait.
//
//===----------------------------------------------------------------------===//

#include "PlanMemory.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"
#include "zopt/Conversion/Passes.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

namespace zopt {
#define GEN_PASS_DEF_VERIFYPLAN
#include "zopt/Conversion/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

int64_t getBytes(Type elementType) { return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8); }
int64_t getBytes(RankedTensorType type) { return type.getNumElements() * getBytes(type.getElementType()); }

class PlanVerifier {
public:
  explicit PlanVerifier(ModuleOp module) : module(module), symbolTable(module), symbols(module), memory(buffers) {}

  LogicalResult verify() {
    auto level = module->getAttrOfType<StringAttr>("train.level");
    if (!level || level.getValue() != "final")
      return module.emitError("expects train.level = \"final\"");
    auto targets = module.getOps<plan::TargetOp>();
    if (!llvm::hasSingleElement(targets))
      return module.emitError("expects one 'plan.target', but got ") << std::distance(targets.begin(), targets.end());
    target = *targets.begin();
    if (failed(placeBuffers()) || failed(verifyPersistentBuffers()) || failed(verifyStates()) || failed(verifyInputs()))
      return failure();
    for (auto sequence : module.getOps<plan::SequenceOp>())
      if (failed(verifySequence(sequence)))
        return failure();
    return verifyStep();
  }

private:
  //===--- declarations ---===//

  LogicalResult placeBuffers() {
    DenseMap<StringAttr, std::pair<int64_t, plan::ArenaOp>> arenas;
    for (auto arena : module.getOps<plan::ArenaOp>())
      arenas.try_emplace(arena.getSymNameAttr(), arenas.size(), arena);
    for (auto op : module.getOps<plan::BufferOp>()) {
      auto it = arenas.find(op.getArenaAttr().getAttr());
      if (it == arenas.end())
        return op.emitOpError("refers to unknown arena ") << op.getArenaAttr();
      auto [index, arena] = it->second;
      int64_t reach = (target.getWorldSize() - 1) * op.getRankStride() + op.getBytes();
      if (static_cast<int64_t>(op.getOffset()) + reach > static_cast<int64_t>(arena.getBytes()))
        return op.emitOpError("ends at byte ") << op.getOffset() + reach << " of " << op.getArenaAttr() << ", which has " << arena.getBytes();
      buffers[op.getSymNameAttr()] = {op, index, static_cast<int64_t>(op.getOffset()), static_cast<int64_t>(op.getBytes()), reach, op.getPersistent()};
    }
    return success();
  }

  /// Persistent buffers share bytes with nothing, but for a rank's slice inside the whole.
  LogicalResult verifyPersistentBuffers() {
    SmallVector<PlacedBuffer> persistent, others;
    for (auto op : module.getOps<plan::BufferOp>()) {
      const PlacedBuffer &buffer = buffers[op.getSymNameAttr()];
      if (buffer.bytes == 0)
        continue;
      (buffer.persistent && op.getRankStride() == 0 ? persistent : others).push_back(buffer);
    }
    auto before = [](const PlacedBuffer &a, const PlacedBuffer &b) { return std::tie(a.arena, a.offset) < std::tie(b.arena, b.offset); };
    llvm::sort(persistent, before);
    for (size_t i = 1; i < persistent.size(); ++i)
      if (persistent[i].arena == persistent[i - 1].arena && persistent[i].offset < persistent[i - 1].offset + persistent[i - 1].bytes)
        return persistent[i].op.emitOpError("starts at byte ") << persistent[i].offset << ", inside persistent @" << persistent[i - 1].op.getSymName() << " that ends at "
                                                               << persistent[i - 1].offset + persistent[i - 1].bytes;
    for (PlacedBuffer &buffer : others) {
      // The last persistent buffer that starts before this one ends is the only one that may hold it.
      auto it = llvm::partition_point(persistent, [&](const PlacedBuffer &other) { return std::tie(other.arena, other.offset) < std::make_tuple(buffer.arena, buffer.offset + buffer.reach); });
      PlacedBuffer *holder = it == persistent.begin() ? nullptr : &*std::prev(it);
      if (holder && (holder->arena != buffer.arena || holder->offset + holder->bytes <= buffer.offset))
        holder = nullptr;
      bool isSlice = buffer.persistent;
      if (isSlice && (!holder || buffer.offset < holder->offset || buffer.offset + buffer.reach > holder->offset + holder->bytes || (int64_t)buffer.op.getRankStride() < buffer.bytes))
        return buffer.op.emitOpError("is a rank's slice, but lies in no persistent buffer as a whole");
      if (!isSlice && holder)
        return buffer.op.emitOpError("takes bytes [") << buffer.offset << ", " << buffer.offset + buffer.reach << "), but persistent @" << holder->op.getSymName() << " lies in ["
                                                      << holder->offset << ", " << holder->offset + holder->bytes << ")";
      if (!isSlice && buffer.op.getRankStride() != 0)
        return buffer.op.emitOpError("has rank_stride ") << buffer.op.getRankStride() << ", but is not persistent";
    }
    return success();
  }

  /// `name` is a buffer of `bytes` bytes.
  LogicalResult expectBuffer(Operation *op, FlatSymbolRefAttr name, int64_t bytes, const Twine &what, bool persistent = true) {
    auto it = buffers.find(name.getAttr());
    if (it == buffers.end())
      return op->emitOpError("refers to unknown buffer ") << name;
    if (it->second.bytes != bytes)
      return op->emitOpError() << what << " takes " << bytes << " bytes, but " << name << " has " << it->second.bytes;
    if (persistent && !it->second.persistent)
      return op->emitOpError() << what << " lives across sequences, but " << name << " is not persistent";
    return success();
  }

  LogicalResult verifyStates() {
    DenseSet<StringAttr> placed;
    for (auto op : module.getOps<plan::PlacedBucketOp>()) {
      auto bucket = symbolTable.lookup<zero::BucketOp>(op.getBucketAttr().getAttr());
      if (!bucket)
        return op.emitOpError("refers to unknown bucket ") << op.getBucketAttr();
      if (!placed.insert(op.getBucketAttr().getAttr()).second)
        return op.emitOpError("places ") << op.getBucketAttr() << " a second time";
      if (failed(verifyPlacedBucket(op, bucket)))
        return failure();
      for (auto segment : bucket.getSegments().getAsRange<zero::SegmentAttr>())
        placed.insert(segment.getParameter().getAttr());
    }
    for (auto bucket : module.getOps<zero::BucketOp>())
      if (!placed.contains(bucket.getSymNameAttr()))
        return bucket.emitOpError("has no 'plan.placed_bucket'");
    for (auto op : module.getOps<plan::PlacedStateOp>()) {
      auto state = symbolTable.lookup<train::StateOp>(op.getStateAttr().getAttr());
      if (!state)
        return op.emitOpError("refers to unknown state ") << op.getStateAttr();
      if (!placed.insert(op.getStateAttr().getAttr()).second)
        return op.emitOpError("places ") << op.getStateAttr() << " a second time";
      if (failed(expectBuffer(op, op.getBufferAttr(), getBytes(state.getTensorType()), "the state")))
        return failure();
    }
    for (auto state : module.getOps<train::StateOp>())
      if (state.getRole() != train::Role::optimizer && !placed.contains(state.getSymNameAttr()))
        return state.emitOpError("has no place in the plan");
    return success();
  }

  LogicalResult verifyPlacedBucket(plan::PlacedBucketOp op, zero::BucketOp bucket) {
    using zero::Placement;
    int64_t world = target.getWorldSize(), padded = op.getPadded(), slice = op.getSlice();
    if (padded != static_cast<int64_t>(llvm::alignTo(bucket.getLogicalElements(), world * zero::kBlockElements)) || slice * world != padded)
      return op.emitOpError("has ") << padded << " elements in slices of " << slice << ", but " << bucket.getLogicalElements() << " elements on " << world << " ranks take "
                                    << llvm::alignTo(bucket.getLogicalElements(), world * zero::kBlockElements);
    auto first = cast<zero::SegmentAttr>(bucket.getSegments()[0]);
    auto state = symbolTable.lookup<train::StateOp>(first.getParameter().getAttr());
    Type stateType = state.getTensorType().getElementType();
    int64_t owned = bucket.getOptimizerPlacement() == Placement::sharded ? slice : padded;
    int64_t held = bucket.getParameterPlacement() == Placement::sharded ? slice : padded;
    if (failed(expectBuffer(op, op.getParametersAttr(), held * getBytes(bucket.getComputeType()), "parameters")))
      return failure();
    ArrayAttr slots;
    if (std::optional<StringRef> name = bucket.getOptimizer())
      slots = symbolTable.lookup<train::OptimizerOp>(*name).getSlots();
    if (op.getSlots().size() != (slots ? slots.size() : 0))
      return op.emitOpError("has ") << op.getSlots().size() << " slots, but the optimizer has " << (slots ? slots.size() : 0);
    for (auto slot : op.getSlots().getAsRange<FlatSymbolRefAttr>())
      if (failed(expectBuffer(op, slot, owned * getBytes(stateType), "a slot")))
        return failure();
    bool needsMaster = slots && bucket.getComputeType() != stateType;
    if (needsMaster != op.getMaster().has_value())
      return op.emitOpError(needsMaster ? "has no master, but computes in " : "has a master, but computes in ") << bucket.getComputeType() << " on states of " << stateType;
    if (needsMaster && failed(expectBuffer(op, op.getMasterAttr(), owned * getBytes(stateType), "the master")))
      return failure();
    if (bucket.getFrozen() == op.getGradient().has_value())
      return op.emitOpError(bucket.getFrozen() ? "has a gradient, but is frozen" : "has no gradient");
    if (!op.getGradient())
      return success();
    Type expected = target.getAccumSteps() > 1 ? stateType : bucket.getGradientType();
    if (*op.getGradientType() != expected)
      return op.emitOpError("has gradients of ") << *op.getGradientType() << ", but expects " << expected;
    // Without accumulation it need not outlive the step.
    auto placed = buffers.find(op.getGradientAttr().getAttr());
    bool spans = target.getAccumSteps() == 1 && placed != buffers.end() && !placed->second.persistent;
    if (spans)
      memory.markSpanning(op.getGradientAttr().getAttr());
    else
      memory.markUnwritten(op.getGradientAttr().getAttr());
    return expectBuffer(op, op.getGradientAttr(), (op.getGradientWhole() ? padded : slice) * getBytes(expected), "the gradient", /*persistent=*/!spans);
  }

  LogicalResult verifyInputs() {
    for (auto op : module.getOps<plan::InputOp>())
      if (failed(expectBuffer(op, op.getBufferAttr(), getBytes(cast<RankedTensorType>(op.getType())), "the input")))
        return failure();
    for (auto op : module.getOps<plan::OutputOp>()) {
      if (failed(expectBuffer(op, op.getBufferAttr(), getBytes(cast<RankedTensorType>(op.getType())), "the output")))
        return failure();
      memory.markUnwritten(op.getBufferAttr().getAttr());
    }
    return success();
  }

  //===--- commands ---===//

  LogicalResult verifySequence(plan::SequenceOp sequence) {
    memory.startSequence();
    SmallVector<PlanAccess> accesses;
    for (Operation &command : sequence.getBody().front()) {
      if (auto wait = dyn_cast<plan::WaitOp>(command)) {
        if (failed(memory.wait(wait)))
          return failure();
        continue;
      }
      if (failed(verifySymbols(&command)) || failed(verifyCommand(&command)))
        return failure();
      accesses.clear();
      collectAccesses(&command, symbols, accesses);
      if (failed(verifyBounds(&command, accesses)) || failed(memory.execute(&command, accesses, getStartedCollective(&command))))
        return failure();
    }
    return memory.endSequence(sequence);
  }

  /// Calls `visit` with each symbol in `attr`.
  static void forEachSymbol(Attribute attr, function_ref<void(FlatSymbolRefAttr)> visit) {
    if (auto symbol = dyn_cast_or_null<FlatSymbolRefAttr>(attr))
      visit(symbol);
    else if (attr)
      attr.walkImmediateSubElements([&](Attribute element) { forEachSymbol(element, visit); }, [](Type) {});
  }

  /// Every symbol that a command names is there: buffers, kernels, buckets.
  LogicalResult verifySymbols(Operation *command) {
    LogicalResult result = success();
    auto check = [&](StringAttr attr, Attribute value) {
      StringRef name = attr.getValue();
      const bool isKernel = name == "kernel" || name == "kernels" || name == "accumulate" || name == "finish",
                 isBucket = name == "bucket" || name == "buckets";
      forEachSymbol(value, [&](FlatSymbolRefAttr symbol) {
        if (failed(result))
          return;
        result = success(isKernel   ? symbols.kernels.contains(symbol.getAttr())
                         : isBucket ? symbols.placedBuckets.contains(symbol.getAttr())
                                    : buffers.contains(symbol.getAttr()));
        if (failed(result))
          command->emitOpError("refers to unknown ") << (isKernel   ? "kernel "
                                                         : isBucket ? "bucket "
                                                                    : "buffer ")
                                                     << symbol;
      });
    };
    // Not by the dictionary of all: it would be made for this alone.
    for (StringAttr name : command->getName().getAttributeNames())
      check(name, command->getInherentAttr(name).value_or(Attribute()));
    for (NamedAttribute attr : command->getDiscardableAttrs())
      check(attr.getName(), attr.getValue());
    return result;
  }

  LogicalResult verifyBounds(Operation *command, ArrayRef<PlanAccess> accesses) {
    for (const PlanAccess &access : accesses) {
      const PlacedBuffer &buffer = buffers.find(access.buffer)->second;
      int64_t end = access.end == kWholeBuffer ? buffer.bytes : access.end;
      if (access.begin < 0 || end > buffer.bytes)
        return command->emitOpError(access.writes ? "writes" : "reads") << " bytes [" << access.begin << ", " << end << ") of @" << access.buffer.getValue() << ", which has " << buffer.bytes;
    }
    return success();
  }

  LogicalResult verifyCommand(Operation *command) {
    return llvm::TypeSwitch<Operation *, LogicalResult>(command)
        .Case<plan::LaunchOp, plan::MatmulOp, plan::AttentionOp, plan::AttentionGradOp, plan::ConvolutionOp, plan::ReduceScatterOp, plan::AllGatherOp, plan::AllReduceOp, plan::GradientNormOp, plan::ParameterNormsOp, plan::UpdateOp>([&](auto op) { return verifyOp(op); })
        .Default([](Operation *) { return success(); });
  }

  /// Arguments of a kernel that it stores to.
  const SmallVector<bool> &getStored(plan::KernelOp kernel) {
    auto [it, isNew] = storedArguments.try_emplace(kernel);
    if (isNew)
      for (BlockArgument argument : kernel.getBody().getArguments())
        it->second.push_back(llvm::any_of(argument.getUses(), [](OpOperand &use) {
          return llvm::TypeSwitch<Operation *, bool>(use.getOwner())
              .Case<memref::StoreOp, memref::AtomicRMWOp>([&](auto op) { return use.get() == op.getMemref(); })
              .Case<vector::StoreOp, vector::MaskedStoreOp, vector::ScatterOp>([&](auto op) { return use.get() == op.getBase(); })
              .Case<vector::TransferWriteOp>([&](auto op) { return use.get() == op.getBase(); })
              .Default([](Operation *) { return false; });
        }));
    return it->second;
  }

  /// Whether a kernel's blocks find out by it which of them is the last.
  static bool countsBlocks(BlockArgument argument) {
    return llvm::any_of(argument.getUsers(), [](Operation *user) { return isa<memref::AtomicRMWOp>(user) && user->hasAttr(plan::kOrdersMemoryAttr); });
  }

  LogicalResult verifyOp(plan::LaunchOp op) {
    plan::KernelOp kernel = symbols.kernels.lookup(op.getKernelAttr().getAttr());
    ArrayRef<Type> types = kernel.getFunctionType().getInputs().drop_back(2);
    if (types.size() != op.getBuffers().size())
      return op.emitOpError("gives ") << op.getBuffers().size() << " buffers to " << op.getKernelAttr() << ", which takes " << types.size();
    if (!llvm::all_of(types, llvm::IsaPred<MemRefType>))
      return op.emitOpError("runs ") << op.getKernelAttr() << ", which takes scalars, as only the kernels of updates do";
    const SmallVector<bool> &stored = getStored(kernel);
    for (size_t index = 0; index < types.size(); ++index) {
      auto type = cast<MemRefType>(types[index]);
      bool isWritten = llvm::is_contained(op.getWrites(), static_cast<int64_t>(index));
      if (stored[index] != isWritten)
        return op.emitOpError() << (isWritten ? "says that it writes argument " : "does not say that it writes argument ") << index << ", which " << op.getKernelAttr()
                                << (isWritten ? " does not store to" : " stores to");
      if (stored[index] && countsBlocks(kernel.getBody().getArgument(index)))
        if (auto name = cast<FlatSymbolRefAttr>(op.getBuffers()[index]); !buffers.find(name.getAttr())->second.persistent)
          return op.emitOpError("counts blocks in ") << name << ", which is not persistent: counters are 0 before a launch and behind it";
      int64_t offset = op.getByteOffsets().empty() ? 0 : op.getByteOffsets()[index];
      if (offset % getBytes(type.getElementType()) != 0)
        return op.emitOpError("starts argument ") << index << " at byte " << offset << ", inside an element of " << type.getElementType();
      if (!isWritten)
        continue;
      // What is written may lie exactly on an argument that is read (in place), but not across one.
      for (size_t other = 0; other < types.size(); ++other) {
        auto otherType = cast<MemRefType>(types[other]);
        if (other == index || op.getBuffers()[other] != op.getBuffers()[index] || !type.getLayout().isIdentity() || !otherType.getLayout().isIdentity())
          continue;
        int64_t otherOffset = op.getByteOffsets().empty() ? 0 : op.getByteOffsets()[other];
        int64_t bytes = getSpanBytes(type), otherBytes = getSpanBytes(otherType);
        bool isSame = offset == otherOffset && bytes == otherBytes && !llvm::is_contained(op.getWrites(), static_cast<int64_t>(other));
        if (!isSame && offset < otherOffset + otherBytes && otherOffset < offset + bytes)
          return op.emitOpError("writes argument ") << index << " over argument " << other << " in " << op.getBuffers()[index];
      }
    }
    return success();
  }

  LogicalResult verifyOp(plan::MatmulOp op) {
    if (op.getByteOffsets()[0] % getBytes(op.getLhsOperand().getElementType()) || op.getByteOffsets()[1] % getBytes(op.getRhsOperand().getElementType()) ||
        op.getByteOffsets()[2] % getBytes(op.getOutOperand().getElementType()))
      return op.emitOpError("starts inside an element: offsets ") << op.getByteOffsetsAttr();
    if (!isOnGpu() && (op.getAux() || op.getBiasGradient() || op.getAddend() || op.getAlgorithm()))
      return op.emitOpError("has an epilogue, which target ") << target.getTarget() << " does not have";
    return verifyOperandsApart(op);
  }

  /// A library writes over none of its operands.
  LogicalResult verifyOperandsApart(Operation *op) {
    SmallVector<PlanAccess> accesses;
    collectAccesses(op, symbols, accesses);
    for (const PlanAccess &written : accesses)
      for (const PlanAccess &other : accesses)
        if (written.writes && &written != &other && written.buffer == other.buffer && written.end != kWholeBuffer && written.begin < other.end && other.begin < written.end && !isInterleaved(op) && !isAddend(op, written, other))
          return op->emitOpError("writes @") << written.buffer.getValue() << " over an operand";
    return success();
  }

  /// A product may be added to what it is written over, where no factor of it lies.
  static bool isAddend(Operation *op, const PlanAccess &written, const PlanAccess &other) {
    auto matmul = dyn_cast<plan::MatmulOp>(op);
    if (!matmul || !matmul.getAddend())
      return false;
    auto startsAtOut = [&](StringAttr buffer, int64_t offset) { return buffer == written.buffer && offset == written.begin; };
    ArrayRef<int64_t> offsets = matmul.getByteOffsets();
    bool isSame = written.begin == other.begin && written.end == other.end;
    return isSame && startsAtOut(matmul.getOutAttr().getAttr(), offsets[2]) && startsAtOut(matmul.getAddendAttr().getAttr(), offsets[6]) && !startsAtOut(matmul.getLhsAttr().getAttr(), offsets[0]) &&
           !startsAtOut(matmul.getRhsAttr().getAttr(), offsets[1]);
  }

  /// Attention's gradients may lie between one another, as slices of one projection's.
  static bool isInterleaved(Operation *op) { return isa<plan::AttentionGradOp>(op); }

  LogicalResult verifyOp(plan::AttentionOp op) { return verifyAttention(op); }
  LogicalResult verifyOp(plan::AttentionGradOp op) { return verifyAttention(op); }

  LogicalResult verifyOp(plan::ConvolutionOp op) { return verifyTensors(op); }

  template <typename AttentionLike>
  LogicalResult verifyAttention(AttentionLike op) {
    if (!isOnGpu())
      return op.emitOpError("is not in the library of target ") << target.getTarget();
    return verifyTensors(op);
  }

  template <typename Op>
  LogicalResult verifyTensors(Op op) {
    for (auto [offset, tensor] : llvm::zip(op.getByteOffsets(), op.getTensors().template getAsRange<plan::MatmulOperandAttr>()))
      if (offset % getBytes(tensor.getElementType()) != 0)
        return op.emitOpError("starts inside an element: offsets ") << op.getByteOffsetsAttr();
    return verifyOperandsApart(op);
  }

  bool isOnGpu() { return target.getTarget() == "cuda"; }

  LogicalResult verifyOp(plan::AllGatherOp op) {
    for (auto &[name, placed] : symbols.placedBuckets)
      if (op.getDestinationAttr() == placed.getParametersAttr())
        published[name] = op;
    return success();
  }

  LogicalResult verifyOp(plan::AllReduceOp op) { return success(); }

  LogicalResult verifyOp(plan::ReduceScatterOp op) {
    if (op.getAccumulate() != (target.getAccumSteps() > 1))
      return op.emitOpError() << (op.getAccumulate() ? "accumulates" : "does not accumulate") << ", but a step has " << target.getAccumSteps() << " micro-steps";
    auto &placedOf = getPlacedByGradient();
    plan::PlacedBucketOp placed = placedOf.lookup(op.getDestinationAttr().getAttr());
    if (!placed)
      return op.emitOpError("reduces into ") << op.getDestinationAttr() << ", which is no bucket's gradient";
    if (op.getElementsPerRank() != placed.getSlice() || op.getDestinationType() != *placed.getGradientType())
      return op.emitOpError("gives ") << op.getElementsPerRank() << " elements of " << op.getDestinationType() << ", but the gradient of " << placed.getBucketAttr() << " takes " << placed.getSlice()
                                      << " of " << *placed.getGradientType();
    return success();
  }

  LogicalResult verifyOp(plan::GradientNormOp op) {
    if (op.getWords().has_value() != isOnGpu())
      return op.emitOpError(isOnGpu() ? "has no words, which target " : "has words, which target ") << target.getTarget() << (isOnGpu() ? " sums in" : " does not have");
    const int64_t buckets = op.getBuckets().size();
    if (op.getWords() && (failed(expectBuffer(op, op.getWordsAttr(), 2 * runtime::ExactSum::kWords * sizeof(int64_t), "the words of two sums")) ||
                          failed(expectBuffer(op, op.getWorkspaceAttr(), buckets * 3 * sizeof(int64_t), "the list of gradients"))))
      return failure();
    DenseSet<Attribute> seen;
    for (auto [name, kernelName] : llvm::zip_equal(op.getBuckets().getAsRange<FlatSymbolRefAttr>(), op.getKernels().getAsRange<FlatSymbolRefAttr>())) {
      if (!seen.insert(name).second)
        return op.emitOpError("counts ") << name << " twice";
      plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(name.getAttr());
      if (!placed.getGradient())
        return op.emitOpError("reads the gradient of ") << name << ", which has none";
      ArrayRef<Type> types = symbols.kernels.lookup(kernelName.getAttr()).getFunctionType().getInputs();
      auto list = isOnGpu() && types.size() == 5 ? dyn_cast<MemRefType>(types[1]) : MemRefType();
      if (isOnGpu() && (!list || !list.hasStaticShape() || list.getNumElements() != 3 * buckets))
        return op.emitOpError("runs ") << kernelName << ", which is not made for " << buckets << " buckets";
      if (types.size() != (isOnGpu() ? 5 : 4) || cast<MemRefType>(types[0]).getElementType() != *placed.getGradientType())
        return op.emitOpError("runs ") << kernelName << " on gradients of " << *placed.getGradientType() << ", which is made for " << types[0];
    }
    for (auto &[name, placed] : symbols.placedBuckets)
      if (placed.getGradient() && !seen.contains(placed.getBucketAttr()))
        return op.emitOpError("leaves out ") << placed.getBucketAttr();
    return success();
  }

  LogicalResult verifyOp(plan::UpdateOp op) {
    plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(op.getBucketAttr().getAttr());
    auto bucket = symbolTable.lookup<zero::BucketOp>(op.getBucketAttr().getAttr());
    if (!updated.try_emplace(op.getBucketAttr().getAttr(), op).second)
      return op.emitOpError("updates ") << op.getBucketAttr() << " a second time";
    if (!bucket.getOptimizer())
      return op.emitOpError("updates ") << op.getBucketAttr() << ", which has no optimizer";
    auto optimizer = symbolTable.lookup<train::OptimizerOp>(bucket.getOptimizerAttr().getAttr());
    if (optimizer && optimizer.getTrustRatio().has_value() != op.getNorms().has_value())
      return op.emitOpError() << (op.getNorms() ? "has norms, which " : "has no norms, which ") << bucket.getOptimizerAttr() << (op.getNorms() ? " does not take" : " takes");
    if (op.getNorms() && (!measured.contains(op.getNormsAttr()) || measured.lookup(op.getNormsAttr()).getBucketAttr() != op.getBucketAttr()))
      return op.emitOpError("takes ") << op.getNormsAttr() << ", which no plan.parameter_norms of " << op.getBucketAttr() << " has measured";
    Type stateType = getStateType(bucket);
    if (optimizer && optimizer.getNewtonSchulz() && !op.getGradient())
      return op.emitOpError("has no matrices of Newton-Schulz iterations, which ") << bucket.getOptimizerAttr() << " takes";
    return verifyUpdate(op, placed, bucket, op.getNorms() ? SmallVector<Type>(2, stateType) : SmallVector<Type>());
  }

  LogicalResult verifyOp(plan::ParameterNormsOp op) {
    plan::PlacedBucketOp placed = symbols.placedBuckets.lookup(op.getBucketAttr().getAttr());
    auto bucket = symbolTable.lookup<zero::BucketOp>(op.getBucketAttr().getAttr());
    if (!bucket.getOptimizer())
      return op.emitOpError("measures ") << op.getBucketAttr() << ", which has no optimizer";
    if (op.getWords().has_value() != isOnGpu())
      return op.emitOpError(isOnGpu() ? "has no words, which target " : "has words, which target ") << target.getTarget() << (isOnGpu() ? " sums in" : " does not have");
    const int64_t segments = bucket.getSegments().size();
    const int64_t part = bucket.getOptimizerPlacement() == zero::Placement::sharded ? placed.getSlice() : placed.getPadded();
    if (op.getWords() && failed(expectBuffer(op, op.getWordsAttr(), 4 * segments * runtime::ExactSum::kWords * sizeof(int64_t), "the words of four sums a segment", /*persistent=*/false)))
      return failure();
    if (failed(expectBuffer(op, op.getWorkspaceAttr(), 2 * part / zero::kBlockElements * sizeof(double), "two sums a block", /*persistent=*/false)) ||
        failed(expectBuffer(op, op.getNormsAttr(), 2 * segments * getBytes(getStateType(bucket)), "two norms a segment", /*persistent=*/false)))
      return failure();
    measured[op.getNormsAttr()] = op;
    return verifyUpdate(op, placed, bucket, SmallVector<Type>(2, Float64Type::get(op.getContext())));
  }

  /// Of masters and slots.
  Type getStateType(zero::BucketOp bucket) {
    return symbolTable.lookup<train::StateOp>(cast<zero::SegmentAttr>(bucket.getSegments()[0]).getParameter().getAttr()).getTensorType().getElementType();
  }

  /// What plan.update and plan.parameter_norms have in common; `norms` are the types of the arrays behind the slots.
  template <typename UpdateLike>
  LogicalResult verifyUpdate(UpdateLike op, plan::PlacedBucketOp placed, zero::BucketOp bucket, ArrayRef<Type> norms) {
    if (op.getDecays().size() != bucket.getSegments().size())
      return op.emitOpError("has ") << op.getDecays().size() << " decays for " << bucket.getSegments().size() << " segments";
    if (op.getRates() && op.getRates()->size() != bucket.getSegments().size())
      return op.emitOpError("has ") << op.getRates()->size() << " rates for " << bucket.getSegments().size() << " segments";
    bool updatesWhole = bucket.getOptimizerPlacement() == zero::Placement::replicated;
    auto optimizer = symbolTable.lookup<train::OptimizerOp>(bucket.getOptimizerAttr().getAttr());
    if (optimizer && optimizer.getCyclesMomentum() != op.getMomentum().has_value())
      return op.emitOpError() << (op.getMomentum() ? "has a momentum, which " : "has no momentum, which ") << bucket.getOptimizerAttr() << (op.getMomentum() ? " does not take" : " takes");
    Type gradientType = optimizer && optimizer.getNewtonSchulz() ? getStateType(bucket) : *placed.getGradientType();
    if (op.getGradient()) {
      if (failed(expectBuffer(op, op.getGradientAttr(), placed.getPadded() * getBytes(gradientType), "the gathered gradient", /*persistent=*/false)))
        return failure();
    } else if (updatesWhole && !placed.getGradientWhole()) {
      return op.emitOpError("updates the whole of ") << op.getBucketAttr() << " from a slice of its gradient";
    }
    SmallVector<Type> expected = {gradientType, bucket.getComputeType()};
    expected.append(placed.getSlots().size() + (placed.getMaster() ? 1 : 0), getStateType(bucket));
    expected.append(norms.begin(), norms.end());
    ArrayRef<Type> types = symbols.kernels.lookup(op.getKernelAttr().getAttr()).getFunctionType().getInputs();
    // Behind the arrays: scale, lr, step, finite, the momentum where it cycles, decay, the rate where there is one, and the range of blocks.
    const size_t scalars = op.getMomentum() ? 5 : 4, count = expected.size() + scalars + (op.getRates() ? 4 : 3);
    if (types.size() != count)
      return op.emitOpError("runs ") << op.getKernelAttr() << " of " << types.size() << " arguments, but expects " << count;
    for (size_t index = expected.size() + scalars; index + 2 < count; ++index)
      if (isa<FloatType>(types[index]) != isOnGpu())
        return op.emitOpError("runs ") << op.getKernelAttr() << ", which takes the decay as " << types[index];
    for (auto [index, type] : llvm::enumerate(expected))
      if (!isa<MemRefType>(types[index]) || cast<MemRefType>(types[index]).getElementType() != type)
        return op.emitOpError("gives ") << type << " as argument " << index << " to " << op.getKernelAttr() << ", which takes " << types[index];
    return success();
  }

  /// What holds for the step as a whole.
  LogicalResult verifyStep() {
    for (auto bucket : module.getOps<zero::BucketOp>()) {
      StringAttr name = bucket.getSymNameAttr();
      plan::UpdateOp update = updated.lookup(name);
      if (bucket.getOptimizer() && !update)
        return bucket.emitOpError("is never updated");
      bool needsPublishing = update && target.getWorldSize() > 1 && bucket.getParameterPlacement() == zero::Placement::replicated && bucket.getOptimizerPlacement() == zero::Placement::sharded;
      if (!needsPublishing)
        continue;
      plan::AllGatherOp gather = published.lookup(name);
      if (!gather || gather->getBlock() != update->getBlock() || gather->isBeforeInBlock(update))
        return update.emitOpError("updates slices of ") << update.getBucketAttr() << ", which are not gathered afterwards";
    }
    return success();
  }

  const DenseMap<StringAttr, plan::PlacedBucketOp> &getPlacedByGradient() {
    if (placedByGradient.empty())
      for (auto &[name, placed] : symbols.placedBuckets)
        if (placed.getGradient())
          placedByGradient[placed.getGradientAttr().getAttr()] = placed;
    return placedByGradient;
  }

  ModuleOp module;
  SymbolTable symbolTable;
  PlanSymbols symbols;
  plan::TargetOp target;
  DenseMap<StringAttr, PlacedBuffer> buffers;
  PlanMemory memory;
  DenseMap<Operation *, SmallVector<bool>> storedArguments;
  DenseMap<StringAttr, plan::PlacedBucketOp> placedByGradient;
  DenseMap<StringAttr, plan::UpdateOp> updated;
  DenseMap<Attribute, plan::ParameterNormsOp> measured; // by their norms
  DenseMap<StringAttr, plan::AllGatherOp> published;
};

struct VerifyPlanPass : zopt::impl::VerifyPlanBase<VerifyPlanPass> {
  void runOnOperation() override {
    if (failed(mlir::verify(getOperation())))
      return signalPassFailure();
    if (failed(PlanVerifier(getOperation()).verify()))
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
