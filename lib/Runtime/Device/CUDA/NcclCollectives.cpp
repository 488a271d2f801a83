//===- NcclCollectives.cpp - collectives by NCCL --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Collectives.h"
#include "PeerCopies.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/DynamicLibrary.h"
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <nccl.h>
#include <thread>

namespace zopt::runtime::cuda {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAbortTime = std::chrono::seconds(2), kDestroyTime = std::chrono::seconds(10);

#define ZOPT_NCCL_FUNCTIONS(X)                                                                                         \
  X(ncclGetVersion)                                                                                                    \
  X(ncclGetUniqueId)                                                                                                   \
  X(ncclCommInitRankConfig)                                                                                            \
  X(ncclCommDestroy)                                                                                                   \
  X(ncclCommAbort)                                                                                                     \
  X(ncclCommGetAsyncError)                                                                                             \
  X(ncclGetErrorString)                                                                                                \
  X(ncclGetLastError)                                                                                                  \
  X(ncclGroupStart)                                                                                                    \
  X(ncclGroupEnd)                                                                                                      \
  X(ncclAllGather)                                                                                                     \
  X(ncclReduceScatter)                                                                                                 \
  X(ncclAllReduce)                                                                                                     \
  X(ncclSend)                                                                                                          \
  X(ncclRecv)

struct Nccl {
#define ZOPT_NCCL_MEMBER(name) decltype(&::name) name = nullptr;
  ZOPT_NCCL_FUNCTIONS(ZOPT_NCCL_MEMBER)
#undef ZOPT_NCCL_MEMBER

  Status error(const char *call, ncclResult_t code, ncclComm_t communicator) const {
    const char *last = ncclGetLastError(communicator);
    std::string text = ncclGetErrorString(code);
    if (last && *last)
      text += concat(": ", last);
    while (!text.empty() && text.back() == '\n')
      text.pop_back();
    for (char &character : text)
      if (character == '\n')
        character = ' ';
    return callError(call, text);
  }
};

Result<const Nccl *> loadNccl() {
  static std::mutex mutex;
  static Nccl nccl;
  static Status status;
  static bool loaded = false;
  std::lock_guard<std::mutex> lock(mutex);
  if (!loaded) {
    loaded = true;
    status = [&]() -> Status {
      // Multicast on NVLink switches has left hosts in need of a restart: who wants it says so.
      setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
      DynamicLibrary library = openLibrary({"libnccl.so.2"});
      if (!library.handle)
        return callError("dlopen", concat(library.problem, " (install NCCL, name its folder in ZOPT_CUDA_LIBRARY_PATH, or give --comm=mpi)"));
#define ZOPT_NCCL_RESOLVE(name)                                                                                        \
  nccl.name = reinterpret_cast<decltype(&::name)>(symbolIn(library, #name));                                           \
  if (!nccl.name)                                                                                                      \
    return callError("dlsym", concat(library.file, " lacks " #name ": NCCL is too old"));
      ZOPT_NCCL_FUNCTIONS(ZOPT_NCCL_RESOLVE)
#undef ZOPT_NCCL_RESOLVE
      return success();
    }();
  }
  if (status.failed())
    return status;
  return static_cast<const Nccl *>(&nccl);
}

#define ZOPT_NCCL(function, ...)                                                                                       \
  do {                                                                                                                 \
    if (ncclResult_t zoptCode = nccl.function(__VA_ARGS__); zoptCode != ncclSuccess)                                   \
      return nccl.error(#function, zoptCode, communicator);                                                            \
  } while (false)

Result<ncclDataType_t> typeOf(DataType type) {
  switch (type) {
  case DataType::F32:
    return ncclFloat32;
  case DataType::F64:
    return ncclFloat64;
  case DataType::BF16:
    return ncclBfloat16;
  case DataType::F16:
    return ncclFloat16;
  case DataType::I64:
    return ncclInt64;
  case DataType::I32:
    return ncclInt32;
  default:
    return inputError("NCCL sums no ", nameOf(type));
  }
}

class NcclCollectives final : public DeviceCollectives {
public:
  NcclCollectives(const Nccl &nccl, DeviceContext &device, Communicator &host) : nccl(nccl), device(device), host(host), sums(device), world(host.size()), rank(host.rank()) {
    const char *asked = std::getenv("ZOPT_RANK_ORDER_SUMS");
    rankOrder = asked && *asked && *asked != '0';
  }

  ~NcclCollectives() override {
    peers.reset();
    if (!communicator)
      return;
    // After a failure the other ranks must learn of it. Neither that nor an orderly end may keep this rank from telling what happened, so both are bounded.
    auto end = device.broken ? nccl.ncclCommAbort : nccl.ncclCommDestroy;
    auto done = std::make_shared<std::atomic<bool>>(false);
    std::thread([done, end, communicator = communicator, bind = device.driver.cuCtxSetCurrent, context = device.context] {
      bind(context);
      end(communicator);
      *done = true;
    }).detach();
    for (auto deadline = Clock::now() + (device.broken ? kAbortTime : kDestroyTime); !*done && Clock::now() < deadline;)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  /// Meets the other ranks under rank 0's id. The call blocks, so it is made in a thread of its own, which is left behind if somebody never comes.
  Status connect(const ncclUniqueId &id, double timeoutSeconds) {
    struct Meeting {
      std::atomic<bool> done{false};
      ncclResult_t code = ncclSuccess;
      ncclComm_t communicator = nullptr;
    };
    auto meeting = std::make_shared<Meeting>();
    std::thread([meeting, id, initialize = nccl.ncclCommInitRankConfig, world = world, rank = rank, bind = device.driver.cuCtxSetCurrent, context = device.context] {
      bind(context);
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 1;
      meeting->code = initialize(&meeting->communicator, world, id, rank, &config);
      meeting->done = true;
    }).detach();
    auto begin = Clock::now();
    while (!meeting->done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (Status status = host.checkPeers("ncclCommInitRank"); status.failed()) {
        device.broken = true;
        return status;
      }
      if (std::chrono::duration<double>(Clock::now() - begin).count() > timeoutSeconds) {
        device.broken = true;
        return callError("ncclCommInitRank", concat("timed out after ", timeoutSeconds, " s: not all ", world, " ranks have come"));
      }
    }
    if (meeting->code != ncclSuccess)
      return nccl.error("ncclCommInitRankConfig", meeting->code, nullptr);
    communicator = meeting->communicator;
    return success();
  }

  Status prepare(const Program &program) { return prepareSums(sums, program); }

  Status connect(const Program &program, const std::vector<CUdeviceptr> &arenas) override {
    if (world == 1)
      return success();
    const char *text = std::getenv("ZOPT_COPY_ENGINES");
    const std::string asked = text && *text ? text : "1";
    Status known;
    if (asked != "0" && asked != "1" && asked != "gathers")
      known = inputError("ZOPT_COPY_ENGINES is '", asked, "', but must be 0, gathers or 1");
    ZOPT_RETURN_IF_FAILED(host.agree("copy engines", known));
    double wants[] = {asked == "0" ? 1.0 : 0.0, asked == "1" ? 0.0 : 1.0}; // what one rank does without, all do without
    ZOPT_RETURN_IF_FAILED(host.allReduceMaximum("copy engines", wants, 2));
    if (wants[0] != 0)
      return success();
    std::string reason;
    Result<std::unique_ptr<PeerCopies>> made = PeerCopies::create(device, host, arenas, program, reason);
    if (made.failed())
      return made.getStatus();
    peers = std::move(*made);
    carriesParts = peers && wants[1] == 0;
    if (!reason.empty())
      told = concat("NCCL's kernels carry everything, which slows down others beside them: GPUs do not reach each other's memory: ", reason, " (ZOPT_COPY_ENGINES=0 does not try)");
    return success();
  }
  std::string remark() const override { return told; }

  const char *name() const override { return "nccl"; }
  bool needsHost() const override { return false; }
  bool reducesApart() const override { return carriesParts; }

  Status allGather(const Collective &, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) override {
    if (peers)
      return peers->gather(stream, source, destination, bytes);
    ZOPT_NCCL(ncclAllGather, pointer(source), pointer(destination), size_t(bytes), ncclUint8, communicator, stream);
    return success();
  }

  Status reduceScatter(const Collective &, CUstream stream, CUdeviceptr source, DataType sourceType, CUdeviceptr destination, DataType destinationType, CUdeviceptr workspace, int64_t elements,
                       bool accumulate) override {
    if (sumsAlike(sourceType) && sourceType == destinationType && !accumulate) {
      Result<ncclDataType_t> type = typeOf(sourceType);
      if (type.failed())
        return type.getStatus();
      ZOPT_NCCL(ncclReduceScatter, pointer(source), pointer(destination), size_t(elements), *type, ncclSum, communicator, stream);
      return success();
    }
    ZOPT_RETURN_IF_FAILED(exchangeParts(stream, source, workspace, elements * sizeOf(sourceType)));
    return sums.run(stream, source, sourceType, destination, destinationType, world == 1 ? source : workspace, elements, world, rank, accumulate);
  }

  Status allReduce(const Collective &collective, CUstream stream, CUdeviceptr buffer, DataType type, CUdeviceptr workspace, int64_t elements) override {
    if (sumsAlike(type)) {
      Result<ncclDataType_t> ncclType = typeOf(type);
      if (ncclType.failed())
        return ncclType.getStatus();
      ZOPT_NCCL(ncclAllReduce, pointer(buffer), pointer(buffer), size_t(elements * world), *ncclType, ncclSum, communicator, stream);
      return success();
    }
    const int64_t bytes = elements * sizeOf(type);
    const CUdeviceptr own = buffer + uint64_t(rank * bytes);
    ZOPT_RETURN_IF_FAILED(exchangeParts(stream, buffer, workspace, bytes));
    // In place: nobody else reads this rank's own part, and what it sent of the other parts has left when the stream comes here.
    ZOPT_RETURN_IF_FAILED(sums.run(stream, buffer, type, own, type, world == 1 ? buffer : workspace, elements, world, rank, false));
    return allGather(collective, stream, own, buffer, bytes);
  }

  Status allReduceScalars(const std::string &, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t count, DataType type) override {
    Result<ncclDataType_t> ncclType = typeOf(type);
    if (ncclType.failed())
      return ncclType.getStatus();
    ZOPT_NCCL(ncclAllReduce, pointer(source), pointer(destination), size_t(count), *ncclType, ncclSum, communicator, stream);
    return success();
  }

  Status allReduceIntegers(const std::string &, CUstream stream, CUdeviceptr values, int64_t count) override {
    ZOPT_NCCL(ncclAllReduce, pointer(values), pointer(values), size_t(count), ncclInt64, ncclSum, communicator, stream);
    return success();
  }

  Status health() override {
    ncclResult_t code = ncclSuccess;
    ZOPT_NCCL(ncclCommGetAsyncError, communicator, &code);
    if (code != ncclSuccess && code != ncclInProgress)
      return nccl.error("ncclCommGetAsyncError", code, communicator);
    return success();
  }

private:
  static void *pointer(CUdeviceptr address) { return reinterpret_cast<void *>(address); }
  /// Whether NCCL's own sums are good enough: those of bf16 round after every rank. Who has the parts anyway adds them in rank order.
  bool sumsAlike(DataType type) const { return !rankOrder && !carriesParts && (type == DataType::F32 || type == DataType::F64); }

  /// Part q of `source` to rank q, and everybody's part of this rank to its place in `workspace`.
  Status exchangeParts(CUstream stream, CUdeviceptr source, CUdeviceptr workspace, int64_t bytes) {
    if (world == 1)
      return success();
    if (carriesParts)
      return peers->exchange(stream, source, workspace, bytes);
    ZOPT_NCCL(ncclGroupStart);
    for (int step = 1; step < world; ++step) {
      int to = (rank + step) % world, from = (rank - step + world) % world;
      ZOPT_NCCL(ncclSend, pointer(source + uint64_t(to * bytes)), size_t(bytes), ncclUint8, to, communicator, stream);
      ZOPT_NCCL(ncclRecv, pointer(workspace + uint64_t(from * bytes)), size_t(bytes), ncclUint8, from, communicator, stream);
    }
    ZOPT_NCCL(ncclGroupEnd);
    return success();
  }

  const Nccl &nccl;
  DeviceContext &device;
  Communicator &host;
  RankSums sums;
  const int world, rank;
  bool rankOrder = false, carriesParts = false;
  std::unique_ptr<PeerCopies> peers; // of gathers; of everything where it carries parts
  std::string told;
  ncclComm_t communicator = nullptr;
};

} // namespace

Result<std::unique_ptr<DeviceCollectives>> makeNcclCollectives(DeviceContext &device, Communicator &communicator, const Program &program, double timeoutSeconds) {
  std::unique_ptr<NcclCollectives> made;
  std::string id(sizeof(ncclUniqueId), '\0');
  auto open = [&]() -> Status {
    if (device.shared)
      return inputError(device.name, ": more than one rank runs on this GPU, which NCCL refuses: give --comm=mpi, or a GPU for each rank");
    Result<const Nccl *> nccl = loadNccl();
    if (nccl.failed())
      return nccl.getStatus();
    made = std::make_unique<NcclCollectives>(**nccl, device, communicator);
    if (communicator.rank() == 0) {
      ncclUniqueId unique;
      if (ncclResult_t code = (*nccl)->ncclGetUniqueId(&unique); code != ncclSuccess)
        return (*nccl)->error("ncclGetUniqueId", code, nullptr);
      id.assign(unique.internal, sizeof unique.internal);
    }
    return made->prepare(program);
  };
  ZOPT_RETURN_IF_FAILED(communicator.agree("nccl", open()));
  ZOPT_RETURN_IF_FAILED(communicator.broadcast("nccl id", id));
  ncclUniqueId unique;
  id.resize(sizeof unique.internal);
  id.copy(unique.internal, sizeof unique.internal);
  ZOPT_RETURN_IF_FAILED(communicator.agree("nccl", made->connect(unique, timeoutSeconds)));
  return std::unique_ptr<DeviceCollectives>(std::move(made));
}

} // namespace zopt::runtime::cuda
