//===- KernelBenchmark.cpp - generated kernels against the copy bandwidth --===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// kernel-benchmark [--threads N]: generates and compiles kernels of GPT-2 124M's shapes (micro-batch 4, 256 tokens), prints what generation and compilation took, and then for each op its
// traffic in GB/s (the bytes that its operands and results have) beside the bandwidth of memcpy on the same number of threads.
//
//===----------------------------------------------------------------------===//

#include "zopt/Conversion/KernelGeneration.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/TargetParser/Host.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <thread>

using namespace mlir;
using namespace zopt;

namespace {

using Kernel = void (*)(char *const *, int64_t, int64_t);

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void parallel(int threads, int64_t extent, const std::function<void(int64_t, int64_t)> &body) {
  std::vector<std::thread> workers;
  for (int thread = 1; thread < threads; ++thread)
    workers.emplace_back([&, thread] { body(extent * thread / threads, extent * (thread + 1) / threads); });
  body(0, extent / threads);
  for (std::thread &worker : workers)
    worker.join();
}

double best(const std::function<void()> &body) {
  body();
  double least = 1e9;
  for (int run = 0; run < 7; ++run) {
    double start = now();
    body();
    least = std::min(least, now() - start);
  }
  return least;
}

struct Case {
  const char *name;
  const char *arguments; // of the function
  const char *op;
};

const Case kCases[] = {
    {"residual add, bf16", "%0: tensor<1024x768xbf16>, %1: tensor<1024x768xbf16>", "%r = train.add %0, %1 : tensor<1024x768xbf16>, tensor<1024x768xbf16> -> tensor<1024x768xbf16>"},
    {"gelu tanh, f32", "%0: tensor<1024x3072xf32>", "%r = train.gelu %0 {approximate = 1 : i32} : tensor<1024x3072xf32>"},
    {"gelu tanh, bf16", "%0: tensor<1024x3072xbf16>", "%r = train.gelu %0 {approximate = 1 : i32} : tensor<1024x3072xbf16>"},
    {"gelu_grad tanh, bf16", "%0: tensor<1024x3072xbf16>, %1: tensor<1024x3072xbf16>", "%r = train.gelu_grad %0, %1 {approximate = 1 : i32} : tensor<1024x3072xbf16>"},
    {"cast, f32 to bf16", "%0: tensor<38597376xf32>", "%r = train.cast %0 : tensor<38597376xf32> -> tensor<38597376xbf16>"},
    {"transpose heads, bf16", "%0: tensor<4x256x12x64xbf16>", "%r = train.transpose %0 [0, 2, 1, 3] : tensor<4x256x12x64xbf16> -> tensor<4x12x256x64xbf16>"},
    {"layer_norm, f32", "%0: tensor<4x256x768xf32>, %1: tensor<768xf32>, %2: tensor<768xf32>",
     "%r:3 = train.layer_norm %0 gamma %1 : tensor<768xf32> beta %2 : tensor<768xf32> {epsilon = 1.0e-5 : f64} : tensor<4x256x768xf32> -> tensor<4x256x768xf32>, tensor<4x256xf32>"},
    {"layer_norm, bf16", "%0: tensor<4x256x768xbf16>, %1: tensor<768xbf16>, %2: tensor<768xbf16>",
     "%r:3 = train.layer_norm %0 gamma %1 : tensor<768xbf16> beta %2 : tensor<768xbf16> {epsilon = 1.0e-5 : f64} : tensor<4x256x768xbf16> -> tensor<4x256x768xbf16>, tensor<4x256xf32>"},
    {"layer_norm_grad, bf16", "%0: tensor<4x256x768xbf16>, %1: tensor<768xbf16>, %2: tensor<4x256xf32>, %3: tensor<4x256xf32>, %4: tensor<4x256x768xbf16>",
     "%r = train.layer_norm_grad %0 gamma %1 : tensor<768xbf16> mean %2 rstd %3 cotangent %4 : tensor<4x256x768xbf16>, tensor<4x256xf32>, tensor<4x256x768xbf16>"},
    {"layer_norm_parameter_grad", "%0: tensor<4x256x768xbf16>, %1: tensor<4x256xf32>, %2: tensor<4x256xf32>, %3: tensor<4x256x768xbf16>",
     "%r:2 = train.layer_norm_parameter_grad %0 mean %1 rstd %2 cotangent %3 : tensor<4x256x768xbf16>, tensor<4x256xf32>, tensor<4x256x768xbf16> -> tensor<768xbf16>, tensor<768xbf16>"},
    {"bias gradient, bf16", "%0: tensor<4x256x3072xbf16>", "%r = train.reduce_sum %0 [0, 1] : tensor<4x256x3072xbf16> -> tensor<3072xbf16>"},
    {"attention_probabilities", "%0: tensor<4x12x256x256xf32>", "%r:2 = train.attention_probabilities %0 {causal} : tensor<4x12x256x256xf32> -> tensor<4x12x256x256xbf16>, tensor<4x12x256xf32>"},
    {"attention_scores_grad", "%0: tensor<4x12x256x256xf32>, %1: tensor<4x12x256xf32>, %2: tensor<4x12x256x256xf32>, %3: tensor<4x12x256x64xbf16>, %4: tensor<4x12x256x64xbf16>",
     "%r:2 = train.attention_scores_grad %0 lse %1 dp %2 output %3 cotangent %4 {causal} : tensor<4x12x256x256xf32>, tensor<4x12x256xf32>, tensor<4x12x256x256xf32>, tensor<4x12x256x64xbf16>, "
     "tensor<4x12x256x64xbf16> -> tensor<4x12x256x256xbf16>, tensor<4x12x256x256xbf16>"},
    {"cross_entropy, bf16", "%0: tensor<1024x50257xbf16>, %1: tensor<1024xi64>",
     "%r:3 = train.cross_entropy %0, %1 : tensor<1024x50257xbf16>, tensor<1024xi64> -> tensor<f32>, tensor<1024xf32>"},
    {"cross_entropy_grad, bf16", "%0: tensor<1024x50257xbf16>, %1: tensor<1024xi64>, %2: tensor<1024xf32>, %3: tensor<f32>",
     "%r = train.cross_entropy_grad %0, %1, %2, %3 : tensor<1024x50257xbf16>, tensor<1024xi64>, tensor<1024xf32>, tensor<f32> -> tensor<1024x50257xbf16>"},
    {"gather, bf16", "%0: tensor<50257x768xbf16>, %1: tensor<4x256xi64>", "%r = train.gather %0, %1 0 : tensor<50257x768xbf16>, tensor<4x256xi64> -> tensor<4x256x768xbf16>"},
    {"gather_grad, bf16", "%0: tensor<4x256x768xbf16>, %1: tensor<4x256xi64>", "%r = train.gather_grad %0, %1 0 : tensor<4x256x768xbf16>, tensor<4x256xi64> -> tensor<50257x768xbf16>"},
    {"rotary, bf16", "%0: tensor<4x12x256x64xbf16>, %1: tensor<1x1x256x32xf32>, %2: tensor<1x1x256x32xf32>", "%r = train.rotary %0, %1, %2 : tensor<4x12x256x64xbf16>, tensor<1x1x256x32xf32>"},
};

const char *kAdamW = R"(
train.optimizer @adamw slots ["exp_avg", "exp_avg_sq"] {
^bb0(%p: f32, %g: f32, %m: f32, %v: f32, %lr: f32, %step: f32, %decay: f32):
  %one = arith.constant 1.0 : f32
  %b1 = arith.constant 0.9 : f32
  %b2 = arith.constant 0.999 : f32
  %eps = arith.constant 1.0e-8 : f32
  %c1 = arith.subf %one, %b1 : f32
  %c2 = arith.subf %one, %b2 : f32
  %d = arith.mulf %lr, %decay : f32
  %keep = arith.subf %one, %d : f32
  %p0 = arith.mulf %p, %keep : f32
  %m0 = arith.mulf %m, %b1 : f32
  %m1 = arith.mulf %g, %c1 : f32
  %m2 = arith.addf %m0, %m1 : f32
  %g2 = arith.mulf %g, %g : f32
  %v0 = arith.mulf %v, %b2 : f32
  %v1 = arith.mulf %g2, %c2 : f32
  %v2 = arith.addf %v0, %v1 : f32
  %t1 = math.powf %b1, %step : f32
  %t2 = math.powf %b2, %step : f32
  %u1 = arith.subf %one, %t1 : f32
  %u2 = arith.subf %one, %t2 : f32
  %s2 = math.sqrt %u2 : f32
  %r = math.sqrt %v2 : f32
  %q = arith.divf %r, %s2 : f32
  %e = arith.addf %q, %eps : f32
  %a = arith.divf %lr, %u1 : f32
  %n = arith.divf %m2, %e : f32
  %w = arith.mulf %a, %n : f32
  %p1 = arith.subf %p0, %w : f32
  train.yield %p1, %m2, %v2 : f32, f32, f32
}
)";

int64_t bytesOf(RankedTensorType type) { return type.getNumElements() * std::max<int64_t>(1, type.getElementTypeBitWidth() / 8); }

/// Memory with small values in every type's encoding: 0x3C3C... is 0.01 as fp32 and bf16; indices are written as such.
char *allocate(int64_t bytes, bool indices) {
  char *memory = static_cast<char *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
  std::memset(memory, 0x3C, bytes);
  if (indices)
    for (int64_t i = 0; i < bytes / 8; ++i)
      reinterpret_cast<int64_t *>(memory)[i] = i * 7919 % 50257;
  return memory;
}

} // namespace

int main(int argc, char **argv) {
  int threads = 1;
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string(argv[i]) == "--threads")
      threads = std::atoi(argv[i + 1]);

  MLIRContext context;
  context.loadDialect<train::TrainDialect, plan::PlanDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect, vector::VectorDialect, memref::MemRefDialect, scf::SCFDialect>();
  SmallVector<std::string> features;
  for (const auto &feature : llvm::sys::getHostCPUFeatures())
    if (feature.second)
      features.push_back("+" + feature.first().str());
  auto plan = parseSourceString<ModuleOp>("module {\n  plan.target \"cpu\" {world_size = 1, threads = 1, micro_batch = 1, accum_steps = 1, triple = \"" + llvm::sys::getDefaultTargetTriple() +
                                              "\", cpu = \"" + llvm::sys::getHostCPUName().str() + "\", features = \"" + llvm::join(features, ",") + "\", libraries = []}\n}",
                                          &context);
  KernelGenerator generator(*plan);
  std::vector<OwningOpRef<ModuleOp>> sources;
  std::vector<Operation *> ops;
  for (const Case &benchmark : kCases) {
    sources.push_back(parseSourceString<ModuleOp>(std::string("func.func private @f(") + benchmark.arguments + ") {\n" + benchmark.op + "\nreturn\n}", &context));
    if (!sources.back())
      return 1;
    ops.push_back(&(*sources.back()->getOps<func::FuncOp>().begin()).getBody().front().front());
  }
  auto optimizer = parseSourceString<ModuleOp>(kAdamW, &context);
  double start = now();
  std::vector<KernelPlan> kernels;
  for (Operation *op : ops) {
    SmallVector<TensorLayout> layouts;
    for (mlir::Type type : llvm::concat<const mlir::Type>(SmallVector<mlir::Type>(op->getOperandTypes()), SmallVector<mlir::Type>(op->getResultTypes())))
      layouts.push_back(TensorLayout::contiguous(cast<RankedTensorType>(type)));
    auto generated = generator.generate(op, layouts);
    if (failed(generated))
      return 1;
    kernels.push_back(*generated);
  }
  FlatSymbolRefAttr update = generator.getUpdateKernel(*optimizer->getOps<train::OptimizerOp>().begin(), BFloat16Type::get(&context), BFloat16Type::get(&context), true);
  FlatSymbolRefAttr squares = generator.getSquaresKernel(BFloat16Type::get(&context));
  double generated = now();
  llvm::SmallString<128> path;
  if (llvm::sys::fs::createTemporaryFile("zopt-kernels", "so", path) || failed(compileKernels(*plan, path)))
    return 1;
  double compiled = now();
  int64_t count = std::distance(plan->getOps<plan::KernelOp>().begin(), plan->getOps<plan::KernelOp>().end());
  std::printf("%lld kernels: generated in %.0f ms, compiled in %.0f ms\n", static_cast<long long>(count), (generated - start) * 1e3, (compiled - generated) * 1e3);
  void *library = dlopen(path.c_str(), RTLD_NOW);
  llvm::sys::fs::remove(path);
  if (!library)
    return 1;
  auto symbol = [&](FlatSymbolRefAttr name) { return reinterpret_cast<Kernel>(dlsym(library, getKernelSymbol(name.getValue()).c_str())); };

  const int64_t kCopy = int64_t(256) << 20;
  char *from = allocate(kCopy, false), *to = allocate(kCopy, false);
  double seconds = best([&] { parallel(threads, kCopy, [&](int64_t begin, int64_t end) { std::memcpy(to + begin, from + begin, end - begin); }); });
  double copy = 2 * kCopy / seconds / 1e9;
  std::printf("%-28s %8.1f GB/s\n", "memcpy, 256 MiB", copy);
  std::free(from);
  std::free(to);

  auto report = [&](const char *name, int64_t bytes, double time) { std::printf("%-28s %8.1f GB/s %5.0f%% %10.3f ms\n", name, bytes / time / 1e9, bytes / time / 1e9 / copy * 100, time * 1e3); };
  for (size_t i = 0; i < ops.size(); ++i) {
    std::vector<char *> buffers;
    int64_t bytes = 0;
    for (mlir::Type type : llvm::concat<const mlir::Type>(SmallVector<mlir::Type>(ops[i]->getOperandTypes()), SmallVector<mlir::Type>(ops[i]->getResultTypes()))) {
      auto tensor = cast<RankedTensorType>(type);
      bool isTable = isa<train::GatherOp>(ops[i]) && buffers.empty();
      bytes += isTable ? 0 : bytesOf(tensor);
      buffers.push_back(allocate(bytesOf(tensor), tensor.getElementType().isInteger(64)));
    }
    if (isa<train::GatherOp>(ops[i])) // reads as much as it writes
      bytes += bytesOf(cast<RankedTensorType>(ops[i]->getResult(0).getType()));
    for (int64_t size : kernels[i].workspaces)
      buffers.push_back(allocate(size, false));
    double time = best([&] {
      for (const KernelLaunch &launch : kernels[i].launches) {
        std::vector<char *> arguments;
        for (unsigned argument : launch.arguments)
          arguments.push_back(buffers[argument]);
        Kernel kernel = symbol(launch.kernel);
        if (launch.extent < 2 * launch.grain)
          kernel(arguments.data(), 0, launch.extent);
        else
          parallel(threads, launch.extent, [&](int64_t begin, int64_t end) { kernel(arguments.data(), begin, end); });
      }
    });
    report(kCases[i].name, bytes, time);
    for (char *buffer : buffers)
      std::free(buffer);
  }

  const int64_t elements = int64_t(16) << 20;
  std::vector<char *> buffers = {allocate(elements * 2, false), allocate(elements * 2, false), allocate(elements * 4, false), allocate(elements * 4, false), allocate(elements * 4, false)};
  for (int scalar = 0; scalar < 5; ++scalar)
    buffers.push_back(allocate(4, false));
  Kernel kernel = symbol(update);
  report("adamw, bf16 + fp32 master", elements * 28, best([&] { parallel(threads, elements / 128, [&](int64_t begin, int64_t end) { kernel(buffers.data(), begin, end); }); }));
  char *sums = allocate(elements / 16, false);
  char *arguments[] = {buffers[0], sums};
  kernel = symbol(squares);
  report("squares, bf16", elements * 2, best([&] { parallel(threads, elements / 128, [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); }); }));
  return 0;
}
