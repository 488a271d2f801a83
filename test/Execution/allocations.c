/*===- allocations.c - a preloaded library that records large allocations -*- C -*-===*\
|*                                                                                *|
|* Part of zopt, under the Apache License v2.0 with LLVM Exceptions.              *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                        *|
|*                                                                                *|
|*===------------------------------------------------------------------------===*|
|*                                                                                *|
|* Every allocation of 64 KiB or more (malloc and its kin, mmap) of any process   *|
|* is one line "<call> <bytes>" appended to the file that $ZOPT_ALLOCATIONS names. *|
|*                                                                                *|
\*===----------------------------------------------------------------------------===*/

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kLarge = 64 << 10 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

/* Must not allocate. */
static void record(const char *call, size_t size) {
  if (size < kLarge)
    return;
  const char *path = getenv("ZOPT_ALLOCATIONS");
  if (!path)
    return;
  int saved = errno;
  char line[64];
  size_t length = strlen(call);
  memcpy(line, call, length);
  line[length++] = ' ';
  char digits[24];
  int count = 0;
  for (; size; size /= 10)
    digits[count++] = (char)('0' + size % 10);
  while (count)
    line[length++] = digits[--count];
  line[length++] = '\n';
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file >= 0) {
    if (syscall(SYS_write, file, line, length) < 0)
      abort();
    syscall(SYS_close, file);
  }
  errno = saved;
}

void *malloc(size_t size) {
  record("malloc", size);
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  record("calloc", count * size);
  return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  record("realloc", size);
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  record("memalign", size);
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  record("aligned_alloc", size);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  record("posix_memalign", size);
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}

void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
  record("mmap", length);
  return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}
