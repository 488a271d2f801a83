//===- PrefetcherTest.cpp - micro-batches read ahead ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/Prefetcher.h"
#include "DatasetHelpers.h"
#include "TemporaryFolder.h"

using namespace zopt::runtime;

namespace {

class PrefetcherTest : public ::testing::Test {
protected:
  void open(const std::string &text, int64_t vocabulary = 256) {
    program = languageModel(2, 3, 2, 5, vocabulary);
    DatasetOptions options;
    options.files = {folder.write("text.txt", text)};
    options.format = DataFormat::Bytes;
    options.shuffle = true;
    options.seed = 3;
    dataset = openOrFail(program, options);
    ASSERT_TRUE(dataset);
  }
  static std::string letters(size_t count) {
    std::string text;
    for (size_t i = 0; i < count; ++i)
      text += char('a' + i * i % 26);
    return text;
  }
  /// What `take` writes, and what Dataset::fill writes.
  void expectSame(Prefetcher &prefetcher, int64_t step, int64_t microStep, int64_t rank) {
    std::vector<std::vector<int64_t>> buffers;
    std::vector<void *> pointers;
    for (const Input &input : program.inputs)
      buffers.emplace_back(size_t(elementCount(input.shape)), -7);
    for (auto &buffer : buffers)
      pointers.push_back(buffer.data());
    ASSERT_TRUE(prefetcher.take(step, microStep, pointers.data()).succeeded());
    std::vector<Values> expected = fillAll(*dataset, program, step, microStep, rank);
    for (size_t i = 0; i < buffers.size(); ++i)
      ASSERT_EQ(Values(buffers[i].begin(), buffers[i].end()), expected[i]) << "step " << step << ", micro-step " << microStep;
  }

  TemporaryFolder folder;
  Program program;
  std::unique_ptr<Dataset> dataset;
};

TEST_F(PrefetcherTest, GivesWhatTheDatasetGivesInOrderForAnyNumberOfThreads) {
  open(letters(600));
  for (int workers : {1, 2, 7}) {
    Prefetcher prefetcher(*dataset, program, /*rank=*/1, /*end=*/40, workers);
    EXPECT_EQ(prefetcher.bytes(), Prefetcher::plannedBytes(program, workers));
    for (int64_t step = 0; step < 40; ++step) // four epochs
      for (int64_t microStep = 0; microStep < 2; ++microStep)
        expectSame(prefetcher, step, microStep, 1);
  }
}

TEST_F(PrefetcherTest, GoesOnFromAnywhere) {
  open(letters(600));
  Prefetcher prefetcher(*dataset, program, 0, 30, 3);
  for (int64_t step : {7, 8, 2, 3, 29, 0})
    for (int64_t microStep = 0; microStep < 2; ++microStep)
      expectSame(prefetcher, step, microStep, 0);
  expectSame(prefetcher, 30, 0, 0); // behind the end: read when it is asked for
  expectSame(prefetcher, 29, 1, 0);
}

TEST_F(PrefetcherTest, FailuresComeWithTheirBatch) {
  std::string text = letters(600);
  text[500] = char(0xff); // sample 100 or 99, beyond a vocabulary of 128
  open(text, 128);
  Prefetcher prefetcher(*dataset, program, 0, 20, 2);
  std::vector<int64_t> tokens(15), labels(15);
  void *pointers[] = {tokens.data(), labels.data()};
  int failures = 0;
  for (int64_t step = 0; step < 9; ++step)
    for (int64_t microStep = 0; microStep < 2; ++microStep) {
      Status expected;
      fillAll(*dataset, program, step, microStep, 0, &expected);
      Status got = prefetcher.take(step, microStep, pointers);
      ASSERT_EQ(got.failed(), expected.failed());
      if (got.failed())
        EXPECT_EQ(got.message(), expected.message());
      failures += got.failed();
    }
  // Either rank may have it; look at the other one where this one has not.
  if (failures == 0) {
    Prefetcher other(*dataset, program, 1, 20, 2);
    for (int64_t step = 0; step < 9; ++step)
      for (int64_t microStep = 0; microStep < 2; ++microStep)
        failures += other.take(step, microStep, pointers).failed();
  }
  EXPECT_GT(failures, 0);
}

TEST_F(PrefetcherTest, EndsWithoutHavingBeenAsked) {
  open(letters(600));
  Prefetcher prefetcher(*dataset, program, 0, 30, 4);
}

} // namespace
