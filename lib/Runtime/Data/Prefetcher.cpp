//===- Prefetcher.cpp - micro-batches read ahead --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/Prefetcher.h"
#include "zopt/Runtime/Core/DataType.h"
#include <csignal>
#include <cstring>
#include <utility>

namespace zopt::runtime {

/// Of the ring, and of every input in a slot.
static constexpr int64_t kAlignment = 64;

static int64_t slotsFor(int workers) { return workers + 1; }

static int64_t bytesOf(const Input &input) { return elementCount(input.shape) * sizeOf(input.type); }
static int64_t rounded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t Prefetcher::plannedBytes(const Program &program, int workers) {
  int64_t bytes = 0;
  for (const Input &input : program.inputs)
    bytes += rounded(bytesOf(input));
  return workers > 0 ? slotsFor(workers) * bytes : 0;
}

Prefetcher::Prefetcher(const Dataset &dataset, const Program &program, int rank, int64_t endStep, int workers) : dataset(dataset), rank(rank), accumulation(program.accumSteps), end(endStep * program.accumSteps) {
  slots.resize(size_t(slotsFor(workers)));
  for (const Input &input : program.inputs)
    sizes.push_back(bytesOf(input));
  for (Slot &slot : slots) {
    slot.bytes.resize(size_t(plannedBytes(program, workers) / int64_t(slots.size())));
    int64_t at = 0;
    for (int64_t size : sizes) {
      slot.destinations.push_back(slot.bytes.data() + at);
      at += rounded(size);
    }
  }
  // Signals are the run's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < workers; ++i)
    threads.emplace_back([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    ends = true;
  }
  wakesWorkers.notify_all();
  for (std::thread &thread : threads)
    thread.join();
}

int64_t Prefetcher::bytes() const {
  int64_t bytes = 0;
  for (const Slot &slot : slots)
    bytes += int64_t(slot.bytes.size());
  return bytes;
}

void Prefetcher::work() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    wakesWorkers.wait(lock, [&] { return ends || (nextToFill >= 0 && nextToFill < end && nextToFill < nextToTake + int64_t(slots.size())); });
    if (ends)
      return;
    const int64_t number = nextToFill++;
    Slot &slot = slots[size_t(number % int64_t(slots.size()))];
    ++busy;
    lock.unlock();
    Status status = dataset.fill(number / accumulation, number % accumulation, rank, slot.destinations.data());
    lock.lock();
    --busy;
    slot.status = std::move(status);
    slot.number = number;
    wakesTaker.notify_all();
  }
}

void Prefetcher::startAt(int64_t number, std::unique_lock<std::mutex> &lock) {
  nextToFill = -1; // nothing is begun
  wakesTaker.wait(lock, [&] { return busy == 0; });
  for (Slot &slot : slots)
    slot.number = -1;
  nextToTake = nextToFill = number;
  wakesWorkers.notify_all();
}

Status Prefetcher::take(int64_t step, int64_t microStep, void *const *destinations) {
  const int64_t number = step * accumulation + microStep;
  if (number >= end)
    return dataset.fill(step, microStep, rank, destinations);
  std::unique_lock<std::mutex> lock(mutex);
  if (number != nextToTake)
    startAt(number, lock);
  Slot &slot = slots[size_t(number % int64_t(slots.size()))];
  wakesTaker.wait(lock, [&] { return slot.number == number; });
  // Nobody writes it until nextToTake has moved on.
  lock.unlock();
  for (size_t i = 0; i < sizes.size(); ++i)
    std::memcpy(destinations[i], slot.destinations[i], size_t(sizes[i]));
  lock.lock();
  Status status = std::exchange(slot.status, success());
  slot.number = -1;
  nextToTake = number + 1;
  lock.unlock();
  wakesWorkers.notify_all();
  return status;
}

} // namespace zopt::runtime
