//===- File.cpp - files, read by position and written whole ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/File.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace zopt::runtime {

Result<InputFile> InputFile::open(const std::string &path) {
  InputFile file;
  file.name = path;
  file.descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.descriptor < 0)
    return fileError(path, "open", errno);
  struct stat information;
  if (fstat(file.descriptor, &information) != 0)
    return fileError(path, "fstat", errno);
  if (!S_ISREG(information.st_mode))
    return inputError(path, ": is not a regular file");
  file.bytes = information.st_size;
  return Result<InputFile>(std::move(file));
}

InputFile::InputFile(InputFile &&other) noexcept : name(std::move(other.name)), descriptor(std::exchange(other.descriptor, -1)), bytes(other.bytes) {}
InputFile &InputFile::operator=(InputFile &&other) noexcept {
  std::swap(name, other.name);
  std::swap(descriptor, other.descriptor);
  bytes = other.bytes;
  return *this;
}
InputFile::~InputFile() {
  if (descriptor >= 0)
    ::close(descriptor);
}

Status InputFile::read(int64_t offset, void *data, int64_t count) const {
  if (offset < 0 || count < 0 || offset > bytes || count > bytes - offset)
    return inputError(name, ": bytes [", offset, ", ", offset + count, ") are wanted, but the file has ", bytes);
  char *destination = static_cast<char *>(data);
  while (count > 0) {
    ssize_t got = ::pread(descriptor, destination, size_t(count), offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return fileError(name, "pread", errno);
    if (got == 0)
      return inputError(name, ": ends at byte ", offset, ", but had ", bytes, " bytes when it was opened");
    destination += got;
    offset += got;
    count -= got;
  }
  return success();
}

Result<OutputFile> OutputFile::create(const std::string &path) {
  OutputFile file;
  file.name = path;
  file.temporary = path + ".tmp-XXXXXX";
  file.descriptor = ::mkostemp(file.temporary.data(), O_CLOEXEC);
  if (file.descriptor < 0) {
    file.temporary.clear();
    return Status(Error{ErrorKind::Runtime, -1, path, "create", std::strerror(errno)});
  }
  // mkostemp makes private files; outputs have the permissions that any other new file gets.
  mode_t mask = umask(0);
  umask(mask);
  if (fchmod(file.descriptor, 0666 & ~mask) != 0)
    return fileError(path, "fchmod", errno);
  return Result<OutputFile>(std::move(file));
}

OutputFile::OutputFile(OutputFile &&other) noexcept
    : name(std::move(other.name)), temporary(std::exchange(other.temporary, {})), descriptor(std::exchange(other.descriptor, -1)), position(other.position) {}
OutputFile &OutputFile::operator=(OutputFile &&other) noexcept {
  std::swap(name, other.name);
  std::swap(temporary, other.temporary);
  std::swap(descriptor, other.descriptor);
  position = other.position;
  return *this;
}
OutputFile::~OutputFile() {
  if (descriptor >= 0)
    ::close(descriptor);
  if (!temporary.empty())
    ::unlink(temporary.c_str());
}

Status OutputFile::append(const void *data, int64_t count) {
  ZOPT_RETURN_IF_FAILED(writeAt(position, data, count));
  position += count;
  return success();
}

Status OutputFile::writeAt(int64_t offset, const void *data, int64_t count) {
  const char *source = static_cast<const char *>(data);
  while (count > 0) {
    ssize_t done = ::pwrite(descriptor, source, size_t(count), offset);
    if (done < 0 && errno == EINTR)
      continue;
    if (done < 0)
      return Status(Error{ErrorKind::Runtime, -1, name, "write", std::strerror(errno)});
    source += done;
    offset += done;
    count -= done;
  }
  return success();
}

Status OutputFile::commit() {
  if (::fsync(descriptor) != 0)
    return Status(Error{ErrorKind::Runtime, -1, name, "fsync", std::strerror(errno)});
  int closed = ::close(std::exchange(descriptor, -1));
  if (closed != 0)
    return Status(Error{ErrorKind::Runtime, -1, name, "close", std::strerror(errno)});
  if (::rename(temporary.c_str(), name.c_str()) != 0)
    return Status(Error{ErrorKind::Runtime, -1, name, "rename", std::strerror(errno)});
  temporary.clear();
  // The new name is durable once its folder is.
  size_t slash = name.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : name.substr(0, slash);
  if (int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); handle >= 0) {
    ::fsync(handle);
    ::close(handle);
  }
  return success();
}

Status replaceFile(const std::string &path, const std::string &content) {
  Result<OutputFile> file = OutputFile::create(path);
  if (file.failed())
    return file.getStatus();
  ZOPT_RETURN_IF_FAILED(file->append(content.data(), int64_t(content.size())));
  return file->commit();
}

Status checkWritable(const std::string &path) {
  struct stat information;
  if (::stat(path.c_str(), &information) == 0 && S_ISDIR(information.st_mode))
    return inputError(path, ": is a folder");
  Result<OutputFile> file = OutputFile::create(path);
  return file.getStatus();
}

} // namespace zopt::runtime
