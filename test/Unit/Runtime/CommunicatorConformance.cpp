//===- CommunicatorConformance.cpp - what every communicator must do ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CommunicatorConformance.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <set>

using namespace zopt::runtime;

namespace {

#define EXPECT_SUCCESS(expression)                                                                                     \
  do {                                                                                                                 \
    Status status = (expression);                                                                                      \
    EXPECT_FALSE(status.failed()) << status.message();                                                                 \
  } while (false)

/// Element `index` of what `rank` contributes: values whose sum depends on the order of additions.
float valueOf(int rank, int64_t index) {
  uint64_t bits = uint64_t(rank * 7919 + index + 1) * 0x9e3779b97f4a7c15;
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
  bits ^= bits >> 27;
  return std::ldexp(float(int64_t(bits)), int(bits % 20) - 73);
}

std::vector<char> contribution(int rank, int64_t count, DataType type) {
  std::vector<char> data(size_t(count * sizeOf(type)));
  for (int64_t i = 0; i < count; ++i)
    storeDouble(type, data.data(), i, valueOf(rank, i));
  return data;
}

/// The sum over ranks, from left to right in fp32 (f64 for f64).
double expectedSum(int world, int64_t index, DataType type) {
  double wide = 0;
  float narrow = 0;
  for (int rank = 0; rank < world; ++rank) {
    char element[8];
    storeDouble(type, element, 0, valueOf(rank, index));
    double value = loadAsDouble(type, element, 0);
    wide = rank == 0 ? value : wide + value;
    narrow = rank == 0 ? float(value) : narrow + float(value);
  }
  return type == DataType::F64 ? wide : narrow;
}

double rounded(double value, DataType type) {
  char element[8];
  storeDouble(type, element, 0, value);
  return loadAsDouble(type, element, 0);
}

// From one element to more than any eager limit or pipe holds.
const int64_t kCounts[] = {1, 128, 5000, 100000};

TEST(Communicator, allGatherInRankOrder) {
  forEachWorld([](Communicator &communicator) {
    for (int64_t count : kCounts) {
      std::vector<char> mine = contribution(communicator.rank(), count, DataType::F32), all(mine.size() * size_t(communicator.size()));
      EXPECT_SUCCESS(communicator.startAllGather({7, "gather"}, mine.data(), all.data(), int64_t(mine.size())));
      EXPECT_SUCCESS(communicator.progress());
      EXPECT_SUCCESS(communicator.wait(7));
      for (int rank = 0; rank < communicator.size(); ++rank) {
        std::vector<char> theirs = contribution(rank, count, DataType::F32);
        EXPECT_EQ(std::memcmp(all.data() + size_t(rank) * mine.size(), theirs.data(), theirs.size()), 0) << "rank " << rank << " of " << communicator.size();
      }
    }
  });
}

TEST(Communicator, allGatherInPlace) {
  forEachWorld([](Communicator &communicator) {
    for (int64_t count : kCounts) {
      std::vector<char> mine = contribution(communicator.rank(), count, DataType::BF16), all(mine.size() * size_t(communicator.size()));
      char *part = all.data() + size_t(communicator.rank()) * mine.size();
      std::memcpy(part, mine.data(), mine.size());
      EXPECT_SUCCESS(communicator.startAllGather({1, "gather"}, part, all.data(), int64_t(mine.size())));
      EXPECT_SUCCESS(communicator.wait(1));
      for (int rank = 0; rank < communicator.size(); ++rank) {
        std::vector<char> theirs = contribution(rank, count, DataType::BF16);
        EXPECT_EQ(std::memcmp(all.data() + size_t(rank) * mine.size(), theirs.data(), theirs.size()), 0);
      }
    }
  });
}

TEST(Communicator, reduceScatterSumsInRankOrder) {
  forEachWorld([](Communicator &communicator) {
    const int world = communicator.size();
    const std::pair<DataType, DataType> types[] = {{DataType::F32, DataType::F32}, {DataType::BF16, DataType::F32}, {DataType::BF16, DataType::BF16}, {DataType::F64, DataType::F64}};
    for (auto [type, destinationType] : types)
      for (int64_t count : kCounts) {
        std::vector<char> source = contribution(communicator.rank(), count * world, type), workspace(source.size()), destination(size_t(count * sizeOf(destinationType)));
        // Not accumulating overwrites what is there, even NaN.
        std::memset(destination.data(), 0xff, destination.size());
        EXPECT_SUCCESS(communicator.startReduceScatter({3, "scatter"}, source.data(), type, destination.data(), destinationType, workspace.data(), count, false));
        EXPECT_SUCCESS(communicator.wait(3));
        for (int64_t i = 0; i < count; i += std::max<int64_t>(1, count / 997)) {
          double sum = rounded(expectedSum(world, communicator.rank() * count + i, type), destinationType);
          ASSERT_EQ(loadAsDouble(destinationType, destination.data(), i), sum) << "element " << i << " of " << count << " " << nameOf(type);
        }
        // Accumulating adds the sum to what is there.
        std::vector<char> before = destination;
        EXPECT_SUCCESS(communicator.startReduceScatter({3, "scatter"}, source.data(), type, destination.data(), destinationType, workspace.data(), count, true));
        EXPECT_SUCCESS(communicator.wait(3));
        for (int64_t i = 0; i < count; i += std::max<int64_t>(1, count / 997)) {
          double sum = expectedSum(world, communicator.rank() * count + i, type), there = loadAsDouble(destinationType, before.data(), i);
          double total = type == DataType::F64 ? there + sum : double(float(there) + float(sum));
          ASSERT_EQ(loadAsDouble(destinationType, destination.data(), i), rounded(total, destinationType));
        }
      }
  });
}

TEST(Communicator, allReduceIsReduceScatterAndAllGather) {
  forEachWorld([](Communicator &communicator) {
    const int world = communicator.size();
    for (DataType type : {DataType::F32, DataType::BF16, DataType::F64})
      for (int64_t count : kCounts) {
        std::vector<char> buffer = contribution(communicator.rank(), count * world, type), workspace(buffer.size());
        EXPECT_SUCCESS(communicator.startAllReduce({5, "reduce"}, buffer.data(), type, workspace.data(), count));
        EXPECT_SUCCESS(communicator.wait(5));
        for (int64_t i = 0; i < count * world; i += std::max<int64_t>(1, count / 97))
          ASSERT_EQ(loadAsDouble(type, buffer.data(), i), rounded(expectedSum(world, i, type), type));
      }
  });
}

TEST(Communicator, manyInFlightCompleteInAnyOrder) {
  forEachWorld([](Communicator &communicator) {
    const int world = communicator.size();
    const int64_t count = 3000, collectives = 12;
    std::vector<std::vector<char>> sources, destinations, workspaces;
    for (int64_t id = 0; id < collectives; ++id) {
      sources.push_back(contribution(communicator.rank() + int(id), count * world, DataType::F32));
      destinations.emplace_back(sources.back().size());
      workspaces.emplace_back(sources.back().size());
    }
    for (int repeat = 0; repeat < 3; ++repeat) {
      std::vector<std::vector<char>> buffers = sources;
      for (int64_t id = 0; id < collectives; ++id) {
        Collective collective{id, "collective"};
        if (id % 3 == 0)
          EXPECT_SUCCESS(communicator.startAllGather(collective, sources[id].data(), destinations[id].data(), count * 4));
        else if (id % 3 == 1)
          EXPECT_SUCCESS(communicator.startReduceScatter(collective, sources[id].data(), DataType::F32, destinations[id].data(), DataType::F32, workspaces[id].data(), count, false));
        else
          EXPECT_SUCCESS(communicator.startAllReduce(collective, buffers[id].data(), DataType::F32, workspaces[id].data(), count));
        EXPECT_SUCCESS(communicator.progress());
      }
      for (int64_t i = 0; i < collectives; ++i) {
        int64_t id = (i * 5 + repeat) % collectives; // the same order on every rank, another than that of the starts
        EXPECT_SUCCESS(communicator.wait(id));
        for (int64_t element : {int64_t(0), count - 1}) {
          if (id % 3 == 0) {
            for (int rank = 0; rank < world; ++rank)
              ASSERT_EQ(loadAsDouble(DataType::F32, destinations[id].data(), rank * count + element), valueOf(rank + int(id), element));
            continue;
          }
          int64_t at = id % 3 == 1 ? communicator.rank() * count + element : element;
          float sum = 0;
          for (int rank = 0; rank < world; ++rank)
            sum = rank == 0 ? valueOf(int(id), at) : sum + valueOf(rank + int(id), at);
          const std::vector<char> &result = id % 3 == 1 ? destinations[id] : buffers[id];
          ASSERT_EQ(float(loadAsDouble(DataType::F32, result.data(), element)), sum);
        }
      }
    }
  });
}

TEST(Communicator, scalarsSumInF64) {
  forEachWorld([](Communicator &communicator) {
    float values[3] = {valueOf(communicator.rank(), 0), 1, communicator.rank() == 0 ? 16777216.0f : 1.0f}, sums[3];
    EXPECT_SUCCESS(communicator.allReduceScalars("scalars", values, sums, 3, DataType::F32));
    double sum = 0;
    for (int rank = 0; rank < communicator.size(); ++rank)
      sum += valueOf(rank, 0);
    EXPECT_EQ(sums[0], float(sum));
    EXPECT_EQ(sums[1], float(communicator.size()));
    // fp32 would lose every one of these ones.
    EXPECT_EQ(sums[2], float(16777216.0 + communicator.size() - 1));
  });
}

TEST(Communicator, exactSumsMergeOverRanks) {
  forEachWorld([](Communicator &communicator) {
    ExactSum mine, expected;
    for (int rank = 0; rank < communicator.size(); ++rank)
      for (int64_t i = 0; i < 200; ++i) {
        double value = double(valueOf(rank, i)) * valueOf(rank, i);
        expected.add(value);
        if (rank == communicator.rank())
          mine.add(value);
      }
    auto words = mine.toWords();
    EXPECT_SUCCESS(communicator.allReduceIntegers("norm", words.data(), int64_t(words.size())));
    EXPECT_EQ(ExactSum::fromWords(words).round(), expected.round());
  });
}

TEST(Communicator, maximumBarrierAndGather) {
  forEachWorld([](Communicator &communicator) {
    double values[2] = {double(communicator.rank()), -double(communicator.rank())};
    EXPECT_SUCCESS(communicator.allReduceMaximum("maximum", values, 2));
    EXPECT_EQ(values[0], communicator.size() - 1);
    EXPECT_EQ(values[1], 0);
    EXPECT_SUCCESS(communicator.barrier("barrier"));
    std::vector<char> mine = contribution(communicator.rank(), 70000, DataType::F32), all(mine.size() * size_t(communicator.size()));
    EXPECT_SUCCESS(communicator.gatherNow("gather", mine.data(), all.data(), int64_t(mine.size())));
    if (communicator.rank() == 0)
      for (int rank = 0; rank < communicator.size(); ++rank) {
        std::vector<char> theirs = contribution(rank, 70000, DataType::F32);
        EXPECT_EQ(std::memcmp(all.data() + size_t(rank) * mine.size(), theirs.data(), theirs.size()), 0);
      }
  });
}

TEST(Communicator, broadcastText) {
  forEachWorld([](Communicator &communicator) {
    std::string text = communicator.rank() == 0 ? std::string(100000, 'x') + "end" : "other";
    EXPECT_SUCCESS(communicator.broadcast("text", text));
    EXPECT_EQ(text, std::string(100000, 'x') + "end");
    text = communicator.rank() == 0 ? "" : "other";
    EXPECT_SUCCESS(communicator.broadcast("text", text));
    EXPECT_EQ(text, "");
  });
}

TEST(Communicator, agreementTellsTheLowestFailure) {
  forEachWorld([](Communicator &communicator) {
    EXPECT_SUCCESS(communicator.agree("check", success()));
    int world = communicator.size(), culprit = world / 2;
    Status mine = communicator.rank() >= culprit ? inputError("value ", communicator.rank(), " is wrong") : success();
    Status agreed = communicator.agree("check", mine);
    ASSERT_TRUE(agreed.failed());
    EXPECT_EQ(agreed.kind(), ErrorKind::Input);
    EXPECT_EQ(agreed.message(), concat("rank ", culprit, ": value ", culprit, " is wrong"));
  });
}

TEST(Communicator, waitForNothingFails) {
  forEachWorld([](Communicator &communicator) {
    Status status = communicator.wait(99);
    ASSERT_TRUE(status.failed());
    EXPECT_NE(status.message().find("99"), std::string::npos);
  });
}

} // namespace
