/*===- disk.c - a preloaded library that records or fails file operations -*- C -*-===*\
|*                                                                                *|
|* Part of zopt, under the Apache License v2.0 with LLVM Exceptions.              *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                        *|
|*                                                                                *|
|*===------------------------------------------------------------------------===*|
|*                                                                                *|
|* Looks at what happens below $ZOPT_DISK_ROOT. With $ZOPT_DISK_TRACE every       *|
|* change is a record in that file, data included, so that a test can build what  *|
|* a crash at any moment leaves: "<call> <bytes> <path>[\t<second path>]\n" and   *|
|* that many bytes. With $ZOPT_DISK_FAIL = "<call>:<first>:<count>:<errno>" the   *|
|* calls [first, first + count) of that name fail; errno 0 writes half of what    *|
|* was given.                                                                     *|
|*                                                                                *|
\*===----------------------------------------------------------------------------===*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kFiles = 4096, kPath = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char paths[kFiles][kPath]; /* of open descriptors below the root */
static int trace = -1, configured;
static char root[kPath], failing[32];
static long failFirst = -1, failCount, failErrno, seen;

static void configure(void) {
  if (configured)
    return;
  configured = 1;
  const char *text = getenv("ZOPT_DISK_ROOT");
  snprintf(root, sizeof root, "%s", text ? text : "");
  if ((text = getenv("ZOPT_DISK_TRACE")))
    trace = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if ((text = getenv("ZOPT_DISK_FAIL")))
    sscanf(text, "%31[^:]:%ld:%ld:%ld", failing, &failFirst, &failCount, &failErrno);
}

static int watched(const char *path) { return root[0] && strncmp(path, root, strlen(root)) == 0; }
static const char *pathOf(int fd) { return fd >= 0 && fd < kFiles && paths[fd][0] ? paths[fd] : NULL; }

/* Called with the lock. Non-zero where this call is to fail. */
static int fails(const char *call) {
  if (failFirst < 0 || strcmp(call, failing))
    return 0;
  long number = seen++;
  return number >= failFirst && number < failFirst + failCount;
}

static void put(const void *data, size_t bytes) {
  const char *at = data;
  while (bytes > 0) {
    long done = syscall(SYS_write, trace, at, bytes);
    if (done <= 0)
      abort();
    at += done;
    bytes -= (size_t)done;
  }
}

static void record(const char *call, const char *path, const char *second, const void *data, size_t bytes) {
  if (trace < 0)
    return;
  char line[3 * kPath];
  int length = snprintf(line, sizeof line, "%s %zu %s%s%s\n", call, bytes, path, second ? "\t" : "", second ? second : "");
  put(line, (size_t)length);
  put(data, bytes);
}

#define ENTER()                                                                                                        \
  configure();                                                                                                         \
  pthread_mutex_lock(&lock)
#define LEAVE(value)                                                                                                   \
  do {                                                                                                                 \
    int number = errno;                                                                                                \
    pthread_mutex_unlock(&lock);                                                                                       \
    errno = number;                                                                                                    \
    return value;                                                                                                      \
  } while (0)
#define FAIL_IF(call)                                                                                                  \
  if (fails(call)) {                                                                                                   \
    errno = (int)failErrno;                                                                                            \
    LEAVE(-1);                                                                                                         \
  }

static int opened(int fd, const char *path, int created, int truncated) {
  if (fd >= 0 && fd < kFiles) {
    paths[fd][0] = 0;
    if (watched(path)) {
      snprintf(paths[fd], kPath, "%s", path);
      if (created)
        record(truncated ? "create" : "touch", path, NULL, NULL, 0);
    }
  }
  return fd;
}

static int openAny(const char *path, int flags, int mode) {
  ENTER();
  if (watched(path) && flags & O_CREAT)
    FAIL_IF("open");
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  opened(fd, path, flags & O_CREAT, flags & O_TRUNC);
  LEAVE(fd);
}
#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                         \
    int mode = 0;                                                                                                      \
    if (flags & O_CREAT) {                                                                                             \
      va_list list;                                                                                                    \
      va_start(list, flags);                                                                                           \
      mode = va_arg(list, int);                                                                                        \
      va_end(list);                                                                                                    \
    }                                                                                                                  \
    return openAny(path, flags, mode);                                                                                 \
  }
OPEN(open)
OPEN(open64)

static int temporary(const char *name, char *pattern, int flags) {
  int (*next)(char *, int) = (int (*)(char *, int))dlsym(RTLD_NEXT, name);
  ENTER();
  if (watched(pattern))
    FAIL_IF("open");
  int fd = next(pattern, flags);
  opened(fd, pattern, 1, 1);
  LEAVE(fd);
}
int mkostemp(char *pattern, int flags) { return temporary("mkostemp", pattern, flags); }
int mkostemp64(char *pattern, int flags) { return temporary("mkostemp64", pattern, flags); }

int close(int fd) {
  ENTER();
  if (fd >= 0 && fd < kFiles)
    paths[fd][0] = 0;
  int result = (int)syscall(SYS_close, fd);
  LEAVE(result);
}

static ssize_t writeAny(int fd, const void *data, size_t bytes, off_t offset, int positioned) {
  ENTER();
  const char *path = pathOf(fd);
  size_t wanted = bytes;
  if (path && fails("write")) {
    if (failErrno) {
      errno = (int)failErrno;
      LEAVE(-1);
    }
    wanted = bytes > 1 ? bytes / 2 : bytes;
  }
  if (!positioned && path)
    offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
  ssize_t done = positioned ? syscall(SYS_pwrite64, fd, data, wanted, offset) : syscall(SYS_write, fd, data, wanted);
  if (path && done > 0) {
    char call[64];
    snprintf(call, sizeof call, "write@%ld", (long)offset);
    record(call, path, NULL, data, (size_t)done);
  }
  LEAVE(done);
}
ssize_t write(int fd, const void *data, size_t bytes) { return writeAny(fd, data, bytes, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return writeAny(fd, data, bytes, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) { return writeAny(fd, data, bytes, offset, 1); }

static int truncateAny(int fd, off_t size) {
  ENTER();
  const char *path = pathOf(fd);
  if (path)
    FAIL_IF("ftruncate");
  int result = (int)syscall(SYS_ftruncate, fd, size);
  if (path && result == 0) {
    char call[64];
    snprintf(call, sizeof call, "truncate@%ld", (long)size);
    record(call, path, NULL, NULL, 0);
  }
  LEAVE(result);
}
int ftruncate(int fd, off_t size) { return truncateAny(fd, size); }
int ftruncate64(int fd, off_t size) { return truncateAny(fd, size); }

/* Not every file system has it; here none does, so that writes are what fails. */
int fallocate(int fd, int mode, off_t offset, off_t size) {
  if (!pathOf(fd))
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
  errno = EOPNOTSUPP;
  return -1;
}
int fallocate64(int fd, int mode, off_t offset, off_t size) { return fallocate(fd, mode, offset, size); }

int fsync(int fd) {
  ENTER();
  const char *path = pathOf(fd);
  if (path)
    FAIL_IF("fsync");
  if (path)
    record("fsync", path, NULL, NULL, 0);
  LEAVE(path ? 0 : (int)syscall(SYS_fsync, fd)); /* the test's own disk need not turn */
}

int rename(const char *from, const char *to) {
  ENTER();
  if (watched(from))
    FAIL_IF("rename");
  int result = (int)syscall(SYS_rename, from, to);
  if (watched(from) && result == 0)
    record("rename", from, to, NULL, 0);
  LEAVE(result);
}

int renameat2(int fromFd, const char *from, int toFd, const char *to, unsigned flags) {
  ENTER();
  if (watched(from))
    FAIL_IF("rename");
  int result = (int)syscall(SYS_renameat2, fromFd, from, toFd, to, flags);
  if (watched(from) && result == 0)
    record(flags & 2 ? "exchange" : "rename", from, to, NULL, 0);
  LEAVE(result);
}

int mkdir(const char *path, mode_t mode) {
  ENTER();
  if (watched(path))
    FAIL_IF("mkdir");
  int result = (int)syscall(SYS_mkdir, path, mode);
  if (watched(path) && result == 0)
    record("mkdir", path, NULL, NULL, 0);
  LEAVE(result);
}

static int removeAny(const char *path, int folder) {
  ENTER();
  int result = (int)syscall(folder ? SYS_rmdir : SYS_unlink, path);
  if (watched(path) && result == 0)
    record("remove", path, NULL, NULL, 0);
  LEAVE(result);
}
int unlink(const char *path) { return removeAny(path, 0); }
int rmdir(const char *path) { return removeAny(path, 1); }
