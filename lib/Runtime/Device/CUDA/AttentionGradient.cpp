//===- AttentionGradient.cpp - the gradients of attention on Hopper -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AttentionGradient.h"
#include "AttentionGradientLayout.h"
#include "Module.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/AttentionRules.h"
#include <algorithm>
#include <cstring>
#include <tuple>

namespace zopt::runtime::cuda {

namespace layout = attention_gradient;

namespace {

constexpr char kBf16Of64[] =
#include "AttentionGradient-bf16_64.ptx.inc"
    ;
constexpr char kBf16Of128[] =
#include "AttentionGradient-bf16_128.ptx.inc"
    ;
constexpr char kF16Of64[] =
#include "AttentionGradient-f16_64.ptx.inc"
    ;
constexpr char kF16Of128[] =
#include "AttentionGradient-f16_128.ptx.inc"
    ;

/// Heads whose tensors are to be in the L2 cache at once may take this much of its 50 MB, for every line may be in both halves.
constexpr int64_t kGroupBytes = int64_t(16) << 20;

static_assert(layout::kTile == kAttentionGradientTile && layout::kStatisticsBytes == kAttentionGradientStatisticsBytes, "what is planned is what kernels write");
static_assert(layout::QueryShared<64>::kBytes <= 227 * 1024 && layout::QueryShared<128>::kBytes <= 227 * 1024 && layout::KeyShared<64>::kBytes <= 227 * 1024 && layout::KeyShared<128>::kBytes <= 227 * 1024,
              "a block may have 227 KiB");

/// Shared memory of a block of each kernel.
unsigned querySharedBytes(int64_t width) { return width > 64 ? layout::QueryShared<128>::kBytes : layout::QueryShared<64>::kBytes; }
unsigned keySharedBytes(int64_t width) { return width > 64 ? layout::KeyShared<128>::kBytes : layout::KeyShared<64>::kBytes; }

class OwnAttentionGradient final : public DeviceAttention {
public:
  OwnAttentionGradient(const Driver &driver, CUfunction query, CUfunction keyValue, int64_t width) : driver(driver), query(query), keyValue(keyValue), width(width) {}

  Status run(CUstream stream, const CUdeviceptr *) override {
    ZOPT_CUDA(driver, cuMemsetD8Async, CUdeviceptr(parameters.counters), 0, 2 * sizeof(unsigned), stream);
    ZOPT_RETURN_IF_FAILED(launch(query, queryBlocks, querySharedBytes(width), stream));
    return launch(keyValue, keyBlocks, keySharedBytes(width), stream);
  }

  int64_t workspaceBytes() const override { return workspace; }

  layout::Parameters parameters = {};
  unsigned queryBlocks = 0, keyBlocks = 0;
  int64_t workspace = 0;

private:
  Status launch(CUfunction function, unsigned blocks, unsigned sharedBytes, CUstream stream) {
    void *arguments[] = {&parameters};
    ZOPT_CUDA(driver, cuLaunchKernel, function, blocks, 1, 1, layout::kThreads, 1, 1, sharedBytes, stream, arguments, nullptr);
    return success();
  }

  const Driver &driver;
  CUfunction query, keyValue;
  int64_t width;
};

/// Boxes of `rows` positions and one slice of the width, of a tensor [batch, heads, positions, width].
Status describe(const Driver &driver, const MatmulOperand &tensor, CUdeviceptr address, int rows, layout::TensorMap &map) {
  const int64_t bytes = sizeOf(tensor.type);
  const cuuint64_t sizes[] = {cuuint64_t(tensor.shape[3]), cuuint64_t(tensor.shape[2]), cuuint64_t(tensor.shape[1]), cuuint64_t(tensor.shape[0])};
  cuuint64_t strides[3];
  for (int i = 0; i < 3; ++i) // an axis of size 1 may have any stride, but not this one
    strides[i] = cuuint64_t(tensor.shape[2 - i] > 1 ? tensor.strides[2 - i] * bytes : tensor.shape[3] * bytes);
  const cuuint32_t box[] = {layout::kSlice, cuuint32_t(rows), 1, 1}, steps[] = {1, 1, 1, 1};
  CUtensorMap described;
  ZOPT_CUDA(driver, cuTensorMapEncodeTiled, &described, tensor.type == DataType::F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, reinterpret_cast<void *>(address), sizes, strides, box, steps,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  static_assert(sizeof map == sizeof described, "the kernels pass it on as it is");
  std::memcpy(&map, &described, sizeof map);
  return success();
}

/// Heads that are worked on together: as many as the cache holds, and no fewer than give every multiprocessor an item, for a longest item that begins last is waited for.
int groupOf(int64_t bytesOfHead, int64_t itemsOfHead, int64_t heads, int64_t multiprocessors) {
  return int(std::clamp<int64_t>(std::max(kGroupBytes / bytesOfHead, (multiprocessors + itemsOfHead - 1) / itemsOfHead), 1, heads));
}

} // namespace

std::string attentionGradientName(DataType type, int64_t width) { return concat(nameOf(type), "_", width); }

const char *attentionGradientPtx(DataType type, int64_t width) {
  if (type == DataType::BF16)
    return width == 64 ? kBf16Of64 : width == 128 ? kBf16Of128 : "";
  if (type == DataType::F16)
    return width == 64 ? kF16Of64 : width == 128 ? kF16Of128 : "";
  return "";
}

AttentionGradientKernels::~AttentionGradientKernels() {
  for (auto &[key, entry] : entries)
    if (entry.module)
      driver.cuModuleUnload(entry.module);
}

Status AttentionGradientKernels::load(const Command &command) {
  const DataType type = command.tensors[0].type;
  const int64_t width = command.tensors[0].shape[3];
  Entry &entry = entries[{type, width}];
  if (entry.keyValue)
    return success();
  int major = 0, minor = 0;
  ZOPT_CUDA(driver, cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
  ZOPT_CUDA(driver, cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  if (major != 9 || minor != 0)
    return inputError("this plan's gradients of attention are made by kernels for sm_90, but the GPU is an sm_", major, minor, "; compile the portable plan here, or for the chip sm_80");
  ZOPT_CUDA(driver, cuDeviceGetAttribute, &multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  const std::string name = attentionGradientName(type, width);
  const std::string ptx = attentionGradientPtx(type, width);
  if (ptx.empty())
    return inputError("there are no kernels for the gradients of attention in ", name);
  ZOPT_RETURN_IF_FAILED(loadModule(driver, ptx, entry.module).in("the gradients of attention in " + name));
  auto find = [&](const std::string &symbol, unsigned sharedBytes, CUfunction &function) -> Status {
    CUfunction found = nullptr;
    ZOPT_CUDA(driver, cuModuleGetFunction, &found, entry.module, symbol.c_str());
    ZOPT_CUDA(driver, cuFuncSetAttribute, found, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, sharedBytes);
    function = found;
    return success();
  };
  ZOPT_RETURN_IF_FAILED(find("zopt_attention_query_gradient_" + name, querySharedBytes(width), entry.query));
  return find("zopt_attention_key_value_gradient_" + name, keySharedBytes(width), entry.keyValue);
}

Result<std::unique_ptr<DeviceAttention>> AttentionGradientKernels::prepare(const Command &command, const CUdeviceptr *buffers, int64_t scratchBytes) {
  using Index = AttentionTensors;
  Result<AttentionParts> parts = planAttention(command);
  if (parts.failed())
    return parts.getStatus();
  if (parts->scratchBytes > scratchBytes)
    return inputError("the gradient of attention takes ", parts->scratchBytes, " bytes of workspace, but the plan has ", scratchBytes);
  ZOPT_RETURN_IF_FAILED(load(command));
  const std::vector<MatmulOperand> &tensors = command.tensors;
  const std::vector<int64_t> &query = tensors[Index::GradQuery].shape, &key = tensors[Index::GradKey].shape;
  const Entry &entry = entries[{tensors[0].type, query[3]}];
  auto made = std::make_unique<OwnAttentionGradient>(driver, entry.query, entry.keyValue, query[3]);
  made->workspace = parts->scratchBytes;
  layout::Parameters &p = made->parameters;

  const std::pair<int, layout::TensorMap *> blocks[] = {{Index::GradQuery, &p.queryBlock}, {Index::Cotangent, &p.cotangentBlock}, {Index::GradOutput, &p.outputBlock}, {Index::GradKey, &p.keyBlock}, {Index::GradValue, &p.valueBlock}};
  const std::pair<int, layout::TensorMap *> tiles[] = {{Index::GradQuery, &p.queryTile}, {Index::Cotangent, &p.cotangentTile}, {Index::GradKey, &p.keyTile}, {Index::GradValue, &p.valueTile}};
  for (const auto &[tensor, map] : blocks)
    ZOPT_RETURN_IF_FAILED(describe(driver, tensors[tensor], buffers[tensor], layout::kBlock, *map));
  for (const auto &[tensor, map] : tiles)
    ZOPT_RETURN_IF_FAILED(describe(driver, tensors[tensor], buffers[tensor], layout::kTile, *map));
  const std::tuple<int, unsigned short **, long long *> gradients[] = {
      {Index::QueryGradient, &p.queryGradient, p.queryGradientStrides}, {Index::KeyGradient, &p.keyGradient, p.keyGradientStrides}, {Index::ValueGradient, &p.valueGradient, p.valueGradientStrides}};
  for (const auto &[tensor, pointer, strides] : gradients) {
    *pointer = reinterpret_cast<unsigned short *>(buffers[tensor]);
    std::copy_n(tensors[tensor].strides.begin(), 3, strides);
  }
  p.lse = reinterpret_cast<const float *>(buffers[Index::GradLse]);
  const CUdeviceptr workspace = buffers[Index::GradMask + 1];
  p.counters = reinterpret_cast<unsigned *>(workspace);
  p.statistics = reinterpret_cast<float *>(workspace + kAttentionGradientCounterBytes);

  p.batches = int(query[0]), p.heads = int(query[1]), p.keyHeads = int(key[1]), p.queries = int(query[2]), p.keys = int(key[2]);
  p.causal = command.causal;
  p.scale = float(command.scale);
  p.scaleLog2 = float(command.scale * 1.4426950408889634);
  const int64_t queryItems = (query[2] + layout::kBlock - 1) / layout::kBlock, keyItems = (key[2] + layout::kBlock - 1) / layout::kBlock;
  const int64_t heads = query[0] * query[1], keyHeads = key[0] * key[1], width = query[3] * sizeOf(tensors[0].type);
  const int64_t ofHead = (3 * query[2] + 2 * key[2]) * width;
  p.queryGroup = groupOf(ofHead, queryItems, heads, multiprocessors);
  p.keyGroup = groupOf(ofHead * (heads / keyHeads), keyItems, keyHeads, multiprocessors);
  made->queryBlocks = unsigned(std::min<int64_t>(multiprocessors, queryItems * heads));
  made->keyBlocks = unsigned(std::min<int64_t>(multiprocessors, keyItems * keyHeads));
  return std::unique_ptr<DeviceAttention>(std::move(made));
}

} // namespace zopt::runtime::cuda
