//===- Mpi.h - ranks as processes under MPI ---------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The communicator for processes that mpirun or srun started. Everything travels as MPI's point-to-point messages
// (Pairwise.h). Peers on the same machine are watched, so that a dead one is noticed at once. zrun loads this as a
// module (Modules.h), so that it starts where there is no MPI.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_MPI_H
#define ZOPT_RUNTIME_COMM_MPI_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <memory>

namespace zopt::runtime {

/// Initializes MPI in the calling thread, which is the one that uses the communicator. `stopRequested`: see Pairwise.h.
Result<std::unique_ptr<Communicator>> makeMpiCommunicator(bool (*stopRequested)());

/// Ends MPI where all ranks have come to their end; the communicator is gone by then. After a failure processes just exit.
void finalizeMpi();

/// "Open MPI v4.1.4, ...", for --doctor.
std::string mpiLibrary();

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_MPI_H
