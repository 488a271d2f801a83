//===- TrainingKernelsTest.cpp - dropout and batch normalization -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <array>
#include <cmath>
#include <gtest/gtest.h>

using namespace zopt::test;

namespace {

using Words = std::array<uint32_t, 4>;

Words philox(Words counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
    uint64_t product0 = uint64_t(0xD2511F53) * counter[0], product1 = uint64_t(0xCD9E8D57) * counter[2];
    counter = {uint32_t(product1 >> 32) ^ counter[1] ^ key0, uint32_t(product1),
               uint32_t(product0 >> 32) ^ counter[3] ^ key1, uint32_t(product0)};
  }
  return counter;
}

TEST(Dropout, PhiloxGivesRandom123sKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::string text(const std::vector<int64_t> &shape, Type type) {
  std::string result = "tensor<";
  for (int64_t size : shape)
    result += std::to_string(size) + "x";
  return result + nameOf(type) + ">";
}

constexpr uint32_t kSeed = 0x1234, kId = 0x89abcdef, kStep = 0x4321, kSample = 0x80000001;

/// An element's words, by `layout`: its own, and that of the other element of its pair; and its place's lowest bit.
struct Drawn {
  uint32_t own, other;
  bool odd;
};
Drawn draw(int64_t p, const std::array<int64_t, 3> &layout) {
  uint32_t element = uint32_t(p / (layout[1] * layout[2]) * layout[2] + p % layout[2]),
           sample = uint32_t(p / layout[2] % layout[1]);
  Words words = philox({element / 4, kSample + sample, kStep, 0}, kSeed, kId);
  return {words[element % 4], words[element % 4 ^ 1], element % 2 != 0};
}

bool isKept(int64_t p, const std::array<int64_t, 3> &layout, double ratio) {
  return draw(p, layout).own >= uint32_t(std::nearbyint(std::ldexp(ratio, 32)));
}

double uniform(uint32_t word) { return std::ldexp(double(word >> 8), -24); }

/// Box and Muller's normal numbers.
double normal(const Drawn &drawn) {
  const double u = uniform(drawn.odd ? drawn.other : drawn.own), v = uniform(drawn.odd ? drawn.own : drawn.other);
  return std::sqrt(-2 * std::log(1 - u)) * (drawn.odd ? std::sin(2 * M_PI * v) : std::cos(2 * M_PI * v));
}

/// A dropout, its mask, and both in a fused kernel with ops around them.
void checkDropout(Type type, std::vector<int64_t> shape, std::array<int64_t, 3> layout,
                  std::vector<int64_t> strides = {}) {
  constexpr double kRatio = 0.3;
  SCOPED_TRACE(text(shape, type) + " in [" + std::to_string(layout[0]) + ", " + std::to_string(layout[1]) + ", " +
               std::to_string(layout[2]) + "]");
  Tensor x = random(type, shape), key = full(Type::I64, {}, double(kSeed) * 4294967296.0 + kId),
         counter = full(Type::I64, {}, double(kStep) * 4294967296.0 + kSample);
  x.strides = std::move(strides);
  std::string tensor = text(shape, type);
  std::string attributes = " {id = 7 : i64, ratio = 0.3 : f64, layout = array<i64: " + std::to_string(layout[0]) +
                           ", " + std::to_string(layout[1]) + ", " + std::to_string(layout[2]) + ">} : " + tensor;
  std::string random = " random(%1, %2 : tensor<i64>, tensor<i64>)" + attributes;
  std::vector<double> kept, expected, fused;
  const float scale = float(1 / (1 - kRatio));
  for (size_t p = 0; p < x.values.size(); ++p) {
    kept.push_back(isKept(p, layout, kRatio));
    double factor = kept.back() != 0 ? type == Type::F64 ? 1 / (1 - kRatio) : scale : 0;
    expected.push_back(roundTo(type, type == Type::F64 ? x.values[p] * factor : float(x.values[p]) * float(factor)));
    fused.push_back(-expected.back());
  }
  auto dropped = run("%r = train.dropout %0" + random, {x, key, counter}, {Tensor{type, shape, {}, {}}});
  expectNear(dropped[0], expected, 0, 0);
  auto mask = run("%r = train.dropout_mask %0" + random + " -> " + text(shape, Type::I1), {x, key, counter},
                  {Tensor{Type::I1, shape, {}, {}}});
  expectNear(mask[0], kept, 0, 0);
  std::vector<double> uniforms, normals;
  for (size_t p = 0; p < x.values.size(); ++p) {
    uniforms.push_back(uniform(draw(p, layout).own));
    normals.push_back(normal(draw(p, layout)));
  }
  std::string numbers = random.substr(0, random.find("ratio")) + random.substr(random.find("layout")) + " -> " + text(shape, Type::F32);
  auto drawn = run("%r = train.uniform %0" + numbers, {x, key, counter}, {Tensor{Type::F32, shape, {}, {}}});
  expectNear(drawn[0], uniforms, 0, 0);
  drawn = run("%r = train.normal %0" + numbers, {x, key, counter}, {Tensor{Type::F32, shape, {}, {}}});
  expectNear(drawn[0], normals, 2e-6, 2e-6);
  std::string body = "^bb0(%x: " + tensor + ", %k: tensor<i64>, %c: tensor<i64>):\n %a = train.neg %x : " + tensor +
                     "\n %b = train.dropout %a random(%k, %c : tensor<i64>, tensor<i64>)" + attributes +
                     "\n %d = train.dropout %b random(%k, %c : tensor<i64>, tensor<i64>) {id = 8 : i64, ratio = 0.0 : "
                     "f64, layout = array<i64: 1, 1, " +
                     std::to_string(x.values.size()) + ">} : " + tensor + "\n train.yield %d : " + tensor;
  auto together =
      run("%r = train.fused(%0, %1, %2) { " + body + " } : (" + tensor + ", tensor<i64>, tensor<i64>) -> " + tensor,
          {x, key, counter}, {Tensor{type, shape, {}, {}}});
  expectNear(together[0], fused, 0, 0);
}

TEST(Dropout, MasksArePhiloxsWhereverSamplesLie) {
  for (Type type : {Type::F32, Type::BF16, Type::F64}) {
    checkDropout(type, {4, 96}, {1, 4, 96});       // [batch, width]
    checkDropout(type, {3, 331}, {1, 3, 331});     // a ragged row
    checkDropout(type, {24, 20}, {1, 4, 120});     // [batch * length, width]
    checkDropout(type, {24, 20}, {6, 4, 20});      // [length * batch, width]
    checkDropout(type, {5, 3, 64}, {5, 3, 64});    // [length, batch, width]
    checkDropout(type, {6, 20, 4}, {120, 4, 1});   // [length, width, batch]
    checkDropout(type, {2, 3, 5, 7}, {1, 2, 105}); // [batch, heads, length, length]
    checkDropout(type, {7, 130}, {1, 1, 910});     // one sample, or what all share
  }
  checkDropout(Type::F32, {2, 5000}, {1, 2, 5000}); // rows in chunks
  checkDropout(Type::F32, {1, 1}, {1, 1, 1});
  checkDropout(Type::F32, {8, 40}, {1, 8, 40}, {1, 8}); // a transposed view
}

TEST(Dropout, WhatIsNoNumberStaysNone) {
  Tensor x = full(Type::F32, {64}, std::nan("")), zero = full(Type::I64, {}, 0);
  auto y = run("%r = train.dropout %0 random(%1, %2 : tensor<i64>, tensor<i64>) {id = 0 : i64, ratio = 0.5 : f64, "
               "layout = array<i64: 1, 1, 64>} : tensor<64xf32>",
               {x, zero, zero}, {Tensor{Type::F32, {64}, {}, {}}});
  for (double value : y[0].values)
    EXPECT_TRUE(std::isnan(value));
}

//===----------------------------------------------------------------------===//
// Batch normalization
//===----------------------------------------------------------------------===//

constexpr double kEpsilon = 1e-3;

void checkBatchNorm(Type type, std::vector<int64_t> shape, double offset = 0) {
  SCOPED_TRACE(text(shape, type));
  const int64_t samples = shape[0], channels = shape[1];
  int64_t positions = 1;
  for (size_t axis = 2; axis < shape.size(); ++axis)
    positions *= shape[axis];
  const double count = double(samples * positions);
  Type compute = type == Type::F64 ? Type::F64 : Type::F32;
  Tensor x = random(type, shape, offset - 1, offset + 1), dy = random(type, shape, -1, 1, 2);
  std::vector<double> mean(channels), variance(channels), sum(channels), product(channels);
  auto channelOf = [&](size_t p) { return int64_t(p) / positions % channels; };
  for (size_t p = 0; p < x.values.size(); ++p)
    mean[channelOf(p)] += x.values[p] / count;
  for (size_t p = 0; p < x.values.size(); ++p)
    variance[channelOf(p)] += std::pow(x.values[p] - mean[channelOf(p)], 2) / count;
  auto normal = [&](size_t p) {
    return (x.values[p] - mean[channelOf(p)]) / std::sqrt(variance[channelOf(p)] + kEpsilon);
  };
  for (size_t p = 0; p < x.values.size(); ++p) {
    sum[channelOf(p)] += dy.values[p];
    product[channelOf(p)] += dy.values[p] * normal(p);
  }
  const double relative = type == Type::F64 ? 1e-12 : 2e-5,
               small = (type == Type::F64 ? 1e-13 : 2e-6) * (1 + std::abs(offset));
  std::string tensor = text(shape, type), vector = text({channels}, compute);
  auto statistics = run("%r:2 = train.batch_statistics %0 : " + tensor + " -> " + vector, {x},
                        {Tensor{compute, {channels}, {}, {}}, Tensor{compute, {channels}, {}, {}}});
  expectNear(statistics[0], mean, relative, small);
  expectNear(statistics[1], variance, relative, small);

  std::vector<int64_t> spread(shape.size() - 1, 1);
  spread[0] = channels;
  std::string wide = text(spread, compute);
  Tensor m{compute, spread, mean, {}}, v{compute, spread, variance, {}};
  auto sums =
      run("%r:2 = train.batch_norm_sums %0 mean %1 variance %2 cotangent %3 {epsilon = 1.0e-3 : f64} : " + tensor +
              ", " + wide + " -> " + vector,
          {x, m, v, dy}, {Tensor{compute, {channels}, {}, {}}, Tensor{compute, {channels}, {}, {}}});
  expectNear(sums[0], sum, relative, small * std::sqrt(count));
  expectNear(sums[1], product, relative, 10 * small * std::sqrt(count));

  // A rectifier's mask, by a scale and a shift that are exact in every type: positive from the channel's own bound on.
  Tensor scale = full(compute, {channels}, 2), shift = full(compute, {channels}, -2 * offset);
  for (int64_t c = 0; c < channels; c += 2)
    scale.values[c] = -1, shift.values[c] = offset;
  std::fill(sum.begin(), sum.end(), 0), std::fill(product.begin(), product.end(), 0);
  for (size_t p = 0; p < x.values.size(); ++p) {
    const int64_t c = channelOf(p);
    if (roundTo(type, x.values[p] * scale.values[c] + shift.values[c]) <= 0)
      continue;
    sum[c] += dy.values[p];
    product[c] += dy.values[p] * normal(p);
  }
  auto masked =
      run("%r:2 = train.batch_norm_sums %0 mean %1 variance %2 cotangent %3 relu %4, %5 : " + vector + ", " + vector +
              " {epsilon = 1.0e-3 : f64} : " + tensor + ", " + wide + " -> " + vector,
          {x, m, v, dy, scale, shift}, {Tensor{compute, {channels}, {}, {}}, Tensor{compute, {channels}, {}, {}}});
  expectNear(masked[0], sum, relative, small * std::sqrt(count));
  expectNear(masked[1], product, relative, 10 * small * std::sqrt(count));
}

TEST(BatchNorm, StatisticsAndSums) {
  for (Type type : {Type::F32, Type::BF16, Type::F64}) {
    checkBatchNorm(type, {5, 3}); // no positions
    checkBatchNorm(type, {4, 3, 7});
    checkBatchNorm(type, {3, 5, 8, 9});
    checkBatchNorm(type, {2, 2, 1, 3, 2});
  }
  checkBatchNorm(Type::F32, {70, 33});
  checkBatchNorm(Type::F32, {2, 3, 100, 95});   // long rows
  checkBatchNorm(Type::F32, {6, 2, 80, 90});    // on a GPU in chunks, the last of them shorter
  checkBatchNorm(Type::F32, {8, 4, 6, 6}, 100); // a mean far from 0: squares of x alone would lose the variance
}

} // namespace
