//===- LibraryBenchmark.cpp - NVIDIA's libraries as zopt calls them -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// zopt-gpu-library-benchmark [part...]: checks products and attention against f64 on the host, compares the library's workspaces with the planned ones, and times the shapes of training steps. Exits
// with 1 where a check failed. Runs on device 0; ZOPT_CUDA_LIBRARY_PATH may name the folders of cuBLASLt, the CUDA runtime and cuDNN.
//
//===----------------------------------------------------------------------===//

#include "GpuHarness.h"
#include <chrono>
#include <cstdio>
#include <cstring>

using namespace zopt::benchmark;

namespace {

constexpr const char *kParts[] = {"check-matmul", "check-attention", "workspace", "time-matmul", "time-head", "time-attention"};

bool selected(int count, char **arguments, const char *part) {
  for (int i = 1; i < count; ++i)
    if (std::strcmp(arguments[i], part) == 0)
      return true;
  return count == 1;
}

} // namespace

int main(int count, char **arguments) {
  for (int i = 1; i < count; ++i) {
    bool known = false;
    for (const char *part : kParts)
      known |= std::strcmp(arguments[i], part) == 0;
    if (!known) {
      std::fprintf(stderr, "usage: %s [part...]\nparts (default: all):", arguments[0]);
      for (const char *part : kParts)
        std::fprintf(stderr, " %s", part);
      std::fprintf(stderr, "\n");
      return 2;
    }
  }
  Gpu gpu;
  auto context = cuda::LibraryContext::create();
  if (context.failed()) {
    std::fprintf(stderr, "%s\n", context.getStatus().message().c_str());
    return 3;
  }
  std::printf("%s, %s", gpu.name().c_str(), (*context)->matmulLibrary().c_str());
  const Status attention = (*context)->loadAttentionLibrary();
  std::printf(", %s\n", attention.failed() ? attention.message().c_str() : (*context)->attentionLibrary().c_str());

  Verdict verdict;
  auto run = [&](const char *part, auto work) {
    if (!selected(count, arguments, part))
      return;
    std::printf("== %s\n", part);
    auto begin = std::chrono::steady_clock::now();
    work();
    std::printf("== %s took %.1f s\n", part, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    std::fflush(stdout);
  };
  run("check-matmul", [&] { checkMatmuls(gpu, **context, verdict); });
  run("check-attention", [&] { checkAttention(gpu, **context, verdict); });
  run("workspace", [&] { compareWorkspaces(**context, verdict); });
  run("time-matmul", [&] { timeMatmuls(gpu, **context); });
  run("time-head", [&] { timeHead(gpu, **context); });
  run("time-attention", [&] { timeAttention(gpu, **context); });
  std::printf("%d checks, %zu failed\n", verdict.checks, verdict.failures.size());
  for (const std::string &failure : verdict.failures)
    std::printf("  FAIL %s\n", failure.c_str());
  return verdict.failures.empty() ? 0 : 1;
}
