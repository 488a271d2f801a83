//===- Gloo.h - ranks as processes that meet over TCP -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The communicator for processes that anything has started (torchrun, Kubernetes, a shell). Messages (Pairwise.h)
// travel through gloo's TCP transport; its collectives, which sum in orders of their own, are not used. Between each
// two ranks a message of one byte stays open, which is sent when a rank leaves in order: where its connection breaks
// without it, the rank is gone, and that is seen at once whatever is being waited for. zrun loads this as a module
// (Modules.h), so that ranks under MPI do not load gloo.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_GLOO_H
#define ZOPT_RUNTIME_COMM_GLOO_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Comm/Meeting.h"
#include <memory>

namespace zopt::runtime {

/// Connects the ranks of a meeting in pairs. `stopRequested`: see Pairwise.h. GLOO_SOCKET_IFNAME, as for PyTorch, names
/// the network interface to use. From here on the process has a second thread.
Result<std::unique_ptr<Communicator>> makeGlooCommunicator(Meeting &meeting, double timeoutSeconds,
                                                           bool (*stopRequested)());

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_GLOO_H
