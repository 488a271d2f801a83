//===- ExactSum.cpp - an exact sum of doubles -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/ExactSum.h"
#include <cmath>
#include <cstring>
#include <limits>

namespace zopt::runtime {

namespace {
constexpr int64_t kLimbMask = 0xffffffff;
constexpr int64_t kAdditionsBetweenCarries = int64_t(1) << 29;
} // namespace

void ExactSum::add(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  int exponent = int((bits >> 52) & 0x7ff);
  uint64_t mantissa = bits & ((uint64_t(1) << 52) - 1);
  bool negative = bits >> 63;
  if (exponent == 0x7ff) {
    ++(mantissa ? nans : negative ? negativeInfinities : positiveInfinities);
    return;
  }
  if (exponent == 0) {
    if (mantissa == 0)
      return;
    exponent = 1; // subnormal: the same unit as the smallest normal
  } else {
    mantissa |= uint64_t(1) << 52;
  }
  // The value is mantissa * 2^(exponent - 1075), that is mantissa << (exponent - 1) units of 2^-1074: up to 84 bits from the limb that holds bit 0.
  int position = exponent - 1, limb = position / 32, shift = position % 32;
  unsigned __int128 wide = static_cast<unsigned __int128>(mantissa) << shift;
  int64_t low = int64_t(uint64_t(wide) & kLimbMask), middle = int64_t(uint64_t(wide >> 32) & kLimbMask), high = int64_t(uint64_t(wide >> 64));
  if (negative) {
    low = -low;
    middle = -middle;
    high = -high;
  }
  limbs[limb] += low;
  limbs[limb + 1] += middle;
  limbs[limb + 2] += high;
  if (++additions >= kAdditionsBetweenCarries)
    propagateCarries();
}

void ExactSum::add(const double *values, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    add(values[i]);
}

void ExactSum::add(const ExactSum &other) {
  ExactSum right = other;
  right.propagateCarries();
  propagateCarries();
  for (int i = 0; i < kLimbs; ++i)
    limbs[i] += right.limbs[i];
  additions = 1;
  nans += right.nans;
  positiveInfinities += right.positiveInfinities;
  negativeInfinities += right.negativeInfinities;
}

void ExactSum::propagateCarries() {
  // Limbs become digits in [0, 2^32), but for the last one, which keeps the sign.
  int64_t carry = 0;
  for (int i = 0; i < kLimbs - 1; ++i) {
    int64_t value = limbs[i] + carry;
    limbs[i] = value & kLimbMask;
    carry = value >> 32;
  }
  limbs[kLimbs - 1] += carry;
  additions = 0;
}

std::array<int64_t, ExactSum::kWords> ExactSum::toWords() {
  propagateCarries();
  std::array<int64_t, kWords> words;
  for (int i = 0; i < kLimbs; ++i)
    words[i] = limbs[i];
  words[kLimbs] = nans;
  words[kLimbs + 1] = positiveInfinities;
  words[kLimbs + 2] = negativeInfinities;
  return words;
}

ExactSum ExactSum::fromWords(const std::array<int64_t, kWords> &words) {
  ExactSum sum;
  for (int i = 0; i < kLimbs; ++i)
    sum.limbs[i] = words[i];
  sum.nans = words[kLimbs];
  sum.positiveInfinities = words[kLimbs + 1];
  sum.negativeInfinities = words[kLimbs + 2];
  sum.propagateCarries();
  return sum;
}

double ExactSum::round() const {
  if (nans || (positiveInfinities && negativeInfinities))
    return std::numeric_limits<double>::quiet_NaN();
  if (positiveInfinities)
    return std::numeric_limits<double>::infinity();
  if (negativeInfinities)
    return -std::numeric_limits<double>::infinity();

  ExactSum digits = *this;
  digits.propagateCarries();
  bool negative = digits.limbs[kLimbs - 1] < 0;
  if (negative) {
    for (int64_t &limb : digits.limbs)
      limb = -limb;
    digits.propagateCarries();
  }
  int top = kLimbs - 1;
  while (top >= 0 && digits.limbs[top] == 0)
    --top;
  if (top < 0)
    return 0;

  // The leading 64 bits or more, with everything below them as one sticky bit.
  unsigned __int128 window = static_cast<unsigned __int128>(digits.limbs[top]);
  int lowest = top;
  for (int i = 0; i < 2 && lowest > 0; ++i)
    window = (window << 32) | static_cast<unsigned __int128>(digits.limbs[--lowest]);
  bool sticky = false;
  for (int i = 0; i < lowest; ++i)
    sticky |= digits.limbs[i] != 0;

  int bits = 0;
  for (unsigned __int128 rest = window; rest; rest >>= 1)
    ++bits;
  int unit = 32 * lowest; // the window counts units of 2^(unit - 1074)
  // Subnormals have the unit 2^-1074, which is bit 0: there nothing is below the window and nothing is rounded.
  int drop = bits - 53;
  if (drop > 0) {
    unsigned __int128 half = static_cast<unsigned __int128>(1) << (drop - 1);
    unsigned __int128 remainder = window & ((half << 1) - 1);
    window >>= drop;
    if (remainder > half || (remainder == half && (sticky || (window & 1))))
      ++window;
    unit += drop;
  }
  double magnitude = std::ldexp(double(uint64_t(window)), unit - 1074);
  return negative ? -magnitude : magnitude;
}

} // namespace zopt::runtime
