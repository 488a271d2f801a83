//===- LibraryProbes.cpp - libraries that may be there --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LibraryProbes.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// As a run loads them.
void *load(std::initializer_list<const char *> names, std::string &file) {
  DynamicLibrary library = openLibrary(names);
  file = library.file;
  return library.handle;
}

template <typename Function>
Function *symbol(void *library, const char *name) {
  return reinterpret_cast<Function *>(dlsym(library, name));
}

/// Of numbers like 91002 for 9.10.2.
std::string versionText(long number) { return concat(number / 10000, ".", number % 10000 / 100, ".", number % 100); }

/// Asks `function`, which writes the number and returns 0 where it can.
template <typename Number>
auto writesVersion(const char *function) {
  return [function](void *library, std::string &version) {
    auto *ask = symbol<int(Number *)>(library, function);
    Number number = 0;
    if (!ask || ask(&number) != 0)
      return false;
    version = versionText(long(number));
    return true;
  };
}

/// Asks `function`, which returns the number.
auto returnsVersion(const char *function) {
  return [function](void *library, std::string &version) {
    auto *ask = symbol<size_t()>(library, function);
    if (!ask)
      return false;
    version = versionText(long(ask()));
    return true;
  };
}

/// A library that tells its version by a call; `ask` returns false where that fails.
template <typename Ask>
LibraryFacts probe(const char *name, std::initializer_list<const char *> names, const char *advice, Ask ask) {
  LibraryFacts facts;
  facts.name = name;
  facts.advice = advice;
  void *library = load(names, facts.file);
  if (!library) {
    facts.problem = concat("none: ", *names.begin(), " was not found");
    return facts;
  }
  facts.found = true;
  if (!ask(library, facts.version))
    facts.version = "unknown version";
  return facts;
}

bool nvidiaDeviceOnBus() {
  std::error_code error;
  for (const auto &device : std::filesystem::directory_iterator("/sys/bus/pci/devices", error)) {
    std::string vendor, kind;
    std::ifstream(device.path() / "vendor") >> vendor;
    std::ifstream(device.path() / "class") >> kind;
    if (vendor == "0x10de" && kind.compare(0, 4, "0x03") == 0) // a display or 3D controller of NVIDIA
      return true;
  }
  return false;
}

} // namespace

LibraryFacts probeMpi() {
  return probe("mpi", {"libmpi.so.40", "libmpi.so.12", "libmpi.so"}, "", [](void *library, std::string &version) {
    auto *ask = symbol<int(char *, int *)>(library, "MPI_Get_library_version"); // may be called before MPI_Init
    if (!ask)
      return false;
    std::vector<char> text(16384); // more than any implementation's MPI_MAX_LIBRARY_VERSION_STRING
    int length = 0;
    if (ask(text.data(), &length) != 0)
      return false;
    version = text.data();
    // Open MPI adds packager and dates behind a comma, others further lines.
    version.resize(std::min(version.find_first_of(",\n"), version.size()));
    return true;
  });
}

LibraryFacts probeGloo() {
  return probe("gloo", {"libgloo.so.0"},
               "install gloo (apt-get install libgloo0): --launcher=env connects ranks through it",
               [](void *, std::string &) { return true; }); // it does not tell its version
}

LibraryFacts probeCudaRuntime() {
  return probe("cuda runtime", {"libcudart.so.13", "libcudart.so.12", "libcudart.so"}, "", [](void *library, std::string &version) {
    auto *ask = symbol<int(int *)>(library, "cudaRuntimeGetVersion");
    int number = 0;
    if (!ask || ask(&number) != 0)
      return false;
    version = concat(number / 1000, ".", number % 1000 / 10);
    return true;
  });
}

LibraryFacts probeCublasLt() {
  return probe("cublasLt", {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}, "install cuBLAS of CUDA 13: contractions run through it", returnsVersion("cublasLtGetVersion"));
}

LibraryFacts probeCudnn() {
  return probe("cudnn", {"libcudnn.so.9", "libcudnn.so"}, "install cuDNN 9: attention and convolutions run through it", returnsVersion("cudnnGetVersion"));
}

LibraryFacts probeNccl() {
  return probe("nccl", {"libnccl.so.2", "libnccl.so"}, "install NCCL 2.28 or newer: ranks on GPUs exchange through it", writesVersion<int>("ncclGetVersion"));
}

LibraryFacts probeCupti() {
  return probe("cupti", {"libcupti.so.13", "libcupti.so.12", "libcupti.so"}, "install CUPTI of CUDA 13: without it --trace times kernels by events, which it then shows as idle time", writesVersion<uint32_t>("cuptiGetVersion"));
}

DriverFacts probeDriver() {
  DriverFacts facts;
  facts.devicesSeen = nvidiaDeviceOnBus();
  std::string file;
  void *library = load({"libcuda.so.1"}, file);
  if (!library) {
    facts.problem = "no driver (libcuda.so.1 was not found)";
    return facts;
  }
  auto *initialize = symbol<int(unsigned)>(library, "cuInit");
  auto *driverVersion = symbol<int(int *)>(library, "cuDriverGetVersion");
  auto *deviceCount = symbol<int(int *)>(library, "cuDeviceGetCount");
  auto *getDevice = symbol<int(int *, int)>(library, "cuDeviceGet");
  auto *deviceName = symbol<int(char *, int, int)>(library, "cuDeviceGetName");
  auto *deviceMemory = symbol<int(size_t *, int)>(library, "cuDeviceTotalMem_v2");
  auto *attribute = symbol<int(int *, int, int)>(library, "cuDeviceGetAttribute");
  auto *errorName = symbol<int(int, const char **)>(library, "cuGetErrorName");
  auto *retainContext = symbol<int(void **, int)>(library, "cuDevicePrimaryCtxRetain");
  auto *setContext = symbol<int(void *)>(library, "cuCtxSetCurrent");
  auto *memoryInfo = symbol<int(size_t *, size_t *)>(library, "cuMemGetInfo_v2");
  if (!initialize || !driverVersion || !deviceCount || !getDevice || !deviceName || !deviceMemory || !attribute) {
    facts.problem = "libcuda.so.1 lacks functions of the driver";
    return facts;
  }
  facts.found = true;
  int version = 0;
  if (driverVersion(&version) == 0)
    facts.version = concat(version / 1000, ".", version % 1000 / 10);
  facts.versionNumber = version;
  if (int error = initialize(0); error != 0) {
    const char *name = nullptr;
    if (errorName)
      errorName(error, &name);
    facts.problem = concat("cuInit: ", name ? name : std::to_string(error).c_str());
    return facts;
  }
  int count = 0;
  deviceCount(&count);
  for (int i = 0; i < count; ++i) {
    constexpr int computeMajor = 75, computeMinor = 76; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
    char name[256] = "unknown device";
    int device = 0, major = 0, minor = 0;
    size_t bytes = 0;
    if (getDevice(&device, i) != 0 || deviceName(name, sizeof name, device) != 0 || deviceMemory(&bytes, device) != 0 || attribute(&major, computeMajor, device) != 0 ||
        attribute(&minor, computeMinor, device) != 0) {
      facts.problem = concat("device ", i, " does not answer");
      continue;
    }
    std::string text = concat(name, " ", bytesText(int64_t(bytes)), " sm_", major, minor);
    void *context = nullptr;
    size_t free = 0;
    if (retainContext && setContext && memoryInfo && retainContext(&context, device) == 0 && setContext(context) == 0 && memoryInfo(&free, &bytes) == 0)
      text += concat(", ", bytesText(int64_t(free)), " free");
    facts.devices.push_back(text);
  }
  return facts;
}

std::string findProgram(const std::string &name) {
  const char *path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    std::error_code error;
    if (std::filesystem::is_regular_file(candidate, error) && access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return "";
}

} // namespace zopt::runtime
