//===- PlanToProgram.cpp - from a final plan to plain data ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Conversion/PlanToProgram.h"
#include "LowerKernels.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;
using runtime::Command;
using runtime::DataType;

namespace {

class Converter {
public:
  Converter(ModuleOp module, runtime::Program &program) : module(module), program(program) {}
  LogicalResult run();

private:
  LogicalResult convertTarget();
  LogicalResult convertBuffers();
  LogicalResult convertStates();
  LogicalResult convertBuckets();
  LogicalResult convertCommand(Operation *op, runtime::Sequence &sequence);

  DataType dataType(Type type, Operation *op);
  runtime::BufferId buffer(FlatSymbolRefAttr symbol, Operation *op) { return lookUp(buffers, symbol, op, "plan.buffer"); }
  int32_t lookUp(const llvm::StringMap<int32_t> &table, FlatSymbolRefAttr symbol, Operation *op, StringRef kind);
  template <typename AttentionLike>
  void convertAttention(AttentionLike op, runtime::Command &command);
  template <typename UpdateLike>
  void convertUpdate(UpdateLike op, runtime::Command &command);
  runtime::MatmulOperand operand(plan::MatmulOperandAttr attribute, Operation *op);
  std::string stringAttribute(StringRef name, StringRef otherwise);
  int64_t integerAttribute(StringRef name, int64_t otherwise);

  ModuleOp module;
  runtime::Program &program;
  llvm::StringMap<int32_t> arenas, buffers, files, states, buckets, kernels;
  bool failedAny = false;
};

/// The name in a location chain that a user knows: the ONNX node's.
std::string locationName(Location loc) {
  std::string name;
  loc->walk([&](Location inner) {
    if (auto named = dyn_cast<NameLoc>(inner)) {
      name = named.getName().str();
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return name;
}
} // namespace

DataType Converter::dataType(Type type, Operation *op) {
  if (type.isF32())
    return DataType::F32;
  if (type.isBF16())
    return DataType::BF16;
  if (type.isF16())
    return DataType::F16;
  if (type.isF64())
    return DataType::F64;
  if (type.isInteger(1))
    return DataType::Bool;
  if (type.isInteger(64))
    return type.isUnsignedInteger() ? DataType::U64 : DataType::I64;
  if (type.isInteger(32))
    return type.isUnsignedInteger() ? DataType::U32 : DataType::I32;
  if (type.isInteger(16))
    return type.isUnsignedInteger() ? DataType::U16 : DataType::I16;
  if (type.isInteger(8))
    return type.isUnsignedInteger() ? DataType::U8 : DataType::I8;
  op->emitError("element type ") << type << " cannot be run";
  failedAny = true;
  return DataType::F32;
}

int32_t Converter::lookUp(const llvm::StringMap<int32_t> &table, FlatSymbolRefAttr symbol, Operation *op, StringRef kind) {
  auto it = table.find(symbol.getValue());
  if (it != table.end())
    return it->second;
  op->emitOpError("refers to ") << symbol << ", which is no " << kind;
  failedAny = true;
  return -1;
}

std::string Converter::stringAttribute(StringRef name, StringRef otherwise) {
  auto attribute = module->getAttrOfType<StringAttr>(name);
  return attribute ? attribute.str() : otherwise.str();
}

int64_t Converter::integerAttribute(StringRef name, int64_t otherwise) {
  auto attribute = module->getAttrOfType<IntegerAttr>(name);
  return attribute ? attribute.getInt() : otherwise;
}

LogicalResult Converter::convertTarget() {
  auto targets = module.getOps<plan::TargetOp>();
  if (std::distance(targets.begin(), targets.end()) != 1)
    return module.emitError("a final plan has one plan.target, but got ") << std::distance(targets.begin(), targets.end());
  plan::TargetOp target = *targets.begin();
  program.target = target.getTarget().str();
  program.cpu = target.getCpu().str();
  program.features = target.getFeatures().str();
  for (auto library : target.getLibraries().getAsRange<StringAttr>())
    program.libraries.push_back(library.str());
  program.worldSize = target.getWorldSize();
  program.threads = target.getThreads();
  program.microBatch = target.getMicroBatch();
  program.accumSteps = target.getAccumSteps();
  program.model = stringAttribute("train.model", "");
  program.mode = stringAttribute("train.mode", "train");
  program.lossAverageGlobal = stringAttribute("train.loss_average", "global") == "global";
  program.sequenceLength = integerAttribute("train.sequence_length", 0);
  program.flops = integerAttribute("train.flops", 0);
  if (auto rate = module->getAttrOfType<FloatAttr>("train.learning_rate"))
    program.learningRate = rate.getValueAsDouble();
  program.schedule = stringAttribute("train.schedule", "");
  for (auto [name, settings] : {std::pair("train.compiled", &program.compiled), std::pair("train.run", &program.run)})
    if (auto dictionary = module->getAttrOfType<DictionaryAttr>(name))
      for (NamedAttribute entry : dictionary)
        if (auto text = dyn_cast<StringAttr>(entry.getValue()))
          (*settings)[entry.getName().str()] = text.str();
  if (auto peak = module->getAttrOfType<DictionaryAttr>("plan.peak_by_class"))
    for (NamedAttribute entry : peak)
      program.peakByClass.push_back({entry.getName().str(), cast<IntegerAttr>(entry.getValue()).getInt()});
  return success();
}

LogicalResult Converter::convertBuffers() {
  for (auto arena : module.getOps<plan::ArenaOp>()) {
    arenas[arena.getSymName()] = program.arenas.size();
    program.arenas.push_back({arena.getSymName().str(), runtime::Tier(arena.getTier()), (int64_t)arena.getBytes()});
  }
  for (auto op : module.getOps<plan::BufferOp>()) {
    buffers[op.getSymName()] = program.buffers.size();
    runtime::Buffer buffer;
    buffer.name = op.getSymName().str();
    buffer.arena = lookUp(arenas, op.getArenaAttr(), op, "plan.arena");
    buffer.offset = op.getOffset();
    buffer.bytes = op.getBytes();
    buffer.rankStride = op.getRankStride();
    buffer.memoryClass = runtime::MemoryClass(op.getMemoryClass());
    buffer.persistent = op.getPersistent();
    program.buffers.push_back(std::move(buffer));
  }
  for (auto kernel : module.getOps<plan::KernelOp>()) {
    kernels[kernel.getSymName()] = program.kernels.size();
    program.kernels.push_back({getKernelSymbol(kernel.getSymName()), static_cast<int32_t>(kernel.getBlockThreads().value_or(0)), static_cast<int32_t>(kernel.getBlockIterations().value_or(1)),
                               static_cast<int32_t>(getDynamicSharedBytes(kernel))});
  }
  for (auto op : module.getOps<plan::InputOp>()) {
    runtime::Input input;
    auto type = cast<RankedTensorType>(op.getType());
    input.name = op.getTensorName().value_or(op.getSymName()).str();
    input.kind = runtime::InputKind(op.getKind());
    input.type = dataType(type.getElementType(), op);
    input.shape = type.getShape();
    input.buffer = buffer(op.getBufferAttr(), op);
    input.limit = op.getLimit();
    if (std::optional<uint64_t> ignore = op.getIgnoreIndex()) {
      input.hasIgnoreIndex = true;
      input.ignoreIndex = *ignore;
    }
    program.inputs.push_back(std::move(input));
  }
  for (auto op : module.getOps<plan::OutputOp>()) {
    auto type = cast<RankedTensorType>(op.getType());
    program.outputs.push_back({op.getTensorName().value_or(op.getSymName()).str(), dataType(type.getElementType(), op), type.getShape().vec(), buffer(op.getBufferAttr(), op)});
  }
  return success();
}

LogicalResult Converter::convertStates() {
  for (auto file : module.getOps<train::WeightFileOp>()) {
    files[file.getSymName()] = program.weightFiles.size();
    program.weightFiles.push_back({file.getPath().str(), (int64_t)file.getSize(), file.getFingerprint().str()});
  }
  for (auto op : module.getOps<train::StateOp>()) {
    runtime::State state;
    RankedTensorType type = op.getTensorType();
    state.name = op.getSymName().str();
    state.role = runtime::Role(op.getRole());
    state.type = dataType(type.getElementType(), op);
    state.shape = type.getShape();
    state.trained = op.getTrained();
    state.noDecay = op.getNoDecay();
    if (auto weight = dyn_cast_or_null<train::WeightAttr>(op.getInitAttr())) {
      state.init.file = lookUp(files, weight.getFile(), op, "train.weight_file");
      state.init.offset = weight.getOffset();
      state.init.bytes = weight.getBytes();
      state.init.type = dataType(weight.getElementType(), op);
    } else if (auto splat = dyn_cast_or_null<FloatAttr>(op.getInitAttr())) {
      state.init.splat = splat.getValueAsDouble();
    } else if (auto integer = dyn_cast_or_null<IntegerAttr>(op.getInitAttr())) {
      state.init.splat = integer.getInt();
    } else if (op.getInitAttr()) {
      return op.emitOpError("has an initial value that cannot be run: ") << op.getInitAttr();
    }
    state.sourceName = op.getSourceName().value_or("").str();
    if (std::optional<ArrayRef<int64_t>> permutation = op.getSourcePermutation())
      state.sourcePermutation = permutation->vec();
    if (ArrayAttr tied = op.getTiedAttr())
      for (auto name : tied.getAsRange<StringAttr>())
        state.tied.push_back(name.str());
    states[op.getSymName()] = program.states.size();
    program.states.push_back(std::move(state));
  }
  for (auto placed : module.getOps<plan::PlacedStateOp>()) {
    int32_t state = lookUp(states, placed.getStateAttr(), placed, "train.state");
    if (state >= 0)
      program.states[state].buffer = buffer(placed.getBufferAttr(), placed);
  }
  return success();
}

LogicalResult Converter::convertBuckets() {
  llvm::StringMap<zero::BucketOp> logical;
  for (auto bucket : module.getOps<zero::BucketOp>())
    logical[bucket.getSymName()] = bucket;
  for (auto placed : module.getOps<plan::PlacedBucketOp>()) {
    zero::BucketOp op = logical.lookup(placed.getBucket());
    if (!op)
      return placed.emitOpError("refers to ") << placed.getBucketAttr() << ", which is no zero.bucket";
    int32_t index = program.buckets.size();
    buckets[placed.getBucket()] = index;
    runtime::Bucket bucket;
    bucket.name = placed.getBucket().str();
    bucket.paddedElements = placed.getPadded();
    bucket.sliceElements = placed.getSlice();
    bucket.computeType = dataType(op.getComputeType(), op);
    bucket.parametersSharded = op.getParameterPlacement() == zero::Placement::sharded;
    bucket.optimizerSharded = op.getOptimizerPlacement() == zero::Placement::sharded;
    bucket.gradientWhole = placed.getGradientWhole();
    bucket.trained = op.getOptimizer().has_value();
    bucket.parameters = buffer(placed.getParametersAttr(), placed);
    if (placed.getMasterAttr())
      bucket.master = buffer(placed.getMasterAttr(), placed);
    if (placed.getGradientAttr())
      bucket.gradient = buffer(placed.getGradientAttr(), placed);
    bucket.gradientType = dataType(placed.getGradientType().value_or(op.getGradientType()), placed);
    for (auto slot : placed.getSlots().getAsRange<FlatSymbolRefAttr>())
      bucket.slots.push_back(buffer(slot, placed));
    if (op.getOptimizerAttr())
      if (auto optimizer = SymbolTable::lookupNearestSymbolFrom<train::OptimizerOp>(module, op.getOptimizerAttr()))
        for (auto slot : optimizer.getSlots().getAsRange<StringAttr>())
          bucket.slotNames.push_back(slot.str());
    bool first = true;
    for (auto segment : op.getSegments().getAsRange<zero::SegmentAttr>()) {
      int32_t parameter = lookUp(states, segment.getParameter(), op, "train.state");
      if (parameter < 0)
        continue;
      program.states[parameter].bucket = index;
      program.states[parameter].offset = segment.getOffset();
      if (first)
        bucket.masterType = program.states[parameter].type;
      first = false;
      // Optimizer states share their parameter's place, each in the slot's buffer.
      for (auto &slot : bucket.slotNames) {
        auto it = states.find((segment.getParameter().getValue() + "." + slot).str());
        if (it != states.end()) {
          program.states[it->second].bucket = index;
          program.states[it->second].offset = segment.getOffset();
        }
      }
    }
    program.buckets.push_back(std::move(bucket));
  }
  return success();
}

runtime::MatmulOperand Converter::operand(plan::MatmulOperandAttr attribute, Operation *op) {
  return {dataType(attribute.getElementType(), op), attribute.getShape().asArrayRef().vec(), attribute.getStrides().asArrayRef().vec()};
}

template <typename AttentionLike>
void Converter::convertAttention(AttentionLike op, Command &command) {
  for (auto symbol : op.getBuffers().template getAsRange<FlatSymbolRefAttr>())
    command.buffers.push_back(buffer(symbol, op));
  if (!op.getHasMask())
    command.buffers.push_back(-1);
  command.buffers.push_back(op.getScratchAttr() ? buffer(op.getScratchAttr(), op) : -1);
  command.byteOffsets = op.getByteOffsets().vec();
  command.byteOffsets.resize(command.buffers.size(), 0);
  for (auto tensor : op.getTensors().template getAsRange<plan::MatmulOperandAttr>())
    command.tensors.push_back(operand(tensor, op));
  command.scale = op.getScale().convertToDouble();
  command.causal = op.getCausal();
  if constexpr (std::is_same_v<AttentionLike, plan::AttentionGradOp>)
    command.ownKernels = op.getOwnKernels();
}

template <typename UpdateLike>
void Converter::convertUpdate(UpdateLike op, Command &command) {
  command.kernel = lookUp(kernels, op.getKernelAttr(), op, "plan.kernel");
  command.buckets.push_back(lookUp(buckets, op.getBucketAttr(), op, "plan.placed_bucket"));
  for (FlatSymbolRefAttr scalar : {op.getScaleAttr(), op.getLrAttr(), op.getStepAttr(), op.getFiniteAttr()})
    command.buffers.push_back(buffer(scalar, op));
  if (FlatSymbolRefAttr gradient = op.getGradientAttr())
    command.buffers.push_back(buffer(gradient, op));
  if (FlatSymbolRefAttr momentum = op.getMomentumAttr()) {
    command.buffers.resize(5, -1);
    command.buffers.push_back(buffer(momentum, op));
  }
  command.decays = op.getDecays().vec();
  if (std::optional<ArrayRef<double>> rates = op.getRates())
    command.rates = rates->vec();
}

LogicalResult Converter::convertCommand(Operation *op, runtime::Sequence &sequence) {
  Command command;
  command.location = locationName(op->getLoc());
  auto refs = [&](std::initializer_list<FlatSymbolRefAttr> symbols) {
    for (FlatSymbolRefAttr symbol : symbols)
      command.buffers.push_back(symbol ? buffer(symbol, op) : -1);
  };
  auto labelled = [&](StringRef label, int64_t id) {
    command.location = label.str();
    command.id = id;
  };
  LogicalResult known = llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](plan::LaunchOp launch) {
        command.kind = Command::Kind::Launch;
        command.kernel = lookUp(kernels, launch.getKernelAttr(), op, "plan.kernel");
        for (auto symbol : launch.getBuffers().getAsRange<FlatSymbolRefAttr>())
          command.buffers.push_back(buffer(symbol, op));
        command.byteOffsets = launch.getByteOffsets().vec();
        command.writes.assign(launch.getWrites().begin(), launch.getWrites().end());
        command.extent = launch.getExtent();
        command.grain = launch.getGrain();
        return success();
      })
      .Case([&](plan::MatmulOp matmul) {
        command.kind = Command::Kind::Matmul;
        refs({matmul.getLhsAttr(), matmul.getRhsAttr(), matmul.getOutAttr(), matmul.getBiasAttr(), matmul.getScratchAttr(), matmul.getAuxAttr(), matmul.getBiasGradientAttr(), matmul.getAddendAttr()});
        command.byteOffsets = matmul.getByteOffsets().vec();
        if (command.byteOffsets.size() == 7)
          command.byteOffsets.insert(command.byteOffsets.begin() + 4, 0); // the scratch's
        command.epilogue = runtime::Epilogue(matmul.getEpilogue());
        command.biasGradient = runtime::BiasGradient(matmul.getBiasGradientKind());
        if (std::optional<uint64_t> algorithm = matmul.getAlgorithm())
          command.algorithm = *algorithm;
        if (auto aux = matmul.getAuxOperand())
          command.aux = operand(*aux, op);
        command.scale = matmul.getScale().convertToDouble();
        command.lhs = operand(matmul.getLhsOperand(), op);
        command.rhs = operand(matmul.getRhsOperand(), op);
        command.out = operand(matmul.getOutOperand(), op);
        if (auto bias = matmul.getBiasOperand())
          command.bias = operand(*bias, op);
        return success();
      })
      .Case([&](plan::AttentionOp attention) {
        command.kind = Command::Kind::Attention;
        convertAttention(attention, command);
        return success();
      })
      .Case([&](plan::AttentionGradOp attention) {
        command.kind = Command::Kind::AttentionGrad;
        convertAttention(attention, command);
        return success();
      })
      .Case([&](plan::ConvolutionOp convolution) {
        command.kind = Command::Kind::Convolution;
        for (auto symbol : convolution.getBuffers().getAsRange<FlatSymbolRefAttr>())
          command.buffers.push_back(buffer(symbol, op));
        command.buffers.resize(4, -1);
        refs({convolution.getScratchAttr()});
        command.byteOffsets = convolution.getByteOffsets().vec();
        command.byteOffsets.resize(command.buffers.size(), 0);
        for (auto tensor : convolution.getTensors().getAsRange<plan::MatmulOperandAttr>())
          command.tensors.push_back(operand(tensor, op));
        command.convolution = {runtime::Convolution::Kind(convolution.getKind()), convolution.getStrides().vec(), convolution.getDilations().vec(), convolution.getPads().vec(), (int64_t)convolution.getGroups()};
        return success();
      })
      .Case([&](plan::CopyOp copy) {
        command.kind = Command::Kind::Copy;
        refs({copy.getSourceAttr(), copy.getDestinationAttr()});
        command.byteOffsets = {(int64_t)copy.getSourceOffset(), (int64_t)copy.getDestinationOffset()};
        command.bytes = copy.getBytes();
        return success();
      })
      .Case([&](plan::ZeroOp zero) {
        command.kind = Command::Kind::Zero;
        refs({zero.getBufferAttr()});
        command.byteOffsets = {(int64_t)zero.getOffset()};
        command.bytes = zero.getBytes();
        command.firstMicroStep = zero.getFirstMicroStep();
        return success();
      })
      .Case([&](plan::AllGatherOp gather) {
        command.kind = Command::Kind::AllGather;
        labelled(gather.getLabel(), gather.getId());
        refs({gather.getSourceAttr(), gather.getDestinationAttr()});
        command.bytes = gather.getBytesPerRank();
        return success();
      })
      .Case([&](plan::ReduceScatterOp reduce) {
        command.kind = Command::Kind::ReduceScatter;
        labelled(reduce.getLabel(), reduce.getId());
        refs({reduce.getSourceAttr(), reduce.getDestinationAttr(), reduce.getWorkspaceAttr()});
        command.elements = reduce.getElementsPerRank();
        command.type = dataType(reduce.getSourceType(), op);
        command.destinationType = dataType(reduce.getDestinationType(), op);
        command.accumulate = reduce.getAccumulate();
        return success();
      })
      .Case([&](plan::AllReduceOp reduce) {
        command.kind = Command::Kind::AllReduce;
        labelled(reduce.getLabel(), reduce.getId());
        refs({reduce.getBufferAttr(), reduce.getWorkspaceAttr()});
        command.elements = reduce.getElementsPerRank();
        command.type = command.destinationType = dataType(reduce.getType(), op);
        return success();
      })
      .Case([&](plan::AllReduceScalarsOp reduce) {
        command.kind = Command::Kind::AllReduceScalars;
        labelled(reduce.getLabel(), 0);
        refs({reduce.getSourceAttr(), reduce.getDestinationAttr()});
        command.elements = reduce.getCount();
        command.type = command.destinationType = dataType(reduce.getType(), op);
        return success();
      })
      .Case([&](plan::WaitOp wait) {
        command.kind = Command::Kind::Wait;
        command.id = wait.getId();
        return success();
      })
      .Case([&](plan::GradientNormOp norm) {
        command.kind = Command::Kind::GradientNorm;
        for (auto symbol : norm.getBuckets().getAsRange<FlatSymbolRefAttr>())
          command.buckets.push_back(lookUp(buckets, symbol, op, "plan.placed_bucket"));
        for (auto symbol : norm.getKernels().getAsRange<FlatSymbolRefAttr>())
          command.kernels.push_back(lookUp(kernels, symbol, op, "plan.kernel"));
        refs({norm.getWorkspaceAttr(), norm.getNormAttr()});
        if (norm.getWords()) {
          refs({norm.getWordsAttr()});
          command.kernels.push_back(lookUp(kernels, norm.getFinishAttr(), op, "plan.kernel"));
        }
        command.type = dataType(norm.getType(), op);
        return success();
      })
      .Case([&](plan::ParameterNormsOp norms) {
        command.kind = Command::Kind::ParameterNorms;
        convertUpdate(norms, command);
        command.norms = {buffer(norms.getNormsAttr(), op), buffer(norms.getWorkspaceAttr(), op)};
        if (norms.getWords()) {
          command.norms.push_back(buffer(norms.getWordsAttr(), op));
          for (FlatSymbolRefAttr symbol : {norms.getAccumulateAttr(), norms.getFinishAttr()})
            command.kernels.push_back(lookUp(kernels, symbol, op, "plan.kernel"));
        }
        return success();
      })
      .Case([&](plan::UpdateOp update) {
        command.kind = Command::Kind::Update;
        convertUpdate(update, command);
        if (FlatSymbolRefAttr norms = update.getNormsAttr())
          command.norms = {buffer(norms, op)};
        return success();
      })
      .Default([&](Operation *) { return op->emitOpError("is no command of a sequence"); });
  sequence.commands.push_back(std::move(command));
  return known;
}

LogicalResult Converter::run() {
  program = runtime::Program();
  if (failed(convertTarget()) || failed(convertBuffers()) || failed(convertStates()) || failed(convertBuckets()))
    return failure();
  for (auto op : module.getOps<plan::SequenceOp>()) {
    runtime::Sequence sequence;
    sequence.name = op.getSymName().str();
    for (Operation &command : op.getBody().front())
      if (failed(convertCommand(&command, sequence)))
        return failure();
    program.sequences.push_back(std::move(sequence));
  }
  return success(!failedAny);
}

LogicalResult zopt::convertPlanToProgram(ModuleOp finalPlan, runtime::Program &program) { return Converter(finalPlan, program).run(); }
