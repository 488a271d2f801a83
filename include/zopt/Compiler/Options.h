//===- Options.h - what a user asks the compiler for -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_OPTIONS_H
#define ZOPT_COMPILER_OPTIONS_H

#include <cstdint>
#include <optional>
#include <string>

namespace zopt {

enum class Mode { Train, Gradient, Forward };

/// The step that is compiled: everything up to a portable plan. Each field is sugar for a pass option; `buildStepPipeline` writes that out.
struct StepOptions {
  Mode mode = Mode::Train;
  std::string precision = "f32"; // f32 | bf16 | f16 | f64
  std::string gradientType;      // empty: the compute precision
  int64_t zeroStage = 0;
  std::string bucketBytes = "auto";
  int64_t persistBytes = 0;
  std::string loss = "cross_entropy";
  std::string logits, labels = "labels";
  int64_t ignoreIndex = -100;
  double labelSmoothing = 0;
  int64_t classAxis = -1;
  std::string lossAverage = "global";
  std::string classWeights, positiveWeights; // numbers, separated by commas; empty: none
  std::string keepFp32;                      // regular expression of nodes and ops; empty: none
  bool synchronizeBatchNorm = false;
  std::string optimizer = "adamw";
  double learningRate = 1e-3;
  std::string betas = "0.9,0.999";
  double epsilon = 1e-8, weightDecay = 0.01, momentum = 0, clip = 0;
  std::string decay = "all", noDecay;
  std::string recompute = "none"; // none | selective | full
  bool nesterov = false;
  std::string parameterGroups;       // REGEX:lr=X,weight-decay=Y, several separated by ';'
  double adamRate = 0;               // of what AdamW updates beside muon; 0: learningRate
  std::string muonExclude = "embed|lm_head"; // matrices that AdamW updates beside muon
  bool cycleMomentum = false;        // the schedule sets beta1
  double averageDecay = 0;           // of the moving average of parameters; 0: none
  std::string schedule;              // Runtime/Core/Schedule.h; empty: constant
  std::string lossScale = "dynamic"; // of f16: dynamic, or a number
  int64_t lossScaleInitPower = 16, lossScaleWindow = 1000, lossScaleHysteresis = 2;
  bool lossScaleConsecutiveHysteresis = false;
  double lossScaleMin = 1;
  std::string runSettings; // zrun's flags of a config, as zopt-record-settings takes them
  bool evaluation = false; ///< of a training plan: @eval_step too
  bool raise = true; ///< raise expansions (attention, norms, ...) to one op
};

/// How a global batch is made: global = micro * accum * ranks. What is absent is derived (INTERFACE: `--micro-batch`).
struct BatchOptions {
  std::optional<int64_t> micro, accum, global;
};

/// What turns a portable plan into a final one.
struct FinalPlanOptions {
  int64_t worldSize = 1;
  int64_t threads = 0; ///< 0: max(1, cores / worldSize)
  std::string target = "cpu"; ///< cpu | cuda
  std::string chip = "sm_90"; ///< of cuda: what kernels are made for
  bool fuse = true;     ///< fuse elementwise ops; changes no bit
  bool keepCollectives = false; ///< place and exchange on one rank as on several
  bool prefetch = true; ///< start gathers one bucket ahead; changes no bit
};

} // namespace zopt

#endif // ZOPT_COMPILER_OPTIONS_H
