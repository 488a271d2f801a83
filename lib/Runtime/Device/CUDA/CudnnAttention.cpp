//===- CudnnAttention.cpp - attention by cuDNN ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// cuDNN takes attention as a graph of small operations that it recognizes; its header-only frontend writes that graph. The frontend throws where a library is missing: nothing leaves this file but a Status.
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cudnn_frontend.h>
#include <exception>
#include <sstream>
#include <unordered_map>
#include <vector>

// The frontend calls the library through this handle.
namespace cudnn_frontend {
void *cudnn_dlhandle = nullptr;
} // namespace cudnn_frontend

namespace zopt::runtime::cuda {

namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

Status statusOf(fe::error_t error, const char *call) {
  if (error.is_good())
    return success();
  return callError(call, error.get_message());
}

/// A tensor of the command and how a part walks it.
struct PartTensor {
  int64_t uid = 0;
  int buffer = 0;          // index in Command::buffers
  int64_t elementSize = 0; // bytes
  std::vector<int64_t> shape, strides; // of a part
  int64_t batchStep = 0, headStep = 0; // elements from a part to the next over batches, over key heads
};

class CudnnAttention final : public DeviceAttention {
public:
  explicit CudnnAttention(LibraryContext::Implementation &library) : library(library) {}

  Status initialize(const Command &command, const AttentionParts &theParts, const AttentionOptions &options, int64_t scratchBytes) {
    parts = theParts;
    describeTensors(command);
    ZOPT_RETURN_IF_FAILED(buildGraph(command, options));
    int64_t wanted = 0;
    ZOPT_RETURN_IF_FAILED(statusOf(graph->get_workspace_size(wanted), "cudnn workspace size"));
    // Used from its first aligned byte on, so a little of the scratch may be lost.
    workspace = wanted > 0 ? wanted + kWorkspaceAlignment : 0;
    if (workspace > scratchBytes)
      return runtimeError("cudnn wants ", workspace, " bytes of workspace for ", command.kind == Command::Kind::Attention ? "attention" : "the gradient of attention", " of query ", shapeText(command.tensors[0].shape), " and key ", shapeText(command.tensors[1].shape), ", but the plan has ", scratchBytes);
    for (const PartTensor &tensor : tensors)
      pack[tensor.uid] = nullptr;
    return success();
  }

  Status run(CUstream stream, const CUdeviceptr *buffers) override {
    if (int status = library.cudnn.setStream(handle, stream))
      return callError("cudnnSetStream", library.cudnn.getErrorString(status));
    const CUdeviceptr scratch = (buffers[scratchIndex] + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
    try {
      for (int64_t batch = 0; batch < batchParts; ++batch)
        for (int64_t head = 0; head < headParts; ++head) {
          for (const PartTensor &tensor : tensors)
            pack[tensor.uid] = reinterpret_cast<void *>(buffers[tensor.buffer] + CUdeviceptr((batch * tensor.batchStep + head * tensor.headStep) * tensor.elementSize));
          ZOPT_RETURN_IF_FAILED(
              statusOf(graph->execute(static_cast<cudnnHandle_t>(handle), pack, reinterpret_cast<void *>(scratch)),
                       "cudnn execute"));
        }
    } catch (const std::exception &error) {
      return callError("cudnn execute", error.what());
    }
    return success();
  }

  int64_t workspaceBytes() const override { return workspace; }

  /// Everything that the library's plan depends on: layers of a model share one, because making it takes the library up
  /// to a second.
  static std::string keyOf(const Command &command, const AttentionParts &parts, const AttentionOptions &options) {
    LibraryContext::Implementation none;
    CudnnAttention described(none);
    described.parts = parts;
    described.describeTensors(command);
    return described.keyOf(command, options);
  }

private:
  void describeTensors(const Command &command) {
    const bool gradient = command.kind == Command::Kind::AttentionGrad;
    const std::vector<int64_t> &query = command.tensors[AttentionTensors::Query].shape, &key = command.tensors[AttentionTensors::Key].shape;
    const int64_t group = query[1] / key[1], partKeyHeads = parts.keyHeads, partHeads = parts.keyHeads * group;
    batchParts = query[0] / parts.batches;
    headParts = key[1] / parts.keyHeads;
    maskIndex = gradient ? int(AttentionTensors::GradMask) : int(AttentionTensors::Mask);
    scratchIndex = maskIndex + 1;
    for (size_t i = 0; i < command.tensors.size(); ++i) {
      const MatmulOperand &operand = command.tensors[i];
      PartTensor tensor;
      tensor.uid = int64_t(i) + 1;
      tensor.buffer = int(i);
      tensor.elementSize = sizeOf(operand.type);
      tensor.shape.assign(4 - operand.shape.size(), 1);
      tensor.strides.assign(4 - operand.shape.size(), 0);
      tensor.shape.insert(tensor.shape.end(), operand.shape.begin(), operand.shape.end());
      tensor.strides.insert(tensor.strides.end(), operand.strides.begin(), operand.strides.end());
      const bool isMask = int(i) == maskIndex;
      const int64_t heads = tensor.shape[1] == 1 && isMask ? 0 : tensor.shape[1] == key[1] && !isMask && operand.shape == key ? partKeyHeads : partHeads;
      if (!isMask || tensor.shape[0] != 1) {
        tensor.batchStep = parts.batches * tensor.strides[0];
        tensor.shape[0] = parts.batches;
      }
      if (heads) {
        tensor.headStep = heads * tensor.strides[1];
        tensor.shape[1] = heads;
      }
      // An axis of size 1 has no stride of its own: it gets that of a dense tensor, which the library's checks of layouts and alignment expect.
      int64_t inner = 1;
      for (size_t axis = 4; axis-- > 0;) {
        if (tensor.shape[axis] == 1)
          tensor.strides[axis] = inner;
        inner = std::max(inner, tensor.strides[axis] * tensor.shape[axis]);
      }
      tensors.push_back(tensor);
    }
  }

  fe::graph::Tensor_attributes attributesOf(size_t index, const char *name) const {
    const PartTensor &tensor = tensors[index];
    return fe::graph::Tensor_attributes().set_name(name).set_uid(tensor.uid).set_dim(tensor.shape).set_stride(tensor.strides);
  }

  Tensor input(size_t index, const char *name) { return graph->tensor(attributesOf(index, name)); }
  Tensor lseInput(size_t index) { return graph->tensor(attributesOf(index, "lse").set_data_type(fe::DataType_t::FLOAT)); }
  void output(const Tensor &made, size_t index) const { made->set_output(true).set_uid(tensors[index].uid).set_dim(tensors[index].shape).set_stride(tensors[index].strides); }

  template <typename Attributes>
  void setCommon(Attributes &attributes, const Command &command) {
    attributes.set_attn_scale(float(command.scale));
    if (command.causal) {
      // Counted from the end, which is the same from the start where there are as many queries as keys.
      if (command.tensors[AttentionTensors::Query].shape[2] == command.tensors[AttentionTensors::Key].shape[2])
        attributes.set_causal_mask(true);
      else
        attributes.set_causal_mask_bottom_right(true);
    }
    if (int(tensors.size()) > maskIndex)
      attributes.set_bias(input(size_t(maskIndex), "mask"));
  }

  std::string keyOf(const Command &command, const AttentionOptions &options) const {
    std::ostringstream key;
    key.precision(17);
    key << int(command.kind) << ' ' << int(command.tensors[0].type) << ' ' << command.scale << ' ' << command.causal << ' ' << options.deterministic;
    for (const PartTensor &tensor : tensors) {
      key << '/';
      for (int64_t size : tensor.shape)
        key << ' ' << size;
      key << ':';
      for (int64_t stride : tensor.strides)
        key << ' ' << stride;
    }
    return key.str();
  }

  Status buildGraph(const Command &command, const AttentionOptions &options) {
    // The same library for every context, so it is set once.
    static const bool isSet = [&] { return (fe::cudnn_dlhandle = library.cudnnLibrary) != nullptr; }();
    if (!isSet)
      return callError("dlopen", "no cuDNN");
    CudnnPlan &known = library.attentionGraphs[keyOf(command, options)];
    if (!known.graph) {
      ZOPT_RETURN_IF_FAILED(makeGraph(command, options));
      known = {graph, library.cudnnHandle};
    }
    graph = std::static_pointer_cast<fe::graph::Graph>(known.graph);
    handle = known.handle;
    return success();
  }

  Status makeGraph(const Command &command, const AttentionOptions &options) {
    using Index = AttentionTensors;
    try {
      graph = std::make_shared<fe::graph::Graph>();
      graph->set_io_data_type(command.tensors[0].type == DataType::F16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16);
      graph->set_intermediate_data_type(fe::DataType_t::FLOAT).set_compute_data_type(fe::DataType_t::FLOAT);
      Tensor query = input(Index::Query, "query"), key = input(Index::Key, "key"), value = input(Index::Value, "value");
      if (command.kind == Command::Kind::Attention) {
        auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
        setCommon(attributes, command);
        auto [made, lse] = graph->sdpa(query, key, value, attributes);
        output(made, Index::Output);
        output(lse, Index::Lse);
        lse->set_data_type(fe::DataType_t::FLOAT);
      } else {
        auto attributes = fe::graph::SDPA_backward_attributes().set_name("attention_grad").set_deterministic_algorithm(options.deterministic);
        setCommon(attributes, command);
        Tensor forward = input(Index::GradOutput, "output"), lse = lseInput(Index::GradLse), cotangent = input(Index::Cotangent, "cotangent");
        auto [ofQuery, ofKey, ofValue] = graph->sdpa_backward(query, key, value, forward, cotangent, lse, attributes);
        output(ofQuery, Index::QueryGradient);
        output(ofKey, Index::KeyGradient);
        output(ofValue, Index::ValueGradient);
      }
      return statusOf(graph->build(static_cast<cudnnHandle_t>(library.cudnnHandle), {fe::HeurMode_t::A}), "cudnn build");
    } catch (const std::exception &error) {
      return callError("cudnn build", error.what());
    }
  }

  LibraryContext::Implementation &library;
  AttentionParts parts;
  std::vector<PartTensor> tensors;
  std::shared_ptr<fe::graph::Graph> graph;
  void *handle = nullptr; // that the plan was made with
  std::unordered_map<int64_t, void *> pack;
  int64_t batchParts = 1, headParts = 1, workspace = 0;
  int maskIndex = 0, scratchIndex = 0;
};

} // namespace

std::string attentionPlanKey(const Command &command, const AttentionOptions &options) {
  Result<AttentionParts> parts = planAttention(command, options);
  return parts.failed() ? "" : CudnnAttention::keyOf(command, *parts, options);
}

Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &context, const Command &command, int64_t scratchBytes, const AttentionOptions &options) {
  Result<AttentionParts> parts = planAttention(command, options);
  if (parts.failed())
    return parts.getStatus();
  ZOPT_RETURN_IF_FAILED(context.loadAttentionLibrary());
  auto attention = std::make_unique<CudnnAttention>(context.get());
  ZOPT_RETURN_IF_FAILED(attention->initialize(command, *parts, options, scratchBytes));
  return std::unique_ptr<DeviceAttention>(std::move(attention));
}

} // namespace zopt::runtime::cuda
