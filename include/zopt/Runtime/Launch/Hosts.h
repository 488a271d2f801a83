//===- Hosts.h - the machines of a run --------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Host files in MPI's format ("node1 slots=4") and DeepSpeed's, which is the same.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_HOSTS_H
#define ZOPT_RUNTIME_LAUNCH_HOSTS_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Launch/Options.h"

namespace zopt::runtime {

/// The most ranks that one machine gets: all of them without --hostfile. Refuses host files that cannot be read or have too few slots.
Result<int> localRanks(const RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_HOSTS_H
