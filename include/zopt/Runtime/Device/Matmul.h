//===- Matmul.h - matrix products by oneDNN ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Command::Kind::Matmul on CPU. Shared by the compiler, which plans the library's scratch, and the executor, which runs the product. Only oneDNN's brgemm implementations are
// taken: they keep to the scratch that they announce, while its gemm-based ones allocate packing buffers of their own inside a step and its reference ones are a thousand times slower.
//
// Supported: lhs and rhs both f32 (out f32) or both bf16 (out bf16 or f32), 2 to 6 dimensions, batch sizes of 1 broadcast; operands whose strides are a permutation of a dense tensor's
// (matrices transposed or not, heads between rows and columns); out with a unit stride on its columns, or, without bias, on its rows. Products accumulate in fp32 and round once.
// A view into a wider tensor (a row stride larger than the row) is not supported: copy it first.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_MATMUL_H
#define ZOPT_RUNTIME_DEVICE_MATMUL_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <memory>

namespace zopt::runtime {

/// Whether this machine's library runs `command` in planned memory. Depends on shapes, strides and types only, not on buffers. A false one wants operands copied to dense tensors.
bool matmulSupports(const Command &command);

/// Bytes of scratch that `command` needs with `threads` threads on this machine, or -1 where matmulSupports is false. Results are remembered, so asking again is cheap. Thread-safe.
int64_t matmulScratchBytes(const Command &command, int threads);

/// The library and its version, "onednn 2.6.3", for Program::libraries.
std::string matmulLibrary();

/// A product ready to run: all code generation is done when it is made.
class MatmulPrimitive {
public:
  /// Made on the thread that will run it, whose team has `threads` threads.
  static Result<std::unique_ptr<MatmulPrimitive>> create(const Command &command, int threads);
  virtual ~MatmulPrimitive();

  /// `bias` and `scratch` may be null where the command has none.
  virtual Status run(const void *lhs, const void *rhs, void *out, const void *bias, void *scratch) = 0;
  virtual int64_t scratchBytes() const = 0;
  virtual const char *implementation() const = 0;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DEVICE_MATMUL_H
