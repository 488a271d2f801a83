//===- Driver.cpp - zopt's command line -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two ways through: with a pass, a --pass-pipeline or a testing flag zopt is an mlir-opt over our dialects (ONNX input is imported first); otherwise the flags below make the pipeline.
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/Driver.h"
#include "zopt/Compiler/AutoStage.h"
#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/ConfigFile.h"
#include "zopt/Compiler/MemoryReport.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Config/Job.h"
#include "zopt/Config/Keys.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Import/ImportOnnx.h"
#include "zopt/Runtime/Core/Schedule.h"
#include "zopt/Transforms/LossTerms.h"
#include "zopt/Transforms/PrecisionRules.h"
#include "mlir/Debug/Counter.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Support/Timing.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/ToolOutputFile.h"
#include <csignal>

using namespace mlir;
using namespace zopt;
namespace cl = llvm::cl;

namespace {

constexpr int kExitInput = 1, kExitUsage = 2, kExitFile = 3;

/// libLLVM registers flags of its own tools under common names (--threads, ...). Ours win: the library's are taken off the command line.
template <size_t N>
const char (&ownName(const char (&name)[N]))[N] {
  auto &registered = cl::getRegisteredOptions();
  if (auto it = registered.find(name); it != registered.end())
    it->second->removeArgument();
  return name;
}

/// Every flag of zopt. One object lives for the duration of `zoptMain`, so that nothing is registered before it.
struct Flags {
  cl::OptionCategory category{"zopt options"};
  template <typename T> using Opt = cl::opt<T>;

  Opt<std::string> input{cl::Positional, cl::desc("<model.onnx | module.mlir>"), cl::init("-"), cl::cat(category)};
  Opt<std::string> output{ownName("o"), cl::desc("output file (- is stdout)"), cl::value_desc("file"), cl::init("-"), cl::cat(category)};

  Opt<std::string> mode{ownName("mode"), cl::desc("train | gradient | forward (train)"), cl::init("train"), cl::cat(category)};
  Opt<std::string> zeroStage{ownName("zero-stage"),
                             cl::desc("placement of optimizer state, gradients, parameters: 0..3, or auto: by the "
                                      "number of parameters and the memory (0)"),
                             cl::init("0"), cl::cat(category)};
  Opt<int64_t> deviceMemory{ownName("device-memory"),
                            cl::desc("bytes a rank that --zero-stage=auto plans for (of a CPU: this machine's, or its "
                                     "memory group's limit, over --nproc)"),
                            cl::init(0), cl::cat(category)};
  Opt<bool> bf16{ownName("bf16"), cl::desc("compute in bf16 with fp32 masters"), cl::cat(category)};
  Opt<bool> fp16{ownName("fp16"), cl::desc("compute in fp16 with fp32 masters and a scaled loss"), cl::cat(category)};
  Opt<std::string> lossScale{ownName("loss-scale"), cl::desc("of fp16: dynamic, or the scale itself (dynamic)"), cl::init("dynamic"), cl::cat(category)};
  Opt<int64_t> lossScaleInitPower{ownName("loss-scale-init-power"), cl::desc("a dynamic scale begins at 2 to this power (16)"), cl::init(16), cl::cat(category)};
  Opt<int64_t> lossScaleWindow{ownName("loss-scale-window"), cl::desc("finite steps until it doubles (1000)"), cl::init(1000), cl::cat(category)};
  Opt<int64_t> lossScaleHysteresis{ownName("loss-scale-hysteresis"), cl::desc("overflows until it halves (2)"), cl::init(2), cl::cat(category)};
  Opt<bool> lossScaleConsecutiveHysteresis{ownName("loss-scale-consecutive-hysteresis"), cl::desc("a finite step restores the hysteresis"), cl::cat(category)};
  Opt<double> lossScaleMin{ownName("loss-scale-min"), cl::desc("the least scale (1)"), cl::init(1), cl::cat(category)};
  Opt<bool> fp64{ownName("fp64"), cl::desc("everything in f64, for tests"), cl::cat(category)};
  Opt<std::string> gradDtype{ownName("grad-dtype"), cl::desc("bf16 | fp16 | fp32: type in which gradients are produced and travel (the compute precision)"), cl::cat(category)};
  Opt<int64_t> microBatch{ownName("micro-batch"), cl::desc("samples a rank and micro-step (1)"), cl::init(0), cl::cat(category)};
  Opt<int64_t> gradAccum{ownName("grad-accum"), cl::desc("micro-steps a step (1)"), cl::init(0), cl::cat(category)};
  Opt<int64_t> globalBatch{ownName("global-batch"), cl::desc("samples a step, over all ranks"), cl::init(0), cl::cat(category)};
  cl::list<std::string> bind{ownName("bind"), cl::desc("values of symbolic dimensions, such as seq=128"), cl::CommaSeparated, cl::cat(category)};
  Opt<std::string> batchDim{ownName("batch-dim"), cl::desc("symbolic dimension that is the batch"), cl::cat(category)};
  Opt<std::string> loss{ownName("loss"), cl::desc("cross_entropy | mse | bce_with_logits | l1 | output[:NAME] | onnx:FILE, or a sum of terms [WEIGHT*]KIND[:OUTPUT[:LABELS]] (cross_entropy)"), cl::init("cross_entropy"), cl::cat(category)};
  Opt<std::string> logits{ownName("logits"), cl::desc("graph output that feeds the loss (the first float output)"), cl::cat(category)};
  Opt<std::string> labels{ownName("labels"), cl::desc("the labels' name in the data (labels)"), cl::init("labels"), cl::cat(category)};
  Opt<int64_t> ignoreIndex{ownName("ignore-index"), cl::desc("label that does not count (-100)"), cl::init(-100), cl::cat(category)};
  Opt<double> labelSmoothing{ownName("label-smoothing"), cl::desc("0 <= F < 1 (0)"), cl::init(0), cl::cat(category)};
  Opt<int64_t> classAxis{ownName("class-axis"), cl::desc("axis of the classes in the logits (-1)"), cl::init(-1), cl::cat(category)};
  Opt<std::string> lossAverage{ownName("loss-average"), cl::desc("global | micro-batch (global)"), cl::init("global"), cl::cat(category)};
  Opt<std::string> classWeights{ownName("class-weights"), cl::desc("of cross_entropy: a weight for each class, W,W,... or FILE.json"), cl::cat(category)};
  Opt<std::string> positiveWeights{ownName("pos-weight"), cl::desc("of bce_with_logits: the weight of positive labels, W, or W,W,... or FILE.json for each column"), cl::cat(category)};
  Opt<std::string> keepFp32{ownName("keep-fp32"), cl::desc("of --bf16 and --fp16: nodes and ops that compute in fp32, by REGEX"), cl::cat(category)};
  cl::list<std::string> trainOnly{ownName("train-only"), cl::desc("train only the initializers that match REGEX or that @FILE lists"), cl::cat(category)};
  cl::list<std::string> freeze{ownName("freeze"), cl::desc("do not train the initializers that match REGEX or that @FILE lists"), cl::cat(category)};
  Opt<bool> tieWeights{ownName("tie-weights"), cl::desc("train initializers of equal content as one parameter"), cl::cat(category)};
  Opt<bool> syncBatchNorm{ownName("sync-batchnorm"),
                          cl::desc("Normalize batches by statistics of all ranks, not of each rank's micro-batch"),
                          cl::init(false), cl::cat(category)};
  Opt<std::string> trainingMode{ownName("training-mode"), cl::desc("keep | train | eval (keep)"), cl::init("keep"), cl::cat(category)};
  Opt<bool> evaluation{ownName("eval"), cl::desc("give the plan an @eval_step, which zrun --eval-data runs"), cl::cat(category)};
  Opt<std::string> optimizer{ownName("optimizer"), cl::desc("adamw | adam | sgd | adagrad | lion | lamb | muon (adamw)"), cl::init("adamw"), cl::cat(category)};
  Opt<double> lr{ownName("lr"), cl::desc("learning rate (1e-3)"), cl::init(1e-3), cl::cat(category)};
  Opt<std::string> betas{ownName("betas"), cl::desc("Adam's coefficients (0.9,0.999)"), cl::init("0.9,0.999"), cl::cat(category)};
  Opt<double> eps{ownName("eps"), cl::desc("Adam's epsilon (1e-8)"), cl::init(1e-8), cl::cat(category)};
  Opt<double> weightDecay{ownName("weight-decay"), cl::desc("weight decay (0.01)"), cl::init(0.01), cl::cat(category)};
  Opt<double> momentum{ownName("momentum"), cl::desc("SGD's (0) or Muon's (0.95) momentum"), cl::init(0), cl::cat(category)};
  Opt<double> adamRate{ownName("adam-lr"), cl::desc("Muon: learning rate of what AdamW updates; 0: --lr (0)"), cl::init(0), cl::cat(category)};
  Opt<std::string> muonExclude{ownName("muon-exclude"), cl::desc("Muon: matrices that AdamW updates, by REGEX in any case, beside tables of embeddings (embed|lm_head)"), cl::init("embed|lm_head"), cl::cat(category)};
  Opt<bool> nesterov{ownName("nesterov"), cl::desc("Nesterov's momentum, of SGD"), cl::cat(category)};
  cl::list<std::string> parameterGroups{ownName("param-group"), cl::desc("REGEX:lr=X,weight-decay=Y: parameters with a rate or decay of their own; the first that matches counts"), cl::cat(category)};
  Opt<double> averageDecay{ownName("ema"), cl::desc("decay of a moving average of the parameters; 0: none (0)"), cl::init(0), cl::cat(category)};
  Opt<std::string> schedule{ownName("schedule"), cl::desc("of the learning rate: TYPE[,key=value...], TYPE WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest, constant, linear or cosine (constant)"), cl::cat(category)};
  Opt<double> clip{ownName("clip"), cl::desc("largest global gradient norm; 0: no clipping (0)"), cl::init(0), cl::cat(category)};
  Opt<std::string> decay{ownName("decay"), cl::desc("all | matrices: what weight decay applies to (all)"), cl::init("all"), cl::cat(category)};
  Opt<std::string> noDecay{ownName("no-decay"), cl::desc("parameters without weight decay, by REGEX"), cl::cat(category)};
  Opt<std::string> bucketBytes{ownName("bucket-bytes"), cl::desc("ZeRO bucket size: N | auto (auto)"), cl::init("auto"), cl::cat(category)};
  Opt<std::string> recompute{ownName("recompute"), cl::desc("what backward computes again instead of keeping it: none, selective or full (none)"), cl::init("none"), cl::cat(category)};
  Opt<int64_t> persistBytes{ownName("persist-bytes"), cl::desc("parameters up to this size stay replicated (0)"), cl::init(0), cl::cat(category)};
  Opt<int64_t> nproc{ownName("nproc"), cl::desc("specialize to a final plan for N ranks"), cl::init(0), cl::cat(category)};
  Opt<bool> portable{
      ownName("portable"),
      cl::desc(
          "write the portable plan; --nproc is for what a config and --zero-stage=auto leave to the number of ranks"),
      cl::cat(category)};
  Opt<std::string> target{ownName("target"), cl::desc("cpu | cuda (cpu)"), cl::init("cpu"), cl::cat(category)};
  Opt<std::string> chip{ownName("chip"), cl::desc("sm_80 | sm_90: the oldest GPU that a plan for cuda runs on (sm_90)"), cl::init("sm_90"), cl::cat(category)};
  Opt<int64_t> threads{ownName("threads"), cl::desc("threads a rank (CPUs / ranks)"), cl::init(0), cl::cat(category)};
  Opt<bool> keepCollectives{ownName("keep-collectives"), cl::desc("place and exchange on one rank as on several"), cl::cat(category)};
  Opt<bool> noFuse{ownName("no-fuse"), cl::desc("one kernel for each elementwise op; changes no bit"), cl::cat(category)};
  Opt<bool> noRaise{ownName("no-raise"), cl::desc("keep the exporter's expansions of attention, norms and activations"), cl::cat(category)};
  cl::opt<std::string> memoryReport{ownName("memory-report"), cl::desc("bytes a rank and class at the planned peak: text or json; with --nproc"), cl::ValueOptional, cl::init("none"), cl::cat(category)};
  Opt<bool> verifyPlan{ownName("verify-plan"), cl::desc("check a final plan without running it"), cl::cat(category)};
  Opt<bool> printPipeline{ownName("print-pipeline"), cl::desc("print the pipeline that these flags make, and do nothing else"), cl::cat(category)};
  Opt<bool> listPrecision{ownName("list-precision"), cl::desc("list what each op computes in under --bf16 and --fp16"), cl::cat(category)};
  Opt<bool> listOps{ownName("list-ops"), cl::desc("list the ONNX operators that import and that differentiate"), cl::cat(category)};
  Opt<std::string> config{ownName("config"),
                          cl::desc("settings of a DeepSpeed config (JSON) or of a job (YAML); flags override them"),
                          cl::value_desc("file"), cl::cat(category)};
  Opt<bool> configCheck{ownName("config-check"), cl::desc("print the effective configuration and where each value comes from as JSON, and do nothing else"), cl::cat(category)};
  Opt<bool> strict{ownName("strict"), cl::desc("refuse a config that has keys without effect here, or that needed interpretation"), cl::cat(category)};
  Opt<bool> listConfigKeys{ownName("list-config-keys"), cl::desc("list every key of a DeepSpeed config and what becomes of it"), cl::cat(category)};
  Opt<bool> listParameters{ownName("list-parameters"), cl::desc("list every initializer, trained or not, and why"), cl::cat(category)};

  bool configGiven = false;
  /// What a config may say, or its effective configuration shows.
  std::vector<FlagValue> settings();
};

std::string textOf(bool value) { return value ? "true" : "false"; }
std::string textOf(int64_t value) { return std::to_string(value); }
/// The shortest text that reads back as the same number.
std::string textOf(double value) { return nlohmann::json(value).dump(); }
std::string textOf(const std::string &value) { return value; }
std::string textOf(const std::vector<std::string> &values) { return llvm::join(values, "\n"); }

std::vector<FlagValue> Flags::settings() {
  std::vector<FlagValue> all;
  auto add = [&](auto &...options) { (all.push_back({&options, textOf(options.getValue())}), ...); };
  add(mode, zeroStage, bf16, fp16, fp64, lossScale, lossScaleInitPower, lossScaleWindow, lossScaleHysteresis, lossScaleConsecutiveHysteresis, lossScaleMin, gradDtype, microBatch, gradAccum, globalBatch);
  add(loss, logits, labels, ignoreIndex, labelSmoothing, classAxis, lossAverage, tieWeights, trainingMode, syncBatchNorm, evaluation);
  for (cl::list<std::string> *list : {std::addressof(bind), std::addressof(trainOnly), std::addressof(freeze)})
    if (list->getNumOccurrences() || configGiven)
      all.push_back({list, textOf(std::vector<std::string>(list->begin(), list->end()))});
  add(optimizer, lr, betas, eps, weightDecay, momentum, nesterov, adamRate, muonExclude, averageDecay, schedule, clip, decay, noDecay, bucketBytes, persistBytes, recompute, nproc, target, chip);
  return all;
}

/// One line a problem on stderr: `file:node: error: what`.
LogicalResult printDiagnostic(Diagnostic &diagnostic, StringRef input, StringRef lossFile) {
  StringRef kind;
  switch (diagnostic.getSeverity()) {
  case DiagnosticSeverity::Error:
    kind = "error";
    break;
  case DiagnosticSeverity::Warning:
    kind = "warning";
    break;
  case DiagnosticSeverity::Remark:
    kind = "remark";
    break;
  case DiagnosticSeverity::Note:
    kind = "note";
    break;
  }
  std::string where = input.str();
  if (auto file = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
    where = llvm::formatv("{0}:{1}:{2}", file.getFilename().getValue(), file.getLine(), file.getColumn());
  else if (auto name = diagnostic.getLocation()->findInstanceOf<NameLoc>())
    // The importer's locations start with the file; later passes keep the node's name alone.
    where = name.getName().getValue().starts_with(input) || (!lossFile.empty() && name.getName().getValue().starts_with(lossFile)) ? name.getName().str() : (input + ":" + name.getName().getValue()).str();
  llvm::errs() << where << ": " << kind << ": " << diagnostic.str() << '\n';
  return success();
}

int usageError(const llvm::Twine &text) {
  llvm::errs() << "zopt: error: " << text << '\n';
  return kExitUsage;
}

class Driver {
public:
  explicit Driver(Flags &flags) : flags(flags) {}

  /// Turns flags into options; an exit code where they contradict one another.
  int readFlags();
  int readLossScale();
  int readLoss();
  /// Gives flags that the command line lacks the values of --config. An exit code.
  int readConfig();
  int compile(DialectRegistry &registry);
  int runAsOptTool(DialectRegistry &registry, const MlirOptMainConfig &config);

private:
  bool inputIsOnnx() const { return StringRef(flags.input).ends_with(".onnx"); }
  ImportOptions importOptions() const;
  OwningOpRef<ModuleOp> readInput(MLIRContext &context);
  static OpPrintingFlags printingFlags(ModuleOp module);
  int print(ModuleOp module);

  Flags &flags;
  ConfigFile configFile;
  std::string lossFile; ///< of --loss=onnx:FILE
  StepOptions step;
  BatchOptions batch;
  FinalPlanOptions specialize;
};

} // namespace

int Driver::readConfig() {
  if (flags.config.empty()) {
    for (llvm::cl::Option *option : std::initializer_list<llvm::cl::Option *>{&flags.configCheck, &flags.strict})
      if (option->getNumOccurrences())
        return usageError("--" + option->ArgStr + " is about the file of --config, which is not given");
    return 0;
  }
  flags.configGiven = true;
  const int code = configFile.apply(flags.config, flags.settings(), flags.nproc, flags.strict);
  if (!configFile.model().empty() && !flags.input.getNumOccurrences())
    flags.input.addOccurrence(0, "", configFile.model());
  if (code && flags.configCheck)
    configFile.print(flags.settings(), llvm::outs());
  return code;
}

int Driver::readLossScale() {
  for (llvm::cl::Option *option : std::initializer_list<llvm::cl::Option *>{&flags.lossScale, &flags.lossScaleInitPower, &flags.lossScaleWindow, &flags.lossScaleHysteresis, &flags.lossScaleConsecutiveHysteresis, &flags.lossScaleMin}) {
    if (option->getNumOccurrences() && !flags.fp16)
      return usageError("--" + option->ArgStr + " is a setting of --fp16, which is not given");
    if (option != &flags.lossScale && option->getNumOccurrences() && StringRef(flags.lossScale) != "dynamic")
      return usageError("--" + option->ArgStr + " is a setting of a dynamic scale, but --loss-scale is " + flags.lossScale);
  }
  step.lossScale = flags.lossScale;
  step.lossScaleInitPower = flags.lossScaleInitPower;
  step.lossScaleWindow = flags.lossScaleWindow;
  step.lossScaleHysteresis = flags.lossScaleHysteresis;
  step.lossScaleConsecutiveHysteresis = flags.lossScaleConsecutiveHysteresis;
  step.lossScaleMin = flags.lossScaleMin;
  return 0;
}

/// A list of numbers as it stands, or that of a JSON file. An exit code.
static int readWeights(StringRef flag, StringRef given, std::string &list) {
  list = given.str();
  if (given.ends_with(".json")) {
    auto file = llvm::MemoryBuffer::getFile(given, /*IsText=*/true);
    if (!file)
      return usageError(flag + ": '" + given + "' cannot be read: " + file.getError().message());
    auto json = nlohmann::json::parse((*file)->getBuffer().begin(), (*file)->getBuffer().end(), nullptr, /*allow_exceptions=*/false);
    if (!json.is_array() || json.empty() || !llvm::all_of(json, [](const nlohmann::json &number) { return number.is_number(); })) {
      llvm::errs() << given << ": error: " << flag << " needs a JSON list of numbers\n";
      return kExitInput;
    }
    list.clear();
    for (const nlohmann::json &number : json)
      list += (list.empty() ? "" : ",") + number.dump();
  }
  std::string error;
  if (!list.empty() && !parseWeights(list, error))
    return usageError(flag + " is '" + given + "', but " + error);
  return 0;
}

int Driver::readLoss() {
  std::string error;
  auto terms = parseLoss(flags.loss, error);
  if (!terms)
    return usageError("--loss is '" + flags.loss + "', " + error);
  step.loss = flags.loss; // as it stands: zopt-add-loss knows it
  for (const LossTerm &term : *terms)
    if (term.kind == "onnx")
      lossFile = term.output;
  auto isOf = [&](StringRef kind) { return llvm::any_of(*terms, [&](const LossTerm &term) { return term.kind == kind; }); };
  if (!flags.classWeights.empty() && !isOf("cross_entropy"))
    return usageError("--class-weights are of cross_entropy, but --loss is " + flags.loss);
  if (!flags.positiveWeights.empty() && !isOf("bce_with_logits"))
    return usageError("--pos-weight is of bce_with_logits, but --loss is " + flags.loss);
  if (int code = readWeights("--class-weights", flags.classWeights, step.classWeights))
    return code;
  return readWeights("--pos-weight", flags.positiveWeights, step.positiveWeights);
}

int Driver::readFlags() {
  if (flags.mode != "train" && flags.mode != "gradient" && flags.mode != "forward")
    return usageError("--mode is train, gradient or forward, but got '" + flags.mode + "'");
  step.mode = flags.mode == "train" ? Mode::Train : flags.mode == "gradient" ? Mode::Gradient : Mode::Forward;
  if (flags.bf16 + flags.fp16 + flags.fp64 > 1)
    return usageError("--bf16, --fp16 and --fp64 exclude one another");
  step.precision = flags.bf16 ? "bf16" : flags.fp16 ? "f16" : flags.fp64 ? "f64" : "f32";
  if (int code = readLossScale())
    return code;
  if (!flags.keepFp32.empty() && !flags.bf16 && !flags.fp16)
    return usageError("--keep-fp32 is a setting of --bf16 and --fp16, which are not given");
  step.keepFp32 = flags.keepFp32;
  if (!flags.gradDtype.empty()) {
    if (!llvm::is_contained({"bf16", "fp16", "fp32"}, StringRef(flags.gradDtype)))
      return usageError("--grad-dtype is bf16, fp16 or fp32, but got '" + flags.gradDtype + "'");
    step.gradientType = flags.gradDtype == "fp32" ? "f32" : flags.gradDtype == "fp16" ? "f16" : "bf16";
  }
  if (flags.zeroStage != "auto" &&
      (StringRef(flags.zeroStage).getAsInteger(10, step.zeroStage) || step.zeroStage < 0 || step.zeroStage > 3))
    return usageError("--zero-stage is 0, 1, 2, 3 or auto, but got '" + flags.zeroStage + "'");
  if (flags.deviceMemory.getNumOccurrences() && (flags.zeroStage != "auto" || flags.deviceMemory <= 0))
    return usageError(
        flags.zeroStage != "auto"
            ? llvm::Twine("--device-memory is what --zero-stage=auto plans for, but --zero-stage is ") + flags.zeroStage
            : "--device-memory is a positive number of bytes, but got " + llvm::Twine(flags.deviceMemory));
  step.runSettings = configFile.runSettings();
  if (flags.evaluation && step.mode != Mode::Train)
    return usageError("--eval is about a plan that trains, but --mode is " + flags.mode);
  step.evaluation = flags.evaluation;
  int64_t bytes;
  if (flags.bucketBytes != "auto" && (StringRef(flags.bucketBytes).getAsInteger(10, bytes) || bytes <= 0))
    return usageError("--bucket-bytes is a positive number or auto, but got '" + flags.bucketBytes + "'");
  step.bucketBytes = flags.bucketBytes;
  step.persistBytes = flags.persistBytes;
  if (!llvm::is_contained({"none", "selective", "full"}, StringRef(flags.recompute)))
    return usageError("--recompute is none, selective or full, but got '" + flags.recompute + "'");
  step.recompute = flags.recompute;
  if (int code = readLoss())
    return code;
  step.logits = flags.logits;
  step.labels = flags.labels;
  step.ignoreIndex = flags.ignoreIndex;
  if (flags.labelSmoothing < 0 || flags.labelSmoothing >= 1)
    return usageError("--label-smoothing is at least 0 and below 1, but got " + std::to_string(flags.labelSmoothing));
  step.labelSmoothing = flags.labelSmoothing;
  step.classAxis = flags.classAxis;
  if (flags.lossAverage != "global" && flags.lossAverage != "micro-batch")
    return usageError("--loss-average is global or micro-batch, but got '" + flags.lossAverage + "'");
  step.lossAverage = flags.lossAverage;
  step.synchronizeBatchNorm = flags.syncBatchNorm;
  if (!llvm::is_contained({"adamw", "adam", "sgd", "adagrad", "lion", "lamb", "muon"}, StringRef(flags.optimizer)))
    return usageError("--optimizer is adamw, adam, sgd, adagrad, lion, lamb or muon, but got '" + flags.optimizer + "'");
  step.optimizer = flags.optimizer;
  step.learningRate = flags.lr;
  step.betas = flags.betas;
  step.epsilon = flags.eps;
  step.weightDecay = flags.weightDecay;
  step.momentum = flags.momentum;
  if (step.optimizer == "muon" && !flags.momentum.getNumOccurrences())
    step.momentum = 0.95;
  if (!(flags.adamRate >= 0) || (flags.adamRate > 0 && step.optimizer != "muon"))
    return usageError("--adam-lr is a number of at least 0 for --optimizer=muon, but got " + textOf(flags.adamRate.getValue()) + " for " + step.optimizer);
  if (flags.muonExclude.getNumOccurrences() && step.optimizer != "muon")
    return usageError("--muon-exclude is a setting of --optimizer=muon, but the optimizer is " + step.optimizer);
  step.adamRate = flags.adamRate;
  step.muonExclude = flags.muonExclude;
  step.clip = flags.clip;
  if (flags.decay != "all" && flags.decay != "matrices")
    return usageError("--decay is all or matrices, but got '" + flags.decay + "'");
  step.decay = flags.decay;
  step.noDecay = flags.noDecay;
  step.nesterov = flags.nesterov;
  for (const std::string &group : flags.parameterGroups) {
    if (StringRef(group).contains(';'))
      return usageError("--param-group '" + group + "' has a ';', which separates groups; '.' matches it too");
    step.parameterGroups += (step.parameterGroups.empty() ? "" : ";") + group;
  }
  step.averageDecay = flags.averageDecay;
  if (auto schedule = runtime::Schedule::parse(flags.schedule); schedule.failed())
    return usageError("--schedule: " + schedule.getStatus().message());
  else if (schedule->cyclesMomentum() && step.mode == Mode::Train) {
    // As DeepSpeed's OneCycle, which sets betas to (momentum, 0.99), and warns where an optimizer has none.
    step.cycleMomentum = llvm::is_contained({"adamw", "adam", "lamb", "lion"}, StringRef(step.optimizer));
    if (step.cycleMomentum)
      step.betas = step.betas.substr(0, step.betas.find(',')) + ",0.99";
    llvm::errs() << "zopt: note: OneCycle " << (step.cycleMomentum ? "cycles the momentum and sets the second beta to 0.99" : "does not cycle the momentum of " + step.optimizer + ", which has no betas") << ", as DeepSpeed's\n";
  }
  step.schedule = flags.schedule;
  step.raise = !flags.noRaise;

  if (!llvm::is_contained({"keep", "train", "eval"}, StringRef(flags.trainingMode)))
    return usageError("--training-mode is keep, train or eval, but got '" + flags.trainingMode + "'");
  if (flags.target != "cpu" && flags.target != "cuda")
    return usageError("--target is cpu or cuda, but got '" + flags.target + "'");
  if (flags.chip != "sm_80" && flags.chip != "sm_90")
    return usageError("--chip is sm_80 or sm_90, but got '" + flags.chip + "'");
  specialize.worldSize = flags.nproc;
  specialize.threads = flags.threads ? int64_t(flags.threads) : defaultThreads(std::max<int64_t>(1, flags.nproc));
  specialize.target = flags.target;
  specialize.chip = flags.chip;
  specialize.keepCollectives = flags.keepCollectives;
  specialize.fuse = !flags.noFuse;
  if (flags.memoryReport.getNumOccurrences()) {
    if (!llvm::is_contained({"", "text", "json"}, StringRef(flags.memoryReport)))
      return usageError("--memory-report is text or json, but got '" + flags.memoryReport + "'");
    if ((!flags.nproc || flags.portable) && inputIsOnnx())
      return usageError("--memory-report needs --nproc: bytes a rank depend on the number of ranks");
  }

  // global = micro * accum * ranks: any two, or one with the defaults of the interface.
  for (auto [flag, value] : {std::pair("--micro-batch", int64_t(flags.microBatch)), std::pair("--grad-accum", int64_t(flags.gradAccum)), std::pair("--global-batch", int64_t(flags.globalBatch))})
    if (value < 0)
      return usageError(llvm::Twine(flag) + " is positive, but got " + llvm::Twine(value));
  if (flags.microBatch)
    batch.micro = flags.microBatch;
  if (flags.gradAccum)
    batch.accum = flags.gradAccum;
  if (flags.globalBatch) {
    batch.global = flags.globalBatch;
    if (batch.accum && !batch.micro) {
      if (!flags.nproc)
        return usageError("--global-batch with --grad-accum leaves the micro-batch to the number of ranks: give --micro-batch or --nproc");
      int64_t parts = *batch.accum * flags.nproc;
      if (*batch.global % parts)
        return usageError("--global-batch=" + llvm::Twine(*batch.global) + " is not divisible by --grad-accum=" + llvm::Twine(*batch.accum) + " times --nproc=" + llvm::Twine(flags.nproc));
      batch.micro = *batch.global / parts;
    }
  }
  if (!batch.accum && !batch.global)
    batch.accum = 1;
  return 0;
}

ImportOptions Driver::importOptions() const {
  ImportOptions options;
  options.microBatch = batch.micro.value_or(1);
  for (const std::string &bind : flags.bind) {
    auto [name, value] = StringRef(bind).split('=');
    int64_t size = 0;
    if (!value.getAsInteger(10, size))
      options.binds[name] = size;
  }
  options.batchDim = flags.batchDim;
  options.trainOnly.assign(flags.trainOnly.begin(), flags.trainOnly.end());
  options.freeze.assign(flags.freeze.begin(), flags.freeze.end());
  options.tieWeights = flags.tieWeights;
  options.microBatchGiven = batch.micro.has_value();
  options.trainingMode = flags.trainingMode == "train" ? TrainingMode::Train : flags.trainingMode == "eval" ? TrainingMode::Eval : TrainingMode::Keep;
  llvm::SmallString<256> directory(flags.output == "-" ? StringRef() : llvm::sys::path::parent_path(flags.output));
  options.planDirectory = directory.empty() ? "." : std::string(directory);
  return options;
}

OwningOpRef<ModuleOp> Driver::readInput(MLIRContext &context) {
  if (inputIsOnnx()) {
    OwningOpRef<ModuleOp> module = importOnnx(flags.input, importOptions(), &context);
    if (module && !lossFile.empty() && step.mode != Mode::Forward && failed(importLoss(lossFile, importOptions(), *module)))
      return nullptr;
    return module;
  }
  std::string message;
  std::unique_ptr<llvm::MemoryBuffer> buffer = openInputFile(flags.input, &message);
  if (!buffer) {
    llvm::errs() << flags.input << ": error: " << message << '\n';
    return nullptr;
  }
  return parseSourceString<ModuleOp>(buffer->getBuffer(), ParserConfig(&context), flags.input);
}

/// Locations that a plan carries are ONNX node names. Where nothing has one, as in hand-written modules, none is printed; positions in the input file never are, so that parsing and printing
/// a plan gives it back unchanged.
OpPrintingFlags Driver::printingFlags(ModuleOp module) {
  auto isNamed = [](Location loc) { return loc->findInstanceOf<NameLoc>() != nullptr; };
  bool anyNamed = module
                      ->walk([&](Operation *op) { return isNamed(op->getLoc()) ? WalkResult::interrupt() : WalkResult::advance(); })
                      .wasInterrupted();
  if (!anyNamed)
    return OpPrintingFlags();
  Location unknown = UnknownLoc::get(module.getContext());
  module->walk([&](Operation *op) {
    if (!isNamed(op->getLoc()))
      op->setLoc(unknown);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument argument : block.getArguments())
          if (!isNamed(argument.getLoc()))
            argument.setLoc(unknown);
  });
  return OpPrintingFlags().enableDebugInfo(true, false);
}

int Driver::print(ModuleOp module) {
  OpPrintingFlags printing = printingFlags(module);
  std::string message;
  std::unique_ptr<llvm::ToolOutputFile> file;
  if (flags.output == "-") {
    module.print(llvm::outs(), printing);
    llvm::outs() << '\n';
    llvm::outs().flush();
    if (llvm::outs().has_error()) {
      llvm::errs() << "zopt: error: cannot write to stdout: " << llvm::outs().error().message() << '\n';
      llvm::outs().clear_error();
      return kExitFile;
    }
    return 0;
  }
  // Whole or not at all: written beside the output, then renamed.
  llvm::SmallString<256> temporary;
  int descriptor;
  std::error_code error = llvm::sys::fs::createUniqueFile(flags.output + ".%%%%%%.tmp", descriptor, temporary, llvm::sys::fs::OF_Text, llvm::sys::fs::all_read | llvm::sys::fs::owner_write);
  if (!error) {
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    module.print(stream, printing);
    stream << '\n';
    stream.close();
    error = stream.error();
    stream.clear_error();
    if (!error)
      error = llvm::sys::fs::rename(temporary, flags.output);
    if (error)
      llvm::sys::fs::remove(temporary);
  }
  if (error) {
    llvm::errs() << flags.output << ": error: cannot write: " << error.message() << '\n';
    return kExitFile;
  }
  return 0;
}

int Driver::compile(DialectRegistry &registry) {
  if (flags.listPrecision) {
    MLIRContext context(registry, MLIRContext::Threading::DISABLED);
    context.loadAllAvailableDialects();
    return failed(listPrecision(&context, llvm::outs())) ? kExitFile : 0;
  }
  if (flags.listOps) {
    listOps(llvm::outs());
    return 0;
  }
  if (flags.listConfigKeys) {
    llvm::outs() << config::describeKeys() << "\n" << config::describeJobKeys();
    return 0;
  }
  if (flags.configCheck && (!configFile.needsModel() || !flags.input.getNumOccurrences())) {
    configFile.print(flags.settings(), llvm::outs());
    return 0;
  }
  if (flags.printPipeline) {
    if (flags.zeroStage == "auto")
      return usageError("--print-pipeline does not read the model, but --zero-stage=auto depends on it");
    llvm::outs() << "builtin.module(" << buildStepPipeline(step, batch);
    if (flags.nproc && !flags.portable)
      llvm::outs() << "," << buildSpecializePipeline(specialize);
    llvm::outs() << ")\n";
    return 0;
  }

  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  context.printOpOnDiagnostic(false);
  std::string input = flags.input;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) { return printDiagnostic(diagnostic, input, lossFile); });
  for (const std::string &bind : flags.bind) {
    auto [name, value] = StringRef(bind).split('=');
    int64_t size = 0;
    if (name.empty() || value.getAsInteger(10, size) || size <= 0)
      return usageError("--bind takes NAME=SIZE with a positive size, but got '" + bind + "'");
  }
  if (flags.listParameters)
    return failed(listParameters(flags.input, importOptions(), &context, llvm::outs())) ? kExitInput : 0;

  DefaultTimingManager timing;
  applyDefaultTimingManagerCLOptions(timing);
  TimingScope root = timing.getRootScope();
  OwningOpRef<ModuleOp> module;
  {
    TimingScope scope = root.nest("import");
    module = readInput(context);
  }
  if (!module)
    return kExitInput;
  if (configFile.needsModel() && getLevel(*module) == "forward") {
    configFile.applyModel(*module, flags.settings());
    step.bucketBytes = flags.bucketBytes;
    step.persistBytes = flags.persistBytes;
  }
  if (flags.configCheck) {
    configFile.print(flags.settings(), llvm::outs());
    return 0;
  }
  if (auto micro = (*module)->getAttrOfType<IntegerAttr>("train.micro_batch"); micro && batch.global && batch.accum && *batch.global % (micro.getInt() * *batch.accum)) {
    llvm::errs() << input << ": error: global batch " << *batch.global << " is not divisible by micro-batch " << micro.getInt() << " times " << *batch.accum << " micro-steps\n";
    return kExitInput;
  }

  auto configure = [&](PassManager &manager) -> LogicalResult {
    if (failed(applyPassManagerCLOptions(manager)))
      return failure();
    manager.enableTiming(root);
    return success();
  };
  StringRef level = getLevel(*module);
  if (flags.zeroStage == "auto" && level == "forward") {
    RankMemory memory =
        flags.deviceMemory ? RankMemory{flags.deviceMemory, "--device-memory"} : findRankMemory(specialize);
    FailureOr<StageChoice> choice = chooseStage(*module, step, batch, specialize, memory);
    if (failed(choice))
      return kExitInput;
    step.zeroStage = choice->stage;
    llvm::errs() << "zopt: note: --zero-stage=auto: " << choice->reason << '\n';
  }
  if ((*module)->hasAttr(kNoFuseAttribute))
    specialize.fuse = false;
  // A module of no level is checked by its ops' verifiers alone and printed back.
  llvm::SmallVector<std::string> parts;
  if (level == "forward")
    parts.push_back(buildStepPipeline(step, batch));
  else if (!level.empty() && level != "explicit" && level != "final") {
    llvm::errs() << input << ": error: a module of level forward, explicit or final is expected, but train.level is '" << level << "'\n";
    return kExitInput;
  }
  if (level == "final")
    parts.push_back("zopt-verify-plan");
  else if (flags.nproc && !flags.portable)
    parts.push_back(buildSpecializePipeline(specialize));
  else if (level == "explicit")
    parts.push_back("zopt-verify-explicit");
  if (level == "final" && flags.nproc)
    for (auto target : module->getOps<plan::TargetOp>())
      if ((int64_t)target.getWorldSize() != flags.nproc) {
        llvm::errs() << input << ": error: this final plan is for " << (int64_t)target.getWorldSize() << " ranks, but --nproc is " << flags.nproc << '\n';
        return kExitInput;
      }
  if (failed(runPipeline(*module, llvm::join(parts, ","), configure)))
    return kExitInput;

  // A portable plan remembers it for whoever specializes it.
  if (flags.noFuse && getLevel(*module) == "explicit")
    (*module)->setAttr(kNoFuseAttribute, UnitAttr::get(&context));

  if (flags.memoryReport.getNumOccurrences()) {
    if (getLevel(*module) != "final")
      return usageError("--memory-report needs a final plan: give --nproc");
    printMemoryReport(*module, flags.memoryReport == "json", llvm::outs());
    if (!flags.output.getNumOccurrences())
      return 0;
  }
  if (flags.verifyPlan && !flags.output.getNumOccurrences()) {
    if (getLevel(*module) != "final")
      return usageError("--verify-plan needs a final plan: give --nproc");
    return 0;
  }
  TimingScope scope = root.nest("print");
  return print(*module);
}

int Driver::runAsOptTool(DialectRegistry &registry, const MlirOptMainConfig &config) {
  std::string message;
  if (inputIsOnnx()) {
    MLIRContext context(registry, MLIRContext::Threading::DISABLED);
    context.loadAllAvailableDialects();
    context.printOpOnDiagnostic(false);
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) { return printDiagnostic(diagnostic, flags.input, lossFile); });
    OwningOpRef<ModuleOp> module = readInput(context);
    if (!module)
      return kExitInput;
    PassManager manager(&context, ModuleOp::getOperationName());
    if (failed(applyPassManagerCLOptions(manager)) || failed(config.setupPassPipeline(manager)))
      return kExitUsage;
    return failed(manager.run(*module)) ? kExitInput : print(*module);
  }
  std::unique_ptr<llvm::MemoryBuffer> buffer = openInputFile(flags.input, &message);
  if (!buffer) {
    llvm::errs() << flags.input << ": error: " << message << '\n';
    return kExitInput;
  }
  std::unique_ptr<llvm::ToolOutputFile> file = openOutputFile(flags.output, &message);
  if (!file) {
    llvm::errs() << flags.output << ": error: " << message << '\n';
    return kExitFile;
  }
  if (failed(MlirOptMain(file->os(), std::move(buffer), registry, config)))
    return kExitInput;
  file->keep();
  return 0;
}

int zopt::zoptMain(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  // A limit on file sizes is an error of the write that meets it, not a crash.
  std::signal(SIGXFSZ, SIG_IGN);
  DialectRegistry registry;
  registerAllDialects(registry);
  registerAllPasses();
  MlirOptMainConfig::registerCLOptions(registry);
  registerAsmPrinterCLOptions();
  registerMLIRContextCLOptions();
  registerPassManagerCLOptions();
  registerDefaultTimingManagerCLOptions();
  tracing::DebugCounter::registerCLOptions();
  Flags flags;
  // libLLVM brings hundreds of flags of its own; the help shows zopt's, and --help-hidden MLIR's too.
  for (auto &entry : cl::getRegisteredOptions())
    if (!llvm::is_contained(entry.second->Categories, &flags.category) && entry.second->getOptionHiddenFlag() == cl::NotHidden)
      entry.second->setHiddenFlag(cl::Hidden);
  std::string parseErrors;
  llvm::raw_string_ostream errors(parseErrors);
  if (!cl::ParseCommandLineOptions(argc, argv, "zopt: compiles an ONNX model into a distributed training step\n", &errors)) {
    llvm::errs() << parseErrors;
    return kExitUsage;
  }

  MlirOptMainConfig config = MlirOptMainConfig::createFromCLOptions();
  Driver driver(flags);
  if (int code = driver.readConfig())
    return code;
  if (int code = driver.readFlags())
    return code;
  // A pass or a testing flag on the command line makes this an mlir-opt.
  bool asOptTool = config.shouldListPasses() || config.shouldShowDialects() || config.shouldVerifyDiagnostics() || !config.inputSplitMarker().empty() || config.shouldRunReproducer() ||
                   config.shouldVerifyRoundtrip() || config.shouldEmitBytecode();
  if (!asOptTool) {
    MLIRContext context(registry, MLIRContext::Threading::DISABLED);
    PassManager manager(&context);
    if (failed(config.setupPassPipeline(manager)))
      return kExitUsage;
    asOptTool = !manager.empty();
  }
  return asOptTool ? driver.runAsOptTool(registry, config) : driver.compile(registry);
}
