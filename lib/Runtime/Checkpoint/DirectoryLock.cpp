//===- DirectoryLock.cpp - one writer a folder ----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Directory.h"
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

struct Owner {
  std::string host;
  long process = 0;
};

std::string hostName() {
  char name[HOST_NAME_MAX + 1] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

/// "HOST PROCESS", or nothing in a file that was given up.
Owner readOwner(int descriptor) {
  char text[512] = "";
  ssize_t got = ::pread(descriptor, text, sizeof text - 1, 0);
  Owner owner;
  if (got <= 0)
    return owner;
  std::string line(text, size_t(got));
  if (size_t space = line.find(' '); space != std::string::npos) {
    owner.host = line.substr(0, space);
    owner.process = std::atol(line.c_str() + space + 1);
  }
  return owner;
}

/// Seconds since the lease was renewed, by the clock of the file system that keeps it.
double leaseAge(int descriptor, const std::string &directory) {
  struct stat information, now;
  if (fstat(descriptor, &information) != 0)
    return 0;
  std::string probe = directory + "/lock.clock-" + std::to_string(getpid());
  int other = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (other < 0)
    return 0;
  bool known = fstat(other, &now) == 0;
  ::close(other);
  ::unlink(probe.c_str());
  return known ? double(now.st_mtim.tv_sec - information.st_mtim.tv_sec) +
                     1e-9 * double(now.st_mtim.tv_nsec - information.st_mtim.tv_nsec)
               : 0;
}

} // namespace

Result<std::unique_ptr<DirectoryLock>> DirectoryLock::acquire(const std::string &directory, std::string &note) {
  const std::string path = directory + "/lock";
  for (int attempt = 0; attempt < 100; ++attempt) {
    int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
      return Status(Error{ErrorKind::Runtime, -1, path, "open", std::strerror(errno)});
    std::unique_ptr<DirectoryLock> lock(
        new DirectoryLock("", descriptor)); // closes it; without a path nothing is removed
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK)
        return Status(Error{ErrorKind::Runtime, -1, path, "flock", std::strerror(errno)});
      Owner owner = readOwner(descriptor);
      return inputError(directory, ": another run writes its checkpoints here: process ", owner.process, " on ",
                        owner.host.empty() ? "an unknown machine" : owner.host);
    }
    // Whoever held it may have removed the file between the two calls.
    struct stat held, named;
    if (fstat(descriptor, &held) != 0 || ::stat(path.c_str(), &named) != 0 || held.st_ino != named.st_ino ||
        held.st_dev != named.st_dev)
      continue;
    Owner owner = readOwner(descriptor);
    const std::string here = hostName();
    if (owner.process != 0) {
      double age = leaseAge(descriptor, directory);
      // On this machine the kernel would know of a living owner. Another machine's lock may not reach this one.
      if (owner.host != here && age < kLeaseSeconds)
        return inputError(directory, ": another run writes its checkpoints here: process ", owner.process, " on ",
                          owner.host, ", whose lease was renewed ", int64_t(age), " s ago (it ends after ",
                          kLeaseSeconds, " s)");
      note = concat(directory, ": takes over the lock of process ", owner.process, " on ", owner.host,
                    ", which ended without giving it up");
    }
    std::string text = concat(here, " ", long(getpid()), "\n");
    if (ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, text.data(), text.size(), 0) != ssize_t(text.size()))
      return Status(Error{ErrorKind::Runtime, -1, path, "write", std::strerror(errno)});
    lock->path = path;
    return Result<std::unique_ptr<DirectoryLock>>(std::move(lock));
  }
  return runtimeError(path, ": the lock changes hands all the time");
}

DirectoryLock::~DirectoryLock() {
  if (!path.empty())
    ::unlink(path.c_str());
  ::close(descriptor);
}

void DirectoryLock::renew() { futimens(descriptor, nullptr); }

} // namespace zopt::runtime
