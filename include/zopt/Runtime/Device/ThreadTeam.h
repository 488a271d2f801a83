//===- ThreadTeam.h - the threads of a rank ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The OpenMP runtime that oneDNN brings (libgomp) also runs the kernels, so that one team of threads serves both and no core is asked for twice. Each rank's thread has a team of its own.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DEVICE_THREADTEAM_H
#define ZOPT_RUNTIME_DEVICE_THREADTEAM_H

#include <cstdint>

namespace zopt::runtime {

/// Sets the team size that parallel work started by this thread gets, for as long as the object lives.
class TeamSize {
public:
  explicit TeamSize(int threads);
  ~TeamSize();
  TeamSize(const TeamSize &) = delete;
  TeamSize &operator=(const TeamSize &) = delete;

private:
  int before;
};

/// Calls body(context, begin, end) on disjoint ranges that cover [0, extent), on at most `threads` threads and with at least `grain` iterations a thread. Returns when all have.
void parallelFor(int threads, int64_t extent, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end), void *context);

template <typename Function>
void parallelFor(int threads, int64_t extent, int64_t grain, Function function) {
  parallelFor(threads, extent, grain, [](void *context, int64_t begin, int64_t end) { (*static_cast<Function *>(context))(begin, end); }, &function);
}

/// Cores that this process may use.
int availableCores();

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DEVICE_THREADTEAM_H
