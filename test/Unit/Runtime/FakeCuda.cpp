//===- FakeCuda.cpp - a driver without a GPU ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FakeCuda.h"
#include "TinyProgram.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace zopt::runtime;

struct CUevent_st;

namespace {

struct Graph;

/// One piece of queued work, behind others.
struct Node {
  std::function<bool()> body; // empty: a point in the order
  std::vector<std::shared_ptr<Node>> after;
  bool done = false;
  CUevent_st *external = nullptr; // that it records, for others than the graph
  CUevent_st *awaited = nullptr;  // by a graph: as it was last recorded when the graph is launched
};
using NodePointer = std::shared_ptr<Node>;

} // namespace

struct CUstream_st {
  NodePointer last;
  Graph *capture = nullptr;
  NodePointer capturedLast;
};
struct CUevent_st {
  NodePointer node;
  Graph *capture = nullptr; // recorded in this capture
  bool timing = false;
  std::shared_ptr<double> time; // milliseconds, when it came by
};
struct CUctx_st {
  int device;
};
struct CUmod_st {
  int unused;
};

namespace {

struct HostKernel {
  std::function<void(char *const *, int64_t, int64_t)> function;
  int pointers = 0;
  bool hasValue = false;
  int64_t iterations = 1;
  bool isSum = false, isUnknown = false;
  DataType source = DataType::F32, destination = DataType::F32;
};

} // namespace

struct CUfunc_st {
  HostKernel kernel;
};

namespace {

struct Graph {
  CUstream origin = nullptr;
  std::vector<NodePointer> nodes;
  std::set<CUstream> streams;
  bool invalid = false;
};

} // namespace

struct CUgraph_st {
  std::vector<NodePointer> nodes;
};
struct CUgraphExec_st {
  std::vector<NodePointer> nodes;
};

namespace {

struct State {
  std::recursive_mutex mutex;
  std::map<CUdeviceptr, std::pair<size_t, int>> memory; // bytes and device
  std::map<char *, size_t> pinned;
  std::vector<std::unique_ptr<CUctx_st>> contexts;
  std::map<std::string, int> calls;
  CUresult sticky = CUDA_SUCCESS;
  int64_t kernelsRun = 0;
  double clock = 0; // milliseconds
  std::mt19937 random{std::getenv("FAKE_CUDA_SEED") ? unsigned(std::atoi(std::getenv("FAKE_CUDA_SEED"))) : std::random_device{}()};
  FakeCudaCounts counts{};
};
State &state() {
  static State instance;
  return instance;
}
thread_local CUctx_st *currentContext = nullptr;
thread_local int capturing = 0;

int64_t number(const char *variable, int64_t otherwise) {
  const char *text = std::getenv(variable);
  return text && *text ? std::strtoll(text, nullptr, 10) : otherwise;
}

/// What FAKE_CUDA_FAIL wants of this event.
CUresult injected(const char *name) {
  const char *text = std::getenv("FAKE_CUDA_FAIL");
  char wanted[64] = "";
  int which = 0, code = 0;
  if (!text || std::sscanf(text, "%63[^:]:%d:%d", wanted, &which, &code) != 3 || std::strcmp(wanted, name) != 0)
    return CUDA_SUCCESS;
  return ++state().calls[text] == which ? CUresult(code) : CUDA_SUCCESS;
}

/// Every function begins so: the lock, the error that a kernel has left, the error that a test wants.
#define ENTER(name)                                                                                                    \
  std::lock_guard<std::recursive_mutex> guard(state().mutex);                                                          \
  if (state().sticky != CUDA_SUCCESS)                                                                                  \
    return state().sticky;                                                                                             \
  if (CUresult code = injected(name); code != CUDA_SUCCESS)                                                            \
  return code
#define FORBIDDEN_IN_CAPTURE                                                                                           \
  if (capturing)                                                                                                       \
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

/// Runs what `node` needs and then itself, in an order that is random where none is given. False where something cannot go on yet.
bool run(const NodePointer &node) {
  if (node->done)
    return true;
  std::shuffle(node->after.begin(), node->after.end(), state().random);
  for (const NodePointer &before : node->after)
    if (!run(before))
      return false;
  if (node->body && !node->body())
    return false;
  node->done = true;
  node->after.clear();
  return true;
}

/// Behind everything in a stream, captured or not.
NodePointer append(CUstream stream, std::function<bool()> body, std::vector<NodePointer> also = {}) {
  auto node = std::make_shared<Node>();
  node->body = std::move(body);
  node->after = std::move(also);
  NodePointer &last = stream->capture ? stream->capturedLast : stream->last;
  if (last)
    node->after.push_back(last);
  last = node;
  if (stream->capture)
    stream->capture->nodes.push_back(node);
  return node;
}

bool holdsDevice(CUdeviceptr address, size_t bytes) {
  auto found = state().memory.upper_bound(address);
  return found != state().memory.begin() && (--found, address + bytes <= found->first + found->second.first);
}

bool holdsPinned(const void *address, size_t bytes) {
  char *wanted = static_cast<char *>(const_cast<void *>(address));
  auto found = state().pinned.upper_bound(wanted);
  return found != state().pinned.begin() && (--found, wanted + bytes <= found->first + found->second);
}

char *host(CUdeviceptr address) { return reinterpret_cast<char *>(address); }

bool findKernel(const std::string &name, HostKernel &kernel) {
  std::shared_ptr<KernelLibrary> tiny = tinyDeviceKernels();
  Program program = withTrustRatio(makeTinyDeviceProgram(1, 0)); // every kernel that there is
  for (size_t i = 0; i < program.kernels.size(); ++i)
    if (program.kernels[i].symbol == name) {
      kernel.function = tiny->function(int32_t(i));
      kernel.pointers = tinyDevicePointers(int32_t(i));
      kernel.hasValue = name == "sgd" || name == "trust_norms" || name == "trust_sgd";
      kernel.iterations = program.kernels[i].blockIterations;
      return true;
    }
  char source[8] = "", destination[8] = "";
  int width = 0;
  if (std::sscanf(name.c_str(), "zopt_sum_%7[^_]_%7[^_]_%d", source, destination, &width) != 3) {
    kernel.isUnknown = true;
    return number("FAKE_CUDA_UNKNOWN_KERNELS", 0) != 0;
  }
  kernel.isSum = true;
  kernel.iterations = width;
  return parseDataType(source, kernel.source) && parseDataType(destination, kernel.destination);
}

bool isReady(CUresult &code, const NodePointer &node) {
  code = CUDA_SUCCESS;
  if (!node || node->done)
    return true;
  if (const char *hang = std::getenv("FAKE_CUDA_HANG"); !hang || !*hang)
    run(node);
  // Whoever asks must ask again: real work is never done at the first look.
  code = state().sticky != CUDA_SUCCESS ? state().sticky : CUDA_ERROR_NOT_READY;
  return false;
}

} // namespace

namespace fake {
CUresult enqueue(CUstream stream, std::function<bool()> body) {
  std::lock_guard<std::recursive_mutex> guard(state().mutex);
  ++state().counts.collectives;
  append(stream, std::move(body));
  return CUDA_SUCCESS;
}
void lock() { state().mutex.lock(); }
void unlock() { state().mutex.unlock(); }
} // namespace fake

extern "C" {

CUresult fakeCudaEnqueue(CUstream stream, const std::function<bool()> *body) {
  std::lock_guard<std::recursive_mutex> guard(state().mutex);
  append(stream, *body);
  return CUDA_SUCCESS;
}
void fakeCudaSpend(double microseconds) { state().clock += microseconds * 1e-3; }

FakeCudaCounts fakeCudaCounts() {
  std::lock_guard<std::recursive_mutex> guard(state().mutex);
  return state().counts;
}

CUresult cuInit(unsigned) {
  ENTER("cuInit");
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
  *version = int(number("FAKE_CUDA_VERSION", 13000));
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult code, const char **text) {
  static std::map<int, const char *> names = {{1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"}, {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
                                              {218, "CUDA_ERROR_INVALID_PTX"}, {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"}, {500, "CUDA_ERROR_NOT_FOUND"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                              {719, "CUDA_ERROR_LAUNCH_FAILED"}, {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}, {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
                                              {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"}, {907, "CUDA_ERROR_CAPTURED_EVENT"}};
  auto found = names.find(int(code));
  *text = found == names.end() ? "CUDA_ERROR_OF_THE_FAKE" : found->second;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char **text) {
  *text = "as the fake driver was told";
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  ENTER("cuDeviceGetCount");
  *count = int(number("FAKE_CUDA_DEVICES", 1));
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER("cuDeviceGet");
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
  const char *text = std::getenv("FAKE_CUDA_NAME");
  std::snprintf(name, size_t(length), "%s", text && *text ? text : "Fake GPU");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  std::memset(uuid, 0, sizeof *uuid);
  uuid->bytes[0] = char(device + 1);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  *bytes = size_t(number("FAKE_CUDA_MEMORY", int64_t(1) << 30));
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? int(number("FAKE_CUDA_CAPABILITY", 9)) : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 2 : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ENTER("cuDevicePrimaryCtxRetain");
  ++state().counts.retained;
  for (std::unique_ptr<CUctx_st> &known : state().contexts)
    if (known->device == device) {
      *context = known.get();
      return CUDA_SUCCESS;
    }
  state().contexts.push_back(std::make_unique<CUctx_st>(CUctx_st{device}));
  *context = state().contexts.back().get();
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  ENTER("cuDevicePrimaryCtxRelease");
  --state().counts.retained;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  currentContext = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  ENTER("cuMemGetInfo");
  if (!currentContext)
    return CUDA_ERROR_INVALID_CONTEXT;
  cuDeviceTotalMem_v2(total, 0);
  size_t used = 0;
  for (auto &[address, block] : state().memory)
    if (block.second == currentContext->device)
      used += block.first;
  *free = *total - std::min(*total, used);
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  ENTER("cuMemAlloc");
  FORBIDDEN_IN_CAPTURE;
  size_t free = 0, total = 0;
  if (CUresult code = cuMemGetInfo_v2(&free, &total); code != CUDA_SUCCESS)
    return code;
  if (bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (bytes > free)
    return CUDA_ERROR_OUT_OF_MEMORY;
  void *block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(block, 0x7b, bytes); // as it comes
  *address = reinterpret_cast<CUdeviceptr>(block);
  state().memory[*address] = {bytes, currentContext->device};
  state().counts.deviceBytes += int64_t(bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
  ENTER("cuMemFree");
  auto found = state().memory.find(address);
  if (found == state().memory.end())
    return CUDA_ERROR_INVALID_VALUE;
  state().counts.deviceBytes -= int64_t(found->second.first);
  state().memory.erase(found);
  std::free(host(address));
  return CUDA_SUCCESS;
}
CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
  ENTER("cuIpcGetMemHandle");
  if (!state().memory.count(address))
    return CUDA_ERROR_INVALID_VALUE;
  std::memset(handle, 0, sizeof *handle);
  std::memcpy(handle, &address, sizeof address);
  return CUDA_SUCCESS;
}
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle, unsigned) {
  ENTER("cuIpcOpenMemHandle");
  std::memcpy(address, &handle, sizeof *address);
  if (!state().memory.count(*address))
    return CUDA_ERROR_INVALID_VALUE;
  *address += CUdeviceptr(number("FAKE_CUDA_IPC_SHIFT", 0));
  ++state().counts.opened;
  ++state().counts.mapped;
  return CUDA_SUCCESS;
}
CUresult cuIpcCloseMemHandle(CUdeviceptr) {
  ENTER("cuIpcCloseMemHandle");
  --state().counts.mapped;
  return CUDA_SUCCESS;
}
CUresult cuMemAllocHost_v2(void **address, size_t bytes) {
  ENTER("cuMemAllocHost");
  FORBIDDEN_IN_CAPTURE;
  *address = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  state().pinned[static_cast<char *>(*address)] = bytes;
  state().counts.pinnedBytes += int64_t(bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *address) {
  ENTER("cuMemFreeHost");
  auto found = state().pinned.find(static_cast<char *>(address));
  if (found == state().pinned.end())
    return CUDA_ERROR_INVALID_VALUE;
  state().counts.pinnedBytes -= int64_t(found->second);
  state().pinned.erase(found);
  std::free(address);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr destination, const void *source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyHtoDAsync");
  if (!holdsDevice(destination, bytes) || !holdsPinned(source, bytes) || stream->capture)
    return CUDA_ERROR_INVALID_VALUE;
  ++state().counts.copiesIn;
  append(stream, [=] {
    std::memcpy(host(destination), source, bytes);
    return true;
  });
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync_v2(void *destination, CUdeviceptr source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyDtoHAsync");
  if (!holdsDevice(source, bytes) || !holdsPinned(destination, bytes) || stream->capture)
    return CUDA_ERROR_INVALID_VALUE;
  ++state().counts.copiesOut;
  append(stream, [=] {
    std::memcpy(destination, host(source), bytes);
    return true;
  });
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyDtoDAsync");
  if (!holdsDevice(source, bytes) || !holdsDevice(destination, bytes) || (source < destination + bytes && destination < source + bytes))
    return CUDA_ERROR_INVALID_VALUE;
  append(stream, [=] {
    std::memcpy(host(destination), host(source), bytes);
    return true;
  });
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr destination, unsigned char value, size_t bytes, CUstream stream) {
  ENTER("cuMemsetD8Async");
  if (!holdsDevice(destination, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  append(stream, [=] {
    std::memset(host(destination), value, bytes);
    return true;
  });
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned, int) {
  ENTER("cuStreamCreate");
  *stream = new CUstream_st;
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy_v2(CUstream stream) {
  delete stream;
  return CUDA_SUCCESS;
}
CUresult cuStreamQuery(CUstream stream) {
  ENTER("cuStreamQuery");
  if (stream->capture)
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  CUresult code;
  isReady(code, stream->last);
  return code;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  ENTER("cuStreamWaitEvent");
  if (flags & CU_EVENT_WAIT_EXTERNAL) {
    if (!stream->capture || event->capture)
      return CUDA_ERROR_INVALID_VALUE;
    append(stream, nullptr)->awaited = event;
    return CUDA_SUCCESS;
  }
  if (event->capture && !stream->capture) {
    // The event's capture spreads to this stream.
    stream->capture = event->capture;
    stream->capturedLast = nullptr;
    event->capture->streams.insert(stream);
  }
  if (stream->capture != event->capture) {
    if (stream->capture)
      stream->capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (event->node)
    append(stream, nullptr, {event->node});
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode) {
  ENTER("cuStreamBeginCapture");
  if (stream->capture)
    return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = new Graph;
  stream->capture->origin = stream;
  stream->capture->streams.insert(stream);
  stream->capturedLast = nullptr;
  ++capturing;
  ++state().counts.captures;
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  ENTER("cuStreamEndCapture");
  Graph *capture = stream->capture;
  *graph = nullptr;
  if (!capture || capture->origin != stream)
    return CUDA_ERROR_ILLEGAL_STATE;
  --capturing;
  std::set<Node *> reached;
  std::vector<NodePointer> toVisit = {stream->capturedLast};
  while (!toVisit.empty()) {
    NodePointer node = toVisit.back();
    toVisit.pop_back();
    if (node && reached.insert(node.get()).second)
      toVisit.insert(toVisit.end(), node->after.begin(), node->after.end());
  }
  bool joined = true;
  for (CUstream member : capture->streams) {
    joined &= !member->capturedLast || reached.count(member->capturedLast.get()) > 0;
    member->capture = nullptr;
    member->capturedLast = nullptr;
  }
  if (capture->invalid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!joined)
    return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  *graph = new CUgraph_st{capture->nodes};
  return CUDA_SUCCESS; // the capture is left behind: events may still point to it
}
CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned) {
  ENTER("cuStreamWriteValue32");
  append(stream, [=] {
    std::memcpy(host(address), &value, sizeof value);
    return true;
  });
  return CUDA_SUCCESS;
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams *operations, unsigned) {
  ENTER("cuStreamBatchMemOp");
  // In their order, each once.
  struct Batch {
    std::vector<CUstreamBatchMemOpParams> operations;
    size_t next = 0;
  };
  auto batch = std::make_shared<Batch>();
  batch->operations.assign(operations, operations + count);
  for (const CUstreamBatchMemOpParams &operation : batch->operations)
    if (!holdsDevice(operation.waitValue.address, 4))
      return CUDA_ERROR_INVALID_VALUE;
  append(stream, [batch] {
    for (; batch->next < batch->operations.size(); ++batch->next) {
      const CUstreamBatchMemOpParams &operation = batch->operations[batch->next];
      uint32_t value;
      std::memcpy(&value, host(operation.waitValue.address), sizeof value);
      if (operation.operation == CU_STREAM_MEM_OP_WRITE_VALUE_32)
        std::memcpy(host(operation.writeValue.address), &operation.writeValue.value, sizeof value);
      else if (value != operation.waitValue.value)
        return false;
    }
    batch->next = 0; // graphs run again
    return true;
  });
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  ENTER("cuEventCreate");
  *event = new CUevent_st;
  (*event)->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent event) {
  delete event;
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER("cuEventRecord");
  // A clock that ticks at every event, so that nothing takes no time.
  auto time = event->time = std::make_shared<double>(0);
  event->node = append(stream, [time] {
    *time = state().clock += 0.001;
    return true;
  });
  event->capture = stream->capture;
  return CUDA_SUCCESS;
}
CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  if (!(flags & CU_EVENT_RECORD_EXTERNAL))
    return cuEventRecord(event, stream);
  ENTER("cuEventRecordWithFlags");
  if (!stream->capture)
    return CUDA_ERROR_INVALID_VALUE;
  append(stream, nullptr)->external = event;
  return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
  ENTER("cuEventQuery");
  if (event->capture)
    return CUDA_ERROR_CAPTURED_EVENT;
  CUresult code;
  isReady(code, event->node);
  return code;
}
CUresult cuEventSynchronize(CUevent event) {
  ENTER("cuEventSynchronize");
  CUresult code;
  while (!isReady(code, event->node) && code == CUDA_ERROR_NOT_READY)
    ;
  return code;
}
CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent begin, CUevent end) {
  ENTER("cuEventElapsedTime");
  if (!begin->timing || !end->timing || !begin->node || !end->node || !begin->node->done || !end->node->done)
    return CUDA_ERROR_INVALID_HANDLE;
  *milliseconds = float(*end->time - *begin->time);
  return CUDA_SUCCESS;
}
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) { return cuEventElapsedTime_v2(milliseconds, begin, end); }

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long) {
  ENTER("cuGraphInstantiate");
  *executable = new CUgraphExec_st{graph->nodes};
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete graph;
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  ENTER("cuGraphLaunch");
  ++state().counts.graphLaunches;
  // Nodes of the graph run in any order that keeps to their dependences; those that cannot go on do not hold up the others.
  struct Launch {
    std::vector<NodePointer> nodes;
    std::set<Node *> done;
    std::map<Node *, std::shared_ptr<bool>> recorded;
    std::map<Node *, NodePointer> awaited;
  };
  auto launch = std::make_shared<Launch>();
  launch->nodes = executable->nodes;
  for (const NodePointer &node : launch->nodes)
    if (node->awaited && node->awaited->node)
      launch->awaited[node.get()] = node->awaited->node;
  NodePointer whole = append(stream, [launch] {
    for (bool progress = true; progress && launch->done.size() < launch->nodes.size();) {
      progress = false;
      std::shuffle(launch->nodes.begin(), launch->nodes.end(), state().random);
      for (const NodePointer &node : launch->nodes) {
        bool ready = !launch->done.count(node.get());
        for (const NodePointer &before : node->after)
          ready &= launch->done.count(before.get()) > 0;
        if (auto awaited = launch->awaited.find(node.get()); ready && awaited != launch->awaited.end())
          ready = run(awaited->second);
        if (ready && (!node->body || node->body())) {
          launch->done.insert(node.get());
          if (node->external)
            *launch->recorded[node.get()] = true;
          progress = true;
        }
      }
    }
    return launch->done.size() == launch->nodes.size();
  });
  for (const NodePointer &node : launch->nodes)
    if (node->external) {
      auto recorded = launch->recorded[node.get()] = std::make_shared<bool>(false);
      node->external->node = std::make_shared<Node>();
      node->external->node->body = [whole, recorded] {
        run(whole);
        return *recorded;
      };
    }
  return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
  delete executable;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned options, CUjit_option *names, void **values) {
  ENTER("cuModuleLoadDataEx");
  FORBIDDEN_IN_CAPTURE;
  if (!std::strstr(static_cast<const char *>(image), ".version")) {
    for (unsigned i = 0; i < options; ++i)
      if (names[i] == CU_JIT_ERROR_LOG_BUFFER)
        std::strcpy(static_cast<char *>(values[i]), "ptxas fatal: no .version\nptxas fatal: line two\n");
    return CUDA_ERROR_INVALID_PTX;
  }
  *module = new CUmod_st;
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  delete module;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
  ENTER("cuModuleGetFunction");
  HostKernel kernel;
  if (!findKernel(name, kernel))
    return CUDA_ERROR_NOT_FOUND;
  *function = new CUfunc_st{kernel};
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  ENTER("cuFuncSetAttribute");
  return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *address, const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  ENTER("cuTensorMapEncodeTiled");
  bool fits = reinterpret_cast<uintptr_t>(address) % 16 == 0 && holdsDevice(reinterpret_cast<CUdeviceptr>(host(reinterpret_cast<CUdeviceptr>(address))), 4);
  for (cuuint32_t i = 0; i < rank; ++i)
    fits &= sizes[i] > 0 && box[i] > 0 && box[i] <= 256 && (i + 1 == rank || (strides[i] > 0 && strides[i] % 16 == 0));
  if (!fits)
    return CUDA_ERROR_INVALID_VALUE;
  std::memset(map, 0, sizeof *map);
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ, unsigned, CUstream stream, void **parameters, void **) {
  ENTER("cuLaunchKernel");
  if (gridX == 0 || gridY != 1 || gridZ != 1 || blockX == 0 || blockX > 1024 || blockY != 1 || blockZ != 1)
    return CUDA_ERROR_INVALID_VALUE;
  ++state().counts.launches;
  const HostKernel &kernel = function->kernel;
  auto run = [](const std::function<void()> &body) {
    if (CUresult code = injected("kernel"); code != CUDA_SUCCESS)
      state().sticky = code;
    else if (state().sticky == CUDA_SUCCESS)
      body();
    return true;
  };
  if (kernel.isUnknown) {
    append(stream, [=] { return run([] {}); });
    return CUDA_SUCCESS;
  }
  if (kernel.isSum) {
    auto address = [&](int i) { return host(*static_cast<CUdeviceptr *>(parameters[i])); };
    char *source = address(0), *workspace = address(1), *destination = address(2);
    int64_t elements = *static_cast<int64_t *>(parameters[3]);
    uint32_t world = *static_cast<uint32_t *>(parameters[4]), rank = *static_cast<uint32_t *>(parameters[5]), accumulate = *static_cast<uint32_t *>(parameters[6]);
    if (int64_t(gridX) * blockX * kernel.iterations < elements || elements % kernel.iterations != 0)
      return CUDA_ERROR_INVALID_VALUE;
    append(stream, [=] {
      return run([=] {
        std::vector<const void *> parts;
        for (uint32_t q = 0; q < world; ++q)
          parts.push_back((q == rank ? source : workspace) + int64_t(q) * elements * sizeOf(kernel.source));
        sumInRankOrder(parts.data(), int(world), elements, kernel.source, destination, kernel.destination, accumulate);
      });
    });
    return CUDA_SUCCESS;
  }
  // Parameters are copied now, as a driver does.
  std::vector<char *> arguments;
  for (int i = 0; i < kernel.pointers; ++i) {
    arguments.push_back(host(*static_cast<CUdeviceptr *>(parameters[i])));
    if (!holdsDevice(reinterpret_cast<CUdeviceptr>(arguments.back()), 4))
      return CUDA_ERROR_INVALID_VALUE;
  }
  int next = kernel.pointers;
  double value = 0;
  if (kernel.hasValue)
    std::memcpy(&value, parameters[next++], sizeof(float));
  int64_t begin = *static_cast<int64_t *>(parameters[next]), end = *static_cast<int64_t *>(parameters[next + 1]);
  if ((end - begin + kernel.iterations - 1) / kernel.iterations != int64_t(gridX))
    return CUDA_ERROR_INVALID_VALUE;
  append(stream, [=] {
    return run([=] {
      double copy = value;
      std::vector<char *> all = arguments;
      if (kernel.hasValue)
        all.push_back(reinterpret_cast<char *>(&copy));
      for (int64_t block = 0; block < int64_t(gridX); ++block)
        kernel.function(all.data(), begin + block * kernel.iterations, std::min(end, begin + (block + 1) * kernel.iterations));
    });
  });
  return CUDA_SUCCESS;
}

} // extern "C"
