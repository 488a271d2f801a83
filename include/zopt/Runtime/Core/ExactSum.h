//===- ExactSum.h - an exact sum of doubles ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A superaccumulator: the sum of any doubles, exact, so that neither the order of the additions nor their split over threads and ranks changes it; rounded once, when it is read.
// Norms use it: the same gradient gives the same bits at every ZeRO stage.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_EXACTSUM_H
#define ZOPT_RUNTIME_CORE_EXACTSUM_H

#include <array>
#include <cstdint>

namespace zopt::runtime {

/// A fixed-point number of 72 limbs: limb i counts units of 2^(32 i - 1074), so that the whole range of finite doubles fits with more than 200 bits to spare. Limbs are signed and
/// take 2^30 additions before carries must be propagated, which add() sees to.
class ExactSum {
public:
  static constexpr int kLimbs = 72;
  /// Limbs and three counts (NaN, +inf, -inf): what ranks add up, element by element, as integers.
  static constexpr int kWords = kLimbs + 3;

  void add(double value);
  void add(const double *values, int64_t count);
  void add(const ExactSum &other);

  /// The words of a normalized sum, each below 2^32 in magnitude: those of up to 2^30 sums may be added as integers.
  std::array<int64_t, kWords> toWords();
  static ExactSum fromWords(const std::array<int64_t, kWords> &words);

  /// Rounded to nearest even. NaN where a NaN or infinities of both signs were added; +-inf for infinities of one sign or a sum out of range.
  double round() const;

private:
  void propagateCarries();

  std::array<int64_t, kLimbs> limbs{};
  int64_t nans = 0, positiveInfinities = 0, negativeInfinities = 0;
  int64_t additions = 0; // since carries were last propagated
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_EXACTSUM_H
