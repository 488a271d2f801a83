//===- StatesTest.cpp - first and last values of states -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/States.h"
#include "TinyProgram.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/InitialValues.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include "zopt/Runtime/Launch/WeightsFile.h"
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <optional>
#include <thread>

using namespace zopt::runtime;

namespace {

#define ASSERT_SUCCESS(expression)                                                                                     \
  do {                                                                                                                 \
    Status status = (expression);                                                                                      \
    ASSERT_FALSE(status.failed()) << status.message();                                                                 \
  } while (false)

class States : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "states-XXXXXX";
    folder = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void onEveryRank(const Program &program, const std::function<void(Executor &)> &body) {
    auto communicators = makeLocalWorld(int(program.worldSize));
    std::vector<std::thread> ranks;
    for (auto &communicator : communicators)
      ranks.emplace_back([&] {
        Result<std::unique_ptr<Executor>> executor = Executor::create(program, tinyKernels(), *communicator, {});
        ASSERT_FALSE(executor.failed()) << executor.getStatus().message();
        body(**executor);
      });
    for (std::thread &rank : ranks)
      rank.join();
  }

  /// With `bytesAhead` the numbers are made ahead, and all of them are used.
  std::vector<float> collect(const Program &program, const InitializationOptions &given, const std::string &name,
                             int64_t bytesAhead = 0) {
    std::vector<float> values;
    onEveryRank(program, [&](Executor &executor) {
      InitializationOptions options = given;
      const State &first = program.states[0];
      const int rank = executor.getCommunicator().rank();
      std::optional<InitialNumbers> ahead;
      if (bytesAhead > 0) {
        options.ahead = &ahead.emplace(program, rank, 2, bytesAhead, options);
        EXPECT_EQ(ahead->take(first, 1, 4), nullptr); // not what comes first
      }
      ASSERT_SUCCESS(initializeStates(executor, options));
      if (bytesAhead > 0 && program.worldSize == 1) {
        EXPECT_EQ(ahead->take(first, 0, elementCount(first.shape)), nullptr);
        EXPECT_NE(InitialNumbers(program, rank, 1, bytesAhead, options).take(first, 0, elementCount(first.shape)),
                  nullptr);
      }
      for (const State &state : program.states)
        if (state.name == name)
          ASSERT_SUCCESS(collectState(executor, state, StateValue::Current, 1, [&](const void *data, int64_t count) {
            values.insert(values.end(), static_cast<const float *>(data), static_cast<const float *>(data) + count);
            return success();
          }));
    });
    return values;
  }

  std::string folder;
};

/// The tiny Program with its parameters in a weight file: `a` as f32, `b` as bf16.
Program withFile(int world, int stage, const std::string &folder) {
  Program program = makeTinyProgram(world, stage);
  program.weightFiles = {{"weights.bin", 16 + 130 * 4 + 10 * 2, ""}};
  std::vector<char> bytes(16 + 130 * 4 + 10 * 2);
  for (int i = 0; i < 130; ++i)
    storeDouble(DataType::F32, bytes.data() + 16, i, 0.1 * i);
  for (int i = 0; i < 10; ++i)
    storeDouble(DataType::BF16, bytes.data() + 16 + 520, i, i - 5);
  std::ofstream(folder + "/weights.bin").write(bytes.data(), std::streamsize(bytes.size()));
  for (State &state : program.states) {
    if (state.name == "a")
      state.init = {0, 16, 520, DataType::F32, 0};
    if (state.name == "b")
      state.init = {0, 536, 20, DataType::BF16, 0};
  }
  return program;
}

TEST_F(States, comeFromWeightFilesSliceBySlice) {
  InitializationOptions options;
  options.planDirectory = folder;
  for (int world : {1, 2, 3})
    for (int stage : {0, 3}) {
      Program program = withFile(world, stage, folder);
      ASSERT_SUCCESS(checkWeightFiles(program, options));
      std::vector<float> a = collect(program, options, "a"), b = collect(program, options, "b");
      ASSERT_EQ(a.size(), 130u);
      ASSERT_EQ(b.size(), 10u);
      for (int i = 0; i < 130; ++i)
        EXPECT_EQ(a[i], float(0.1 * i));
      for (int i = 0; i < 10; ++i)
        EXPECT_EQ(b[i], float(i - 5));
    }
}

TEST_F(States, numbersMadeAheadAreTheSame) {
  InitializationOptions options;
  options.kind = Initialization::Normal;
  for (int world : {1, 2, 3})
    for (int stage : {0, 3})
      for (const char *name : {"a", "b"}) {
        Program program = makeTinyProgram(world, stage);
        const std::vector<float> values = collect(program, options, name);
        EXPECT_FALSE(values.empty());
        EXPECT_EQ(collect(program, options, name, 1), values);
        EXPECT_EQ(collect(program, options, name, 1 << 20), values);
      }
}

TEST_F(States, mastersKeepWhatComputeTypesRound) {
  Program program = withFile(1, 0, folder);
  // A bf16 bucket with an fp32 master.
  Buffer master = program.buffers[program.buckets[0].parameters];
  master.name = "master";
  master.offset = program.arenas[0].bytes;
  program.arenas[0].bytes += (master.bytes + 63) / 64 * 64;
  program.buffers.push_back(master);
  program.buckets[0].master = BufferId(program.buffers.size() - 1);
  program.buckets[0].computeType = DataType::BF16;
  InitializationOptions options;
  options.planDirectory = folder;
  onEveryRank(program, [&](Executor &executor) {
    ASSERT_SUCCESS(initializeStates(executor, options));
    std::vector<float> masters(256);
    std::vector<uint16_t> parameters(256);
    ASSERT_SUCCESS(executor.download(program.buckets[0].master, 0, masters.data(), 256 * 4));
    ASSERT_SUCCESS(executor.download(program.buckets[0].parameters, 0, parameters.data(), 256 * 2));
    for (int i = 0; i < 130; ++i) {
      EXPECT_EQ(masters[i], float(0.1 * i));
      EXPECT_EQ(parameters[i], floatToBfloat16(float(0.1 * i)));
    }
    // Padding is zero.
    for (int i = 130; i < 256; ++i)
      EXPECT_EQ(masters[i], 0);
  });
}

TEST_F(States, wrongWeightFilesAreRefused) {
  InitializationOptions options;
  options.planDirectory = folder;
  Program program = withFile(1, 0, folder);
  auto expect = [&](const std::string &part) {
    Status status = checkWeightFiles(program, options);
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.kind(), ErrorKind::Input);
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("weights.bin"), std::string::npos);
  };
  std::filesystem::resize_file(folder + "/weights.bin", 100);
  expect("has 100 bytes, but the plan was made for a file of 556");
  std::filesystem::remove(folder + "/weights.bin");
  expect("No such file");
  // Not needed where the values come from elsewhere.
  options.kind = Initialization::Gpt2;
  EXPECT_FALSE(checkWeightFiles(program, options).failed());
}

TEST_F(States, randomValuesDoNotDependOnTheWorld) {
  InitializationOptions options;
  ASSERT_SUCCESS(parseInitialization("normal:0.5", options));
  options.seed = 7;
  std::vector<float> one = collect(makeTinyProgram(1, 0), options, "a");
  EXPECT_EQ(collect(makeTinyProgram(3, 3), options, "a"), one);
  EXPECT_EQ(collect(makeTinyProgram(2, 1), options, "a"), one);
  options.seed = 8;
  EXPECT_NE(collect(makeTinyProgram(1, 0), options, "a"), one);
  EXPECT_NE(collect(makeTinyProgram(1, 0), options, "b")[0], one[0]);
}

TEST(NormalNumbers, haveTheirMoments) {
  double sum = 0, squares = 0, fourth = 0;
  const int count = 200000;
  for (int i = 0; i < count; ++i) {
    double value = normalNumber(3, "weight", i, 2);
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  EXPECT_NEAR(sum / count, 0, 0.02);
  EXPECT_NEAR(squares / count, 4, 0.06);
  EXPECT_NEAR(fourth / count, 48, 2); // 3 sigma^4
}

TEST(Initialization, isParsed) {
  InitializationOptions options;
  EXPECT_FALSE(parseInitialization("gpt2", options).failed());
  EXPECT_EQ(options.kind, Initialization::Gpt2);
  for (const char *wrong : {"", "normal", "normal:", "normal:x", "normal:-1", "normal:0", "normal:nan", "normal:1x", "xavier"}) {
    Status status = parseInitialization(wrong, options);
    ASSERT_TRUE(status.failed()) << wrong;
    EXPECT_EQ(status.kind(), ErrorKind::Usage);
  }
}

TEST_F(States, weightsFilesRoundTrip) {
  InitializationOptions options;
  options.planDirectory = folder;
  for (bool sourceNames : {false, true}) {
    Program program = withFile(3, 3, folder);
    std::string path = folder + "/out.safetensors";
    onEveryRank(program, [&](Executor &executor) {
      ASSERT_SUCCESS(initializeStates(executor, options));
      ASSERT_SUCCESS(writeStates(executor, path, sourceNames));
    });
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    ASSERT_FALSE(file.failed()) << file.getStatus().message();
    const SafetensorsTensor *b = file->find(sourceNames ? "module.b" : "b");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->shape, sourceNames ? std::vector<int64_t>({5, 2}) : std::vector<int64_t>({2, 5}));
    float second;
    ASSERT_SUCCESS(file->read(*b, 4, &second, 4));
    EXPECT_EQ(second, sourceNames ? 0.0f : -4.0f); // element (1, 0) of ours is (0, 1) of the source's

    Result<std::shared_ptr<WeightsFile>> weights = WeightsFile::open(path, program, sourceNames);
    ASSERT_FALSE(weights.failed()) << weights.getStatus().message();
    StateSource source = (*weights)->source();
    InitializationOptions fromFile;
    fromFile.weights = &source;
    Program other = makeTinyProgram(2, 1);
    std::vector<float> values = collect(other, fromFile, "b");
    for (int i = 0; i < 10; ++i)
      EXPECT_EQ(values[i], float(i - 5));
  }
}

TEST_F(States, weightsFilesThatDoNotFitAreRefused) {
  Program program = withFile(1, 0, folder);
  std::string path = folder + "/short.safetensors";
  {
    std::vector<SafetensorsTensor> tensors(1);
    tensors[0].name = "a";
    tensors[0].shape = {129};
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, tensors);
    std::vector<float> values(129);
    ASSERT_SUCCESS(writer->write(0, 0, values.data(), 129 * 4));
    ASSERT_SUCCESS(writer->commit());
    tensors[0].shape = {130};
    tensors[0].type = DataType::I32;
    Result<SafetensorsWriter> integers = SafetensorsWriter::create(folder + "/integers.safetensors", tensors);
    std::vector<int32_t> numbers(130);
    ASSERT_SUCCESS(integers->write(0, 0, numbers.data(), 130 * 4));
    ASSERT_SUCCESS(integers->commit());
  }
  Result<std::shared_ptr<WeightsFile>> ofIntegers = WeightsFile::open(folder + "/integers.safetensors", program, false);
  ASSERT_TRUE(ofIntegers.failed());
  EXPECT_NE(ofIntegers.getStatus().message().find("tensor 'a' is i32, but the plan's is f32"), std::string::npos) << ofIntegers.getStatus().message();
  Result<std::shared_ptr<WeightsFile>> weights = WeightsFile::open(path, program, false);
  ASSERT_TRUE(weights.failed());
  // Both problems at once.
  EXPECT_NE(weights.getStatus().message().find("'a' has shape [129], but the plan's is [130]"), std::string::npos) << weights.getStatus().message();
  EXPECT_NE(weights.getStatus().message().find("has no tensor 'b'"), std::string::npos);
}

TEST_F(States, fullDisksLeaveNoFile) {
  Program program = makeTinyProgram(2, 3);
  std::string path = folder + "/missing/out.safetensors";
  onEveryRank(program, [&](Executor &executor) {
    ASSERT_SUCCESS(initializeStates(executor, {}));
    // Rank 0's failure is told to all.
    Status status = writeStates(executor, path, false);
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.kind(), ErrorKind::Runtime);
    EXPECT_EQ(status.getError().rank, 0);
  });
}

} // namespace
