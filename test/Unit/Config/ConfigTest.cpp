//===- ConfigTest.cpp - DeepSpeed's configs and what becomes of them ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// corpus.txt has the cases: `=== NAME [FLAG=VALUE...]`, a config, `---`, and what is expected of it: the report, then each flag that it sets with its origin. ZOPT_WRITE_CORPUS=FILE writes what is
// there instead, for reading before it is taken over.
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Config.h"
#include "zopt/Config/Keys.h"
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <sstream>

using namespace zopt::config;

namespace {

struct Case {
  std::string header, name, text, expected;
  Request request;
};

std::vector<Case> readCorpus() {
  std::ifstream file(ZOPT_TEST_CORPUS);
  std::vector<Case> cases;
  bool inExpected = false;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("=== ", 0) == 0) {
      cases.emplace_back();
      Case &next = cases.back();
      next.header = line;
      std::istringstream words(line.substr(4));
      words >> next.name;
      for (std::string word; words >> word;) {
        const size_t at = word.find('=');
        const std::string flag = word.substr(0, at), value = word.substr(at + 1);
        if (flag == "nproc")
          next.request.ranks = std::stoll(value);
        else if (flag == "hidden")
          next.request.hiddenSize = std::stoll(value);
        else
          next.request.given[flag] = value;
      }
      inExpected = false;
    } else if (line == "---") {
      inExpected = true;
    } else if (!cases.empty()) {
      (inExpected ? cases.back().expected : cases.back().text) += line + "\n";
    }
  }
  return cases;
}

std::string outcome(const Case &test) {
  const Resolved resolved = resolve(readDocument(test.text), test.request);
  std::string text = report(resolved, "ds.json", /*strict=*/false);
  if (resolved.refused.empty())
    for (const Setting &setting : resolved.settings)
      text += "--" + setting.flag + "=" + setting.value + " (" + originName(setting.origin) + ")\n";
  return text;
}

TEST(Config, CorpusIsReadAsItSays) {
  const std::vector<Case> cases = readCorpus();
  ASSERT_GE(cases.size(), 60u);
  if (const char *path = std::getenv("ZOPT_WRITE_CORPUS")) {
    std::ofstream file(path);
    for (const Case &test : cases)
      file << test.header << '\n' << test.text << "---\n" << outcome(test);
    return;
  }
  for (const Case &test : cases)
    EXPECT_EQ(outcome(test), test.expected) << "in case " << test.name;
}

TEST(Config, EveryCaseHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const Case &test : readCorpus())
    EXPECT_TRUE(names.insert(test.name).second) << test.name;
}

TEST(Config, KeysAreThereOnceAndHaveAClass) {
  std::set<std::string> paths;
  for (const Key &key : keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    EXPECT_NE(std::string(className(key.effect)), "") << key.path;
    EXPECT_NE(std::string(key.about), "") << key.path << " says nothing";
    if (key.effect == Effect::Renamed) {
      EXPECT_NE(findKey(key.about), nullptr) << key.path << " is taken for " << key.about << ", which is no key";
    }
  }
}

TEST(Config, StrictRefusesWhatHasNoEffect) {
  const Resolved resolved = resolve(readDocument(R"({"train_batch_size": 8, "steps_per_print": 10})"), {});
  EXPECT_TRUE(resolved.accepted(false));
  EXPECT_FALSE(resolved.accepted(true));
  EXPECT_NE(report(resolved, "ds.json", true).find("error"), std::string::npos);
}

TEST(Config, SizesAndDepthsHaveAnEnd) {
  EXPECT_FALSE(readDocument(std::string(kLargestConfig + 1, ' ')).refused.empty());
  EXPECT_FALSE(readDocument(std::string(100000, '[')).refused.empty());
  std::string deep;
  for (int i = 0; i < 100; ++i)
    deep += "{\"a\":";
  EXPECT_FALSE(readDocument(deep + "1" + std::string(100, '}')).refused.empty());
}

} // namespace
