//===- ThreadTeam.cpp - the threads of a rank -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <sched.h>

// libgomp's entry points, declared here because clang would compile `#pragma omp` for another OpenMP runtime, whose threads would compete with oneDNN's.
extern "C" {
void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
int omp_get_max_threads();
void omp_set_num_threads(int threads);
}

// libgomp is not instrumented: ThreadSanitizer learns here that the threads of a parallel region begin after it is entered and end before it is left.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZOPT_THREAD_SANITIZER 1
#endif
#endif
#ifdef ZOPT_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void *address);
void __tsan_release(void *address);
}
static void happensAfter(void *event) { __tsan_acquire(event); }
static void happensBefore(void *event) { __tsan_release(event); }
#else
static void happensAfter(void *) {}
static void happensBefore(void *) {}
#endif

namespace zopt::runtime {

TeamSize::TeamSize(int threads) : before(omp_get_max_threads()) { omp_set_num_threads(threads); }
TeamSize::~TeamSize() { omp_set_num_threads(before); }

namespace {
struct Work {
  int64_t extent;
  void (*body)(void *, int64_t, int64_t);
  void *context;
};

void runShare(void *data) {
  happensAfter(data);
  const Work &work = *static_cast<const Work *>(data);
  int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
  int64_t begin = work.extent * thread / threads, end = work.extent * (thread + 1) / threads;
  if (begin < end)
    work.body(work.context, begin, end);
  happensBefore(data);
}
} // namespace

void parallelFor(int threads, int64_t extent, int64_t grain, void (*body)(void *, int64_t, int64_t), void *context) {
  int64_t useful = std::min<int64_t>(threads, extent / std::max<int64_t>(1, grain));
  if (useful <= 1) {
    if (extent > 0)
      body(context, 0, extent);
    return;
  }
  Work work{extent, body, context};
  happensBefore(&work);
  GOMP_parallel(runShare, &work, unsigned(useful), 0);
  happensAfter(&work);
}

int availableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return 1;
  return std::max(1, CPU_COUNT(&set));
}

} // namespace zopt::runtime
