//===- DeviceProbe.cpp - which GPUs there are -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include <sstream>

namespace zopt::runtime {

using namespace cuda;

namespace {

/// What the driver says, as lines that parseDevices() reads.
Status describe(bool withFree, std::ostringstream &text) {
  Result<const Driver *> loaded = Driver::load();
  if (loaded.failed())
    return loaded.getStatus();
  const Driver &driver = **loaded;
  text << "driver " << driver.version << '\n';
  int count = 0;
  ZOPT_CUDA(driver, cuDeviceGetCount, &count);
  if (count == 0)
    return driver.error("cuDeviceGetCount", CUDA_ERROR_NO_DEVICE);
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    char name[128] = "";
    size_t total = 0, free = 0;
    int major = 0, minor = 0;
    ZOPT_CUDA(driver, cuDeviceGet, &device, i);
    ZOPT_CUDA(driver, cuDeviceGetName, name, sizeof name - 1, device);
    ZOPT_CUDA(driver, cuDeviceTotalMem, &total, device);
    ZOPT_CUDA(driver, cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    ZOPT_CUDA(driver, cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    if (withFree) {
      CUcontext context = nullptr;
      ZOPT_CUDA(driver, cuDevicePrimaryCtxRetain, &context, device);
      ZOPT_CUDA(driver, cuCtxSetCurrent, context);
      ZOPT_CUDA(driver, cuMemGetInfo, &free, &total);
    }
    text << "device " << major << ' ' << minor << ' ' << total << ' ' << (withFree ? int64_t(free) : -1) << ' ' << name << '\n';
  }
  return success();
}

} // namespace

std::string describeDevices(bool withFree) {
  std::ostringstream text;
  if (openLibrary({"libcuda.so.1"}).handle)
    text << "found\n";
  if (Status status = describe(withFree, text); status.failed())
    text << "problem " << status.message() << '\n';
  return text.str();
}

DeviceProbe parseDevices(const std::string &text) {
  DeviceProbe probe;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "found") {
      probe.hasDriver = true;
    } else if (kind == "driver") {
      words >> probe.driverVersion;
    } else if (kind == "device") {
      DeviceFacts facts;
      words >> facts.major >> facts.minor >> facts.totalBytes >> facts.freeBytes >> std::ws;
      std::getline(words, facts.name);
      probe.devices.push_back(facts);
    } else if (kind == "problem") {
      words >> std::ws;
      std::getline(words, probe.problem);
    }
  }
  return probe;
}

} // namespace zopt::runtime
