//===- Convolution.h - convolutions by oneDNN -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Command::Kind::Convolution on CPU, for the compiler, which plans the library's scratch, and the executor. Only implementations that are generated for the shape are taken (oneDNN's "jit" and "brg"): its
// gemm-based ones allocate buffers of their own inside a step, its reference ones are a thousand times slower.
//
// Supported: all tensors f32, or all bf16 (a weight gradient may be f32, a bias too); one to three axes of space; groups, dilations and pads as the library has them, which is nearly all. Input and output
// lie channels last without gaps; the weight is dense in any order. Products accumulate in fp32 and round once. The weight is brought into the order of elements that the implementation wants, and a weight gradient
// out of it, inside the command: that copy lies in the scratch too.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CONVOLUTION_H
#define ZOPT_RUNTIME_DEVICE_CONVOLUTION_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <memory>

namespace zopt::runtime {

/// Scratch of `command` with a team of `threads`, in bytes; -1 where this machine's library has no planned implementation. Depends on shapes, strides and types only, not on buffers.
int64_t convolutionScratchBytes(const Command &command, int threads);

/// A convolution, ready to run. Used by one thread at a time; it starts a team of its own.
class ConvolutionPrimitive {
public:
  virtual ~ConvolutionPrimitive();
  /// An input error where the library has no planned implementation.
  static Result<std::unique_ptr<ConvolutionPrimitive>> create(const Command &command, int threads);
  /// `bias` is null where there is none, `scratch` where scratchBytes() is 0.
  virtual Status run(void *input, void *weight, void *output, const void *bias, void *scratch) = 0;
  virtual int64_t scratchBytes() const = 0;
  /// The library's name of it.
  virtual const char *implementation() const = 0;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DEVICE_CONVOLUTION_H
