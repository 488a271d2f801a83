//===- FingerprintTest.cpp - which weight file is this ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/Fingerprint.h"
#include "TemporaryFolder.h"
#include <gtest/gtest.h>

using zopt::runtime::Fingerprint;
using zopt::runtime::fingerprintFile;

namespace {

std::string fingerprint(const std::string &path) {
  Fingerprint result;
  std::string error;
  EXPECT_TRUE(fingerprintFile(path, result, error)) << error;
  return result.text;
}

TEST(Fingerprint, SeesEveryByteOfAFileUpToItsSamples) {
  TemporaryFolder folder;
  std::string content((64 << 10) + (1 << 20), 'a');
  const std::string before = fingerprint(folder.write("weights", content));
  EXPECT_EQ(before, fingerprint(folder.write("copy", content)));
  for (size_t at : {size_t(0), size_t(65535), size_t(65536), content.size() / 2, content.size() - 1}) {
    std::string changed = content;
    changed[at] = 'b';
    EXPECT_NE(before, fingerprint(folder.write("changed", changed))) << "byte " << at;
  }
}

TEST(Fingerprint, SamplesPagesOfALargeFile) {
  TemporaryFolder folder;
  // Two pages a sample: the first of each pair is read.
  std::string content((64 << 10) + (2 << 20), 'a');
  const std::string before = fingerprint(folder.write("weights", content));
  std::string read = content, skipped = content, longer = content + 'a';
  read[(64 << 10) + 2 * 4096] = 'b';
  skipped[(64 << 10) + 4096] = 'b';
  EXPECT_NE(before, fingerprint(folder.write("read", read)));
  EXPECT_EQ(before, fingerprint(folder.write("skipped", skipped)));
  EXPECT_NE(before, fingerprint(folder.write("longer", longer)));
}

TEST(Fingerprint, KnowsSizesAndEmptyFiles) {
  TemporaryFolder folder;
  Fingerprint result;
  std::string error;
  ASSERT_TRUE(fingerprintFile(folder.write("empty", ""), result, error)) << error;
  EXPECT_EQ(0, result.size);
  EXPECT_EQ(21u, result.text.size());
  EXPECT_EQ("xxh3:", result.text.substr(0, 5));
}

TEST(Fingerprint, SaysWhatIsWrong) {
  TemporaryFolder folder;
  Fingerprint result;
  std::string error;
  EXPECT_FALSE(fingerprintFile(folder.path("absent"), result, error));
  EXPECT_EQ("open: No such file or directory", error);
  EXPECT_FALSE(fingerprintFile(folder.path(""), result, error));
  EXPECT_EQ("not a regular file", error);
}

} // namespace
