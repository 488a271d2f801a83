//===- Mpi.h - ranks as processes under MPI ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The communicator for processes that mpirun or srun started. Everything travels as non-blocking point-to-point messages, straight from and into the planned buffers: no collective of the library
// allocates behind our back or sums in an order of its own, and a rank that waits knows whom it waits for. Peers on the same machine are watched, so that a dead one is noticed at once.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_MPI_H
#define ZOPT_RUNTIME_COMM_MPI_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <memory>

namespace zopt::runtime {

/// Initializes MPI in the calling thread, which is the one that uses the communicator.
Result<std::unique_ptr<Communicator>> makeMpiCommunicator();

/// Ends MPI where all ranks have come to their end; the communicator is gone by then. After a failure processes just exit.
void finalizeMpi();

/// "Open MPI v4.1.4, ...", for --doctor.
std::string mpiLibrary();

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_MPI_H
