//===- Meeting.h - how ranks find each other over TCP -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rank 0 listens at a place that all ranks know, and the others come to it: each says who it is, and learns who else is
// there when all have come. Whoever does not belong (a rank that is there twice, another number of ranks, another
// version) ends the meeting for all, with the same words. Until the ranks are connected in pairs, texts go through rank
// 0.
//
// Under torchrun that place is taken by torchrun's own key-value store. Then rank 0 listens on a free port and leaves
// its address in that store, where the others read it.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_MEETING_H
#define ZOPT_RUNTIME_COMM_MEETING_H

#include "zopt/Runtime/Core/Status.h"
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

struct MeetingPlace {
  int rank = 0, size = 1;
  std::string address; // of rank 0, or of torchrun's store: a name or a number
  int port = 0;
  bool torchStore = false;
  std::string torchKey; // under which rank 0's address lies in the store: another one for each attempt
  double timeoutSeconds = 600;
  bool (*stopRequested)() = [] { return false; }; // whether a signal has asked for an end, which ends every wait
};

class Meeting {
public:
  /// Waits until all ranks are there. Every rank of the world calls it.
  static Result<std::unique_ptr<Meeting>> join(const MeetingPlace &place);
  virtual ~Meeting();

  int rank() const { return place.rank; }
  int size() const { return place.size; }
  /// The machine of each rank, as good as can be told: its name and the number of its boot.
  const std::vector<std::string> &machines() const { return allMachines; }
  /// A number at which other ranks reach this one.
  const std::string &address() const { return myAddress; }

  /// Every rank's text on every rank. With `seconds` 0 there is no time-out: somebody works meanwhile, and who dies is
  /// noticed.
  Result<std::vector<std::string>> exchange(const std::string &label, const std::string &mine, double seconds);
  /// The failure of the lowest rank that has one, on every rank, as Communicator::agree gives it.
  Status agree(const std::string &label, const Status &mine, double seconds);

protected:
  explicit Meeting(const MeetingPlace &place) : place(place) {}
  virtual Result<std::vector<std::string>> exchangeTexts(const std::string &label, const std::string &mine,
                                                         double seconds) = 0;

  const MeetingPlace place;
  std::vector<std::string> allMachines;
  std::string myAddress;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_MEETING_H
