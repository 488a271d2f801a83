//===- Resolve.cpp - from the keys of a config to flags -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Config/Config.h"
#include "Values.h"
#include "zopt/Config/Keys.h"
#include "zopt/Runtime/Core/Schedule.h"
#include <algorithm>
#include <cmath>

namespace zopt::config {

using nlohmann::json;

namespace {

/// An optimizer of DeepSpeed's that zopt has (deepspeed/runtime/engine.py:_configure_basic_optimizer; torch.optim for SGD).
struct OptimizerType {
  const char *name, *flag;
  double learningRate, epsilon;
  const char *betas; // empty: has none
  std::vector<std::string> parameters;
};

const std::vector<OptimizerType> &optimizerTypes() {
  static const std::vector<std::string> adam = {"lr", "betas", "eps", "weight_decay", "bias_correction", "amsgrad", "adam_w_mode", "torch_adam", "fused", "foreach", "maximize", "fp32_optimizer_states"};
  static const std::vector<OptimizerType> types = {
      {"adam", "adamw", 1e-3, 1e-8, "0.9,0.999", adam},
      {"adamw", "adamw", 1e-3, 1e-8, "0.9,0.999", adam},
      {"sgd",
       "sgd",
       1e-3,
       0,
       "",
       {"lr", "momentum", "weight_decay", "nesterov", "dampening", "maximize", "foreach", "fused"}},
      {"adagrad",
       "adagrad",
       1e-2,
       1e-10,
       "",
       {"lr", "eps", "weight_decay", "amsgrad", "lr_decay", "initial_accumulator_value", "fp32_optimizer_states",
        "foreach", "fused", "maximize"}},
      {"lamb",
       "lamb",
       1e-3,
       1e-8,
       "0.9,0.999",
       {"lr", "betas", "eps", "weight_decay", "bias_correction", "amsgrad", "max_coeff", "min_coeff",
        "eps_inside_sqrt"}},
      {"lion", "lion", 1e-3, 0, "0.9,0.999", {"lr", "betas", "weight_decay"}},
      // Rate, betas and epsilon are those of MuonWithAuxAdam (runtime/zero/muon/original_muon.py); the last two are the auxiliary Adam's.
      {"muon",
       "muon",
       0.02,
       1e-10,
       "0.9,0.95",
       {"lr", "momentum", "weight_decay", "muon_lr", "adam_lr", "ns_method", "per_head_muon", "betas", "eps", "adam_w_mode", "torch_adam", "fp32_optimizer_states"}},
  };
  return types;
}
const std::vector<std::string> kOptimizersNotBuilt = {"onebitadam", "zerooneadam", "onebitlamb", "muadam", "muadamw", "musgd"};

/// The shortest text that reads back as the same number; whole ones without a point.
std::string numberText(const json &value) {
  if (value.is_number_float())
    if (double real = value.get<double>(); real == std::floor(real) && std::fabs(real) < 1e15)
      return std::to_string(static_cast<int64_t>(real));
  return value.dump();
}
std::string text(const json &value) { return valueText(value); }
std::string lower(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

/// Of checks that have all been made, so that every problem is told.
bool all(std::initializer_list<bool> checks) {
  return std::find(checks.begin(), checks.end(), false) == checks.end();
}

class Resolver {
public:
  Resolver(const Document &document, const Request &request) : document(document), request(request) {
    resolved.refused = document.refused;
    resolved.warnings = document.warnings;
  }

  Resolved run() {
    classes();
    batch();
    precision();
    optimizer();
    schedule();
    zero();
    if (isTrue("activation_checkpointing.partition_activations"))
      set("recompute", "full", "activation_checkpointing.partition_activations");
    else if (given("activation_checkpointing.number_checkpoints"))
      set("recompute", "full", "activation_checkpointing.number_checkpoints");
    monitors();
    if (const json *sums = given("data_types.grad_accum_dtype"); sums && *sums != "fp32")
      refuse("data_types.grad_accum_dtype", "is " + sums->dump() + ", but micro-steps are summed in fp32 only: not supported yet");
    return std::move(resolved);
  }

private:
  void refuse(const std::string &key, std::string what) { resolved.refused.push_back({key, std::move(what)}); }
  void note(const std::string &key, std::string what) { resolved.notes.push_back({key, std::move(what)}); }

  /// The value of a key, or null if the config has none, or has null or "auto".
  const json *given(const std::string &key) const {
    auto it = document.values.find(key);
    return it == document.values.end() || it->second.is_null() ? nullptr : &it->second;
  }
  bool isAuto(const std::string &key) const { return document.automatic.count(key) != 0; }
  bool isTrue(const std::string &key) const {
    const json *value = given(key);
    return value && *value == true;
  }
  bool flagGiven(const std::string &flag) const { return request.given.count(flag) != 0; }

  /// A flag of the command line overrides what the config says.
  void set(const std::string &flag, const std::string &value, const std::string &key, Origin origin = Origin::Config) {
    if (flagGiven(flag))
      resolved.settings.push_back({flag, request.given.at(flag), Origin::Flag, ""});
    else
      resolved.settings.push_back({flag, value, origin, key});
  }
  /// A flag of zrun. What overrides it is zrun's command line.
  void setRun(const std::string &flag, const std::string &value, const std::string &key) {
    if (value.find('\n') != std::string::npos)
      return refuse(key, "holds a line break");
    resolved.settings.push_back({flag, value, Origin::Config, key, /*ofRun=*/true});
  }
  /// The key's value, or DeepSpeed's default; nothing for "auto" without a rule, which is left to zopt.
  void setFrom(const std::string &flag, const std::string &key, const std::string &fallback) {
    if (const json *value = given(key))
      set(flag, text(*value), key);
    else if (isAuto(key) && !flagGiven(flag))
      note(key, "is auto: zopt's default of --" + flag);
    else if (!fallback.empty() || flagGiven(flag))
      set(flag, fallback, key, Origin::DeepSpeedDefault);
  }
  /// A number of the config that must lie in a range; false if it was refused.
  bool atLeast(const std::string &key, double least, bool exclusive = false) {
    const json *value = given(key);
    if (!value || !value->is_number())
      return true;
    const double number = value->get<double>();
    if (std::isfinite(number) && (exclusive ? number > least : number >= least))
      return true;
    refuse(key, "is " + value->dump() + ", expected " + (exclusive ? "more than " : "at least ") + numberText(least));
    return false;
  }

  /// What the table alone decides.
  void classes() {
    for (const auto &[path, value] : document.values) {
      const Key &key = *findKey(path);
      json usual = *key.fallback ? json::parse(key.fallback) : json();
      const bool off = value == usual || value.is_null() || value == false || (value.is_structured() && value.empty()) || (path == "tensor_parallel.autotp_size" && value == 1);
      switch (key.effect) {
      case Effect::None:
        resolved.noEffect.push_back({path, key.about});
        break;
      case Effect::Unsupported:
        // `false` is how a switch is off, but no default of one that is on.
        if (value == usual || (off && usual != true))
          break;
        [[fallthrough]];
      case Effect::Switch:
        if (!off || (usual == true && value == false))
          refuse(path, "is " + shownValue(value) + ": not supported yet: " + key.about);
        break;
      default:
        break;
      }
    }
    for (const std::string &path : document.automatic)
      if (const Key *key = findKey(path); key->effect == Effect::None)
        resolved.noEffect.push_back({path, key->about});
    for (const Key &key : keys())
      if (key.effect == Effect::Flag) {
        if (key.type == Type::Number && !atLeast(key.path, 0))
          continue;
        setFrom(std::string(key.about).substr(2), key.path, std::string(key.fallback) == "null" ? "" : text(json::parse(key.fallback)));
      }
  }
  static std::string shownValue(const json &value) {
    std::string shown = value.dump(-1, ' ', false, json::error_handler_t::replace);
    return shown.size() <= 60 ? shown : shown.substr(0, 57) + "...";
  }

  void batch() {
    const std::string globalKey = "train_batch_size", microKey = "train_micro_batch_size_per_gpu", accumKey = "gradient_accumulation_steps";
    bool valid = true;
    std::optional<int64_t> global, micro, accum;
    for (auto [key, value] : {std::pair(&globalKey, &global), std::pair(&microKey, &micro), std::pair(&accumKey, &accum)})
      if (const json *number = given(*key)) {
        if (!atLeast(*key, 1) || !(valid &= number->get<int64_t>() <= INT32_MAX))
          valid = false, refuseLarge(*key, *number);
        else
          *value = number->get<int64_t>();
      }
    if (!valid)
      return;
    const bool microFlag = flagGiven("micro-batch"), accumFlag = flagGiven("grad-accum"), globalFlag = flagGiven("global-batch");
    if (!microFlag && !accumFlag && !globalFlag && !global && !micro) {
      if (isAuto(globalKey) || isAuto(microKey))
        note(isAuto(microKey) ? microKey : globalKey, "is auto: zopt's default of --micro-batch");
      else if (!request.partial)
        refuse("", "has neither train_batch_size nor train_micro_batch_size_per_gpu: one of them is required");
    }
    // What the command line says of the three leaves the config the rest, but no third one to contradict.
    if (globalFlag && micro && accum)
      accum.reset(), note(accumKey, "is overridden by --global-batch");
    else if ((microFlag || accumFlag) && global && (microFlag || micro) && (accumFlag || accum))
      global.reset(), note(globalKey, "is overridden by the command line's micro-batch or micro-steps");
    const bool microSaid = micro.has_value(), accumSaid = accum.has_value();
    if (!microFlag && !accumFlag && !globalFlag)
      triad(global, micro, accum);
    // What follows from a global batch alone is for the plan to say, where there is one.
    if (request.partial && !microSaid)
      micro.reset();
    if (request.partial && !accumSaid)
      accum.reset();
    if (microFlag || micro)
      set("micro-batch", micro ? std::to_string(*micro) : "", microKey);
    if (accumFlag || accum)
      set("grad-accum", accum ? std::to_string(*accum) : "", accumKey);
    else if ((microFlag || micro) && !(globalFlag || global))
      set("grad-accum", "1", accumKey, Origin::DeepSpeedDefault);
    if (globalFlag || global)
      set("global-batch", global ? std::to_string(*global) : "", globalKey);
  }
  void refuseLarge(const std::string &key, const json &number) {
    if (number.get<double>() > INT32_MAX)
      refuse(key, "is " + number.dump() + ", expected at most " + std::to_string(INT32_MAX));
  }
  /// DeepSpeed's check of the three (deepspeed/runtime/config.py:_batch_assertion), as far as the number of ranks is known.
  void triad(std::optional<int64_t> &global, std::optional<int64_t> &micro, std::optional<int64_t> &accum) {
    if (!global)
      return;
    if (!micro && !accum) {
      if (!request.ranks)
        return note("train_batch_size", "alone: micro-steps of one sample, as many as the number of ranks leaves");
      accum = 1; // as DeepSpeed
    }
    const int64_t parts = micro.value_or(1) * accum.value_or(1) * std::max<int64_t>(1, request.ranks);
    std::string product = micro ? "micro-batch " + std::to_string(*micro) : "";
    if (accum)
      product += (product.empty() ? "" : " x ") + std::to_string(*accum) + " micro-steps";
    if (request.ranks)
      product += " x " + std::to_string(request.ranks) + " ranks";
    if (!micro && !request.ranks)
      return refuse("train_batch_size", "with gradient_accumulation_steps leaves the micro-batch to the number of ranks: give --nproc or train_micro_batch_size_per_gpu");
    if (*global % parts || (micro && accum && request.ranks && *global != parts))
      return refuse("train_batch_size", "is " + std::to_string(*global) + ", but " + product + " is " + std::to_string(parts));
    if (!micro)
      micro = *global / parts;
  }

  void precision() {
    const bool flag = flagGiven("bf16") || flagGiven("fp16") || flagGiven("fp64");
    const bool half = isTrue("fp16.enabled"), brain = isTrue("bf16.enabled");
    if (half && brain)
      refuse("fp16.enabled", "and bf16.enabled are both true: they exclude one another");
    if (isTrue("bf16.bf16_optimizer_states") && !isTrue("bf16.bf16_master_weights_and_grads"))
      refuse("bf16.bf16_optimizer_states", "needs bf16.bf16_master_weights_and_grads");
    if (flag) {
      for (const char *name : {"bf16", "fp16", "fp64"})
        if (flagGiven(name))
          set(name, "true", "");
    } else if (request.partial && !half && !brain && (given("fp16.enabled") || given("bf16.enabled"))) {
      set("fp32", "true",
          given("bf16.enabled") ? "bf16.enabled" : "fp16.enabled"); // the plan may have been compiled with another
    } else if (half || brain) {
      set(half ? "fp16" : "bf16", "true", half ? "fp16.enabled" : "bf16.enabled");
    }
    compute = flag ? (flagGiven("fp64") ? "fp64" : flagGiven("fp16") ? "fp16" : "bf16") : half ? "fp16" : brain ? "bf16" : "fp32";
    if (compute != "fp16")
      return;
    const bool valid = all({atLeast("fp16.loss_scale", 0), atLeast("fp16.min_loss_scale", 0, /*exclusive=*/true), atLeast("fp16.loss_scale_window", 1), atLeast("fp16.hysteresis", 1)});
    if (!valid)
      return;
    if (const json *scale = given("fp16.loss_scale"); scale && *scale != 0)
      return set("loss-scale", text(*scale), "fp16.loss_scale");
    if (flagGiven("loss-scale") && request.given.at("loss-scale") != "dynamic")
      return set("loss-scale", "", "");
    setFrom("loss-scale-init-power", "fp16.initial_scale_power", "16");
    setFrom("loss-scale-window", "fp16.loss_scale_window", "1000");
    setFrom("loss-scale-hysteresis", "fp16.hysteresis", "2");
    setFrom("loss-scale-min", "fp16.min_loss_scale", "1");
    setFrom("loss-scale-consecutive-hysteresis", "fp16.consecutive_hysteresis", "false");
  }

  void optimizer() {
    const std::string prefix = "optimizer.params.";
    const json *type = given("optimizer.type");
    std::string name = type ? lower(type->get<std::string>()) : "adamw";
    if (flagGiven("optimizer"))
      name = request.given.at("optimizer");
    const std::vector<OptimizerType> &types = optimizerTypes();
    const auto known = std::find_if(types.begin(), types.end(), [&](const OptimizerType &candidate) { return name == candidate.name; });
    if (known == types.end()) {
      if (flagGiven("optimizer"))
        return;
      if (std::find(kOptimizersNotBuilt.begin(), kOptimizersNotBuilt.end(), name) != kOptimizersNotBuilt.end())
        return refuse("optimizer.type", "is " + shownValue(*type) + ": not supported yet");
      std::vector<std::string> names;
      for (const OptimizerType &candidate : types)
        names.push_back(candidate.name);
      const std::string near = nearest(name, names);
      return refuse("optimizer.type", "is " + shownValue(*type) + (near.empty() ? ", expected Adam, AdamW, SGD, Adagrad, LAMB, Lion or Muon" : "; did you mean " + near + "?"));
    }
    if (!type && !flagGiven("optimizer")) {
      for (const auto &[path, value] : document.values)
        if (path.rfind(prefix, 0) == 0)
          return refuse("optimizer.type", "is missing, but optimizer.params is there");
      if (!request.partial || isAuto("optimizer.type"))
        note("optimizer.type",
             isAuto("optimizer.type") ? "is auto: zopt's AdamW" : "is absent: zopt's AdamW, with DeepSpeed's defaults");
    }
    const std::string kind = type ? type->get<std::string>() : known->name;
    // A parameter that this type does not have is a TypeError of its constructor. Another optimizer on the command line takes what it knows.
    for (const auto &[path, value] : document.values)
      if (path.rfind(prefix, 0) == 0) {
        const std::string parameter = path.substr(prefix.size());
        if (std::find(known->parameters.begin(), known->parameters.end(), parameter) != known->parameters.end())
          continue;
        if (flagGiven("optimizer"))
          note(path, "is no parameter of --optimizer=" + name);
        else if (parameter != "max_grad_norm")
          refuse(path, "is no parameter of " + kind);
      }
    const json *decoupled = given(prefix + "adam_w_mode");
    const bool coupled = name == "adam" && (flagGiven("optimizer") || (decoupled && *decoupled == false));
    set("optimizer", coupled ? "adam" : known->flag, "optimizer.type", type ? Origin::Config : Origin::DeepSpeedDefault);
    if (type && name == "adam" && !coupled && !flagGiven("optimizer"))
      note("optimizer.type", "is Adam, which DeepSpeed runs as AdamW unless adam_w_mode is false");
    if (name == "muon" && decoupled && *decoupled == false)
      refuse(prefix + "adam_w_mode", "is false: not supported yet: what Muon does not update is AdamW's");
    const bool valid = all({atLeast(prefix + "lr", 0), atLeast(prefix + "eps", 0), atLeast(prefix + "weight_decay", 0), atLeast(prefix + "momentum", 0), atLeast(prefix + "muon_lr", 0, /*exclusive=*/true), atLeast(prefix + "adam_lr", 0, /*exclusive=*/true)});
    if (!valid)
      return;
    auto has = [&](const char *parameter) { return std::find(known->parameters.begin(), known->parameters.end(), parameter) != known->parameters.end(); };
    if (name == "muon")
      muonRates(prefix);
    else
      setFrom("lr", prefix + "lr", numberText(known->learningRate));
    if (has("eps"))
      setFrom("eps", prefix + "eps", numberText(known->epsilon));
    if (has("betas"))
      betas(prefix + "betas", known->betas);
    setFrom("weight-decay", prefix + "weight_decay", "0");
    if (has("momentum")) {
      setFrom("momentum", prefix + "momentum", name == "muon" ? "0.95" : "0");
      if (isTrue(prefix + "nesterov"))
        set("nesterov", "true", prefix + "nesterov");
    }
  }
  /// DeepSpeed's _muon_half_defaults: each half has a rate of its own, else the one of both, else a default of its own.
  void muonRates(const std::string &prefix) {
    if (given(prefix + "muon_lr"))
      setFrom("lr", prefix + "muon_lr", "");
    else
      setFrom("lr", prefix + "lr", "0.02");
    if (given(prefix + "adam_lr"))
      set("adam-lr", text(*given(prefix + "adam_lr")), prefix + "adam_lr");
    else if (given(prefix + "lr") && given(prefix + "muon_lr"))
      set("adam-lr", text(*given(prefix + "lr")), prefix + "lr");
    else if (!given(prefix + "lr") && !isAuto(prefix + "lr") && !flagGiven("lr"))
      set("adam-lr", "0.0003", prefix + "adam_lr", Origin::DeepSpeedDefault);
  }
  void betas(const std::string &key, const std::string &fallback) {
    const json *pair = given(key);
    if (!pair)
      return setFrom("betas", key, fallback);
    const bool two = pair->size() == 2 && std::all_of(pair->begin(), pair->end(), [](const json &beta) { return beta.is_number() && beta.get<double>() >= 0 && beta.get<double>() < 1; });
    // DeepSpeed takes any list; anything but two numbers is a mistake.
    if (!two)
      return refuse(key, "is " + shownValue(*pair) + ", expected two numbers of at least 0 and below 1");
    set("betas", numberText((*pair)[0]) + "," + numberText((*pair)[1]), key);
  }

  void schedule() {
    const std::string prefix = "scheduler.params.";
    const json *type = given("scheduler.type");
    bool anyParameter = false;
    std::string flag;
    auto add = [&](const std::string &name, const std::string &value) { flag += "," + name + "=" + value; };
    const std::string name = type ? type->get<std::string>() : "";
    for (const auto &[path, value] : document.values) {
      if (path.rfind(prefix, 0) != 0)
        continue;
      anyParameter = true;
      const std::string parameter = path.substr(prefix.size());
      if (value.is_null() || (parameter == "last_batch_iteration" && value == -1))
        continue;
      if (value.is_structured() || text(value).find(',') != std::string::npos)
        refuse(path, "is " + shownValue(value) + ", expected a number, true, false or a word");
      else
        add(parameter, text(value));
    }
    for (const std::string &path : document.automatic)
      if (path.rfind(prefix, 0) == 0) {
        // Hugging Face: no warm-up unless asked for, from rate 0 up to the optimizer's; total steps are the run's (zrun).
        anyParameter = true;
        const std::string parameter = path.substr(prefix.size());
        if (parameter == "warmup_num_steps")
          add(parameter, "2"), note(path, "is auto: 2, DeepSpeed's least");
        else if (parameter == "warmup_min_lr")
          add(parameter, "0"), note(path, "is auto: 0");
        else if (parameter == "total_num_steps")
          note(path, "is auto: the steps of zrun's run");
        else if (parameter == "warmup_max_lr")
          add(parameter, learningRate()), note(path, "is auto: the optimizer's rate, " + learningRate());
        else
          note(path, "is auto: DeepSpeed's default");
      }
    if (flagGiven("schedule"))
      return set("schedule", "", "");
    if (!type) {
      if (anyParameter && !isAuto("scheduler.type"))
        refuse("scheduler.type", "is missing, but scheduler.params is there");
      return;
    }
    const std::vector<std::string> names = {"WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"};
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      const std::string near = nearest(name, names);
      return refuse("scheduler.type", "is " + shownValue(*type) + (near.empty() ? ", expected WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle or LRRangeTest" : "; did you mean " + near + "?"));
    }
    if (runtime::Result<runtime::Schedule> parsed = runtime::Schedule::parse(name + flag); parsed.failed())
      return refuse("scheduler.params", "of " + parsed.getStatus().message());
    set("schedule", name + flag, "scheduler.type");
  }
  std::string learningRate() const {
    if (flagGiven("lr"))
      return request.given.at("lr");
    if (const json *rate = given("optimizer.params.lr"))
      return text(*rate);
    auto plans = request.compiled.find("lr");
    return plans == request.compiled.end() ? "0.001" : plans->second;
  }

  void zero() {
    const std::string prefix = "zero_optimization.";
    if (const json *stage = given(prefix + "stage"); stage && (*stage < 0 || *stage > 3))
      return refuse(prefix + "stage", "is " + stage->dump() + ", expected 0, 1, 2 or 3");
    if (isTrue(prefix + "cpu_offload") && given(prefix + "offload_optimizer.device"))
      refuse(prefix + "cpu_offload", "and offload_optimizer, which replaces it, are both there");
    if (isTrue(prefix + "cpu_offload_param") && given(prefix + "offload_param.device"))
      refuse(prefix + "cpu_offload_param", "and offload_param, which replaces it, are both there");
    setFrom("zero-stage", prefix + "stage", "0");
    const Setting *stage = resolved.find("zero-stage");
    const bool third = stage && stage->value == "3";
    const int64_t bytes = compute == "fp64" ? 8 : compute == "fp32" ? 4 : 2;

    const std::string reduceKey = prefix + "reduce_bucket_size", prefetchKey = prefix + "stage3_prefetch_bucket_size", persistKey = prefix + "stage3_param_persistence_threshold";
    const bool valid = all({atLeast(reduceKey, 1), atLeast(prefetchKey, third ? 0 : -1), atLeast(persistKey, 0)});
    if (!valid)
      return;
    // One set of buckets is gathered and reduced: at stage 3 the smaller size counts.
    std::optional<Elements> bucket = elements(reduceKey, 500000000, 1.0, 2);
    if (third)
      if (std::optional<Elements> prefetch = elements(prefetchKey, 50000000, 0.9, 2); prefetch && prefetch->count > 0 && bucket && prefetch->count < bucket->count)
        bucket = prefetch;
    setBytes("bucket-bytes", bucket, bytes);
    if (third)
      setBytes("persist-bytes", elements(persistKey, 100000, 10.0, 1), bytes);
  }
  struct Elements {
    int64_t count;
    std::string key;
    Origin origin;
  };
  /// A size in elements: the config's, DeepSpeed's, or for "auto" Hugging Face's factor * hidden^power (transformers/integrations/deepspeed.py).
  std::optional<Elements> elements(const std::string &key, int64_t fallback, double factor, int power) {
    if (const json *count = given(key))
      return Elements{count->get<int64_t>(), key, Origin::Config};
    if (!isAuto(key))
      return Elements{fallback, key, Origin::DeepSpeedDefault};
    if (!request.hiddenSize) {
      resolved.needsHiddenSize = true;
      return {};
    }
    return Elements{std::max<int64_t>(1, int64_t(factor * std::pow(double(*request.hiddenSize), power))), key, Origin::Auto};
  }
  void setBytes(const std::string &flag, const std::optional<Elements> &size, int64_t bytes) {
    if (!size) {
      if (flagGiven(flag))
        set(flag, "", "");
      return;
    }
    const int64_t total = size->count > INT64_MAX / bytes ? INT64_MAX : size->count * bytes;
    set(flag, std::to_string(total), size->key, size->origin);
    if (!flagGiven(flag) && size->origin != Origin::DeepSpeedDefault)
      note(size->key, (size->origin == Origin::Auto ? "is auto: " : "is ") + std::to_string(size->count) + " elements of " + std::to_string(bytes) + " bytes (" + compute + "): --" + flag + "=" + std::to_string(total));
  }

  /// What zrun shows of the run, and where (deepspeed/monitor/*.py put both writers into output_path/job_name).
  void monitors() {
    if (const json *every = given("steps_per_print")) {
      if (*every < 1)
        refuse("steps_per_print", "is " + every->dump() + ", expected at least 1, or null");
      else
        setRun("print-every", text(*every), "steps_per_print");
    }
    if (isTrue("wall_clock_breakdown"))
      setRun("breakdown", "true", "wall_clock_breakdown");
    if (isTrue("memory_breakdown"))
      setRun("memory-report", "text", "memory_breakdown");
    if (isTrue("comms_logger.enabled"))
      setRun("comm-log", "comms_logger.json", "comms_logger.enabled");
    auto place = [&](const std::string &section) {
      const json *folder = given(section + ".output_path"), *job = given(section + ".job_name");
      const std::string path = folder ? text(*folder) : "", name = job ? text(*job) : "DeepSpeedJobName";
      return path.empty() || path.back() == '/' ? path + name : path + "/" + name;
    };
    if (isTrue("tensorboard.enabled"))
      setRun("tensorboard", place("tensorboard"), "tensorboard.enabled");
    if (isTrue("csv_monitor.enabled"))
      setRun("csv", place("csv_monitor") + ".csv", "csv_monitor.enabled");
    if (!isTrue("wandb.enabled"))
      return;
    std::string names;
    for (const char *name : {"project", "group", "team"}) {
      const std::string key = std::string("wandb.") + name;
      const json *value = given(key);
      if (!value && std::string(name) != "project")
        continue;
      const std::string word = value ? text(*value) : "deepspeed";
      if (word.empty() || word.find(',') != std::string::npos)
        refuse(key, "is " + shownValue(json(word)) + ", expected a name without a comma");
      names += (names.empty() ? "" : ",") + std::string(name) + "=" + word;
    }
    setRun("wandb", names, "wandb.enabled");
  }

  const Document &document;
  const Request &request;
  Resolved resolved;
  std::string compute = "fp32";
};

} // namespace

std::string valueText(const json &value) {
  if (value.is_number())
    return numberText(value);
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Resolved resolve(const Document &document, const Request &request) {
  if (!request.partial)
    return Resolver(document, request).run();
  // Stage and precision of the plan, where the config has none: sizes in elements depend on them.
  Request whole = request;
  auto compiled = [&](const char *flag) {
    auto it = request.compiled.find(flag);
    return it == request.compiled.end() ? std::string() : it->second;
  };
  if (const std::string stage = compiled("zero-stage");
      !stage.empty() && !document.values.count("zero_optimization.stage"))
    whole.given["zero-stage"] = stage;
  if (const std::string precision = compiled("precision"); !precision.empty() && precision != "fp32" &&
                                                           !document.values.count("bf16.enabled") &&
                                                           !document.values.count("fp16.enabled"))
    whole.given[precision] = "true";
  return Resolver(document, whole).run();
}

} // namespace zopt::config
