//===- FakeCudaDriver.cpp - a libcuda.so.1 whose device is the host -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lets what calls the driver run where there is no GPU: device memory is host memory, all work is done when the call returns, and events tell a clock that ticks once a record and as long as fakeCudaSpend() says.
//
//===----------------------------------------------------------------------===//

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {
constexpr int kInvalid = 1, kOutOfMemory = 2;
int64_t ticks = 0; // microseconds
} // namespace

extern "C" {

/// For a fake library: the device has been busy for so long.
void fakeCudaSpend(double microseconds) { ticks += int64_t(microseconds); }

int cuInit(unsigned) { return 0; }
int cuDeviceGet(int *device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? 0 : 101;
}
int cuDeviceGetName(char *name, int length, int) {
  std::strncpy(name, "a fake device", size_t(length));
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) {
  *context = &ticks;
  return 0;
}
int cuCtxSetCurrent(void *) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuStreamCreate(void **stream, unsigned) {
  *stream = &ticks;
  return 0;
}
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
  void *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  *address = reinterpret_cast<unsigned long long>(memory);
  return memory ? 0 : kOutOfMemory;
}
int cuMemFree_v2(unsigned long long address) {
  std::free(reinterpret_cast<void *>(address));
  return 0;
}
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes) {
  std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return 0;
}
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes) {
  std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
  return 0;
}
int cuMemcpyDtoD_v2(unsigned long long to, unsigned long long from, size_t bytes) {
  std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
  return 0;
}
int cuMemsetD8_v2(unsigned long long to, unsigned char byte, size_t bytes) {
  std::memset(reinterpret_cast<void *>(to), byte, bytes);
  return 0;
}
int cuEventCreate(void **event, unsigned) {
  *event = new int64_t(0);
  return 0;
}
int cuEventDestroy_v2(void *event) {
  delete static_cast<int64_t *>(event);
  return 0;
}
int cuEventRecord(void *event, void *) {
  *static_cast<int64_t *>(event) = ++ticks;
  return 0;
}
int cuEventSynchronize(void *) { return 0; }
int cuEventElapsedTime(float *milliseconds, void *begin, void *end) {
  *milliseconds = float(*static_cast<int64_t *>(end) - *static_cast<int64_t *>(begin)) * 1e-3f;
  return 0;
}
int cuGetErrorString(int error, const char **text) {
  *text = error == kOutOfMemory ? "out of memory" : "invalid value";
  return 0;
}
// No graphs here.
int cuStreamBeginCapture_v2(void *, int) { return kInvalid; }
int cuStreamEndCapture(void *, void **) { return kInvalid; }
int cuGraphInstantiateWithFlags(void **, void *, unsigned long long) { return kInvalid; }
int cuGraphLaunch(void *, void *) { return kInvalid; }
int cuGraphExecDestroy(void *) { return kInvalid; }
int cuGraphDestroy(void *) { return kInvalid; }

} // extern "C"
