//===- PeerCopies.h - data between GPUs by their copy engines ---*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where all ranks are processes of one host whose GPUs reach each other's memory, a rank maps the arenas of the others
// and writes into them by copies of the driver, which take no multiprocessor from the kernels beside them: NCCL's own
// kernels do. Every rank has the same arenas with the same offsets, so an address of this rank says where its
// counterpart on another is.
//
// Ranks meet twice in an operation, once before anything is written (everybody's destination is free) and once behind
// it (everything has arrived), by a word that each writes into the memory of each other. Who waits sets the word back
// to zero, so an operation is the same every time, in a graph too. No rank can be a meeting ahead: it would have to
// pass the one between, for which the other writes only behind that.
//
// Operations are queued on one stream, in the same order on every rank.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_PEERCOPIES_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_PEERCOPIES_H

#include "DeviceContext.h"
#include "zopt/Runtime/Core/Program.h"
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime::cuda {

class PeerCopies {
public:
  /// Every rank calls it with its arenas, which are idle and zero, and are so again when it returns. Null on all ranks
  /// where one of them cannot, and `reason` says there which one and why; it stays empty where they are of several hosts.
  static Result<std::unique_ptr<PeerCopies>> create(DeviceContext &device, Communicator &host,
                                                    const std::vector<CUdeviceptr> &arenas, const Program &program,
                                                    std::string &reason);
  /// After a failure of the device everything is left to the end of the process.
  ~PeerCopies();
  PeerCopies(const PeerCopies &) = delete;
  PeerCopies &operator=(const PeerCopies &) = delete;

  /// Every rank's `bytes` of `source` into everybody's `destination`, in rank order; `source` may be this rank's part
  /// of `destination`.
  Status gather(CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes);
  /// Part q of `source`, of `bytes`, to rank q, into part rank() of its `destination`. This rank's own part stays where
  /// it is.
  Status exchange(CUstream stream, CUdeviceptr source, CUdeviceptr destination, int64_t bytes);

private:
  struct Area {
    CUdeviceptr own = 0;
    int64_t bytes = 0;
    std::vector<CUdeviceptr> mapped; // one a rank; 0: this rank's, and of empty arenas
  };
  enum Meeting { Free, Arrived };

  PeerCopies(DeviceContext &device, Communicator &host);
  Status probe();
  Status map(const std::vector<char> &exports, size_t stride, size_t header);
  Status fill(bool marks);
  Status check();
  /// The first of everybody's failures, as text; empty where nobody failed.
  Status consent(const Status &mine, std::string &reason);

  Status tell(CUstream stream, Meeting meeting);
  Status await(CUstream stream, Meeting meeting);
  Status copy(CUstream stream, int peer, CUdeviceptr source, CUdeviceptr destination, int64_t bytes);
  /// The exchange stream and that of reductions may be under way at the same time: each has words of its own.
  CUdeviceptr word(CUdeviceptr base, CUstream stream, Meeting meeting, int from) const {
    const int channel = stream == device.reductions;
    return base + sizeof(uint32_t) * (uint64_t(2 * channel + meeting) * uint64_t(world) + uint64_t(from));
  }
  unsigned char mark(int rank, size_t area) const {
    return static_cast<unsigned char>(1 + (size_t(rank) * 31 + area * 7) % 255);
  }

  DeviceContext &device;
  Communicator &host;
  const int world, rank;
  CUdeviceptr words = 0, one = 0; // four words a rank, which the others write; and a word that is 1
  std::vector<Area> areas;        // the words, then the arenas
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_PEERCOPIES_H
