//===- Directory.cpp - the folder that checkpoints are in -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Directory.h"
#include "zopt/Runtime/Checkpoint/Shard.h"
#include "zopt/Runtime/Core/File.h"
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

constexpr const char *kTagPrefix = "global_step", *kPartial = ".partial", *kDeleting = ".deleting";

Status failure(const std::string &path, const char *call) {
  return Status(Error{ErrorKind::Runtime, -1, path, call, std::strerror(errno)});
}

/// The step of "global_step20", or -1.
int64_t stepOfTag(const std::string &name) {
  const size_t prefix = std::strlen(kTagPrefix);
  if (name.compare(0, prefix, kTagPrefix) != 0 || name.size() == prefix || name.size() > prefix + 15 ||
      name.find_first_not_of("0123456789", prefix) != std::string::npos)
    return -1;
  return std::atoll(name.c_str() + prefix);
}

bool endsWith(const std::string &text, const std::string &suffix) {
  return text.size() >= suffix.size() && text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

Result<std::vector<std::string>> namesIn(const std::string &path) {
  DIR *folder = opendir(path.c_str());
  if (!folder) {
    if (errno == ENOENT)
      return std::vector<std::string>();
    return fileError(path, "opendir", errno);
  }
  std::vector<std::string> names;
  while (dirent *entry = readdir(folder))
    if (std::string name = entry->d_name; name != "." && name != "..")
      names.push_back(std::move(name));
  closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

bool exists(const std::string &path) {
  struct stat information;
  return ::lstat(path.c_str(), &information) == 0;
}

/// A new file under its own name, for folders that appear whole themselves.
Status writeFile(const std::string &path, const std::string &text) {
  int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0)
    return failure(path, "open");
  auto closeAnd = [&](Status status) {
    ::close(descriptor);
    return status;
  };
  for (size_t done = 0; done < text.size();) {
    ssize_t wrote = ::write(descriptor, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0) {
      if (wrote == 0)
        errno = EIO;
      return closeAnd(failure(path, "write"));
    }
    done += size_t(wrote);
  }
  if (fsync(descriptor) != 0)
    return closeAnd(failure(path, "fsync"));
  return ::close(descriptor) == 0 ? success() : failure(path, "close");
}

void removeCheckpoint(const std::string &path) {
  // From here on it is no checkpoint, however far the removal comes.
  std::string going = path + kDeleting;
  if (::rename(path.c_str(), going.c_str()) == 0)
    removeTree(going);
}

} // namespace

std::string tagOf(int64_t step) { return kTagPrefix + std::to_string(step); }
std::string partialTagOf(int64_t step) { return tagOf(step) + kPartial; }

std::string readLatest(const std::string &directory) {
  std::string name;
  if (FILE *file = std::fopen((directory + "/latest").c_str(), "re")) {
    char text[256];
    size_t got = std::fread(text, 1, sizeof text, file);
    std::fclose(file);
    name.assign(text, got);
  }
  while (!name.empty() && (name.back() == '\n' || name.back() == ' '))
    name.pop_back();
  return stepOfTag(name) >= 0 ? name : "";
}

Result<std::vector<std::string>> listCheckpoints(const std::string &directory) {
  Result<std::vector<std::string>> names = namesIn(directory);
  if (names.failed())
    return names.getStatus();
  int64_t latest = stepOfTag(readLatest(directory));
  std::vector<int64_t> steps;
  for (const std::string &name : *names)
    if (int64_t step = stepOfTag(name);
        step >= 0 && tagOf(step) == name && exists(directory + "/" + name + "/" + kIndexName))
      steps.push_back(step);
  std::sort(steps.begin(), steps.end(), [&](int64_t a, int64_t b) {
    bool before = latest < 0 || a <= latest, beforeB = latest < 0 || b <= latest;
    return before != beforeB ? before : a > b;
  });
  std::vector<std::string> tags;
  for (int64_t step : steps)
    tags.push_back(tagOf(step));
  return tags;
}

Status syncFolder(const std::string &path) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0)
    return failure(path, "open");
  Status status = fsync(descriptor) != 0 ? failure(path, "fsync") : success();
  ::close(descriptor);
  return status;
}

Status makeFolders(const std::string &path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0777) == 0) {
      size_t up = part.rfind('/');
      ZOPT_RETURN_IF_FAILED(syncFolder(up == std::string::npos ? "." : up == 0 ? "/" : part.substr(0, up)));
    } else if (errno != EEXIST) {
      return failure(part, "mkdir");
    }
    if (slash == std::string::npos)
      break;
  }
  struct stat information;
  if (::stat(path.c_str(), &information) != 0)
    return failure(path, "stat");
  return S_ISDIR(information.st_mode) ? success() : inputError(path, ": is no folder");
}

void removeTree(const std::string &path) {
  struct stat information;
  if (::lstat(path.c_str(), &information) == 0 && S_ISDIR(information.st_mode)) {
    if (Result<std::vector<std::string>> names = namesIn(path); !names.failed())
      for (const std::string &name : *names)
        removeTree(path + "/" + name);
    ::rmdir(path.c_str());
  } else {
    ::unlink(path.c_str());
  }
}

void removeLeftovers(const std::string &directory) {
  Result<std::vector<std::string>> names = namesIn(directory);
  if (names.failed())
    return;
  for (const std::string &name : *names) {
    bool ours = name.compare(0, std::strlen(kTagPrefix), kTagPrefix) == 0 &&
                (endsWith(name, kPartial) || endsWith(name, kDeleting));
    if (ours || name.compare(0, 11, "latest.tmp-") == 0 || name.compare(0, 9, "best.tmp-") == 0)
      removeTree(directory + "/" + name);
  }
}

Status publishCheckpoint(const std::string &directory, CheckpointIndex &index, const std::vector<std::string> &shards,
                         int64_t attempt, const Retention &retention, std::vector<std::string> &removed) {
  const std::string tag = tagOf(index.step), path = directory + "/" + tag, partial = path + kPartial;
  index.shards.clear();
  for (const std::string &shard : shards) {
    Result<ShardEntry> entry = describeShard(partial, shard, index.step, attempt);
    if (entry.failed())
      return entry.getStatus();
    index.shards.push_back(*entry);
  }
  ZOPT_RETURN_IF_FAILED(writeFile(partial + "/" + kIndexName, toJson(index)));
  ZOPT_RETURN_IF_FAILED(syncFolder(partial));
  if (exists(path)) {
    // A run that went back passes a step for the second time: the two change places at once, so that there is always
    // one.
    if (renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) != 0) {
      if (errno != EINVAL && errno != ENOSYS)
        return failure(partial, "renameat2");
      if (::rename(path.c_str(), (path + kDeleting).c_str()) != 0 || ::rename(partial.c_str(), path.c_str()) != 0)
        return failure(path, "rename");
    }
  } else if (::rename(partial.c_str(), path.c_str()) != 0) {
    return failure(partial, "rename");
  }
  ZOPT_RETURN_IF_FAILED(syncFolder(directory));
  ZOPT_RETURN_IF_FAILED(replaceFile(directory + "/latest", tag + "\n"));
  ZOPT_RETURN_IF_FAILED(syncFolder(directory));
  removeTree(partial);
  removeTree(path + kDeleting);
  if (retention.keep <= 0)
    return success();
  Result<std::vector<std::string>> tags = listCheckpoints(directory);
  if (tags.failed())
    return success();
  // In that order the newest comes first, and those of a future that the run has left (it went back) come last and are
  // not counted.
  int64_t kept = 0;
  for (const std::string &each : *tags)
    if (int64_t step = stepOfTag(each);
        step <= index.step && step != retention.protectedStep && ++kept > retention.keep) {
      removeCheckpoint(directory + "/" + each);
      removed.push_back(each);
    }
  return success();
}

std::string formatBest(const BestCheckpoint &best) {
  if (best.step < 0)
    return "";
  char loss[40];
  std::snprintf(loss, sizeof loss, "%.17g", best.loss);
  return tagOf(best.step) + "\n" + loss + "\n";
}

BestCheckpoint parseBest(const std::string &text) {
  const size_t line = text.find('\n');
  BestCheckpoint best;
  if (line == std::string::npos)
    return best;
  const char *begin = text.c_str() + line + 1;
  char *end = nullptr;
  const double loss = std::strtod(begin, &end);
  const int64_t step = stepOfTag(text.substr(0, line));
  if (step >= 0 && end != begin && !std::isnan(loss))
    best = {step, loss};
  return best;
}

BestCheckpoint readBest(const std::string &directory) {
  std::string text;
  if (FILE *file = std::fopen((directory + "/best").c_str(), "re")) {
    char data[256];
    text.assign(data, std::fread(data, 1, sizeof data, file));
    std::fclose(file);
  }
  BestCheckpoint best = parseBest(text);
  return exists(directory + "/" + tagOf(best.step) + "/" + kIndexName) ? best : BestCheckpoint();
}

Status writeBest(const std::string &directory, const BestCheckpoint &best) {
  ZOPT_RETURN_IF_FAILED(replaceFile(directory + "/best", formatBest(best)));
  return syncFolder(directory);
}

} // namespace zopt::runtime
