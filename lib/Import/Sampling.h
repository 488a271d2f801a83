//===- Sampling.h - samples of images at run-time places ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A sample is a sum over neighbours: rows of channels, gathered by an index that is computed, times weights. So the
// input's gradient is the gathers', and that of places is the weights': floor has none.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_SAMPLING_H
#define ZOPT_LIB_IMPORT_SAMPLING_H

#include "Emit.h"
#include "zopt/Dialect/Train/Marks.h"

namespace zopt::importer {

/// While it lives, ops that are built stay in fp32 under --bf16 and --fp16: places, which a half rounds to a quarter of
/// an element where there are 64 of them.
class FullPrecision : public mlir::OpBuilder::Listener {
public:
  explicit FullPrecision(Emit &emit) : builder(emit.b), before(emit.b.getListener()) { builder.setListener(this); }
  ~FullPrecision() override { builder.setListener(before); }
  void notifyOperationInserted(mlir::Operation *op, mlir::OpBuilder::InsertPoint) override {
    op->setAttr(train::kFullPrecision, builder.getUnitAttr());
  }

private:
  mlir::OpBuilder &builder;
  mlir::OpBuilder::Listener *before;
};

/// Neighbours along one axis: which element (in range), how much of it (null: all), and whether it lies inside (null:
/// always).
struct Neighbour {
  mlir::Value place, weight, inside;
};

/// What a sampler says about an axis.
struct SampledAxis {
  int64_t size;
  double low, high; ///< the borders at which coordinates are reflected
};

/// Of coordinates x, in elements, of any shape. Modes are nearest, linear and cubic; paddings zeros, border and
/// reflection. A NaN is taken for the first element's place.
llvm::SmallVector<Neighbour> neighbours(Emit &emit, mlir::Value x, const SampledAxis &axis, llvm::StringRef mode,
                                        llvm::StringRef padding);

/// The sum over all combinations of neighbours, one list an axis, each [N, M]. `rows` [N * S, C] are the elements of
/// images of `sizes`; gives [N, M, C]. `first`: the row where each one's image begins, [N, 1] or [N, M].
mlir::Value sampleRows(Emit &emit, mlir::Value rows, mlir::Value first,
                       llvm::ArrayRef<llvm::SmallVector<Neighbour>> axes, llvm::ArrayRef<int64_t> sizes);

/// Images [N, C, sizes...] as rows of channels.
mlir::Value channelRows(Emit &emit, mlir::Value images);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_SAMPLING_H
