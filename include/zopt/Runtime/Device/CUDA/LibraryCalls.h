//===- LibraryCalls.h - products and attention on CUDA ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Matmul by cuBLASLt and Attention by cuDNN. Both libraries are loaded at run time; a build without NVIDIA's headers has these functions too, which then refuse. MatmulRules.h and AttentionRules.h say
// what is supported. All work is queued on the caller's stream and may be captured in a CUDA graph; the same inputs give the same bits in every run, with the same algorithm on the same kind of device.
//
// The calling thread's current CUDA context must be the one whose memory and streams are used, from LibraryContext::create() on.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H
#define ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Device/CUDA/AttentionRules.h"
#include "zopt/Runtime/Device/CUDA/ConvolutionRules.h"
#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// As cuda.h declares them, so that users of this header need no NVIDIA headers.
typedef struct CUstream_st *CUstream;
typedef unsigned long long CUdeviceptr;

namespace zopt::runtime::cuda {

/// An Attention, AttentionGrad or Convolution and the bytes of its scratch buffer.
struct PlanOf {
  const Command *command;
  int64_t scratchBytes;
};

/// The loaded libraries and their handles. Not for use from two threads at once.
class LibraryContext {
public:
  /// Loads cuBLASLt. Libraries are looked for in the folders of $ZOPT_CUDA_LIBRARY_PATH (separated by colons), where the loader looks, in CUDA's usual folders and in those of Python's packages.
  static Result<std::unique_ptr<LibraryContext>> create();
  ~LibraryContext();
  LibraryContext(const LibraryContext &) = delete;
  LibraryContext &operator=(const LibraryContext &) = delete;

  /// Loads cuDNN, at the first call; createAttention() and createConvolution() call it.
  Status loadAttentionLibrary();

  /// "cublasLt 13.1.0", and "cudnn 9.19.0" once it is loaded, for the report and the plan.
  std::string matmulLibrary() const;
  std::string attentionLibrary() const;

  /// Opens what create() and loadAttentionLibrary() will, so that they find it loaded. Needs no context; for any
  /// thread.
  static void preload();

  struct Implementation;
  Implementation &get() { return *implementation; }
  const Implementation &get() const { return *implementation; }

private:
  friend void preparePlans(LibraryContext &, const std::vector<PlanOf> &, const std::function<void()> &);
  LibraryContext();
  std::unique_ptr<Implementation> implementation;
};

/// A product ready to run. It refers to the context.
class DeviceMatmul {
public:
  virtual ~DeviceMatmul();
  /// `buffers` in the order of Command::buffers: lhs, rhs, out, bias, scratch, aux, biasGradient, addend (read only where the command has one); byte offsets applied, 0 where absent. Queues the work
  /// and returns.
  virtual Status run(CUstream stream, const CUdeviceptr *buffers) = 0;
  /// Algorithms that the library offers within the workspace (at most kMatmulCandidates), in its order of preference; behind them, where Command::algorithm is given, those that it offers without any and that
  /// are not among the first (as many again).
  virtual int64_t candidates() const = 0;
  /// The first of these two lists.
  virtual int64_t plannedCandidates() const = 0;
  /// What the chosen one uses.
  virtual int64_t workspaceBytes() const = 0;
};

constexpr int kMatmulCandidates = 16;
constexpr int kTunedCandidates = 12;

/// Uses candidate `command.algorithm` (-1: the first) of those that are deterministic and keep to a scratch buffer of `scratchBytes`.
Result<std::unique_ptr<DeviceMatmul>> createMatmul(LibraryContext &context, const Command &command, int64_t scratchBytes);

/// The addresses of a product's buffers, as DeviceMatmul::run takes them.
using MatmulPlace = std::array<CUdeviceptr, 8>;

/// What timing a product's algorithms found.
struct MatmulChoice {
  int64_t algorithm = 0;                           // for Command::algorithm
  double milliseconds = 0, firstMilliseconds = 0;  // of one run: by it, by the library's first choice
};

/// Times up to `candidates` algorithms, a third of them such as need no workspace, and chooses the fastest; of those within 1% the one that the library prefers. They run in turns, round by round, on one place
/// after the other: places that together exceed the device's cache make it useless, as it is in a step. Overwrites the outputs and waits for the stream.
Result<MatmulChoice> chooseMatmul(LibraryContext &context, const Command &command, int64_t scratchBytes, CUstream stream, const std::vector<MatmulPlace> &places, int candidates = kTunedCandidates);

/// Attention or its gradient, ready to run. It refers to the context.
class DeviceAttention {
public:
  virtual ~DeviceAttention();
  /// `buffers` in the order of Command::buffers: query, key, value, output, lse, [cotangent and the gradients of query, key and value,] mask, scratch; byte offsets applied, 0 where absent.
  virtual Status run(CUstream stream, const CUdeviceptr *buffers) = 0;
  /// What the library asks for, to compare with attentionScratchBytes().
  virtual int64_t workspaceBytes() const = 0;
};

/// Refuses, with both numbers, where the library asks for more workspace than `scratchBytes`.
Result<std::unique_ptr<DeviceAttention>> createAttention(LibraryContext &context, const Command &command, int64_t scratchBytes, const AttentionOptions &options = {});

/// A convolution or a gradient of one, ready to run. It refers to the context.
class DeviceConvolution {
public:
  virtual ~DeviceConvolution();
  /// `buffers` in the order of Command::buffers: input, weight, output, bias (never there), scratch; byte offsets applied, 0 where absent. Queues the work and returns.
  virtual Status run(CUstream stream, const CUdeviceptr *buffers) = 0;
  /// What the chosen engine uses.
  virtual int64_t workspaceBytes() const = 0;
};

Result<std::unique_ptr<DeviceConvolution>> createConvolution(LibraryContext &context, const Command &command, int64_t scratchBytes);

/// Makes cuDNN's plans of these commands side by side, in threads that call `enter` first, which makes the context
/// theirs. createAttention() and createConvolution() then find them; what fails here, those try again and tell.
void preparePlans(LibraryContext &context, const std::vector<PlanOf> &plans, const std::function<void()> &enter);

/// What the plan of a command depends on; empty where there is none.
std::string attentionPlanKey(const Command &command, const AttentionOptions &options = {});
std::string convolutionPlanKey(const Command &command, int64_t scratchBytes);

} // namespace zopt::runtime::cuda

#endif // ZOPT_RUNTIME_DEVICE_CUDA_LIBRARYCALLS_H
