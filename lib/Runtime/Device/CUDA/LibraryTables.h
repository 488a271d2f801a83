//===- LibraryTables.h - functions of NVIDIA's libraries --------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to this folder. What is called of the driver, of cuBLASLt and of cuDNN, looked up at run time.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_LIBRARYTABLES_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_LIBRARYTABLES_H

#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include <cublasLt.h>
#include <cuda.h>
#include <map>
#include <string>
#include <vector>

namespace zopt::runtime::cuda {

struct DriverTable {
  CUresult (*eventCreate)(CUevent *, unsigned) = nullptr;
  CUresult (*eventDestroy)(CUevent) = nullptr;
  CUresult (*eventRecord)(CUevent, CUstream) = nullptr;
  CUresult (*eventSynchronize)(CUevent) = nullptr;
  CUresult (*eventElapsedTime)(float *, CUevent, CUevent) = nullptr;
  CUresult (*getErrorString)(CUresult, const char **) = nullptr;
};

struct CublasLtTable {
  decltype(&::cublasLtCreate) create = nullptr;
  decltype(&::cublasLtDestroy) destroy = nullptr;
  decltype(&::cublasLtGetVersion) getVersion = nullptr;
  decltype(&::cublasLtGetStatusString) getStatusString = nullptr;
  decltype(&::cublasLtMatmulDescCreate) descriptorCreate = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) descriptorDestroy = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) descriptorSet = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) layoutCreate = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) layoutDestroy = nullptr;
  decltype(&::cublasLtMatrixLayoutSetAttribute) layoutSet = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) preferenceCreate = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) preferenceDestroy = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preferenceSet = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&::cublasLtMatmul) matmul = nullptr;
};

/// Of cuDNN only what makes the handle; graphs call the library through its own headers.
struct CudnnTable {
  int (*create)(void **) = nullptr;
  int (*destroy)(void *) = nullptr;
  int (*setStream)(void *, CUstream) = nullptr;
  size_t (*getVersion)() = nullptr;
  const char *(*getErrorString)(int) = nullptr;
};

/// A plan of cuDNN's, and the handle that it was made with and runs on.
struct CudnnPlan {
  std::shared_ptr<void> graph;
  void *handle = nullptr;
};

struct LibraryContext::Implementation {
  DriverTable driver;
  CublasLtTable cublas;
  CudnnTable cudnn;
  void *driverLibrary = nullptr, *cublasLibrary = nullptr, *cudnnLibrary = nullptr;
  cublasLtHandle_t cublasHandle = nullptr;
  void *cudnnHandle = nullptr;
  std::map<std::string, CudnnPlan> attentionGraphs, convolutionGraphs; // cuDNN's plans by what they depend on
  std::vector<std::unique_ptr<LibraryContext>> others; // with the handles of plans that other threads have made
  ~Implementation();

  Status openCublas();
  Status openCudnn();
  Status loadCublas();
  Status loadCudnn();
  Status createCudnn();
  std::string textOf(CUresult result) const;
};

} // namespace zopt::runtime::cuda

/// Returns from the function where a call of cuBLASLt (a member of `implementation`'s table) fails.
#define ZOPT_CUBLAS(implementation, member, ...)                                                                       \
  do {                                                                                                                 \
    if (cublasStatus_t zoptCall = (implementation).cublas.member(__VA_ARGS__); zoptCall != CUBLAS_STATUS_SUCCESS)     \
      return ::zopt::runtime::callError("cublasLt " #member, (implementation).cublas.getStatusString(zoptCall));      \
  } while (false)

#define ZOPT_CUDA(implementation, member, ...)                                                                         \
  do {                                                                                                                 \
    if (CUresult zoptCall = (implementation).driver.member(__VA_ARGS__); zoptCall != CUDA_SUCCESS)                    \
      return ::zopt::runtime::callError("cuda " #member, (implementation).textOf(zoptCall));                          \
  } while (false)

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_LIBRARYTABLES_H
