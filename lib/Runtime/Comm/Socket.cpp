//===- Socket.cpp - TCP connections with deadlines ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Socket.h"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// How long a wait lasts before it looks for signals, and how long a connection that was refused is left alone.
constexpr int kSliceMilliseconds = 50, kRetryMilliseconds = 100;
constexpr const char *kClosed = "the other side has closed the connection";

/// Waits for `events`, for a slice at most.
bool isReady(int descriptor, short events, Deadline deadline) {
  auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  pollfd entry{descriptor, events, 0};
  return poll(&entry, 1, int(std::clamp<long long>(left, 0, kSliceMilliseconds))) > 0;
}

void makeReady(int descriptor) {
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  fcntl(descriptor, F_SETFL, O_NONBLOCK);
  int on = 1, idle = 10, interval = 5, probes = 6;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // A machine that has vanished closes nothing: the kernel asks for it, and gives up after 40 seconds.
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

std::string addressText(const sockaddr_storage &address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in &>(address).sin_addr, text, sizeof text);
  } else if (address.ss_family == AF_INET6) {
    const in6_addr &six = reinterpret_cast<const sockaddr_in6 &>(address).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&six))
      inet_ntop(AF_INET, six.s6_addr + 12, text, sizeof text);
    else
      inet_ntop(AF_INET6, &six, text, sizeof text);
  }
  return text;
}

/// One try. On failure `problem` says why.
Socket tryConnect(const addrinfo &candidate, Deadline deadline, bool (*stopRequested)(), std::string &problem) {
  Socket made(socket(candidate.ai_family, candidate.ai_socktype | SOCK_CLOEXEC, candidate.ai_protocol));
  if (made.get() < 0) {
    problem = std::strerror(errno);
    return Socket();
  }
  makeReady(made.get());
  if (connect(made.get(), candidate.ai_addr, candidate.ai_addrlen) == 0)
    return made;
  if (errno != EINPROGRESS) {
    problem = std::strerror(errno);
    return Socket();
  }
  while (!isReady(made.get(), POLLOUT, deadline)) {
    if (isOver(deadline) || stopRequested()) {
      problem = std::strerror(ETIMEDOUT);
      return Socket();
    }
  }
  int code = 0;
  socklen_t length = sizeof code;
  getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &code, &length);
  if (code != 0) {
    problem = std::strerror(code);
    return Socket();
  }
  return made;
}

} // namespace

Status closedByPeer() { return runtimeError(kClosed); }
bool isClosedByPeer(const Status &status) { return status.failed() && status.getError().text == kClosed; }

bool isLoopback(const std::string &address) { return address.rfind("127.", 0) == 0 || address == "::1"; }

Socket &Socket::operator=(Socket &&other) noexcept {
  if (this != &other) {
    close();
    descriptor = other.descriptor;
    other.descriptor = -1;
  }
  return *this;
}

void Socket::close() {
  if (descriptor >= 0)
    ::close(descriptor);
  descriptor = -1;
}

Result<Socket> Socket::listen(int port) {
  // One socket for both versions of IP, where the machine has both.
  for (int family : {AF_INET6, AF_INET}) {
    Socket made(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (made.get() < 0 && family == AF_INET6)
      continue;
    int on = 1, off = 0;
    setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage address{};
    socklen_t length = 0;
    if (family == AF_INET6) {
      setsockopt(made.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      auto &six = reinterpret_cast<sockaddr_in6 &>(address);
      six.sin6_family = AF_INET6;
      six.sin6_addr = in6addr_any;
      six.sin6_port = htons(uint16_t(port));
      length = sizeof six;
    } else {
      auto &four = reinterpret_cast<sockaddr_in &>(address);
      four.sin_family = AF_INET;
      four.sin_addr.s_addr = htonl(INADDR_ANY);
      four.sin_port = htons(uint16_t(port));
      length = sizeof four;
    }
    if (bind(made.get(), reinterpret_cast<sockaddr *>(&address), length) == 0 && ::listen(made.get(), 1024) == 0)
      return made;
    if (family == AF_INET || errno != EADDRNOTAVAIL)
      return callError("bind", std::strerror(errno));
  }
  return callError("socket", std::strerror(errno));
}

Result<Socket> Socket::connect(const std::string &host, int port, Deadline deadline, bool (*stopRequested)()) {
  std::string problem = "no address";
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  do {
    addrinfo *found = nullptr;
    if (int code = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); code != 0) {
      problem = gai_strerror(code);
    } else {
      for (addrinfo *candidate = found; candidate; candidate = candidate->ai_next) {
        Socket made = tryConnect(*candidate, deadline, stopRequested, problem);
        if (made.get() >= 0) {
          freeaddrinfo(found);
          return made;
        }
      }
      freeaddrinfo(found);
    }
    if (stopRequested())
      return runtimeError("a signal has asked for an end");
    usleep(kRetryMilliseconds * 1000);
  } while (!isOver(deadline));
  return runtimeError(problem);
}

Socket Socket::accept() {
  Socket made(::accept4(descriptor, nullptr, nullptr, SOCK_CLOEXEC));
  if (made.get() >= 0)
    makeReady(made.get());
  return made;
}

Status Socket::send(const void *data, size_t size, Deadline deadline) {
  const char *bytes = static_cast<const char *>(data);
  for (size_t done = 0; done < size;) {
    ssize_t count = ::send(descriptor, bytes + done, size - done, MSG_NOSIGNAL);
    if (count > 0) {
      done += size_t(count);
    } else if (errno == EAGAIN) {
      if (!isReady(descriptor, POLLOUT, deadline) && isOver(deadline))
        return runtimeError("timed out");
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return closedByPeer();
    } else if (errno != EINTR) {
      return callError("send", std::strerror(errno));
    }
  }
  return success();
}

Status Socket::receive(void *data, size_t size, Deadline deadline, bool (*stopRequested)()) {
  char *bytes = static_cast<char *>(data);
  for (size_t done = 0; done < size;) {
    ssize_t count = ::recv(descriptor, bytes + done, size - done, 0);
    if (count > 0) {
      done += size_t(count);
    } else if (count == 0 || errno == ECONNRESET) {
      return closedByPeer();
    } else if (errno == EAGAIN) {
      if (isReady(descriptor, POLLIN, deadline))
        continue;
      if (stopRequested())
        return runtimeError("a signal has asked for an end");
      if (isOver(deadline))
        return runtimeError("timed out");
    } else if (errno != EINTR) {
      return callError("recv", std::strerror(errno));
    }
  }
  return success();
}

int Socket::localPort() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(descriptor, reinterpret_cast<sockaddr *>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6 &>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in &>(address).sin_port);
}

std::string Socket::localAddress() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  return getsockname(descriptor, reinterpret_cast<sockaddr *>(&address), &length) == 0 ? addressText(address) : "";
}

std::string Socket::peerAddress() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  return getpeername(descriptor, reinterpret_cast<sockaddr *>(&address), &length) == 0 ? addressText(address) : "";
}

} // namespace zopt::runtime
