//===- Options.cpp - zrun's command line ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Options.h"
#include "zopt/Runtime/Core/Schedule.h"
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>
#include <unistd.h>

namespace zopt::runtime {

static std::string defaultCacheDirectory() {
  if (const char *cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return std::string(cache) + "/zopt";
  if (const char *home = std::getenv("HOME"); home && *home)
    return std::string(home) + "/.cache/zopt";
  return "/tmp/zopt-cache-" + std::to_string(getuid());
}

Result<Parsed> parseOptions(int argc, char **argv, RunOptions &options) {
  CLI::App app("Executes a plan that zopt has made.", "zrun");
  app.option_defaults()->always_capture_default(false);
  app.set_help_flag("-h,--help", "Print this help");

  app.add_option("plan", options.plan, "The plan, plan.mlir");
  auto *ranks = app.add_option("--nproc", options.ranks, "Ranks on this machine (1)")->check(CLI::Range(1, 65536));
  app.add_option("--target", options.target, "auto, cpu or cuda (auto: cuda if every rank here has a GPU)")->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--comm", options.comm,
                 "mpi, nccl, gloo (with --launcher=env), or local: ranks are threads of one process (nccl where every "
                 "rank has a GPU, otherwise mpi or gloo)")
      ->check(CLI::IsMember({"auto", "mpi", "local", "nccl", "gloo"}));
  app.add_option("--launcher", options.launcher,
                 "auto, or env: this process is a rank that torchrun, Kubernetes or a script has started, as RANK, "
                 "WORLD_SIZE, MASTER_ADDR and MASTER_PORT say (auto)")
      ->check(CLI::IsMember({"auto", "env"}));
  app.add_option("--threads", options.threads, "Threads a rank (cores / ranks of the machine, at least 1)")->check(CLI::Range(1, 4096));
  app.add_option("--hostfile", options.hostfile, "Nodes to start ranks on, in MPI's or DeepSpeed's format")->check(CLI::ExistingFile);
  auto *include = app.add_option("--include", options.include, "Of the hostfile only these: NAME[:SLOT,...][@NAME...]");
  app.add_option("--exclude", options.exclude, "Of the hostfile all but these")->excludes(include);
  app.add_option("--save-plan", options.savePlan, "Write the final plan that is run");
  app.add_flag("--autotune", options.autotune, "Time the GPU's algorithms for each matrix product first and take the fastest; --save-plan keeps them");
  app.add_option("--timeout", options.timeoutSeconds, "Seconds to wait for a collective or a peer (600)")->check(CLI::PositiveNumber);
  app.add_option("--cache-dir", options.cacheDirectory, "Where compiled plans are kept ($XDG_CACHE_HOME/zopt)");

  app.add_option("--data", options.data.files, "Files with the samples, or patterns of their names; without it batches are synthetic")->expected(1, -1);
  const std::map<std::string, DataFormat> formats = {{"auto", DataFormat::Auto}, {"safetensors", DataFormat::Safetensors}, {"bytes", DataFormat::Bytes}, {"tokens", DataFormat::Tokens}, {"jsonl", DataFormat::Jsonl}};
  const std::map<std::string, TokenType> tokenTypes = {{"auto", TokenType::Auto}, {"uint16", TokenType::UInt16}, {"uint32", TokenType::UInt32}};
  std::string format = "auto", tokenType = "auto";
  app.add_option("--data-format", format, "How to read them (auto: by the name's ending)")->check(CLI::IsMember({"auto", "safetensors", "bytes", "tokens", "jsonl"}));
  app.add_option("--token-dtype", tokenType, "Elements of a token file without a header")->check(CLI::IsMember({"uint16", "uint32"}));
  bool shift = false, noShift = false;
  auto *shiftFlag = app.add_flag("--shift-labels", shift, "Shift labels that are equal to the inputs");
  app.add_flag("--no-shift-labels", noShift, "Take labels as they are, even where they look unshifted")->excludes(shiftFlag);
  std::string badRecords = "stop", longRows = "truncate";
  const CLI::Option *jsonlFlags[] = {
  app.add_option("--bad-records", badRecords, "stop or skip: what a bad record of jsonl means (stop)")->check(CLI::IsMember({"stop", "skip"})),
  app.add_option("--long-rows", longRows, "truncate or drop rows of jsonl that are longer than the plan's sequence (truncate)")->check(CLI::IsMember({"truncate", "drop"})),
  app.add_option("--pad-token", options.data.jsonl.padToken, "Token behind rows of jsonl that are shorter (0)"),
  app.add_flag("--pack", options.data.jsonl.pack, "Put several rows of jsonl into one sequence, where the plan's attention_mask keeps them apart")};
  app.add_option("--eval-data", options.evaluation.files, "Held-out samples, as --data: their loss is measured during training, by a plan of zopt --eval")->expected(1, -1);
  auto *evalEvery = app.add_option("--eval-every", options.evaluationEvery, "Steps between evaluations (an epoch); there is one more at the end")->check(CLI::PositiveNumber);
  auto *evalSteps = app.add_option("--eval-steps", options.evaluationSteps, "Batches of an evaluation, one of a micro-batch a rank each (all of the data)")->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps, "Steps to run (one epoch; 100 of synthetic data)")->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs, "Epochs to run")->check(CLI::PositiveNumber);
  app.add_option("--num-workers", options.workers, "Threads of a rank that read batches ahead; they change no batch (0: read between steps)")->check(CLI::Range(0, 1024));
  app.add_flag("--shuffle", options.data.shuffle, "Visit samples in random order");
  app.add_option("--seed", options.seed, "Of the shuffle, of --init and of dropout (0)");

  app.add_option("--lr", options.learningRate, "Learning rate, in place of the plan's")->check(CLI::NonNegativeNumber);
  app.add_option("--schedule", options.schedule, "Schedule of the learning rate, in place of the plan's: TYPE[,key=value...]");
  app.add_option("--clip", options.clip, "Largest gradient norm, in place of the plan's; 0: no clipping")->check(CLI::NonNegativeNumber);
  app.add_option("--weight-decay", options.weightDecay, "Weight decay, in place of the plan's, of all parameters that have none of their own")->check(CLI::NonNegativeNumber);
  app.add_option("--weights", options.weights, "Initial weights, safetensors (those of the model file)");
  app.add_option("--config", options.config,
                 "A DeepSpeed config or a job, for what the command line does not say, in place of the plan's")
      ->check(CLI::ExistingFile);
  std::string initialization = "model", names = "onnx", report, nonFinite = "skip";
  app.add_option("--init", initialization, "Initial values: model, normal:STD or gpt2 (model)");
  app.add_option("--names", names, "Names in weights files: onnx or source (onnx)")->check(CLI::IsMember({"onnx", "source"}));
  app.add_option("--metrics", options.metrics, "Write metrics, a JSON object a line");
  app.add_option("--csv", options.csv, "Write the steps as a table of comma-separated values");
  app.add_option("--tensorboard", options.tensorBoard, "Write the steps as TensorBoard's event files into this folder");
  app.add_option("--prometheus", options.prometheusPort, "Answer on this port of 127.0.0.1, where rank 0 is, with the last step")->check(CLI::Range(1, 65535));
  app.add_option("--peak-flops", options.peakFlops, "What a device (a rank) can do at most, floating-point operations a second, for MFU (by the GPU's model, where it is known)")->check(CLI::PositiveNumber);
  app.add_option("--on-metrics", options.onMetrics, "Start this command and write each record of --metrics to its input");
  app.add_option("--wandb", options.wandb, "Give each record to Weights & Biases: project=P,group=G,team=T,name=N");
  app.add_option("--print-every", options.printEvery,
                 "Steps between lines of progress (a line every few seconds, or a bar on a terminal)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--breakdown", options.breakdown,
               "Every --print-every steps (10), say where the time of that step went");
  app.add_option("--weights-out", options.weightsOut, "Write the final weights, safetensors");
  app.add_option("--ema-out", options.averageOut, "Write the moving average of the weights, safetensors");
  app.add_option("--gradients-out", options.gradientsOut, "Write the gradients of the last step, safetensors");
  app.add_option("--outputs", options.outputs, "Write the outputs of a forward plan, safetensors");
  auto *reportOption = app.add_flag("--memory-report{text}", report, "Print planned and measured peak of each tier; =json as JSON")->check(CLI::IsMember({"json", "text"}));
  app.add_option("--trace", options.trace, "Write a Chrome trace of one step of every rank");
  app.add_option("--comm-log", options.commLog, "Write what collectives of each kind and size took, JSON, and print it as a table; on a GPU steps are then issued command by command");
  app.add_option("--nonfinite", nonFinite, "skip, stop, or rollback to the last checkpoint: what a step with a non-finite norm means (skip)")->check(CLI::IsMember({"skip", "stop", "rollback"}));
  addCheckpointFlags(app, options.checkpoint);
  app.add_flag("--doctor", options.doctor, "Say what this machine has");
  app.add_flag("--dry-run", options.dryRun, "Check everything that a run needs, and run no step");

  app.add_option("--internal-program", options.program)->group("");
  app.add_flag("--internal-csv-folder", options.csvFolder)->group("");
  app.add_flag("--internal-settled", options.settled)->group("");
  app.add_option("--internal-status", options.statusDirectory)->group("");

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &request) {
    app.exit(request);
    return Parsed::Exit;
  } catch (const CLI::ParseError &error) {
    std::string text = error.what();
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
      text.pop_back();
    for (char &character : text)
      if (character == '\n')
        character = ' ';
    return usageError(text, " (zrun --help lists the flags)");
  }

  for (const CLI::Option *option : app.get_options())
    if (option->count() > 0 && !option->get_lnames().empty()) {
      std::string &values = options.given[option->get_lnames()[0]];
      for (const std::string &value : option->results())
        values += (values.empty() ? "" : "\n") + value;
    }
  if (options.schedule)
    if (Result<Schedule> schedule = Schedule::parse(*options.schedule); schedule.failed())
      return usageError("--schedule: ", schedule.getStatus().message());
  options.ranksGiven = ranks->count() > 0;
  options.data.format = formats.at(format);
  options.data.tokenType = tokenTypes.at(tokenType);
  options.data.labelShift = shift ? LabelShift::Shift : noShift ? LabelShift::Keep : LabelShift::Check;
  options.data.seed = options.seed;
  options.data.jsonl.badRecords = badRecords == "skip" ? JsonlOptions::BadRecords::Skip : JsonlOptions::BadRecords::Stop;
  options.data.jsonl.longRows = longRows == "drop" ? JsonlOptions::LongRows::Drop : JsonlOptions::LongRows::Truncate;
  for (const CLI::Option *flag : jsonlFlags)
    options.data.jsonl.given |= flag->count() > 0;
  ZOPT_RETURN_IF_FAILED(expandPatterns(options.data.files));
  if (options.evaluation.files.empty()) {
    for (const CLI::Option *flag : {evalEvery, evalSteps})
      if (flag->count() > 0)
        return usageError(flag->get_name(), " is about --eval-data, which is not given");
    if (options.checkpoint.keepBest)
      return usageError("--keep-best goes by the loss of --eval-data, which is not given");
  }
  {
    DatasetOptions evaluation = options.data;
    evaluation.files = std::move(options.evaluation.files);
    ZOPT_RETURN_IF_FAILED(expandPatterns(evaluation.files));
    evaluation.shuffle = false;
    evaluation.jsonl.given = false; // the flags may be about --data alone
    evaluation.evaluation = true;
    options.evaluation = std::move(evaluation);
  }
  options.sourceNames = names == "source";
  options.stopAtNonFinite = nonFinite == "stop";
  options.rollBackAtNonFinite = nonFinite == "rollback";
  if (reportOption->count() > 0)
    options.memoryReport = report == "json" ? RunOptions::Report::Json : RunOptions::Report::Text;
  ZOPT_RETURN_IF_FAILED(parseInitialization(initialization, options.initialization));
  options.initialization.seed = options.seed;
  ZOPT_RETURN_IF_FAILED(readCheckpointFlags(options.checkpoint));
  if (options.rollBackAtNonFinite && options.checkpoint.directory.empty())
    return usageError("--nonfinite=rollback goes back to checkpoints, but there is no --checkpoint-dir");
  if (options.cacheDirectory.empty())
    options.cacheDirectory = defaultCacheDirectory();
  if (options.plan.empty() && !options.doctor)
    return usageError("a plan is wanted: zrun plan.mlir (zrun --help lists the flags)");
  if (!options.hostfile.empty() && options.comm == "local")
    return usageError("--hostfile starts ranks on other machines, which --comm=local cannot");
  if (options.hostfile.empty() && !(options.include.empty() && options.exclude.empty()))
    return usageError(options.include.empty() ? "--exclude" : "--include",
                      " chooses among the machines of --hostfile, but there is none");
  if (options.launcher == "env" && !options.hostfile.empty())
    return usageError(
        "--hostfile starts ranks on other machines, but with --launcher=env somebody else has started them");
  if (options.launcher == "env" && (options.comm == "mpi" || options.comm == "local"))
    return usageError("--launcher=env connects ranks by gloo or nccl, but --comm is ", options.comm);
  if (options.launcher != "env" && options.comm == "gloo")
    return usageError("--comm=gloo connects ranks that were started with --launcher=env");
  if (options.comm == "nccl" && options.target == "cpu")
    return usageError("--comm=nccl connects GPUs, but --target is cpu");
  if (!options.csv.empty() && options.csv == options.metrics)
    return usageError("--csv and --metrics both name ", options.csv);
  if (options.autotune && options.target == "cpu")
    return usageError("--autotune times products on a GPU, but --target is cpu");
  size_t slash = options.plan.rfind('/');
  options.initialization.planDirectory = slash == std::string::npos ? "" : options.plan.substr(0, slash + (slash == 0));
  options.arguments.assign(argv + 1, argv + argc);
  return Parsed::Run;
}

} // namespace zopt::runtime
