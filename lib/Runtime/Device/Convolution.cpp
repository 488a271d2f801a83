//===- Convolution.cpp - convolutions by oneDNN ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/Convolution.h"
#include "OneDnn.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>

namespace zopt::runtime {

using namespace onednn;

namespace {

constexpr int64_t kAlignment = 64;
int64_t roundUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Places in Command::tensors and buffers.
enum { kInput, kWeight, kOutput, kBias };

bool typesFit(const Command &command) {
  const DataType type = command.tensors[kInput].type, weight = command.tensors[kWeight].type;
  if ((type != DataType::F32 && type != DataType::BF16) || command.tensors[kOutput].type != type)
    return false;
  if (weight != type && !(command.convolution.kind == Convolution::Kind::WeightGrad && weight == DataType::F32))
    return false;
  return command.tensors.size() <= kBias || command.tensors[kBias].type == type || command.tensors[kBias].type == DataType::F32;
}

bool fits(const Command &command) {
  const size_t count = command.tensors.size(), rank = count == 0 ? 0 : command.tensors[kInput].shape.size();
  if (count < 3 || rank < 3 || rank > 5 || !typesFit(command))
    return false;
  for (size_t i = 0; i < count; ++i)
    for (int64_t size : command.tensors[i].shape)
      if (size <= 0)
        return false;
  for (int i : {kInput, kWeight, kOutput})
    if (command.tensors[i].shape.size() != rank || command.tensors[i].strides.size() != rank)
      return false;
  return liesChannelsLast(command.tensors[kInput].shape, command.tensors[kInput].strides) && liesChannelsLast(command.tensors[kOutput].shape, command.tensors[kOutput].strides) && (count <= kBias || (command.tensors[kBias].shape.size() == 1 && command.tensors[kBias].strides[0] == 1));
}

bool describe(const MatmulOperand &tensor, dnnl_memory_desc_t &descriptor) {
  return dnnl_memory_desc_init_by_strides(&descriptor, int(tensor.shape.size()), tensor.shape.data(), libraryType(tensor.type), tensor.strides.data()) == dnnl_success;
}

/// A weight has an axis for the groups, where there are several: as it lies, or in the library's own order.
bool describeWeight(const Command &command, dnnl_memory_desc_t &own, dnnl_memory_desc_t &any) {
  MatmulOperand weight = command.tensors[kWeight];
  if (const int64_t groups = command.convolution.groups; groups > 1) {
    weight.shape[0] /= groups;
    weight.strides.insert(weight.strides.begin(), weight.strides[0] * weight.shape[0]);
    weight.shape.insert(weight.shape.begin(), groups);
  }
  return describe(weight, own) && dnnl_memory_desc_init_by_tag(&any, int(weight.shape.size()), weight.shape.data(), libraryType(weight.type), dnnl_format_tag_any) == dnnl_success;
}

int64_t scratchOf(dnnl_primitive_desc_t descriptor) {
  const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
  return scratch ? int64_t(dnnl_memory_desc_get_size(scratch)) : 0;
}

const char *nameOf(dnnl_primitive_desc_t descriptor) {
  const char *name = "";
  dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name);
  return name;
}

dnnl_query_t weightQuery(Convolution::Kind kind) { return kind == Convolution::Kind::WeightGrad ? dnnl_query_diff_weights_md : dnnl_query_weights_md; }

/// The implementation, and the copy of the weight to or from its order where that is another. Scratch: the weight in that order, then what both need, one after the other.
struct Description {
  Owned<dnnl_primitive_desc_t> convolution, reorder;
  dnnl_memory_desc_t ownWeight = {};
  int64_t weightBytes = 0, sharedBytes = 0;

  int64_t scratchBytes() const { return weightBytes + sharedBytes; }
};

/// False where the library has no planned implementation.
bool makeDescription(const Command &command, Description &made) {
  const Convolution &convolution = command.convolution;
  const size_t space = command.tensors[kInput].shape.size() - 2;
  dnnl_memory_desc_t input, output, bias, anyWeight;
  const bool hasBias = command.tensors.size() > kBias;
  if (!engine() || !describe(command.tensors[kInput], input) || !describe(command.tensors[kOutput], output) || !describeWeight(command, made.ownWeight, anyWeight) ||
      (hasBias && !describe(command.tensors[kBias], bias)))
    return false;
  dnnl_dims_t strides, dilations, begins, ends;
  for (size_t axis = 0; axis < space; ++axis) {
    strides[axis] = convolution.strides[axis];
    dilations[axis] = convolution.dilations[axis] - 1; // the library counts what lies between
    begins[axis] = convolution.pads[axis];
    ends[axis] = convolution.pads[space + axis];
  }
  dnnl_convolution_desc_t description;
  dnnl_status_t status = dnnl_unimplemented;
  switch (convolution.kind) {
  case Convolution::Kind::Forward:
    status = dnnl_dilated_convolution_forward_desc_init(&description, dnnl_forward_training, dnnl_convolution_direct, &input, &anyWeight, hasBias ? &bias : nullptr, &output, strides, dilations, begins, ends);
    break;
  case Convolution::Kind::InputGrad:
    status = dnnl_dilated_convolution_backward_data_desc_init(&description, dnnl_convolution_direct, &input, &anyWeight, &output, strides, dilations, begins, ends);
    break;
  case Convolution::Kind::WeightGrad:
    status = dnnl_dilated_convolution_backward_weights_desc_init(&description, dnnl_convolution_direct, &input, &anyWeight, nullptr, &output, strides, dilations, begins, ends);
    break;
  }
  Owned<dnnl_primitive_attr_t> attributes = plannedScratch();
  dnnl_primitive_desc_iterator_t iterator = nullptr;
  if (status != dnnl_success || !attributes || dnnl_primitive_desc_iterator_create(&iterator, &description, attributes.get(), engine(), nullptr) != dnnl_success)
    return false;
  do {
    Owned<dnnl_primitive_desc_t> candidate(dnnl_primitive_desc_iterator_fetch(iterator));
    if (candidate && (std::strncmp(nameOf(candidate.get()), "jit", 3) == 0 || std::strncmp(nameOf(candidate.get()), "br", 2) == 0)) {
      made.convolution = std::move(candidate);
      break;
    }
  } while (dnnl_primitive_desc_iterator_next(iterator) == dnnl_success);
  dnnl_primitive_desc_iterator_destroy(iterator);
  if (!made.convolution)
    return false;
  made.sharedBytes = scratchOf(made.convolution.get());

  const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(made.convolution.get(), weightQuery(convolution.kind), 0);
  if (!dnnl_memory_desc_equal(wanted, &made.ownWeight)) {
    const bool back = convolution.kind == Convolution::Kind::WeightGrad;
    dnnl_primitive_desc_t reorder = nullptr;
    if (dnnl_reorder_primitive_desc_create(&reorder, back ? wanted : &made.ownWeight, engine(), back ? &made.ownWeight : wanted, engine(), attributes.get()) != dnnl_success)
      return false;
    made.reorder.reset(reorder);
    made.weightBytes = roundUp(int64_t(dnnl_memory_desc_get_size(wanted)));
    made.sharedBytes = std::max(made.sharedBytes, scratchOf(reorder));
  }
  return true;
}

std::string keyOf(const Command &command, int threads) {
  std::ostringstream key;
  key << threads << ' ' << int(command.convolution.kind) << ' ' << command.convolution.groups;
  for (const std::vector<int64_t> *values : {&command.convolution.strides, &command.convolution.dilations, &command.convolution.pads}) {
    key << ':';
    for (int64_t value : *values)
      key << ' ' << value;
  }
  for (const MatmulOperand &tensor : command.tensors) {
    key << '/' << int(tensor.type);
    for (int64_t size : tensor.shape)
      key << ' ' << size;
    key << ':';
    for (int64_t stride : tensor.strides)
      key << ' ' << stride;
  }
  return key.str();
}

/// A primitive with its memories, whose addresses come with each run.
class Primitive {
public:
  Status initialize(dnnl_primitive_desc_t descriptor) {
    dnnl_primitive_t made = nullptr;
    if (dnnl_status_t status = dnnl_primitive_create(&made, descriptor); status != dnnl_success)
      return callError("dnnl_primitive_create", textOf(status));
    primitive.reset(made);
    return success();
  }

  Status add(int argument, const dnnl_memory_desc_t *descriptor) {
    dnnl_memory_t made = nullptr;
    if (dnnl_status_t status = dnnl_memory_create(&made, descriptor, engine(), DNNL_MEMORY_NONE); status != dnnl_success)
      return callError("dnnl_memory_create", textOf(status));
    memories.emplace_back(made);
    arguments.push_back({argument, made});
    return success();
  }

  /// `addresses`: one an argument, in the order in which they were added.
  Status run(dnnl_stream_t stream, std::initializer_list<void *> addresses) {
    size_t next = 0;
    for (void *address : addresses) {
      if (next == memories.size())
        break;
      if (dnnl_status_t status = dnnl_memory_set_data_handle(memories[next++].get(), address); status != dnnl_success)
        return callError("dnnl_memory_set_data_handle", textOf(status));
    }
    if (dnnl_status_t status = dnnl_primitive_execute(primitive.get(), stream, int(arguments.size()), arguments.data()); status != dnnl_success)
      return callError("dnnl_primitive_execute", textOf(status));
    return success();
  }

private:
  Owned<dnnl_primitive_t> primitive;
  std::vector<Owned<dnnl_memory_t>> memories;
  std::vector<dnnl_exec_arg_t> arguments;
};

class OneDnnConvolution final : public ConvolutionPrimitive {
public:
  Status initialize(const Command &command) {
    kind = command.convolution.kind;
    if (!makeDescription(command, description))
      return inputError("convolution of ", shapeText(command.tensors[kInput].shape), " with ", shapeText(command.tensors[kWeight].shape), " into ", shapeText(command.tensors[kOutput].shape), " ",
                        runtime::nameOf(command.tensors[kInput].type), " has no planned implementation in this machine's library");
    dnnl_stream_t made = nullptr;
    if (dnnl_status_t status = dnnl_stream_create(&made, engine(), dnnl_stream_default_flags); status != dnnl_success)
      return callError("dnnl_stream_create", textOf(status));
    stream.reset(made);
    dnnl_primitive_desc_t descriptor = description.convolution.get();
    ZOPT_RETURN_IF_FAILED(convolution.initialize(descriptor));
    const bool toInput = kind == Convolution::Kind::InputGrad, toWeight = kind == Convolution::Kind::WeightGrad;
    auto layout = [&](dnnl_query_t query, int index = 0) { return dnnl_primitive_desc_query_md(descriptor, query, index); };
    ZOPT_RETURN_IF_FAILED(convolution.add(toInput ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, layout(toInput ? dnnl_query_diff_src_md : dnnl_query_src_md)));
    ZOPT_RETURN_IF_FAILED(convolution.add(toWeight ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, layout(weightQuery(kind))));
    ZOPT_RETURN_IF_FAILED(convolution.add(kind == Convolution::Kind::Forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, layout(kind == Convolution::Kind::Forward ? dnnl_query_dst_md : dnnl_query_diff_dst_md)));
    ZOPT_RETURN_IF_FAILED(convolution.add(DNNL_ARG_SCRATCHPAD, layout(dnnl_query_scratchpad_md)));
    if (command.tensors.size() > kBias)
      ZOPT_RETURN_IF_FAILED(convolution.add(DNNL_ARG_BIAS, layout(dnnl_query_weights_md, 1)));
    if (description.reorder) {
      ZOPT_RETURN_IF_FAILED(reorder.initialize(description.reorder.get()));
      ZOPT_RETURN_IF_FAILED(reorder.add(DNNL_ARG_FROM, toWeight ? layout(weightQuery(kind)) : &description.ownWeight));
      ZOPT_RETURN_IF_FAILED(reorder.add(DNNL_ARG_TO, toWeight ? &description.ownWeight : layout(weightQuery(kind))));
      ZOPT_RETURN_IF_FAILED(reorder.add(DNNL_ARG_SCRATCHPAD, dnnl_primitive_desc_query_md(description.reorder.get(), dnnl_query_scratchpad_md, 0)));
    }
    return success();
  }

  Status run(void *input, void *weight, void *output, const void *bias, void *scratch) override {
    void *shared = static_cast<char *>(scratch) + description.weightBytes;
    void *ordered = description.reorder ? scratch : weight;
    if (description.reorder && kind != Convolution::Kind::WeightGrad)
      ZOPT_RETURN_IF_FAILED(reorder.run(stream.get(), {weight, ordered, shared}));
    ZOPT_RETURN_IF_FAILED(convolution.run(stream.get(), {input, ordered, output, shared, const_cast<void *>(bias)}));
    if (description.reorder && kind == Convolution::Kind::WeightGrad)
      ZOPT_RETURN_IF_FAILED(reorder.run(stream.get(), {ordered, weight, shared}));
    if (dnnl_status_t status = dnnl_stream_wait(stream.get()); status != dnnl_success)
      return callError("dnnl_stream_wait", textOf(status));
    return success();
  }

  int64_t scratchBytes() const override { return description.scratchBytes(); }
  const char *implementation() const override { return onednnName(); }

private:
  const char *onednnName() const { return nameOf(description.convolution.get()); }

  Convolution::Kind kind = Convolution::Kind::Forward;
  Description description;
  Primitive convolution, reorder;
  Owned<dnnl_stream_t> stream;
};

} // namespace

ConvolutionPrimitive::~ConvolutionPrimitive() = default;

int64_t convolutionScratchBytes(const Command &command, int threads) {
  if (!fits(command))
    return -1;
  static std::mutex mutex;
  static std::map<std::string, int64_t> known;
  std::string key = keyOf(command, threads);
  std::lock_guard<std::mutex> lock(mutex);
  if (auto found = known.find(key); found != known.end())
    return found->second;
  // The library sizes its scratch for the team that the calling thread would start.
  TeamSize teamSize(threads);
  Description description;
  return known[key] = makeDescription(command, description) ? description.scratchBytes() : -1;
}

Result<std::unique_ptr<ConvolutionPrimitive>> ConvolutionPrimitive::create(const Command &command, int threads) {
  if (!fits(command))
    return inputError("convolution of ", command.tensors.empty() ? "nothing" : shapeText(command.tensors[kInput].shape), " has types or strides that the library has no planned implementation for");
  TeamSize teamSize(threads);
  auto made = std::make_unique<OneDnnConvolution>();
  ZOPT_RETURN_IF_FAILED(made->initialize(command));
  return std::unique_ptr<ConvolutionPrimitive>(std::move(made));
}

} // namespace zopt::runtime
