//===- TuneMatmuls.cpp - times the products of a Program ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceContext.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include "zopt/Runtime/Device/CUDA/Tuning.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <sstream>

namespace zopt::runtime {

using namespace cuda;

namespace {

/// Of Command::buffers.
enum { Lhs, Rhs, Out, Bias, Scratch, Aux, BiasSum, Addend };

constexpr int64_t kPatternBytes = int64_t(4) << 20;
constexpr int64_t kPlaceAlignment = 256;
constexpr size_t kMostPlaces = 64;
/// Places together are so many times the device's cache.
constexpr int64_t kCacheFactor = 3;

int64_t spanOf(const MatmulOperand &operand) {
  int64_t last = 0;
  for (size_t i = 0; i < operand.shape.size(); ++i)
    last += (operand.shape[i] - 1) * operand.strides[i];
  return (last + 1) * sizeOf(operand.type);
}

class Tuner {
public:
  explicit Tuner(const Program &program) : program(program) {}

  Status run() {
    std::map<std::string, MatmulChoice> known;
    for (const Sequence &sequence : program.sequences)
      for (const Command &command : sequence.commands) {
        if (command.kind != Command::Kind::Matmul)
          continue;
        if (!device)
          ZOPT_RETURN_IF_FAILED(open());
        auto [choice, isNew] = known.try_emplace(keyOf(command));
        if (isNew) {
          Result<MatmulChoice> made = choose(command);
          if (made.failed())
            return made.getStatus().in(command.location);
          choice->second = *made;
        }
        const double times = sequence.name == "micro_step" ? double(program.accumSteps) : 1;
        tuning.algorithms.push_back(choice->second.algorithm);
        tuning.milliseconds += times * choice->second.milliseconds;
        tuning.firstMilliseconds += times * choice->second.firstMilliseconds;
      }
    tuning.products = int64_t(known.size());
    return success();
  }

  MatmulTuning tuning;

private:
  Status open() {
    world = makeLocalWorld(1);
    int64_t planned = 0;
    for (const Arena &arena : program.arenas)
      planned += arena.bytes;
    Result<std::unique_ptr<DeviceContext>> made = DeviceContext::create(*world[0], planned, /*timeoutSeconds=*/600);
    if (made.failed())
      return made.getStatus();
    device = std::move(*made);
    for (const Arena &arena : program.arenas) {
      CUdeviceptr memory = 0;
      if (arena.bytes > 0)
        if (CUresult code = device->driver.cuMemAlloc(&memory, size_t(arena.bytes)); code != CUDA_SUCCESS)
          return device->driver.error("cuMemAlloc", code).in(concat("arena '", arena.name, "' of ", bytesText(arena.bytes)));
      arenas.push_back(memory);
    }
    int bytes = 0;
    ZOPT_CUDA(device->driver, cuDeviceGetAttribute, &bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, device->device);
    cacheBytes = bytes;
    Result<std::unique_ptr<LibraryContext>> context = LibraryContext::create();
    if (context.failed())
      return context.getStatus();
    libraries = std::move(*context);
    tuning.library = libraries->matmulLibrary();
    tuning.device = device->model;
    return makePattern();
  }

  /// Random numbers of unit scale as bf16, which as f32 or f16 are of about that scale too. Zeros would take less power, and so less time.
  Status makePattern() {
    Result<void *> block = device->pinned(kPatternBytes);
    if (block.failed())
      return block.getStatus();
    pattern = *block;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < kPatternBytes / 2; ++i) {
      const float value = normal(random);
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      static_cast<uint16_t *>(pattern)[i] = uint16_t(bits >> 16);
    }
    return success();
  }

  /// The pattern, again and again, from the first byte of an arena on.
  Status fill(CUdeviceptr arena, int64_t bytes) {
    ZOPT_CUDA(device->driver, cuMemcpyHtoDAsync, arena, pattern, size_t(std::min(bytes, kPatternBytes)), device->compute);
    for (int64_t filled = kPatternBytes; filled < bytes; filled *= 2)
      ZOPT_CUDA(device->driver, cuMemcpyDtoDAsync, arena + uint64_t(filled), arena, size_t(std::min(filled, bytes - filled)), device->compute);
    return device->await(device->compute);
  }

  bool has(const Command &command, size_t i) const { return i < command.buffers.size() && command.buffers[i] >= 0; }
  int64_t byteOffset(const Command &command, size_t i) const { return i < command.byteOffsets.size() ? command.byteOffsets[i] : 0; }
  int64_t scratchBytes(const Command &command) const { return has(command, Scratch) ? program.buffers[command.buffers[Scratch]].bytes - byteOffset(command, Scratch) : 0; }
  bool addsInPlace(const Command &command) const { return has(command, Addend) && command.buffers[Addend] == command.buffers[Out] && byteOffset(command, Addend) == byteOffset(command, Out); }
  int64_t inArena(const Command &command, size_t i) const { return program.buffers[command.buffers[i]].offset + byteOffset(command, i); }

  int64_t bytesOf(const Command &command, size_t i) const {
    switch (i) {
    case Lhs:
      return spanOf(command.lhs);
    case Rhs:
      return spanOf(command.rhs);
    case Bias:
      return spanOf(command.bias);
    case Scratch:
      return scratchBytes(command);
    case Aux:
      return spanOf(command.aux);
    case BiasSum:
      return std::max(command.out.shape.end()[-1], command.out.shape.end()[-2]) * sizeOf(command.out.type);
    default:
      return spanOf(command.out);
    }
  }

  /// Everything that the library's list of algorithms and their times depend on.
  std::string keyOf(const Command &command) const {
    std::ostringstream key;
    for (const MatmulOperand *operand : {&command.lhs, &command.rhs, &command.out, &command.bias, &command.aux})
      key << nameOf(operand->type) << shapeText(operand->shape) << shapeText(operand->strides) << ' ';
    key << int(command.epilogue) << ' ' << int(command.biasGradient) << ' ' << scratchBytes(command) << ' ' << addsInPlace(command);
    for (size_t i = 0; i <= Addend; ++i) {
      const int64_t bits = kPlaceAlignment | byteOffset(command, i);
      key << ' ' << (has(command, i) ? bits & -bits : 0);
    }
    return key.str();
  }

  /// As many places for the command's buffers as make the device's cache useless, each buffer as far from alignment as in the plan; its scratch is one, as there. `end` receives their last byte.
  std::vector<MatmulPlace> layOut(const Command &command, CUdeviceptr arena, int64_t bytes, int64_t &end) const {
    std::vector<MatmulPlace> places;
    int64_t at = 0;
    auto take = [&](size_t i) {
      const int64_t begin = (at + kPlaceAlignment - 1) / kPlaceAlignment * kPlaceAlignment + inArena(command, i) % kPlaceAlignment;
      at = begin + bytesOf(command, i);
      return arena + uint64_t(begin);
    };
    const CUdeviceptr scratch = has(command, Scratch) ? take(Scratch) : 0;
    end = at;
    while (places.size() < kMostPlaces && (places.empty() || at < kCacheFactor * cacheBytes)) {
      MatmulPlace place{};
      place[Scratch] = scratch;
      for (size_t i = 0; i <= Addend; ++i)
        if (i != Scratch && has(command, i))
          place[i] = i == Addend && addsInPlace(command) ? place[Out] : take(i);
      if (at > bytes)
        break;
      end = at;
      places.push_back(place);
    }
    return places;
  }

  Result<MatmulChoice> choose(const Command &command) {
    const size_t largest = size_t(std::max_element(program.arenas.begin(), program.arenas.end(), [](const Arena &a, const Arena &b) { return a.bytes < b.bytes; }) - program.arenas.begin());
    int64_t end = 0;
    std::vector<MatmulPlace> places = layOut(command, arenas[largest], program.arenas[largest].bytes, end);
    if (places.empty()) {
      // Buffers overlap in the plan, or lie in several arenas: where they are, then.
      MatmulPlace place{};
      for (size_t i = 0; i <= Addend; ++i)
        if (has(command, i))
          place[i] = arenas[size_t(program.buffers[command.buffers[i]].arena)] + uint64_t(inArena(command, i));
      places.push_back(place);
      end = program.arenas[largest].bytes;
    }
    ZOPT_RETURN_IF_FAILED(fill(arenas[largest], end));
    return chooseMatmul(*libraries, command, scratchBytes(command), device->compute, places);
  }

  const Program &program;
  std::vector<std::unique_ptr<Communicator>> world;
  std::unique_ptr<DeviceContext> device;
  std::unique_ptr<LibraryContext> libraries;
  std::vector<CUdeviceptr> arenas; // until the process ends
  void *pattern = nullptr;
  int64_t cacheBytes = 0;
};

} // namespace

Result<MatmulTuning> tuneMatmuls(const Program &program) {
  Tuner tuner(program);
  ZOPT_RETURN_IF_FAILED(tuner.run());
  return tuner.tuning;
}

} // namespace zopt::runtime
