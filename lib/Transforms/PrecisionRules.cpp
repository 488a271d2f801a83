//===- PrecisionRules.cpp - what each op computes in ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Transforms/PrecisionRules.h"
#include "mlir/IR/MLIRContext.h"
#include "zopt/Dialect/Train/Train.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace zopt;

namespace {

constexpr unsigned kAll = ~0u;

constexpr const char *kCompute = "compute type";
constexpr const char *kRounded = "fp32, rounded once";
constexpr const char *kSums = "products and sums fp32, rounded once";

const PrecisionRule kRules[] = {
    // Elementwise.
    {"neg abs sign exp log sqrt rsqrt reciprocal tanh sigmoid erf sin cos relu silu floor ceil softplus round expm1 "
     "tan asin acos atan sinh cosh asinh acosh atanh gelu gelu_grad silu_grad relu_grad tanh_grad "
     "sigmoid_grad erf_grad add sub mul div pow max min rem select dropout",
     kCompute, 0, kRounded, kCompute, 0},
    {"fused", "as of its ops", 0, "fp32, each op's result rounded once", "as of its ops", 0},
    {"cast", kCompute, 0, "none: between floats it goes", kCompute, 0},
    {"compare is_nan dropout_mask", kCompute, 0, "fp32", "no floats", 0},
    {"bitcast", "any", 1, "rounded to its format", "fp32; cast where they meet activations", kAll},
    {"uniform normal", "any: not read", 1, "none", "fp32; cast where they meet activations", kAll},
    {"not and or xor shift_left shift_right", "no floats", 0, "integers", "no floats", 0},
    // Movement.
    {"reshape transpose slice slice_grad concat broadcast gather top_k max_pool", kCompute, 0, "moved as they are",
     kCompute, 0},
    {"gather_grad scatter max_pool_grad average_pool average_pool_grad", kCompute, 0, "sums fp32, rounded once",
     kCompute, 0},
    // Reductions and rows.
    {"reduce_sum reduce_mean reduce_max reduce_prod softmax log_softmax softmax_grad log_softmax_grad", kCompute, 0,
     "sums fp32, rounded once", kCompute, 0},
    {"layer_norm rms_norm", kCompute, 0, "sums fp32, rounded once", "compute type; mean and rstd fp32", ~1u},
    {"layer_norm_grad layer_norm_parameter_grad rms_norm_grad rms_norm_parameter_grad",
     "compute type; mean and rstd fp32", 0, "sums fp32, rounded once", "compute type; of parameters: --grad-dtype", 0},
    {"batch_statistics", kCompute, 0, "sums fp32", "fp32", kAll},
    {"batch_norm", "compute type; mean and variance fp32", 0b110, kRounded, kCompute, 0},
    {"batch_norm_sums batch_norm_grad", "compute type; mean, variance and sums fp32", 0, "sums fp32, rounded once",
     "compute type; sums fp32", 0},
    {"cross_entropy", kCompute, 0, "sums fp32", "fp32", kAll},
    {"cross_entropy_grad cross_entropy_step", "compute type; log-sum-exp and scale fp32", 0, "sums fp32, rounded once",
     "compute type; loss and count fp32", 0},
    {"count_correct", kCompute, 0, "fp32", "fp32", kAll},
    // Contractions.
    {"matmul fused_matmul conv conv_input_grad", kCompute, 0, kSums, kCompute, 0},
    {"conv_weight_grad", kCompute, 0, kSums, "--grad-dtype", 0},
    {"attention", "compute type; mask in its own", 0b1000,
     "scores, softmax and sums fp32; probabilities rounded to the compute type", "compute type; log-sum-exp fp32", ~1u},
    {"attention_grad attention_probabilities attention_scores_grad",
     "compute type; scores, mask and log-sum-exp in their own", 0, "fp32, rounded once",
     "compute type; scores and log-sum-exp fp32", 0},
    {"rotary", "compute type; cos and sin in their own", 0b110, kRounded, kCompute, 0},
    // What has no activations.
    {"constant iota", "none", 0, "none", "their own; cast where they meet activations", 0},
    {"read_state", "parameters: fp32 masters", 0, "none", "parameters: compute type; others: their own", 0},
    {"write_state accumulate running_average mean_over_ranks", "gradients: --grad-dtype; others fp32", 0, "fp32",
     "fp32", 0},
    {"gradient_norm", "fp32", 0, "squares and sums fp64, rounded once", "fp32", 0},
    {"update optimizer", "fp32", 0, "fp32", "fp32", 0},
    {"backward", "fp32", 0, "none", "none", 0},
    {"weight_file state yield", "none", 0, "none", "none", 0},
};

} // namespace

const PrecisionRule *zopt::findPrecisionRule(StringRef name) {
  static const llvm::StringMap<const PrecisionRule *> table = [] {
    llvm::StringMap<const PrecisionRule *> map;
    for (const PrecisionRule &rule : kRules) {
      SmallVector<StringRef> ops;
      StringRef(rule.ops).split(ops, ' ');
      for (StringRef op : ops)
        map[op] = &rule;
    }
    return map;
  }();
  return table.lookup(name);
}

bool zopt::keepsOperand(OpOperand &operand) {
  const PrecisionRule *rule = findPrecisionRule(operand.getOwner()->getName().stripDialect());
  return rule && operand.getOperandNumber() < 32 && (rule->own >> operand.getOperandNumber() & 1);
}

bool zopt::isStatistic(OpResult result) {
  const PrecisionRule *rule = findPrecisionRule(result.getOwner()->getName().stripDialect());
  return rule && result.getResultNumber() < 32 && (rule->statistics >> result.getResultNumber() & 1);
}

LogicalResult zopt::listPrecision(MLIRContext *context, llvm::raw_ostream &os) {
  os << "| ops | operands | inside | results |\n|---|---|---|---|\n";
  for (const PrecisionRule &rule : kRules) {
    SmallVector<StringRef> ops;
    StringRef(rule.ops).split(ops, ' ');
    os << "| ";
    llvm::interleave(ops, os, [&](StringRef op) { os << "`" << op << "`"; }, " ");
    os << " | " << rule.operands << " | " << rule.inside << " | " << rule.results << " |\n";
  }
  LogicalResult result = success();
  llvm::StringSet<> registered;
  for (RegisteredOperationName op : context->getRegisteredOperations()) {
    if (op.getDialectNamespace() != "train")
      continue;
    registered.insert(op.stripDialect());
    if (!findPrecisionRule(op.stripDialect()))
      result = emitError(UnknownLoc::get(context))
               << "the table of precisions has no rule for '" << op.getStringRef() << "'";
  }
  for (const PrecisionRule &rule : kRules) {
    SmallVector<StringRef> ops;
    StringRef(rule.ops).split(ops, ' ');
    for (StringRef op : ops)
      if (!registered.contains(op))
        result = emitError(UnknownLoc::get(context))
                 << "the table of precisions has a rule for '" << op << "', which is no op";
  }
  return result;
}
