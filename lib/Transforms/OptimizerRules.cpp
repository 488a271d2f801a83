//===- OptimizerRules.cpp - update rules as text -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One rule a table entry: its slots and its body as text, in the operation order of PyTorch's single-tensor implementations. `T` is the element type, `$name` a number of OptimizerSettings. A body
// reads %p, %gradient, a value named after each slot, %lr, %step (1, 2, ...) and %decay, and defines %p1 and <slot>1: the block around it is made of that. docs/Optimizers.md has formulas and sources.
//
// What depends on scalars alone is taken in double and rounded once, as PyTorch does: in fp32, 1 - 0.999^step would be off by 1.3e-5 at the first steps, where the correction
// matters most. Values named `_wide` are double; where T is double, the lines marked `$convert` go and the names lose the mark.
// `$beta1_...` stands for lines that define values of beta1, which is a number or the body's argument.
//
//===----------------------------------------------------------------------===//

#include "OptimizerRules.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Parser/Parser.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {
struct Rule {
  SmallVector<StringRef> slots;
  StringRef body;
  bool hasTrustRatio = false; // the body defines %direction in place of %p1, and goes lr along it
  bool isMatrixRule = false;  // the body defines %direction in place of %p1, for Newton-Schulz iterations
};

/// DeepSpeed's min_coeff and max_coeff.
constexpr StringLiteral kTrustRatio = "trust_ratio = array<f64: 0.01, 10.0>";
} // namespace

// Decoupled decay (AdamW, Lion): %p0 = p - lr decay p. As a factor 1 - lr decay, it would be rounded alike in every step: an error of up to 3e-8 that adds up.
static constexpr StringLiteral kShrink = R"mlir(
  %shrink = arith.mulf %lr, %decay : T
  %lost = arith.mulf %shrink, %p : T
  %p0 = arith.subf %p, %lost : T
)mlir";

// An L2 penalty: %g = gradient + decay p. `$g` is that where a body has one, otherwise the gradient itself.
static constexpr StringLiteral kPenalty = R"mlir(
  %penalty = arith.mulf %decay, %p : T
  %g = arith.addf %gradient, %penalty : T
)mlir";

// bias1 = 1 - beta1^step; bias2_root = sqrt(1 - beta2^step).
static constexpr StringLiteral kCorrections = R"mlir(
  $convert %step_wide = arith.extf %step : T to f64
  $convert %lr_wide = arith.extf %lr : T to f64
  %one_wide = arith.constant 1.0 : f64
  $beta1_logarithm
  %log_beta2 = arith.constant $log_beta2 : f64
  %power1 = arith.mulf %step_wide, %log_beta1 : f64
  %decayed1 = math.exp %power1 : f64
  %bias1 = arith.subf %one_wide, %decayed1 : f64
  %power2 = arith.mulf %step_wide, %log_beta2 : f64
  %decayed2 = math.exp %power2 : f64
  %bias2 = arith.subf %one_wide, %decayed2 : f64
  %bias2_root_wide = math.sqrt %bias2 : f64
)mlir";

// m += (g - m) (1 - beta1); v = v beta2 + (1 - beta2) g g; root = sqrt(v).
static constexpr StringLiteral kAverages = R"mlir(
  $beta1_rest
  %rate2 = arith.constant $one_minus_beta2 : T
  %beta2 = arith.constant $beta2 : T
  %eps = arith.constant $eps : T
  %towards = arith.subf $g, %exp_avg : T
  %towards1 = arith.mulf %towards, %rate1 : T
  %exp_avg1 = arith.addf %exp_avg, %towards1 : T
  %v0 = arith.mulf %exp_avg_sq, %beta2 : T
  %g2 = arith.mulf %rate2, $g : T
  %g3 = arith.mulf %g2, $g : T
  %exp_avg_sq1 = arith.addf %v0, %g3 : T
  %root = math.sqrt %exp_avg_sq1 : T
)mlir";

// change = lr / bias1 * m / (sqrt(v) / bias2_root + eps).
static constexpr StringLiteral kMoments = R"mlir(
  $corrections
  %step_size_wide = arith.divf %lr_wide, %bias1 : f64
  $convert %step_size = arith.truncf %step_size_wide : f64 to T
  $convert %bias2_root = arith.truncf %bias2_root_wide : f64 to T
  $averages
  %corrected = arith.divf %root, %bias2_root : T
  %denominator = arith.addf %corrected, %eps : T
  %numerator = arith.mulf %step_size, %exp_avg1 : T
  %change = arith.divf %numerator, %denominator : T
)mlir";

// direction = (m / bias1) / (sqrt(v) / bias2_root + eps) + decay p; p -= lr * trust ratio * direction. A correction of
// the step size in place of m's and v's own would scale the decay too.
static constexpr StringLiteral kLamb = R"mlir(
  $corrections
  %correction_wide = arith.divf %one_wide, %bias1 : f64
  $convert %correction = arith.truncf %correction_wide : f64 to T
  $convert %bias2_root = arith.truncf %bias2_root_wide : f64 to T
  $averages
  %corrected = arith.divf %root, %bias2_root : T
  %denominator = arith.addf %corrected, %eps : T
  %average = arith.mulf %exp_avg1, %correction : T
  %adam = arith.divf %average, %denominator : T
  %pull = arith.mulf %decay, %p : T
  %direction = arith.addf %adam, %pull : T
)mlir";

// p -= lr * decay * p; then Adam's update.
static constexpr StringLiteral kAdamW = R"mlir(
  $shrink
  $moments
  %p1 = arith.subf %p0, %change : T
)mlir";

// g += decay * p; then Adam's update.
static constexpr StringLiteral kAdam = R"mlir(
  $penalty
  $moments
  %p1 = arith.subf %p, %change : T
)mlir";

// g += decay * p; p -= lr * g.
static constexpr StringLiteral kSgd = R"mlir(
  $penalty
  %change = arith.mulf %lr, %g : T
  %p1 = arith.subf %p, %change : T
)mlir";

// g += decay * p; m = momentum * m + g; p -= lr * m. From m = 0 the first step sets m = g, as PyTorch does.
static constexpr StringLiteral kSgdMomentum = R"mlir(
  %rate = arith.constant $momentum : T
  $penalty
  %m0 = arith.mulf %rate, %momentum : T
  %momentum1 = arith.addf %m0, %g : T
  %change = arith.mulf %lr, %momentum1 : T
  %p1 = arith.subf %p, %change : T
)mlir";

// The same, but p -= lr * (g + momentum * m).
static constexpr StringLiteral kSgdNesterov = R"mlir(
  %rate = arith.constant $momentum : T
  $penalty
  %m0 = arith.mulf %rate, %momentum : T
  %momentum1 = arith.addf %m0, %g : T
  %ahead = arith.mulf %rate, %momentum1 : T
  %direction = arith.addf %g, %ahead : T
  %change = arith.mulf %lr, %direction : T
  %p1 = arith.subf %p, %change : T
)mlir";

// g += decay * p; s += g g; p -= lr * g / (sqrt(s) + eps).
static constexpr StringLiteral kAdagrad = R"mlir(
  %eps = arith.constant $eps : T
  $penalty
  %g2 = arith.mulf %g, %g : T
  %sum1 = arith.addf %sum, %g2 : T
  %root = math.sqrt %sum1 : T
  %denominator = arith.addf %root, %eps : T
  %numerator = arith.mulf %lr, %g : T
  %change = arith.divf %numerator, %denominator : T
  %p1 = arith.subf %p, %change : T
)mlir";

// p -= lr * decay * p; p -= lr * sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g.
static constexpr StringLiteral kLion = R"mlir(
  $shrink
  %zero = arith.constant 0.0 : T
  $beta1_itself
  $beta1_rest
  %beta2 = arith.constant $beta2 : T
  %rate2 = arith.constant $one_minus_beta2 : T
  %c0 = arith.mulf %beta1, %exp_avg : T
  %c1 = arith.mulf %rate1, $g : T
  %c = arith.addf %c0, %c1 : T
  %minus_lr = arith.negf %lr : T
  %is_positive = arith.cmpf ogt, %c, %zero : T
  %is_negative = arith.cmpf olt, %c, %zero : T
  %down = arith.select %is_negative, %minus_lr, %zero : T
  %change = arith.select %is_positive, %lr, %down : T
  %p1 = arith.subf %p0, %change : T
  %m0 = arith.mulf %beta2, %exp_avg : T
  %m1 = arith.mulf %rate2, $g : T
  %exp_avg1 = arith.addf %m0, %m1 : T
)mlir";

// m += (g - m) (1 - momentum); direction = g + (m - g) momentum: DeepSpeed's lerps, Nesterov's form.
static constexpr StringLiteral kMuon = R"mlir(
  %rate = arith.constant $momentum : T
  %rest = arith.constant $one_minus_momentum : T
  %towards = arith.subf $g, %momentum : T
  %towards1 = arith.mulf %towards, %rest : T
  %momentum1 = arith.addf %momentum, %towards1 : T
  %ahead = arith.subf %momentum1, $g : T
  %ahead1 = arith.mulf %rate, %ahead : T
  %direction = arith.addf $g, %ahead1 : T
)mlir";

// beta1 as numbers, and as the body's argument.
static constexpr std::pair<const char *, const char *> kFixedBeta1[] = {
    {"$beta1_logarithm", "%log_beta1 = arith.constant $log_beta1 : f64"},
    {"$beta1_itself", "%beta1 = arith.constant $beta1 : T"},
    {"$beta1_rest", "%rate1 = arith.constant $one_minus_beta1 : T"}};
static constexpr std::pair<const char *, const char *> kCycledBeta1[] = {
    {"$beta1_logarithm", "$convert %beta1_wide = arith.extf %beta1 : T to f64\n  %log_beta1 = math.log %beta1_wide : f64"},
    {"$beta1_itself\n", ""},
    {"$beta1_rest", "%beta1_whole = arith.constant 1.0 : T\n  %rate1 = arith.subf %beta1_whole, %beta1 : T"}};

// e = d e + (1 - d) p, from the parameter's first value: in step 1, which alone meets e = 0, e is the parameter before its update.
static constexpr StringLiteral kAverage = R"mlir(
  %average_one = arith.constant 1.0 : T
  %average_none = arith.constant 0.0 : T
  %average_keep = arith.constant $ema : T
  %average_take = arith.constant $one_minus_ema : T
  %average_left = arith.subf %average_one, %step : T
  %average_first0 = arith.addf %average_left, %average_one : T
  %average_first = arith.maximumf %average_first0, %average_none : T
  %average_start = arith.mulf %average_first, %p : T
  %average_before = arith.addf %ema, %average_start : T
  %average_kept = arith.mulf %average_keep, %average_before : T
  %average_taken = arith.mulf %average_take, %p1 : T
  %ema1 = arith.addf %average_kept, %average_taken : T
)mlir";

static Rule ruleOf(StringRef name, const OptimizerSettings &settings) {
  StringRef sgd = settings.momentum == 0 ? kSgd : settings.nesterov ? kSgdNesterov : kSgdMomentum;
  return llvm::StringSwitch<Rule>(name)
      .Case("adamw", Rule{{"exp_avg", "exp_avg_sq"}, kAdamW})
      .Case("adam", Rule{{"exp_avg", "exp_avg_sq"}, kAdam})
      .Case("sgd", settings.momentum == 0 ? Rule{{}, sgd} : Rule{{"momentum"}, sgd})
      .Case("adagrad", Rule{{"sum"}, kAdagrad})
      .Case("lion", Rule{{"exp_avg"}, kLion})
      .Case("lamb", Rule{{"exp_avg", "exp_avg_sq"}, kLamb, /*hasTrustRatio=*/true})
      .Case("muon", Rule{{"momentum"}, kMuon, /*hasTrustRatio=*/false, /*isMatrixRule=*/true})
      .Default(Rule{});
}

static void replaceAll(std::string &text, StringRef from, StringRef to) {
  for (size_t at = text.find(from.str()); at != std::string::npos; at = text.find(from.str(), at + to.size()))
    text.replace(at, from.size(), to.str());
}

/// The op around a rule's body.
static std::string writeOp(StringRef name, const Rule &rule, const OptimizerSettings &settings) {
  const bool average = settings.averageDecay > 0, knowsParameter = !rule.hasTrustRatio && !rule.isMatrixRule;
  SmallVector<StringRef> slots = rule.slots;
  std::string body = rule.body.str();
  if (average) {
    slots.push_back("ema");
    if (knowsParameter)
      body += kAverage;
  }
  std::string text = ("train.optimizer @" + name + " slots [").str(), arguments,
              results = rule.hasTrustRatio ? "%direction, %lr" : rule.isMatrixRule ? "%direction" : "%p1", types = rule.hasTrustRatio ? "T, T" : "T";
  for (StringRef slot : slots) {
    text += (slot == slots.front() ? "\"" : ", \"") + slot.str() + "\"";
    arguments += ", %" + slot.str() + ": T";
    if (average && !knowsParameter && slot == slots.back())
      continue;
    results += ", %" + slot.str() + "1";
    types += ", T";
  }
  std::string attributes;
  auto attribute = [&](const std::string &added) { attributes += (attributes.empty() ? "" : ", ") + added; };
  if (rule.hasTrustRatio)
    attribute(kTrustRatio.str());
  if (rule.isMatrixRule)
    attribute("newton_schulz = " + std::to_string(settings.newtonSchulz) + " : i64");
  if (average && !knowsParameter)
    attribute("average = $ema : f64");
  if (settings.cyclesMomentum)
    attribute("cycles_momentum");
  const std::string momentum = settings.cyclesMomentum ? ", %beta1: T" : "";
  return text + "] {\n^bb0(%p: T, %gradient: T" + arguments + ", %lr: T, %step: T, %decay: T" + momentum + "):\n" + body + "  train.yield " + results + " : " + types + "\n} " +
         (attributes.empty() ? "" : "{" + attributes + "}") + "\n";
}

bool zopt::hasBetas(StringRef name) { return llvm::is_contained({"adamw", "adam", "lamb", "lion"}, name); }

OptimizerOp zopt::createOptimizer(Operation *before, StringRef name, const OptimizerSettings &settings, FloatType elementType) {
  Rule rule = ruleOf(name, settings);
  if (rule.body.empty())
    return {};

  std::string text = writeOp(name, rule, settings);
  for (auto [placeholder, part] : {std::pair<StringRef, StringRef>("$moments", kMoments), {"$corrections", kCorrections}, {"$averages", kAverages}, {"$shrink", kShrink}, {"$penalty", kPenalty}})
    replaceAll(text, placeholder, part);
  for (auto [placeholder, lines] : settings.cyclesMomentum ? kCycledBeta1 : kFixedBeta1)
    replaceAll(text, placeholder, lines);
  replaceAll(text, "$g", rule.body.contains("$penalty") ? "%g" : "%gradient");
  std::pair<StringRef, double> numbers[] = {
      {"$one_minus_beta1", 1.0 - settings.beta1}, {"$one_minus_beta2", 1.0 - settings.beta2}, {"$beta1", settings.beta1}, {"$beta2", settings.beta2},
      {"$log_beta1", std::log(settings.beta1)},   {"$log_beta2", std::log(settings.beta2)},   {"$eps", settings.epsilon}, {"$one_minus_momentum", 1.0 - settings.momentum}, {"$momentum", settings.momentum},
      {"$one_minus_ema", 1.0 - settings.averageDecay}, {"$ema", settings.averageDecay}};
  for (auto [placeholder, number] : numbers)
    replaceAll(text, placeholder, llvm::formatv("{0:e17}", number).str());
  bool isDouble = elementType.isF64();
  for (size_t at = text.find("$convert "); at != std::string::npos; at = text.find("$convert ", at))
    text.erase(at, isDouble ? text.find('\n', at) - at : StringRef("$convert ").size());
  if (isDouble)
    replaceAll(text, "_wide", "");
  std::string type;
  llvm::raw_string_ostream(type) << elementType;
  for (StringRef before : {": ", ", ", "to "})
    replaceAll(text, before.str() + "T", before.str() + type);

  MLIRContext *context = before->getContext();
  context->loadDialect<arith::ArithDialect, math::MathDialect>();
  Block parsed;
  if (failed(parseSourceString(text, &parsed, ParserConfig(context, /*verifyAfterParse=*/false))))
    return {};
  auto op = cast<OptimizerOp>(parsed.front());
  op->moveBefore(before);
  return op;
}
