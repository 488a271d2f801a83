//===- Communicator.cpp - control messages on top of gathers --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cstring>

namespace zopt::runtime {

Communicator::~Communicator() = default;

Status Communicator::checkPeers(const std::string &) { return success(); }
void Communicator::linger() {}

Status Communicator::allReduceScalars(const std::string &label, const void *source, void *destination, int64_t count, DataType type) {
  int64_t bytes = count * sizeOf(type);
  scratch.resize(size_t(bytes * worldSize));
  ZOPT_RETURN_IF_FAILED(allGatherNow(label, source, scratch.data(), bytes));
  for (int64_t i = 0; i < count; ++i) {
    double sum = loadAsDouble(type, scratch.data(), i);
    for (int rank = 1; rank < worldSize; ++rank)
      sum += loadAsDouble(type, scratch.data() + rank * bytes, i);
    storeDouble(type, destination, i, sum);
  }
  return success();
}

Status Communicator::allReduceIntegers(const std::string &label, int64_t *values, int64_t count) {
  int64_t bytes = count * int64_t(sizeof(int64_t));
  scratch.resize(size_t(bytes * worldSize));
  ZOPT_RETURN_IF_FAILED(allGatherNow(label, values, scratch.data(), bytes));
  for (int64_t i = 0; i < count; ++i) {
    int64_t sum = 0;
    for (int rank = 0; rank < worldSize; ++rank)
      sum += loadAsInteger(DataType::I64, scratch.data() + rank * bytes, i);
    values[i] = sum;
  }
  return success();
}

Status Communicator::allReduceMaximum(const std::string &label, double *values, int64_t count) {
  int64_t bytes = count * int64_t(sizeof(double));
  scratch.resize(size_t(bytes * worldSize));
  ZOPT_RETURN_IF_FAILED(allGatherNow(label, values, scratch.data(), bytes));
  for (int64_t i = 0; i < count; ++i)
    for (int rank = 0; rank < worldSize; ++rank)
      values[i] = std::max(values[i], loadAsDouble(DataType::F64, scratch.data() + rank * bytes, i));
  return success();
}

Status Communicator::barrier(const std::string &label) {
  char mine = 1;
  scratch.resize(size_t(worldSize));
  return allGatherNow(label, &mine, scratch.data(), 1);
}

Status Communicator::broadcast(const std::string &label, std::string &text) {
  double length = myRank == 0 ? double(text.size()) : 0;
  ZOPT_RETURN_IF_FAILED(allReduceMaximum(label, &length, 1));
  int64_t bytes = int64_t(length);
  std::string mine(size_t(bytes), '\0'), all(size_t(bytes * worldSize), '\0');
  if (myRank == 0)
    mine = text;
  ZOPT_RETURN_IF_FAILED(allGatherNow(label, mine.data(), all.data(), bytes));
  text = all.substr(0, size_t(bytes));
  return success();
}

Status Communicator::agree(const std::string &label, const Status &mine) {
  // Kind and text, cut to what a line holds.
  struct Verdict {
    int32_t kind, rank;
    char text[1016];
  };
  Verdict verdict{};
  std::string text;
  if (mine.failed()) {
    verdict.kind = int32_t(mine.kind());
    verdict.rank = mine.getError().rank >= 0 ? mine.getError().rank : myRank;
    // The rank is told apart from the text.
    Error error = mine.getError();
    error.rank = -1;
    text = Status(error).message();
    std::memcpy(verdict.text, text.data(), std::min(text.size(), sizeof verdict.text - 1));
  }
  std::vector<Verdict> all(static_cast<size_t>(worldSize));
  ZOPT_RETURN_IF_FAILED(allGatherNow(label, &verdict, all.data(), sizeof verdict));
  for (int rank = 0; rank < worldSize; ++rank)
    if (all[rank].kind != 0)
      return Status(Error{ErrorKind(all[rank].kind), all[rank].rank, "", "", rank == myRank ? text : std::string(all[rank].text)}); // who tells it has it whole
  return success();
}

} // namespace zopt::runtime
