//===- Random.h - random numbers of elementwise kernels --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/Kernels. Numbers are those of train.dropout: a function of key, counter and an element's
// place in its sample, whatever kernel asks for them.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_RANDOM_H
#define ZOPT_LIB_CONVERSION_KERNELS_RANDOM_H

#include "KernelBuilder.h"

namespace zopt::kernels {

/// Whether an op draws random numbers; its operands are then (input, key, counter) and it has a layout.
bool isRandom(mlir::Operation *op);

/// Cuts axes of an index space, and what walks over it, so that samples are an axis of their own. The cut axes are
/// those of `layout`, [outer, batch, inner], which divides axes of `shape`.
void splitSamples(llvm::SmallVectorImpl<int64_t> &shape, llvm::MutableArrayRef<Access> accesses,
                  llvm::ArrayRef<int64_t> layout);

/// How the coordinates of a space that splitSamples cut give an element's place in its sample, and the sample: linear
/// functions of them, as accesses without memory.
std::pair<Access, Access> placesOf(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> layout,
                                   mlir::MLIRContext *context);

/// Where the lanes of a vector are.
struct RandomPlaces {
  mlir::Value element, sample;             // i32, of the first lane; sample null: the first one's
  int64_t elementStep = 1, sampleStep = 0; // from lane to lane
  bool aligned = false;                    // the first lane's element is a multiple of 4 and the lanes are neighbours
};
RandomPlaces emitPlaces(KernelBuilder &kernel, const Access &element, const Access &sample,
                        mlir::ValueRange coordinates);

/// The lanes of a train.dropout, train.dropout_mask or train.uniform. Operands as `emitElementwise` gets them.
mlir::Value emitRandomOp(KernelBuilder &kernel, mlir::Operation *op, llvm::ArrayRef<mlir::Value> operands,
                         const RandomPlaces &places);

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_RANDOM_H
