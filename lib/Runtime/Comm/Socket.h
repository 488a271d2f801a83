//===- Socket.h - TCP connections with deadlines ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What ranks need to find each other without MPI. Every wait ends at a deadline, or soon after a signal has asked for
// an end.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_COMM_SOCKET_H
#define ZOPT_LIB_RUNTIME_COMM_SOCKET_H

#include "zopt/Runtime/Core/Status.h"
#include <chrono>
#include <string>

namespace zopt::runtime {

using Deadline = std::chrono::steady_clock::time_point;

inline Deadline deadlineIn(double seconds) {
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
}
inline bool isOver(Deadline deadline) { return std::chrono::steady_clock::now() >= deadline; }

/// A descriptor that is closed with its owner.
class Socket {
public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor(descriptor) {}
  Socket(Socket &&other) noexcept : descriptor(other.descriptor) { other.descriptor = -1; }
  Socket &operator=(Socket &&other) noexcept;
  ~Socket() { close(); }
  void close();
  int get() const { return descriptor; }

  /// Listens on `port` of every interface (0: one that is free).
  static Result<Socket> listen(int port);
  /// Connects to host:port, trying again until the deadline: the other side may not be there yet, nor its name. The
  /// Error says what the last try met.
  static Result<Socket> connect(const std::string &host, int port, Deadline deadline, bool (*stopRequested)());
  /// A connection that has come; an empty Socket where there is none right now.
  Socket accept();

  Status send(const void *data, size_t size, Deadline deadline);
  Status receive(void *data, size_t size, Deadline deadline, bool (*stopRequested)());

  int localPort() const;
  /// Numeric, "10.0.0.1" or "fe80::1"; an IPv4 address that travels as IPv6 is given as IPv4.
  std::string localAddress() const;
  std::string peerAddress() const;

private:
  int descriptor = -1;
};

bool isLoopback(const std::string &numericAddress);

/// What a Status says of a connection that the other side has closed.
Status closedByPeer();
bool isClosedByPeer(const Status &status);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_COMM_SOCKET_H
