//===- Pipelines.cpp - the compiler's table of contents -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/Pipelines.h"
#include "zopt/Conversion/Passes.h"
#include "zopt/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

using namespace zopt;

namespace {
/// Functions have one block: there is no control flow to simplify, and no need to look for it.
constexpr llvm::StringLiteral kCanonicalize = "canonicalize{region-simplify=disabled}";

/// Joins passes into a pipeline.
class PipelineText {
public:
  void add(llvm::StringRef pass) { passes.push_back(pass.str()); }
  void add(llvm::StringRef pass, llvm::ArrayRef<std::string> options) { passes.push_back((pass + "{" + llvm::join(options, " ") + "}").str()); }
  void onFunctions(llvm::ArrayRef<llvm::StringRef> functionPasses) { passes.push_back("func.func(" + llvm::join(functionPasses, ",") + ")"); }
  std::string str() const { return llvm::join(passes, ","); }

private:
  llvm::SmallVector<std::string> passes;
};

/// `name=value` with the value quoted, so that regular expressions survive.
std::string option(llvm::StringRef name, llvm::StringRef value) { return (name + "=\"" + value + "\"").str(); }
std::string option(llvm::StringRef name, int64_t value) { return llvm::formatv("{0}={1}", name, value); }
std::string option(llvm::StringRef name, double value) { return llvm::formatv("{0}={1:E16}", name, value); }

/// Flags of zopt that a config may contradict and the plan shows no more, as zopt-record-settings takes them.
std::string compiledSettings(const StepOptions &options) {
  std::string list;
  auto add = [&](llvm::StringRef flag, const std::string &value) {
    list += (list.empty() ? "" : ";") + flag.str() + "=" + encodeSetting(value);
  };
  auto number = [](double value) { return llvm::formatv("{0}", llvm::json::Value(value)).str(); };
  add("precision", options.precision == "f32"   ? "fp32"
                   : options.precision == "f16" ? "fp16"
                   : options.precision == "f64" ? "fp64"
                                                : options.precision);
  add("zero-stage", std::to_string(options.zeroStage));
  add("bucket-bytes", options.bucketBytes);
  add("persist-bytes", std::to_string(options.persistBytes));
  if (options.mode == Mode::Forward)
    return list;
  add("recompute", options.recompute);
  add("loss", options.loss);
  add("loss-average", options.lossAverage);
  add("ignore-index", std::to_string(options.ignoreIndex));
  add("label-smoothing", number(options.labelSmoothing));
  if (!options.gradientType.empty())
    add("grad-dtype", options.gradientType == "f32"   ? "fp32"
                      : options.gradientType == "f16" ? "fp16"
                                                      : options.gradientType);
  if (options.precision == "f16") {
    add("loss-scale", options.lossScale);
    if (options.lossScale == "dynamic") {
      add("loss-scale-init-power", std::to_string(options.lossScaleInitPower));
      add("loss-scale-window", std::to_string(options.lossScaleWindow));
      add("loss-scale-hysteresis", std::to_string(options.lossScaleHysteresis));
      add("loss-scale-consecutive-hysteresis", options.lossScaleConsecutiveHysteresis ? "true" : "false");
      add("loss-scale-min", number(options.lossScaleMin));
    }
  }
  if (options.mode != Mode::Train)
    return list;
  add("optimizer", options.optimizer);
  if (options.optimizer != "sgd" && options.optimizer != "adagrad")
    add("betas", options.betas);
  if (options.optimizer != "sgd" && options.optimizer != "lion")
    add("eps", number(options.epsilon));
  if (options.optimizer == "muon") {
    add("momentum", number(options.momentum));
    add("adam-lr", number(options.adamRate));
  }
  if (options.optimizer == "sgd") {
    add("momentum", number(options.momentum));
    add("nesterov", options.nesterov ? "true" : "false");
  }
  return list;
}
} // namespace

std::string zopt::encodeSetting(llvm::StringRef value) {
  std::string text;
  for (char c : value)
    if (llvm::isAlnum(c) || llvm::StringRef("._/+:,@=-").contains(c))
      text += c;
    else
      text += "%" + llvm::toHex(llvm::StringRef(&c, 1));
  return text;
}

std::string zopt::buildStepPipeline(const StepOptions &options, const BatchOptions &batch) {
  PipelineText pipeline;

  // Meaning first: what was spelled out in many ops becomes the one op that it means, while the exporter's patterns are still whole.
  pipeline.onFunctions({kCanonicalize, "cse"});
  if (options.raise)
    pipeline.onFunctions({"zopt-raise-linear", "zopt-raise-layer-norm", "zopt-raise-rms-norm", "zopt-raise-gelu",
                          "zopt-raise-silu", "zopt-raise-stochastic-depth", "zopt-raise-rotary", "zopt-raise-attention",
                          kCanonicalize, "cse"});
  pipeline.add("zopt-verify-forward");

  // The batch is a property of the step, not of the graph: it is written on the module for the passes behind.
  llvm::SmallVector<std::string> batchOptions;
  if (batch.accum)
    batchOptions.push_back(option("grad-accum", *batch.accum));
  if (batch.global)
    batchOptions.push_back(option("global-batch", *batch.global));
  batchOptions.push_back(option("mode", options.mode == Mode::Train ? "train" : options.mode == Mode::Gradient ? "gradient" : "forward"));
  pipeline.add("zopt-set-batch", batchOptions);

  // What training does beside gradients. Dropouts find their samples while shapes are those of the model.
  pipeline.add("zopt-add-random-state");
  if (options.synchronizeBatchNorm)
    pipeline.add("zopt-synchronize-batch-norm");
  pipeline.add("zopt-add-running-averages");

  if (options.mode != Mode::Forward) {
    llvm::SmallVector<std::string> loss = {option("loss", options.loss), option("logits", options.logits), option("labels", options.labels), option("ignore-index", options.ignoreIndex),
                                   option("label-smoothing", options.labelSmoothing), option("class-axis", options.classAxis), option("loss-average", options.lossAverage)};
    if (!options.classWeights.empty())
      loss.push_back(option("class-weights", options.classWeights));
    if (!options.positiveWeights.empty())
      loss.push_back(option("pos-weight", options.positiveWeights));
    pipeline.add("zopt-add-loss", loss);
  }
  if (options.evaluation && options.mode == Mode::Train)
    pipeline.add("zopt-add-evaluation");
  // Before autodiff, so that the backward graph is derived from the ops that really run.
  if (options.precision != "f32") {
    llvm::SmallVector<std::string> precision = {option("compute", options.precision)};
    if (!options.keepFp32.empty())
      precision.push_back(option("keep-fp32", options.keepFp32));
    if (options.precision == "f16")
      precision.append({option("loss-scale", options.lossScale), option("loss-scale-init-power", options.lossScaleInitPower), option("loss-scale-window", options.lossScaleWindow),
                        option("loss-scale-hysteresis", options.lossScaleHysteresis), option("loss-scale-consecutive-hysteresis", int64_t(options.lossScaleConsecutiveHysteresis)),
                        option("loss-scale-min", options.lossScaleMin)});
    pipeline.add("zopt-mixed-precision", precision);
  }
  if (options.mode != Mode::Forward) {
    pipeline.add("zopt-autodiff", options.gradientType.empty() ? llvm::ArrayRef<std::string>{} : llvm::ArrayRef<std::string>{option("grad-dtype", options.gradientType)});
    pipeline.onFunctions({kCanonicalize, "cse"});
    llvm::SmallVector<std::string> optimizer = {option("optimizer", options.mode == Mode::Gradient ? "none" : options.optimizer), option("lr", options.learningRate), option("betas", options.betas), option("eps", options.epsilon),
                                                option("weight-decay", options.weightDecay), option("momentum", options.momentum), option("clip", options.clip), option("decay", options.decay), option("no-decay", options.noDecay)};
    if (options.nesterov)
      optimizer.push_back(option("nesterov", int64_t(1)));
    if (!options.parameterGroups.empty())
      optimizer.push_back(option("param-groups", options.parameterGroups));
    if (options.adamRate != 0)
      optimizer.push_back(option("adam-lr", options.adamRate));
    if (options.optimizer == "muon")
      optimizer.push_back(option("muon-exclude", options.muonExclude));
    if (options.cycleMomentum && options.mode == Mode::Train)
      optimizer.push_back(option("cycle-momentum", int64_t(1)));
    if (options.averageDecay != 0)
      optimizer.push_back(option("ema", options.averageDecay));
    if (!options.schedule.empty())
      optimizer.push_back(option("schedule", options.schedule));
    pipeline.add("zopt-add-optimizer", optimizer);
    if (options.recompute != "none")
      pipeline.add("zopt-recompute", {option("policy", options.recompute)});
    pipeline.add("zopt-verify-step");
  }

  // A stage is a choice of placements, made here once; nothing behind this line knows it.
  pipeline.add("zopt-assign-placement", {option("stage", options.zeroStage), option("bucket-bytes", options.bucketBytes), option("persist-bytes", options.persistBytes)});
  pipeline.add("zopt-materialize-collectives");
  pipeline.add("zopt-assign-residuals");
  // What zrun holds against a config of its own, and what its run begins with.
  llvm::SmallVector<std::string> settings = {option("compiled", compiledSettings(options))};
  if (!options.runSettings.empty())
    settings.push_back(option("run", options.runSettings));
  pipeline.add("zopt-record-settings", settings);
  pipeline.add("zopt-verify-explicit");
  return pipeline.str();
}

std::string zopt::buildSpecializePipeline(const FinalPlanOptions &options) {
  PipelineText pipeline;
  pipeline.add("zopt-specialize", {option("world-size", options.worldSize)});
  // Ops that the target has no library for, then one kernel for each connected group of elementwise ops.
  const bool onGpu = options.target == "cuda";
  pipeline.add(onGpu ? "func.func(zopt-decompose-attention{library=cudnn})" : "func.func(zopt-decompose-attention)");
  if (onGpu)
    pipeline.onFunctions({"zopt-pad-channels"});
  pipeline.onFunctions({kCanonicalize, "cse", onGpu ? "zopt-channels-last{split-bias=true}" : "zopt-channels-last",
                        kCanonicalize, "cse", "zopt-lower-batch-norm", "zopt-arrange-states"});
  if (!onGpu)
    pipeline.onFunctions({"zopt-widen-products"});
  // Whatever `fuse` says, which promises the same bits. Sums beside a product cost more than a kernel of their own: measured.
  if (onGpu)
    pipeline.add("func.func(zopt-fuse-cross-entropy,zopt-fuse-norm-residuals,zopt-fuse-norm-parameter-gradients,zopt-merge-products,zopt-fuse-matmul-epilogues{bias-gradients=false})");
  // A kernel on a GPU waits for memory: what fusion takes into a kernel that reads its operands anyway costs nothing to compute again.
  if (options.fuse)
    pipeline.add(onGpu ? "func.func(zopt-recompute-elementwise,zopt-fuse-elementwise)" : "func.func(zopt-fuse-elementwise)");
  llvm::SmallVector<std::string> planOptions = {option("world-size", options.worldSize), option("threads", options.threads), option("target", options.target), option("prefetch", int64_t(options.prefetch))};
  if (onGpu)
    planOptions.push_back(option("chip", options.chip));
  if (options.keepCollectives)
    planOptions.push_back(option("keep-collectives", int64_t(1)));
  pipeline.add("zopt-convert-zero-to-plan", planOptions);
  pipeline.add("zopt-verify-plan");
  return pipeline.str();
}

void zopt::registerAllPasses() {
  static bool once = [] {
    registerTransformsPasses();
    registerConversionPasses();
    mlir::registerCanonicalizerPass();
    mlir::registerCSEPass();
    mlir::registerSymbolDCEPass();
    mlir::registerInlinerPass();
    mlir::registerPrintIRPass();
    mlir::registerStripDebugInfoPass();
    return true;
  }();
  (void)once;
}
