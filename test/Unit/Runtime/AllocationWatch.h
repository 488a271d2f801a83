//===- AllocationWatch.h - large allocations, as they are made --*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Linked into a test program, takes the place of malloc, its relatives and mmap, and notes every allocation of 64 KiB or more by any thread while it watches.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_ALLOCATIONWATCH_H
#define ZOPT_TEST_UNIT_RUNTIME_ALLOCATIONWATCH_H

#include <cstddef>
#include <string>
#include <vector>

constexpr size_t kLargeAllocation = 64 << 10;

struct LargeAllocation {
  const char *call;
  size_t bytes;
};

/// False where a sanitizer owns malloc.
bool canWatchAllocations();
void startWatchingAllocations();
/// What was allocated since the start.
std::vector<LargeAllocation> stopWatchingAllocations();

#endif // ZOPT_TEST_UNIT_RUNTIME_ALLOCATIONWATCH_H
