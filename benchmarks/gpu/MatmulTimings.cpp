//===- MatmulTimings.cpp - products of training steps on the GPU ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A line a product: time and rate of the library's first choice, the first 8 candidates, and the first choice within smaller and larger workspaces.
//
//===----------------------------------------------------------------------===//

#include "GpuHarness.h"
#include <algorithm>
#include <cstdio>

namespace zopt::benchmark {

using namespace zopt::runtime::cuda;

namespace {

constexpr int kCandidates = 8;
constexpr int64_t kMiB = int64_t(1) << 20;

/// Operand sets of one command: together larger than the caches, and at least two, so that no run finds its operands there.
class Buffers {
public:
  Buffers(Gpu &gpu, const Command &command, int64_t scratchBytes) : scratch(gpu, scratchBytes) {
    const MatmulOperand sums = matrixOperand(command.out.type, {1, std::max(command.out.shape[0], command.out.shape[1])});
    const MatmulOperand *operands[] = {&command.lhs, &command.rhs, &command.out, command.bias.shape.empty() ? nullptr : &command.bias, nullptr, command.aux.shape.empty() ? nullptr : &command.aux, command.biasGradient == BiasGradient::None ? nullptr : &sums};
    int64_t bytes = 0;
    for (const MatmulOperand *operand : operands)
      bytes += operand ? spanOf(*operand) * sizeOf(operand->type) : 0;
    const int64_t count = std::clamp<int64_t>(256 * kMiB / bytes, 2, 6);
    for (int64_t i = 0; i < count; ++i) {
      std::vector<CUdeviceptr> set;
      for (int j = 0; j < 7; ++j) {
        if (j == 4 || !operands[j]) {
          set.push_back(j == 4 ? scratch.get() : 0);
          continue;
        }
        const int64_t size = spanOf(*operands[j]) * sizeOf(operands[j]->type);
        memories.emplace_back(gpu, size);
        gpu.randomize(memories.back().get(), operands[j]->type, size);
        set.push_back(memories.back().get());
      }
      sets.push_back(std::move(set));
    }
  }
  const CUdeviceptr *operator[](int run) const { return sets[size_t(run) % sets.size()].data(); }

private:
  Memory scratch;
  std::vector<Memory> memories;
  std::vector<std::vector<CUdeviceptr>> sets;
};

double teraflops(const Command &command, double milliseconds) { return 2.0 * double(command.out.shape[0]) * double(command.out.shape[1]) * double(command.lhs.shape[1]) / milliseconds * 1e-9; }

class Timer {
public:
  Timer(Gpu &gpu, LibraryContext &context) : gpu(gpu), context(context) {}

  void line(const char *name, Command command) {
    const int64_t largest = 64 * kMiB + kWorkspaceAlignment;
    Buffers buffers(gpu, command, largest);
    std::printf("  %-30s %6ld %6ld %6ld", name, long(command.out.shape[0]), long(command.out.shape[1]), long(command.lhs.shape[1]));
    std::string list;
    double first = 0, best = 0;
    int64_t bestIndex = 0, count = 1, workspace = 0;
    for (int64_t i = 0; i < std::min<int64_t>(count, kCandidates); ++i) {
      command.algorithm = i;
      Result<double> time = timeOf(command, 32 * kMiB + kWorkspaceAlignment, buffers, count, i == 0 ? workspace : ignored);
      if (time.failed()) {
        list += " (" + time.getStatus().message() + ")";
        continue;
      }
      if (i == 0)
        first = *time;
      if (best == 0 || *time < best) {
        best = *time;
        bestIndex = i;
      }
      char text[32];
      std::snprintf(text, sizeof text, " %.0f", teraflops(command, *time));
      list += text;
    }
    if (first == 0) {
      std::printf("  %s\n", list.c_str());
      return;
    }
    std::printf("  %8.1f us %5.0f TFLOP/s, best %5.0f (%ld, %+.0f%%), %5.1f MiB |%s |", first * 1e3, teraflops(command, first), teraflops(command, best), long(bestIndex), (first / best - 1) * 100, double(workspace) / kMiB, list.c_str());
    command.algorithm = -1;
    for (int64_t limit : {0, 4, 64}) {
      Result<double> time = timeOf(command, limit ? limit * kMiB + kWorkspaceAlignment : 0, buffers, count, ignored);
      if (time.failed())
        std::printf(" %ldM -", long(limit));
      else
        std::printf(" %ldM %.0f", long(limit), teraflops(command, *time));
    }
    std::printf("\n");
    std::fflush(stdout);
  }

private:
  Result<double> timeOf(const Command &command, int64_t scratchBytes, const Buffers &buffers, int64_t &count, int64_t &workspace) {
    Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(context, command, scratchBytes);
    if (matmul.failed())
      return matmul.getStatus();
    count = (*matmul)->candidates();
    workspace = (*matmul)->workspaceBytes();
    return gpu.medianMilliseconds(0, [&](int run) { return (*matmul)->run(gpu.stream(), buffers[run]); });
  }

  Gpu &gpu;
  LibraryContext &context;
  int64_t ignored = 0;
};

MatmulOperand transposed(MatmulOperand operand) {
  std::swap(operand.shape[0], operand.shape[1]);
  std::swap(operand.strides[0], operand.strides[1]);
  return operand;
}

Command product(MatmulOperand lhs, MatmulOperand rhs, MatmulOperand out) {
  Command command;
  command.kind = Command::Kind::Matmul;
  command.lhs = std::move(lhs);
  command.rhs = std::move(rhs);
  command.out = std::move(out);
  return command;
}

constexpr DataType kType = DataType::BF16;

MatmulOperand matrix(int64_t rows, int64_t columns, int64_t pitch = 0) { return matrixOperand(kType, {rows, columns}, false, pitch); }

/// The three products of y = x w with tokens rows: w is [in, out] (`conv1d`) or [out, in].
struct Linear {
  const char *name;
  int64_t in, out;
  bool gelu;         // forward ends in gelu
  bool geluGradient; // the input is a gelu's: its gradient goes through it
};

void timeLinear(Timer &timer, int64_t tokens, const Linear &linear, bool conv1d, bool variants) {
  const MatmulOperand x = matrix(tokens, linear.in), y = matrix(tokens, linear.out), w = conv1d ? matrix(linear.in, linear.out) : matrix(linear.out, linear.in);
  const std::string name = linear.name;
  Command forward = product(x, conv1d ? w : transposed(w), y);
  timer.line((name + " fwd").c_str(), forward);
  if (variants) {
    Command biased = forward;
    biased.bias = matrix(1, linear.out);
    timer.line((name + " fwd bias").c_str(), biased);
    if (linear.gelu) {
      biased.epilogue = Epilogue::Gelu;
      biased.aux = y;
      timer.line((name + " fwd gelu_aux_bias").c_str(), biased);
    }
  }
  Command ofInput = product(y, conv1d ? transposed(w) : w, x);
  timer.line((name + " dX").c_str(), ofInput);
  if (variants && linear.geluGradient) {
    ofInput.epilogue = Epilogue::GeluGrad;
    ofInput.aux = x;
    timer.line((name + " dX dgelu").c_str(), ofInput);
    ofInput.biasGradient = BiasGradient::OutColumns;
    timer.line((name + " dX dgelu_bgrad").c_str(), ofInput);
  }
  Command ofWeight = conv1d ? product(transposed(x), y, w) : product(transposed(y), x, w);
  timer.line((name + " dW").c_str(), ofWeight);
  if (variants) {
    Command sums = ofWeight;
    sums.biasGradient = conv1d ? BiasGradient::RhsColumns : BiasGradient::LhsRows;
    timer.line((name + " dW bgrad").c_str(), sums);
    Command wide = ofWeight;
    wide.out.type = DataType::F32;
    timer.line((name + " dW -> f32").c_str(), wide);
  }
}

} // namespace

void timeMatmuls(Gpu &gpu, LibraryContext &context) {
  Timer timer(gpu, context);
  std::printf("rows, columns and depth of out; first choice in 32 MiB, best of the first %d, workspace | TFLOP/s of each | first choice in 0, 4 and 64 MiB\n", kCandidates);
  const Linear small[] = {{"qkv", 768, 2304, false, false}, {"proj", 768, 768, false, false}, {"fc", 768, 3072, true, false}, {"fc2", 3072, 768, false, true}};
  const Linear large[] = {{"qkv", 1600, 4800, false, false}, {"proj", 1600, 1600, false, false}, {"fc", 1600, 6400, true, false}, {"fc2", 6400, 1600, false, true}};
  const Linear llama[] = {{"q", 2048, 2048, false, false}, {"kv", 2048, 512, false, false}, {"gate_up", 2048, 11264, false, false}, {"down", 5632, 2048, false, false}};
  std::printf("gpt2-124m, 32768 tokens, w[in, out]\n");
  for (const Linear &linear : small)
    timeLinear(timer, 32768, linear, true, true);
  std::printf("gpt2-124m, 32768 tokens, w[out, in]\n");
  for (const Linear &linear : small)
    timeLinear(timer, 32768, linear, false, true);
  std::printf("gpt2-1.5b, 8192 tokens, w[in, out]\n");
  for (const Linear &linear : large)
    timeLinear(timer, 8192, linear, true, true);
  std::printf("llama-1.1b, 16384 tokens, w[out, in]\n");
  for (const Linear &linear : llama)
    timeLinear(timer, 16384, linear, false, false);
}

void timeHead(Gpu &gpu, LibraryContext &context) {
  Timer timer(gpu, context);
  const int64_t tokens = 32768, width = 768;
  std::printf("head of gpt2-124m, 32768 tokens, w[vocabulary, 768]; the same columns of out\n");
  struct Variant {
    int64_t vocabulary, pitch;
  };
  for (Variant variant : {Variant{50304, 50304}, Variant{50257, 50304}, Variant{50264, 50264}, Variant{50257, 50264}, Variant{50257, 50257}}) {
    std::printf("vocabulary %ld, row pitch %ld\n", long(variant.vocabulary), long(variant.pitch));
    const MatmulOperand x = matrix(tokens, width), w = matrix(variant.vocabulary, width), logits = matrix(tokens, variant.vocabulary, variant.pitch);
    timer.line("head fwd", product(x, transposed(w), logits));
    timer.line("head dX", product(logits, w, x));
    timer.line("head dW", product(transposed(logits), x, w));
  }
}

} // namespace zopt::benchmark
