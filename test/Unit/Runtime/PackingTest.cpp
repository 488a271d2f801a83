//===- PackingTest.cpp - several rows in one sample -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../../../lib/Runtime/Data/Packing.h"
#include "DatasetHelpers.h"
#include "TemporaryFolder.h"
#include <gmock/gmock.h>

using namespace zopt::runtime;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace {

TEST(Packing, RowsGoIntoTheFirstSampleWithRoom) {
  EXPECT_THAT(packRows({5, 4, 3, 8, 2, 1}, 8), ElementsAre(0, 1, 0, 2, 1, 1));
  EXPECT_THAT(packRows({}, 8), ElementsAre());
  EXPECT_THAT(packRows({8, 8, 1}, 8), ElementsAre(0, 1, 2));
}

TEST(Packing, OnlyTheLastSamplesAreOpen) {
  std::vector<int64_t> lengths(size_t(kOpenSamples) + 1, 7);
  lengths.push_back(1); // sample 0 has room for it, but is closed
  EXPECT_EQ(packRows(lengths, 8).back(), 1);
}

TEST(Packing, ThePairMaskKeepsRowsApart) {
  std::vector<uint8_t> mask(36, 7);
  storePairMask(DataType::Bool, mask.data(), {2, 3}, 6, /*causal=*/true);
  EXPECT_THAT(mask, ElementsAre(1, 0, 0, 0, 0, 0, //
                                1, 1, 0, 0, 0, 0, //
                                0, 0, 1, 0, 0, 0, //
                                0, 0, 1, 1, 0, 0, //
                                0, 0, 1, 1, 1, 0, //
                                0, 0, 0, 0, 0, 1));
  std::vector<float> added(9, 7);
  storePairMask(DataType::F32, added.data(), {2}, 3, /*causal=*/false);
  EXPECT_THAT(added, ElementsAre(0, 0, -1e30f, 0, 0, -1e30f, -1e30f, -1e30f, 0));
}

TEST(Packing, JsonlRowsLieBehindOneAnother) {
  TemporaryFolder folder;
  Program program = makeProgram(1, 2, 1,
                                {makeInputOf("input_ids", InputKind::Input, DataType::I64, {2, 6}, 100), makeInputOf("position_ids", InputKind::Input, DataType::I64, {2, 6}, 6),
                                 makeInputOf("attention_mask", InputKind::Input, DataType::Bool, {2, 1, 6, 6}), makeInputOf("labels", InputKind::Label, DataType::I64, {2, 6}, 100)});
  DatasetOptions options;
  options.files = {folder.write("d.jsonl", "{\"prompt\":[1],\"completion\":[2,3]}\n{\"prompt\":[4,5],\"completion\":[6,7]}\n{\"prompt\":[8],\"completion\":[9]}\n")};
  options.jsonl.pack = options.jsonl.given = true;
  options.jsonl.padToken = 99;
  std::unique_ptr<Dataset> dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 2);
  std::vector<Values> values = fillAll(*dataset, program, 0, 0, 0);
  // The third row stands behind the first; labels end with their row.
  EXPECT_THAT(values[0], ElementsAre(1, 2, 3, 8, 9, 99, 4, 5, 6, 7, 99, 99));
  EXPECT_THAT(values[1], ElementsAre(0, 1, 2, 0, 1, 5, 0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values[3], ElementsAre(2, 3, -100, 9, -100, -100, -100, 6, 7, -100, -100, -100));
  EXPECT_EQ(values[2][4 * 6 + 2], 0); // position 4 is of the third row
  EXPECT_EQ(values[2][4 * 6 + 3], 1);
  EXPECT_EQ(values[2][36 + 3 * 6 + 0], 1);
  ASSERT_FALSE(dataset->notes().empty());
  EXPECT_THAT(dataset->notes()[0], HasSubstr("3 rows are packed into 2 sequences of 6 tokens, 75% of which are theirs"));
}

TEST(Packing, IsRefusedWhereNothingKeepsRowsApart) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 6, 100);
  DatasetOptions options;
  options.files = {folder.write("d.jsonl", "{\"prompt\":[1],\"completion\":[2,3]}\n")};
  options.jsonl.pack = options.jsonl.given = true;
  EXPECT_THAT(openError(program, options), HasSubstr("--pack puts several rows into one sequence, but the plan has no input attention_mask of [batch, 6, 6] or [batch, 1, 6, 6]"));
  options.files = {folder.write("d.txt", "text text text")};
  EXPECT_THAT(openError(program, options), HasSubstr("--pack apply to jsonl"));
}

} // namespace
