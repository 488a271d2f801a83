//===- CudnnConvolution.cpp - convolutions by cuDNN -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Graphs of one operation, through cudnn-frontend. Of the engines that the library's heuristic offers, those that are not deterministic, that sum in less than fp32, that round fp32 inputs (TF32), or that
// want more workspace than the plan has are left out; the first that is left is taken.
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include "zopt/Runtime/Core/DataType.h"
#include <cudnn_frontend.h>
#include <exception>
#include <sstream>
#include <unordered_map>

namespace zopt::runtime::cuda {

namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum { kInput, kWeight, kOutput };

Status statusOf(fe::error_t error, const char *call) { return error.is_good() ? success() : callError(call, error.get_message()); }

fe::DataType_t typeOf(DataType type) { return type == DataType::F32 ? fe::DataType_t::FLOAT : type == DataType::F16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16; }

class CudnnConvolution final : public DeviceConvolution {
public:
  explicit CudnnConvolution(LibraryContext::Implementation &library) : library(library) {}

  Status initialize(const Command &command, const ConvolutionMapping &mapping, int64_t scratchBytes) {
    // The same library for every context, so it is set once.
    static const bool isSet = [&] { return (fe::cudnn_dlhandle = library.cudnnLibrary) != nullptr; }();
    if (!isSet)
      return callError("dlopen", "no cuDNN");
    // Layers that are alike share a plan, because making one takes the library up to a second.
    CudnnPlan &known = library.convolutionGraphs[keyOf(command, scratchBytes)];
    if (!known.graph) {
      ZOPT_RETURN_IF_FAILED(makeGraph(command.convolution.kind, mapping, scratchBytes - kWorkspaceAlignment));
      known = {graph, library.cudnnHandle};
    }
    graph = std::static_pointer_cast<fe::graph::Graph>(known.graph);
    handle = known.handle;
    ZOPT_RETURN_IF_FAILED(statusOf(graph->get_workspace_size(workspace), "cudnn workspace size"));
    if (workspace > scratchBytes - kWorkspaceAlignment)
      return runtimeError("cudnn wants ", workspace, " bytes of workspace for a convolution of ", shapeText(command.tensors[kInput].shape), " and ", shapeText(command.tensors[kWeight].shape), ", but the plan has ", scratchBytes);
    for (int i : {kInput, kWeight, kOutput})
      pack[i + 1] = nullptr;
    return success();
  }

  Status run(CUstream stream, const CUdeviceptr *buffers) override {
    if (int status = library.cudnn.setStream(handle, stream))
      return callError("cudnnSetStream", library.cudnn.getErrorString(status));
    // Used from its first aligned byte on, so a little of the scratch may be lost.
    const CUdeviceptr scratch = (buffers[kScratch] + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
    for (int i : {kInput, kWeight, kOutput})
      pack[i + 1] = reinterpret_cast<void *>(buffers[i]);
    try {
      return statusOf(graph->execute(static_cast<cudnnHandle_t>(handle), pack, reinterpret_cast<void *>(scratch)),
                      "cudnn execute");
    } catch (const std::exception &error) {
      return callError("cudnn execute", error.what());
    }
  }

  int64_t workspaceBytes() const override { return workspace; }

  static std::string keyOf(const Command &command, int64_t scratchBytes) {
    std::ostringstream key;
    key << scratchBytes << ' ' << int(command.convolution.kind);
    for (const std::vector<int64_t> *values : {&command.convolution.strides, &command.convolution.dilations, &command.convolution.pads}) {
      key << ':';
      for (int64_t value : *values)
        key << ' ' << value;
    }
    for (const MatmulOperand &tensor : command.tensors) {
      key << '/' << int(tensor.type);
      for (int64_t size : tensor.shape)
        key << ' ' << size;
    }
    return key.str();
  }

private:
  static constexpr int kScratch = 4; // in Command::buffers, behind a bias that is never there

  template <typename Attributes>
  static Attributes attributesOf(const ConvolutionMapping &mapping) {
    return Attributes().set_pre_padding(mapping.begins).set_post_padding(mapping.ends).set_stride(mapping.strides).set_dilation(mapping.dilations);
  }

  Status makeGraph(Convolution::Kind kind, const ConvolutionMapping &mapping, int64_t workspaceLimit) {
    auto describe = [&](int i) {
      const MatmulOperand &tensor = mapping.tensors[size_t(i)];
      return fe::graph::Tensor_attributes().set_uid(i + 1).set_dim(tensor.shape).set_stride(tensor.strides).set_data_type(typeOf(tensor.type));
    };
    const DataType type = mapping.tensors[kInput].type;
    try {
      graph = std::make_shared<fe::graph::Graph>();
      graph->set_io_data_type(typeOf(type)).set_intermediate_data_type(fe::DataType_t::FLOAT).set_compute_data_type(fe::DataType_t::FLOAT);
      Tensor made;
      int written = kOutput;
      switch (kind) {
      case Convolution::Kind::Forward:
        made = graph->conv_fprop(graph->tensor(describe(kInput)), graph->tensor(describe(kWeight)), attributesOf<fe::graph::Conv_fprop_attributes>(mapping));
        break;
      case Convolution::Kind::InputGrad:
        written = kInput;
        made = graph->conv_dgrad(graph->tensor(describe(kOutput)), graph->tensor(describe(kWeight)), attributesOf<fe::graph::Conv_dgrad_attributes>(mapping));
        break;
      case Convolution::Kind::WeightGrad:
        written = kWeight;
        made = graph->conv_wgrad(graph->tensor(describe(kOutput)), graph->tensor(describe(kInput)), attributesOf<fe::graph::Conv_wgrad_attributes>(mapping));
        break;
      }
      const MatmulOperand &result = mapping.tensors[size_t(written)];
      made->set_output(true).set_uid(written + 1).set_dim(result.shape).set_stride(result.strides).set_data_type(typeOf(result.type));

      const auto handle = static_cast<cudnnHandle_t>(library.cudnnHandle);
      ZOPT_RETURN_IF_FAILED(statusOf(graph->validate(), "cudnn validate"));
      ZOPT_RETURN_IF_FAILED(statusOf(graph->build_operation_graph(handle), "cudnn operation graph"));
      ZOPT_RETURN_IF_FAILED(statusOf(graph->create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}), "cudnn heuristic"));
      std::vector<fe::NumericalNote_t> unwanted = {fe::NumericalNote_t::NONDETERMINISTIC, fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION};
      if (type == DataType::F32)
        unwanted.insert(unwanted.end(), {fe::NumericalNote_t::TENSOR_CORE, fe::NumericalNote_t::DOWN_CONVERT_INPUTS});
      graph->deselect_numeric_notes(unwanted);
      graph->deselect_workspace_greater_than(workspaceLimit);
      ZOPT_RETURN_IF_FAILED(statusOf(graph->check_support(handle), "cudnn support"));
      return statusOf(graph->build_plans(handle, fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), "cudnn build");
    } catch (const std::exception &error) {
      return callError("cudnn build", error.what());
    }
  }

  LibraryContext::Implementation &library;
  std::shared_ptr<fe::graph::Graph> graph;
  void *handle = nullptr; // that the plan was made with
  std::unordered_map<int64_t, void *> pack;
  int64_t workspace = 0;
};

} // namespace

std::string convolutionPlanKey(const Command &command, int64_t scratchBytes) {
  return CudnnConvolution::keyOf(command, scratchBytes);
}

Result<std::unique_ptr<DeviceConvolution>> createConvolution(LibraryContext &context, const Command &command, int64_t scratchBytes) {
  Result<ConvolutionMapping> mapping = mapConvolution(command);
  if (mapping.failed())
    return mapping.getStatus();
  ZOPT_RETURN_IF_FAILED(context.loadAttentionLibrary());
  auto convolution = std::make_unique<CudnnConvolution>(context.get());
  ZOPT_RETURN_IF_FAILED(convolution->initialize(command, *mapping, scratchBytes));
  return std::unique_ptr<DeviceConvolution>(std::move(convolution));
}

} // namespace zopt::runtime::cuda
