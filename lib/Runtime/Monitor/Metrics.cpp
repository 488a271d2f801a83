//===- Metrics.cpp - what a run measures, a JSON object a line ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Metrics.h"
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace zopt::runtime {

void appendJson(std::string &text, double value) {
  if (std::isnan(value)) {
    text += "\"nan\"";
    return;
  }
  if (std::isinf(value)) {
    text += value < 0 ? "\"-inf\"" : "\"inf\"";
    return;
  }
  char digits[32];
  const char *end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  text.append(digits, size_t(end - digits));
  if (std::find_if(static_cast<const char *>(digits), end, [](char c) { return c == '.' || c == 'e'; }) == end)
    text += ".0";
}

void appendJson(std::string &text, const std::string &value) {
  text += nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

namespace {

void appendInteger(std::string &text, int64_t value) {
  char digits[24];
  text.append(digits, size_t(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
}

void appendKey(std::string &text, const char *key) {
  text += ",\"";
  text += key;
  text += "\":";
}
void appendField(std::string &text, const char *key, int64_t value) {
  appendKey(text, key);
  appendInteger(text, value);
}
void appendField(std::string &text, const char *key, double value) {
  appendKey(text, key);
  appendJson(text, value);
}
void appendField(std::string &text, const char *key, const std::string &value) {
  appendKey(text, key);
  appendJson(text, value);
}
void appendField(std::string &text, const char *key, bool value) {
  appendKey(text, key);
  text += value ? "true" : "false";
}
void appendField(std::string &text, const char *key, const TierBytes &value) {
  appendKey(text, key);
  text += "{\"device\":";
  appendInteger(text, value.device);
  appendField(text, "host", value.host);
  appendField(text, "file", value.file);
  text += '}';
}

void appendTerms(std::string &text, const LossTerms &terms) {
  for (const auto &[name, value] : terms) {
    text += ',';
    appendJson(text, "loss/" + name);
    text += ':';
    appendJson(text, value);
  }
}

} // namespace

MetricsFile::MetricsFile() { line.reserve(1024); }

Result<MetricsFile> MetricsFile::open(const std::string &path, bool append) {
  Result<LineFile> file = LineFile::open(path, append);
  if (file.failed())
    return file.getStatus();
  MetricsFile metrics;
  metrics.file = std::move(*file);
  return Result<MetricsFile>(std::move(metrics));
}

Result<MetricsFile> MetricsFile::resume(const std::string &path, int64_t step) {
  Result<LineFile> file = LineFile::resume(path, [&](const std::string &text) {
    constexpr const char *start = "{\"event\":\"step\"", *key = "\"step\":";
    if (text.rfind(start, 0) != 0)
      return false;
    size_t at = text.find(key, std::strlen(start));
    return at != std::string::npos && std::atoll(text.c_str() + at + std::strlen(key)) > step;
  });
  if (file.failed())
    return file.getStatus();
  MetricsFile metrics;
  metrics.file = std::move(*file);
  return Result<MetricsFile>(std::move(metrics));
}

void MetricsFile::begin(const char *event) {
  line = "{\"event\":\"";
  line += event;
  line += '"';
  // Seconds since 1970, to the microsecond, which a double holds exactly enough.
  double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  appendField(line, "time", std::round(now * 1e6) / 1e6);
}

Status MetricsFile::finish() {
  line += "}\n";
  if (file)
    ZOPT_RETURN_IF_FAILED(file->write(line));
  for (const std::unique_ptr<Monitor> &monitor : monitors)
    ZOPT_RETURN_IF_FAILED(monitor->record(line));
  return success();
}

Status MetricsFile::close() {
  Status first;
  for (const std::unique_ptr<Monitor> &monitor : monitors)
    if (Status status = monitor->close(); first.succeeded())
      first = status;
  monitors.clear();
  return first;
}

Status MetricsFile::write(const StartEvent &event) {
  begin("start");
  appendField(line, "plan", event.plan);
  appendField(line, "nproc", event.ranks);
  appendField(line, "comm", event.comm);
  appendField(line, "target", event.target);
  appendField(line, "planned_peak", event.plannedPeak);
  appendField(line, "parameters", event.parameters);
  appendField(line, "buckets", event.buckets);
  return finish();
}

Status MetricsFile::write(const StepEvent &event) {
  begin("step");
  appendField(line, "step", event.step);
  appendField(line, "epoch", event.epoch);
  appendField(line, "samples", event.samples);
  if (event.tokens)
    appendField(line, "tokens", *event.tokens);
  appendField(line, "loss", event.loss);
  appendTerms(line, event.terms);
  appendField(line, "grad_norm", event.gradientNorm);
  appendField(line, "lr", event.learningRate);
  if (event.momentum)
    appendField(line, "momentum", *event.momentum);
  if (event.lossScale)
    appendField(line, "loss_scale", *event.lossScale);
  appendField(line, "skipped", event.skipped);
  appendField(line, "step_ms", event.stepMilliseconds);
  appendField(line, "samples_per_s", event.samplesPerSecond);
  if (event.tokens)
    appendField(line, "tokens_per_s", event.tokensPerSecond);
  if (event.flops)
    appendField(line, "flops", *event.flops);
  if (event.mfu)
    appendField(line, "mfu", *event.mfu);
  ZOPT_RETURN_IF_FAILED(finish());
  for (const std::unique_ptr<Monitor> &monitor : monitors)
    ZOPT_RETURN_IF_FAILED(monitor->step(event));
  return success();
}

Status MetricsFile::write(const EvaluationEvent &event) {
  begin("eval");
  appendField(line, "step", event.step);
  appendField(line, "loss", event.loss);
  appendTerms(line, event.terms);
  if (event.perplexity)
    appendField(line, "perplexity", *event.perplexity);
  if (event.accuracy)
    appendField(line, "accuracy", *event.accuracy);
  appendField(line, "labels", event.labels);
  appendField(line, "samples", event.samples);
  appendField(line, "seconds", event.seconds);
  ZOPT_RETURN_IF_FAILED(finish());
  for (const std::unique_ptr<Monitor> &monitor : monitors)
    ZOPT_RETURN_IF_FAILED(monitor->evaluation(event));
  return success();
}

Status MetricsFile::write(const CheckpointEvent &event) {
  begin("checkpoint");
  appendField(line, "step", event.step);
  appendField(line, "path", event.path);
  if (!event.error.empty()) {
    appendField(line, "error", event.error);
    return finish();
  }
  appendField(line, "bytes", event.bytes);
  appendField(line, "seconds", event.seconds);
  appendField(line, "write_seconds", event.writeSeconds);
  appendField(line, "stall_ms", event.stallMilliseconds);
  return finish();
}

Status MetricsFile::write(const RestartEvent &event) {
  begin("restart");
  appendField(line, "restart", event.restart);
  appendField(line, "step", event.step);
  appendField(line, "path", event.path);
  return finish();
}

Status MetricsFile::write(const EndEvent &event) {
  begin("end");
  appendField(line, "steps", event.steps);
  appendField(line, "measured_peak", event.measuredPeak);
  appendField(line, "seconds", event.seconds);
  return finish();
}

Status MetricsFile::writeNote(const std::string &event, const std::string &text) {
  begin(event.c_str());
  appendField(line, "text", text);
  return finish();
}

} // namespace zopt::runtime
