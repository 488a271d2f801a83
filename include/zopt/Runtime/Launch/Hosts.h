//===- Hosts.h - the machines of a run --------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Host files in MPI's format ("node1 slots=4") and DeepSpeed's, which is the same; --include and --exclude choose among
// their machines in DeepSpeed's form, "node1@node2:0,1".
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_HOSTS_H
#define ZOPT_RUNTIME_LAUNCH_HOSTS_H

#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Launch/Options.h"
#include <string>
#include <vector>

namespace zopt::runtime {

struct Host {
  std::string name;
  int slots = 1;
};

/// The machines of --hostfile that --include and --exclude leave, in their order; none without --hostfile. Refuses
/// files that cannot be read, names that are not in them, and slots that are not a machine's first.
Result<std::vector<Host>> chooseHosts(const RunOptions &options);

/// The most ranks that one machine gets: all of them without --hostfile. Refuses host files that cannot be read or have too few slots.
Result<int> localRanks(const RunOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_HOSTS_H
