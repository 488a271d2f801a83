//===- Pairwise.h - collectives made of messages ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Collectives as non-blocking messages between pairs of ranks, straight from and into the planned buffers, for whatever
// library carries them: no collective of a library allocates behind our back or sums in an order of its own, and a rank
// that waits knows whom it waits for. Every backend gives the same bits, those of sumInRankOrder.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_PAIRWISE_H
#define ZOPT_RUNTIME_COMM_PAIRWISE_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

class PairwiseCommunicator : public Communicator {
public:
  /// The messages of one phase of one collective. Kept for the next step, so that what they allocate is allocated once.
  class Messages {
  public:
    virtual ~Messages();
    /// Forgets what is complete.
    virtual void clear() = 0;
    /// Begin to move bytes between this rank and another; messages of a tag between two ranks arrive in the order in
    /// which they were sent.
    virtual Status receive(int from, int tag, char *data, int64_t bytes) = 0;
    virtual Status send(int to, int tag, const char *data, int64_t bytes) = 0;
    /// Whether all of them are complete; does not wait.
    virtual Status test(bool &complete) = 0;
    /// Adds the ranks whose message has not arrived, and those that have not taken theirs.
    virtual void listOpen(std::vector<int> &missing, std::vector<int> &unread) const = 0;
    /// Sleeps for a moment, or until something may have changed.
    virtual void nap();
  };

  Status startAllGather(const Collective &collective, const void *source, void *destination, int64_t bytes) override;
  Status startReduceScatter(const Collective &collective, const void *source, DataType sourceType, void *destination,
                            DataType destinationType, void *workspace, int64_t elements, bool accumulate) override;
  Status startAllReduce(const Collective &collective, void *buffer, DataType type, void *workspace,
                        int64_t elements) override;
  Status wait(int64_t id) override;
  Status progress() override;
  Status allGatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override;
  Status gatherNow(const std::string &label, const void *source, void *destination, int64_t bytes) override;

protected:
  /// `stopRequested`: whether a signal has asked for an end. A function of the program, because a module that is loaded
  /// has handlers of its own.
  PairwiseCommunicator(int rank, int size, bool (*stopRequested)())
      : Communicator(rank, size), stopRequested(stopRequested) {}

  virtual std::unique_ptr<Messages> makeMessages() = 0;

  /// More ranks on this machine than cores: who waits does not keep its core.
  bool oversubscribed = false;
  /// A wait has failed: messages may be in flight for ever, so nothing is freed.
  bool failed = false;

private:
  struct Pending {
    enum Kind { Gather, Reduce, ReduceThenGather } kind = Gather;
    std::string label;
    int64_t id = 0;
    bool done = true, messagesDone = false;
    std::unique_ptr<Messages> messages;
    const char *source = nullptr;
    char *destination = nullptr, *workspace = nullptr;
    DataType sourceType = DataType::F32, destinationType = DataType::F32;
    int64_t elements = 0;
    bool accumulate = false;
  };

  static int tagOf(int64_t id, int phase);
  static std::string nameOf(const Pending &pending);
  Pending &begin(const Collective &collective, Pending::Kind kind);
  void beginControl(const std::string &label);
  template <typename PartFor>
  Status exchange(Pending &pending, int tag, PartFor partFor, char *destination, int64_t bytes);
  Status scatterParts(Pending &pending);
  Status advance(Pending &pending);
  Status awaitPhases(Pending &pending);
  Status timedOut(Pending &pending);

  bool (*const stopRequested)();
  bool lookedAfterSignal = false;
  std::map<int64_t, Pending> inFlight;
  int active = 0;
  Pending control;
  std::vector<const void *> parts;
  std::string lastLabel;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_PAIRWISE_H
