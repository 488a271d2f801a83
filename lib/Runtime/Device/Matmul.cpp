//===- Matmul.cpp - matrix products by oneDNN -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/Matmul.h"
#include "OneDnn.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

namespace zopt::runtime {

using namespace onednn;

namespace {

/// What decides the implementation: everything but the buffers.
struct Problem {
  MatmulOperand lhs, rhs, out, bias;
  bool hasBias = false;
  double scale = 1;
};



void transposeMatrix(MatmulOperand &operand) {
  size_t rank = operand.shape.size();
  std::swap(operand.shape[rank - 2], operand.shape[rank - 1]);
  std::swap(operand.strides[rank - 2], operand.strides[rank - 1]);
}

/// An axis of size 1 has no stride of its own: it gets that of a dense tensor, which keeps the library's format matching simple.
void canonicalizeStrides(MatmulOperand &operand) {
  int64_t inner = 1; // elements spanned by the axes to the right
  for (size_t i = operand.shape.size(); i-- > 0;) {
    if (operand.shape[i] == 1)
      operand.strides[i] = inner;
    inner = std::max(inner, operand.strides[i] * operand.shape[i]);
  }
}

/// Whether the elements fill a contiguous range, each once.
bool isDense(const MatmulOperand &operand) {
  std::vector<std::pair<int64_t, int64_t>> axes;
  for (size_t i = 0; i < operand.shape.size(); ++i)
    if (operand.shape[i] != 1)
      axes.push_back({operand.strides[i], operand.shape[i]});
  std::sort(axes.begin(), axes.end());
  int64_t expected = 1;
  for (auto [stride, size] : axes) {
    if (stride != expected)
      return false;
    expected *= size;
  }
  return true;
}

/// Puts the command into the form that the library takes; false where it has none. Sets `swapped` where the operands change places: out^T = rhs^T x lhs^T.
bool makeProblem(const Command &command, Problem &problem, bool &swapped) {
  problem.lhs = command.lhs;
  problem.rhs = command.rhs;
  problem.out = command.out;
  problem.scale = command.scale;
  problem.hasBias = !command.bias.shape.empty();
  if (problem.hasBias)
    problem.bias = command.bias;
  swapped = false;

  size_t rank = problem.out.shape.size();
  if (rank < 2 || rank > 6)
    return false;
  for (const MatmulOperand *operand : {&problem.lhs, &problem.rhs, &problem.out}) {
    if (operand->shape.size() != rank || operand->strides.size() != rank)
      return false;
    for (int64_t size : operand->shape)
      if (size <= 0)
        return false;
  }
  DataType type = problem.lhs.type;
  if (problem.rhs.type != type)
    return false;
  bool types = (type == DataType::F32 && problem.out.type == DataType::F32) || (type == DataType::BF16 && (problem.out.type == DataType::BF16 || problem.out.type == DataType::F32));
  if (!types)
    return false;

  // A column vector may be read either way; prefer unit stride on columns.
  const int64_t rowStride = problem.out.strides[rank - 2], columnStride = problem.out.strides[rank - 1];
  bool rowMajor = columnStride == 1 || problem.out.shape[rank - 1] == 1;
  if (!rowMajor) {
    if (problem.hasBias || rowStride != 1)
      return false;
    std::swap(problem.lhs, problem.rhs);
    for (MatmulOperand *operand : {&problem.lhs, &problem.rhs, &problem.out})
      transposeMatrix(*operand);
    swapped = true;
  }
  for (MatmulOperand *operand : {&problem.lhs, &problem.rhs, &problem.out}) {
    canonicalizeStrides(*operand);
    if (!isDense(*operand))
      return false;
  }
  if (problem.hasBias) {
    // One value a column, repeated over rows and batches.
    const MatmulOperand &bias = problem.bias;
    if (bias.shape.empty() || bias.shape.back() != problem.out.shape.back() || elementCount(bias.shape) != bias.shape.back())
      return false;
    if (bias.strides.back() != 1 && bias.shape.back() != 1)
      return false;
    if (bias.type != DataType::F32 && bias.type != type)
      return false;
  }
  return true;
}

bool describe(const MatmulOperand &operand, dnnl_memory_desc_t &descriptor) {
  dnnl_dims_t sizes, strides;
  for (size_t i = 0; i < operand.shape.size(); ++i) {
    sizes[i] = operand.shape[i];
    strides[i] = operand.strides[i];
  }
  return dnnl_memory_desc_init_by_strides(&descriptor, int(operand.shape.size()), sizes, libraryType(operand.type), strides) == dnnl_success;
}

/// Null where the library has no brgemm implementation for the problem.
dnnl_primitive_desc_t makeDescriptor(const Problem &problem) {
  dnnl_memory_desc_t lhs, rhs, out, bias;
  if (!engine() || !describe(problem.lhs, lhs) || !describe(problem.rhs, rhs) || !describe(problem.out, out))
    return nullptr;
  if (problem.hasBias) {
    MatmulOperand wide;
    wide.type = problem.bias.type;
    wide.shape.assign(problem.out.shape.size(), 1);
    wide.strides.assign(problem.out.shape.size(), problem.bias.shape.back());
    wide.shape.back() = problem.bias.shape.back();
    wide.strides.back() = 1;
    if (!describe(wide, bias))
      return nullptr;
  }
  dnnl_matmul_desc_t description;
  if (dnnl_matmul_desc_init(&description, &lhs, &rhs, problem.hasBias ? &bias : nullptr, &out) != dnnl_success)
    return nullptr;
  dnnl_primitive_attr_t attributes = nullptr;
  if (dnnl_primitive_attr_create(&attributes) != dnnl_success)
    return nullptr;
  dnnl_primitive_desc_iterator_t iterator = nullptr;
  dnnl_primitive_desc_t found = nullptr;
  bool ready = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
  // out = scale * lhs x rhs + bias, but the library scales the sum: a bias together with a scale is refused before this.
  float scale = float(problem.scale);
  if (ready && problem.scale != 1)
    ready = dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &scale) == dnnl_success;
  if (ready && dnnl_primitive_desc_iterator_create(&iterator, &description, attributes, engine(), nullptr) == dnnl_success) {
    do {
      dnnl_primitive_desc_t candidate = dnnl_primitive_desc_iterator_fetch(iterator);
      const char *name = "";
      if (candidate && dnnl_primitive_desc_query(candidate, dnnl_query_impl_info_str, 0, &name) == dnnl_success && std::strncmp(name, "brg:", 4) == 0) {
        found = candidate;
        break;
      }
      if (candidate)
        dnnl_primitive_desc_destroy(candidate);
    } while (dnnl_primitive_desc_iterator_next(iterator) == dnnl_success);
    dnnl_primitive_desc_iterator_destroy(iterator);
  }
  dnnl_primitive_attr_destroy(attributes);
  return found;
}

int64_t scratchOf(dnnl_primitive_desc_t descriptor) {
  const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
  return scratch ? int64_t(dnnl_memory_desc_get_size(scratch)) : 0;
}

/// Bytes that no other problem has: a compilation asks once a product.
std::string keyOf(const Problem &problem, int threads) {
  std::string key;
  auto add = [&](const auto &value) { key.append(reinterpret_cast<const char *>(&value), sizeof(value)); };
  add(threads);
  add(problem.scale);
  for (const MatmulOperand *operand : {&problem.lhs, &problem.rhs, &problem.out, &problem.bias}) {
    add(operand->type);
    for (const std::vector<int64_t> *list : {&operand->shape, &operand->strides}) {
      add(list->size());
      for (int64_t size : *list)
        add(size);
    }
  }
  return key;
}

class OneDnnMatmul final : public MatmulPrimitive {
public:
  ~OneDnnMatmul() override {
    for (dnnl_memory_t memory : memories)
      if (memory)
        dnnl_memory_destroy(memory);
    if (primitive)
      dnnl_primitive_destroy(primitive);
    if (descriptor)
      dnnl_primitive_desc_destroy(descriptor);
    if (stream)
      dnnl_stream_destroy(stream);
  }

  Status initialize(const Problem &problem, bool swappedOperands) {
    swapped = swappedOperands;
    descriptor = makeDescriptor(problem);
    if (!descriptor)
      return callError("dnnl_primitive_desc_iterator_create", concat("no brgemm implementation for ", shapeText(problem.lhs.shape), " x ", shapeText(problem.rhs.shape), " ", nameOf(problem.lhs.type)));
    if (dnnl_status_t status = dnnl_primitive_create(&primitive, descriptor); status != dnnl_success)
      return callError("dnnl_primitive_create", textOf(status));
    if (dnnl_status_t status = dnnl_stream_create(&stream, engine(), dnnl_stream_default_flags); status != dnnl_success)
      return callError("dnnl_stream_create", textOf(status));
    const std::pair<dnnl_query_t, int> wanted[] = {{dnnl_query_src_md, DNNL_ARG_SRC}, {dnnl_query_weights_md, DNNL_ARG_WEIGHTS}, {dnnl_query_dst_md, DNNL_ARG_DST}, {dnnl_query_weights_md, DNNL_ARG_BIAS}, {dnnl_query_scratchpad_md, DNNL_ARG_SCRATCHPAD}};
    for (int i = 0; i < 5; ++i) {
      if (i == 3 && !problem.hasBias)
        continue;
      const dnnl_memory_desc_t *layout = dnnl_primitive_desc_query_md(descriptor, wanted[i].first, i == 3 ? 1 : 0);
      if (dnnl_status_t status = dnnl_memory_create(&memories[i], layout, engine(), DNNL_MEMORY_NONE); status != dnnl_success)
        return callError("dnnl_memory_create", textOf(status));
      arguments[argumentCount++] = {wanted[i].second, memories[i]};
    }
    scratch = scratchOf(descriptor);
    return success();
  }

  Status run(const void *lhs, const void *rhs, void *out, const void *bias, void *scratchMemory) override {
    void *pointers[5] = {const_cast<void *>(swapped ? rhs : lhs), const_cast<void *>(swapped ? lhs : rhs), out, const_cast<void *>(bias), scratchMemory};
    for (int i = 0; i < 5; ++i)
      if (memories[i])
        if (dnnl_status_t status = dnnl_memory_set_data_handle(memories[i], pointers[i]); status != dnnl_success)
          return callError("dnnl_memory_set_data_handle", textOf(status));
    if (dnnl_status_t status = dnnl_primitive_execute(primitive, stream, argumentCount, arguments); status != dnnl_success)
      return callError("dnnl_primitive_execute", textOf(status));
    if (dnnl_status_t status = dnnl_stream_wait(stream); status != dnnl_success)
      return callError("dnnl_stream_wait", textOf(status));
    return success();
  }

  int64_t scratchBytes() const override { return scratch; }
  const char *implementation() const override {
    const char *name = "";
    dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name);
    return name;
  }

private:
  bool swapped = false;
  dnnl_primitive_desc_t descriptor = nullptr;
  dnnl_primitive_t primitive = nullptr;
  dnnl_stream_t stream = nullptr;
  dnnl_memory_t memories[5] = {};
  dnnl_exec_arg_t arguments[5];
  int argumentCount = 0;
  int64_t scratch = 0;
};

} // namespace

MatmulPrimitive::~MatmulPrimitive() = default;

int64_t matmulScratchBytes(const Command &command, int threads) {
  Problem problem;
  bool swapped;
  if (!makeProblem(command, problem, swapped) || (problem.hasBias && problem.scale != 1))
    return -1;
  static std::mutex mutex;
  static std::map<std::string, int64_t> known;
  std::string key = keyOf(problem, threads);
  std::lock_guard<std::mutex> lock(mutex);
  if (auto found = known.find(key); found != known.end())
    return found->second;
  // The library sizes its scratch for the team that the calling thread would start.
  TeamSize teamSize(threads);
  dnnl_primitive_desc_t descriptor = makeDescriptor(problem);
  int64_t bytes = descriptor ? scratchOf(descriptor) : -1;
  if (descriptor)
    dnnl_primitive_desc_destroy(descriptor);
  return known[key] = bytes;
}

bool matmulSupports(const Command &command) { return matmulScratchBytes(command, 1) >= 0; }

std::string matmulLibrary() {
  const dnnl_version_t *version = dnnl_version();
  return concat("onednn ", version->major, ".", version->minor, ".", version->patch);
}

Result<std::unique_ptr<MatmulPrimitive>> MatmulPrimitive::create(const Command &command, int threads) {
  Problem problem;
  bool swapped;
  if (!makeProblem(command, problem, swapped))
    return inputError("matmul ", shapeText(command.lhs.shape), " x ", shapeText(command.rhs.shape), " -> ", shapeText(command.out.shape), " has types or strides that the library has no planned implementation for");
  if (problem.hasBias && problem.scale != 1)
    return inputError("matmul ", shapeText(command.lhs.shape), " x ", shapeText(command.rhs.shape), " has a bias and scale ", problem.scale, ", but the library would scale the bias too");
  TeamSize teamSize(threads);
  auto made = std::make_unique<OneDnnMatmul>();
  ZOPT_RETURN_IF_FAILED(made->initialize(problem, swapped));
  return std::unique_ptr<MatmulPrimitive>(std::move(made));
}

} // namespace zopt::runtime
