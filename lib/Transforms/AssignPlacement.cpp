//===- AssignPlacement.cpp - parameters into buckets ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A bucket is what is gathered, reduced and updated together. Its parameters neighbour one another in the order of use, so that it is needed for a short time; nothing else about the order matters.
//
//===----------------------------------------------------------------------===//

#include "ParameterUses.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

namespace zopt {
#define GEN_PASS_DEF_ASSIGNPLACEMENT
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

constexpr int64_t kLargestAutomaticBucket = int64_t(64) << 20;

struct Parameter {
  train::StateOp state;
  Type computeType;            // as functions read it
  Type gradientType;           // null where there is no gradient
  FlatSymbolRefAttr optimizer; // null where there is no update
  int64_t firstUse = std::numeric_limits<int64_t>::max(); // indices in the sequence of all uses
  int64_t lastForwardUse = -1;
  Value multiplies; // what the product of the first use has on the other side; null where that is no product
  size_t order = 0;        // of its state in the module
  int64_t bytesBefore = 0; // of the parameters that are used first before this one

  bool isTrained() const { return gradientType || optimizer; }
  int64_t getElements() { return state.getTensorType().getNumElements(); }
  int64_t getBytes() { return getElements() * (computeType.getIntOrFloatBitWidth() / 8); }
};

/// Matrices with at least this many rows, and not a multiple of this many, get room for more.
constexpr int64_t kPaddedRows = 1024, kRowMultiple = 64;

/// What the parameters of a bucket have in common.
using BucketKey = std::tuple<Type, Type, Type, Attribute, int /*whether parameters stay replicated*/>;

struct Bucket {
  SmallVector<Parameter *> parameters;
  bool persistent = false;
};

struct AssignPlacementPass : zopt::impl::AssignPlacementBase<AssignPlacementPass> {
  using AssignPlacementBase::AssignPlacementBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (stage < 0 || stage > 3)
      return fail(module.emitError("stage is ") << int64_t(stage) << ", but expects 0 to 3");
    func::FuncOp function = getMicroStep(module);
    if (!function)
      return fail(module.emitError("expects a function @micro_step or @forward"));
    if (!module.getOps<zero::BucketOp>().empty())
      return fail(module.emitError("has buckets already"));

    if (failed(collectParameters(module, function)))
      return signalPassFailure();
    FailureOr<int64_t> limit = getBucketBytes(module);
    if (failed(limit))
      return signalPassFailure();
    createBuckets(module, function, formBuckets(*limit));
  }

private:
  void fail(InFlightDiagnostic &&) { signalPassFailure(); }

  /// Fills `parameters`, in order of first use (those without a use last, in the order of their states).
  LogicalResult collectParameters(ModuleOp module, func::FuncOp function) {
    parameters.clear();
    llvm::MapVector<StringAttr, Parameter> found;
    for (auto state : module.getOps<train::StateOp>())
      if (state.getRole() == train::Role::parameter && isa<FloatType>(state.getTensorType().getElementType()))
        found[state.getSymNameAttr()].state = state;

    auto setType = [&](Type &slot, Type type, Operation *op, StringAttr name, StringRef what) -> LogicalResult {
      if (slot && slot != type)
        return op->emitOpError("makes ") << what << " of '" << name.getValue() << "' " << type << ", but it is " << slot << " elsewhere";
      slot = type;
      return success();
    };
    WalkResult walk = module.walk([&](Operation *op) -> WalkResult {
      if (auto read = dyn_cast<train::ReadStateOp>(op)) {
        auto it = found.find(read.getStateAttr().getAttr());
        if (it != found.end())
          return setType(it->second.computeType, read.getType().getElementType(), op, it->first, "the compute type");
      } else if (auto accumulate = dyn_cast<train::AccumulateOp>(op)) {
        auto it = found.find(accumulate.getStateAttr().getAttr());
        if (it != found.end())
          return setType(it->second.gradientType, cast<RankedTensorType>(accumulate.getValue().getType()).getElementType(), op, it->first, "the gradient type");
      } else if (auto update = dyn_cast<train::UpdateOp>(op)) {
        auto it = found.find(update.getParameterAttr().getAttr());
        if (it != found.end())
          it->second.optimizer = update.getOptimizerAttr();
      }
      return WalkResult::advance();
    });
    if (walk.wasInterrupted())
      return failure();

    ParameterUses uses(function, [&](StringAttr name) { return found.contains(name); });
    for (auto [index, use] : llvm::enumerate(uses.getUses()))
      for (StringAttr name : use.names) {
        Parameter &parameter = found[name];
        if (parameter.firstUse > int64_t(index)) {
          parameter.firstUse = index;
          if (auto product = dyn_cast<train::MatmulOp>(use.operand->getOwner()))
            parameter.multiplies = product.getLhs();
        }
        if (use.position < uses.getBackwardPosition())
          parameter.lastForwardUse = index;
      }

    for (auto &[name, parameter] : found) {
      if (!parameter.computeType)
        parameter.computeType = parameter.state.getTensorType().getElementType();
      if (parameter.optimizer && !parameter.gradientType)
        parameter.gradientType = parameter.computeType;
      parameter.order = parameters.size();
      parameters.push_back(parameter);
    }
    llvm::sort(parameters, [](const Parameter &a, const Parameter &b) { return std::tie(a.firstUse, a.order) < std::tie(b.firstUse, b.order); });
    int64_t bytes = 0;
    for (Parameter &parameter : parameters) {
      parameter.bytesBefore = bytes;
      bytes += parameter.getBytes();
    }
    return success();
  }

  FailureOr<int64_t> getBucketBytes(ModuleOp module) {
    if (bucketBytes == "auto") {
      int64_t total = 0;
      for (Parameter &parameter : parameters)
        total += parameter.getBytes();
      return std::max<int64_t>(1, std::min(kLargestAutomaticBucket, total / 8));
    }
    int64_t bytes;
    if (StringRef(bucketBytes).getAsInteger(10, bytes) || bytes <= 0)
      return module.emitError("bucket-bytes is '") << std::string(bucketBytes) << "', but expects auto or a positive number";
    return bytes;
  }

  SmallVector<Bucket> formBuckets(int64_t limit) {
    SmallVector<Bucket> buckets;
    struct Open {
      int64_t bucket = -1; // index in `buckets`
      int64_t bytes = 0;
    };
    DenseMap<BucketKey, Open> open;

    // Bytes of parameters that are used first between `parameter`'s first and last use in forward: found by position, as parameters are sorted by first use.
    auto bytesBetweenUses = [&](Parameter &parameter) {
      auto after = llvm::partition_point(parameters, [&](Parameter &other) { return other.firstUse <= parameter.lastForwardUse; });
      int64_t end = after == parameters.end() ? parameters.back().bytesBefore + parameters.back().getBytes() : after->bytesBefore;
      return end - parameter.bytesBefore - parameter.getBytes();
    };

    // Bytes that should have room where `parameter` goes: of all that multiply the same value, at the first of them, where one bucket takes them. As neighbours they are one matrix.
    auto bytesTogether = [&](Parameter &parameter) {
      int64_t bytes = parameter.getBytes();
      if (!parameter.multiplies || (&parameter != parameters.begin() && (&parameter)[-1].multiplies == parameter.multiplies))
        return bytes;
      for (Parameter *next = &parameter + 1; next != parameters.end() && next->multiplies == parameter.multiplies && bytes <= limit; ++next)
        bytes += next->getBytes();
      return bytes <= limit ? bytes : parameter.getBytes();
    };

    for (Parameter &parameter : parameters) {
      bool persistent = stage == 3 && parameter.getBytes() <= persistBytes;
      BucketKey key{parameter.computeType, parameter.gradientType, parameter.state.getTensorType().getElementType(), parameter.optimizer, persistent};
      Open &current = open[key];
      bool alone = parameter.getBytes() > limit || (parameter.lastForwardUse >= 0 && bytesBetweenUses(parameter) > limit);
      if (alone || current.bucket < 0 || current.bytes + bytesTogether(parameter) > limit) {
        current = {static_cast<int64_t>(buckets.size()), 0};
        buckets.push_back({{}, persistent});
      }
      buckets[current.bucket].parameters.push_back(&parameter);
      current.bytes += parameter.getBytes();
      if (alone)
        current.bucket = -1;
    }
    return buckets;
  }

  void createBuckets(ModuleOp module, func::FuncOp function, ArrayRef<Bucket> buckets) {
    OpBuilder builder(function);
    // Above the functions, below the states that buckets name.
    for (Operation &op : *module.getBody())
      if (isa<func::FuncOp>(op)) {
        builder.setInsertionPoint(&op);
        break;
      }
    if (!module.lookupSymbol("data"))
      zero::GroupOp::create(builder, module.getLoc(), "data");

    using zero::Placement;
    for (auto [index, bucket] : llvm::enumerate(buckets)) {
      Parameter &first = *bucket.parameters.front();
      bool trained = first.isTrained();
      Placement parameterPlacement = stage >= 3 && !bucket.persistent ? Placement::sharded : Placement::replicated;
      Placement gradientPlacement = stage >= 2 && trained ? Placement::sharded : Placement::replicated;
      Placement optimizerPlacement = stage >= 1 && trained ? Placement::sharded : Placement::replicated;
      SmallVector<Attribute> segments;
      int64_t offset = 0;
      for (Parameter *parameter : bucket.parameters) {
        offset = llvm::alignTo(offset, zero::kBlockElements);
        segments.push_back(zero::SegmentAttr::get(&getContext(), FlatSymbolRefAttr::get(parameter->state.getSymNameAttr()), offset, parameter->getElements(), getReserved(*parameter)));
        offset = cast<zero::SegmentAttr>(segments.back()).getEnd();
      }
      zero::BucketOp::create(builder, first.state.getLoc(), llvm::formatv("bucket{0}", index).str(), "data", parameterPlacement, gradientPlacement, optimizerPlacement, first.computeType,
                             trained ? first.gradientType : first.computeType, first.optimizer, builder.getArrayAttr(segments), /*frozen=*/!trained);
    }
  }

  /// Libraries run at a fifth of their speed on products with an odd axis: a table of 50257 rows gets zeros for 47 more, which no value depends on.
  static int64_t getReserved(Parameter &parameter) {
    ArrayRef<int64_t> shape = parameter.state.getTensorType().getShape();
    if (shape.size() != 2 || shape[0] < kPaddedRows)
      return 0;
    return (llvm::alignTo(shape[0], kRowMultiple) - shape[0]) * shape[1];
  }

  SmallVector<Parameter> parameters;
};

} // namespace
