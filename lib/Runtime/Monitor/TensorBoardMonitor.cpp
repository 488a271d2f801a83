//===- TensorBoardMonitor.cpp - event files for TensorBoard ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A file of records (TFRecord, tensorflow/core/lib/io/record_writer.h): length, its masked CRC-32C, the bytes of an
// Event, their masked CRC-32C; all little-endian.
//
//===----------------------------------------------------------------------===//

#include "TensorBoard.pb.h"
#include "zopt/Runtime/Monitor/Monitors.h"
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// CRC-32C (Castagnoli, RFC 3720 B.4), reflected, a byte at a time: events are short.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}();

/// The checksum of TFRecords: rotated and displaced, because a CRC of bytes that hold CRCs is weak.
uint32_t maskedCrc(const char *data, size_t count) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < count; ++i)
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(data[i])) & 0xff];
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

void appendLittleEndian(std::string &text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i)
    text += char(value >> (8 * i));
}

double secondsSince1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class TensorBoardMonitor : public Monitor {
public:
  explicit TensorBoardMonitor(LineFile file) : file(std::move(file)) {}

  /// `voidFrom`: steps from this one on, of files before this one, are void.
  Status begin(std::optional<int64_t> voidFrom) {
    event.set_file_version("brain.Event:2");
    ZOPT_RETURN_IF_FAILED(write(0));
    if (!voidFrom)
      return success();
    event.mutable_session_log()->set_status(tensorboard::SessionLog::START);
    return write(*voidFrom);
  }

  Status step(const StepEvent &step) override {
    // The tags are the same in every step of a run, so that their memory is used again.
    next = 0;
    // DeepSpeed's (deepspeed/runtime/engine.py, _write_monitor), over samples, as there.
    put("Train/Samples/train_loss", step.loss);
    put("Train/Samples/lr", step.learningRate);
    if (step.lossScale)
      put("Train/Samples/loss_scale", *step.lossScale);
    for (const auto &[name, value] : step.terms)
      put(("zopt/loss/" + name).c_str(), value);
    put("zopt/grad_norm", step.gradientNorm);
    put("zopt/skipped", step.skipped);
    put("zopt/epoch", double(step.epoch));
    put("zopt/step", double(step.step));
    put("zopt/step_ms", step.stepMilliseconds);
    put("zopt/samples_per_s", step.samplesPerSecond);
    if (step.tokens)
      put("zopt/tokens_per_s", step.tokensPerSecond);
    if (step.flops)
      put("zopt/flops", *step.flops);
    if (step.mfu)
      put("zopt/mfu", *step.mfu);
    return write(step.samples);
  }

  /// Over samples that training has consumed, as its own curves are.
  Status evaluation(const EvaluationEvent &evaluation) override {
    event.clear_summary();
    next = 0;
    put("Eval/Samples/eval_loss", evaluation.loss);
    for (const auto &[name, value] : evaluation.terms)
      put(("zopt/eval_loss/" + name).c_str(), value);
    if (evaluation.perplexity)
      put("Eval/Samples/eval_perplexity", *evaluation.perplexity);
    if (evaluation.accuracy)
      put("Eval/Samples/eval_accuracy", *evaluation.accuracy);
    Status written = write(evaluation.trainSamples);
    event.clear_summary(); // of tags that no step has
    return written;
  }

private:
  void put(const char *tag, double number) {
    tensorboard::Summary &summary = *event.mutable_summary();
    tensorboard::Summary::Value &value =
        next < summary.value_size() ? *summary.mutable_value(next) : *summary.add_value();
    value.set_tag(tag);
    value.set_simple_value(float(number));
    ++next;
  }

  Status write(int64_t step) {
    event.set_wall_time(secondsSince1970());
    event.set_step(step);
    const size_t size = event.ByteSizeLong();
    record.clear();
    appendLittleEndian(record, size, 8);
    appendLittleEndian(record, maskedCrc(record.data(), 8), 4);
    record.resize(12 + size);
    event.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t *>(record.data() + 12));
    appendLittleEndian(record, maskedCrc(record.data() + 12, size), 4);
    return file.write(record);
  }

  LineFile file; // of records instead of lines: whole ones, too
  tensorboard::Event event;
  int next = 0; // value of the summary
  std::string record;
};

} // namespace

Result<std::unique_ptr<Monitor>> openTensorBoardMonitor(const std::string &folder,
                                                        std::optional<int64_t> resumeAfterSamples) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code)
    return fileError(folder, "mkdir", code.value());
  // TensorBoard reads a folder's files in the order of their names, which begin with seconds: this one comes last.
  constexpr const char *prefix = "events.out.tfevents.";
  int64_t seconds = int64_t(secondsSince1970());
  bool others = false;
  for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    std::string name = entry->path().filename().string();
    if (name.rfind(prefix, 0) != 0)
      continue;
    others = true;
    seconds = std::max<int64_t>(seconds, std::atoll(name.c_str() + std::char_traits<char>::length(prefix)) + 1);
  }
  if (code)
    return fileError(folder, "readdir", code.value());
  char host[256] = "host", number[32];
  if (gethostname(host, sizeof host - 1) != 0)
    std::snprintf(host, sizeof host, "host");
  std::snprintf(number, sizeof number, "%010lld", static_cast<long long>(seconds));
  Result<LineFile> file =
      LineFile::open(concat(folder, "/", prefix, number, ".", host, ".", getpid(), ".0"), /*append=*/false);
  if (file.failed())
    return file.getStatus();
  auto monitor = std::make_unique<TensorBoardMonitor>(std::move(*file));
  ZOPT_RETURN_IF_FAILED(monitor->begin(resumeAfterSamples ? std::optional(*resumeAfterSamples + 1)
                                       : others           ? std::optional<int64_t>(0)
                                                          : std::nullopt));
  return std::unique_ptr<Monitor>(std::move(monitor));
}

} // namespace zopt::runtime
