//===- CheckpointTool.cpp - zrun ckpt -------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/CheckpointTool.h"
#include "zopt/Export/OnnxWeights.h"
#include "zopt/Runtime/Checkpoint/Directory.h"
#include "zopt/Runtime/Checkpoint/Export.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Launch/Child.h"
#include "zopt/Runtime/Launch/Compile.h"
#include "zopt/Runtime/Launch/Run.h"
#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

bool isCheckpoint(const std::string &path) {
  struct stat information;
  return ::stat((path + "/" + kIndexName).c_str(), &information) == 0;
}

/// A checkpoint, or those of a folder in the order in which a run would take them.
Result<std::vector<std::string>> checkpointsAt(const std::string &path) {
  if (isCheckpoint(path))
    return std::vector<std::string>{path};
  struct stat information;
  if (::stat(path.c_str(), &information) != 0)
    return inputError(path, ": is not there");
  Result<std::vector<std::string>> tags = listCheckpoints(path);
  if (!tags.failed())
    for (std::string &tag : *tags)
      tag = path + "/" + tag;
  return tags;
}

/// The one that a run would go on from.
Result<std::shared_ptr<CheckpointReader>> openNewest(const std::string &path) {
  Result<std::vector<std::string>> paths = checkpointsAt(path);
  if (paths.failed())
    return paths.getStatus();
  if (paths->empty())
    return inputError(path, ": holds no checkpoint and is none");
  Result<std::shared_ptr<CheckpointReader>> reader = CheckpointReader::open(paths->front());
  if (reader.failed())
    return reader;
  ZOPT_RETURN_IF_FAILED((*reader)->verify());
  return reader;
}

void print(const std::string &line) { std::fputs((line + "\n").c_str(), stdout); }

std::string timeText(double seconds) {
  time_t time = time_t(seconds);
  tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

Status info(const std::string &path, bool json) {
  Result<std::vector<std::string>> paths = checkpointsAt(path);
  if (paths.failed())
    return paths.getStatus();
  if (paths->empty())
    return inputError(path, ": holds no checkpoint and is none");
  std::string problems;
  for (const std::string &each : *paths) {
    Result<std::shared_ptr<CheckpointReader>> opened = CheckpointReader::open(each);
    if (opened.failed()) {
      problems += (problems.empty() ? "" : "\n") + opened.getStatus().message();
      continue;
    }
    const CheckpointIndex &index = (*opened)->index();
    if (json) {
      std::fputs(toJson(index).c_str(), stdout);
      continue;
    }
    int64_t parameters = 0, bytes = 0;
    for (const LogicalTensor &tensor : index.tensors)
      if (tensor.role == Role::Parameter)
        parameters += elementCount(tensor.shape);
    for (const ShardEntry &shard : index.shards)
      bytes += shard.bytes;
    std::string slots;
    for (const std::string &slot : index.slots)
      slots += (slots.empty() ? "" : ", ") + slot;
    print(each);
    print(concat("  step ", index.step, ", ", timeText(index.time), ", ", bytes, " bytes in ", index.shards.size(),
                 " shards"));
    print(concat("  ", parameters, " parameters of ", index.model,
                 ", optimizer state: ", slots.empty() ? "none" : slots));
    print(concat("  global batch ", index.globalBatch(), " = ", index.microBatch, " x ", index.accumSteps, " x ",
                 index.worldSize, " ranks (any other world reads it)"));
    print(concat("  data: epoch ", index.data.epoch, ", ", index.data.position, " of ", index.data.samples,
                 " samples, ", index.data.shuffle ? concat("shuffled with seed ", index.data.seed) : "in order"));
    if (paths->size() > 1 || each != path)
      continue;
    for (const SavedScalar &scalar : index.scalars)
      print(concat("  scalar ", scalar.name, " = ", loadAsDouble(scalar.type, &scalar.bits, 0)));
    for (const LogicalTensor &tensor : index.tensors)
      print(concat("  ", roleName(tensor.role), " ", tensor.name, " ", nameOf(tensor.type), " ",
                   shapeText(tensor.shape)));
  }
  return problems.empty() ? success() : inputError(problems);
}

Status verify(const std::vector<std::string> &given) {
  std::string problems;
  for (const std::string &path : given) {
    Result<std::vector<std::string>> paths = checkpointsAt(path);
    if (paths.failed())
      return paths.getStatus();
    std::string good;
    for (const std::string &each : *paths) {
      Result<std::shared_ptr<CheckpointReader>> opened = CheckpointReader::open(each);
      Status status = opened.failed() ? opened.getStatus() : (*opened)->verify();
      if (status.failed()) {
        problems += (problems.empty() ? "" : "\n") + status.message();
        continue;
      }
      if (good.empty())
        good = each;
      print(each + ": every byte is as it was written");
    }
    if (!isCheckpoint(path))
      print(good.empty() ? path + ": holds no checkpoint" : path + ": a run would go on from " + good);
  }
  return problems.empty() ? success() : inputError(problems);
}

/// The model that was trained, with the weights of a checkpoint. They pass through a file beside the output, which a
/// child that knows ONNX reads.
Status exportOnnx(const CheckpointReader &reader, const std::string &model, const std::string &output,
                  int64_t inlineBytes) {
  ZOPT_RETURN_IF_FAILED(checkWritable(output));
  const std::string weights = concat(output, ".weights-", long(getpid()));
  ExportOptions options;
  options.ties = true;
  Status written = exportWeights(reader, weights, options);
  Result<std::string> answer =
      written.failed() ? Result<std::string>(written) : askChild(model + ": export", [&]() -> ChildAnswer {
        std::string problem = "not found";
        void *handle = loadCompiler(problem);
        auto write = handle ? reinterpret_cast<decltype(&zoptExportOnnx)>(dlsym(handle, "zoptExportOnnx")) : nullptr;
        if (!write)
          return {3, "libZoptCompiler.so: " + (handle ? std::string(dlerror()) : problem)};
        char *error = nullptr;
        int code = write(model.c_str(), weights.c_str(), output.c_str(), inlineBytes, &error);
        return {code, error ? error : ""};
      });
  ::unlink(weights.c_str());
  return answer.getStatus();
}

} // namespace

int runCheckpointTool(int argc, char **argv) {
  CLI::App app("Looks at checkpoints and writes them as other files.", "zrun ckpt");
  app.require_subcommand(1);
  std::string from, to, names = "onnx", type, modelPath;
  std::vector<std::string> paths;
  bool json = false;
  int64_t shards = 1;
  double shardBytes = 0, inlineBytes = double(int64_t(1) << 30); // protobuf ends at 2 GiB
  auto *infoCommand = app.add_subcommand("info", "Say what is in a checkpoint, or in a folder of them");
  infoCommand->add_option("path", from, "A checkpoint, or a folder of them")->required();
  infoCommand->add_flag("--json", json, "Print the index");
  auto *verifyCommand = app.add_subcommand("verify", "Read every byte and compare checksums");
  verifyCommand->add_option("paths", paths, "Checkpoints, or folders of them")->required();
  auto *convertCommand = app.add_subcommand("convert", "Write a checkpoint once more, as another number of shards");
  convertCommand->add_option("path", from, "A checkpoint, or a folder whose newest is meant")->required();
  convertCommand->add_option("output", to, "The new checkpoint")->required();
  convertCommand->add_option("--shards", shards, "Files to write (1)")->check(CLI::Range(1, 65536));
  auto *exportCommand = app.add_subcommand("export", "Write the weights of a checkpoint as safetensors");
  exportCommand->add_option("path", from, "A checkpoint, or a folder whose newest is meant")->required();
  exportCommand->add_option("output", to, "The file; with --shard-bytes the folder")->required();
  exportCommand->add_option("--names", names, "onnx, or source: names and layouts of the source model (onnx)")
      ->check(CLI::IsMember({"onnx", "source"}));
  exportCommand->add_option("--dtype", type, "f32, bf16 or f16, for floating-point weights (as saved)")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  exportCommand->add_option("--shard-bytes", shardBytes, "Most bytes a file, which makes several and an index (5e9)")
      ->check(CLI::PositiveNumber);

  auto *modelOption =
      exportCommand
          ->add_option("--model", modelPath,
                       "Write an ONNX model instead: this one, which the plan was made of, with the checkpoint's weights")
          ->excludes("--names")
          ->excludes("--dtype")
          ->excludes("--shard-bytes");
  exportCommand
      ->add_option("--inline-bytes", inlineBytes,
                   "With --model: weights of more bytes go into a file of their own beside the model (2^30)")
      ->check(CLI::Range(0.0, double(int64_t(1) << 30)))
      ->needs(modelOption);

  auto fail = [](const Status &status) {
    reportError(status);
    return int(status.kind());
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &request) {
    return app.exit(request);
  } catch (const CLI::ParseError &error) {
    std::string text = error.what();
    for (char &character : text)
      if (character == '\n')
        character = ' ';
    return fail(usageError(text, " (zrun ckpt --help lists the commands)"));
  }
  auto run = [&]() -> Status {
    if (infoCommand->parsed())
      return info(from, json);
    if (verifyCommand->parsed())
      return verify(paths);
    Result<std::shared_ptr<CheckpointReader>> reader = openNewest(from);
    if (reader.failed())
      return reader.getStatus();
    if (convertCommand->parsed())
      return convertCheckpoint(**reader, to, shards);
    ExportOptions options;
    options.sourceNames = names == "source";
    options.shardBytes = int64_t(shardBytes);
    if (!type.empty())
      options.floatType = type == "f32" ? DataType::F32 : type == "bf16" ? DataType::BF16 : DataType::F16;
    if (modelPath.empty())
      return exportWeights(**reader, to, options);
    return exportOnnx(**reader, modelPath, to, int64_t(inlineBytes));
  };
  Status status = run();
  return status.failed() ? fail(status) : 0;
}

} // namespace zopt::runtime
