//===- Gloo.cpp - ranks as processes that meet over TCP -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Gloo.h"
#include "zopt/Runtime/Comm/Pairwise.h"
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/tcp/unbound_buffer.h>
#include <thread>
#include <utility>

namespace zopt::runtime {

namespace {

using Clock = std::chrono::steady_clock;
using gloo::transport::tcp::Context;

/// The tag of the message that says farewell; those of collectives begin behind it.
constexpr uint64_t kFarewell = 0;
/// How long a rank that leaves in order waits for the others to do so, and one that has failed for them to see why.
constexpr auto kFarewellTime = std::chrono::seconds(2);
constexpr auto kLingerTime = std::chrono::milliseconds(200);
/// A nap ends when the message that is waited for arrives.
constexpr auto kNap = std::chrono::microseconds(500);
/// Ranks that have met connect at once, so that a shorter time-out than that of collectives does. Gloo waits five times
/// what it is told.
constexpr double kLongestConnect = 60, kConnectFactor = 5;

/// Gloo's words without the place in its sources.
std::string wordsOf(const std::exception &exception) {
  std::string text = exception.what();
  if (size_t end = text.find("] ");
      !text.empty() && text[0] == '[' && end != std::string::npos && text.find(".cc:") < end)
    text = text.substr(end + 2);
  for (char &character : text)
    if (character == '\n')
      character = ' ';
  return text;
}

/// One message of this rank to or from another. Gloo can only wait for it, and a wait in vain closes every connection;
/// this one can be asked.
class Message final : public gloo::transport::tcp::UnboundBuffer {
public:
  Message(const std::shared_ptr<Context> &context, void *data, size_t bytes) : UnboundBuffer(context, data, bytes) {}

  enum class State { Open, Complete, Broken };
  State state() {
    std::lock_guard<std::mutex> lock(m_);
    return stateLocked();
  }
  /// Until it is no longer open, or the nap is over.
  void nap(bool isReceive) {
    std::unique_lock<std::mutex> lock(m_);
    (isReceive ? recvCv_ : sendCv_).wait_for(lock, kNap, [&] { return stateLocked() != State::Open; });
  }
  std::string problem() {
    std::lock_guard<std::mutex> lock(m_);
    try {
      throwIfException();
    } catch (const std::exception &exception) {
      return wordsOf(exception);
    }
    return "";
  }

private:
  State stateLocked() const {
    return recvCompletions_ > 0 || sendCompletions_ > 0 ? State::Complete : ex_ ? State::Broken : State::Open;
  }
};

class GlooMessages;

class GlooCommunicator final : public PairwiseCommunicator {
public:
  GlooCommunicator(int rank, int size, bool (*stopRequested)()) : PairwiseCommunicator(rank, size, stopRequested) {}

  ~GlooCommunicator() override {
    if (context && !failed)
      sayFarewell();
  }

  Status connect(Meeting &meeting, double timeoutSeconds) {
    std::vector<std::string> addresses(static_cast<size_t>(worldSize)); // of this rank, one for each other
    Status status = guarded("gloo", [&] {
      gloo::transport::tcp::attr attribute;
      if (const char *interface = std::getenv("GLOO_SOCKET_IFNAME"); interface && *interface)
        attribute.iface = interface;
      else
        attribute.hostname = meeting.address();
      device = gloo::transport::tcp::CreateDevice(attribute);
      context = std::dynamic_pointer_cast<Context>(device->createContext(myRank, worldSize));
      if (!context)
        throw std::runtime_error("the device makes no context of TCP");
      context->setTimeout(
          std::chrono::milliseconds(int64_t(1000 * std::clamp(timeoutSeconds, 1.0, kLongestConnect) / kConnectFactor)));
      for (int rank = 0; rank < worldSize; ++rank)
        if (rank != myRank) {
          std::vector<char> bytes = context->createPair(rank)->address().bytes();
          addresses[size_t(rank)] = toHex(bytes);
        }
    });
    ZOPT_RETURN_IF_FAILED(meeting.agree("gloo", status, timeoutSeconds));
    std::string mine;
    for (const std::string &address : addresses)
      mine += address + ",";
    Result<std::vector<std::string>> all = meeting.exchange("gloo addresses", mine, timeoutSeconds);
    if (all.failed())
      return all.getStatus();
    for (int rank = 0; rank < worldSize && status.succeeded(); ++rank)
      if (rank != myRank)
        status = guarded(concat("connection to rank ", rank),
                         [&] { context->getPair(rank)->connect(fromHex(part((*all)[size_t(rank)], myRank))); });
    return meeting.agree("gloo", status, std::max(timeoutSeconds, 2 * kLongestConnect));
  }

  /// Opens the messages that say farewell. They stay open for as long as both ranks are there.
  Status watch() {
    farewells.resize(size_t(worldSize));
    farewellBytes.resize(size_t(worldSize));
    return guarded("gloo", [&] {
      for (int rank = 0; rank < worldSize; ++rank)
        if (rank != myRank) {
          farewells[size_t(rank)] = std::make_unique<Message>(context, &farewellBytes[size_t(rank)], 1);
          farewells[size_t(rank)]->recv(rank, kFarewell, 0, 1);
        }
    });
  }

  void setOversubscribed(bool value) { oversubscribed = value; }

  const char *name() const override { return "gloo"; }

  Status checkPeers(const std::string &label) override { return lookForGone(label.empty() ? "collective" : label); }

  Status lookForGone(const std::string &label) {
    std::string gone, why;
    for (int rank = 0; rank < worldSize; ++rank)
      if (rank != myRank && farewells[size_t(rank)]->state() == Message::State::Broken) {
        gone += (gone.empty() ? "" : ", ") + std::to_string(rank);
        if (why.empty())
          why = farewells[size_t(rank)]->problem();
      }
    if (gone.empty())
      return success();
    failed = true;
    return Status(Error{ErrorKind::Runtime, myRank, label, "",
                        concat("rank ", gone, " has ended (", why, "), and this rank stands at this collective")});
  }

  void linger() override {
    if (!std::exchange(isOpen, false))
      return;
    std::this_thread::sleep_for(kLingerTime);
    for (int rank = 0; context && rank < worldSize; ++rank)
      if (rank != myRank)
        (void)guarded("gloo", [&] { context->getPair(rank)->close(); }).failed();
  }

private:
  friend class GlooMessages;

  static std::string toHex(const std::vector<char> &bytes) {
    std::string text;
    for (char byte : bytes)
      for (int shift : {4, 0})
        text += "0123456789abcdef"[(uint8_t(byte) >> shift) & 15];
    return text;
  }
  static std::vector<char> fromHex(const std::string &text) {
    std::vector<char> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2)
      bytes.push_back(char(std::strtol(text.substr(i, 2).c_str(), nullptr, 16)));
    return bytes;
  }
  /// Entry `index` of a list with a comma behind each.
  static std::string part(const std::string &list, int index) {
    size_t begin = 0;
    for (; index > 0; --index)
      begin = list.find(',', begin) + 1;
    return list.substr(begin, list.find(',', begin) - begin);
  }

  /// Gloo throws; the runtime does not.
  template <typename Body>
  static Status guarded(const std::string &call, const Body &body) {
    try {
      body();
    } catch (const std::exception &exception) {
      return callError(call, wordsOf(exception));
    }
    return success();
  }

  void sayFarewell() {
    std::vector<std::unique_ptr<Message>> sent;
    char byte = 1;
    (void)guarded("gloo", [&] {
      for (int rank = 0; rank < worldSize; ++rank)
        if (rank != myRank && farewells[size_t(rank)]->state() != Message::State::Broken) {
          sent.push_back(std::make_unique<Message>(context, &byte, 1));
          sent.back()->send(rank, kFarewell, 0, 1);
        }
    }).failed();
    // Until all have said theirs too, so that no connection is closed with something unread in it.
    const auto deadline = Clock::now() + kFarewellTime;
    auto isOpen = [](const std::unique_ptr<Message> &message) {
      return message && message->state() == Message::State::Open;
    };
    while ((std::any_of(sent.begin(), sent.end(), isOpen) || std::any_of(farewells.begin(), farewells.end(), isOpen)) &&
           Clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  std::unique_ptr<Messages> makeMessages() override;

  bool isOpen = true; // until its connections are closed
  // In the order in which they are to be destroyed, from below.
  std::shared_ptr<gloo::transport::Device> device;
  std::shared_ptr<Context> context;
  std::vector<char> farewellBytes;
  std::vector<std::unique_ptr<Message>> farewells;
};

class GlooMessages final : public PairwiseCommunicator::Messages {
public:
  explicit GlooMessages(GlooCommunicator &owner) : owner(owner) {}

  void clear() override {
    entries.clear();
    complete = 0;
  }
  Status receive(int from, int tag, char *data, int64_t bytes) override { return add(from, true, tag, data, bytes); }
  Status send(int to, int tag, const char *data, int64_t bytes) override {
    return add(to, false, tag, const_cast<char *>(data), bytes);
  }

  Status test(bool &all) override {
    // In their order: the first that is open keeps the rest from being looked at.
    for (; complete < entries.size(); ++complete)
      switch (entries[complete].message->state()) {
      case Message::State::Open:
        all = false;
        return success();
      case Message::State::Broken:
        return broken(entries[complete].peer, entries[complete].message->problem());
      case Message::State::Complete:
        break;
      }
    all = true;
    return success();
  }

  void listOpen(std::vector<int> &missing, std::vector<int> &unread) const override {
    for (const Entry &entry : entries)
      if (entry.message->state() != Message::State::Complete)
        (entry.isReceive ? missing : unread).push_back(entry.peer);
  }

  void nap() override {
    if (complete < entries.size())
      entries[complete].message->nap(entries[complete].isReceive);
  }

private:
  struct Entry {
    int peer;
    bool isReceive;
    std::unique_ptr<Message> message;
  };

  Status add(int peer, bool isReceive, int tag, char *data, int64_t bytes) {
    if (bytes == 0)
      return success();
    entries.push_back({peer, isReceive, std::make_unique<Message>(owner.context, data, size_t(bytes))});
    try {
      if (isReceive)
        entries.back().message->recv(peer, uint64_t(tag), 0, size_t(bytes));
      else
        entries.back().message->send(peer, uint64_t(tag), 0, size_t(bytes));
    } catch (const std::exception &exception) {
      return broken(peer, wordsOf(exception));
    }
    return success();
  }

  Status broken(int peer, const std::string &why) {
    // Others may be gone as well; the one that broke first is among them.
    ZOPT_RETURN_IF_FAILED(owner.lookForGone(""));
    owner.failed = true;
    return Status(Error{ErrorKind::Runtime, owner.rank(), "", "",
                        concat("rank ", peer, " has ended (", why, "), and this rank stands at this collective")});
  }

  GlooCommunicator &owner;
  std::vector<Entry> entries;
  size_t complete = 0; // of the first entries
};

std::unique_ptr<PairwiseCommunicator::Messages> GlooCommunicator::makeMessages() {
  return std::make_unique<GlooMessages>(*this);
}

} // namespace

Result<std::unique_ptr<Communicator>> makeGlooCommunicator(Meeting &meeting, double timeoutSeconds,
                                                           bool (*stopRequested)()) {
  auto communicator = std::make_unique<GlooCommunicator>(meeting.rank(), meeting.size(), stopRequested);
  ZOPT_RETURN_IF_FAILED(communicator->connect(meeting, timeoutSeconds));
  ZOPT_RETURN_IF_FAILED(communicator->watch());
  const auto &machines = meeting.machines();
  auto here = std::count(machines.begin(), machines.end(), machines[size_t(meeting.rank())]);
  communicator->setOversubscribed(here > int(std::thread::hardware_concurrency()));
  return Result<std::unique_ptr<Communicator>>(std::move(communicator));
}

} // namespace zopt::runtime
