//===- FakeCublasLt.cpp - a libcublasLt.so.13 that computes on the host ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Does what the library documents of the attributes that zopt sets, and refuses what it does not know, so that a wrong attribute, size, pitch or pointer shows without a GPU. Of its four candidates the
// second is broken; each wants twice the workspace of the one before. A fifth, which wants none, is only offered where there is none. The fourth is the fastest, then the fifth, the third and the first; FAKE_CUBLASLT_FAST
// makes another one the fastest.
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include <cmath>
#include <cstdlib>
#include <cublasLt.h>
#include <cuda.h>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <vector>

using namespace zopt::runtime;

namespace {

using Attributes = std::map<int, std::vector<char>>;

struct Layout {
  DataType type;
  int64_t rows, columns, pitch;
  Attributes attributes;
};

struct Descriptor {
  cublasComputeType_t compute;
  Attributes attributes;
};

constexpr uint64_t kFirstWorkspace = 1 << 20;
constexpr uint64_t kWithoutWorkspace = 4;

uint64_t workspaceOf(uint64_t algorithm) { return algorithm == 0 || algorithm == kWithoutWorkspace ? 0 : kFirstWorkspace << (algorithm - 1); }

double microsecondsOf(uint64_t algorithm) {
  const double times[] = {100, 0, 80, 50, 60};
  const char *fast = std::getenv("FAKE_CUBLASLT_FAST");
  return fast && uint64_t(std::atoi(fast)) == algorithm ? 20 : times[algorithm];
}

/// A function of the fake driver that is loaded, or null.
template <typename Function>
Function driverFunction(const char *name) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return driver ? reinterpret_cast<Function>(dlsym(driver, name)) : nullptr;
}

/// Now, or when the driver comes to it.
cublasStatus_t queue(cudaStream_t stream, double microseconds, std::function<void()> body) {
  static const auto spend = driverFunction<void (*)(double)>("fakeCudaSpend");
  static const auto enqueue = driverFunction<CUresult (*)(CUstream, const std::function<bool()> *)>("fakeCudaEnqueue");
  std::function<bool()> all = [=] {
    body();
    if (spend)
      spend(microseconds);
    return true;
  };
  if (enqueue)
    enqueue(stream, &all);
  else
    all();
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Value>
Value get(const Attributes &attributes, int attribute, Value otherwise) {
  auto found = attributes.find(attribute);
  if (found == attributes.end())
    return otherwise;
  Value value;
  std::memcpy(&value, found->second.data(), sizeof value);
  return value;
}

/// Sizes of the attributes as the library's header documents them.
cublasStatus_t set(Attributes &attributes, const std::map<int, size_t> &sizes, int attribute, const void *value, size_t size) {
  auto known = sizes.find(attribute);
  if (known == sizes.end() || known->second != size)
    return CUBLAS_STATUS_INVALID_VALUE;
  attributes[attribute].assign(static_cast<const char *>(value), static_cast<const char *>(value) + size);
  return CUBLAS_STATUS_SUCCESS;
}

bool typeOf(int library, DataType &type) {
  switch (library) {
  case CUDA_R_32F:
    type = DataType::F32;
    return true;
  case CUDA_R_16BF:
    type = DataType::BF16;
    return true;
  case CUDA_R_16F:
    type = DataType::F16;
    return true;
  case CUDA_R_64F:
    type = DataType::F64;
    return true;
  default:
    return false;
  }
}

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double geluGradient(double x) {
  const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

/// What the library checks before it looks for algorithms.
bool consistent(const Descriptor &descriptor, const Layout &a, const Layout &b, const Layout &d) {
  const bool transposeA = get<int32_t>(descriptor.attributes, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T, transposeB = get<int32_t>(descriptor.attributes, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_T;
  const int64_t m = transposeA ? a.columns : a.rows, k = transposeA ? a.rows : a.columns, n = transposeB ? b.rows : b.columns;
  if (m != d.rows || n != d.columns || k != (transposeB ? b.columns : b.rows))
    return false;
  for (const Layout *layout : {&a, &b, &d})
    if (layout->pitch < layout->rows || get<int32_t>(layout->attributes, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1) != get<int32_t>(d.attributes, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1))
      return false;
  const uint32_t epilogue = get<uint32_t>(descriptor.attributes, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  if ((epilogue & 128) && (get<int64_t>(descriptor.attributes, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0) < m || get<int64_t>(descriptor.attributes, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0) % 8))
    return false;
  return true;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int *>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void) { return 130199; }
const char *cublasLtGetStatusString(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS ? "success" : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "invalid value"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t compute, cudaDataType_t scale) {
  if (!(compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F) && !(compute == CUBLAS_COMPUTE_64F && scale == CUDA_R_64F))
    return CUBLAS_STATUS_INVALID_VALUE;
  *made = reinterpret_cast<cublasLtMatmulDesc_t>(new Descriptor{compute, {}});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor) {
  delete reinterpret_cast<Descriptor *>(descriptor);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size) {
  static const std::map<int, size_t> sizes = {{CUBLASLT_MATMUL_DESC_TRANSA, 4}, {CUBLASLT_MATMUL_DESC_TRANSB, 4}, {CUBLASLT_MATMUL_DESC_EPILOGUE, 4}, {CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8}, {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 4}, {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 8},
      {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 8}, {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 8}};
  return set(reinterpret_cast<Descriptor *>(descriptor)->attributes, sizes, attribute, value, size);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows, uint64_t columns, int64_t pitch) {
  DataType known;
  if (!typeOf(type, known))
    return CUBLAS_STATUS_INVALID_VALUE;
  *made = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{known, int64_t(rows), int64_t(columns), pitch, {}});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete reinterpret_cast<const Layout *>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const void *value, size_t size) {
  static const std::map<int, size_t> sizes = {{CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 4}, {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 8}};
  return set(reinterpret_cast<Layout *>(layout)->attributes, sizes, attribute, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made) {
  *made = reinterpret_cast<cublasLtMatmulPreference_t>(new Attributes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Attributes *>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size) {
  static const std::map<int, size_t> sizes = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 8}, {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 4}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 4}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 4}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 4}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 4}};
  return set(*reinterpret_cast<Attributes *>(preference), sizes, attribute, value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t *results, int *returned) {
  *returned = 0;
  const Attributes &preferences = *reinterpret_cast<const Attributes *>(preference);
  if (c != d || !consistent(*reinterpret_cast<Descriptor *>(descriptor), *reinterpret_cast<const Layout *>(a), *reinterpret_cast<const Layout *>(b), *reinterpret_cast<const Layout *>(d)))
    return CUBLAS_STATUS_INVALID_VALUE;
  // Atomics would give other bits in every run.
  if (get<uint32_t>(preferences, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_MASK) & CUBLASLT_REDUCTION_SCHEME_INPLACE)
    return CUBLAS_STATUS_INVALID_VALUE;
  const uint64_t limit = get<uint64_t>(preferences, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 0);
  for (int i = 0; i < (limit == 0 ? 5 : 4) && *returned < wanted; ++i) {
    cublasLtMatmulHeuristicResult_t result = {};
    result.workspaceSize = workspaceOf(uint64_t(i));
    result.state = i == 1 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    result.algo.data[0] = uint64_t(i);
    if (result.workspaceSize <= limit)
      results[(*returned)++] = result;
  }
  return *returned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t matmul, const void *alpha, const void *a, cublasLtMatrixLayout_t aLayout, const void *b, cublasLtMatrixLayout_t bLayout, const void *beta, const void *c, cublasLtMatrixLayout_t cLayout, void *d, cublasLtMatrixLayout_t dLayout,
    const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspaceSize, cudaStream_t stream) {
  const Descriptor &descriptor = *reinterpret_cast<Descriptor *>(matmul);
  const Layout &la = *reinterpret_cast<const Layout *>(aLayout), &lb = *reinterpret_cast<const Layout *>(bLayout), &ld = *reinterpret_cast<const Layout *>(dLayout);
  const bool wide = descriptor.compute == CUBLAS_COMPUTE_64F;
  const double scale = wide ? *static_cast<const double *>(alpha) : *static_cast<const float *>(alpha), keep = wide ? *static_cast<const double *>(beta) : *static_cast<const float *>(beta);
  const uint64_t needs = workspaceOf(algorithm->data[0]);
  if (cLayout != dLayout || !consistent(descriptor, la, lb, ld) || algorithm->data[0] == 1 || workspaceSize < needs || reinterpret_cast<uintptr_t>(workspace) % 256)
    return CUBLAS_STATUS_INVALID_VALUE;
  const Attributes with = descriptor.attributes;
  const bool transposeA = get<int32_t>(with, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T, transposeB = get<int32_t>(with, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_T;
  const uint32_t epilogue = get<uint32_t>(with, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  char *vector = get<char *>(with, CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr), *aux = get<char *>(with, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
  DataType vectorType;
  if (!typeOf(get<int32_t>(with, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F), vectorType))
    return CUBLAS_STATUS_INVALID_VALUE;
  const int64_t auxPitch = get<int64_t>(with, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0), auxStride = get<int64_t>(with, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 0);
  const int64_t m = ld.rows, n = ld.columns, k = transposeA ? la.rows : la.columns, batches = get<int32_t>(ld.attributes, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1);
  // Everything by value: what is queued may run when the caller's objects are gone.
  return queue(stream, microsecondsOf(algorithm->data[0]), [=, la = la, lb = lb, ld = ld] {
    if (needs)
      std::memset(workspace, 0x55, needs);
    auto stride = [](const Layout &layout) { return get<int64_t>(layout.attributes, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 0); };
    auto atA = [&](int64_t batch, int64_t i, int64_t p) { return loadAsDouble(la.type, a, batch * stride(la) + (transposeA ? p + i * la.pitch : i + p * la.pitch)); };
    auto atB = [&](int64_t batch, int64_t p, int64_t j) { return loadAsDouble(lb.type, b, batch * stride(lb) + (transposeB ? j + p * lb.pitch : p + j * lb.pitch)); };
    std::vector<double> columnSums(size_t(m), 0);
    for (int64_t batch = 0; batch < batches; ++batch)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < m; ++i) {
          double value = 0;
          for (int64_t p = 0; p < k; ++p)
            value += atA(batch, i, p) * atB(batch, p, j);
          value *= scale;
          if (keep != 0)
            value += keep * loadAsDouble(ld.type, c, batch * stride(ld) + i + j * ld.pitch);
          const int64_t inAux = batch * auxStride + i + j * auxPitch;
          if (epilogue & CUBLASLT_EPILOGUE_BIAS)
            value += loadAsDouble(vectorType, vector, i);
          if (epilogue & CUBLASLT_EPILOGUE_GELU) {
            if (epilogue & 128)
              storeDouble(ld.type, aux, inAux, value);
            value = gelu(value);
          }
          if (epilogue & 64)
            value *= geluGradient(loadAsDouble(ld.type, aux, inAux));
          columnSums[size_t(i)] += value;
          storeDouble(ld.type, d, batch * stride(ld) + i + j * ld.pitch, value);
        }
    if (epilogue & 16)
      for (int64_t i = 0; i < m; ++i)
        storeDouble(vectorType, vector, i, columnSums[size_t(i)]);
    if (epilogue == CUBLASLT_EPILOGUE_BGRADA || epilogue == CUBLASLT_EPILOGUE_BGRADB)
      for (int64_t i = 0; i < (epilogue == CUBLASLT_EPILOGUE_BGRADA ? m : n); ++i) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p)
          sum += epilogue == CUBLASLT_EPILOGUE_BGRADA ? atA(0, i, p) : atB(0, p, i);
        storeDouble(vectorType, vector, i, sum);
      }
  });
}

} // extern "C"
