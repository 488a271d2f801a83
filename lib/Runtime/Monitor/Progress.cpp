//===- Progress.cpp - how far a run is, on stderr -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Progress.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

namespace zopt::runtime {

namespace {

constexpr double kBarSeconds = 0.1; // between redraws: as often as an eye can follow

template <typename... Arguments>
std::string format(const char *pattern, Arguments... arguments) {
  char text[96];
  std::snprintf(text, sizeof text, pattern, arguments...);
  return text;
}

/// Three digits and a unit.
std::string rateText(double value) {
  if (!std::isfinite(value))
    return "?";
  for (const char *unit : {"", "k", "M", "G"}) {
    if (value < 999.5)
      return format(value < 9.995 ? "%.2f%s" : value < 99.95 ? "%.1f%s" : "%.0f%s", value, unit);
    value /= 1000;
  }
  return format("%.3gT", value);
}

std::string durationText(double seconds) {
  if (!std::isfinite(seconds) || seconds > 359999)
    return "";
  long whole = std::lround(std::max(0.0, seconds));
  if (whole >= 3600)
    return format("%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  return format("%ld:%02ld", whole / 60, whole % 60);
}

std::string stepText(const ProgressState &state) { return format("step %lld/%lld", (long long)state.step, (long long)state.totalSteps); }

std::string lossText(const ProgressState &state) {
  if (!state.hasLoss)
    return "";
  return format("loss %.4f%s", state.loss, state.skipped ? " (skipped)" : "");
}

/// "(mse:value 0.25, cross_entropy 1.5)"
std::string termsText(const ProgressState &state) {
  std::string text;
  if (state.hasLoss)
    for (const auto &[name, value] : state.terms)
      text += (text.empty() ? "(" : ", ") + name + format(" %.4f", value);
  return text.empty() ? text : text + ")";
}

std::string speedText(const ProgressState &state, bool tokens) {
  if (state.samplesPerSecond <= 0)
    return "";
  std::string text = rateText(state.samplesPerSecond) + " samples/s";
  return tokens && state.tokensPerSecond > 0 ? text + " (" + rateText(state.tokensPerSecond) + " tokens/s)" : text;
}

std::string flopsText(const ProgressState &state) {
  if (state.flopsPerSecond <= 0)
    return "";
  std::string text = format("%.3g TFLOP/s", state.flopsPerSecond / 1e12);
  return state.utilization > 0 ? text + format(" (MFU %.3g%%)", 100 * state.utilization) : text;
}

std::string leftText(const ProgressState &state) {
  std::string duration = state.step < state.totalSteps ? durationText(state.secondsLeft) : "";
  return duration.empty() ? "" : duration + " left";
}

std::string join(const std::vector<std::string> &parts) {
  std::string text;
  for (const std::string &part : parts)
    if (!part.empty())
      text += (text.empty() ? "" : " ") + part;
  return text;
}

double steadySeconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// stderr may be closed or full: that is no reason to end a run.
void writeAll(int descriptor, const std::string &text) {
  for (size_t done = 0; done < text.size();) {
    ssize_t wrote = ::write(descriptor, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0)
      return;
    done += size_t(wrote);
  }
}

int terminalWidth(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

} // namespace

std::string progressLine(const ProgressState &state) {
  return join({stepText(state), lossText(state), termsText(state), speedText(state, true),
               state.memoryBytes > 0 ? bytesText(state.memoryBytes) : "", flopsText(state), leftText(state)});
}

std::string progressBar(const ProgressState &state, int width) {
  constexpr int widest = 30, narrowest = 6;
  std::string step = stepText(state), loss = lossText(state), memory = state.memoryBytes > 0 ? bytesText(state.memoryBytes) : "", left = leftText(state);
  // From all fields to the two that matter.
  const std::vector<std::string> choices[] = {
      {loss, termsText(state), speedText(state, true), memory, flopsText(state), left},
      {loss, speedText(state, true), memory, flopsText(state), left},
      {loss, speedText(state, true), memory, left},
      {loss, speedText(state, false), memory, left},
      {loss, speedText(state, false), left},
      {loss, left},
      {loss}};
  for (const std::vector<std::string> &fields : choices) {
    std::string rest = join(fields);
    int room = width - int(step.size()) - int(rest.size()) - 4; // blanks and brackets
    if (room < narrowest)
      continue;
    int length = std::min(room, widest);
    double done = state.totalSteps > 0 ? double(state.step) / double(state.totalSteps) : 0;
    int filled = std::clamp(int(done * length), 0, length);
    std::string bar = std::string(size_t(filled), '=') + std::string(size_t(length - filled), ' ');
    if (filled < length)
      bar[size_t(filled)] = '>';
    return join({step, "[" + bar + "]", rest});
  }
  return join({step, loss}).substr(0, size_t(std::max(width, 0)));
}

Progress::Progress(const ProgressOptions &options) : options(options) {
  const char *kind = std::getenv("TERM");
  terminal = options.lineSteps == 0 && isatty(options.descriptor) && kind && std::strcmp(kind, "dumb") != 0;
  state.totalSteps = options.totalSteps;
  state.memoryBytes = options.memoryBytes;
}

void Progress::update(int64_t stepsDone, double loss, bool skipped, double seconds, double now) {
  // The first step of a run is slower than the others (caches, page faults), so the average forgets it quickly.
  averageSeconds = averageSeconds == 0 ? seconds : averageSeconds + 0.2 * (seconds - averageSeconds);
  state.step = stepsDone;
  state.loss = loss;
  state.skipped = skipped;
  if (averageSeconds > 0) {
    state.samplesPerSecond = double(options.samplesPerStep) / averageSeconds;
    state.tokensPerSecond = double(options.tokensPerStep) / averageSeconds;
    state.flopsPerSecond = options.flopsPerStep / averageSeconds;
    state.utilization = options.peakFlops > 0 ? state.flopsPerSecond / options.peakFlops : 0;
  }
  state.secondsLeft = averageSeconds * double(state.totalSteps - stepsDone);
  if (options.lineSteps > 0) {
    if (stepsDone % options.lineSteps == 0)
      draw(false);
    return;
  }
  if (drawn >= 0 && now - drawn < (terminal ? kBarSeconds : options.lineSeconds))
    return;
  drawn = now;
  draw(false);
}

void Progress::update(int64_t stepsDone, double loss, bool skipped, double seconds) { update(stepsDone, loss, skipped, seconds, steadySeconds()); }

void Progress::update(int64_t stepsDone, double seconds) {
  state.hasLoss = false;
  update(stepsDone, 0, false, seconds, steadySeconds());
}

void Progress::draw(bool last) {
  drawnStep = state.step;
  if (!terminal)
    return writeAll(options.descriptor, progressLine(state) + "\n");
  // One column is left free: a full line would make some terminals wrap.
  writeAll(options.descriptor, "\r" + progressBar(state, terminalWidth(options.descriptor) - 1) + "\x1b[K" + (last ? "\n" : ""));
  barIsUp = !last;
}

void Progress::note(const std::string &text) {
  writeAll(options.descriptor, (barIsUp ? "\r\x1b[K" : "") + text + "\n");
  if (barIsUp)
    draw(false);
}

void Progress::finish() {
  if (state.step > 0 && (barIsUp || drawnStep != state.step))
    draw(true);
  barIsUp = false;
}

} // namespace zopt::runtime
