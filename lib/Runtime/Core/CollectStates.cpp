//===- CollectStates.cpp - logical tensors from the slices of all ranks ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/States.h"
#include <algorithm>

namespace zopt::runtime {

namespace {
/// Elements gathered from each rank at a time.
constexpr int64_t kChunk = int64_t(1) << 16;
} // namespace

DataType collectedType(const State &state) { return state.type == DataType::F64 ? DataType::F64 : DataType::F32; }

BufferId averageOf(const Bucket &bucket) {
  for (size_t i = 0; i < bucket.slotNames.size(); ++i)
    if (bucket.slotNames[i] == "ema")
      return bucket.slots[i];
  return -1;
}

Status collectState(Executor &executor, const State &state, StateValue value, double scale, const std::function<Status(const void *data, int64_t elements)> &sink, const char *gradient) {
  const Program &program = executor.getProgram();
  Communicator &communicator = executor.getCommunicator();
  const DataType outType = collectedType(state);
  const int64_t elements = elementCount(state.shape);

  // Where this rank has elements, how they are typed, and whether each rank has a slice or all.
  BufferId buffer = -1;
  const char *copied = nullptr; // in the host's memory, where that is where the values are
  DataType type = state.type;
  bool sliced = false;
  int64_t offset = 0, slice = 0;
  if (state.bucket < 0) {
    buffer = state.buffer;
  } else {
    const Bucket &bucket = program.buckets[state.bucket];
    offset = state.offset;
    slice = bucket.sliceElements;
    if (value == StateValue::Gradient) {
      copied = gradient;
      buffer = bucket.gradient;
      type = bucket.gradientType;
      sliced = !bucket.gradientWhole;
    } else if (value == StateValue::Average) {
      buffer = averageOf(bucket);
      type = bucket.masterType;
      sliced = bucket.optimizerSharded;
    } else if (bucket.master >= 0) {
      buffer = bucket.master;
      type = bucket.masterType;
      sliced = bucket.optimizerSharded;
    } else {
      buffer = bucket.parameters;
      type = bucket.computeType;
      sliced = bucket.parametersSharded;
    }
  }
  if (buffer < 0 && !copied)
    return inputError("state '", state.name, "' has no ", value == StateValue::Gradient ? "gradient" : "memory", " of its own");

  auto fetch = [&](int64_t element, int64_t count, char *destination) -> Status {
    const int64_t width = sizeOf(type);
    if (!copied)
      return executor.download(buffer, element * width, destination, count * width);
    std::copy_n(copied + element * width, count * width, destination);
    return success();
  };

  const bool root = communicator.rank() == 0;
  std::vector<char> converted, mine, all;
  auto give = [&](const char *from, int64_t count) -> Status {
    converted.resize(size_t(count * sizeOf(outType)));
    convertElements(type, from, outType, converted.data(), count);
    if (scale != 1)
      for (int64_t i = 0; i < count; ++i)
        storeDouble(outType, converted.data(), i, outType == DataType::F32 ? float(loadAsDouble(outType, converted.data(), i)) * float(scale) : loadAsDouble(outType, converted.data(), i) * scale);
    return sink(converted.data(), count);
  };

  // A sink that fails on rank 0 must not leave the others waiting: they go on, and the failure is told at the end.
  Status failure;
  auto giveOnRoot = [&](const char *from, int64_t count) {
    if (root && failure.succeeded())
      failure = give(from, count);
  };
  if (!sliced || communicator.size() == 1) {
    for (int64_t done = 0; root && done < elements; done += kChunk) {
      int64_t count = std::min(kChunk, elements - done);
      mine.resize(size_t(count * sizeOf(type)));
      ZOPT_RETURN_IF_FAILED(fetch(offset + done, count, mine.data()));
      giveOnRoot(mine.data(), count);
    }
    return failure;
  }
  for (int owner = int(offset / slice); owner * slice < offset + elements; ++owner) {
    int64_t begin = std::max(offset, owner * slice), end = std::min(offset + elements, (owner + 1) * slice);
    for (int64_t from = begin; from < end; from += kChunk) {
      int64_t count = std::min(kChunk, end - from);
      mine.assign(size_t(count * sizeOf(type)), 0);
      if (communicator.rank() == owner)
        ZOPT_RETURN_IF_FAILED(fetch(from - owner * slice, count, mine.data()));
      if (root)
        all.resize(mine.size() * size_t(communicator.size()));
      ZOPT_RETURN_IF_FAILED(communicator.gatherNow("outputs", mine.data(), all.data(), int64_t(mine.size())));
      if (root)
        giveOnRoot(all.data() + size_t(owner) * mine.size(), count);
    }
  }
  return failure;
}

} // namespace zopt::runtime
