//===- AttentionChecks.cpp - attention on the GPU against f64 on the host -===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AttentionProblem.h"
#include <algorithm>
#include <cmath>
#include <cstdio>

namespace zopt::benchmark {

using namespace zopt::runtime::cuda;

namespace {

constexpr unsigned char kPoison = 0xff;

struct Reference {
  std::vector<double> output, lse, ofQuery, ofKey, ofValue; // [batch][heads][positions][width]
};

double valueAt(const HostTensor &tensor, int64_t b, int64_t h, int64_t t, int64_t d) {
  const MatmulOperand &layout = tensor.layout;
  auto stride = [&](int axis) { return layout.shape[size_t(axis)] == 1 ? 0 : layout.strides[size_t(axis)]; };
  return tensor.at(b * stride(0) + h * stride(1) + t * stride(2) + d * stride(3));
}

Reference computeReference(const AttentionSizes &sizes, double scale, const HostTensor &query, const HostTensor &key, const HostTensor &value, const HostTensor *mask, const HostTensor &cotangent) {
  const auto [B, H, G, T, S, D] = std::tuple(sizes.batch, sizes.heads, sizes.keyHeads, sizes.queries, sizes.keys, sizes.width);
  Reference result;
  result.output.assign(size_t(B * H * T * D), 0);
  result.ofQuery = result.output;
  result.lse.assign(size_t(B * H * T), 0);
  result.ofKey.assign(size_t(B * G * S * D), 0);
  result.ofValue = result.ofKey;
  std::vector<double> keys(size_t(S * D)), values(size_t(S * D)), row(static_cast<size_t>(S)), q(static_cast<size_t>(D)), gradient(static_cast<size_t>(D));
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h) {
      const int64_t g = h / (H / G);
      for (int64_t s = 0; s < S; ++s)
        for (int64_t d = 0; d < D; ++d) {
          keys[size_t(s * D + d)] = valueAt(key, b, g, s, d);
          values[size_t(s * D + d)] = valueAt(value, b, g, s, d);
        }
      double *ofKey = &result.ofKey[size_t((b * G + g) * S * D)], *ofValue = &result.ofValue[size_t((b * G + g) * S * D)];
      for (int64_t t = 0; t < T; ++t) {
        const int64_t seen = sizes.causal ? std::min(S, t + S - T + 1) : S;
        for (int64_t d = 0; d < D; ++d) {
          q[size_t(d)] = valueAt(query, b, h, t, d);
          gradient[size_t(d)] = valueAt(cotangent, b, h, t, d);
        }
        double top = -INFINITY, sum = 0;
        for (int64_t s = 0; s < seen; ++s) {
          double score = 0;
          for (int64_t d = 0; d < D; ++d)
            score += q[size_t(d)] * keys[size_t(s * D + d)];
          row[size_t(s)] = scale * score + (mask ? valueAt(*mask, b, h, t, s) : 0);
          top = std::max(top, row[size_t(s)]);
        }
        for (int64_t s = 0; s < seen; ++s)
          sum += std::exp(row[size_t(s)] - top);
        const double lse = top + std::log(sum);
        result.lse[size_t((b * H + h) * T + t)] = lse;
        double *output = &result.output[size_t(((b * H + h) * T + t) * D)], *ofQuery = &result.ofQuery[size_t(((b * H + h) * T + t) * D)];
        for (int64_t s = 0; s < seen; ++s) {
          row[size_t(s)] = std::exp(row[size_t(s)] - lse);
          for (int64_t d = 0; d < D; ++d)
            output[d] += row[size_t(s)] * values[size_t(s * D + d)];
        }
        double inner = 0;
        for (int64_t d = 0; d < D; ++d)
          inner += output[d] * gradient[size_t(d)];
        for (int64_t s = 0; s < seen; ++s) {
          double ofWeight = 0;
          for (int64_t d = 0; d < D; ++d)
            ofWeight += gradient[size_t(d)] * values[size_t(s * D + d)];
          const double ofScore = row[size_t(s)] * (ofWeight - inner) * scale;
          for (int64_t d = 0; d < D; ++d) {
            ofValue[s * D + d] += row[size_t(s)] * gradient[size_t(d)];
            ofKey[s * D + d] += ofScore * q[size_t(d)];
            ofQuery[d] += ofScore * keys[size_t(s * D + d)];
          }
        }
      }
    }
  return result;
}

double relativeError(const HostTensor &tensor, const std::vector<double> &expected) {
  const std::vector<int64_t> &shape = tensor.layout.shape;
  double difference = 0, norm = 0;
  size_t index = 0;
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t t = 0; t < shape[2]; ++t)
        for (int64_t d = 0; d < shape[3]; ++d, ++index) {
          const double error = valueAt(tensor, b, h, t, d) - expected[index];
          difference += error * error;
          norm += expected[index] * expected[index];
        }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

/// Runs a command twice into poisoned outputs, then twice in a graph. `outputs` are indices in its tensors.
struct CommandRun {
  std::string refusal;
  bool sameBits = true, sameInGraph = true;
  int64_t wanted = 0, planned = 0, calls = 1;
};

CommandRun runCommand(Gpu &gpu, LibraryContext &context, const Command &command, std::vector<HostTensor> &tensors, const std::vector<size_t> &outputs, const AttentionOptions &options) {
  CommandRun run;
  Result<AttentionParts> parts = planAttention(command, options);
  if (parts.failed()) {
    run.refusal = parts.getStatus().message();
    return run;
  }
  run.planned = parts->scratchBytes;
  run.calls = parts->calls;
  // Room beyond the plan, so that a wrong plan is seen as such and the values are checked all the same.
  const int64_t room = run.planned * 2 + (int64_t(64) << 20);
  std::vector<Memory> memories;
  std::vector<CUdeviceptr> buffers;
  for (const HostTensor &tensor : tensors) {
    memories.emplace_back(gpu, int64_t(tensor.bytes.size()));
    gpu.upload(memories.back().get(), tensor.bytes.data(), int64_t(tensor.bytes.size()));
    buffers.push_back(memories.back().get());
  }
  const size_t plain = command.kind == Command::Kind::Attention ? size_t(AttentionTensors::Mask) : size_t(AttentionTensors::GradMask);
  buffers.resize(plain + 2);
  Memory scratch(gpu, room);
  buffers[plain + 1] = scratch.get();
  Result<std::unique_ptr<DeviceAttention>> attention = makeDeviceAttention(context, command, buffers.data(), room, options);
  if (attention.failed()) {
    run.refusal = attention.getStatus().message();
    return run;
  }
  run.wanted = (*attention)->workspaceBytes();
  auto work = [&] { return (*attention)->run(gpu.stream(), buffers.data()); };
  for (int i = 0; i < 3; ++i) {
    gpu.fill(scratch.get(), i == 1 ? 0x3c : kPoison, scratch.size());
    for (size_t output : outputs)
      gpu.fill(memories[output].get(), kPoison, memories[output].size());
    if (Status status = i < 2 ? work() : gpu.replay(work); status.failed()) {
      run.refusal = status.message();
      return run;
    }
    for (size_t output : outputs) {
      std::vector<char> bytes(tensors[output].bytes.size());
      gpu.download(bytes.data(), memories[output].get(), int64_t(bytes.size()));
      if (i > 0)
        (i == 1 ? run.sameBits : run.sameInGraph) &= bytes == tensors[output].bytes;
      tensors[output].bytes = std::move(bytes);
    }
  }
  return run;
}

struct Case {
  AttentionSizes sizes;
  AttentionLayout layout;
  const char *mask; // as makeAttention() takes it
  DataType type;
};

void checkCase(Gpu &gpu, LibraryContext &context, Verdict &verdict, const Case &which, const AttentionOptions &options) {
  const AttentionSizes &sizes = which.sizes;
  AttentionProblem problem = makeAttention(sizes, which.layout, which.type, which.mask);
  Random random(17);
  std::vector<HostTensor> forward, backward;
  for (const MatmulOperand &operand : problem.forward.tensors) {
    forward.emplace_back(operand);
    forward.back().randomize(random);
  }
  // Scores like those of a model's: rows of width D of values in [-1, 1) times 3 have a spread of a few units.
  const int64_t elements = int64_t(forward[0].bytes.size()) / sizeOf(which.type);
  for (int64_t i = 0; i < elements; ++i)
    storeDouble(which.type, forward[0].bytes.data(), i, 3 * forward[0].at(i));
  const bool hasMask = forward.size() > size_t(AttentionTensors::Mask);
  // A padding mask hides keys by the lowest value of its type, as exporters write it.
  if (hasMask && (std::string(which.mask) == "b" || std::string(which.mask) == "bq")) {
    HostTensor &mask = forward[AttentionTensors::Mask];
    const int64_t elements = int64_t(mask.bytes.size()) / sizeOf(which.type);
    for (int64_t i = 0; i < elements; ++i)
      if (i % sizes.keys >= sizes.keys - sizes.keys / 4 * (i / (elements / sizes.batch) % 2))
        storeDouble(which.type, mask.bytes.data(), i, which.type == DataType::F16 ? -65504 : -3.38e38);
  }
  char label[160];
  std::snprintf(label, sizeof label, "%-4s B%ld H%ld/%ld T%ld/%ld D%-3ld %-7s%s%s%s", nameOf(which.type), long(sizes.batch), long(sizes.heads), long(sizes.keyHeads), long(sizes.queries), long(sizes.keys), long(sizes.width), nameOf(which.layout), sizes.causal ? " causal" : "", hasMask ? " mask " : "", which.mask);

  CommandRun run = runCommand(gpu, context, problem.forward, forward, {AttentionTensors::Output, AttentionTensors::Lse}, options);
  if (!run.refusal.empty()) {
    std::printf("  %-52s forward%s %s\n", label, verdict.check(false, concat("attention ", label, ": ", run.refusal)), run.refusal.c_str());
    return;
  }
  HostTensor cotangent(problem.backward.tensors[AttentionTensors::Cotangent]);
  cotangent.randomize(random);
  Reference reference = computeReference(sizes, problem.forward.scale, forward[0], forward[1], forward[2], hasMask ? &forward[AttentionTensors::Mask] : nullptr, cotangent);
  const double tolerance = which.type == DataType::F16 ? 2e-3 : 8e-3;
  const double errorOut = relativeError(forward[AttentionTensors::Output], reference.output), errorLse = relativeError(forward[AttentionTensors::Lse], reference.lse);
  bool good = errorOut < tolerance && errorLse < 1e-4 && run.sameBits && run.sameInGraph && run.wanted <= run.planned;
  std::printf("  %-52s fwd o %.1e lse %.1e%s%s ws %ld/%ld%s\n", label, errorOut, errorLse, run.sameBits ? "" : " BITS", run.sameInGraph ? "" : " GRAPH", long(run.wanted), long(run.planned), verdict.check(good, concat("attention ", label)));

  for (const MatmulOperand &operand : problem.backward.tensors)
    backward.emplace_back(operand);
  for (size_t i = 0; i <= AttentionTensors::Lse; ++i)
    backward[i].bytes = forward[i].bytes;
  backward[AttentionTensors::Cotangent].bytes = cotangent.bytes;
  if (hasMask)
    backward[AttentionTensors::GradMask].bytes = forward[AttentionTensors::Mask].bytes;
  std::vector<const char *> makers = {"cudnn"};
  if (takesOwnAttentionGradient(problem.backward))
    makers.push_back("own");
  for (const char *maker : makers) {
    problem.backward.ownKernels = maker == std::string("own");
    run = runCommand(gpu, context, problem.backward, backward, {AttentionTensors::QueryGradient, AttentionTensors::KeyGradient, AttentionTensors::ValueGradient}, options);
    // The rules have no gradient with one row of a mask for all queries.
    const bool isRefused = hasMask && std::string(which.mask).find('q') == std::string::npos;
    if (isRefused || !run.refusal.empty()) {
      std::printf("  %-52s bwd%s %s\n", "", verdict.check(isRefused && !run.refusal.empty(), concat("gradient of attention ", label, ": ", run.refusal)), run.refusal.c_str());
      continue;
    }
    const double ofQuery = relativeError(backward[AttentionTensors::QueryGradient], reference.ofQuery), ofKey = relativeError(backward[AttentionTensors::KeyGradient], reference.ofKey), ofValue = relativeError(backward[AttentionTensors::ValueGradient], reference.ofValue);
    good = ofQuery < 2 * tolerance && ofKey < 2 * tolerance && ofValue < 2 * tolerance && run.sameBits && run.sameInGraph && run.wanted <= run.planned;
    std::printf("  %-52s bwd %-5s dq %.1e dk %.1e dv %.1e%s%s ws %ld/%ld calls %ld%s\n", "", maker, ofQuery, ofKey, ofValue, run.sameBits ? "" : " BITS", run.sameInGraph ? "" : " GRAPH", long(run.wanted), long(run.planned), long(run.calls), verdict.check(good, concat("gradient of attention by ", maker, " ", label)));
  }
}

} // namespace

void checkAttention(Gpu &gpu, LibraryContext &context, Verdict &verdict) {
  std::printf("attention, relative error to f64; workspace wanted/planned\n");
  const DataType bf16 = DataType::BF16, f16 = DataType::F16;
  const AttentionLayout dense = AttentionLayout::Dense, tokens = AttentionLayout::Tokens, packed = AttentionLayout::Packed;
  const Case cases[] = {
      {{2, 4, 4, 128, 128, 64, true}, dense, "", bf16},    {{2, 4, 4, 128, 128, 64, true}, packed, "", bf16},    {{2, 4, 4, 128, 128, 64, false}, packed, "", bf16},
      {{2, 4, 4, 256, 256, 80, true}, packed, "", bf16},   {{2, 4, 4, 256, 256, 96, true}, tokens, "", bf16},    {{2, 4, 4, 256, 256, 128, true}, packed, "", bf16},
      {{2, 4, 2, 256, 256, 64, true}, tokens, "", bf16},   {{2, 8, 1, 128, 128, 128, true}, tokens, "", bf16},   {{2, 4, 2, 256, 256, 96, false}, dense, "", bf16},
      {{2, 4, 4, 100, 100, 64, true}, packed, "", bf16},   {{2, 4, 2, 77, 77, 80, true}, tokens, "", bf16},      {{1, 2, 2, 257, 257, 64, false}, dense, "", bf16},
      {{2, 4, 4, 64, 192, 64, true}, tokens, "", bf16},    {{2, 4, 4, 50, 130, 64, true}, tokens, "", bf16},     {{2, 4, 4, 1, 128, 64, false}, tokens, "", bf16},
      {{2, 4, 4, 128, 192, 64, false}, tokens, "", bf16},  {{2, 4, 4, 128, 128, 64, true}, packed, "bhq", bf16}, {{2, 4, 4, 128, 128, 64, false}, packed, "bhq", bf16},
      {{2, 4, 4, 128, 128, 64, false}, packed, "q", bf16}, {{2, 4, 4, 128, 128, 64, false}, packed, "b", bf16},  {{2, 4, 2, 128, 128, 64, true}, tokens, "b", bf16},
      {{2, 4, 4, 128, 128, 64, false}, packed, "bq", bf16}, {{2, 4, 2, 128, 128, 64, true}, tokens, "bq", bf16},
      {{2, 4, 4, 100, 100, 64, false}, packed, "bq", bf16}, {{2, 4, 4, 128, 128, 64, true}, packed, "", f16},    {{2, 4, 2, 100, 100, 128, true}, tokens, "bhq", f16},
      {{2, 4, 2, 200, 333, 128, true}, tokens, "", f16},  {{1, 6, 2, 513, 513, 128, false}, packed, "", bf16}, {{1, 2, 2, 8, 8, 64, true}, dense, "", f16},
      {{2, 2, 2, 32, 32, 16, true}, packed, "", bf16},     {{4, 2, 2, 8, 8, 8, true}, packed, "", bf16},          {{2, 2, 2, 64, 64, 32, true}, packed, "", bf16},
  };
  for (const Case &which : cases)
    checkCase(gpu, context, verdict, which, {});
  std::printf("in parts: over batches, over heads of one batch\n");
  AttentionOptions parts;
  parts.scoreBytesLimit = 2 * 4 * 256 * 256 * 2;
  checkCase(gpu, context, verdict, {{4, 4, 4, 256, 256, 64, true}, packed, "", bf16}, parts);
  checkCase(gpu, context, verdict, {{4, 4, 4, 256, 256, 64, true}, packed, "bq", bf16}, parts);
  parts.scoreBytesLimit = 4 * 256 * 256 * 2;
  checkCase(gpu, context, verdict, {{2, 8, 4, 256, 256, 64, true}, tokens, "", bf16}, parts);
  checkCase(gpu, context, verdict, {{2, 8, 4, 256, 256, 64, true}, tokens, "bhq", bf16}, parts);
}

void compareWorkspaces(LibraryContext &context, Verdict &verdict) {
  std::printf("workspace in MiB: wanted / planned; forward, gradient in the planned parts, whole, with atomics\n");
  const AttentionSizes grid[] = {{32, 12, 12, 1024, 1024, 64, true}, {8, 25, 25, 1024, 1024, 64, true}, {16, 16, 16, 1024, 1024, 64, true}, {4, 12, 12, 512, 512, 64, true}, {4, 32, 4, 4096, 4096, 64, true}, {2, 32, 8, 4096, 4096, 128, true},
      {1, 32, 32, 2048, 2048, 128, true}, {4, 32, 32, 2048, 2048, 128, true}, {3, 5, 5, 1000, 1000, 80, true}, {2, 6, 3, 333, 333, 96, false}, {1, 4, 1, 100, 700, 64, false}, {2, 2, 2, 16, 16, 64, true}};
  for (const AttentionSizes &sizes : grid) {
    AttentionProblem problem = makeAttention(sizes, sizes.heads == sizes.keyHeads && sizes.queries == sizes.keys ? AttentionLayout::Packed : AttentionLayout::Tokens, DataType::BF16, "");
    std::printf("  B%ld H%ld/%ld T%ld/%ld D%ld:", long(sizes.batch), long(sizes.heads), long(sizes.keyHeads), long(sizes.queries), long(sizes.keys), long(sizes.width));
    AttentionOptions whole, atomics;
    whole.scoreBytesLimit = int64_t(1) << 50;
    atomics.deterministic = false;
    const std::pair<const Command *, AttentionOptions> wanted[] = {{&problem.forward, {}}, {&problem.backward, {}}, {&problem.backward, whole}, {&problem.backward, atomics}};
    for (const auto &[command, options] : wanted) {
      Result<AttentionParts> parts = planAttention(*command, options);
      Result<std::unique_ptr<DeviceAttention>> attention = createAttention(context, *command, int64_t(1) << 50, options);
      if (parts.failed() || attention.failed()) {
        const std::string text = parts.failed() ? parts.getStatus().message() : attention.getStatus().message();
        std::printf("  %s%s", text.c_str(), verdict.check(false, concat("workspace: ", text)));
        continue;
      }
      const int64_t wants = (*attention)->workspaceBytes();
      std::printf("  %.2f / %.2f%s", double(wants) / (1 << 20), double(parts->scratchBytes) / (1 << 20), verdict.check(wants <= parts->scratchBytes, concat("workspace ", wants, " of ", parts->scratchBytes)));
      if (parts->calls > 1)
        std::printf(" x%ld", long(parts->calls));
    }
    std::printf("\n");
  }
}

} // namespace zopt::benchmark
