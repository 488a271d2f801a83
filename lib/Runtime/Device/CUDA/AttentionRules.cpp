//===- AttentionRules.cpp - attention that cuDNN takes --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/AttentionRules.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include <algorithm>

namespace zopt::runtime::cuda {

namespace {

using Shape = std::vector<int64_t>;

constexpr int64_t kWidestHead = 128;

/// What a call asks for beside its tensors: counters, small tables, alignment of each part.
constexpr int64_t kSmallWorkspace = int64_t(1) << 20;

int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

Status checkTensor(const char *name, const MatmulOperand &tensor, DataType type, const Shape &shape) {
  if (tensor.type != type)
    return inputError(name, " of attention is ", nameOf(tensor.type), ", not ", nameOf(type));
  if (tensor.shape != shape || tensor.strides.size() != 4)
    return inputError(name, " of attention is ", shapeText(tensor.shape), ", not ", shapeText(shape));
  if (tensor.strides[3] != 1)
    return inputError(name, " of attention has no unit stride on its width");
  for (int i = 0; i < 3; ++i)
    if (tensor.shape[i] > 1 && (tensor.strides[i] <= 0 || tensor.strides[i] % 8 != 0))
      return inputError(name, " of attention has stride ", tensor.strides[i], ", which is not a positive multiple of 8");
  return success();
}

Status checkMask(const MatmulOperand &mask, DataType type, const Shape &scores) {
  if (mask.type != type)
    return inputError("the mask of attention is ", nameOf(mask.type), ", not ", nameOf(type));
  if (mask.shape.size() > 4 || mask.shape.empty() || mask.strides.size() != mask.shape.size())
    return inputError("the mask of attention is ", shapeText(mask.shape), ", which does not broadcast to ", shapeText(scores));
  for (size_t i = 0; i < mask.shape.size(); ++i) {
    size_t axis = 4 - mask.shape.size() + i;
    if (mask.shape[i] != scores[axis] && (mask.shape[i] != 1 || axis == 3))
      return inputError("the mask of attention is ", shapeText(mask.shape), ", which does not broadcast to ", shapeText(scores));
  }
  if (mask.strides.back() != 1 && mask.shape.back() != 1)
    return inputError("the mask of attention has no unit stride on its keys");
  return success();
}

/// Largest divisor of `count` that is at most `limit`, and at least 1.
int64_t divisorUpTo(int64_t count, int64_t limit) {
  for (int64_t divisor = std::min(count, limit); divisor > 1; --divisor)
    if (count % divisor == 0)
      return divisor;
  return 1;
}

} // namespace

Result<AttentionParts> planAttention(const Command &command, const AttentionOptions &options) {
  const bool gradient = command.kind == Command::Kind::AttentionGrad;
  const size_t plain = gradient ? size_t(AttentionTensors::GradMask) : size_t(AttentionTensors::Mask);
  const std::vector<MatmulOperand> &tensors = command.tensors;
  if (tensors.size() != plain && tensors.size() != plain + 1)
    return inputError("attention has ", tensors.size(), " tensors, not ", plain, " and a mask");
  for (size_t i = 0; i < plain; ++i)
    if (tensors[i].shape.size() != 4 || std::any_of(tensors[i].shape.begin(), tensors[i].shape.end(), [](int64_t size) { return size <= 0; }))
      return inputError("tensor ", i, " of attention is ", shapeText(tensors[i].shape), ", not [batch, heads, positions, width]");

  const MatmulOperand &query = tensors[AttentionTensors::Query], &key = tensors[AttentionTensors::Key];
  const DataType type = query.type;
  const int64_t batch = query.shape[0], heads = query.shape[1], queries = query.shape[2], width = query.shape[3], keyHeads = key.shape[1], keys = key.shape[2];
  if (type != DataType::BF16 && type != DataType::F16)
    return inputError("attention in ", nameOf(type), "; the library has bf16 and f16");
  if (width % 8 != 0 || width > kWidestHead)
    return inputError("attention with heads of ", width, "; the library has multiples of 8 up to ", kWidestHead);
  if (heads % keyHeads != 0)
    return inputError("attention with ", heads, " query heads and ", keyHeads, " key heads");
  const Shape ofQueries{batch, heads, queries, width}, ofKeys{batch, keyHeads, keys, width};
  const char *names[] = {"query", "key", "value", "output", "lse", "the cotangent", "the gradient of query", "the gradient of key", "the gradient of value"};
  for (size_t i = 0; i < plain; ++i) {
    if (i == AttentionTensors::Lse)
      continue;
    bool onKeys = i == AttentionTensors::Key || i == AttentionTensors::Value || i == AttentionTensors::KeyGradient || i == AttentionTensors::ValueGradient;
    ZOPT_RETURN_IF_FAILED(checkTensor(names[i], tensors[i], type, onKeys ? ofKeys : ofQueries));
  }
  const MatmulOperand &lse = tensors[AttentionTensors::Lse];
  const Shape dense{heads * queries, queries, 1, 1};
  bool lseIsDense = lse.type == DataType::F32 && lse.shape == Shape{batch, heads, queries, 1} && lse.strides.size() == 4;
  for (int i = 0; lseIsDense && i < 4; ++i)
    lseIsDense = lse.shape[i] == 1 || lse.strides[i] == dense[i];
  if (!lseIsDense)
    return inputError("lse of attention is ", nameOf(lse.type), " ", shapeText(lse.shape), ", not a dense f32 ", shapeText({batch, heads, queries, 1}));
  const bool hasMask = tensors.size() > plain;
  if (hasMask)
    ZOPT_RETURN_IF_FAILED(checkMask(tensors[plain], type, {batch, heads, queries, keys}));
  if (hasMask && gradient && queries > 1) {
    const Shape &shape = tensors[plain].shape;
    if (shape.size() < 2 || shape[shape.size() - 2] == 1)
      return inputError("the gradient of attention with a mask ", shapeText(shape), ", which has one row for all queries; the library has such masks only forward");
  }
  if (command.causal && queries != keys && (hasMask || queries > keys))
    return inputError("causal attention of ", queries, " queries and ", keys, " keys", hasMask ? " with a mask" : "");
  for (size_t i = 0; i < tensors.size() && i < command.byteOffsets.size(); ++i)
    if (command.byteOffsets[i] % 16 != 0)
      return inputError("tensor ", i, " of attention starts at byte ", command.byteOffsets[i], ", which is not a multiple of 16");

  AttentionParts parts;
  parts.batches = batch;
  parts.keyHeads = keyHeads;
  if (command.ownKernels) {
    if (!gradient || hasMask || (width != 64 && width != 128))
      return inputError(gradient ? "the gradient of attention" : "attention", hasMask ? " with a mask" : concat(" with heads of ", width), ", for which there are no kernels");
    parts.calls = 1;
    parts.scratchBytes = kAttentionGradientCounterBytes + batch * heads * ((queries + kAttentionGradientTile - 1) / kAttentionGradientTile) * kAttentionGradientStatisticsBytes;
    return parts;
  }
  const int64_t group = heads / keyHeads;
  if (!gradient) {
    parts.scratchBytes = kSmallWorkspace + kWorkspaceAlignment;
    return parts;
  }
  if (options.deterministic) {
    int64_t scoreBytes = group * roundUp(queries, 64) * roundUp(keys, 128) * sizeOf(type); // of one key head
    int64_t fit = std::max<int64_t>(1, options.scoreBytesLimit / scoreBytes);
    parts.batches = divisorUpTo(batch, std::max<int64_t>(1, fit / keyHeads));
    parts.keyHeads = fit >= keyHeads ? keyHeads : divisorUpTo(keyHeads, fit);
    parts.scratchBytes += parts.batches * parts.keyHeads * scoreBytes;
  } else {
    parts.scratchBytes += batch * heads * roundUp(queries, 128) * width * sizeOf(DataType::F32);
  }
  parts.calls = (batch / parts.batches) * (keyHeads / parts.keyHeads);
  const int64_t partHeads = parts.batches * parts.keyHeads * group;
  parts.scratchBytes += partHeads * roundUp(queries, 128) * sizeOf(DataType::F32); // sums over output * cotangent
  if (group > 1) // gradients of key and value for every query head, before they are added
    parts.scratchBytes += 2 * partHeads * roundUp(keys, 128) * width * sizeOf(type);
  parts.scratchBytes += kSmallWorkspace + kWorkspaceAlignment;
  return parts;
}

bool takesOwnAttentionGradient(Command command) {
  command.ownKernels = true;
  return !planAttention(command).failed();
}

bool supportsAttention(const Command &command) { return !planAttention(command).failed(); }

int64_t attentionScratchBytes(const Command &command) {
  Result<AttentionParts> parts = planAttention(command);
  return parts.failed() ? 0 : parts->scratchBytes;
}

} // namespace zopt::runtime::cuda
