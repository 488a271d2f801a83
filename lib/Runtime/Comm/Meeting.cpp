//===- Meeting.cpp - how ranks find each other over TCP -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Meeting.h"
#include "Socket.h"
#include "TorchStore.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace zopt::runtime {

Meeting::~Meeting() = default;

namespace {

using nlohmann::json;

/// What every connection begins with, in both directions. The number is that of the protocol.
constexpr char kGreeting[] = "zopt meeting 1\n";
constexpr size_t kGreetingBytes = sizeof kGreeting - 1;
/// Then frames: a byte (text, or the words that end the meeting), the size of what follows, and that.
constexpr uint8_t kText = 0, kEnd = 1;
constexpr size_t kHeaderBytes = 1 + sizeof(uint64_t);
constexpr uint64_t kLongestFrame = uint64_t(1) << 28, kLongestHello = 4096;
/// What a rank waits longer than rank 0, which knows who is missing.
constexpr double kGrace = 5;
/// Without a time-out: as long as the other side is there.
constexpr double kNoTimeout = 1e7;

std::string frame(uint8_t kind, const std::string &text) {
  uint64_t size = text.size();
  std::string whole(1, char(kind));
  whole.append(reinterpret_cast<const char *>(&size), sizeof size);
  return whole + text;
}

/// An end and the kind of its error, as text and back.
std::string endText(const Status &status) {
  return json{{"kind", int(status.kind())}, {"text", status.message()}}.dump(-1, ' ', false,
                                                                             json::error_handler_t::replace);
}
Status endStatus(const std::string &text) {
  json end = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!end.is_object() || !end.contains("text") || !end["text"].is_string())
    return runtimeError("rank 0 has ended the meeting");
  int kind = end.value("kind", 3);
  return Status(Error{kind == 1   ? ErrorKind::Input
                      : kind == 2 ? ErrorKind::Usage
                                  : ErrorKind::Runtime,
                      -1, "", "", end["text"].get<std::string>()});
}

std::string machineName() {
  char host[256] = "", boot[64] = "";
  gethostname(host, sizeof host - 1);
  if (FILE *file = std::fopen("/proc/sys/kernel/random/boot_id", "re")) {
    size_t size = std::fread(boot, 1, sizeof boot - 1, file);
    std::fclose(file);
    while (size > 0 && boot[size - 1] == '\n')
      boot[--size] = '\0';
  }
  return std::string(host) + " " + boot;
}

std::string hello(const MeetingPlace &place) {
  json text = {{"rank", place.rank}, {"size", place.size}, {"machine", machineName()}, {"process", long(getpid())}};
  return text.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// "process 7 of node3".
std::string describe(const json &member) {
  std::string machine = member.value("machine", "");
  return concat("process ", member.value("process", int64_t(0)), " of ", machine.substr(0, machine.find(' ')));
}

std::string listed(const std::vector<int> &ranks) {
  std::string text;
  for (int rank : ranks)
    text += (text.empty() ? "" : ", ") + std::to_string(rank);
  return text;
}

/// The middle of the star.
class FirstRank final : public Meeting {
public:
  explicit FirstRank(const MeetingPlace &place) : Meeting(place), members(size_t(place.size)) {}

  Status open() {
    if (place.size > 1)
      ZOPT_RETURN_IF_FAILED(gather());
    allMachines.resize(size_t(place.size));
    allMachines[0] = machineName();
    for (int rank = 1; rank < place.size; ++rank)
      allMachines[size_t(rank)] = members[size_t(rank)].about.value("machine", "");
    // Ranks of this machine that came by its loopback cannot be reached so from others.
    std::string routable;
    for (int rank = 1; rank < place.size && routable.empty(); ++rank)
      if (!isLoopback(members[size_t(rank)].socket.peerAddress()))
        routable = members[size_t(rank)].socket.localAddress();
    myAddress = !routable.empty() ? routable : place.size > 1 ? members[1].socket.localAddress() : "127.0.0.1";
    for (int rank = 1; rank < place.size; ++rank) {
      Member &member = members[size_t(rank)];
      const bool local = isLoopback(member.socket.peerAddress());
      json welcome = {{"machines", allMachines}, {"address", local ? routable : ""}};
      if (Status sent = send(rank, frame(kText, welcome.dump(-1, ' ', false, json::error_handler_t::replace)));
          sent.failed())
        return end(sent);
    }
    return success();
  }

protected:
  Result<std::vector<std::string>> exchangeTexts(const std::string &label, const std::string &mine,
                                                 double seconds) override {
    std::vector<std::string> texts(size_t(place.size));
    texts[0] = mine;
    const Deadline deadline = deadlineIn(seconds > 0 ? seconds : kNoTimeout);
    std::vector<bool> arrived(size_t(place.size), false);
    arrived[0] = true;
    // Whoever comes first is read first, so that one who has died is noticed while others are slow.
    for (int left = place.size - 1; left > 0;) {
      std::vector<pollfd> entries;
      std::vector<int> ranks;
      for (int rank = 1; rank < place.size; ++rank)
        if (!arrived[size_t(rank)]) {
          entries.push_back({members[size_t(rank)].socket.get(), POLLIN, 0});
          ranks.push_back(rank);
        }
      if (place.stopRequested())
        return end(runtimeError("a signal has asked for an end"));
      if (isOver(deadline))
        return end(
            Status(Error{ErrorKind::Runtime, 0, label, "",
                         concat("timed out after ", seconds, " s, nothing has arrived from rank ", listed(ranks))}));
      poll(entries.data(), nfds_t(entries.size()), 50);
      for (size_t i = 0; i < entries.size(); ++i)
        if (entries[i].revents != 0) {
          int rank = ranks[i];
          if (Status read = receive(members[size_t(rank)].socket, texts[size_t(rank)], deadline); read.failed())
            return end(lost(label, rank, read));
          arrived[size_t(rank)] = true;
          --left;
        }
    }
    json all = json::array();
    for (const std::string &text : texts)
      all.push_back(text);
    const std::string message = frame(kText, all.dump(-1, ' ', false, json::error_handler_t::replace));
    for (int rank = 1; rank < place.size; ++rank)
      if (Status sent = send(rank, message); sent.failed())
        return end(lost(label, rank, sent));
    return texts;
  }

private:
  struct Member {
    Socket socket;
    json about;
  };
  /// Somebody who has not said who it is.
  struct Newcomer {
    Socket socket;
    std::string said;
  };

  static Status lost(const std::string &label, int rank, const Status &why) {
    return Status(Error{ErrorKind::Runtime, -1, label, "",
                        isClosedByPeer(why) ? concat("rank ", rank, " has ended before the ranks were connected")
                                            : concat("rank ", rank, ": ", why.message())});
  }

  static Status receive(Socket &socket, std::string &text, Deadline deadline) {
    char header[kHeaderBytes];
    auto never = [] { return false; };
    ZOPT_RETURN_IF_FAILED(socket.receive(header, sizeof header, deadline, never));
    uint64_t size = 0;
    std::memcpy(&size, header + 1, sizeof size);
    if (header[0] != char(kText) || size > kLongestFrame)
      return runtimeError("it says what cannot be understood");
    text.resize(size_t(size));
    return socket.receive(text.data(), text.size(), deadline, never);
  }

  Status send(int rank, const std::string &message) {
    return members[size_t(rank)].socket.send(message.data(), message.size(),
                                             deadlineIn(std::max(kGrace, place.timeoutSeconds)));
  }

  /// Tells all who are there how the meeting ended.
  Status end(const Status &why) {
    const std::string message = frame(kEnd, endText(why));
    for (Member &member : members)
      if (member.socket.get() >= 0)
        (void)member.socket.send(message.data(), message.size(), deadlineIn(1)).failed();
    return why;
  }
  Status endWith(Newcomer &newcomer, const Status &why) {
    const std::string message = frame(kEnd, endText(why));
    (void)newcomer.socket.send(message.data(), message.size(), deadlineIn(1)).failed();
    return end(why);
  }

  Status gather() {
    const Deadline deadline = deadlineIn(place.timeoutSeconds);
    Result<Socket> listening = Socket::listen(place.torchStore ? 0 : place.port);
    if (listening.failed())
      return runtimeError("cannot listen on MASTER_PORT ", place.port, ": ", listening.getStatus().message(),
                          " (is there another process with RANK=0, or does another program hold the port?)");
    if (place.torchStore)
      ZOPT_RETURN_IF_FAILED(publish(*listening, deadline));
    std::vector<Newcomer> newcomers;
    for (int here = 1; here < place.size;) {
      std::vector<pollfd> entries = {{listening->get(), POLLIN, 0}};
      for (Newcomer &newcomer : newcomers)
        entries.push_back({newcomer.socket.get(), POLLIN, 0});
      // One who has come and died again is missing.
      for (int rank = 1; rank < place.size; ++rank)
        entries.push_back({members[size_t(rank)].socket.get(), POLLIN, 0});
      if (place.stopRequested())
        return end(runtimeError("a signal has asked for an end"));
      if (isOver(deadline)) {
        std::vector<int> missing;
        for (int rank = 1; rank < place.size; ++rank)
          if (members[size_t(rank)].socket.get() < 0)
            missing.push_back(rank);
        return end(Status(Error{ErrorKind::Runtime, 0, "meeting", "",
                                concat("timed out after ", place.timeoutSeconds, " s, nothing has arrived from rank ",
                                       listed(missing), " at ", place.address, ":", place.port)}));
      }
      poll(entries.data(), nfds_t(entries.size()), 50);
      for (int rank = 1; rank < place.size; ++rank)
        if (entries[entries.size() - size_t(place.size) + size_t(rank)].revents != 0)
          members[size_t(rank)].socket.close();
      here = 1 + int(std::count_if(members.begin(), members.end(),
                                   [](const Member &member) { return member.socket.get() >= 0; }));
      for (size_t i = newcomers.size(); i-- > 0;)
        if (entries[i + 1].revents != 0) {
          bool understood = true;
          ZOPT_RETURN_IF_FAILED(listen(newcomers[i], understood));
          if (newcomers[i].socket.get() < 0) {
            here += understood;
            newcomers.erase(newcomers.begin() + long(i));
          }
        }
      for (Socket socket = listening->accept(); socket.get() >= 0; socket = listening->accept())
        newcomers.push_back({std::move(socket), ""});
    }
    return success();
  }

  /// Reads what a newcomer says. When it has said who it is, it becomes a member; a stranger is sent away, because
  /// anybody may knock at a port.
  Status listen(Newcomer &newcomer, bool &understood) {
    char chunk[1024];
    ssize_t count = recv(newcomer.socket.get(), chunk, sizeof chunk, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
      return success();
    understood = count > 0;
    if (count > 0)
      newcomer.said.append(chunk, size_t(count));
    const std::string &said = newcomer.said;
    uint64_t size = 0;
    if (understood &&
        said.compare(0, std::min(said.size(), kGreetingBytes), kGreeting, std::min(said.size(), kGreetingBytes)) != 0)
      understood = false;
    if (understood && said.size() >= kGreetingBytes + kHeaderBytes) {
      std::memcpy(&size, said.data() + kGreetingBytes + 1, sizeof size);
      understood = size <= kLongestHello;
    }
    if (!understood) {
      newcomer.socket.close();
      return success();
    }
    if (said.size() < kGreetingBytes + kHeaderBytes + size || said.size() < kGreetingBytes + kHeaderBytes)
      return success();
    json about =
        json::parse(said.substr(kGreetingBytes + kHeaderBytes, size_t(size)), nullptr, /*allow_exceptions=*/false);
    if (!about.is_object() || !about.value("rank", json()).is_number_integer() ||
        !about.value("size", json()).is_number_integer()) {
      understood = false;
      newcomer.socket.close();
      return success();
    }
    if (newcomer.socket.send(kGreeting, kGreetingBytes, deadlineIn(kGrace)).failed()) {
      understood = false;
      newcomer.socket.close();
      return success();
    }
    const int64_t rank = about["rank"], theirs = about["size"];
    if (theirs != place.size)
      return endWith(newcomer,
                     usageError("WORLD_SIZE is ", place.size, " for rank 0 (", describe(json::parse(hello(place))),
                                "), but ", theirs, " for rank ", rank, " (", describe(about), ")"));
    if (rank < 1 || rank >= place.size)
      return endWith(newcomer, usageError("two processes have RANK=", rank, ": ", describe(json::parse(hello(place))),
                                          " and ", describe(about)));
    Member &member = members[size_t(rank)];
    if (member.socket.get() >= 0)
      return endWith(newcomer, usageError("two processes have RANK=", rank, ": ", describe(member.about), " and ",
                                          describe(about)));
    member.socket = std::move(newcomer.socket);
    member.about = about;
    return success();
  }

  /// Leaves this rank's address in torchrun's store.
  Status publish(const Socket &listening, Deadline deadline) {
    Result<TorchStore> store = TorchStore::connect(place.address, place.port, deadline, place.stopRequested);
    Status status = store.getStatus();
    if (status.succeeded()) {
      // Who reaches the store by the loopback is on its machine, which others know by the store's name.
      std::string mine = store->localAddress();
      status = store->set(
          place.torchKey,
          json{{"address", isLoopback(mine) ? place.address : mine}, {"port", listening.localPort()}}.dump(), deadline);
    }
    return status.failed()
               ? runtimeError("torchrun's store at ", place.address, ":", place.port, ": ", status.message())
               : success();
  }

  std::vector<Member> members;
};

/// Every other rank.
class OtherRank final : public Meeting {
public:
  explicit OtherRank(const MeetingPlace &place) : Meeting(place), host(place.address), port(place.port) {}

  Status open() {
    const Deadline deadline = deadlineIn(place.timeoutSeconds);
    if (place.torchStore)
      ZOPT_RETURN_IF_FAILED(lookUp(deadline));
    const std::string where = concat(host, ":", port);
    Result<Socket> made = Socket::connect(host, port, deadline, place.stopRequested);
    if (made.failed()) {
      if (place.stopRequested())
        return made.getStatus();
      return Status(Error{ErrorKind::Runtime, place.rank, "meeting", "",
                          concat("timed out after ", place.timeoutSeconds, " s, rank 0 is not to be found at ", where,
                                 ": ", made.getStatus().message())});
    }
    socket = std::move(*made);
    const std::string message = kGreeting + frame(kText, hello(place));
    ZOPT_RETURN_IF_FAILED(socket.send(message.data(), message.size(), deadline));
    char greeting[kGreetingBytes];
    const Deadline longer = deadlineIn(place.timeoutSeconds + kGrace);
    Status greeted = socket.receive(greeting, sizeof greeting, longer, place.stopRequested);
    if (isClosedByPeer(greeted) || (greeted.succeeded() && std::memcmp(greeting, kGreeting, kGreetingBytes) != 0))
      return runtimeError("what answers at ", where,
                          " is no rank 0 of zrun (does another program hold MASTER_PORT, or has rank 0 ended?)")
          .onRank(place.rank);
    ZOPT_RETURN_IF_FAILED(greeted.onRank(place.rank));
    std::string text;
    ZOPT_RETURN_IF_FAILED(receive("meeting", text, longer));
    json welcome = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!welcome.is_object() || !welcome.contains("machines") || !welcome["machines"].is_array())
      return runtimeError("rank 0 at ", where, " says what cannot be understood").onRank(place.rank);
    for (const json &machine : welcome["machines"])
      allMachines.push_back(machine.is_string() ? machine.get<std::string>() : "");
    allMachines.resize(size_t(place.size));
    myAddress = welcome.value("address", "");
    if (myAddress.empty())
      myAddress = socket.localAddress();
    return success();
  }

protected:
  Result<std::vector<std::string>> exchangeTexts(const std::string &label, const std::string &mine,
                                                 double seconds) override {
    const Deadline deadline = deadlineIn(seconds > 0 ? seconds + kGrace : kNoTimeout);
    const std::string message = frame(kText, mine);
    if (Status sent = socket.send(message.data(), message.size(), deadline);
        sent.failed() && !isClosedByPeer(sent)) // what it said before is still to be read
      return sent.onRank(place.rank).in(label);
    std::string text;
    ZOPT_RETURN_IF_FAILED(receive(label, text, deadline));
    json all = json::parse(text, nullptr, /*allow_exceptions=*/false);
    std::vector<std::string> texts;
    for (const json &each : all)
      texts.push_back(each.is_string() ? each.get<std::string>() : "");
    texts.resize(size_t(place.size));
    return texts;
  }

private:
  Status receive(const std::string &label, std::string &text, Deadline deadline) {
    char header[kHeaderBytes];
    uint64_t size = 0;
    Status status = socket.receive(header, sizeof header, deadline, place.stopRequested);
    if (status.succeeded()) {
      std::memcpy(&size, header + 1, sizeof size);
      if (size > kLongestFrame)
        status = runtimeError("rank 0 says what cannot be understood");
    }
    if (status.succeeded()) {
      text.resize(size_t(size));
      status = socket.receive(text.data(), text.size(), deadline, place.stopRequested);
    }
    if (isClosedByPeer(status))
      status = runtimeError("rank 0 has ended before the ranks were connected");
    else if (status.failed() && !place.stopRequested())
      status = runtimeError("rank 0 at ", host, ":", port, ": ", status.message());
    if (status.succeeded() && header[0] == char(kEnd))
      return endStatus(text);
    return status.failed() ? status.onRank(place.rank).in(label) : status;
  }

  /// Reads rank 0's address in torchrun's store.
  Status lookUp(Deadline deadline) {
    Result<TorchStore> store = TorchStore::connect(place.address, place.port, deadline, place.stopRequested);
    Status status = store.getStatus();
    if (status.succeeded()) {
      Result<std::string> text = store->get(place.torchKey, deadline);
      status = text.getStatus();
      if (status.succeeded()) {
        json where = json::parse(*text, nullptr, /*allow_exceptions=*/false);
        if (where.is_object()) {
          host = where.value("address", host);
          port = where.value("port", port);
        }
      }
    }
    return status.failed() ? runtimeError("torchrun's store at ", place.address, ":", place.port,
                                          ", where rank 0 leaves its address: ", status.message())
                                 .onRank(place.rank)
                           : success();
  }

  std::string host;
  int port;
  Socket socket;
};

template <typename Kind>
Result<std::unique_ptr<Meeting>> openMeeting(const MeetingPlace &place) {
  auto meeting = std::make_unique<Kind>(place);
  ZOPT_RETURN_IF_FAILED(meeting->open());
  return std::unique_ptr<Meeting>(std::move(meeting));
}

} // namespace

Result<std::unique_ptr<Meeting>> Meeting::join(const MeetingPlace &place) {
  return place.rank == 0 ? openMeeting<FirstRank>(place) : openMeeting<OtherRank>(place);
}

Result<std::vector<std::string>> Meeting::exchange(const std::string &label, const std::string &mine, double seconds) {
  if (place.size == 1)
    return std::vector<std::string>{mine};
  return exchangeTexts(label, mine, seconds);
}

Status Meeting::agree(const std::string &label, const Status &mine, double seconds) {
  std::string text;
  if (mine.failed()) {
    Error error = mine.getError();
    error.rank = -1;
    text = json{{"kind", int(error.kind)}, {"text", Status(error).message()}}.dump(-1, ' ', false,
                                                                                   json::error_handler_t::replace);
  }
  Result<std::vector<std::string>> all = exchange(label, text, seconds);
  if (all.failed())
    return all.getStatus();
  for (size_t rank = 0; rank < all->size(); ++rank)
    if (!(*all)[rank].empty()) {
      Error error = endStatus((*all)[rank]).getError();
      error.rank = int(rank);
      return Status(error);
    }
  return success();
}

} // namespace zopt::runtime
