//===- DatasetTest.cpp - what a run is fed with ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/Dataset.h"
#include "DatasetHelpers.h"
#include "TemporaryFolder.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include "zopt/Runtime/Data/SampleOrder.h"
#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <numeric>
#include <set>

using namespace zopt::runtime;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct TestTensor {
  std::string name;
  DataType type;
  std::vector<int64_t> shape;
  Values values;
};

std::string writeTensors(const std::string &path, const std::vector<TestTensor> &tensors) {
  std::vector<SafetensorsTensor> declared;
  for (const TestTensor &tensor : tensors)
    declared.push_back({tensor.name, tensor.type, tensor.shape, 0, 0});
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, declared);
  EXPECT_FALSE(writer.failed());
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::vector<char> bytes(tensors[i].values.size() * size_t(sizeOf(tensors[i].type)));
    for (size_t k = 0; k < tensors[i].values.size(); ++k)
      storeDouble(tensors[i].type, bytes.data(), int64_t(k), tensors[i].values[k]);
    EXPECT_TRUE(writer->write(i, 0, bytes.data(), int64_t(bytes.size())).succeeded());
  }
  EXPECT_TRUE(writer->commit().succeeded());
  return path;
}

void append(Values &values, const Values &more) { values.insert(values.end(), more.begin(), more.end()); }

Values iota(int64_t count, double first = 0) {
  Values values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// Sample i of this program is the number i.
Program counting(int64_t world, int64_t micro, int64_t accumulation) {
  return makeProgram(world, micro, accumulation, {makeInputOf("x", InputKind::Input, DataType::F32, {micro, 1})});
}

TEST(Dataset, MicroStepARankRTakesItsRowsOfTheGlobalBatch) {
  TemporaryFolder folder;
  Program program = counting(/*world=*/3, /*micro=*/2, /*accumulation=*/2);
  auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", DataType::F32, {40, 1}, iota(40)}})}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 40);
  EXPECT_EQ(dataset->globalBatch(), 12);
  EXPECT_EQ(dataset->stepsPerEpoch(), 3);
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(0, 1));
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 2)[0], ElementsAre(4, 5));
  EXPECT_THAT(fillAll(*dataset, program, 0, 1, 0)[0], ElementsAre(6, 7));
  EXPECT_THAT(fillAll(*dataset, program, 1, 1, 2)[0], ElementsAre(22, 23));
  // Samples 36 to 39 are dropped: the second epoch begins with the first sample.
  EXPECT_THAT(fillAll(*dataset, program, 3, 0, 1)[0], ElementsAre(2, 3));
  EXPECT_EQ(dataset->epochOf(2), 0);
  EXPECT_EQ(dataset->epochOf(3), 1);
  EXPECT_THAT(dataset->notes(), ElementsAre(HasSubstr("an epoch is 3 steps of 12 samples; the 4 samples left of 40, less than one global batch, are dropped")));
  EXPECT_EQ(dataset->totalSteps(0, 0), 3);
  EXPECT_EQ(dataset->totalSteps(50, 0), 50);
  EXPECT_EQ(dataset->totalSteps(0, 4), 12);
  EXPECT_EQ(dataset->totalSteps(50, 4), 12);
}

/// What a step sees does not depend on how it is spread over ranks and micro-steps.
TEST(Dataset, TheGlobalBatchDoesNotDependOnRanks) {
  TemporaryFolder folder;
  std::string path = writeTensors(folder.path("x.safetensors"), {{"x", DataType::F32, {50, 1}, iota(50)}});
  for (bool shuffle : {false, true}) {
    DatasetOptions options = optionsOf({path});
    options.shuffle = shuffle;
    options.seed = 7;
    for (int64_t step : {0, 3, 9}) {
      std::vector<Values> batches;
      for (auto [world, micro, accumulation] : {std::array<int64_t, 3>{1, 12, 1}, {1, 1, 12}, {4, 3, 1}, {3, 2, 2}, {12, 1, 1}}) {
        Program program = counting(world, micro, accumulation);
        auto dataset = openOrFail(program, options);
        ASSERT_TRUE(dataset);
        Values batch;
        for (int64_t a = 0; a < accumulation; ++a)
          for (int64_t r = 0; r < world; ++r)
            append(batch, fillAll(*dataset, program, step, a, r)[0]);
        batches.push_back(batch);
      }
      for (const Values &batch : batches)
        EXPECT_EQ(batch, batches[0]) << "step " << step << " shuffle " << shuffle;
    }
  }
}

TEST(Dataset, ShufflesEachEpochAnew) {
  TemporaryFolder folder;
  DatasetOptions options = optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", DataType::F32, {64, 1}, iota(64)}})});
  options.shuffle = true;
  Program program = counting(1, 8, 1);
  std::vector<Values> epochs;
  for (uint64_t seed : {0, 1}) {
    options.seed = seed;
    auto dataset = openOrFail(program, options);
    ASSERT_TRUE(dataset);
    for (int64_t epoch : {0, 1}) {
      Values seen;
      for (int64_t step = 0; step < 8; ++step)
        append(seen, fillAll(*dataset, program, epoch * 8 + step, 0, 0)[0]);
      epochs.push_back(seen);
      std::sort(seen.begin(), seen.end());
      EXPECT_EQ(seen, iota(64)) << "every sample comes once an epoch";
    }
  }
  for (size_t i = 0; i < epochs.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      EXPECT_NE(epochs[i], epochs[j]);
  EXPECT_NE(epochs[0], iota(64));
}

TEST(SampleOrder, IsAPermutationOfEverySize) {
  for (int64_t samples : {1, 2, 3, 4, 5, 16, 17, 100, 1023, 1024, 1025}) {
    SampleOrder order(samples, true, 3);
    std::set<int64_t> seen;
    for (int64_t i = 0; i < samples; ++i) {
      int64_t sample = order.at(2, i);
      EXPECT_GE(sample, 0);
      EXPECT_LT(sample, samples);
      seen.insert(sample);
    }
    EXPECT_EQ(int64_t(seen.size()), samples);
  }
}

/// Each sample is as likely at each place: chi-squared over 5 * 5 cells and 4000 epochs, 16 degrees of freedom, whose 1 - 1e-6 quantile is 58.
TEST(SampleOrder, IsUniform) {
  constexpr int64_t n = 5, epochs = 4000;
  int64_t counts[n][n] = {};
  SampleOrder order(n, true, 0);
  for (int64_t epoch = 0; epoch < epochs; ++epoch)
    for (int64_t i = 0; i < n; ++i)
      ++counts[i][order.at(epoch, i)];
  double chiSquared = 0;
  for (auto &row : counts)
    for (int64_t count : row)
      chiSquared += (double(count) - epochs / n) * (double(count) - epochs / n) / (epochs / n);
  EXPECT_LT(chiSquared, 58);
}

TEST(Dataset, ReadsBytesAsALanguageModelDoes) {
  TemporaryFolder folder;
  Program program = languageModel(1, 2, 1, 4);
  // 14 bytes: samples [0, 5), [4, 9), [8, 13); the last byte begins no sample.
  auto dataset = openOrFail(program, optionsOf({folder.write("a.txt", "abcdefghijklmn")}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 3);
  std::vector<Values> batch = fillAll(*dataset, program, 0, 0, 0);
  EXPECT_THAT(batch[0], ElementsAre('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'));
  EXPECT_THAT(batch[1], ElementsAre('b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'));
  EXPECT_TRUE(dataset->checkFirstBatch().succeeded());
  // A text that repeats one byte is no reason to think that labels are not shifted: they are made.
  auto same = openOrFail(program, optionsOf({folder.write("same.txt", std::string(20, 'a'))}));
  ASSERT_TRUE(same);
  EXPECT_TRUE(same->checkFirstBatch().succeeded());
}

TEST(Dataset, SamplesDoNotCrossFiles) {
  TemporaryFolder folder;
  Program program = languageModel(1, 3, 1, 2);
  auto dataset = openOrFail(program, optionsOf({folder.write("a.txt", "abcdef"), folder.write("b.txt", "tuvwx")}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 4);
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre('a', 'b', 'c', 'd', 't', 'u'));
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[1], ElementsAre('b', 'c', 'd', 'e', 'u', 'v'));
}

TEST(Dataset, BytesForAnotherVocabularyMustBeAskedFor) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 50257);
  DatasetOptions options = optionsOf({folder.write("a.txt", "abcdefgh")});
  EXPECT_THAT(openError(program, options), HasSubstr("has a vocabulary of 50257, not 256: give --data-format=bytes if that is meant"));
  options.format = DataFormat::Bytes;
  EXPECT_EQ(openError(program, options), "opened");
  EXPECT_THAT(openError(languageModel(1, 1, 1, 8), options), HasSubstr("a.txt: has 8 tokens, too few for one sample of 9"));
}

std::string words16(std::vector<uint16_t> tokens) { return {reinterpret_cast<const char *>(tokens.data()), tokens.size() * 2}; }
std::string words32(std::vector<uint32_t> tokens) { return {reinterpret_cast<const char *>(tokens.data()), tokens.size() * 4}; }
std::string tokenHeader(uint32_t magic, uint32_t version, uint32_t count) {
  std::vector<uint32_t> header(256);
  header[0] = magic, header[1] = version, header[2] = count;
  return words32(header);
}

TEST(Dataset, ReadsTokenFiles) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 2, 60000);
  struct Case {
    const char *what;
    std::string content;
    TokenType type;
  };
  const Case cases[] = {{"nanoGPT", words16({1, 50256, 3, 4, 59999}), TokenType::Auto},
                        {"nanoGPT, 32 bits", words32({1, 50256, 3, 4, 59999}), TokenType::UInt32},
                        {"llm.c, GPT-2", tokenHeader(20240520, 1, 5) + words16({1, 50256, 3, 4, 59999}), TokenType::Auto},
                        {"llm.c, Llama 3", tokenHeader(20240801, 7, 5) + words32({1, 50256, 3, 4, 59999}), TokenType::Auto}};
  for (const Case &test : cases) {
    DatasetOptions options = optionsOf({folder.write("a.bin", test.content)});
    options.tokenType = test.type;
    auto dataset = openOrFail(program, options);
    ASSERT_TRUE(dataset) << test.what;
    EXPECT_EQ(dataset->samples(), 2) << test.what;
    EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(1, 50256)) << test.what;
    EXPECT_THAT(fillAll(*dataset, program, 1, 0, 0)[1], ElementsAre(4, 59999)) << test.what;
  }
}

TEST(Dataset, RefusesBadTokenFiles) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 2, 60000);
  auto error = [&](const std::string &content, TokenType type = TokenType::Auto, int64_t vocabulary = 60000) {
    DatasetOptions options = optionsOf({folder.write("a.bin", content)});
    options.tokenType = type;
    return openError(languageModel(1, 1, 1, 2, vocabulary), options);
  };
  EXPECT_THAT(error(words16({1, 2, 3}) + "x"), HasSubstr("has 7 bytes of tokens, which is no multiple of 2"));
  EXPECT_THAT(error(words16({1, 2, 3, 4}), TokenType::Auto, 128256), HasSubstr("give --token-dtype"));
  EXPECT_THAT(error(tokenHeader(20240520, 1, 6) + words16({1, 2, 3, 4})), HasSubstr("has a header of 6 tokens, but 8 bytes follow, not 12"));
  EXPECT_THAT(error(tokenHeader(20240520, 2, 4) + words16({1, 2, 3, 4})), HasSubstr("but version 2, not 1"));
  EXPECT_THAT(error(tokenHeader(20240520, 1, 4) + words16({1, 2, 3, 4}), TokenType::UInt32), HasSubstr("whose tokens are uint16"));
  // Values are told unsigned.
  DatasetOptions options = optionsOf({folder.write("a.bin", words32({1, 4294967295u, 3, 4}))});
  options.tokenType = TokenType::UInt32;
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_THAT(dataset->checkFirstBatch().message(), HasSubstr("a.bin: input_ids: sample 0, position 1: value 4294967295 is not in [0, 59999]"));
}

TEST(Dataset, ConvertsTypes) {
  TemporaryFolder folder;
  for (DataType type : {DataType::I64, DataType::I32, DataType::I16, DataType::U16, DataType::I8, DataType::U8})
    for (DataType wanted : {DataType::I64, DataType::I32, DataType::U8}) {
      Program program = makeProgram(1, 2, 1, {makeInputOf("x", InputKind::Input, wanted, {2, 3}, 128)});
      auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", type, {2, 3}, {0, 1, 2, 3, 4, 127}}})}));
      ASSERT_TRUE(dataset);
      EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(0, 1, 2, 3, 4, 127));
    }
  for (DataType type : {DataType::F64, DataType::F32, DataType::F16, DataType::BF16, DataType::U8, DataType::I64, DataType::I8})
    for (DataType wanted : {DataType::F64, DataType::F32, DataType::BF16}) {
      Program program = makeProgram(1, 2, 1, {makeInputOf("x", InputKind::Input, wanted, {2, 2})});
      auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", type, {2, 2}, {0, 1, 2, 3}}})}));
      ASSERT_TRUE(dataset);
      EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(0, 1, 2, 3));
    }
  Program program = makeProgram(1, 2, 1, {makeInputOf("x", InputKind::Input, DataType::I64, {2, 2}, 10)});
  EXPECT_THAT(openError(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", DataType::F32, {2, 2}, {0, 1, 2, 3}}})})),
              HasSubstr("x: has type F32, but the plan wants integers (i64)"));
}

/// A run of samples longer than the conversion's chunk arrives whole.
TEST(Dataset, ConvertsLongRows) {
  TemporaryFolder folder;
  Program program = makeProgram(1, 2, 1, {makeInputOf("x", InputKind::Input, DataType::F32, {2, 10000}), makeInputOf("i", InputKind::Input, DataType::I64, {2, 3000}, 20000)});
  auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", DataType::F64, {4, 10000}, iota(40000)}, {"i", DataType::I32, {4, 3000}, iota(12000)}})}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(fillAll(*dataset, program, 1, 0, 0)[0], iota(20000, 20000));
  EXPECT_EQ(fillAll(*dataset, program, 1, 0, 0)[1], iota(6000, 6000));
}

TEST(Dataset, ChecksValuesBeforeTheyAreUsed) {
  TemporaryFolder folder;
  auto check = [&](Values tokens, Values labels) {
    Program program = languageModel(1, 2, 1, 2, 10);
    auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"input_ids", DataType::I64, {4, 2}, tokens}, {"labels", DataType::I32, {4, 2}, labels}})}));
    Status status;
    fillAll(*dataset, program, 1, 0, 0, &status);
    return status.message();
  };
  const Values good = {0, 1, 2, 3, 4, 5, 6, 9};
  EXPECT_EQ(check(good, {0, 1, 2, 3, -100, 9, -100, 0}), "success");
  EXPECT_EQ(check({0, 1, 2, 3, 4, 10, 6, 7}, good), folder.path("x.safetensors") + ": input_ids: sample 2, position 1: value 10 is not in [0, 9]");
  EXPECT_THAT(check({0, 1, 2, 3, 4, 5, -100, 7}, good), HasSubstr("input_ids: sample 3, position 0: value -100 is not in [0, 9]"));
  EXPECT_THAT(check(good, {0, 1, 2, 3, 4, 5, 6, -1}), HasSubstr("labels: sample 3, position 1: value -1 is not in [0, 9] nor the ignored index -100"));
  // Samples that are not used are not looked at.
  EXPECT_EQ(check({99, 99, 99, 99, 4, 5, 6, 7}, good), "success");

  Program classes = makeProgram(1, 1, 1, {makeInputOf("m", InputKind::Input, DataType::I16, {1, 2, 3}), makeInputOf("labels", InputKind::Label, DataType::I64, {1}, 10)});
  auto dataset = openOrFail(classes, optionsOf({writeTensors(folder.path("y.safetensors"), {{"m", DataType::I64, {2, 2, 3}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40000, 0}}, {"labels", DataType::I64, {2}, {10, 3}}})}));
  Status status;
  fillAll(*dataset, classes, 0, 0, 0, &status);
  EXPECT_THAT(status.message(), HasSubstr("labels: sample 0: value 10 is not in [0, 9]"));
  fillAll(*dataset, classes, 1, 0, 0, &status);
  EXPECT_THAT(status.message(), HasSubstr("m: sample 1, position [1, 1]: value 40000 is not in [-32768, 32767]"));
}

TEST(Dataset, MakesUsualInputsAndNoOthers) {
  TemporaryFolder folder;
  Program program = languageModel(1, 2, 1, 3);
  program.inputs.push_back(makeInputOf("attention_mask", InputKind::Input, DataType::F32, {2, 3}));
  program.inputs.push_back(makeInputOf("position_ids", InputKind::Input, DataType::I64, {1, 3}, 3));
  program.inputs.push_back(makeInputOf("token_type_ids", InputKind::Input, DataType::I32, {2, 3}, 2));
  auto dataset = openOrFail(program, optionsOf({folder.write("a.txt", "abcdefghij")}));
  ASSERT_TRUE(dataset);
  std::vector<Values> batch = fillAll(*dataset, program, 0, 0, 0);
  EXPECT_THAT(batch[2], ElementsAre(1, 1, 1, 1, 1, 1));
  EXPECT_THAT(batch[3], ElementsAre(0, 1, 2));
  EXPECT_THAT(batch[4], ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_THAT(dataset->notes(), testing::Contains(HasSubstr("has no attention_mask, which is made: 1 everywhere")));

  Program longer = program;
  longer.inputs[3].limit = 2;
  EXPECT_THAT(openError(longer, optionsOf({folder.path("a.txt")})), HasSubstr("position_ids is not in the data, and values up to 2 would have to be made"));

  // What the data has is taken from it.
  std::string path = writeTensors(folder.path("x.safetensors"), {{"input_ids", DataType::I64, {2, 3}, iota(6)}, {"labels", DataType::I64, {2, 3}, iota(6, 1)}, {"token_type_ids", DataType::I64, {2, 3}, {0, 0, 1, 1, 0, 1}}, {"extra", DataType::F32, {1}, {0}}});
  dataset = openOrFail(program, optionsOf({path}));
  ASSERT_TRUE(dataset);
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[4], ElementsAre(0, 0, 1, 1, 0, 1));
  EXPECT_THAT(dataset->notes(), testing::Contains(HasSubstr("no input for extra, which is ignored")));

  program.inputs.push_back(makeInputOf("pixel_values", InputKind::Input, DataType::F32, {2, 1, 8, 8}));
  EXPECT_THAT(openError(program, optionsOf({path})),
              HasSubstr("has no tensor for the plan's input pixel_values [samples, 1, 8, 8]; it has input_ids [2, 3] I64, labels [2, 3] I64, token_type_ids [2, 3] I64, extra [1] F32"));
  EXPECT_THAT(openError(program, optionsOf({folder.path("a.txt")})), HasSubstr("holds tokens, but the plan's input pixel_values is [2, 1, 8, 8] of f32"));
}

TEST(Dataset, RefusesDataThatDoesNotFit) {
  TemporaryFolder folder;
  Program program = languageModel(2, 2, 1, 3);
  auto error = [&](std::vector<TestTensor> tensors) { return openError(program, optionsOf({writeTensors(folder.path("x.safetensors"), tensors)})); };
  EXPECT_THAT(error({{"input_ids", DataType::I64, {4, 4}, iota(16)}, {"labels", DataType::I64, {4, 3}, iota(12)}}), HasSubstr("input_ids: has shape [4, 4], but the plan wants [samples, 3]"));
  EXPECT_THAT(error({{"input_ids", DataType::I64, {12}, iota(12)}, {"labels", DataType::I64, {4, 3}, iota(12)}}), HasSubstr("input_ids: has shape [12], but the plan wants [samples, 3]"));
  EXPECT_THAT(error({{"input_ids", DataType::I64, {4, 3}, iota(12)}, {"labels", DataType::I64, {5, 3}, iota(15)}}), HasSubstr("labels: has 5 samples, but input_ids has 4"));
  EXPECT_THAT(error({{"input_ids", DataType::I64, {3, 3}, iota(9)}, {"labels", DataType::I64, {3, 3}, iota(9)}}), HasSubstr("has 3 samples, fewer than a global batch of 4 (micro-batch 2, accumulation 1, ranks 2)"));
  EXPECT_THAT(error({{"input_ids", DataType::I64, {0, 3}, {}}, {"labels", DataType::I64, {0, 3}, {}}}), HasSubstr("has no samples"));
  EXPECT_THAT(openError(program, optionsOf({folder.write("a.csv", "1,2")})), HasSubstr("give --data-format"));
  EXPECT_THAT(openError(program, optionsOf({folder.path("none.txt")})), HasSubstr("No such file"));
  EXPECT_THAT(openError(program, optionsOf({folder.write("a.txt", std::string(99, 'a')), folder.write("a.bin", std::string(98, 'a'))})), HasSubstr("a.bin: is of another format than"));
  DatasetOptions options = optionsOf({folder.path("a.txt")});
  options.labelShift = LabelShift::Shift;
  EXPECT_THAT(openError(program, options), HasSubstr("are made shifted"));
}

TEST(Dataset, StopsAtUnshiftedLabels) {
  TemporaryFolder folder;
  Program program = languageModel(2, 5, 2, 10, 1000); // a first batch of 200 labels
  Values tokens = iota(200), labels = tokens;
  auto check = [&](LabelShift shift) {
    DatasetOptions options = optionsOf({writeTensors(folder.path("x.safetensors"), {{"input_ids", DataType::I64, {20, 10}, tokens}, {"labels", DataType::I64, {20, 10}, labels}})});
    options.labelShift = shift;
    auto dataset = openOrFail(program, options);
    return dataset ? dataset->checkFirstBatch().message() : "";
  };
  EXPECT_THAT(check(LabelShift::Check), HasSubstr("labels: 200 of the first batch's 200 counted labels equal input_ids at the same position"));
  EXPECT_EQ(check(LabelShift::Keep), "success");
  EXPECT_EQ(check(LabelShift::Shift), "success");
  // 95% exactly is too many; one less is not. Ignored labels do not count.
  for (int i = 0; i < 10; ++i)
    labels[size_t(i) * 20] = 999;
  EXPECT_THAT(check(LabelShift::Check), HasSubstr("190 of the first batch's 200"));
  labels[1] = 999;
  EXPECT_EQ(check(LabelShift::Check), "success");
  labels[1] = -100;
  labels[0] = -100;
  EXPECT_THAT(check(LabelShift::Check), HasSubstr("189 of the first batch's 198"));
}

TEST(Dataset, ShiftsLabels) {
  TemporaryFolder folder;
  Program program = languageModel(1, 2, 1, 3, 100);
  DatasetOptions options = optionsOf({writeTensors(folder.path("x.safetensors"), {{"input_ids", DataType::I64, {2, 3}, iota(6)}, {"labels", DataType::I64, {2, 3}, iota(6)}})});
  options.labelShift = LabelShift::Shift;
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[1], ElementsAre(1, 2, -100, 4, 5, -100));
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(0, 1, 2, 3, 4, 5));
  program.inputs[1].shape = {2};
  std::string path = writeTensors(folder.path("y.safetensors"), {{"input_ids", DataType::I64, {2, 3}, iota(6)}, {"labels", DataType::I64, {2}, iota(2)}});
  options.files = {path};
  EXPECT_THAT(openError(program, options), HasSubstr("--shift-labels cannot shift the label labels of shape [2]"));
}

TEST(Dataset, AForwardRunSeesEverySample) {
  TemporaryFolder folder;
  Program program = counting(2, 2, 1);
  program.mode = "forward";
  auto dataset = openOrFail(program, optionsOf({writeTensors(folder.path("x.safetensors"), {{"x", DataType::F32, {5, 1}, iota(5)}})}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->stepsPerEpoch(), 2);
  EXPECT_EQ(dataset->rowsIn(0, 0, 1), 2);
  EXPECT_EQ(dataset->rowsIn(1, 0, 0), 1);
  EXPECT_EQ(dataset->rowsIn(1, 0, 1), 0);
  EXPECT_THAT(fillAll(*dataset, program, 1, 0, 0)[0], ElementsAre(4, 4));
  EXPECT_TRUE(dataset->notes().empty());
}

TEST(Dataset, ReadsTheBatchesOfTheModels) {
  Program program = languageModel(2, 4, 1, 64);
  auto dataset = openOrFail(program, optionsOf({ZOPT_TEST_MODELS "/gpt2-tiny/batch.safetensors"}));
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->stepsPerEpoch(), 20);
  ASSERT_TRUE(dataset->checkFirstBatch().succeeded());
  std::vector<Values> batch = fillAll(*dataset, program, 19, 0, 1);
  for (size_t k = 0; k + 1 < 64; ++k)
    EXPECT_EQ(batch[1][k], batch[0][k + 1]) << "labels of these files are shifted";
}

TEST(SyntheticDataset, IsInRangeAndIndependentOfRanks) {
  auto inputs = [](int64_t micro) {
    return std::vector<Input>{makeInputOf("input_ids", InputKind::Input, DataType::I64, {micro, 50}, 7), makeInputOf("x", InputKind::Input, DataType::F32, {micro, 500}),
                              makeInputOf("attention_mask", InputKind::Input, DataType::I64, {micro, 50}), makeInputOf("labels", InputKind::Label, DataType::I64, {micro}, 3),
                              makeInputOf("target", InputKind::Label, DataType::F32, {micro, 4})};
  };
  std::vector<std::vector<Values>> runs;
  for (auto [world, micro, accumulation] : {std::array<int64_t, 3>{1, 8, 1}, {4, 2, 1}, {2, 2, 2}}) {
    Program program = makeProgram(world, micro, accumulation, inputs(micro));
    auto dataset = openOrFail(program, {});
    ASSERT_TRUE(dataset);
    EXPECT_EQ(dataset->totalSteps(0, 0), 100);
    EXPECT_EQ(dataset->epochOf(1000), 0);
    std::vector<Values> whole(program.inputs.size());
    for (int64_t step : {0, 1, 2})
      for (int64_t a = 0; a < accumulation; ++a)
        for (int64_t r = 0; r < world; ++r) {
          std::vector<Values> part = fillAll(*dataset, program, step, a, r);
          for (size_t i = 0; i < part.size(); ++i)
            whole[i].insert(whole[i].end(), part[i].begin(), part[i].end());
        }
    runs.push_back(whole);
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_EQ(runs[0], runs[2]);
  EXPECT_EQ(std::set<double>(runs[0][0].begin(), runs[0][0].end()), (std::set<double>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(std::set<double>(runs[0][2].begin(), runs[0][2].end()), (std::set<double>{1}));
  for (double label : runs[0][3])
    EXPECT_TRUE(label >= 0 && label < 3);
  for (double target : runs[0][4])
    EXPECT_TRUE(target > 0 && target < 1);
  // 12000 normal values: mean and variance within 5 standard errors.
  double sum = 0, squares = 0;
  for (double value : runs[0][1])
    sum += value, squares += value * value;
  double n = double(runs[0][1].size());
  EXPECT_LT(std::abs(sum / n), 5 / std::sqrt(n));
  EXPECT_LT(std::abs(squares / n - 1), 5 * std::sqrt(2 / n));
}

} // namespace
