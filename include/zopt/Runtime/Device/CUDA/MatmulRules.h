//===- MatmulRules.h - products that cuBLASLt takes -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which products run on CUDA without copying an operand, and how. Needs neither a GPU nor NVIDIA's headers: the compiler asks here what it must copy, the runtime how to call.
//
// The library computes D = op(A) x op(B) on column-major matrices, and a row-major matrix is the column-major one of its transpose. So a row-major out is D^T: A is rhs, B is lhs. An out with unit
// stride on its rows is D itself: A is lhs, B is rhs (`direct`). Either way an operand is transposed or not by which of its last two strides is 1.
//
// Supported
//   types      lhs and rhs both bf16 (out bf16 or f32), both f16 (out f16 or f32), both f32 (out f32, never through TF32) or both f64 (out f64). Products of the first three accumulate in fp32.
//   matrices   one of the last two strides 1 (or that axis of size 1), the other at least as large as the unit axis. Row pitches larger than the row are fine.
//   batches    any strides, zero where an operand broadcasts. Axes that continue the rows (or columns) of both out and an operand, where the other broadcasts, become rows (columns); then one axis is the
//              library's batch and calls loop over what is left.
//   bias       of out's type, one element a column, unit stride; out row-major. scale applies to the product only.
//   Gelu       the same, with aux (of out's type and orientation, its pitch a multiple of 8 elements) or without.
//   GeluGrad   aux as above, no bias; out row-major where OutColumns is asked for, which no other epilogue has.
//   LhsRows, RhsColumns: no epilogue, no bias.
//   addend     laid out as out, which it may be; no epilogue and no bias gradient. It is added in fp32, before out is rounded.
//   A bias gradient has out's type, unit stride, and no batch axis may be left. f64 has neither epilogues nor bias.
// Addresses may have any alignment, but the library is fast only where addresses and pitches are multiples of 16 bytes.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_CUDA_MATMULRULES_H
#define ZOPT_RUNTIME_DEVICE_CUDA_MATMULRULES_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <vector>

namespace zopt::runtime::cuda {

/// A column-major matrix, or a batch of them.
struct LibraryMatrix {
  DataType type = DataType::F32;
  int64_t rows = 0, columns = 0; // as stored, before op()
  int64_t pitch = 0;             // elements from a column to the next
  int64_t batchStride = 0;       // elements
};

/// What the library does beside the product, in its own terms.
enum class LibraryEpilogue { None, Bias, Gelu, GeluBias, GeluAux, GeluAuxBias, GeluGrad, GeluGradBiasGradient, BiasGradientA, BiasGradientB };

/// A command in the library's terms.
struct MatmulMapping {
  bool direct = false; // A is lhs and D is out; otherwise A is rhs and D is out^T
  bool transposeA = false, transposeB = false;
  int64_t m = 0, n = 0, k = 0; // D is m x n
  LibraryMatrix a, b, d, aux;  // aux: rows 0 where there is none
  int64_t batch = 1;
  LibraryEpilogue epilogue = LibraryEpilogue::None;
  /// A call for each index of these axes; strides in elements.
  struct Loop {
    int64_t size = 1;
    int64_t a = 0, b = 0, d = 0, aux = 0;
  };
  std::vector<Loop> loops;

  int64_t calls() const;
};

/// An input error says which rule the command breaks.
Result<MatmulMapping> mapMatmul(const Command &command);

/// Where Command::buffers has what is added to a product.
constexpr int kAddendBuffer = 7;
bool hasAddend(const Command &command);

/// Whether mapMatmul() succeeds.
bool supportsMatmul(const Command &command);

/// Workspace worth planning for a product: more does not make the library faster. Includes what aligning it may cost.
int64_t matmulScratchBytes(const Command &command);

/// The library wants its workspace so aligned; an arena gives less, so a workspace is used from its first aligned byte.
constexpr int64_t kWorkspaceAlignment = 256;

} // namespace zopt::runtime::cuda

#endif // ZOPT_RUNTIME_DEVICE_CUDA_MATMULRULES_H
