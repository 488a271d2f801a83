//===- TorchStore.cpp - a client of torchrun's key-value store ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TorchStore.h"
#include <cstdint>
#include <cstring>
#include <unistd.h>

namespace zopt::runtime {

namespace {

enum Query : uint8_t { kValidate = 0, kSet = 1, kGet = 3, kCheck = 5 };
constexpr uint32_t kValidation = 0x3C85F7CE;
constexpr uint64_t kLongestValue = 4096;

void append(std::string &message, const void *data, size_t size) {
  message.append(static_cast<const char *>(data), size);
}
void appendText(std::string &message, const std::string &text) {
  uint64_t size = text.size();
  append(message, &size, sizeof size);
  message += text;
}

} // namespace

Result<TorchStore> TorchStore::connect(const std::string &host, int port, Deadline deadline, bool (*stopRequested)()) {
  Result<Socket> socket = Socket::connect(host, port, deadline, stopRequested);
  if (socket.failed())
    return socket.getStatus();
  TorchStore store(std::move(*socket), stopRequested);
  std::string hello(1, char(kValidate));
  append(hello, &kValidation, sizeof kValidation);
  ZOPT_RETURN_IF_FAILED(store.socket.send(hello.data(), hello.size(), deadline));
  return store;
}

Status TorchStore::set(const std::string &key, const std::string &value, Deadline deadline) {
  std::string query(1, char(kSet));
  appendText(query, key);
  appendText(query, value);
  return socket.send(query.data(), query.size(), deadline);
}

Result<bool> TorchStore::has(const std::string &key, Deadline deadline) {
  std::string query(1, char(kCheck));
  uint64_t keys = 1;
  append(query, &keys, sizeof keys);
  appendText(query, key);
  ZOPT_RETURN_IF_FAILED(socket.send(query.data(), query.size(), deadline));
  uint8_t answer = 0;
  ZOPT_RETURN_IF_FAILED(socket.receive(&answer, 1, deadline, stopRequested));
  if (answer > 1)
    return runtimeError("the answer ", int(answer), " is none of a TCPStore");
  return answer == 0;
}

Result<std::string> TorchStore::get(const std::string &key, Deadline deadline) {
  for (;;) {
    Result<bool> there = has(key, deadline);
    if (there.failed())
      return there.getStatus();
    if (*there)
      break;
    if (isOver(deadline))
      return runtimeError("timed out");
    usleep(20000);
  }
  std::string query(1, char(kGet));
  appendText(query, key);
  ZOPT_RETURN_IF_FAILED(socket.send(query.data(), query.size(), deadline));
  uint64_t size = 0;
  ZOPT_RETURN_IF_FAILED(socket.receive(&size, sizeof size, deadline, stopRequested));
  if (size > kLongestValue)
    return runtimeError("a value of ", size, " bytes is none of ours");
  std::string value(size_t(size), '\0');
  ZOPT_RETURN_IF_FAILED(socket.receive(value.data(), value.size(), deadline, stopRequested));
  return value;
}

} // namespace zopt::runtime
