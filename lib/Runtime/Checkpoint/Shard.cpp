//===- Shard.cpp - a rank's part of a checkpoint --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Checkpoint/Shard.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <xxhash.h>

namespace zopt::runtime {

namespace {

constexpr int64_t kPage = 4096, kWriteBytes = int64_t(8) << 20;

int64_t roundedUp(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

std::string digits(int64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%012lld", static_cast<long long>(value));
  return text;
}

LogicalTensor describe(const State &state, DataType type) {
  LogicalTensor tensor;
  tensor.name = state.name;
  tensor.role = state.role;
  tensor.type = type;
  tensor.shape = state.shape;
  tensor.trained = state.trained;
  tensor.sourceName = state.sourceName;
  tensor.sourcePermutation = state.sourcePermutation;
  tensor.tied = state.tied;
  return tensor;
}

} // namespace

CheckpointLayout layOutCheckpoint(const Program &program) {
  CheckpointLayout layout;
  layout.shards.resize(size_t(program.worldSize));
  std::vector<int64_t> load(layout.shards.size());

  // A tensor at `offset` of a bucket, in an array that holds all of the bucket or this rank's slice.
  auto addSliced = [&](LogicalTensor tensor, const Bucket &bucket, int64_t offset, BufferId buffer, bool sharded) {
    const int64_t elements = elementCount(tensor.shape), width = sizeOf(tensor.type), slice = bucket.sliceElements;
    for (int64_t rank = slice ? offset / slice : 0; rank < program.worldSize && rank * slice < offset + elements;
         ++rank) {
      int64_t from = std::max(offset, rank * slice), to = std::min(offset + elements, (rank + 1) * slice);
      if (from >= to)
        continue;
      tensor.pieces.push_back({int32_t(rank), from - offset, to - offset});
      layout.shards[size_t(rank)].push_back(
          {layout.tensors.size(), from - offset, to - offset, buffer, (from - (sharded ? rank * slice : 0)) * width});
      load[size_t(rank)] += (to - from) * width;
    }
    layout.tensors.push_back(std::move(tensor));
  };

  for (const State &state : program.states) {
    if (state.bucket < 0 || state.role == Role::Optimizer || state.role == Role::Gradient)
      continue;
    const Bucket &bucket = program.buckets[size_t(state.bucket)];
    bool hasMaster = bucket.master >= 0;
    addSliced(describe(state, hasMaster ? bucket.masterType : bucket.computeType), bucket, state.offset,
              hasMaster ? bucket.master : bucket.parameters,
              hasMaster ? bucket.optimizerSharded : bucket.parametersSharded);
    for (size_t slot = 0; slot < bucket.slots.size(); ++slot)
      addSliced(describe(slotState(state, bucket, slot), bucket.masterType), bucket, state.offset, bucket.slots[slot],
                bucket.optimizerSharded);
  }
  for (const State &state : program.states) {
    if (state.bucket >= 0 || state.buffer < 0 || state.role == Role::Gradient)
      continue;
    int64_t elements = elementCount(state.shape);
    if (state.role == Role::Scalar && elements == 1) {
      layout.scalars.push_back(&state);
      continue;
    }
    LogicalTensor tensor = describe(state, state.type);
    size_t rank = size_t(std::min_element(load.begin(), load.end()) - load.begin());
    if (elements > 0) {
      tensor.pieces.push_back({int32_t(rank), 0, elements});
      layout.shards[rank].push_back({layout.tensors.size(), 0, elements, state.buffer, 0});
    }
    load[rank] += elements * sizeOf(state.type);
    layout.tensors.push_back(std::move(tensor));
  }
  std::sort(layout.scalars.begin(), layout.scalars.end(),
            [](const State *a, const State *b) { return a->name < b->name; });
  return layout;
}

std::string shardName(int64_t rank, int64_t ranks) {
  char text[64];
  std::snprintf(text, sizeof text, "shard-%05lld-of-%05lld.safetensors", static_cast<long long>(rank + 1),
                static_cast<long long>(ranks));
  return text;
}

SafetensorsMetadata ShardImage::metadata(int64_t step, int64_t attempt, const std::string &hash) const {
  // Of one length whatever the values are, so that the data stays where it is.
  return {{"format", "zopt"}, {"step", digits(step)}, {"attempt", digits(attempt)}, {"xxh3", hash}};
}

Status ShardImage::layOut(const CheckpointLayout &layout, int rank) {
  pieces = layout.shards[size_t(rank)];
  for (const ShardPiece &piece : pieces) {
    const LogicalTensor &tensor = layout.tensors[piece.tensor];
    SafetensorsTensor stored;
    stored.name = tensor.name;
    stored.type = tensor.type;
    bool whole = piece.begin == 0 && piece.end == elementCount(tensor.shape);
    stored.shape = whole ? tensor.shape : std::vector<int64_t>{piece.end - piece.begin};
    tensors.push_back(std::move(stored));
  }
  Result<std::string> header = layOutSafetensors("shard", tensors, metadata(0, 0, hashText(0)));
  if (header.failed())
    return header.getStatus();
  headerBytes = fileBytes = int64_t(header->size());
  for (const SafetensorsTensor &tensor : tensors)
    fileBytes = std::max(fileBytes, tensor.offset + tensor.bytes);
  mapped = roundedUp(fileBytes);
  return success();
}

Result<int64_t> ShardImage::plannedBytes(const CheckpointLayout &layout, int rank) {
  ShardImage image;
  ZOPT_RETURN_IF_FAILED(image.layOut(layout, rank));
  return image.mapped;
}

Result<std::unique_ptr<ShardImage>> ShardImage::create(const CheckpointLayout &layout, int rank) {
  std::unique_ptr<ShardImage> image(new ShardImage);
  ZOPT_RETURN_IF_FAILED(image->layOut(layout, rank));
  // The pages are there before training begins: the first save would wait for them.
  void *memory =
      mmap(nullptr, size_t(image->mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED)
    return callError(
        "mmap", concat(image->mapped, " bytes for the copy that checkpoints are written from: ", std::strerror(errno)));
  image->base = static_cast<char *>(memory);
  return Result<std::unique_ptr<ShardImage>>(std::move(image));
}

ShardImage::~ShardImage() {
  if (base)
    munmap(base, size_t(mapped));
}

Status ShardImage::capture(Executor &executor) {
  for (size_t i = 0; i < pieces.size(); ++i)
    ZOPT_RETURN_IF_FAILED(
        executor.download(pieces[i].buffer, pieces[i].byteOffset, base + tensors[i].offset, tensors[i].bytes));
  return success();
}

namespace {

/// A file that is there whole and fsynced, or not at all. Writes around the page cache where the file system can: the
/// states of a big model would push everything else out of it.
class DirectFile {
public:
  DirectFile(std::string path, const std::atomic<bool> &cancelled) : path(std::move(path)), cancelled(cancelled) {}
  ~DirectFile() {
    if (descriptor >= 0)
      ::close(descriptor);
    if (created)
      ::unlink(path.c_str());
  }
  /// `data` is page-aligned and has whole pages.
  Status write(const char *data, int64_t bytes) {
    descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0666);
    direct = descriptor >= 0;
    if (!direct)
      descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0)
      return failure("open");
    created = true;
    // A full disk is told before anything is written.
    if (fallocate(descriptor, 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
      return failure("fallocate");
    for (int64_t done = 0; done < bytes;) {
      if (cancelled)
        return runtimeError(path, ": the run ended while it was written");
      int64_t count = std::min(kWriteBytes, (direct ? roundedUp(bytes) : bytes) - done);
      ssize_t wrote = ::pwrite(descriptor, data + done, size_t(count), done);
      if (wrote < 0 && errno == EINTR)
        continue;
      // Direct writes may be refused, or end short of a page: the rest goes through the page cache.
      if (direct && ((wrote < 0 && errno == EINVAL) || (wrote >= 0 && wrote % kPage != 0 && done + wrote < bytes))) {
        direct = false;
        if (fcntl(descriptor, F_SETFL, 0) != 0)
          return failure("fcntl");
        wrote = std::max<ssize_t>(0, wrote);
      } else if (wrote == 0) {
        errno = EIO;
        wrote = -1;
      }
      if (wrote < 0)
        return failure("write");
      done += wrote;
    }
    if (ftruncate(descriptor, bytes) != 0)
      return failure("ftruncate");
    if (fsync(descriptor) != 0)
      return failure("fsync");
    if (::close(std::exchange(descriptor, -1)) != 0)
      return failure("close");
    created = false;
    return success();
  }

private:
  Status failure(const char *call) const {
    return Status(Error{ErrorKind::Runtime, -1, path, call, std::strerror(errno)});
  }
  std::string path;
  const std::atomic<bool> &cancelled;
  int descriptor = -1;
  bool created = false, direct = false;
};

} // namespace

Status ShardImage::write(const std::string &path, int64_t step, int64_t attempt) {
  std::string hash = hashText(XXH3_64bits(base + headerBytes, size_t(fileBytes - headerBytes)));
  std::vector<SafetensorsTensor> same = tensors;
  for (SafetensorsTensor &tensor : same)
    tensor.offset = 0;
  Result<std::string> header = layOutSafetensors(path, same, metadata(step, attempt, hash));
  if (header.failed())
    return header.getStatus();
  if (int64_t(header->size()) != headerBytes)
    return runtimeError(path, ": its header of ", header->size(), " bytes was planned with ", headerBytes);
  std::memcpy(base, header->data(), header->size());
  return DirectFile(path, cancelled).write(base, fileBytes);
}

/// Bytes in front of the data: the header's length and the header.
static Result<int64_t> bytesOfHeader(const InputFile &file) {
  unsigned char lengthBytes[8];
  ZOPT_RETURN_IF_FAILED(file.read(0, lengthBytes, sizeof lengthBytes));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | lengthBytes[i];
  if (length > uint64_t(file.size()) - 8 || length > 100'000'000)
    return inputError(file.path(), ": has a header length of ", length, " bytes");
  return int64_t(length) + 8;
}

Result<std::string> hashOfHeader(const InputFile &file) {
  Result<int64_t> length = bytesOfHeader(file);
  if (length.failed())
    return length.getStatus();
  std::vector<char> text(static_cast<size_t>(*length));
  ZOPT_RETURN_IF_FAILED(file.read(0, text.data(), *length));
  return hashText(XXH3_64bits(text.data(), text.size()));
}

Result<std::string> hashOfData(const InputFile &file) {
  Result<int64_t> begin = bytesOfHeader(file);
  if (begin.failed())
    return begin.getStatus();
  std::vector<char> bytes(static_cast<size_t>(std::min(kWriteBytes, file.size() - *begin)));
  XXH3_state_t *state = XXH3_createState();
  XXH3_64bits_reset(state);
  Status status;
  for (int64_t at = *begin; at < file.size() && status.succeeded(); at += kWriteBytes) {
    int64_t count = std::min(kWriteBytes, file.size() - at);
    status = file.read(at, bytes.data(), count);
    XXH3_64bits_update(state, bytes.data(), size_t(count));
  }
  uint64_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  ZOPT_RETURN_IF_FAILED(status);
  return hashText(hash);
}

Result<ShardEntry> describeShard(const std::string &folder, const std::string &name, int64_t step, int64_t attempt) {
  Result<SafetensorsFile> file = SafetensorsFile::open(folder + "/" + name);
  if (file.failed())
    return file.getStatus();
  ShardEntry entry;
  entry.file = name;
  std::string savedStep, savedAttempt;
  for (const auto &[key, value] : file->metadata())
    (key == "step"      ? savedStep
     : key == "attempt" ? savedAttempt
     : key == "xxh3"    ? entry.hash
                        : entry.headerHash) = value;
  if (savedStep != digits(step) || savedAttempt != digits(attempt))
    return runtimeError(file->path(), ": is of step ", savedStep, ", save ", savedAttempt, ", where step ", step,
                        ", save ", attempt, " is expected");
  InputFile input = file->takeInput();
  entry.bytes = input.size();
  Result<std::string> headerHash = hashOfHeader(input);
  if (headerHash.failed())
    return headerHash.getStatus();
  entry.headerHash = *headerHash;
  return entry;
}

} // namespace zopt::runtime
