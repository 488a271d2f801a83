//===- PlanVerifiers.cpp - what ops of plan check about themselves -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Local checks and the assembly of plan.kernel. What a command does to the bytes that it names is zopt-verify-plan's.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Plan/Plan.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/Interfaces/FunctionImplementation.h"

using namespace mlir;
using namespace zopt::plan;

//===----------------------------------------------------------------------===//
// Declarations
//===----------------------------------------------------------------------===//

LogicalResult TargetOp::verify() {
  int64_t worldSize = getWorldSize(), threads = getThreads(), microBatch = getMicroBatch(), accumSteps = getAccumSteps();
  if (worldSize < 1 || threads < 1 || microBatch < 1 || accumSteps < 1)
    return emitOpError("expects positive world_size, threads, micro_batch and accum_steps, but got ") << worldSize << ", " << threads << ", " << microBatch << ", " << accumSteps;
  return success();
}

LogicalResult BufferOp::verify() {
  // Signless attributes read as unsigned.
  int64_t bytes = getBytes(), offset = getOffset(), rankStride = getRankStride();
  if (bytes < 0 || offset < 0 || rankStride < 0)
    return emitOpError("expects bytes, offset and rank_stride of at least 0, but got ") << bytes << ", " << offset << ", " << rankStride;
  if (offset % kBufferAlignment != 0 || rankStride % kBufferAlignment != 0)
    return emitOpError("starts at ") << offset << " with rank_stride " << rankStride << ", which are not multiples of " << kBufferAlignment;
  return success();
}

ParseResult KernelOp::parse(OpAsmParser &parser, OperationState &result) {
  auto buildType = [](Builder &builder, ArrayRef<Type> arguments, ArrayRef<Type> results, function_interface_impl::VariadicFlag,
                      std::string &) { return builder.getFunctionType(arguments, results); };
  return function_interface_impl::parseFunctionOp(parser, result, /*allowVariadic=*/false, getFunctionTypeAttrName(result.name), buildType,
                                                  getArgAttrsAttrName(result.name), getResAttrsAttrName(result.name));
}

void KernelOp::print(OpAsmPrinter &printer) {
  function_interface_impl::printFunctionOp(printer, *this, /*isVariadic=*/false, getFunctionTypeAttrName(), getArgAttrsAttrName(), getResAttrsAttrName());
}

LogicalResult KernelOp::verify() {
  ArrayRef<Type> inputs = getFunctionType().getInputs();
  if (!getFunctionType().getResults().empty())
    return emitOpError("has results, but a kernel writes through its arguments");
  if (getBody().empty())
    return emitOpError("has no body");
  if (inputs.size() < 2 || !inputs.back().isIndex() || !inputs[inputs.size() - 2].isIndex())
    return emitOpError("expects two 'index' arguments last: the range of iterations to run");
  int64_t blockThreads = getBlockThreads().value_or(32), blockIterations = getBlockIterations().value_or(1);
  if (blockThreads < 32 || blockThreads > 1024 || blockThreads % 32 != 0 || blockIterations < 1)
    return emitOpError("expects block_threads to be a multiple of 32 up to 1024 and positive block_iterations, but got ") << blockThreads << " and " << blockIterations;
  if (int64_t resident = getResidentBlocks().value_or(1); resident < 1 || resident * blockThreads > 2048)
    return emitOpError("expects resident_blocks of together at most 2048 threads, but got ") << resident << " of " << blockThreads;
  for (Type type : inputs.drop_back(2)) {
    if (getBlockThreads() && isa<FloatType>(type))
      continue;
    auto memref = dyn_cast<MemRefType>(type);
    // Blocks of a bucket are as many as the launch says.
    bool isStatic = memref && (memref.hasStaticShape() || (memref.getRank() > 0 && llvm::none_of(memref.getShape().drop_front(), ShapedType::isDynamic)));
    if (!isStatic)
      return emitOpError("expects arguments to be memrefs whose sizes, but for the first, are static, but got ") << type;
  }
  return success();
}

LogicalResult PlacedBucketOp::verify() {
  int64_t padded = getPadded(), slice = getSlice();
  if (padded <= 0 || slice <= 0 || padded % slice != 0)
    return emitOpError("expects padded to be a multiple of slice, but got ") << padded << " and " << slice;
  if (getGradient().has_value() != getGradientType().has_value())
    return emitOpError("expects gradient and gradient_type together");
  return success();
}

LogicalResult SequenceOp::verify() {
  for (Operation &op : getBody().front())
    if (op.getDialect() != getOperation()->getDialect())
      return emitOpError("holds '") << op.getName() << "', which is not a command";
  return success();
}

//===----------------------------------------------------------------------===//
// Commands
//===----------------------------------------------------------------------===//

LogicalResult LaunchOp::verify() {
  if (!getByteOffsets().empty() && getByteOffsets().size() != getBuffers().size())
    return emitOpError("has ") << getBuffers().size() << " buffers, but " << getByteOffsets().size() << " offsets";
  for (int64_t index : getWrites())
    if (index < 0 || index >= static_cast<int64_t>(getBuffers().size()))
      return emitOpError("writes buffer ") << index << " of " << getBuffers().size();
  int64_t extent = getExtent(), grain = getGrain();
  if (extent < 0 || grain < 1)
    return emitOpError("expects an extent of at least 0 and a grain of at least 1, but got ") << extent << " and " << grain;
  return success();
}

LogicalResult MatmulOp::verify() {
  size_t offsets = getAux() || getBiasGradient() || getAddend() ? 7 : 4;
  if (getByteOffsets().size() != offsets)
    return emitOpError("expects ") << offsets << " byte offsets (lhs, rhs, out, bias" << (offsets == 7 ? ", aux, bias_gradient, addend" : "") << "), but got " << getByteOffsets().size();
  bool wantsAux = getEpilogue() != Epilogue::none, wantsGradient = getBiasGradientKind() != BiasGradient::none;
  if (getAux().has_value() != wantsAux || getAuxOperand().has_value() != wantsAux)
    return emitOpError("expects aux and aux_operand where there is an epilogue, and nowhere else");
  if (getBiasGradient().has_value() != wantsGradient)
    return emitOpError("expects bias_gradient and its kind together");
  if (getAddend() && (wantsAux || wantsGradient))
    return emitOpError("has an addend beside an epilogue or a bias gradient");
  if (wantsAux && getAuxOperand()->getShape() != getOutOperand().getShape())
    return emitOpError("expects aux to have the shape of out, but got ") << *getAuxOperand() << " and " << getOutOperand();
  if (getBias().has_value() != getBiasOperand().has_value())
    return emitOpError("expects bias and bias_operand together");
  for (MatmulOperandAttr operand : {getLhsOperand(), getRhsOperand(), getOutOperand()}) {
    if (operand.getShape().size() != operand.getStrides().size() || operand.getShape().size() < 2)
      return emitOpError("expects operands with at least two axes and one stride an axis, but got ") << operand;
    if (!isa<FloatType>(operand.getElementType()))
      return emitOpError("expects float operands, but got ") << operand;
  }
  ArrayRef<int64_t> lhs = getLhsOperand().getShape(), rhs = getRhsOperand().getShape(), out = getOutOperand().getShape();
  if (lhs.size() != out.size() || rhs.size() != out.size())
    return emitOpError("expects operands of one rank, but got ") << lhs.size() << ", " << rhs.size() << " and " << out.size();
  size_t rank = out.size();
  if (lhs[rank - 2] != out[rank - 2] || rhs[rank - 1] != out[rank - 1] || lhs[rank - 1] != rhs[rank - 2])
    return emitOpError("has sizes that do not agree: ") << getLhsOperand() << " x " << getRhsOperand() << " -> " << getOutOperand();
  for (size_t axis = 0; axis + 2 < rank; ++axis)
    if ((lhs[axis] != 1 && lhs[axis] != out[axis]) || (rhs[axis] != 1 && rhs[axis] != out[axis]))
      return emitOpError("has batch sizes that do not broadcast: ") << getLhsOperand() << " x " << getRhsOperand() << " -> " << getOutOperand();
  return success();
}

/// `fixed` buffers and a mask where there is one, each with a layout of four axes and an offset.
template <typename AttentionLike>
static LogicalResult verifyAttention(AttentionLike op, size_t fixed) {
  size_t count = fixed + op.getHasMask();
  if (op.getBuffers().size() != count || op.getTensors().size() != count || op.getByteOffsets().size() != count)
    return op.emitOpError("expects ") << count << " buffers, layouts and offsets, but got " << op.getBuffers().size() << ", " << op.getTensors().size() << " and " << op.getByteOffsets().size();
  for (auto tensor : op.getTensors().template getAsRange<MatmulOperandAttr>())
    if (tensor.getShape().size() != 4 || tensor.getStrides().size() != 4 || !isa<FloatType>(tensor.getElementType()))
      return op.emitOpError("expects float layouts of four axes, but got ") << tensor;
  auto tensors = llvm::to_vector(op.getTensors().template getAsRange<MatmulOperandAttr>());
  ArrayRef<int64_t> query = tensors[0].getShape(), key = tensors[1].getShape(), value = tensors[2].getShape(), output = tensors[3].getShape();
  if (key[0] != query[0] || value[0] != query[0] || key[1] != value[1] || query[1] % key[1] != 0 || key[2] != value[2] || key[3] != query[3])
    return op.emitOpError("has query, key and value that do not agree: ") << tensors[0] << ", " << tensors[1] << ", " << tensors[2];
  if (output[0] != query[0] || output[1] != query[1] || output[2] != query[2] || output[3] != value[3])
    return op.emitOpError("has an output that does not agree with query and value: ") << tensors[3];
  return success();
}

LogicalResult ConvolutionOp::verify() {
  auto tensors = llvm::to_vector(getTensors().getAsRange<MatmulOperandAttr>());
  if (tensors.size() < 3 || tensors.size() > 4 || getBuffers().size() != tensors.size() || getByteOffsets().size() != tensors.size())
    return emitOpError("expects 3 buffers, layouts and offsets, or 4 with a bias, but got ") << getBuffers().size() << ", " << tensors.size() << " and " << getByteOffsets().size();
  if (tensors.size() == 4 && getKind() != ConvolutionKind::forward)
    return emitOpError("has a bias, which only a forward convolution takes");
  const size_t rank = tensors[0].getShape().size(), space = rank - 2;
  if (rank < 3 || rank > 5 || getStrides().size() != space || getDilations().size() != space || getPads().size() != 2 * space)
    return emitOpError("has strides, dilations and pads that do not belong to an input ") << tensors[0];
  for (auto [index, tensor] : llvm::enumerate(tensors))
    if (static_cast<size_t>(tensor.getShape().size()) != (index == 3 ? 1 : rank) || tensor.getStrides().size() != tensor.getShape().size() || !isa<FloatType>(tensor.getElementType()))
      return emitOpError("expects float layouts of one rank, but got ") << tensor;
  ArrayRef<int64_t> input = tensors[0].getShape(), weight = tensors[1].getShape(), output = tensors[2].getShape();
  const int64_t groups = getGroups();
  bool agree = groups >= 1 && input[0] == output[0] && weight[0] == output[1] && weight[1] * groups == input[1] && output[1] % groups == 0 && (tensors.size() < 4 || tensors[3].getShape()[0] == output[1]);
  for (size_t axis = 0; agree && axis < space; ++axis) {
    const int64_t room = input[axis + 2] + getPads()[axis] + getPads()[space + axis] - (weight[axis + 2] - 1) * getDilations()[axis] - 1;
    agree = getStrides()[axis] >= 1 && getDilations()[axis] >= 1 && room >= 0 && room / getStrides()[axis] + 1 == output[axis + 2];
  }
  if (!agree)
    return emitOpError("has sizes that do not agree: ") << tensors[0] << " with " << tensors[1] << " into " << tensors[2];
  return success();
}

LogicalResult AttentionOp::verify() { return verifyAttention(*this, 5); }
LogicalResult AttentionGradOp::verify() { return verifyAttention(*this, 9); }

LogicalResult CopyOp::verify() {
  int64_t bytes = getBytes(), source = getSourceOffset(), destination = getDestinationOffset();
  if (bytes < 0 || source < 0 || destination < 0)
    return emitOpError("expects bytes and offsets of at least 0, but got ") << bytes << ", " << source << ", " << destination;
  return success();
}

LogicalResult ZeroOp::verify() {
  int64_t bytes = getBytes(), offset = getOffset();
  if (bytes < 0 || offset < 0)
    return emitOpError("expects bytes and an offset of at least 0, but got ") << bytes << ", " << offset;
  return success();
}

LogicalResult AllGatherOp::verify() {
  if (static_cast<int64_t>(getBytesPerRank()) <= 0)
    return emitOpError("expects positive bytes_per_rank, but got ") << static_cast<int64_t>(getBytesPerRank());
  return success();
}

LogicalResult ReduceScatterOp::verify() {
  if (static_cast<int64_t>(getElementsPerRank()) <= 0)
    return emitOpError("expects positive elements_per_rank, but got ") << static_cast<int64_t>(getElementsPerRank());
  if (!isa<FloatType>(getSourceType()) || !isa<FloatType>(getDestinationType()))
    return emitOpError("expects float types, but got ") << getSourceType() << " and " << getDestinationType();
  return success();
}

LogicalResult AllReduceOp::verify() {
  if (static_cast<int64_t>(getElementsPerRank()) <= 0)
    return emitOpError("expects positive elements_per_rank, but got ") << static_cast<int64_t>(getElementsPerRank());
  if (!isa<FloatType>(getType()))
    return emitOpError("expects a float type, but got ") << getType();
  return success();
}

LogicalResult ParameterNormsOp::verify() {
  if (getWords().has_value() != getAccumulate().has_value() || getWords().has_value() != getFinish().has_value())
    return emitOpError("expects words, accumulate and finish together");
  return success();
}

LogicalResult GradientNormOp::verify() {
  if (getBuckets().size() != getKernels().size())
    return emitOpError("expects one kernel a bucket, but got ") << getKernels().size() << " for " << getBuckets().size();
  if (getWords().has_value() != getFinish().has_value())
    return emitOpError("expects words and finish together");
  return success();
}
