//===- LibraryContext.cpp - loading NVIDIA's libraries --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include <algorithm>
#include <atomic>
#include <dlfcn.h>
#include <thread>

namespace zopt::runtime::cuda {

namespace {

/// Looks a function up; the first that is missing is remembered in `missing`.
template <typename Function>
void find(void *library, const char *name, Function &function, std::string &missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function && missing.empty())
    missing = name;
}

std::string versionText(size_t version) { return concat(version / 10000, ".", version / 100 % 100, ".", version % 100); }

} // namespace

LibraryContext::Implementation::~Implementation() {
  attentionGraphs.clear(); // before the handles they were made with
  convolutionGraphs.clear();
  if (cudnnHandle)
    cudnn.destroy(cudnnHandle);
  if (cublasHandle)
    cublas.destroy(cublasHandle);
}

std::string LibraryContext::Implementation::textOf(CUresult result) const {
  const char *text = nullptr;
  if (driver.getErrorString(result, &text) == CUDA_SUCCESS && text)
    return text;
  return concat("error ", int(result));
}

Status LibraryContext::Implementation::openCublas() {
  std::string missing;
  DynamicLibrary found = openLibrary({"libcuda.so.1"});
  if (!found.handle)
    return callError("dlopen", concat("no NVIDIA driver: ", found.problem));
  driverLibrary = found.handle;
  find(driverLibrary, "cuEventCreate", driver.eventCreate, missing);
  find(driverLibrary, "cuEventDestroy_v2", driver.eventDestroy, missing);
  find(driverLibrary, "cuEventRecord", driver.eventRecord, missing);
  find(driverLibrary, "cuEventSynchronize", driver.eventSynchronize, missing);
  find(driverLibrary, "cuEventElapsedTime", driver.eventElapsedTime, missing);
  find(driverLibrary, "cuGetErrorString", driver.getErrorString, missing);
  if (!missing.empty())
    return callError("dlsym", concat("the NVIDIA driver has no ", missing));

  found = openLibrary({"libcublasLt.so.13", "libcublasLt.so.12"});
  if (!found.handle)
    return callError("dlopen", concat("no cuBLASLt 12 or 13: ", found.problem, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
  cublasLibrary = found.handle;
  find(cublasLibrary, "cublasLtCreate", cublas.create, missing);
  find(cublasLibrary, "cublasLtDestroy", cublas.destroy, missing);
  find(cublasLibrary, "cublasLtGetVersion", cublas.getVersion, missing);
  find(cublasLibrary, "cublasLtGetStatusString", cublas.getStatusString, missing);
  find(cublasLibrary, "cublasLtMatmulDescCreate", cublas.descriptorCreate, missing);
  find(cublasLibrary, "cublasLtMatmulDescDestroy", cublas.descriptorDestroy, missing);
  find(cublasLibrary, "cublasLtMatmulDescSetAttribute", cublas.descriptorSet, missing);
  find(cublasLibrary, "cublasLtMatrixLayoutCreate", cublas.layoutCreate, missing);
  find(cublasLibrary, "cublasLtMatrixLayoutDestroy", cublas.layoutDestroy, missing);
  find(cublasLibrary, "cublasLtMatrixLayoutSetAttribute", cublas.layoutSet, missing);
  find(cublasLibrary, "cublasLtMatmulPreferenceCreate", cublas.preferenceCreate, missing);
  find(cublasLibrary, "cublasLtMatmulPreferenceDestroy", cublas.preferenceDestroy, missing);
  find(cublasLibrary, "cublasLtMatmulPreferenceSetAttribute", cublas.preferenceSet, missing);
  find(cublasLibrary, "cublasLtMatmulAlgoGetHeuristic", cublas.heuristic, missing);
  find(cublasLibrary, "cublasLtMatmul", cublas.matmul, missing);
  if (!missing.empty())
    return callError("dlsym", concat("cuBLASLt has no ", missing));
  return success();
}

Status LibraryContext::Implementation::loadCublas() {
  ZOPT_RETURN_IF_FAILED(openCublas());
  ZOPT_CUBLAS(*this, create, &cublasHandle);
  return success();
}

Status LibraryContext::Implementation::openCudnn() {
  std::string missing;
  // cuDNN's parts look these up by name; already loaded ones are found wherever they came from.
  const char *runtime = cublas.getVersion() >= 130000 ? "libcudart.so.13" : "libcudart.so.12";
  const char *compiler = cublas.getVersion() >= 130000 ? "libnvrtc.so.13" : "libnvrtc.so.12";
  if (DynamicLibrary found = openLibrary({runtime}); !found.handle)
    return callError("dlopen", concat("no CUDA runtime, which cuDNN needs: ", found.problem, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
  openLibrary({compiler}); // not every engine compiles; one that does says what it misses
  DynamicLibrary found = openLibrary({"libcudnn.so.9"});
  if (!found.handle)
    return callError("dlopen", concat("no cuDNN 9: ", found.problem, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
  cudnnLibrary = found.handle;
  find(cudnnLibrary, "cudnnCreate", cudnn.create, missing);
  find(cudnnLibrary, "cudnnDestroy", cudnn.destroy, missing);
  find(cudnnLibrary, "cudnnSetStream", cudnn.setStream, missing);
  find(cudnnLibrary, "cudnnGetVersion", cudnn.getVersion, missing);
  find(cudnnLibrary, "cudnnGetErrorString", cudnn.getErrorString, missing);
  if (!missing.empty())
    return callError("dlsym", concat("cuDNN has no ", missing));
  return success();
}

Status LibraryContext::Implementation::loadCudnn() {
  if (cudnnHandle)
    return success();
  ZOPT_RETURN_IF_FAILED(openCudnn());
  return createCudnn();
}

Status LibraryContext::Implementation::createCudnn() {
  if (int status = cudnn.create(&cudnnHandle)) {
    cudnnHandle = nullptr;
    return callError("cudnnCreate", cudnn.getErrorString(status));
  }
  return success();
}

LibraryContext::LibraryContext() : implementation(std::make_unique<Implementation>()) {}
LibraryContext::~LibraryContext() = default;

Result<std::unique_ptr<LibraryContext>> LibraryContext::create() {
  std::unique_ptr<LibraryContext> context(new LibraryContext);
  ZOPT_RETURN_IF_FAILED(context->implementation->loadCublas());
  return std::unique_ptr<LibraryContext>(std::move(context));
}

void LibraryContext::preload() {
  Implementation loaded;
  if (loaded.openCublas().succeeded())
    (void)loaded.openCudnn();
}

/// More plans at once would share the cores with the compiler of the kernels, to nobody's gain.
static constexpr size_t kPlanThreads = 4;

void preparePlans(LibraryContext &context, const std::vector<PlanOf> &plans, const std::function<void()> &enter) {
  std::map<std::string, PlanOf> distinct;
  for (const PlanOf &plan : plans)
    distinct.try_emplace(plan.command->kind == Command::Kind::Convolution
                             ? convolutionPlanKey(*plan.command, plan.scratchBytes)
                             : attentionPlanKey(*plan.command),
                         plan);
  distinct.erase("");
  if (distinct.empty() || context.loadAttentionLibrary().failed())
    return;
  std::vector<PlanOf> wanted;
  for (const auto &[key, plan] : distinct)
    wanted.push_back(plan);
  std::atomic<size_t> next{0};
  // A handle is for one thread, and so is a context.
  auto work = [&](LibraryContext &mine) {
    for (size_t i = next++; i < wanted.size(); i = next++)
      if (wanted[i].command->kind == Command::Kind::Convolution)
        (void)createConvolution(mine, *wanted[i].command, wanted[i].scratchBytes);
      else
        (void)createAttention(mine, *wanted[i].command, wanted[i].scratchBytes);
  };
  LibraryContext::Implementation &all = *context.implementation;
  const size_t before = all.others.size();
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(wanted.size(), kPlanThreads); ++i) {
    LibraryContext &other = *all.others.emplace_back(new LibraryContext);
    other.implementation->cublas = all.cublas;
    other.implementation->cudnn = all.cudnn;
    other.implementation->cudnnLibrary = all.cudnnLibrary;
    threads.emplace_back([&] {
      enter();
      if (other.implementation->createCudnn().succeeded())
        work(other);
    });
  }
  work(context);
  for (std::thread &thread : threads)
    thread.join();
  for (size_t i = before; i < all.others.size(); ++i) {
    all.attentionGraphs.merge(all.others[i]->implementation->attentionGraphs);
    all.convolutionGraphs.merge(all.others[i]->implementation->convolutionGraphs);
  }
}

Status LibraryContext::loadAttentionLibrary() { return implementation->loadCudnn(); }

std::string LibraryContext::matmulLibrary() const { return "cublasLt " + versionText(implementation->cublas.getVersion()); }

std::string LibraryContext::attentionLibrary() const { return implementation->cudnnHandle ? "cudnn " + versionText(implementation->cudnn.getVersion()) : ""; }

DeviceMatmul::~DeviceMatmul() = default;
DeviceAttention::~DeviceAttention() = default;
DeviceConvolution::~DeviceConvolution() = default;

} // namespace zopt::runtime::cuda
