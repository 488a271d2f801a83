//===- TrainingPasses.td - from a forward graph to a training step ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Order: zopt-verify-forward, zopt-add-loss, zopt-mixed-precision, zopt-autodiff, zopt-add-optimizer, zopt-verify-step.
// zopt-decompose-attention stands behind them, for targets without a library for attention.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_TRAININGPASSES_TD
#define ZOPT_TRANSFORMS_TRAININGPASSES_TD

include "mlir/Pass/PassBase.td"

def VerifyForwardPass : Pass<"zopt-verify-forward", "::mlir::ModuleOp"> {
  let summary = "checks that a module is a forward graph (train.level = \"forward\")";
  let description = [{
    One `@forward` of train ops on static tensors, whose arguments and results carry `train.name`; states exist and each parameter is read once; nothing of a step is there
    yet. Changes nothing.
  }];
}

def SetBatchPass : Pass<"zopt-set-batch", "mlir::ModuleOp"> {
  let summary = "Write on the module how the global batch is made";
  let description = [{
    Expects the forward level. Sets `train.mode`, `train.accum_steps` and `train.global_batch`; what is absent is fixed by specialization (global = micro * accum * ranks). Refuses
    a global batch that no number of ranks can make. Never touches a function. Numerics: bitwise.
  }];
  let options = [
    Option<"gradAccum", "grad-accum", "int64_t", /*default=*/"0", "Micro-steps a step; 0: fixed by specialization">,
    Option<"globalBatch", "global-batch", "int64_t", /*default=*/"0", "Samples a step over all ranks; 0: follows from the others">,
    Option<"mode", "mode", "std::string", /*default=*/"\"train\"", "train, gradient or forward">,
  ];
}

def RecordSettingsPass : Pass<"zopt-record-settings", "::mlir::ModuleOp"> {
  let summary = "writes on the module what it was compiled with, and what its run begins with";
  let description = [{
    Both options are lists `flag=value;flag=value`, whose values have every byte but letters, digits and `._/+:,@=-` as `%XX`. `compiled` becomes the dictionary `train.compiled`:
    flags of zopt whose values the graph shows no more, against which zrun checks a config of its own. `run` becomes `train.run`: flags of zrun that hold where its command line
    and its own config have none. An empty list leaves no attribute. Never touches a function. Numerics: bitwise.
  }];
  let options = [
    Option<"compiled", "compiled", "std::string", /*default=*/"\"\"", "flags of zopt">,
    Option<"run", "run", "std::string", /*default=*/"\"\"", "flags of zrun">,
  ];
}

def VerifyStepPass : Pass<"zopt-verify-step", "::mlir::ModuleOp"> {
  let summary = "checks that a module is a whole step on one logical device (train.level = \"step\")";
  let description = [{
    `@micro_step` starts its backward once, accumulates the gradient of every trained parameter once, behind it, and writes no state; `@apply_step` takes the norm and, unless the
    mode is gradient, updates every trained parameter once; the scalar states that the runtime sets and reads exist. Changes nothing.
  }];
}

def AddLossPass : Pass<"zopt-add-loss", "::mlir::ModuleOp"> {
  let summary = "turns @forward into @micro_step: outputs become the loss";
  let description = [{
    Expects a forward graph. Renames `@forward` to `@micro_step`, adds the label argument, computes the loss as a sum over label positions, adds loss and count to the states
    `@zopt.loss_sum` and `@zopt.count`, and ends in `train.backward` with the seed that makes the gradient that of the mean (DESIGN: Scaling).

    | loss | labels | the sum over |
    |---|---|---|
    | cross_entropy | integers, the logits' shape without the class axis | rows whose label is not ignore-index |
    | mse, l1, bce_with_logits | floats of the logits' shape | all elements |
    | output, output:NAME | none: the graph's own output (a single element) is the loss, taken as the micro-batch's mean | 1 |
    | onnx:FILE | inputs of `@loss`, which the importer made of FILE, that are neither outputs nor inputs of the model; its result (a single element) is the micro-batch's mean | 1 |

    A loss may be a sum of terms, `[WEIGHT*]KIND[:OUTPUT[:LABELS]]` separated by `+`. Where all of them count the same labels it is one sum over these; otherwise each term is its mean over
    the micro-batch's own counted labels, and the means are averaged over ranks and micro-steps (which is the mean over the global batch where nothing is ignored); a remark says so. Of each of
    several terms the sum without its weight is added to `@zopt.loss_sum.TERM`, of which `zopt-add-optimizer` makes `@zopt.loss.TERM` for the metrics.

    With `class-weights` w a row of cross_entropy counts w[label] times, in the sum and in what the sum is divided by; with `pos-weight` p an element of bce_with_logits is
    (1 - y) x + (1 + (p - 1) y) log(1 + e^-x). Both are PyTorch's `weight` and `pos_weight`.

    `loss-average=global` seeds with 1 / (label positions * ranks * micro-steps), and `@apply_step` corrects for ignored labels. `micro-batch` seeds with 1 / (own count * ranks *
    micro-steps): the mean of micro-batch means; a micro-batch without a counted label adds nothing. Ops of the loss carry `train.loss`, so that `zopt-mixed-precision` leaves
    them in full precision. Leaves the module attributes `train.loss_average` and, where labels may be ignored and the average is global, `train.label_positions`. Never
    changes the forward arithmetic.
  }];
  let options = [
    Option<"loss", "loss", "std::string", "\"cross_entropy\"", "cross_entropy, mse, bce_with_logits, l1, output, output:NAME, onnx:FILE, or a weighted sum of them">,
    Option<"logits", "logits", "std::string", "\"\"", "output that feeds the loss (the first float output)">,
    Option<"labels", "labels", "std::string", "\"labels\"", "name of the label tensor in the data">,
    Option<"ignoreIndex", "ignore-index", "int64_t", "-100", "label of rows that do not count">,
    Option<"labelSmoothing", "label-smoothing", "double", "0.0", "cross_entropy: share of the label spread over all classes">,
    Option<"classAxis", "class-axis", "int64_t", "-1", "cross_entropy: axis of the classes">,
    Option<"lossAverage", "loss-average", "std::string", "\"global\"", "global or micro-batch">,
    Option<"classWeights", "class-weights", "std::string", "\"\"", "cross_entropy: a weight for each class, separated by commas">,
    Option<"positiveWeights", "pos-weight", "std::string", "\"\"", "bce_with_logits: a weight of positive labels, or one for each column">,
  ];
  let dependentDialects = ["::zopt::train::TrainDialect", "::zopt::zero::ZeroDialect", "::mlir::func::FuncDialect"];
}

def AddEvaluationPass : Pass<"zopt-add-evaluation", "::mlir::ModuleOp"> {
  let summary = "adds @eval_step: forward and loss of @micro_step alone";
  let description = [{
    Runs right behind zopt-add-loss. `@eval_step` is a copy of what `@micro_step` does before `train.backward`, on the same inputs and parameters, with training mode off: dropout
    gives its input, normalization takes the running averages in place of the batch's statistics (a graph that does not keep them is refused), and no state is written. Its results are scalars of one micro-batch of one rank: `zopt.eval_loss_sum`, the loss summed over the counted labels; `zopt.eval_count`,
    their number; and with cross_entropy `zopt.eval_correct`, how many of them have the largest logit; with several terms `zopt.eval_loss_sum.TERM` of each. The runtime adds them up over micro-batches and ranks.

    The scale of fp16 is not in it. Never changes `@micro_step`. Numerics: each op's as in `@micro_step`.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect", "::mlir::func::FuncDialect"];
}

def MixedPrecisionPass : Pass<"zopt-mixed-precision", "::mlir::ModuleOp"> {
  let summary = "lowers the precision in which a graph computes";
  let description = [{
    Runs between zopt-add-loss and zopt-autodiff (or on a forward graph), so that the backward graph is derived from the ops that really run.

    `compute=bf16` or `f16`: parameters are read in the compute type (states keep their own: the masters), float inputs are cast to it, and so is everything that depends on either.
    In full precision stay the loss (ops marked `train.loss`), statistics (mean, rstd, log-sum-exp), rotary tables and attention masks, and whatever depends only on integers,
    buffers and constants; that is cast where it meets an activation. Finite constants beyond the compute type's range become its largest finite value, so that an
    additive mask stays finite. Logits enter the loss in the compute type; cross_entropy computes in fp32 inside.

    Ops that `keep-fp32` names, by the name of their node or by their own (`softmax`), compute in the type that they came with: operands are cast to it and results stay in it; a parameter that
    one of them reads, itself or moved (transposed, say), is read in its own type by all. One that names no op is an error. Ops marked `train.full_precision`, the places
    of samples, are kept likewise, with what moves operands to them alone. What each op reads, computes and gives is in docs/Precision.md.

    `compute=f16` also scales the loss: the seed of train.backward is multiplied by the state `@zopt.loss_scale`, and `train.loss_scale` on the module says how it changes. zopt-add-optimizer takes it out
    again.

    `compute=f64`: every float tensor and state is f64 (weights are widened as they are read). `compute=f32` changes nothing. Numerics: changed, as the types say.
  }];
  let options = [
    Option<"compute", "compute", "std::string", "\"f32\"", "f32, bf16, f16 or f64">,
    Option<"keepFp32", "keep-fp32", "std::string", "\"\"", "bf16 and f16: regular expression of nodes and ops that stay in fp32">,
    Option<"lossScale", "loss-scale", "std::string", "\"dynamic\"", "f16: dynamic, or the scale itself">,
    Option<"lossScaleInitPower", "loss-scale-init-power", "int64_t", "16", "dynamic: it begins at 2 to this power">,
    Option<"lossScaleWindow", "loss-scale-window", "int64_t", "1000", "dynamic: finite steps until it doubles">,
    Option<"lossScaleHysteresis", "loss-scale-hysteresis", "int64_t", "2", "dynamic: overflows until it halves">,
    Option<"lossScaleConsecutiveHysteresis", "loss-scale-consecutive-hysteresis", "bool", "false", "dynamic: a finite step restores the hysteresis">,
    Option<"lossScaleMin", "loss-scale-min", "double", "1.0", "dynamic: the least scale">,
  ];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def AutodiffPass : Pass<"zopt-autodiff", "::mlir::ModuleOp"> {
  let summary = "writes the backward graph behind train.backward";
  let description = [{
    Expects a `@micro_step` that ends in `train.backward`. Reverse-mode, source to source, through DifferentiableOpInterface: values that depend on a trained parameter and
    that the loss depends on are *active*; the ops between are walked backwards, and what reaches a trained parameter is added to its gradient by `train.accumulate`, right
    behind the last op that contributes. Contributions to one value are added in the order of the walk: up to four where all are there, more one by one, each right where
    it is there, so that of a weight with many uses (a net written out over time) two copies of the gradient live and not one a use. Slices that tile a value give one
    concat instead of a sum of padded zeros; it stands behind all of them, and what else is added behind it.

    `grad-dtype` is the type in which gradients of parameters are produced: ops that sum in fp32 and round once (matmul, reduce_sum, gather_grad, gradients of norms) produce
    it directly, others are cast. Empty: the type in which the parameter is read.

    A trained parameter that the loss does not depend on is not trained any more, and a remark says so. Active ops without a derivative are errors, all at once. Never changes
    what stands before `train.backward`.
  }];
  let options = [Option<"gradDtype", "grad-dtype", "std::string", "\"\"", "f32, bf16, f16 or f64; empty: the type in which a parameter is read">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def AddOptimizerPass : Pass<"zopt-add-optimizer", "::mlir::ModuleOp"> {
  let summary = "adds @apply_step, the update rule and the optimizer's states";
  let description = [{
    Expects a `@micro_step` with gradients (zopt-autodiff) and leaves the step level. Rules are PyTorch's, as scalar arithmetic in a `train.optimizer` (OptimizerRules.cpp).
    `@apply_step` computes, on device, from what the micro-steps accumulated:

    - the loss: the sum over the counted labels, or the mean of micro-batch means;
    - ratio = label positions of the global batch / counted labels: exactly 1 where nothing is ignored, left out where nothing can be;
    - norm = gradient norm * ratio, before clipping; finite = 1 where it is and labels were counted, else 0: nothing changes then;
    - scale = ratio * min(1, clip / (norm + 1e-6)) for the gradients; the state `@zopt.clip` holds the limit, 0 for none.

    Where the loss is scaled (`@zopt.loss_scale`, of zopt-mixed-precision), the ratio divides by the scale too, and a dynamic scale is changed as `train.loss_scale` says.
    The learning rate is `@zopt.lr`, or `@zopt.lr_if_skipped` after a step that was skipped: a skipped step moves no schedule. `schedule` is written on the module for the runtime.
    `optimizer=none` leaves the updates out (`train.mode = "gradient"`). `@zopt.gradient_scale` is the ratio: what an exported gradient is multiplied with.
    `decay=matrices` decays only parameters of rank 2 and more; `no-decay` exempts parameters by name or source name. `param-groups` gives parameters a rate or decay of their own, the first
    group that matches counts. A state with `no_decay` does not take the decay that all have, nor another that a run sets in its place.
    `optimizer=muon` updates parameters of 2 or 4 axes by Newton-Schulz iterations, and by AdamW (with `adam-lr`) all others, tables that a gather reads, and what `muon-exclude` names. `cycle-momentum` makes
    beta1 the state `@zopt.momentum` (or `@zopt.momentum_if_skipped`).
  }];
  let options = [
    Option<"optimizer", "optimizer", "std::string", "\"adamw\"", "adamw, adam, sgd, adagrad, lion, lamb, muon or none">,
    Option<"learningRate", "lr", "double", "1e-3", "learning rate, until the runtime sets another">,
    Option<"betas", "betas", "std::string", "\"0.9,0.999\"", "adamw, adam and lion: decay of the averages">,
    Option<"epsilon", "eps", "double", "1e-8", "adamw, adam and adagrad: added to the denominator">,
    Option<"weightDecay", "weight-decay", "double", "0.01", "decoupled for adamw and lion, an L2 penalty for the others">,
    Option<"momentum", "momentum", "double", "0.0", "sgd and muon">,
    Option<"clip", "clip", "double", "0.0", "largest global gradient norm (0: no clipping)">,
    Option<"decay", "decay", "std::string", "\"all\"", "all or matrices: parameters that decay">,
    Option<"noDecay", "no-decay", "std::string", "\"\"", "regular expression of parameters that do not decay">,
    Option<"nesterov", "nesterov", "bool", "false", "sgd: Nesterov's momentum">,
    Option<"parameterGroups", "param-groups", "std::string", "\"\"", "REGEX:lr=X,weight-decay=Y, several separated by ';'">,
    Option<"averageDecay", "ema", "double", "0.0", "decay of a moving average of parameters, a slot `ema` (0: none)">,
    Option<"adamRate", "adam-lr", "double", "0.0", "muon: learning rate of what AdamW updates (0: that of all)">,
    Option<"muonExclude", "muon-exclude", "std::string", "\"embed|lm_head\"", "muon: regular expression, in any case, of matrices that AdamW updates">,
    Option<"cycleMomentum", "cycle-momentum", "bool", "false", "the runtime sets beta1 before every step">,
    Option<"schedule", "schedule", "std::string", "\"\"", "of the learning rate, for the runtime: TYPE[,key=value...]">,
  ];
  let dependentDialects = ["::zopt::train::TrainDialect", "::zopt::zero::ZeroDialect", "::mlir::func::FuncDialect", "::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def DecomposeAttentionPass : Pass<"zopt-decompose-attention", "::mlir::func::FuncOp"> {
  let summary = "attention as matrix products and row kernels, where no library has it";
  let description = [{
    train.attention becomes scores = scale q k^T in fp32 (f64 for f64), train.attention_probabilities in the operands' type and a product with v; train.attention_grad computes the
    scores again and becomes five products and train.attention_scores_grad. The heads of a group (grouped queries) are rows of one product with the group's key and value, so
    that their gradients are summed inside the products. Leaves no attention op but those that `library` has (cudnn: 16-bit types, widths that are multiples of 8 up to 128, no mask). Numerics: as
    train.attention defines, the probabilities rounded to the operands' type.
  }];
  let options = [Option<"library", "library", "std::string", "\"none\"", "Whose attention ops stay: none or cudnn">];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

def WidenProductsPass : Pass<"zopt-widen-products", "::mlir::func::FuncOp"> {
  let summary = "products of fp16 in fp32, where no library has them";
  let description = [{
    A `train.matmul`, or a convolution or a gradient of one, of f16 operands reads them, and its bias, through casts to f32, and its result is cast to the type that it had. A cast stands right before its product, so that none lives
    from forward to backward; run it behind the last CSE. Leaves none of f16. Never touches another type. Numerics: bitwise: products of f16 are exact in f32, in which
    they were summed before, and the result is rounded once as before, up to the order of the sum, which is the library's.
  }];
  let dependentDialects = ["::zopt::train::TrainDialect"];
}

#endif // ZOPT_TRANSFORMS_TRAININGPASSES_TD
