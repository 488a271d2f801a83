//===- SafetensorsFileTest.cpp - files of named tensors -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/SafetensorsFile.h"
#include "TemporaryFolder.h"
#include <csignal>
#include <gmock/gmock.h>
#include <sys/resource.h>

using namespace zopt::runtime;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

/// A file of this header and so many bytes of data.
std::string fileOf(const std::string &header, size_t dataBytes) {
  std::string text;
  for (int i = 0; i < 8; ++i)
    text += char(uint64_t(header.size()) >> (8 * i));
  return text + header + std::string(dataBytes, 'x');
}

std::string openError(const std::string &path) {
  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  if (!file.failed())
    return "opened";
  EXPECT_EQ(file.getStatus().kind(), ErrorKind::Input);
  std::string message = file.getStatus().message();
  EXPECT_EQ(message.find('\n'), std::string::npos);
  return message;
}

TEST(SafetensorsFile, WritesWhatItReads) {
  TemporaryFolder folder;
  std::string path = folder.path("a.safetensors");
  // The odd number of bytes of "mask" must not move "weight" off its alignment.
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(
      path, {{"mask", DataType::Bool, {3}, 0, 0}, {"weight", DataType::F32, {2, 2}, 0, 0}, {"empty", DataType::I64, {0, 7}, 0, 0}, {"scalar", DataType::F64, {}, 0, 0}},
      {{"format", "pt"}, {"note", "two \"words\""}});
  ASSERT_FALSE(writer.failed()) << writer.getStatus().message();
  const float weight[] = {1, 2, 3, 4};
  const char mask[] = {1, 0, 1};
  const double scalar = 0.1;
  ASSERT_TRUE(writer->write(1, 8, weight + 2, 8).succeeded());
  ASSERT_TRUE(writer->write(0, 0, mask, 3).succeeded());
  ASSERT_TRUE(writer->write(1, 0, weight, 8).succeeded());
  ASSERT_TRUE(writer->write(3, 0, &scalar, 8).succeeded());
  EXPECT_FALSE(std::filesystem::exists(path)) << "the file must not appear before commit";
  ASSERT_TRUE(writer->commit().succeeded());
  EXPECT_EQ(folder.entries(), 1u);

  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_FALSE(file.failed()) << file.getStatus().message();
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->metadata(), (SafetensorsMetadata{{"format", "pt"}, {"note", "two \"words\""}}));
  const SafetensorsTensor *tensor = file->find("weight");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(tensor->type, DataType::F32);
  EXPECT_EQ(tensor->offset % 4, 0);
  float part[2];
  ASSERT_TRUE(file->read(*tensor, 4, part, 8).succeeded());
  EXPECT_EQ(part[0], 2);
  EXPECT_EQ(part[1], 3);
  EXPECT_EQ(file->find("empty")->bytes, 0);
  double read = 0;
  ASSERT_TRUE(file->read(*file->find("scalar"), 0, &read, 8).succeeded());
  EXPECT_EQ(read, 0.1);
  EXPECT_EQ(file->find("other"), nullptr);
  EXPECT_THAT(file->read(*tensor, 8, part, 12).message(), HasSubstr("weight: bytes [8, 20) are wanted, but it has 16"));
}

TEST(SafetensorsFile, ReadsWhatTheReferenceImplementationWrote) {
  Result<SafetensorsFile> file = SafetensorsFile::open(ZOPT_TEST_MODELS "/mlp-tiny/batch.safetensors");
  ASSERT_FALSE(file.failed()) << file.getStatus().message();
  ASSERT_TRUE(file->find("image") && file->find("labels"));
  EXPECT_EQ(file->find("image")->type, DataType::F32);
  EXPECT_EQ(file->find("image")->shape, (std::vector<int64_t>{320, 1, 8, 8}));
  EXPECT_EQ(file->find("labels")->type, DataType::I64);
}

TEST(SafetensorsFile, EveryTypeHasItsName) {
  for (DataType type : {DataType::F32, DataType::BF16, DataType::F16, DataType::F64, DataType::I64, DataType::I32, DataType::I16, DataType::U16, DataType::I8, DataType::U8, DataType::Bool}) {
    TemporaryFolder folder;
    std::string path = folder.path("a.safetensors");
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, {{"t", type, {1}, 0, 0}});
    ASSERT_FALSE(writer.failed());
    const char zeros[8] = {};
    ASSERT_TRUE(writer->write(0, 0, zeros, sizeOf(type)).succeeded());
    ASSERT_TRUE(writer->commit().succeeded());
    Result<SafetensorsFile> file = SafetensorsFile::open(path);
    ASSERT_FALSE(file.failed()) << file.getStatus().message();
    EXPECT_EQ(file->tensors()[0].type, type);
  }
}

TEST(SafetensorsFile, RefusesCorruptFiles) {
  struct Case {
    const char *header;
    size_t dataBytes;
    const char *message;
  };
  const Case cases[] = {
      {"", 0, "has a header of 0 bytes that is not JSON"},
      {"{", 0, "is not JSON"},
      {"[]", 0, "is not a JSON object"},
      {"{\"a\xff\":1}", 0, "is not JSON"},
      {R"({"a":1})", 0, "a: has no object with dtype"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "a: has no dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "a: has no shape"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "a: has no data_offsets"},
      {R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1, "a: has dtype F8_E4M3, which is not one of F64, F32,"},
      {R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,1]}})", 1, "a: has dtype of another kind than text"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "a: has a size in its shape"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "a: has a size in its shape"},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "a: has a shape that is not a list"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "a: has data_offsets that are not two integers"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})", 1, "a: has data_offsets that are not two integers"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "a: has data_offsets [1, 0], which end before they begin"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "a: has data_offsets [0, 4] of 4 bytes, but shape [2] of F32 needs 8"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "whose bytes exceed 2^63 - 1"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", 0, "whose bytes exceed 2^63 - 1"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "a: has data_offsets [0, 8], but the file holds 4 bytes of data (is it truncated?)"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775803,9223372036854775807]}})", 4, "but the file holds 4 bytes"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6, "b: has data_offsets [2, 6], which overlap those of a that end at 4"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})", 6, "b: has data_offsets [4, 6], but bytes [2, 4) before it belong to no tensor"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, "has 3 bytes of data, but its tensors end at 2"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2, "a: is named twice"},
      {R"({"__metadata__":{"n":1}})", 0, "has a __metadata__ entry n that is not text"},
      {"{\"line\\nbreak\":1}", 0, "line\\x0abreak: has no object"},
  };
  TemporaryFolder folder;
  for (const Case &test : cases) {
    std::string path = folder.write("a.safetensors", fileOf(test.header, test.dataBytes));
    std::string message = openError(path);
    EXPECT_THAT(message, StartsWith(path + ": ")) << test.header;
    EXPECT_THAT(message, HasSubstr(test.message)) << test.header;
  }
}

TEST(SafetensorsFile, RefusesEveryTruncation) {
  TemporaryFolder folder;
  std::string whole = fileOf(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})", 11);
  ASSERT_EQ(openError(folder.write("whole", whole)), "opened");
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_NE(openError(folder.write("part", whole.substr(0, length))), "opened") << length;
}

TEST(SafetensorsFile, RefusesHeaderLengths) {
  TemporaryFolder folder;
  EXPECT_THAT(openError(folder.write("a", std::string(8, '\xff') + "{}")), HasSubstr("has a header length of 18446744073709551615 bytes, more than"));
  EXPECT_THAT(openError(folder.write("a", std::string("\x10\0\0\0\0\0\0\0{}", 10))), HasSubstr("has a header length of 16 bytes, but only 2 bytes follow"));
  EXPECT_THAT(openError(folder.path("none")), HasSubstr("No such file"));
  EXPECT_THAT(openError(folder.path("")), HasSubstr("is not a regular file"));
}

/// Every one-byte change of a small file opens to tensors within the file, or is refused in one line. The same entry serves a fuzzer.
TEST(SafetensorsFile, SurvivesEveryByteChange) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}})";
  const int64_t fileBytes = 8 + int64_t(header.size()) + 8;
  for (size_t i = 0; i < header.size(); ++i)
    for (int c = 0; c < 256; ++c) {
      std::string changed = header;
      changed[i] = char(c);
      Result<SafetensorsHeader> parsed = parseSafetensorsHeader("f", changed, fileBytes);
      if (parsed.failed()) {
        EXPECT_EQ(parsed.getStatus().message().find('\n'), std::string::npos) << changed;
        continue;
      }
      for (const SafetensorsTensor &tensor : parsed->tensors) {
        EXPECT_GE(tensor.offset, fileBytes - 8);
        EXPECT_LE(tensor.offset + tensor.bytes, fileBytes);
      }
    }
}

TEST(SafetensorsWriter, RefusesBadTensors) {
  TemporaryFolder folder;
  std::string path = folder.path("a");
  EXPECT_THAT(SafetensorsWriter::create(path, {{"t", DataType::F32, {1}, 0, 0}, {"t", DataType::F32, {1}, 0, 0}}).getStatus().message(), HasSubstr("t: is to be written twice"));
  EXPECT_THAT(SafetensorsWriter::create(path, {{"t", DataType::F32, {int64_t(1) << 62}, 0, 0}}).getStatus().message(), HasSubstr("exceed 2^63 - 1"));
  EXPECT_THAT(SafetensorsWriter::create(path, {{"\xff", DataType::F32, {1}, 0, 0}}).getStatus().message(), HasSubstr("not valid UTF-8"));
  EXPECT_TRUE(SafetensorsWriter::create(folder.path("no/such/folder"), {}).failed());
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(SafetensorsWriter, LeavesNothingUnlessCommitted) {
  TemporaryFolder folder;
  std::string path = folder.write("a", "before");
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, {{"t", DataType::F32, {2}, 0, 0}});
    ASSERT_FALSE(writer.failed());
    float value = 1;
    ASSERT_TRUE(writer->write(0, 0, &value, 4).succeeded());
    EXPECT_THAT(writer->commit().message(), HasSubstr("t: 4 of its 8 bytes were written"));
    EXPECT_EQ(folder.entries(), 2u);
  }
  EXPECT_EQ(folder.entries(), 1u);
  EXPECT_EQ(TemporaryFolder::read(path), "before");
}

/// A limit on the file's size stands for a full disk: the write fails half way.
TEST(SafetensorsWriter, TakesAPartialFileBack) {
  TemporaryFolder folder;
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limited = before;
  limited.rlim_cur = 4096;
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.path("a"), {{"t", DataType::U8, {1 << 16}, 0, 0}});
    ASSERT_FALSE(writer.failed());
    std::string data(1 << 16, 'x');
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
    Status status = writer->write(0, 0, data.data(), int64_t(data.size()));
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.kind(), ErrorKind::Runtime);
    EXPECT_THAT(status.message(), HasSubstr("write: File too large"));
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(folder.entries(), 0u);
}

} // namespace
