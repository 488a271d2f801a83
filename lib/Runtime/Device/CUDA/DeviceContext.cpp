//===- DeviceContext.cpp - a rank's GPU -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceContext.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <chrono>
#include <cstring>
#include <sched.h>
#include <thread>
#include <unistd.h>

namespace zopt::runtime::cuda {

namespace {

using Clock = std::chrono::steady_clock;

/// How long a wait keeps its core before it sleeps between looks, how long it sleeps, and how often it asks for the peers.
constexpr auto kSpin = std::chrono::microseconds(100), kNap = std::chrono::microseconds(20), kHealthInterval = std::chrono::microseconds(50000);

/// What ranks tell each other of their devices.
struct Place {
  char host[64];
  CUuuid device;
  int64_t planned, free;

  bool sameHost(const Place &other) const { return std::strncmp(host, other.host, sizeof host) == 0; }
  bool sameDevice(const Place &other) const { return sameHost(other) && std::memcmp(&device, &other.device, sizeof device) == 0; }
};

} // namespace

Result<std::unique_ptr<DeviceContext>> DeviceContext::create(Communicator &communicator, int64_t plannedBytes, double timeoutSeconds) {
  const int rank = communicator.rank(), size = communicator.size();
  // Who is on this machine, before anything can fail.
  std::vector<Place> places(static_cast<size_t>(size));
  Place mine{};
  gethostname(mine.host, sizeof mine.host - 1);
  mine.planned = plannedBytes;
  ZOPT_RETURN_IF_FAILED(communicator.allGatherNow("devices", &mine, places.data(), sizeof mine));
  int localRank = 0;
  for (int other = 0; other < rank; ++other)
    localRank += places[other].sameHost(mine);

  std::unique_ptr<DeviceContext> made;
  auto open = [&]() -> Status {
    Result<const Driver *> driver = Driver::load();
    if (driver.failed())
      return driver.getStatus();
    made.reset(new DeviceContext(**driver, timeoutSeconds));
    int count = 0;
    ZOPT_CUDA(**driver, cuDeviceGetCount, &count);
    if (count == 0)
      return (*driver)->error("cuDeviceGetCount", CUDA_ERROR_NO_DEVICE);
    ZOPT_RETURN_IF_FAILED(made->open(ordinalOf(localRank, count)));
    ZOPT_CUDA(**driver, cuDeviceGetUuid, &mine.device, made->device);
    mine.free = made->freeAtStart;
    return success();
  };
  ZOPT_RETURN_IF_FAILED(communicator.agree("devices", open()));
  // Every rank has its context by now and nobody has allocated: the smallest figure of those on one device counts all contexts.
  ZOPT_RETURN_IF_FAILED(communicator.allGatherNow("devices", &mine, places.data(), sizeof mine));
  int64_t planned = 0, free = mine.free, sharers = 0;
  for (const Place &place : places)
    if (place.sameDevice(mine)) {
      ++sharers;
      planned += place.planned;
      free = std::min(free, place.free);
    }
  made->shared = sharers > 1;
  Status fits;
  if (planned > free)
    fits = inputError(made->name, ": ", sharers == 1 ? "the plan needs " : concat("the plans of ", sharers, " ranks need "), bytesText(planned), " (", planned, " bytes) of the GPU's memory, but ", bytesText(free),
                      " (", free, " bytes) of ", bytesText(made->totalBytes), " are free: take a smaller --micro-batch, --recompute=full, ", sharers > 1 ? "fewer ranks a GPU, " : "",
                      "a higher --zero-stage with more ranks, or end what else uses this GPU (nvidia-smi)");
  ZOPT_RETURN_IF_FAILED(communicator.agree("devices", fits));
  return made;
}

Status DeviceContext::open(int ordinal) {
  ZOPT_CUDA(driver, cuDeviceGet, &device, ordinal);
  char text[128] = "";
  ZOPT_CUDA(driver, cuDeviceGetName, text, sizeof text - 1, device);
  model = text;
  name = concat(text, ", device ", ordinal);
  ZOPT_CUDA(driver, cuDevicePrimaryCtxRetain, &context, device);
  ZOPT_CUDA(driver, cuCtxSetCurrent, context);
  size_t free = 0, total = 0;
  ZOPT_CUDA(driver, cuMemGetInfo, &free, &total);
  freeAtStart = int64_t(free);
  totalBytes = int64_t(total);
  int count = 0;
  ZOPT_CUDA(driver, cuDeviceGetAttribute, &count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  multiprocessors = count;
  // Messages should not wait behind the compute kernels that they are to hide behind.
  int least = 0, greatest = 0;
  ZOPT_CUDA(driver, cuCtxGetStreamPriorityRange, &least, &greatest);
  ZOPT_CUDA(driver, cuStreamCreateWithPriority, &compute, CU_STREAM_NON_BLOCKING, least);
  ZOPT_CUDA(driver, cuStreamCreateWithPriority, &exchange, CU_STREAM_NON_BLOCKING, greatest);
  ZOPT_CUDA(driver, cuStreamCreateWithPriority, &reductions, CU_STREAM_NON_BLOCKING, greatest);
  ZOPT_CUDA(driver, cuStreamCreateWithPriority, &copies, CU_STREAM_NON_BLOCKING, least);
  ZOPT_CUDA(driver, cuStreamCreateWithPriority, &uploads, CU_STREAM_NON_BLOCKING, least);
  return success();
}

DeviceContext::~DeviceContext() {
  if (broken)
    return;
  for (CUevent event : events)
    driver.cuEventDestroy(event);
  for (void *block : pinnedBlocks)
    driver.cuMemFreeHost(block);
  for (CUstream stream : {compute, exchange, reductions, copies, uploads})
    if (stream)
      driver.cuStreamDestroy(stream);
  if (context)
    driver.cuDevicePrimaryCtxRelease(device);
}

template <typename Query>
Status DeviceContext::awaitQuery(const char *call, Query query) {
  const auto begin = Clock::now();
  auto nextHealth = begin + kHealthInterval;
  const auto deadline = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeoutSeconds));
  for (;;) {
    CUresult code = query();
    if (code == CUDA_SUCCESS)
      return success();
    if (code != CUDA_ERROR_NOT_READY) {
      // An error of the device comes out of whatever call is next: say what was running.
      broken = true;
      Status status = driver.error(call, code);
      return where ? status.in(where()) : status;
    }
    auto now = Clock::now();
    if (now >= nextHealth) {
      nextHealth = now + kHealthInterval;
      if (health)
        if (Status status = health(); status.failed()) {
          broken = true;
          return where ? status.in(where()) : status;
        }
    }
    if (now >= deadline) {
      broken = true;
      return Status(Error{ErrorKind::Runtime, -1, where ? where() : "", "", concat("timed out after ", timeoutSeconds, " s, the device has not come to its end")});
    }
    if (now - begin > kSpin)
      std::this_thread::sleep_for(kNap);
    else
      sched_yield();
  }
}

Status DeviceContext::await(CUevent event) {
  return awaitQuery("cuEventQuery", [&] { return driver.cuEventQuery(event); });
}

Status DeviceContext::await(CUstream stream) {
  return awaitQuery("cuStreamQuery", [&] { return driver.cuStreamQuery(stream); });
}

Result<void *> DeviceContext::pinned(int64_t bytes) {
  void *block = nullptr;
  if (CUresult code = driver.cuMemAllocHost(&block, size_t(std::max<int64_t>(bytes, 64))); code != CUDA_SUCCESS)
    return driver.error("cuMemAllocHost", code).in(concat(bytes, " bytes of pinned memory"));
  pinnedBlocks.push_back(block);
  return block;
}

Result<CUevent> DeviceContext::event(bool timing) {
  CUevent made = nullptr;
  if (CUresult code = driver.cuEventCreate(&made, timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING); code != CUDA_SUCCESS)
    return driver.error("cuEventCreate", code);
  events.push_back(made);
  return made;
}

Result<int64_t> DeviceContext::freeBytes() const {
  size_t free = 0, total = 0;
  if (CUresult code = driver.cuMemGetInfo(&free, &total); code != CUDA_SUCCESS)
    return driver.error("cuMemGetInfo", code);
  return int64_t(free);
}

} // namespace zopt::runtime::cuda
