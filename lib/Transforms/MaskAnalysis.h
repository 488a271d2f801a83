//===- MaskAnalysis.h - what an attention mask shows -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Masks come as index arithmetic: comparisons of iotas, selections of 0 and a large negative number, conjunctions, small literals. Those that depend on column - row alone have
// two values: one in a band of diagonals, another one outside.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_MASKANALYSIS_H
#define ZOPT_LIB_TRANSFORMS_MASKANALYSIS_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include <cstdint>
#include <limits>
#include <optional>

namespace zopt {

/// Diagonals of the last two axes: low <= column - row <= high. Empty where low > high.
struct Band {
  static constexpr int64_t infinite = std::numeric_limits<int64_t>::max() / 4;
  int64_t low = -infinite, high = infinite;

  Band intersect(Band other) const { return {std::max(low, other.low), std::min(high, other.high)}; }
  /// Whether the band has every element of a matrix.
  bool covers(int64_t rows, int64_t columns) const { return low <= -(rows - 1) && high >= columns - 1; }
  /// Whether the band is column <= row + (columns - rows), and every row has an element of it.
  bool isCausal(int64_t rows, int64_t columns) const { return low <= -(rows - 1) && high == columns - rows && columns >= rows; }
};

/// A matrix (the same along all other axes) with one value in a band and another one outside. Booleans are 1 and 0.
struct TwoValued {
  Band band;
  double inside = 0.0, outside = 0.0;
  bool isSplat() const { return inside == outside; }
};

/// Remembers what it has seen, for masks are made once and used in every layer.
class MaskAnalysis {
public:
  /// Nothing where the value is not known to be two-valued; if it is not the same everywhere, the value's last two axes are rows and columns.
  std::optional<TwoValued> analyze(mlir::Value value);

private:
  std::optional<TwoValued> compute(mlir::Value value);
  llvm::DenseMap<mlir::Value, std::optional<TwoValued>> known;
};

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_MASKANALYSIS_H
