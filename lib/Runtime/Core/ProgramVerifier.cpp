//===- ProgramVerifier.cpp - checks a Program before it touches memory ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include "zopt/Runtime/Core/Memory.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include <map>
#include <set>

namespace zopt::runtime {

namespace {

class Verifier {
public:
  explicit Verifier(const Program &program) : program(program) {}

  Status run() {
    ZOPT_RETURN_IF_FAILED(checkBuffers());
    ZOPT_RETURN_IF_FAILED(checkStates());
    ZOPT_RETURN_IF_FAILED(checkInterface());
    std::set<std::string> names;
    for (const Sequence &sequence : program.sequences) {
      if (!names.insert(sequence.name).second)
        return inputError("sequence '", sequence.name, "' stands twice");
      ZOPT_RETURN_IF_FAILED(checkSequence(sequence));
    }
    return success();
  }

private:
  Status checkBuffers() {
    if (program.worldSize < 1 || program.threads < 1 || program.accumSteps < 1 || program.microBatch < 1)
      return inputError("world size ", program.worldSize, ", threads ", program.threads, ", accumulation ", program.accumSteps, " and micro-batch ", program.microBatch, " must be positive");
    for (const Arena &arena : program.arenas)
      if (arena.bytes < 0)
        return inputError("arena '", arena.name, "' has ", arena.bytes, " bytes");
    for (const Buffer &buffer : program.buffers) {
      if (buffer.arena < 0 || size_t(buffer.arena) >= program.arenas.size())
        return inputError("buffer '", buffer.name, "' lies in arena ", buffer.arena, " of ", program.arenas.size());
      const Arena &arena = program.arenas[buffer.arena];
      if (buffer.offset < 0 || buffer.bytes < 0 || buffer.rankStride < 0 || buffer.offset % 64 != 0)
        return inputError("buffer '", buffer.name, "' has offset ", buffer.offset, ", bytes ", buffer.bytes, " and rank stride ", buffer.rankStride);
      int64_t last = buffer.offset + (program.worldSize - 1) * buffer.rankStride;
      if (last > arena.bytes || buffer.bytes > arena.bytes - last)
        return inputError("buffer '", buffer.name, "' ends at byte ", last + buffer.bytes, " of arena '", arena.name, "', which has ", arena.bytes);
    }
    return success();
  }

  bool isBuffer(BufferId id) const { return id >= 0 && size_t(id) < program.buffers.size(); }

  /// `buffer` exists and holds `bytes` from `offset` on.
  Status holds(BufferId id, int64_t offset, int64_t bytes, const std::string &what) const {
    if (!isBuffer(id))
      return inputError(what, " names buffer ", id, " of ", program.buffers.size());
    const Buffer &buffer = program.buffers[id];
    if (offset < 0 || bytes < 0 || offset > buffer.bytes || bytes > buffer.bytes - offset)
      return inputError(what, " takes bytes [", offset, ", ", offset + bytes, ") of buffer '", buffer.name, "', which has ", buffer.bytes);
    return success();
  }

  Status checkStates() {
    for (const Bucket &bucket : program.buckets) {
      if (bucket.sliceElements * program.worldSize != bucket.paddedElements || bucket.sliceElements % 128 != 0)
        return inputError("bucket '", bucket.name, "' has ", bucket.paddedElements, " elements and slices of ", bucket.sliceElements, " on ", program.worldSize, " ranks");
      int64_t parameterElements = bucket.parametersSharded ? bucket.sliceElements : bucket.paddedElements;
      int64_t ownedElements = bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements;
      ZOPT_RETURN_IF_FAILED(holds(bucket.parameters, 0, parameterElements * sizeOf(bucket.computeType), "bucket '" + bucket.name + "' parameters"));
      if (bucket.master >= 0)
        ZOPT_RETURN_IF_FAILED(holds(bucket.master, 0, ownedElements * sizeOf(bucket.masterType), "bucket '" + bucket.name + "' master"));
      for (BufferId slot : bucket.slots)
        ZOPT_RETURN_IF_FAILED(holds(slot, 0, ownedElements * sizeOf(bucket.masterType), "bucket '" + bucket.name + "' slot"));
      if (bucket.slotNames.size() != bucket.slots.size())
        return inputError("bucket '", bucket.name, "' has ", bucket.slots.size(), " slots and ", bucket.slotNames.size(), " slot names");
      if (bucket.gradient >= 0)
        ZOPT_RETURN_IF_FAILED(holds(bucket.gradient, 0, (bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements) * sizeOf(bucket.gradientType), "bucket '" + bucket.name + "' gradient"));
      if (bucket.parametersSharded && !bucket.optimizerSharded && bucket.trained)
        return inputError("bucket '", bucket.name, "' has sharded parameters but a whole optimizer state");
    }
    for (const State &state : program.states) {
      int64_t elements = elementCount(state.shape);
      for (int64_t size : state.shape)
        if (size < 0)
          return inputError("state '", state.name, "' has shape ", shapeText(state.shape));
      if (state.bucket >= 0) {
        if (size_t(state.bucket) >= program.buckets.size())
          return inputError("state '", state.name, "' is in bucket ", state.bucket, " of ", program.buckets.size());
        const Bucket &bucket = program.buckets[state.bucket];
        if (state.offset < 0 || state.offset % 128 != 0 || state.offset + elements > bucket.paddedElements)
          return inputError("state '", state.name, "' takes elements [", state.offset, ", ", state.offset + elements, ") of bucket '", bucket.name, "', which has ", bucket.paddedElements);
      } else if (state.buffer >= 0) {
        ZOPT_RETURN_IF_FAILED(holds(state.buffer, 0, elements * sizeOf(state.type), "state '" + state.name + "'"));
      }
      if (state.init.file >= 0) {
        if (size_t(state.init.file) >= program.weightFiles.size())
          return inputError("state '", state.name, "' comes from weight file ", state.init.file, " of ", program.weightFiles.size());
        if (state.init.bytes != elements * sizeOf(state.init.type))
          return inputError("state '", state.name, "' of ", elements, " ", nameOf(state.init.type), " elements comes from ", state.init.bytes, " bytes");
      }
      if (!state.sourcePermutation.empty()) {
        std::set<int64_t> axes(state.sourcePermutation.begin(), state.sourcePermutation.end());
        if (state.sourcePermutation.size() != state.shape.size() || axes.size() != state.shape.size() || *axes.begin() != 0 || *axes.rbegin() != int64_t(state.shape.size()) - 1)
          return inputError("state '", state.name, "' has the source permutation ", shapeText(state.sourcePermutation));
      }
    }
    return success();
  }

  Status checkInterface() {
    for (const Input &input : program.inputs)
      ZOPT_RETURN_IF_FAILED(holds(input.buffer, 0, elementCount(input.shape) * sizeOf(input.type), "input '" + input.name + "'"));
    for (const Output &output : program.outputs)
      ZOPT_RETURN_IF_FAILED(holds(output.buffer, 0, elementCount(output.shape) * sizeOf(output.type), "output '" + output.name + "'"));
    return success();
  }

  /// Bytes from an operand's first element to its last, that included.
  static int64_t spanOf(const MatmulOperand &operand) {
    int64_t last = 0;
    for (size_t i = 0; i < operand.shape.size(); ++i)
      last += (operand.shape[i] - 1) * operand.strides[i];
    return (last + 1) * sizeOf(operand.type);
  }

  Status checkMatmul(const Command &command, const std::string &what) const {
    size_t rank = command.out.shape.size();
    for (const MatmulOperand *operand : {&command.lhs, &command.rhs, &command.out, &command.bias, &command.aux}) {
      if (operand->shape.size() != operand->strides.size())
        return inputError(what, " has an operand of shape ", shapeText(operand->shape), " with ", operand->strides.size(), " strides");
      for (size_t i = 0; i < operand->shape.size(); ++i)
        if (operand->shape[i] < 1 || operand->strides[i] < 0)
          return inputError(what, " has an operand of shape ", shapeText(operand->shape), " and strides ", shapeText(operand->strides));
    }
    if (rank < 2 || command.lhs.shape.size() != rank || command.rhs.shape.size() != rank)
      return inputError(what, " multiplies ", shapeText(command.lhs.shape), " and ", shapeText(command.rhs.shape), " into ", shapeText(command.out.shape));
    bool fits = command.lhs.shape[rank - 1] == command.rhs.shape[rank - 2] && command.lhs.shape[rank - 2] == command.out.shape[rank - 2] && command.rhs.shape[rank - 1] == command.out.shape[rank - 1];
    for (size_t i = 0; i + 2 < rank; ++i)
      for (const MatmulOperand *operand : {&command.lhs, &command.rhs})
        fits &= operand->shape[i] == command.out.shape[i] || operand->shape[i] == 1;
    if (!fits)
      return inputError(what, " multiplies ", shapeText(command.lhs.shape), " and ", shapeText(command.rhs.shape), " into ", shapeText(command.out.shape));
    const MatmulOperand *operands[] = {&command.lhs, &command.rhs, &command.out, &command.bias};
    for (size_t i = 0; i < 4; ++i) {
      if (i == 3 && command.bias.shape.empty())
        break;
      if (i >= command.buffers.size())
        return inputError(what, " names ", command.buffers.size(), " buffers");
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[i], offsetOf(command, i), spanOf(*operands[i]), what));
    }
    const bool hasAux = command.epilogue != Epilogue::None, hasGradient = command.biasGradient != BiasGradient::None;
    if (command.buffers.size() < size_t(hasGradient ? 7 : hasAux ? 6 : 3) || (hasAux && command.aux.shape != command.out.shape))
      return inputError(what, " has an epilogue, but names ", command.buffers.size(), " buffers and an auxiliary one of shape ", shapeText(command.aux.shape));
    if (command.buffers.size() > 7 && command.buffers[7] >= 0)
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[7], offsetOf(command, 7), spanOf(command.out), what));
    if (hasAux)
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[5], offsetOf(command, 5), spanOf(command.aux), what));
    if (hasGradient)
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[6], offsetOf(command, 6), command.out.shape[rank - (command.biasGradient == BiasGradient::LhsRows ? 2 : 1)] * sizeOf(command.out.type), what));
    return success();
  }

  /// Attention and its gradient: `fixed` tensors, then a mask or none.
  Status checkAttention(const Command &command, size_t fixed, const std::string &what) const {
    if (command.buffers.size() != fixed + 2 || command.tensors.size() != fixed + (command.buffers[fixed] >= 0))
      return inputError(what, " names ", command.buffers.size(), " buffers and ", command.tensors.size(), " layouts");
    for (size_t i = 0; i < command.tensors.size(); ++i) {
      const MatmulOperand &tensor = command.tensors[i];
      if (tensor.shape.size() != 4 || tensor.strides.size() != 4)
        return inputError(what, " has a tensor of shape ", shapeText(tensor.shape), " and strides ", shapeText(tensor.strides));
      for (size_t axis = 0; axis < 4; ++axis)
        if (tensor.shape[axis] < 1 || tensor.strides[axis] < 0)
          return inputError(what, " has a tensor of shape ", shapeText(tensor.shape), " and strides ", shapeText(tensor.strides));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[i], offsetOf(command, i), spanOf(tensor), what));
    }
    return success();
  }

  Status checkConvolution(const Command &command, const std::string &what) const {
    const Convolution &convolution = command.convolution;
    const bool hasBias = command.buffers.size() > 3 && command.buffers[3] >= 0;
    if (command.buffers.size() != 5 || command.tensors.size() != (hasBias ? 4 : 3))
      return inputError(what, " names ", command.buffers.size(), " buffers and ", command.tensors.size(), " layouts");
    for (size_t i = 0; i < command.tensors.size(); ++i) {
      const MatmulOperand &tensor = command.tensors[i];
      const size_t rank = i == 3 ? 1 : command.tensors[0].shape.size();
      bool fits = tensor.shape.size() == rank && tensor.strides.size() == rank && rank <= 5;
      for (size_t axis = 0; fits && axis < rank; ++axis)
        fits = tensor.shape[axis] >= 1 && tensor.strides[axis] >= 0;
      if (!fits)
        return inputError(what, " has a tensor of shape ", shapeText(tensor.shape), " and strides ", shapeText(tensor.strides));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[i], offsetOf(command, i), spanOf(tensor), what));
    }
    const std::vector<int64_t> &input = command.tensors[0].shape, &weight = command.tensors[1].shape, &output = command.tensors[2].shape;
    const size_t space = input.size() < 3 ? 0 : input.size() - 2;
    bool fits = space > 0 && convolution.groups >= 1 && convolution.strides.size() == space && convolution.dilations.size() == space && convolution.pads.size() == 2 * space;
    fits = fits && input[0] == output[0] && weight[0] == output[1] && weight[1] * convolution.groups == input[1] && output[1] % convolution.groups == 0;
    for (size_t axis = 0; fits && axis < space; ++axis) {
      fits = convolution.strides[axis] >= 1 && convolution.dilations[axis] >= 1;
      const int64_t room = input[axis + 2] + convolution.pads[axis] + convolution.pads[space + axis] - (weight[axis + 2] - 1) * convolution.dilations[axis] - 1;
      fits = fits && room >= 0 && room / convolution.strides[axis] + 1 == output[axis + 2];
    }
    if (!fits || (hasBias && command.tensors[3].shape[0] != output[1]))
      return inputError(what, " convolves ", shapeText(input), " with ", shapeText(weight), " into ", shapeText(output), ", strides ", shapeText(convolution.strides), ", dilations ", shapeText(convolution.dilations), ", pads ",
                        shapeText(convolution.pads), ", ", convolution.groups, " groups");
    return success();
  }

  static int64_t offsetOf(const Command &command, size_t index) { return index < command.byteOffsets.size() ? command.byteOffsets[index] : 0; }

  Status checkSequence(const Sequence &sequence) {
    std::map<int64_t, std::string> inFlight;
    for (size_t position = 0; position < sequence.commands.size(); ++position) {
      const Command &command = sequence.commands[position];
      std::string what = concat(sequence.name, " command ", position, command.location.empty() ? "" : " (" + command.location + ")");
      ZOPT_RETURN_IF_FAILED(checkCommand(command, what));
      switch (command.kind) {
      case Command::Kind::AllGather:
      case Command::Kind::ReduceScatter:
      case Command::Kind::AllReduce:
        if (!inFlight.emplace(command.id, what).second)
          return inputError(what, " starts collective ", command.id, ", which is still in flight");
        break;
      case Command::Kind::Wait:
        if (!inFlight.erase(command.id))
          return inputError(what, " waits for collective ", command.id, ", which was not started");
        break;
      default:
        break;
      }
    }
    if (!inFlight.empty())
      return inputError(inFlight.begin()->second, " starts collective ", inFlight.begin()->first, ", which is never waited for");
    return success();
  }

  Status checkCommand(const Command &command, const std::string &what) const {
    for (size_t i = 0; i < command.buffers.size(); ++i) {
      bool optional = (command.kind == Command::Kind::Matmul && i >= 3) || (command.kind == Command::Kind::Attention && i >= 5) || (command.kind == Command::Kind::AttentionGrad && i >= 9) || (command.kind == Command::Kind::Convolution && i >= 3) ||
                      ((command.kind == Command::Kind::Update || command.kind == Command::Kind::ParameterNorms) && i == 4 && command.buffers.size() > 5);
      if (optional && command.buffers[i] == -1)
        continue;
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[i], offsetOf(command, i), 0, what));
    }
    for (int32_t bucket : command.buckets)
      if (bucket < 0 || size_t(bucket) >= program.buckets.size())
        return inputError(what, " names bucket ", bucket, " of ", program.buckets.size());
    auto kernelExists = [&](int32_t kernel) { return kernel >= 0 && size_t(kernel) < program.kernels.size(); };
    auto needs = [&](size_t count) -> Status {
      if (command.buffers.size() < count)
        return inputError(what, " names ", command.buffers.size(), " buffers, but needs ", count);
      return success();
    };
    const int64_t world = program.worldSize;
    switch (command.kind) {
    case Command::Kind::Launch:
      if (!kernelExists(command.kernel))
        return inputError(what, " launches kernel ", command.kernel, " of ", program.kernels.size());
      for (int32_t index : command.writes)
        if (index < 0 || size_t(index) >= command.buffers.size())
          return inputError(what, " writes argument ", index, " of ", command.buffers.size());
      return success();
    case Command::Kind::Matmul:
      ZOPT_RETURN_IF_FAILED(needs(3));
      return checkMatmul(command, what);
    case Command::Kind::Attention:
      return checkAttention(command, 5, what);
    case Command::Kind::AttentionGrad:
      return checkAttention(command, 9, what);
    case Command::Kind::Convolution:
      return checkConvolution(command, what);
    case Command::Kind::Copy:
      ZOPT_RETURN_IF_FAILED(needs(2));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), command.bytes, what));
      return holds(command.buffers[1], offsetOf(command, 1), command.bytes, what);
    case Command::Kind::Zero:
      ZOPT_RETURN_IF_FAILED(needs(1));
      return holds(command.buffers[0], offsetOf(command, 0), command.bytes, what);
    case Command::Kind::AllGather:
      ZOPT_RETURN_IF_FAILED(needs(2));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), command.bytes, what));
      return holds(command.buffers[1], offsetOf(command, 1), command.bytes * world, what);
    case Command::Kind::ReduceScatter:
      ZOPT_RETURN_IF_FAILED(needs(3));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), command.elements * world * sizeOf(command.type), what));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[1], offsetOf(command, 1), command.elements * sizeOf(command.destinationType), what));
      return holds(command.buffers[2], offsetOf(command, 2), world == 1 ? 0 : command.elements * world * sizeOf(command.type), what);
    case Command::Kind::AllReduce:
      ZOPT_RETURN_IF_FAILED(needs(2));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), command.elements * world * sizeOf(command.type), what));
      return holds(command.buffers[1], offsetOf(command, 1), world == 1 ? 0 : command.elements * world * sizeOf(command.type), what);
    case Command::Kind::AllReduceScalars:
      ZOPT_RETURN_IF_FAILED(needs(2));
      ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), command.elements * sizeOf(command.type), what));
      return holds(command.buffers[1], offsetOf(command, 1), command.elements * sizeOf(command.type), what);
    case Command::Kind::Wait:
      return success();
    case Command::Kind::GradientNorm: {
      ZOPT_RETURN_IF_FAILED(needs(2));
      const bool onDevice = program.target == "cuda"; // kernels make the exact sum there
      if (command.kernels.size() != command.buckets.size() + (onDevice ? 1 : 0))
        return inputError(what, " has ", command.kernels.size(), " kernels for ", command.buckets.size(), " buckets");
      if (onDevice) {
        ZOPT_RETURN_IF_FAILED(needs(3));
        ZOPT_RETURN_IF_FAILED(holds(command.buffers[2], offsetOf(command, 2), 2 * ExactSum::kWords * int64_t(sizeof(int64_t)), what));
        ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), int64_t(command.buckets.size()) * 3 * int64_t(sizeof(int64_t)), what));
        for (int i : {0, 2})
          if (!program.buffers[command.buffers[i]].persistent)
            return inputError(what, " keeps its ", i ? "sums" : "list of gradients", " in buffer '", program.buffers[command.buffers[i]].name, "', which is not persistent");
        if (!kernelExists(command.kernels.back()))
          return inputError(what, " launches kernel ", command.kernels.back(), " of ", program.kernels.size());
      }
      for (size_t i = 0; i < command.buckets.size(); ++i) {
        const Bucket &bucket = program.buckets[command.buckets[i]];
        if (!kernelExists(command.kernels[i]))
          return inputError(what, " launches kernel ", command.kernels[i], " of ", program.kernels.size());
        if (!isBuffer(bucket.gradient))
          return inputError(what, " reads the gradient of bucket '", bucket.name, "', which has none");
        if (!onDevice)
          ZOPT_RETURN_IF_FAILED(holds(command.buffers[0], offsetOf(command, 0), (bucket.gradientWhole ? bucket.paddedElements : bucket.sliceElements) / 128 * 8, what));
      }
      return holds(command.buffers[1], offsetOf(command, 1), sizeOf(command.type), what);
    }
    case Command::Kind::ParameterNorms:
    case Command::Kind::Update: {
      ZOPT_RETURN_IF_FAILED(needs(4));
      if (!kernelExists(command.kernel) || command.buckets.size() != 1)
        return inputError(what, " updates ", command.buckets.size(), " buckets by kernel ", command.kernel, " of ", program.kernels.size());
      const Bucket &bucket = program.buckets[command.buckets[0]];
      if (!isBuffer(bucket.gradient))
        return inputError(what, " reads the gradient of bucket '", bucket.name, "', which has none");
      if (hasOwnGradient(command))
        ZOPT_RETURN_IF_FAILED(holds(command.buffers[4], offsetOf(command, 4), bucket.paddedElements * sizeOf(bucket.gradientType), what));
      else if (!bucket.optimizerSharded && !bucket.gradientWhole)
        return inputError(what, " updates the whole of bucket '", bucket.name, "' from a slice of its gradient");
      if (command.buffers.size() > 5)
        ZOPT_RETURN_IF_FAILED(holds(command.buffers[5], offsetOf(command, 5), sizeOf(bucket.masterType), what));
      size_t segments = 0;
      for (const State &state : program.states)
        segments += state.bucket == command.buckets[0] && state.role == Role::Parameter;
      if (command.decays.size() != segments)
        return inputError(what, " has ", command.decays.size(), " decays for the ", segments, " segments of bucket '", bucket.name, "'");
      const bool measures = command.kind == Command::Kind::ParameterNorms, onDevice = program.target == "cuda";
      if (command.norms.size() != (measures ? onDevice ? 3 : 2 : command.norms.empty() ? 0 : 1) || command.kernels.size() != (measures && onDevice ? 2 : 0))
        return inputError(what, " has ", command.norms.size(), " buffers of norms and ", command.kernels.size(), " kernels for them");
      for (int32_t kernel : command.kernels)
        if (!kernelExists(kernel))
          return inputError(what, " launches kernel ", kernel, " of ", program.kernels.size());
      const int64_t part = bucket.optimizerSharded ? bucket.sliceElements : bucket.paddedElements;
      const int64_t bytes[] = {2 * int64_t(segments) * sizeOf(bucket.masterType), 2 * part / 128 * 8, 4 * int64_t(segments) * ExactSum::kWords * int64_t(sizeof(int64_t))};
      for (size_t i = 0; i < command.norms.size(); ++i)
        ZOPT_RETURN_IF_FAILED(holds(command.norms[i], 0, bytes[i], what));
      if (!command.rates.empty() && command.rates.size() != segments)
        return inputError(what, " has ", command.rates.size(), " rates for the ", segments, " segments of bucket '", bucket.name, "'");
      return success();
    }
    }
    return success();
  }

  const Program &program;
};

} // namespace

Status verifyProgram(const Program &program) { return Verifier(program).run(); }

} // namespace zopt::runtime
