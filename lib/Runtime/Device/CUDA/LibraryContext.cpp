//===- LibraryContext.cpp - loading NVIDIA's libraries --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include <cstdlib>
#include <dlfcn.h>
#include <glob.h>
#include <vector>

namespace zopt::runtime::cuda {

namespace {

/// Where a Python environment keeps NVIDIA's packages, below its lib/python3.x: one folder a library up to CUDA 12, one for all since.
constexpr const char *kPackageFolders[] = {"nvidia/cu13/lib", "nvidia/cublas/lib", "nvidia/cudnn/lib", "nvidia/cuda_runtime/lib", "nvidia/cuda_nvrtc/lib"};

void addMatches(const std::string &pattern, std::vector<std::string> &folders) {
  glob_t matches = {};
  if (glob(pattern.c_str(), GLOB_ONLYDIR, nullptr, &matches) == 0)
    for (size_t i = 0; i < matches.gl_pathc; ++i)
      folders.push_back(matches.gl_pathv[i]);
  globfree(&matches);
}

void addPaths(const char *variable, std::vector<std::string> &folders) {
  const char *value = std::getenv(variable);
  std::istringstream list(value ? value : "");
  for (std::string folder; std::getline(list, folder, ':');)
    if (!folder.empty())
      folders.push_back(folder);
}

/// Folders to try after the loader's own.
std::vector<std::string> usualFolders() {
  std::vector<std::string> folders;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char *value = std::getenv(variable))
      folders.push_back(std::string(value) + "/lib64");
  addMatches("/usr/local/cuda/lib64", folders);
  addMatches("/usr/local/cuda-*/lib64", folders);
  std::vector<std::string> environments;
  if (const char *value = std::getenv("VIRTUAL_ENV"))
    environments.push_back(value);
  environments.insert(environments.end(), {"/usr", "/usr/local"});
  for (const std::string &environment : environments)
    for (const char *packages : {"site-packages", "dist-packages"})
      for (const char *folder : kPackageFolders) {
        addMatches(environment + "/lib/python3*/" + packages + "/" + folder, folders);
        addMatches(environment + "/local/lib/python3*/" + packages + "/" + folder, folders);
      }
  return folders;
}

/// Looks a function up; the first that is missing is remembered in `missing`.
template <typename Function>
void find(void *library, const char *name, Function &function, std::string &missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function && missing.empty())
    missing = name;
}

std::string versionText(size_t version) { return concat(version / 10000, ".", version / 100 % 100, ".", version % 100); }

} // namespace

void *openLibrary(std::initializer_list<const char *> names, std::string &tried) {
  // Global, and never closed: the libraries load parts of themselves by name later and have threads and destructors of their own.
  constexpr int kMode = RTLD_NOW | RTLD_GLOBAL;
  std::vector<std::string> folders;
  addPaths("ZOPT_CUDA_LIBRARY_PATH", folders);
  folders.push_back(""); // the loader's search
  for (const std::string &folder : usualFolders())
    folders.push_back(folder);
  std::string firstError;
  for (const std::string &folder : folders)
    for (const char *name : names) {
      std::string path = folder.empty() ? name : folder + "/" + name;
      if (void *library = dlopen(path.c_str(), kMode))
        return library;
      const char *error = dlerror();
      // A file that is there and cannot be loaded tells more than the ones that are not.
      bool isThere = error && !std::string(error).empty() && std::string(error).find("No such file") == std::string::npos;
      if (error && (firstError.empty() || isThere))
        firstError = error;
    }
  tried = firstError;
  return nullptr;
}

LibraryContext::Implementation::~Implementation() {
  attentionGraphs.clear(); // before the handle they were made with
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

Status LibraryContext::Implementation::loadCublas() {
  std::string tried, missing;
  driverLibrary = openLibrary({"libcuda.so.1"}, tried);
  if (!driverLibrary)
    return callError("dlopen", concat("no NVIDIA driver: ", tried));
  find(driverLibrary, "cuEventCreate", driver.eventCreate, missing);
  find(driverLibrary, "cuEventDestroy_v2", driver.eventDestroy, missing);
  find(driverLibrary, "cuEventRecord", driver.eventRecord, missing);
  find(driverLibrary, "cuEventSynchronize", driver.eventSynchronize, missing);
  find(driverLibrary, "cuEventElapsedTime", driver.eventElapsedTime, missing);
  find(driverLibrary, "cuGetErrorString", driver.getErrorString, missing);
  if (!missing.empty())
    return callError("dlsym", concat("the NVIDIA driver has no ", missing));

  cublasLibrary = openLibrary({"libcublasLt.so.13", "libcublasLt.so.12"}, tried);
  if (!cublasLibrary)
    return callError("dlopen", concat("no cuBLASLt 12 or 13: ", tried, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
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
  ZOPT_CUBLAS(*this, create, &cublasHandle);
  return success();
}

Status LibraryContext::Implementation::loadCudnn() {
  if (cudnnHandle)
    return success();
  std::string tried, missing;
  // cuDNN's parts look these up by name; already loaded ones are found wherever they came from.
  const char *runtime = cublas.getVersion() >= 130000 ? "libcudart.so.13" : "libcudart.so.12";
  const char *compiler = cublas.getVersion() >= 130000 ? "libnvrtc.so.13" : "libnvrtc.so.12";
  if (!openLibrary({runtime}, tried))
    return callError("dlopen", concat("no CUDA runtime, which cuDNN needs: ", tried, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
  openLibrary({compiler}, tried); // not every engine compiles; one that does says what it misses
  if (!cudnnLibrary)
    cudnnLibrary = openLibrary({"libcudnn.so.9"}, tried);
  if (!cudnnLibrary)
    return callError("dlopen", concat("no cuDNN 9: ", tried, " (ZOPT_CUDA_LIBRARY_PATH may name its folder)"));
  find(cudnnLibrary, "cudnnCreate", cudnn.create, missing);
  find(cudnnLibrary, "cudnnDestroy", cudnn.destroy, missing);
  find(cudnnLibrary, "cudnnSetStream", cudnn.setStream, missing);
  find(cudnnLibrary, "cudnnGetVersion", cudnn.getVersion, missing);
  find(cudnnLibrary, "cudnnGetErrorString", cudnn.getErrorString, missing);
  if (!missing.empty())
    return callError("dlsym", concat("cuDNN has no ", missing));
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

Status LibraryContext::loadAttentionLibrary() { return implementation->loadCudnn(); }

std::string LibraryContext::matmulLibrary() const { return "cublasLt " + versionText(implementation->cublas.getVersion()); }

std::string LibraryContext::attentionLibrary() const { return implementation->cudnnHandle ? "cudnn " + versionText(implementation->cudnn.getVersion()) : ""; }

DeviceMatmul::~DeviceMatmul() = default;
DeviceAttention::~DeviceAttention() = default;

} // namespace zopt::runtime::cuda
