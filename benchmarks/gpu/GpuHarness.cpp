//===- GpuHarness.cpp - memory, streams and timing on a GPU ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GpuHarness.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda.h>
#include <dlfcn.h>

namespace zopt::benchmark {

namespace {

constexpr int64_t kPoolBytes = int64_t(64) << 20;

[[noreturn]] void die(const std::string &text) {
  std::fprintf(stderr, "zopt-gpu-library-benchmark: %s\n", text.c_str());
  std::exit(3);
}

} // namespace

struct Gpu::Implementation {
  void *library = nullptr;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  CUdeviceptr pool[2] = {}; // f32, and 16-bit floats

  CUresult (*init)(unsigned);
  CUresult (*deviceGet)(CUdevice *, int);
  CUresult (*deviceGetName)(char *, int, CUdevice);
  CUresult (*primaryRetain)(CUcontext *, CUdevice);
  CUresult (*setCurrent)(CUcontext);
  CUresult (*contextSynchronize)();
  CUresult (*streamCreate)(CUstream *, unsigned);
  CUresult (*memAlloc)(CUdeviceptr *, size_t);
  CUresult (*memFree)(CUdeviceptr);
  CUresult (*copyIn)(CUdeviceptr, const void *, size_t);
  CUresult (*copyOut)(void *, CUdeviceptr, size_t);
  CUresult (*copyDevice)(CUdeviceptr, CUdeviceptr, size_t);
  CUresult (*memset8)(CUdeviceptr, unsigned char, size_t);
  CUresult (*eventCreate)(CUevent *, unsigned);
  CUresult (*eventRecord)(CUevent, CUstream);
  CUresult (*eventElapsed)(float *, CUevent, CUevent);
  CUresult (*eventDestroy)(CUevent);
  CUresult (*errorString)(CUresult, const char **);
  CUresult (*beginCapture)(CUstream, CUstreamCaptureMode);
  CUresult (*endCapture)(CUstream, CUgraph *);
  CUresult (*instantiate)(CUgraphExec *, CUgraph, unsigned long long);
  CUresult (*launch)(CUgraphExec, CUstream);
  CUresult (*destroyExec)(CUgraphExec);
  CUresult (*destroyGraph)(CUgraph);

  template <typename Function>
  void find(Function &function, const char *name) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (!function)
      die(concat("the driver has no ", name));
  }
  void check(CUresult result, const char *call) const {
    if (result == CUDA_SUCCESS)
      return;
    const char *text = "?";
    errorString(result, &text);
    die(concat(call, ": ", text ? text : "?"));
  }
};

Gpu::Gpu() : implementation(std::make_unique<Implementation>()) {
  Implementation &it = *implementation;
  it.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (!it.library)
    die(concat("no NVIDIA driver: ", dlerror()));
  it.find(it.init, "cuInit");
  it.find(it.deviceGet, "cuDeviceGet");
  it.find(it.deviceGetName, "cuDeviceGetName");
  it.find(it.primaryRetain, "cuDevicePrimaryCtxRetain");
  it.find(it.setCurrent, "cuCtxSetCurrent");
  it.find(it.contextSynchronize, "cuCtxSynchronize");
  it.find(it.streamCreate, "cuStreamCreate");
  it.find(it.memAlloc, "cuMemAlloc_v2");
  it.find(it.memFree, "cuMemFree_v2");
  it.find(it.copyIn, "cuMemcpyHtoD_v2");
  it.find(it.copyOut, "cuMemcpyDtoH_v2");
  it.find(it.copyDevice, "cuMemcpyDtoD_v2");
  it.find(it.memset8, "cuMemsetD8_v2");
  it.find(it.eventCreate, "cuEventCreate");
  it.find(it.eventRecord, "cuEventRecord");
  it.find(it.eventElapsed, "cuEventElapsedTime");
  it.find(it.eventDestroy, "cuEventDestroy_v2");
  it.find(it.errorString, "cuGetErrorString");
  it.find(it.beginCapture, "cuStreamBeginCapture_v2");
  it.find(it.endCapture, "cuStreamEndCapture");
  it.find(it.instantiate, "cuGraphInstantiateWithFlags");
  it.find(it.launch, "cuGraphLaunch");
  it.find(it.destroyExec, "cuGraphExecDestroy");
  it.find(it.destroyGraph, "cuGraphDestroy");
  it.check(it.init(0), "cuInit");
  it.check(it.deviceGet(&it.device, 0), "cuDeviceGet");
  it.check(it.primaryRetain(&it.context, it.device), "cuDevicePrimaryCtxRetain");
  it.check(it.setCurrent(it.context), "cuCtxSetCurrent");
  it.check(it.streamCreate(&it.stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
}

Gpu::~Gpu() = default; // the context goes with the process

std::string Gpu::name() const {
  char text[256] = {};
  implementation->check(implementation->deviceGetName(text, sizeof text - 1, implementation->device), "cuDeviceGetName");
  return text;
}

CUstream Gpu::stream() const { return implementation->stream; }

CUdeviceptr Gpu::allocate(int64_t bytes) {
  CUdeviceptr address = 0;
  implementation->check(implementation->memAlloc(&address, size_t(std::max<int64_t>(bytes, 1))), "cuMemAlloc");
  return address;
}

void Gpu::release(CUdeviceptr address) { implementation->check(implementation->memFree(address), "cuMemFree"); }

void Gpu::synchronize() { implementation->check(implementation->contextSynchronize(), "cuCtxSynchronize"); }

void Gpu::upload(CUdeviceptr to, const void *from, int64_t bytes) {
  implementation->check(implementation->copyIn(to, from, size_t(bytes)), "cuMemcpyHtoD");
  synchronize();
}

void Gpu::download(void *to, CUdeviceptr from, int64_t bytes) {
  synchronize();
  implementation->check(implementation->copyOut(to, from, size_t(bytes)), "cuMemcpyDtoH");
}

void Gpu::copy(CUdeviceptr to, CUdeviceptr from, int64_t bytes) {
  implementation->check(implementation->copyDevice(to, from, size_t(bytes)), "cuMemcpyDtoD");
  synchronize();
}

void Gpu::fill(CUdeviceptr to, unsigned char byte, int64_t bytes) {
  implementation->check(implementation->memset8(to, byte, size_t(bytes)), "cuMemsetD8");
  synchronize();
}

void Gpu::randomize(CUdeviceptr to, DataType type, int64_t bytes) {
  CUdeviceptr &pool = implementation->pool[type == DataType::F32 ? 0 : 1];
  if (!pool) {
    Random random(7);
    std::vector<char> values(static_cast<size_t>(kPoolBytes));
    const int64_t count = kPoolBytes / sizeOf(type);
    for (int64_t i = 0; i < count; ++i)
      storeDouble(type, values.data(), i, random.symmetric());
    pool = allocate(kPoolBytes);
    upload(pool, values.data(), kPoolBytes);
  }
  for (int64_t done = 0; done < bytes; done += kPoolBytes)
    implementation->check(implementation->copyDevice(to + CUdeviceptr(done), pool, size_t(std::min(kPoolBytes, bytes - done))), "cuMemcpyDtoD");
  synchronize();
}

Result<double> Gpu::medianMilliseconds(int runs, const std::function<Status(int run)> &work) {
  Implementation &it = *implementation;
  std::vector<CUevent> events(2 * 20 + 2);
  for (CUevent &event : events)
    it.check(it.eventCreate(&event, CU_EVENT_DEFAULT), "cuEventCreate");
  Status status = work(0);
  std::vector<float> times;
  auto timed = [&](int first, int count) {
    for (int i = 0; i < count && status.succeeded(); ++i) {
      it.check(it.eventRecord(events[size_t(2 * i)], it.stream), "cuEventRecord");
      status = work(first + i);
      it.check(it.eventRecord(events[size_t(2 * i + 1)], it.stream), "cuEventRecord");
    }
    synchronize();
    times.resize(status.succeeded() ? size_t(count) : 0);
    for (size_t i = 0; i < times.size(); ++i)
      it.check(it.eventElapsed(&times[i], events[2 * i], events[2 * i + 1]), "cuEventElapsedTime");
  };
  timed(1, 1);
  if (status.succeeded()) {
    if (runs == 0)
      runs = std::clamp(int(100 / std::max(times[0], 0.001f)), 5, 20);
    timed(2, std::min(runs, 20));
  }
  for (CUevent event : events)
    it.check(it.eventDestroy(event), "cuEventDestroy");
  if (status.failed())
    return status;
  std::sort(times.begin(), times.end());
  return double(times[times.size() / 2]);
}

Status Gpu::replay(const std::function<Status()> &work) {
  Implementation &it = *implementation;
  synchronize();
  it.check(it.beginCapture(it.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
  Status status = work();
  CUgraph graph = nullptr;
  CUresult ended = it.endCapture(it.stream, &graph);
  if (status.failed())
    return status;
  it.check(ended, "cuStreamEndCapture");
  CUgraphExec executable = nullptr;
  it.check(it.instantiate(&executable, graph, 0), "cuGraphInstantiate");
  for (int i = 0; i < 2; ++i)
    it.check(it.launch(executable, it.stream), "cuGraphLaunch");
  synchronize();
  it.check(it.destroyExec(executable), "cuGraphExecDestroy");
  it.check(it.destroyGraph(graph), "cuGraphDestroy");
  return success();
}

int64_t spanOf(const MatmulOperand &operand) {
  int64_t last = 0;
  for (size_t i = 0; i < operand.shape.size(); ++i)
    last += (operand.shape[i] - 1) * operand.strides[i];
  return last + 1;
}

MatmulOperand matrixOperand(DataType type, std::vector<int64_t> shape, bool transposed, int64_t pitch) {
  MatmulOperand operand;
  operand.type = type;
  const size_t rank = shape.size();
  operand.strides.assign(rank, 1);
  const size_t unit = transposed ? rank - 2 : rank - 1, other = transposed ? rank - 1 : rank - 2;
  operand.strides[other] = pitch ? pitch : shape[unit];
  int64_t inner = operand.strides[other] * shape[other];
  for (size_t i = rank - 2; i-- > 0;) {
    operand.strides[i] = inner;
    inner *= shape[i];
  }
  operand.shape = std::move(shape);
  return operand;
}

void HostTensor::randomize(Random &random) {
  const int64_t count = int64_t(bytes.size()) / sizeOf(layout.type);
  for (int64_t i = 0; i < count; ++i)
    storeDouble(layout.type, bytes.data(), i, random.symmetric());
}

const char *Verdict::check(bool good, const std::string &what) {
  ++checks;
  if (good)
    return "";
  failures.push_back(what);
  return " FAIL";
}

} // namespace zopt::benchmark
