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
#include "zopt/Config/Job.h"
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

std::vector<Case> readCorpus(const char *path = ZOPT_TEST_CORPUS) {
  std::ifstream file(path);
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

/// What jobs.txt's jobs name.
std::optional<std::string> readFile(const std::string &path) {
  if (path == "jobs/auto.json")
    return R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}})";
  if (path == "zero3.json")
    return R"({"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4, "fp16": {"enabled": true}, "optimizer": {"type": "Adam", "params": {"lr": 1e-4}}, "zero_optimization": {"stage": 3}})";
  if (path == "broken.json")
    return R"({"train_micro_batch_size_per_gpu": 2, "zero_optimisation": {"stage": 3}})";
  return std::nullopt;
}

std::string outcome(const Case &test, const std::string &file = "ds.json") {
  const Resolved resolved = resolveFile(file, test.text, test.request, readFile);
  std::string text = report(resolved, file, /*strict=*/false);
  if (!resolved.model.empty())
    text += "model " + resolved.model + "\n";
  if (resolved.refused.empty())
    for (const Setting &setting : resolved.settings) {
      std::string value = setting.value;
      for (char &c : value)
        c = c == '\n' ? '|' : c;
      text += std::string(setting.ofRun ? "zrun " : "") + "--" + setting.flag + "=" + value + " (" +
              originName(setting.origin) + ")\n";
    }
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

TEST(Config, JobsAreReadAsTheySay) {
  const std::vector<Case> cases = readCorpus(ZOPT_TEST_JOBS);
  ASSERT_GE(cases.size(), 20u);
  if (const char *path = std::getenv("ZOPT_WRITE_JOBS")) {
    std::ofstream file(path);
    for (const Case &test : cases)
      file << test.header << '\n' << test.text << "---\n" << outcome(test, "jobs/job.yaml");
    return;
  }
  for (const Case &test : cases)
    EXPECT_EQ(outcome(test, "jobs/job.yaml"), test.expected) << "in case " << test.name;
}

TEST(Config, EveryCaseHasANameOfItsOwn) {
  for (const char *path : {ZOPT_TEST_CORPUS, ZOPT_TEST_JOBS}) {
    std::set<std::string> names;
    for (const Case &test : readCorpus(path))
      EXPECT_TRUE(names.insert(test.name).second) << test.name;
  }
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
  const Resolved resolved = resolve(readDocument(R"({"train_batch_size": 8, "dump_state": true})"), {});
  EXPECT_TRUE(resolved.accepted(false));
  EXPECT_FALSE(resolved.accepted(true));
  EXPECT_NE(report(resolved, "ds.json", true).find("error"), std::string::npos);
}

RunSettings settled(const char *text, std::map<std::string, std::string> compiled) {
  Request request;
  request.partial = true;
  request.ranks = 2;
  request.compiled = compiled;
  const Resolved resolved = resolve(readDocument(text), request);
  EXPECT_TRUE(resolved.refused.empty()) << report(resolved, "ds.json", false);
  return settleRun(resolved, compiled, /*microBatch=*/4, /*accumSteps=*/3, /*ranks=*/2);
}

TEST(Config, OfARunLeavesToThePlanWhatItDoesNotSay) {
  const std::map<std::string, std::string> compiled = {
      {"zero-stage", "3"},    {"precision", "bf16"},  {"bucket-bytes", "2000"}, {"persist-bytes", "200"},
      {"optimizer", "adamw"}, {"betas", "0.9,0.999"}, {"eps", "1e-8"}};
  EXPECT_TRUE(settled("{}", compiled).flags.empty());
  const RunSettings run = settled(
      R"({"gradient_clipping": 0.5, "steps_per_print": 7, "optimizer": {"type": "AdamW", "params": {"lr": 0.25, "eps": 1e-08, "betas": [0.9, 0.999]}}})",
      compiled);
  EXPECT_TRUE(run.refused.empty());
  EXPECT_EQ(run.flags, (std::map<std::string, std::string>{{"clip", "0.5"}, {"lr", "0.25"}, {"print-every", "7"}}));
  // A schedule's "auto" is the plan's rate.
  std::map<std::string, std::string> withRate = compiled;
  withRate["lr"] = "0.125";
  EXPECT_EQ(settled(R"({"scheduler": {"type": "WarmupDecayLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": 4}}})", withRate).flags.at("schedule"), "WarmupDecayLR,warmup_num_steps=4,warmup_max_lr=0.125");
  // Sizes are in elements of the plan's precision, at the plan's stage.
  EXPECT_TRUE(
      settled(
          R"({"zero_optimization": {"stage3_prefetch_bucket_size": 1000, "stage3_param_persistence_threshold": 100}})",
          compiled)
          .refused.empty());
}

TEST(Config, OfARunMustNotContradictThePlan) {
  const std::map<std::string, std::string> compiled = {
      {"zero-stage", "3"},    {"precision", "bf16"},  {"bucket-bytes", "2000"}, {"persist-bytes", "200"},
      {"optimizer", "adamw"}, {"betas", "0.9,0.999"}, {"eps", "1e-8"},          {"recompute", "none"}};
  // Key, its config, both values.
  const struct {
    const char *key, *text, *asked, *plans;
  } cases[] = {
      {"zero_optimization.stage", R"({"zero_optimization": {"stage": 2}})", "--zero-stage=2", "--zero-stage=3"},
      {"fp16.enabled", R"({"fp16": {"enabled": true}})", "--fp16=true", "--bf16"},
      {"bf16.enabled", R"({"bf16": {"enabled": false}})", "--fp32=true", "--bf16"},
      {"train_batch_size", R"({"train_batch_size": 12})", "--global-batch=12", "global batch of 24"},
      {"train_micro_batch_size_per_gpu", R"({"train_micro_batch_size_per_gpu": 2})", "--micro-batch=2",
       "micro-batch of 4"},
      {"gradient_accumulation_steps", R"({"gradient_accumulation_steps": 1})", "--grad-accum=1", "3 micro-steps"},
      {"zero_optimization.stage3_prefetch_bucket_size",
       R"({"zero_optimization": {"stage3_prefetch_bucket_size": 999}})", "--bucket-bytes=1998", "--bucket-bytes=2000"},
      {"zero_optimization.stage3_param_persistence_threshold",
       R"({"zero_optimization": {"stage3_param_persistence_threshold": 7}})", "--persist-bytes=14",
       "--persist-bytes=200"},
      {"optimizer.type", R"({"optimizer": {"type": "Lion"}})", "--optimizer=lion", "--optimizer=adamw"},
      {"optimizer.params.betas", R"({"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 0.95]}}})",
       "--betas=0.9,0.95", "--betas=0.9,0.999"},
      {"optimizer.params.eps", R"({"optimizer": {"type": "AdamW", "params": {"eps": 1e-6}}})", "--eps=1e-06",
       "--eps=1e-8"},
      {"communication_data_type", R"({"communication_data_type": "fp32"})", "--grad-dtype=fp32", "--grad-dtype=bf16"},
      {"activation_checkpointing.partition_activations",
       R"({"activation_checkpointing": {"partition_activations": true}})", "--recompute=full", "--recompute=none"},
  };
  for (const auto &test : cases) {
    const RunSettings run = settled(test.text, compiled);
    ASSERT_EQ(run.refused.size(), 1u) << test.text;
    EXPECT_EQ(run.refused[0].key, test.key);
    EXPECT_NE(run.refused[0].text.find(test.asked), std::string::npos) << run.refused[0].text;
    EXPECT_NE(run.refused[0].text.find(test.plans), std::string::npos) << run.refused[0].text;
  }
}

TEST(Config, JobKeysAreThereOnceAndHaveAClass) {
  std::set<std::string> paths;
  for (const Key &key : jobKeys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    EXPECT_NE(std::string(key.about), "") << key.path << " says nothing";
    if (key.effect == Effect::Flag) {
      EXPECT_TRUE(std::string(key.about).rfind("--", 0) == 0 || std::string(key.about).rfind("zrun --", 0) == 0)
          << key.path;
    }
  }
}

TEST(Config, AJobOfManyAliasesEnds) {
  std::string text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (char name = 'b'; name < 'k'; ++name)
    text += std::string(1, name) + ": &" + name + " [*" + char(name - 1) + ", *" + char(name - 1) + ", *" +
            char(name - 1) + ", *" + char(name - 1) + "]\n";
  EXPECT_FALSE(resolveFile("job.yaml", text, {}, readFile).refused.empty());
  EXPECT_FALSE(resolveFile("job.yaml", "a: &a [*a]\n", {}, readFile).refused.empty());
  EXPECT_FALSE(resolveFile("job.yaml", std::string(100000, '['), {}, readFile).refused.empty());
}

// Found by ConfigFuzzer: yaml-cpp does not come back from the first.
TEST(Config, AJobThatIsNoTextIsRefused) {
  for (const char *text : {"Ai\x93ng: [M\x83", "a: \x04", "a: \xc3", "\xff\xfe" "a", "a: b\x01"}) {
    const Resolved resolved = resolveFile("job.yaml", text, {}, readFile);
    ASSERT_EQ(resolved.refused.size(), 1u);
    EXPECT_NE(resolved.refused[0].text.find("is no character of a text in UTF-8"), std::string::npos);
  }
  EXPECT_TRUE(resolveFile("job.yaml", "model: \"mod\xc3\xa8le.onnx\"\n", {}, readFile).refused.empty());
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
