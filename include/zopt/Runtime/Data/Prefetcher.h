//===- Prefetcher.h - micro-batches read ahead ----------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DATA_PREFETCHER_H
#define ZOPT_RUNTIME_DATA_PREFETCHER_H

#include "zopt/Runtime/Data/Dataset.h"
#include <condition_variable>
#include <mutex>
#include <thread>

namespace zopt::runtime {

/// Threads that fill the micro-batches to come while the rank computes. What is taken is what Dataset::fill gives, in the same order, whatever the number of threads: they share out the places of a ring.
class Prefetcher {
public:
  /// `end`: the first step that is not read ahead. `dataset` and `program` outlive it.
  Prefetcher(const Dataset &dataset, const Program &program, int rank, int64_t end, int workers);
  ~Prefetcher();
  Prefetcher(const Prefetcher &) = delete;
  Prefetcher &operator=(const Prefetcher &) = delete;

  /// Bytes of the ring.
  static int64_t plannedBytes(const Program &program, int workers);

  /// The same of this one, as it was allocated.
  int64_t bytes() const;

  /// Dataset::fill of one micro-batch. Where the last one was its predecessor it has been read already, or is being read; elsewhere reading begins anew from here. Allocates nothing.
  Status take(int64_t step, int64_t microStep, void *const *destinations);

private:
  struct Slot {
    std::vector<char> bytes;
    std::vector<void *> destinations; // in `bytes`
    Status status;
    int64_t number = -1; // of the micro-batch that it holds; -1: none
  };
  void work();
  void startAt(int64_t number, std::unique_lock<std::mutex> &lock);

  const Dataset &dataset;
  const int rank;
  const int64_t accumulation, end; // `end` counts micro-batches
  std::vector<int64_t> sizes;      // bytes of each input
  std::vector<Slot> slots;         // micro-batch n is in slot n % size
  std::mutex mutex;
  std::condition_variable wakesWorkers, wakesTaker;
  // Micro-batches are numbered over steps.
  int64_t nextToTake = -1, nextToFill = -1;
  int busy = 0; // workers that fill a slot
  bool ends = false;
  std::vector<std::thread> threads;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DATA_PREFETCHER_H
