//===- TorchStore.h - a client of torchrun's key-value store ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// torchrun keeps a TCPStore at MASTER_ADDR:MASTER_PORT and tells its workers so by TORCHELASTIC_USE_AGENT_STORE. Of its
// protocol (PyTorch 2: a validation, then one byte a query, with 64-bit lengths before keys and values, in the
// machine's byte order) this knows what it takes to leave one text there and to read it.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_COMM_TORCHSTORE_H
#define ZOPT_LIB_RUNTIME_COMM_TORCHSTORE_H

#include "Socket.h"

namespace zopt::runtime {

class TorchStore {
public:
  static Result<TorchStore> connect(const std::string &host, int port, Deadline deadline, bool (*stopRequested)());
  Status set(const std::string &key, const std::string &value, Deadline deadline);
  /// Waits until there is one.
  Result<std::string> get(const std::string &key, Deadline deadline);
  /// This machine's address on the way to the store.
  std::string localAddress() const { return socket.localAddress(); }

private:
  TorchStore(Socket socket, bool (*stopRequested)()) : socket(std::move(socket)), stopRequested(stopRequested) {}
  Result<bool> has(const std::string &key, Deadline deadline);

  Socket socket;
  bool (*stopRequested)();
};

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_COMM_TORCHSTORE_H
