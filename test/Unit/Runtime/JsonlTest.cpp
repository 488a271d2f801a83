//===- JsonlTest.cpp - rows of token ids, padded --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DatasetHelpers.h"
#include "TemporaryFolder.h"
#include "zopt/Runtime/Data/JsonlRecord.h"
#include <gmock/gmock.h>

using namespace zopt::runtime;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace {

std::string problemOf(const std::string &line, bool wantsLabels = true) {
  return JsonlRecord().parse(line, wantsLabels);
}

TEST(JsonlRecord, TakesBothForms) {
  JsonlRecord record;
  EXPECT_EQ(
      record.parse(R"({"labels": [-100, 2, 3], "input_ids": [1, 2, 3], "id": {"a": [[]]}, "text": "\u00e9"})", true),
      "");
  EXPECT_THAT(record.tokens(), ElementsAre(1, 2, 3));
  EXPECT_THAT(record.labels(), ElementsAre(-100, 2, 3));
  EXPECT_FALSE(record.find(JsonlRecord::AttentionMask));
  EXPECT_EQ(record.parse(R"({"prompt":[1,2],"completion":[3],"attention_mask":[1,1,0]})", true), "");
  EXPECT_THAT(record.tokens(), ElementsAre(1, 2, 3));
  EXPECT_THAT(record.labels(), ElementsAre(-100, -100, 3));
  EXPECT_THAT(*record.find(JsonlRecord::AttentionMask), ElementsAre(1, 1, 0));
  EXPECT_EQ(record.parse(R"({"prompt":[],"completion":[3]})", true), "");
  EXPECT_THAT(record.labels(), ElementsAre(3));
  // A forward plan needs no labels; what the line before had is gone.
  EXPECT_EQ(record.parse(R"({"input_ids":[7]})", false), "");
  EXPECT_THAT(record.labels(), ElementsAre());
}

TEST(JsonlRecord, SaysWhatIsWrong) {
  EXPECT_THAT(problemOf("{\"input_ids\": [1, 2"), HasSubstr("is no JSON: column 20"));
  EXPECT_THAT(problemOf("{\"input_ids\": [1\x01\n]}"), Not(HasSubstr("\n")));
  EXPECT_THAT(problemOf("{} {}"), HasSubstr("is no JSON"));
  const std::string overflow = problemOf(std::string(2000, '9'));
  EXPECT_THAT(overflow, HasSubstr("is no JSON: column 2000: number overflow parsing '999"));
  EXPECT_LT(overflow.size(), 200u);
  EXPECT_EQ(problemOf("[1, 2]"), "is a list, not an object");
  EXPECT_EQ(problemOf("7"), "is not an object");
  EXPECT_EQ(problemOf("{}"), "has neither input_ids nor prompt and completion");
  EXPECT_EQ(problemOf(R"({"input_ids":[1]})"), "has input_ids, but no labels");
  EXPECT_EQ(problemOf(R"({"input_ids":[],"labels":[]})"), "input_ids: is empty");
  EXPECT_EQ(problemOf(R"({"input_ids":[1,2],"labels":[1]})"), "labels: has 1 elements, but input_ids has 2");
  EXPECT_EQ(problemOf(R"({"input_ids":[1,2],"input_ids":[1,2]})"), "input_ids: is given twice");
  EXPECT_EQ(problemOf(R"({"input_ids":[[1,2]],"labels":[1]})"),
            "input_ids: holds a list in a list: a record is one row");
  EXPECT_EQ(problemOf(R"({"input_ids":5,"labels":[1]})"), "input_ids: is a number, not a list of them");
  EXPECT_EQ(problemOf(R"({"input_ids":[1.5],"labels":[1]})"), "input_ids: holds the number 1.5, which is no integer");
  EXPECT_EQ(problemOf(R"({"input_ids":[null],"labels":[1]})"), "input_ids: holds null");
  EXPECT_EQ(problemOf(R"({"input_ids":[{}],"labels":[1]})"), "input_ids: holds an object, not token ids");
  EXPECT_EQ(problemOf(R"({"input_ids":[18446744073709551615],"labels":[1]})"),
            "input_ids: holds 18446744073709551615, which is no token");
  EXPECT_EQ(problemOf(R"({"prompt":"Hi","completion":"Ho"})"),
            "prompt: holds text, not token ids (python/zopt_data makes them)");
  EXPECT_EQ(problemOf(R"({"prompt":[1]})"), "has prompt, but no completion");
  EXPECT_EQ(problemOf(R"({"completion":[1]})"), "has completion, but no prompt");
  EXPECT_EQ(problemOf(R"({"prompt":[1],"completion":[]})"), "completion: is empty");
  EXPECT_EQ(problemOf(R"({"prompt":[1],"completion":[2],"labels":[1,2]})"), "has labels beside prompt and completion");
  EXPECT_EQ(problemOf(R"({"prompt":[1],"completion":[2],"attention_mask":[1]})"),
            "attention_mask: has 1 elements, but prompt and completion have 2");
  EXPECT_EQ(problemOf(R"({"prompt":[1],"completion":[2],"attention_mask":[1,2]})"),
            "attention_mask: holds 2, which is neither 0 nor 1");
  // Depth costs no stack.
  EXPECT_THAT(problemOf("{\"x\":" + std::string(1000000, '[')), HasSubstr("is no JSON"));
}

DatasetOptions jsonl(const TemporaryFolder &folder, const std::string &content) {
  return optionsOf({folder.write("a.jsonl", content)});
}

TEST(Jsonl, PadsTruncatesAndShiftsRows) {
  TemporaryFolder folder;
  Program program = languageModel(1, 4, 1, 4, 100);
  program.inputs.push_back(makeInputOf("attention_mask", InputKind::Input, DataType::F32, {4, 4}));
  program.inputs.push_back(makeInputOf("position_ids", InputKind::Input, DataType::I64, {1, 4}, 4));
  DatasetOptions options =
      jsonl(folder, R"({"input_ids":[1,2,3,4,5],"labels":[1,2,3,4,5]})"
                    "\r\n\n  \n"
                    R"({"input_ids":[6,7],"labels":[-100,7]})"
                    "\n"
                    R"({"prompt":[10,11],"completion":[12,13]})"
                    "\n"
                    R"({"prompt":[20],"completion":[21],"attention_mask":[0,1]})"); // no newline at the end
  options.jsonl.padToken = 99;
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 4);
  std::vector<Values> batch = fillAll(*dataset, program, 0, 0, 0);
  EXPECT_THAT(batch[0], ElementsAre(1, 2, 3, 4, 6, 7, 99, 99, 10, 11, 12, 13, 20, 21, 99, 99));
  // A row is cut first and shifted then, as Hugging Face's models do: its last position has no label.
  EXPECT_THAT(batch[1], ElementsAre(2, 3, 4, -100, 7, -100, -100, -100, -100, 12, 13, -100, 21, -100, -100, -100));
  EXPECT_THAT(batch[2], ElementsAre(1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0));
  EXPECT_THAT(batch[3], ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(dataset->notes(), ElementsAre(HasSubstr("a.jsonl: 1 row of more than 4 tokens truncated")));
  EXPECT_TRUE(dataset->checkFirstBatch().succeeded());
}

TEST(Jsonl, DropsLongRowsWhereAsked) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 2, 100);
  DatasetOptions options = jsonl(folder, R"({"prompt":[1,2],"completion":[3]})"
                                         "\n"
                                         R"({"prompt":[4],"completion":[5]})"
                                         "\n");
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 2);
  EXPECT_THAT(dataset->notes(),
              Contains(HasSubstr("1 row has no label that counts (a prompt that fills the sequence leaves none)")));
  options.jsonl.longRows = JsonlOptions::LongRows::Drop;
  dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 1);
  EXPECT_THAT(dataset->notes(), ElementsAre(HasSubstr("1 row of more than 2 tokens dropped")));
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[0], ElementsAre(4, 5));
}

TEST(Jsonl, NamesBadRecordsAndSkipsThemWhereAsked) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 100);
  DatasetOptions options =
      jsonl(folder, "{\"prompt\":[1],\"completion\":[2]}\n{\"prompt\":[1],\"completion\":[100]}\nnonsense\n{\"prompt\":"
                    "[3],\"completion\":[4]}\n{\"prompt\":[-1],\"completion\":[4]}");
  const std::string path = options.files[0];
  EXPECT_EQ(openError(program, options),
            path + ":2: prompt and completion: position 1: value 100 is not in [0, 99]; " + path +
                ":3: is no JSON: column 2: syntax error while parsing value - invalid literal; last read: 'no'; " +
                path +
                ":5: prompt and completion: position 0: value -1 is not in [0, 99] (3 of 5 records); "
                "--bad-records=skip leaves such records out");
  options.jsonl.badRecords = JsonlOptions::BadRecords::Skip;
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 2);
  EXPECT_THAT(fillAll(*dataset, program, 1, 0, 0)[0], ElementsAre(3, 4, 0, 0));
  EXPECT_THAT(dataset->notes(),
              Contains("skips " + path + ":2: prompt and completion: position 1: value 100 is not in [0, 99]"));
  EXPECT_THAT(dataset->notes(), Contains(path + ": 3 of 5 records skipped"));

  // Many are counted, not listed.
  std::string many;
  for (int i = 0; i < 50; ++i)
    many += "{}\n";
  options = jsonl(folder, many);
  EXPECT_THAT(openError(program, options),
              HasSubstr(":10: has neither input_ids nor prompt and completion; and 40 more (50 of 50 records)"));
  options.jsonl.badRecords = JsonlOptions::BadRecords::Skip;
  EXPECT_THAT(openError(program, options), HasSubstr("a.jsonl: the data has no samples; skips"));
}

TEST(Jsonl, LinesOfAllSizesCrossTheReadersChunks) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 1000);
  std::string content;
  for (int i = 0; i < 40; ++i)
    content += "{\"prompt\":[" + std::to_string(i) + "],\"text\":\"" +
               std::string(size_t(i) * 7919 * 13 % 2500000, 'x') + "\",\"completion\":[7]}\n";
  auto dataset = openOrFail(program, jsonl(folder, content));
  ASSERT_TRUE(dataset);
  ASSERT_EQ(dataset->samples(), 40);
  for (int i = 0; i < 40; ++i)
    EXPECT_EQ(fillAll(*dataset, program, i, 0, 0)[0], (Values{double(i), 7, 0, 0})) << i;
}

TEST(Jsonl, TooLongLinesAreBadRecords) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 1000);
  DatasetOptions options = jsonl(folder, "{\"prompt\":[1],\"completion\":[7]}\n" + std::string((64 << 20) + 1, 'x') +
                                             "\n{\"prompt\":[2],\"completion\":[7]}\n");
  EXPECT_THAT(openError(program, options),
              HasSubstr("a.jsonl:2: has 67108865 bytes, more than a record may have, 67108864"));
  options.jsonl.badRecords = JsonlOptions::BadRecords::Skip;
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->samples(), 2);
  EXPECT_THAT(fillAll(*dataset, program, 1, 0, 0)[0], ElementsAre(2, 7, 0, 0));
}

TEST(Jsonl, NoticesLabelsThatAreShiftedAlready) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 5, 100);
  DatasetOptions options = jsonl(folder, R"({"input_ids":[1,2,3,4,5],"labels":[2,3,4,5,-100]})");
  auto dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_THAT(dataset->checkFirstBatch().message(),
              HasSubstr("labels: 4 of the first batch's 4 counted labels equal the next token of input_ids"));
  options.labelShift = LabelShift::Keep;
  dataset = openOrFail(program, options);
  ASSERT_TRUE(dataset);
  EXPECT_TRUE(dataset->checkFirstBatch().succeeded());
  EXPECT_THAT(fillAll(*dataset, program, 0, 0, 0)[1], ElementsAre(2, 3, 4, 5, -100));
  options.files = {folder.write("b.jsonl", R"({"prompt":[1],"completion":[2]})")};
  EXPECT_THAT(openError(program, options),
              HasSubstr("whose labels are made and shifted: --no-shift-labels cannot be obeyed"));
}

TEST(Jsonl, RefusesWhatCannotBe) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 100);
  DatasetOptions options = jsonl(folder, R"({"prompt":[1],"completion":[2]})");
  options.jsonl.padToken = 100;
  EXPECT_THAT(openError(program, options), HasSubstr("--pad-token: input_ids: value 100 is not in [0, 99]"));
  options.jsonl.padToken = 0;
  options.jsonl.given = true;
  options.files = {folder.write("a.txt", "abcdefgh")};
  EXPECT_THAT(openError(program, options), HasSubstr("apply to jsonl, but " + options.files[0] + " is none"));
  options.files.clear();
  EXPECT_THAT(openError(program, options), HasSubstr("apply to jsonl, but there is no --data"));
  options = jsonl(folder, "\n");
  EXPECT_THAT(openError(program, options), HasSubstr("the data has no samples"));
  program.inputs[1].hasIgnoreIndex = false;
  EXPECT_THAT(openError(program, options), HasSubstr("the loss has no ignored index for the label labels of padding"));
}

TEST(Jsonl, TellsOfAFileThatChanged) {
  TemporaryFolder folder;
  Program program = languageModel(1, 1, 1, 4, 100);
  auto dataset = openOrFail(program, jsonl(folder, "{\"prompt\":[1],\"completion\":[2]}\n"));
  ASSERT_TRUE(dataset);
  folder.write("a.jsonl", "{\"prompt\":[1],\"completion\":{2]}\n");
  Status status;
  fillAll(*dataset, program, 0, 0, 0, &status);
  EXPECT_THAT(status.message(),
              HasSubstr("the record at byte 0 has changed since the file was opened: completion: holds an object"));
}

TEST(Patterns, StandForTheFilesTheyMatch) {
  TemporaryFolder folder;
  for (const char *name : {"b.jsonl", "a.jsonl", "10.jsonl", "[x].jsonl", "x.txt"})
    folder.write(name, "");
  std::vector<std::string> files = {folder.path("?.jsonl"), folder.path("[x].jsonl"), folder.path("b*"), "plain"};
  ASSERT_TRUE(expandPatterns(files).succeeded());
  EXPECT_THAT(files, ElementsAre(folder.path("a.jsonl"), folder.path("b.jsonl"), folder.path("[x].jsonl"),
                                 folder.path("b.jsonl"), "plain"));
  std::vector<std::string> none = {folder.path("*.bin")};
  EXPECT_THAT(expandPatterns(none).message(), HasSubstr("*.bin: no file has a name like this"));
}

} // namespace
