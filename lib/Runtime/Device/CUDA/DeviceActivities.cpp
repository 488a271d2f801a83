//===- DeviceActivities.cpp - when commands ran, by CUPTI -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceActivities.h"

#if __has_include(<cupti.h>)

#include "zopt/Runtime/Core/DynamicLibrary.h"
#include "zopt/Runtime/Core/Executor.h"
#include <algorithm>
#include <cstdlib>
#include <cupti.h>
#include <mutex>
#include <unordered_map>

namespace zopt::runtime::cuda {

namespace {

#define ZOPT_CUPTI_FUNCTIONS(X)                                                                                        \
  X(cuptiGetVersion)                                                                                                   \
  X(cuptiActivityRegisterTimestampCallback)                                                                            \
  X(cuptiActivityRegisterCallbacks)                                                                                    \
  X(cuptiActivityEnable)                                                                                               \
  X(cuptiActivityDisable)                                                                                              \
  X(cuptiActivityFlushAll)                                                                                             \
  X(cuptiActivityGetNextRecord)                                                                                        \
  X(cuptiActivityPushExternalCorrelationId)                                                                            \
  X(cuptiActivityPopExternalCorrelationId)

struct Cupti {
#define ZOPT_CUPTI_MEMBER(name) decltype(&::name) name = nullptr;
  ZOPT_CUPTI_FUNCTIONS(ZOPT_CUPTI_MEMBER)
#undef ZOPT_CUPTI_MEMBER
};

/// Calls of the driver and the runtime are recorded too: through them CUPTI tells which command a kernel belongs to.
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMCPY2, CUPTI_ACTIVITY_KIND_MEMSET};
constexpr size_t kBufferBytes = size_t(4) << 20, kBufferAlignment = 64;

/// What CUPTI told, of all ranks of this process.
struct Records {
  std::mutex mutex;
  Cupti cupti;
  bool tried = false, usable = false;
  int recording = 0;
  uint64_t nextCommand = 1;
  std::unordered_map<uint32_t, uint64_t> commandOf;                    // by correlation
  std::vector<std::pair<uint32_t, DeviceActivities::Span>> activities; // and their correlation

  void add(uint32_t correlation, uint64_t begin, uint64_t end) { activities.push_back({correlation, {int64_t(begin), int64_t(end)}}); }
};

Records &records() {
  static Records *all = new Records; // CUPTI may call until the process ends
  return *all;
}

void CUPTIAPI giveBuffer(uint8_t **buffer, size_t *bytes, size_t *mostRecords) {
  *buffer = static_cast<uint8_t *>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *bytes = *buffer ? kBufferBytes : 0;
  *mostRecords = 0; // as many as fit
}

void CUPTIAPI takeBuffer(CUcontext, uint32_t, uint8_t *buffer, size_t, size_t validBytes) {
  Records &all = records();
  std::lock_guard<std::mutex> lock(all.mutex);
  CUpti_Activity *record = nullptr;
  while (validBytes > 0 && all.cupti.cuptiActivityGetNextRecord(buffer, validBytes, &record) == CUPTI_SUCCESS) {
    auto take = [&](const auto *activity) { all.add(activity->correlationId, activity->start, activity->end); };
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      auto *correlation = reinterpret_cast<const CUpti_ActivityExternalCorrelation *>(record);
      all.commandOf[correlation->correlationId] = correlation->externalId;
      break;
    }
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      take(reinterpret_cast<const CUpti_ActivityKernel10 *>(record));
      break;
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      take(reinterpret_cast<const CUpti_ActivityMemcpy6 *>(record));
      break;
    case CUPTI_ACTIVITY_KIND_MEMCPY2:
      take(reinterpret_cast<const CUpti_ActivityMemcpyPtoP4 *>(record));
      break;
    case CUPTI_ACTIVITY_KIND_MEMSET:
      take(reinterpret_cast<const CUpti_ActivityMemset4 *>(record));
      break;
    default:
      break;
    }
  }
  std::free(buffer);
}

Status check(const char *call, CUptiResult code) {
  if (code != CUPTI_SUCCESS)
    return callError(call, concat("code ", int(code)));
  return success();
}

/// With the lock: CUPTI ready to record, or false.
bool load(Records &all) {
  if (std::exchange(all.tried, true))
    return all.usable;
  DynamicLibrary library = openLibrary({"libcupti.so.13", "libcupti.so.12", "libcupti.so"});
  if (!library.handle)
    return false;
#define ZOPT_CUPTI_RESOLVE(name)                                                                                       \
  all.cupti.name = reinterpret_cast<decltype(&::name)>(symbolIn(library, #name));                                      \
  if (!all.cupti.name)                                                                                                 \
    return false;
  ZOPT_CUPTI_FUNCTIONS(ZOPT_CUPTI_RESOLVE)
#undef ZOPT_CUPTI_RESOLVE
  uint32_t version = 0;
  constexpr uint32_t kMajor = 10000; // records grow at their ends within a major version
  all.usable = all.cupti.cuptiGetVersion(&version) == CUPTI_SUCCESS && version / kMajor == CUPTI_API_VERSION / kMajor && version >= CUPTI_API_VERSION && all.cupti.cuptiActivityRegisterTimestampCallback([]() -> uint64_t { return uint64_t(steadyNanoseconds()); }) == CUPTI_SUCCESS &&
               all.cupti.cuptiActivityRegisterCallbacks(giveBuffer, takeBuffer) == CUPTI_SUCCESS;
  return all.usable;
}

class CuptiActivities final : public DeviceActivities {
public:
  ~CuptiActivities() override { stop(); }

  Status enter() override {
    Records &all = records();
    uint64_t command;
    {
      std::lock_guard<std::mutex> lock(all.mutex);
      command = all.nextCommand++;
    }
    commands.push_back(command);
    return check("cuptiActivityPushExternalCorrelationId", all.cupti.cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, command));
  }

  Status leave() override {
    uint64_t command = 0;
    return check("cuptiActivityPopExternalCorrelationId", records().cupti.cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &command));
  }

  Status end(std::vector<Span> &spans) override {
    Records &all = records();
    ZOPT_RETURN_IF_FAILED(check("cuptiActivityFlushAll", all.cupti.cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)));
    std::unordered_map<uint64_t, size_t> places;
    for (size_t i = 0; i < commands.size(); ++i)
      places[commands[i]] = i;
    spans.assign(commands.size(), {});
    {
      std::lock_guard<std::mutex> lock(all.mutex);
      for (const auto &[correlation, span] : all.activities) {
        auto command = all.commandOf.find(correlation);
        auto place = command == all.commandOf.end() ? places.end() : places.find(command->second);
        if (place == places.end())
          continue;
        Span &whole = spans[place->second];
        whole.begin = whole.end == 0 ? span.begin : std::min(whole.begin, span.begin);
        whole.end = std::max(whole.end, span.end);
      }
    }
    stop();
    return success();
  }

private:
  void stop() {
    if (!std::exchange(isRecording, false))
      return;
    Records &all = records();
    std::unique_lock<std::mutex> lock(all.mutex);
    if (--all.recording > 0)
      return;
    all.activities.clear();
    all.commandOf.clear();
    lock.unlock(); // a buffer may be handed over
    for (CUpti_ActivityKind kind : kKinds)
      all.cupti.cuptiActivityDisable(kind);
  }

  std::vector<uint64_t> commands; // by number, in the order of enter()
  bool isRecording = true;
};

} // namespace

std::unique_ptr<DeviceActivities> recordDeviceActivities() {
  Records &all = records();
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    if (!load(all))
      return nullptr;
    ++all.recording;
  }
  auto activities = std::make_unique<CuptiActivities>(); // from here on its destructor stops what was begun
  for (CUpti_ActivityKind kind : kKinds)
    if (all.cupti.cuptiActivityEnable(kind) != CUPTI_SUCCESS)
      return nullptr;
  return activities;
}

} // namespace zopt::runtime::cuda

#else

namespace zopt::runtime::cuda {
std::unique_ptr<DeviceActivities> recordDeviceActivities() { return nullptr; }
} // namespace zopt::runtime::cuda

#endif
