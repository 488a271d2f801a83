//===- JobKeys.cpp - every key of a job -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Job.h"

namespace zopt::config {

// clang-format off
const std::vector<Key> &jobKeys() {
  constexpr Type Bool = Type::Bool, Int = Type::Int, Number = Type::Number, Text = Type::Text, Object = Type::Object, List = Type::List, Any = Type::Any;
  constexpr Effect Flag = Effect::Flag, Rule = Effect::Rule, None = Effect::None, Renamed = Effect::Renamed;
  static const char *const kWorkers = "batches are read while the step before runs", *const kPinned = "zrun pins what a GPU reads", *const kDropped = "what is less than a global batch is always dropped";
  static const std::vector<Key> table = {
    {"algorithm", Text, "\"sft\"", Rule, "what scripts/run_distributed.py was asked for must be this; the data says which labels count", "sft|pretrain"},
    // The model. `model: FILE` is `model: {path: FILE}`.
    {"model.path", Text, "", Rule, "the model that zopt compiles, where its command line names none"},
    {"model.bind", Object, "", Rule, "--bind, one a dimension"},
    {"model.logits", Text, "", Flag, "--logits"},
    {"model.labels", Text, "", Flag, "--labels"},
    {"model.tie_weights", Bool, "", Flag, "--tie-weights"},
    {"model.training_mode", Text, "", Flag, "--training-mode", "keep|train|eval"},
    {"model.train_only", Any, "", Rule, "--train-only, one an entry"},
    {"model.freeze", Any, "", Rule, "--freeze, one an entry"},
    {"model.weights", Text, "", Flag, "zrun --weights"},
    {"model.init", Text, "", Flag, "zrun --init"},
    // Training.
    {"training.distributed", Bool, "true", Rule, "false: one rank, and more are refused"},
    {"training.distributed_strategy", Text, "\"deepspeed\"", Rule, "deepspeed: the config of training.deepspeed; ddp: --zero-stage=0; auto: --zero-stage=auto", "deepspeed|ddp|auto"},
    {"training.deepspeed.config_path", Text, "", Rule, "DeepSpeed's JSON, from here or from the job's folder"},
    {"training.deepspeed.config", Object, "", Rule, "the same in place, as YAML"},
    {"training.mixed_precision", Text, "", Rule, "--bf16, --fp16 or neither", "no|bf16|fp16|fp32"},
    {"training.gradient_accumulation_steps", Int, "", Rule, "--grad-accum"},
    {"training.global_batch_size", Int, "", Rule, "--global-batch"},
    {"training.gradient_clipping", Number, "", Rule, "--clip"},
    {"training.max_grad_norm", Number, "", Renamed, "training.gradient_clipping"},
    {"training.optimizer", Text, "", Flag, "--optimizer"},
    {"training.learning_rate", Number, "", Rule, "--lr"},
    {"training.weight_decay", Number, "", Rule, "--weight-decay"},
    {"training.schedule", Text, "", Flag, "--schedule"},
    {"training.loss", Text, "", Flag, "--loss"},
    {"training.label_smoothing", Number, "", Flag, "--label-smoothing"},
    {"training.ignore_index", Int, "", Flag, "--ignore-index"},
    {"training.loss_average", Text, "", Flag, "--loss-average", "global|micro-batch"},
    {"training.gradient_checkpointing", Bool, "", Rule, "--recompute=full, if true"},
    {"training.recompute", Text, "", Flag, "--recompute", "none|selective|full"},
    {"training.ema", Number, "", Flag, "--ema"},
    {"training.max_steps", Int, "", Flag, "zrun --steps"},
    {"training.epochs", Int, "", Flag, "zrun --epochs"},
    {"training.num_epochs", Int, "", Renamed, "training.epochs"},
    {"training.num_train_epochs", Int, "", Renamed, "training.epochs"},
    {"training.seed", Int, "", Flag, "zrun --seed"},
    {"training.nonfinite", Text, "", Flag, "zrun --nonfinite", "skip|stop|rollback"},
    {"training.timeout", Number, "", Flag, "zrun --timeout"},
    // The loader, here or under `training`.
    {"dataloader.batch_size", Int, "", Rule, "--micro-batch: samples a rank and micro-step"},
    {"dataloader.shuffle", Bool, "", Flag, "zrun --shuffle"},
    {"dataloader.num_workers", Int, "", Flag, "zrun --num-workers"},
    {"dataloader.prefetch_factor", Int, "", None, kWorkers},
    {"dataloader.persistent_workers", Bool, "", None, kWorkers},
    {"dataloader.pin_memory", Bool, "", None, kPinned},
    {"dataloader.drop_last", Bool, "", None, kDropped},
    // Data. `data: FILE` and `data: [FILE, ...]` are `data: {files: ...}`.
    {"data.files", Any, "", Rule, "zrun --data, one an entry"},
    {"data.path", Any, "", Renamed, "data.files"},
    {"data.format", Text, "", Flag, "zrun --data-format"},
    {"data.token_dtype", Text, "", Flag, "zrun --token-dtype"},
    {"data.shift_labels", Bool, "", Rule, "zrun --shift-labels, or --no-shift-labels"},
    {"data.bad_records", Text, "", Flag, "zrun --bad-records"},
    {"data.long_rows", Text, "", Flag, "zrun --long-rows"},
    {"data.pad_token", Int, "", Flag, "zrun --pad-token"},
    {"data.pack", Bool, "", Flag, "zrun --pack"},
    // Held-out data.
    {"evaluation.files", Any, "", Rule, "zopt --eval, and zrun --eval-data, one an entry"},
    {"evaluation.every", Int, "", Flag, "zrun --eval-every"},
    {"evaluation.steps", Int, "", Flag, "zrun --eval-steps"},
    // Checkpoints.
    {"checkpoint.dir", Text, "", Flag, "zrun --checkpoint-dir"},
    {"checkpoint.every", Any, "", Flag, "zrun --checkpoint-every"},
    {"checkpoint.keep", Int, "", Flag, "zrun --keep"},
    {"checkpoint.keep_best", Bool, "", Flag, "zrun --keep-best"},
    {"checkpoint.resume", Any, "", Rule, "zrun --resume: auto, true (the newest), a folder, or false"},
    {"checkpoint.max_restarts", Int, "", Flag, "zrun --max-restarts"},
    {"checkpoint.allow_change", List, "", Rule, "zrun --allow-change, one an entry"},
    // What is written.
    {"output.weights", Text, "", Flag, "zrun --weights-out"},
    {"output.ema", Text, "", Flag, "zrun --ema-out"},
    {"output.names", Text, "", Flag, "zrun --names", "onnx|source"},
    {"monitor.metrics", Text, "", Flag, "zrun --metrics"},
    {"monitor.csv", Text, "", Flag, "zrun --csv"},
    {"monitor.tensorboard", Text, "", Flag, "zrun --tensorboard"},
    {"monitor.prometheus", Int, "", Flag, "zrun --prometheus"},
    {"monitor.on_metrics", Text, "", Flag, "zrun --on-metrics"},
    {"monitor.wandb", Text, "", Flag, "zrun --wandb"},
    {"monitor.print_every", Int, "", Flag, "zrun --print-every"},
    {"monitor.breakdown", Bool, "", Flag, "zrun --breakdown"},
    {"monitor.trace", Text, "", Flag, "zrun --trace"},
    {"monitor.comm_log", Text, "", Flag, "zrun --comm-log"},
    {"monitor.peak_flops", Number, "", Flag, "zrun --peak-flops"},
  };
  return table;
}
// clang-format on

} // namespace zopt::config
