//===- DeviceActivities.h - when commands ran on the device ------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// CUPTI tells of every kernel and copy when it began and ended, by the device's own clock and without a word from the
// stream: events between commands take about two microseconds each, which a trace would show as idle time.
//
// CUPTI serves a process. Ranks that are threads share it; each gets what it issued.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICEACTIVITIES_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICEACTIVITIES_H

#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <memory>
#include <vector>

namespace zopt::runtime::cuda {

class DeviceActivities {
public:
  struct Span {
    int64_t begin = 0, end = 0; // nanoseconds of the steady clock; both 0 where nothing ran
  };

  virtual ~DeviceActivities() = default;
  /// What this thread gives the device between these two is one command's.
  virtual Status enter() = 0;
  virtual Status leave() = 0;
  /// Once the device has done everything: from the first kernel or copy of a command to the end of its last, in the
  /// order in which commands were entered. Nothing is recorded afterwards.
  virtual Status end(std::vector<Span> &spans) = 0;
};

/// Begins to record. Null where CUPTI is not installed, refuses (another profiler has it), is of another major version
/// than zrun was built for, or where zrun was built without its header.
std::unique_ptr<DeviceActivities> recordDeviceActivities();

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_DEVICEACTIVITIES_H
