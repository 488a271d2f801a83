//===- StagedCollectives.cpp - collectives through the host ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Collectives.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <algorithm>

namespace zopt::runtime::cuda {

DeviceCollectives::~DeviceCollectives() = default;

Status prepareSums(RankSums &sums, const Program &program) {
  for (const Sequence &sequence : program.sequences)
    for (const Command &command : sequence.commands) {
      if (command.kind == Command::Kind::ReduceScatter)
        ZOPT_RETURN_IF_FAILED(sums.prepare(command.type, command.destinationType).in(command.location));
      if (command.kind == Command::Kind::AllReduce)
        ZOPT_RETURN_IF_FAILED(sums.prepare(command.type, command.type).in(command.location));
    }
  return success();
}

namespace {

class StagedCollectives final : public DeviceCollectives {
public:
  StagedCollectives(DeviceContext &device, Communicator &communicator) : device(device), communicator(communicator), sums(device), world(communicator.size()), rank(communicator.rank()) {}

  Status prepare(const Program &program) {
    ZOPT_RETURN_IF_FAILED(prepareSums(sums, program));
    if (world == 1)
      return success();
    int64_t largest = 2 * ExactSum::kWords * int64_t(sizeof(int64_t));
    for (const Sequence &sequence : program.sequences)
      for (const Command &command : sequence.commands)
        largest = std::max(largest, stagingBytes(command));
    Result<void *> block = device.pinned(largest);
    if (block.failed())
      return block.getStatus();
    staging = static_cast<char *>(*block);
    return success();
  }

  const char *name() const override { return communicator.name(); }
  bool needsHost() const override { return world > 1; }

  Status allGather(const Collective &collective, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes) override {
    if (world == 1) {
      if (source != destination && bytes > 0)
        ZOPT_CUDA(device.driver, cuMemcpyDtoDAsync, destination, source, size_t(bytes), stream);
      return success();
    }
    char *own = staging + rank * bytes;
    ZOPT_RETURN_IF_FAILED(fetch(stream, own, source, bytes));
    ZOPT_RETURN_IF_FAILED(device.await(stream));
    ZOPT_RETURN_IF_FAILED(communicator.startAllGather(collective, own, staging, bytes));
    ZOPT_RETURN_IF_FAILED(communicator.wait(collective.id));
    return put(stream, destination, staging, bytes * world);
  }

  Status reduceScatter(const Collective &collective, CUstream stream, CUdeviceptr source, DataType sourceType, CUdeviceptr destination, DataType destinationType, CUdeviceptr workspace, int64_t elements,
                       bool accumulate) override {
    if (world == 1)
      return sums.run(stream, source, sourceType, destination, destinationType, source, elements, 1, 0, accumulate);
    const int64_t sourceBytes = elements * world * sizeOf(sourceType), destinationBytes = elements * sizeOf(destinationType);
    char *parts = staging, *received = parts + padded(sourceBytes), *sum = received + padded(sourceBytes);
    ZOPT_RETURN_IF_FAILED(fetch(stream, parts, source, sourceBytes));
    if (accumulate)
      ZOPT_RETURN_IF_FAILED(fetch(stream, sum, destination, destinationBytes));
    ZOPT_RETURN_IF_FAILED(device.await(stream));
    ZOPT_RETURN_IF_FAILED(communicator.startReduceScatter(collective, parts, sourceType, sum, destinationType, received, elements, accumulate));
    ZOPT_RETURN_IF_FAILED(communicator.wait(collective.id));
    return put(stream, destination, sum, destinationBytes);
  }

  Status allReduce(const Collective &collective, CUstream stream, CUdeviceptr buffer, DataType type, CUdeviceptr, int64_t elements) override {
    if (world == 1)
      return success();
    const int64_t bytes = elements * world * sizeOf(type);
    ZOPT_RETURN_IF_FAILED(fetch(stream, staging, buffer, bytes));
    ZOPT_RETURN_IF_FAILED(device.await(stream));
    ZOPT_RETURN_IF_FAILED(communicator.startAllReduce(collective, staging, type, staging + padded(bytes), elements));
    ZOPT_RETURN_IF_FAILED(communicator.wait(collective.id));
    return put(stream, buffer, staging, bytes);
  }

  Status allReduceScalars(const std::string &label, CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t count, DataType type) override {
    const int64_t bytes = count * sizeOf(type);
    if (world == 1) {
      if (source != destination && bytes > 0)
        ZOPT_CUDA(device.driver, cuMemcpyDtoDAsync, destination, source, size_t(bytes), stream);
      return success();
    }
    ZOPT_RETURN_IF_FAILED(fetch(stream, staging, source, bytes));
    ZOPT_RETURN_IF_FAILED(device.await(stream));
    ZOPT_RETURN_IF_FAILED(communicator.allReduceScalars(label, staging, staging + padded(bytes), count, type));
    return put(stream, destination, staging + padded(bytes), bytes);
  }

  Status allReduceIntegers(const std::string &label, CUstream stream, CUdeviceptr values, int64_t count) override {
    if (world == 1)
      return success();
    const int64_t bytes = count * int64_t(sizeof(int64_t));
    ZOPT_RETURN_IF_FAILED(fetch(stream, staging, values, bytes));
    ZOPT_RETURN_IF_FAILED(device.await(stream));
    ZOPT_RETURN_IF_FAILED(communicator.allReduceIntegers(label, reinterpret_cast<int64_t *>(staging), count));
    return put(stream, values, staging, bytes);
  }

private:
  static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  int64_t stagingBytes(const Command &command) const {
    switch (command.kind) {
    case Command::Kind::AllGather:
      return command.bytes * world;
    case Command::Kind::ReduceScatter:
      return 2 * padded(command.elements * world * sizeOf(command.type)) + command.elements * sizeOf(command.destinationType);
    case Command::Kind::AllReduce:
      return 2 * padded(command.elements * world * sizeOf(command.type));
    case Command::Kind::AllReduceScalars:
      return 2 * padded(command.elements * sizeOf(command.type));
    case Command::Kind::ParameterNorms:
      return 4 * int64_t(command.decays.size()) * ExactSum::kWords * int64_t(sizeof(int64_t));
    default:
      return 0;
    }
  }

  // The staging memory is written by the host only after a wait for the stream that reads it, and by the stream only behind what it queued before.
  Status fetch(CUstream stream, char *to, CUdeviceptr from, int64_t bytes) {
    if (bytes > 0)
      ZOPT_CUDA(device.driver, cuMemcpyDtoHAsync, to, from, size_t(bytes), stream);
    return success();
  }
  Status put(CUstream stream, CUdeviceptr to, const char *from, int64_t bytes) {
    if (bytes > 0)
      ZOPT_CUDA(device.driver, cuMemcpyHtoDAsync, to, from, size_t(bytes), stream);
    return success();
  }

  DeviceContext &device;
  Communicator &communicator;
  RankSums sums;
  const int world, rank;
  char *staging = nullptr;
};

} // namespace

Result<std::unique_ptr<DeviceCollectives>> makeStagedCollectives(DeviceContext &device, Communicator &communicator, const Program &program) {
  auto made = std::make_unique<StagedCollectives>(device, communicator);
  ZOPT_RETURN_IF_FAILED(made->prepare(program));
  return std::unique_ptr<DeviceCollectives>(std::move(made));
}

} // namespace zopt::runtime::cuda
