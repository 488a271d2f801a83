//===- Driver.cpp - the CUDA driver, loaded at run time -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include <algorithm>
#include <map>
#include <mutex>

namespace zopt::runtime::cuda {

AllocationCounts &allocationCounts() {
  thread_local AllocationCounts counts;
  return counts;
}

namespace {

std::string versionText(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

// The hooks, and the functions behind them.
decltype(&::cuMemAlloc) realMemAlloc;
decltype(&::cuMemFree) realMemFree;
decltype(&::cuMemAllocHost) realMemAllocHost;
decltype(&::cuMemFreeHost) realMemFreeHost;
std::mutex sizesMutex;
std::map<CUdeviceptr, size_t> deviceSizes;
std::map<void *, size_t> pinnedSizes;

template <typename Sizes, typename Address>
int64_t forget(Sizes &sizes, Address address) {
  std::lock_guard<std::mutex> lock(sizesMutex);
  auto found = sizes.find(address);
  int64_t bytes = found == sizes.end() ? 0 : int64_t(found->second);
  if (found != sizes.end())
    sizes.erase(found);
  return bytes;
}

CUresult CUDAAPI countedMemAlloc(CUdeviceptr *address, size_t bytes) {
  CUresult code = realMemAlloc(address, bytes);
  if (code == CUDA_SUCCESS) {
    AllocationCounts &counts = allocationCounts();
    counts.devicePeak = std::max(counts.devicePeak, counts.device += int64_t(bytes));
    std::lock_guard<std::mutex> lock(sizesMutex);
    deviceSizes[*address] = bytes;
  }
  return code;
}

CUresult CUDAAPI countedMemFree(CUdeviceptr address) {
  CUresult code = realMemFree(address);
  if (code == CUDA_SUCCESS)
    allocationCounts().device -= forget(deviceSizes, address);
  return code;
}

CUresult CUDAAPI countedMemAllocHost(void **address, size_t bytes) {
  CUresult code = realMemAllocHost(address, bytes);
  if (code == CUDA_SUCCESS) {
    AllocationCounts &counts = allocationCounts();
    counts.pinnedPeak = std::max(counts.pinnedPeak, counts.pinned += int64_t(bytes));
    std::lock_guard<std::mutex> lock(sizesMutex);
    pinnedSizes[*address] = bytes;
  }
  return code;
}

CUresult CUDAAPI countedMemFreeHost(void *address) {
  CUresult code = realMemFreeHost(address);
  if (code == CUDA_SUCCESS)
    allocationCounts().pinned -= forget(pinnedSizes, address);
  return code;
}

Status open(Driver &driver) {
  DynamicLibrary library = openLibrary({"libcuda.so.1"});
  if (!library.handle)
    return callError("dlopen", concat(library.problem, " (there is no NVIDIA driver here: install one, start the container with --gpus all, or give --target=cpu)"));
  driver.file = library.file;
  // Older drivers lack functions that are looked up below, so the version comes first.
  auto *getVersion = reinterpret_cast<decltype(&::cuDriverGetVersion)>(symbolIn(library, "cuDriverGetVersion"));
  if (!getVersion || getVersion(&driver.version) != CUDA_SUCCESS)
    return callError("cuDriverGetVersion", concat(library.file, " does not tell its version"));
  if (driver.version < kOldestDriver)
    return callError("cuDriverGetVersion", concat("the driver serves CUDA ", versionText(driver.version), ", but zopt needs ", versionText(kOldestDriver), ": update NVIDIA's driver, or give --target=cpu"));
#define ZOPT_CUDA_STRING(name) #name
#define ZOPT_CUDA_RESOLVE(name)                                                                                        \
  driver.name = reinterpret_cast<decltype(&::name)>(symbolIn(library, ZOPT_CUDA_STRING(name)));                        \
  if (!driver.name)                                                                                                    \
    return callError("dlsym", concat(library.file, " lacks ", ZOPT_CUDA_STRING(name)));
  ZOPT_CUDA_FUNCTIONS(ZOPT_CUDA_RESOLVE)
#undef ZOPT_CUDA_RESOLVE
#undef ZOPT_CUDA_STRING
  realMemAlloc = driver.uncountedMemAlloc = std::exchange(driver.cuMemAlloc, countedMemAlloc);
  realMemFree = driver.uncountedMemFree = std::exchange(driver.cuMemFree, countedMemFree);
  realMemAllocHost = std::exchange(driver.cuMemAllocHost, countedMemAllocHost);
  realMemFreeHost = std::exchange(driver.cuMemFreeHost, countedMemFreeHost);
  ZOPT_CUDA(driver, cuInit, 0);
  return success();
}

const char *adviceFor(CUresult code) {
  switch (code) {
  case CUDA_ERROR_NO_DEVICE:
    return " (see nvidia-smi and CUDA_VISIBLE_DEVICES, or give --target=cpu)";
  case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
  case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    return " (update NVIDIA's driver)";
  case CUDA_ERROR_OUT_OF_MEMORY:
    return " (something else uses this GPU, see nvidia-smi; or take a smaller --micro-batch, --recompute=full, or a higher --zero-stage with more ranks)";
  case CUDA_ERROR_ILLEGAL_ADDRESS:
  case CUDA_ERROR_ILLEGAL_INSTRUCTION:
  case CUDA_ERROR_MISALIGNED_ADDRESS:
  case CUDA_ERROR_LAUNCH_FAILED:
  case CUDA_ERROR_ASSERT:
    return " (ZOPT_CUDA_SYNC=1 tells of the command that it happens in)";
  case CUDA_ERROR_ECC_UNCORRECTABLE:
    return " (the GPU's memory is damaged: see nvidia-smi -q -d ECC, and take another GPU)";
  default:
    return "";
  }
}

} // namespace

Result<const Driver *> Driver::load() {
  static std::mutex mutex;
  static Driver driver;
  static Status status;
  static bool loaded = false;
  std::lock_guard<std::mutex> lock(mutex);
  if (!loaded) {
    status = open(driver);
    loaded = true;
  }
  if (status.failed())
    return status;
  return static_cast<const Driver *>(&driver);
}

Status Driver::error(const char *call, CUresult code) const {
  const char *name = nullptr, *text = nullptr;
  if (cuGetErrorName)
    cuGetErrorName(code, &name);
  if (cuGetErrorString)
    cuGetErrorString(code, &text);
  return callError(call, concat(name ? name : concat("error ", int(code)), text ? ": " : "", text ? text : "", adviceFor(code)));
}

} // namespace zopt::runtime::cuda
