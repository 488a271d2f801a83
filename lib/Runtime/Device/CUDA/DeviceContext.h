//===- DeviceContext.h - a rank's GPU ---------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The device that a rank runs on, its streams, and how the host waits for them: never without a bound, and looking after the peers meanwhile. Everything is used from the rank's thread.
//
// After a failure that may leave the device busy for ever (`broken`) nothing is waited for or freed: the process is about to end.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICECONTEXT_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICECONTEXT_H

#include "Driver.h"
#include "zopt/Runtime/Comm/Communicator.h"
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime::cuda {

class DeviceContext {
public:
  /// Every rank calls it, and all fail together: also where a device has less memory free than the ranks on it plan (`plannedBytes` each).
  static Result<std::unique_ptr<DeviceContext>> create(Communicator &communicator, int64_t plannedBytes, double timeoutSeconds);
  ~DeviceContext();
  DeviceContext(const DeviceContext &) = delete;
  DeviceContext &operator=(const DeviceContext &) = delete;

  const Driver &driver;
  CUdevice device = 0;
  CUcontext context = nullptr;
  std::string model, name; // "NVIDIA H100"; "NVIDIA H100, device 0"
  int64_t totalBytes = 0, freeAtStart = 0;
  int64_t multiprocessors = 0;
  bool shared = false; // with another rank
  CUstream compute = nullptr, exchange = nullptr, reductions = nullptr, copies = nullptr, uploads = nullptr;
  bool broken = false;
  double timeoutSeconds;

  /// Waits until the event, as last recorded, or the stream has come to its end. `where()` says for messages what is waited for.
  Status await(CUevent event);
  Status await(CUstream stream);
  /// What a wait asks now and then: whether the peers live, where the device stands.
  std::function<Status()> health;
  std::function<std::string()> where;

  /// Memory that lives as long as the context.
  Result<void *> pinned(int64_t bytes);
  /// For waiting (`timing` false) or for traces.
  Result<CUevent> event(bool timing = false);
  Result<int64_t> freeBytes() const;

  /// Which of `count` devices a rank takes, by its place among the ranks of its machine.
  static int ordinalOf(int localRank, int count) { return localRank % count; }

private:
  DeviceContext(const Driver &driver, double timeoutSeconds) : driver(driver), timeoutSeconds(timeoutSeconds) {}
  Status open(int ordinal);
  template <typename Query>
  Status awaitQuery(const char *call, Query query);

  std::vector<void *> pinnedBlocks;
  std::vector<CUevent> events;
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICECONTEXT_H
