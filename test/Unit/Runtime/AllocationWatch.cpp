//===- AllocationWatch.cpp - large allocations, as they are made ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AllocationWatch.h"
#include <atomic>
#include <cerrno>
#include <dlfcn.h>
#include <sys/mman.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ZOPT_SANITIZED 1
#endif
#endif

namespace {

std::atomic<bool> watching{false};
// Fixed memory: noting an allocation must not allocate.
constexpr int kNotes = 256;
LargeAllocation notes[kNotes];
std::atomic<int> noted{0};

[[maybe_unused]] void note(const char *call, size_t bytes) {
  if (bytes < kLargeAllocation || !watching.load(std::memory_order_relaxed))
    return;
  int index = noted.fetch_add(1);
  if (index < kNotes)
    notes[index] = {call, bytes};
}

} // namespace

bool canWatchAllocations() {
#ifdef ZOPT_SANITIZED
  return false;
#else
  return true;
#endif
}

void startWatchingAllocations() {
  noted = 0;
  watching = true;
}

std::vector<LargeAllocation> stopWatchingAllocations() {
  watching = false;
  int count = noted < kNotes ? noted.load() : kNotes;
  return {notes, notes + count};
}

#ifndef ZOPT_SANITIZED
// glibc's own functions under their other names, so that no look-up is needed before the first call.
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes) {
  note("malloc", bytes);
  return __libc_malloc(bytes);
}
void *calloc(size_t count, size_t bytes) {
  note("calloc", count * bytes);
  return __libc_calloc(count, bytes);
}
void *realloc(void *pointer, size_t bytes) {
  note("realloc", bytes);
  return __libc_realloc(pointer, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
  note("memalign", bytes);
  return __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) {
  note("aligned_alloc", bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void **pointer, size_t alignment, size_t bytes) {
  note("posix_memalign", bytes);
  *pointer = __libc_memalign(alignment, bytes);
  return *pointer ? 0 : ENOMEM;
}
void *mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
  static auto real = reinterpret_cast<void *(*)(void *, size_t, int, int, int, off_t)>(dlsym(RTLD_NEXT, "mmap"));
  note("mmap", bytes);
  return real(address, bytes, protection, flags, descriptor, offset);
}
}
#endif
