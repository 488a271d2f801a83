//===- Metrics.cpp - what a run measures, a JSON object a line ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Metrics.h"
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>
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

Status failure(const std::string &path, const char *call, int number) { return Status(Error{ErrorKind::Runtime, -1, path, call, std::strerror(number)}); }

/// The length of the file's whole lines.
Result<int64_t> lengthOfLines(int descriptor, const std::string &path, int64_t size) {
  char block[4096];
  for (int64_t end = size; end > 0;) {
    int64_t begin = std::max<int64_t>(0, end - int64_t(sizeof block));
    ssize_t got = ::pread(descriptor, block, size_t(end - begin), begin);
    if (got < 0 && errno == EINTR)
      continue;
    if (got != end - begin)
      return failure(path, "pread", got < 0 ? errno : EIO);
    for (int64_t i = end - begin; i > 0; --i)
      if (block[i - 1] == '\n')
        return begin + i;
    end = begin;
  }
  return int64_t(0);
}

} // namespace

Result<MetricsFile> MetricsFile::open(const std::string &path, bool append) {
  MetricsFile file;
  file.path = path;
  file.descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (append ? 0 : O_TRUNC), 0666);
  if (file.descriptor < 0)
    return Status(Error{ErrorKind::Input, -1, path, "open", std::strerror(errno)});
  struct stat information;
  if (fstat(file.descriptor, &information) != 0)
    return failure(path, "fstat", errno);
  if (append && S_ISREG(information.st_mode)) {
    Result<int64_t> length = lengthOfLines(file.descriptor, path, information.st_size);
    if (length.failed())
      return length.getStatus();
    if (ftruncate(file.descriptor, *length) != 0)
      return failure(path, "ftruncate", errno);
    if (lseek(file.descriptor, *length, SEEK_SET) < 0)
      return failure(path, "lseek", errno);
    file.bytes = *length;
  }
  file.line.reserve(1024);
  return Result<MetricsFile>(std::move(file));
}

Result<MetricsFile> MetricsFile::resume(const std::string &path, int64_t step) {
  if (std::ifstream lines(path); lines) {
    int64_t end = 0;
    constexpr const char *start = "{\"event\":\"step\"", *key = "\"step\":";
    for (std::string text; std::getline(lines, text); end += int64_t(text.size()) + 1) {
      if (text.rfind(start, 0) != 0)
        continue;
      size_t at = text.find(key, std::strlen(start));
      if (at != std::string::npos && std::atoll(text.c_str() + at + std::strlen(key)) > step) {
        if (::truncate(path.c_str(), end) != 0)
          return failure(path, "truncate", errno);
        break;
      }
    }
  }
  return open(path, /*append=*/true);
}

MetricsFile::MetricsFile(MetricsFile &&other) noexcept
    : path(std::move(other.path)), descriptor(std::exchange(other.descriptor, -1)), bytes(other.bytes), line(std::move(other.line)) {}
MetricsFile &MetricsFile::operator=(MetricsFile &&other) noexcept {
  std::swap(path, other.path);
  std::swap(descriptor, other.descriptor);
  std::swap(bytes, other.bytes);
  std::swap(line, other.line);
  return *this;
}
MetricsFile::~MetricsFile() {
  if (descriptor >= 0)
    ::close(descriptor);
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
  for (size_t done = 0; done < line.size();) {
    ssize_t wrote = ::write(descriptor, line.data() + done, line.size() - done);
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote < 0) {
      // Take the part of the line back; what failed is the write, so its error is the one to tell.
      int number = errno;
      if (ftruncate(descriptor, bytes) == 0)
        lseek(descriptor, bytes, SEEK_SET);
      return failure(path, "write", number);
    }
    done += size_t(wrote);
  }
  bytes += int64_t(line.size());
  return success();
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
  appendField(line, "grad_norm", event.gradientNorm);
  appendField(line, "lr", event.learningRate);
  if (event.lossScale)
    appendField(line, "loss_scale", *event.lossScale);
  appendField(line, "skipped", event.skipped);
  appendField(line, "step_ms", event.stepMilliseconds);
  appendField(line, "samples_per_s", event.samplesPerSecond);
  if (event.tokens)
    appendField(line, "tokens_per_s", event.tokensPerSecond);
  return finish();
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
