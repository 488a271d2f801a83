//===- CheckpointTest.cpp - saving and reading checkpoints ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TemporaryFolder.h"
#include "TinyProgram.h"
#include "zopt/Runtime/Checkpoint/Directory.h"
#include "zopt/Runtime/Checkpoint/Export.h"
#include "zopt/Runtime/Checkpoint/Reader.h"
#include "zopt/Runtime/Checkpoint/Saver.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <thread>

using namespace zopt::runtime;

namespace {

#define EXPECT_SUCCESS(expression)                                                                                     \
  do {                                                                                                                 \
    Status status = (expression);                                                                                      \
    EXPECT_FALSE(status.failed()) << status.message();                                                                 \
  } while (false)

class Checkpoint : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
#ifdef ZOPT_FAKE_CUDA
    setenv("ZOPT_CUDA_LIBRARY_PATH", ZOPT_FAKE_CUDA, 1);
#endif
    folder.write("kernels.ptx", ".version 8.0\n");
  }

  Program program(int world, int stage, const std::string &target = "cpu") const { return target == "cuda" ? makeTinyDeviceProgram(world, stage) : makeTinyProgram(world, stage); }

  void onEveryRank(const Program &program, const std::function<void(Executor &)> &body) {
    auto communicators = makeLocalWorld(int(program.worldSize));
    std::vector<std::thread> ranks;
    for (auto &communicator : communicators)
      ranks.emplace_back([&] {
        ExecutorOptions options;
        options.kernelFile = folder.path("kernels.ptx");
        options.exchange = DeviceExchange::Host;
        Result<std::unique_ptr<Executor>> executor = Executor::create(program, tinyKernels(), *communicator, options);
        ASSERT_FALSE(executor.failed()) << executor.getStatus().message();
        body(**executor);
      });
    for (std::thread &rank : ranks)
      rank.join();
  }

  /// Steps [from, to) over samples that depend on the step and the place in the global batch of 12 alone.
  void train(Executor &executor, int from, int to) {
    const Program &program = executor.getProgram();
    std::optional<StepResult> result;
    for (int step = from; step < to; ++step) {
      EXPECT_SUCCESS(executor.write("zopt.lr", program.learningRate));
      Result<void *const *> inputs = executor.inputs();
      ASSERT_FALSE(inputs.failed());
      for (int i = 0; i < 2; ++i)
        static_cast<float *>((*inputs)[0])[i] = (0.3f + 0.01f * float(executor.getCommunicator().rank() * 2 + i) + 0.1f * float(step)) / float(program.worldSize);
      EXPECT_SUCCESS(executor.run("micro_step"));
      EXPECT_SUCCESS(executor.run("apply_step"));
      EXPECT_SUCCESS(executor.finishStep(result));
    }
    EXPECT_SUCCESS(executor.lastResult(result));
  }

  SaverOptions into(const std::string &name) const {
    SaverOptions options;
    options.directory = folder.path(name);
    std::filesystem::create_directories(options.directory);
    return options;
  }

  /// Every rank saves `step` and waits for its end.
  SaveResult save(Executor &executor, const std::string &name, int64_t step, int64_t keep = 0) {
    SaverOptions options = into(name);
    options.keep = keep;
    Result<std::unique_ptr<CheckpointSaver>> saver = CheckpointSaver::create(executor, options, nullptr);
    EXPECT_FALSE(saver.failed());
    EXPECT_SUCCESS((*saver)->begin(step, [](CheckpointIndex &index) { index.data.samples = 7; }));
    std::optional<SaveResult> result;
    EXPECT_SUCCESS((*saver)->finish(result));
    return *result;
  }

  void resume(Executor &executor, const std::string &path) {
    Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
    ASSERT_FALSE(reader.failed()) << reader.getStatus().message();
    EXPECT_SUCCESS((*reader)->verify(executor.getCommunicator().rank(), executor.getCommunicator().size()));
    StateSource source = (*reader)->source();
    InitializationOptions options;
    options.weights = &source;
    EXPECT_SUCCESS(initializeStates(executor, options));
  }

  /// All logical tensors of a checkpoint, and its scalars.
  static std::map<std::string, std::vector<double>> contents(const std::string &path) {
    std::map<std::string, std::vector<double>> values;
    Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
    EXPECT_FALSE(reader.failed()) << reader.getStatus().message();
    if (reader.failed())
      return values;
    for (const LogicalTensor &tensor : (*reader)->index().tensors) {
      std::vector<double> &into = values[tensor.name];
      into.resize(size_t(elementCount(tensor.shape)));
      EXPECT_SUCCESS((*reader)->read(tensor, 0, int64_t(into.size()), DataType::F64, into.data()));
    }
    for (const SavedScalar &scalar : (*reader)->index().scalars)
      values[scalar.name] = {loadAsDouble(scalar.type, &scalar.bits, 0)};
    return values;
  }

  std::string saveTrained(int world, int stage, const std::string &name = "D", int steps = 3, const std::string &target = "cpu") {
    Program made = program(world, stage, target);
    onEveryRank(made, [&](Executor &executor) {
      EXPECT_SUCCESS(initializeStates(executor, {}));
      train(executor, 0, steps);
      EXPECT_SUCCESS(save(executor, name, steps).failure);
    });
    return folder.path(name) + "/" + tagOf(steps);
  }

  TemporaryFolder folder;
};

TEST_F(Checkpoint, ranksShareAllStatesWithoutOverlap) {
  for (int world : {1, 2, 3})
    for (int stage = 0; stage < 4; ++stage) {
      Program made = program(world, stage);
      CheckpointLayout layout = layOutCheckpoint(made);
      std::map<std::string, int64_t> elements;
      for (const LogicalTensor &tensor : layout.tensors)
        for (const TensorPiece &piece : tensor.pieces) {
          EXPECT_EQ(piece.begin, elements[tensor.name]);
          elements[tensor.name] = piece.end;
        }
      EXPECT_EQ(elements, (std::map<std::string, int64_t>{{"a", 130}, {"a.momentum", 130}, {"b", 10}, {"b.momentum", 10}})) << world << " ranks, stage " << stage;
      EXPECT_EQ(layout.scalars.size(), 6u);
    }
}

TEST_P(Checkpoint, goesOnWithTheSameBitsAtEveryStage) {
  const std::string target = GetParam();
  for (int world : {1, 2, 3})
    for (int stage = 0; stage < 4; ++stage) {
      const std::string name = concat(target, world, stage);
      Program made = program(world, stage, target);
      onEveryRank(made, [&](Executor &executor) { // never interrupted
        EXPECT_SUCCESS(initializeStates(executor, {}));
        train(executor, 0, 5);
        EXPECT_SUCCESS(save(executor, name + "whole", 5).failure);
      });
      std::string path = saveTrained(world, stage, name, 3, target);
      onEveryRank(made, [&](Executor &executor) {
        resume(executor, path);
        train(executor, 3, 5);
        EXPECT_SUCCESS(save(executor, name, 5).failure);
      });
      EXPECT_EQ(contents(folder.path(name) + "/global_step5"), contents(folder.path(name + "whole") + "/global_step5")) << world << " ranks, stage " << stage;
    }
}

TEST_P(Checkpoint, everyWorldAndStageReadsEveryOther) {
  for (int world : {1, 2, 3})
    for (int stage : {0, 3}) {
      const std::string name = concat("from", GetParam(), world, stage), path = saveTrained(world, stage, name, 3, GetParam());
      const auto before = contents(path);
      for (auto [other, otherStage] : {std::pair(1, 0), {2, 3}, {3, 1}}) {
        // Also from one target to the other.
        Program made = program(other, otherStage);
        onEveryRank(made, [&, to = concat(name, "to", other)](Executor &executor) {
          resume(executor, path);
          EXPECT_SUCCESS(save(executor, to, 3).failure);
        });
        EXPECT_EQ(contents(folder.path(concat(name, "to", other)) + "/global_step3"), before);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Host, Checkpoint, testing::Values("cpu"));
#ifdef ZOPT_FAKE_CUDA
INSTANTIATE_TEST_SUITE_P(Device, Checkpoint, testing::Values("cuda"));
#endif

TEST_F(Checkpoint, exchangeTakesEveryTurnTogetherAndNeverHasTwoInFlight) {
  Program made = program(3, 2);
  std::vector<SaveResult> seen;
  onEveryRank(made, [&](Executor &executor) {
    EXPECT_SUCCESS(initializeStates(executor, {}));
    SaverOptions options = into("D");
    options.everySteps = 2;
    Result<std::unique_ptr<CheckpointSaver>> saver = CheckpointSaver::create(executor, options, nullptr);
    ASSERT_FALSE(saver.failed());
    Communicator &communicator = executor.getCommunicator();
    int results = 0; // ranks see them at the same step, however long a save takes
    for (int64_t step = 0; results < 3 && step < 1000000; ++step) {
      uint8_t word = (*saver)->word(step == 7 && communicator.rank() == 2);
      std::vector<uint8_t> words(3);
      EXPECT_SUCCESS(communicator.allGatherNow("words", &word, words.data(), 1));
      std::optional<SaveResult> result;
      EXPECT_SUCCESS((*saver)->exchange(words, step, [](CheckpointIndex &) {}, result));
      results += result.has_value();
      if (result && communicator.rank() == 0)
        seen.push_back(*result);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    std::optional<SaveResult> result;
    EXPECT_SUCCESS((*saver)->finish(result));
    EXPECT_FALSE((*saver)->inFlight());
  });
  ASSERT_GT(seen.size(), 1u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_SUCCESS(seen[i].failure);
    if (i > 0)
      EXPECT_GT(seen[i].step, seen[i - 1].step);
  }
}

TEST_F(Checkpoint, aRankThatCannotWriteFailsTheSaveOnAll) {
  Program made = program(2, 1);
  SaverOptions options = into("D");
  std::filesystem::create_directories(options.directory + "/" + partialTagOf(4) + "/" + shardName(1, 2)); // in the way of rank 1's file
  onEveryRank(made, [&](Executor &executor) {
    EXPECT_SUCCESS(initializeStates(executor, {}));
    SaveResult result = save(executor, "D", 4);
    ASSERT_TRUE(result.failure.failed());
    EXPECT_EQ(result.failure.getError().rank, 1);
    EXPECT_NE(result.failure.message().find("open: Is a directory"), std::string::npos) << result.failure.message();
    EXPECT_SUCCESS(save(executor, "D", 5).failure);
  });
  EXPECT_FALSE(std::filesystem::exists(options.directory + "/" + partialTagOf(4)));
  Result<std::vector<std::string>> tags = listCheckpoints(options.directory);
  ASSERT_FALSE(tags.failed());
  EXPECT_EQ(*tags, std::vector<std::string>{"global_step5"});
}

TEST_F(Checkpoint, keepsTheNewestAndLeavesAFutureThatWasLeft) {
  Program made = program(1, 0);
  onEveryRank(made, [&](Executor &executor) {
    EXPECT_SUCCESS(initializeStates(executor, {}));
    for (int64_t step : {10, 20, 30, 15, 16, 16})
      EXPECT_SUCCESS(save(executor, "D", step, step < 15 ? 0 : 2).failure);
  });
  Result<std::vector<std::string>> tags = listCheckpoints(folder.path("D"));
  ASSERT_FALSE(tags.failed());
  EXPECT_EQ(*tags, (std::vector<std::string>{"global_step16", "global_step15", "global_step30", "global_step20"}));
  EXPECT_EQ(readLatest(folder.path("D")), "global_step16");
}

TEST_F(Checkpoint, everyChangedByteOfAnIndexIsReadOrRefusedAndOfAShardRefused) {
  const std::string path = saveTrained(2, 3), index = path + "/" + kIndexName, text = TemporaryFolder::read(index);
  int refused = 0;
  for (size_t i = 0; i < text.size(); ++i)
    for (char byte : {'\0', '"', '9', '[', char(0xff)}) {
      std::string changed = text;
      changed[i] = byte;
      Result<CheckpointIndex> parsed = parseIndex("index", changed);
      if (parsed.failed()) {
        ++refused;
        EXPECT_EQ(parsed.getStatus().kind(), ErrorKind::Input);
      }
    }
  EXPECT_GT(refused, int(text.size()));
  for (size_t length = 0; length + 1 < text.size(); length += 7)
    EXPECT_TRUE(parseIndex("index", text.substr(0, length)).failed()) << length;
  const std::string shard = path + "/" + shardName(1, 2), bytes = TemporaryFolder::read(shard);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    std::string changed = bytes;
    changed[i] ^= 4;
    std::ofstream(shard, std::ios::binary) << changed;
    Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
    EXPECT_TRUE(reader.failed() || (*reader)->verify().failed()) << "byte " << i;
  }
}

TEST_F(Checkpoint, indexesReadBackAndRefuseWhatTheyCannotMean) {
  const std::string path = saveTrained(3, 2), text = TemporaryFolder::read(path + "/" + kIndexName);
  Result<CheckpointIndex> index = parseIndex("index", text);
  ASSERT_FALSE(index.failed());
  EXPECT_EQ(toJson(*index), text);
  auto with = [&](const std::string &from, const std::string &to) {
    std::string changed = text;
    size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return parseIndex("index", changed.replace(at, from.size(), to)).getStatus();
  };
  EXPECT_EQ(with("\"version\": 1", "\"version\": 2").message(), "index: has version 2, but this zrun reads up to 1");
  EXPECT_NE(with("\"shard-00001", "\"../shard-00001").message().find("not a file beside it"), std::string::npos);
  EXPECT_NE(with("\"name\": \"a\"", "\"name\": \"b\"").message().find("names the tensor 'b' twice"), std::string::npos);
  EXPECT_NE(with("\"F32\"", "\"F33\"").message().find("unknown dtype 'F33'"), std::string::npos);
}

TEST_F(Checkpoint, convertsAndExports) {
  const std::string path = saveTrained(2, 1);
  Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
  ASSERT_FALSE(reader.failed());
  for (int64_t shards : {1, 3, 7}) {
    std::string to = folder.path(concat("converted", shards));
    EXPECT_SUCCESS(convertCheckpoint(**reader, to, shards));
    EXPECT_EQ(contents(to), contents(path));
    Result<std::shared_ptr<CheckpointReader>> converted = CheckpointReader::open(to);
    ASSERT_FALSE(converted.failed()) << converted.getStatus().message();
    EXPECT_SUCCESS((*converted)->verify());
    EXPECT_EQ((*converted)->index().shards.size(), size_t(shards));
    EXPECT_TRUE(convertCheckpoint(**reader, to, shards).failed()); // it is there already
  }
  ExportOptions options;
  options.sourceNames = true;
  options.floatType = DataType::BF16;
  EXPECT_SUCCESS(exportWeights(**reader, folder.path("weights.safetensors"), options));
  Result<SafetensorsFile> file = SafetensorsFile::open(folder.path("weights.safetensors"));
  ASSERT_FALSE(file.failed());
  const SafetensorsTensor *b = file->find("module.b");
  ASSERT_TRUE(b && file->find("a") && file->tensors().size() == 2u);
  EXPECT_EQ(b->type, DataType::BF16);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{5, 2}));
}

TEST_F(Checkpoint, differencesAreNamed) {
  const std::string path = saveTrained(2, 3);
  Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(path);
  ASSERT_FALSE(reader.failed());
  DataPosition data = (*reader)->index().data;
  auto kinds = [&](const Program &program, const DataPosition &position) {
    std::string text;
    for (const CheckpointDifference &difference : compareCheckpoint((*reader)->index(), program, position))
      text += difference.kind + ": " + difference.text + "\n";
    return text;
  };
  EXPECT_EQ(kinds(program(2, 0), data), "");
  Program other = program(2, 1);
  other.states[0].name = "c";
  other.states[1].shape = {129};
  EXPECT_EQ(kinds(other, data), "model: parameter 'c' [2, 5] is not in the checkpoint\nmodel: parameter 'a' has shape [129], but [130] in the checkpoint\nmodel: optimizer 'a.momentum' has shape [129], but [130] in the "
                                "checkpoint\nmodel: parameter 'b' [2, 5] of the checkpoint is not in the plan\n");
  other = program(2, 1);
  other.microBatch = 4;
  other.buckets[0].slotNames = {"square"};
  data.samples = 8;
  data.shuffle = true;
  EXPECT_EQ(kinds(other, data), "optimizer: the optimizer's state is square, but was momentum\nbatch: the global batch is 8, but was 4\ndata: the data has 8 samples, but had 7\ndata: samples are shuffled, but were not\n");
}

} // namespace
