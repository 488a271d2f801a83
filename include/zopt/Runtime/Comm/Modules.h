//===- Modules.h - communicators that are loaded ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// MPI and gloo are linked into modules, libZoptMpi.so and libZoptGloo.so, which a rank loads when it needs them: zrun
// starts on machines that have neither, and ranks load one of them at most. A module is of the same build as the
// program that loads it, so that C++ objects pass between them; state of the program that a module needs is given to it
// as functions.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_MODULES_H
#define ZOPT_RUNTIME_COMM_MODULES_H

#include "zopt/Runtime/Comm/Communicator.h"
#include "zopt/Runtime/Comm/Meeting.h"
#include <memory>

namespace zopt::runtime {

/// Of Mpi.h.
struct MpiModule {
  Result<std::unique_ptr<Communicator>> (*make)(bool (*stopRequested)());
  void (*finalize)();
};

/// Of Gloo.h.
struct GlooModule {
  Result<std::unique_ptr<Communicator>> (*make)(Meeting &meeting, double timeoutSeconds, bool (*stopRequested)());
};

/// They stay loaded until the process ends.
Result<const MpiModule *> loadMpiModule();
Result<const GlooModule *> loadGlooModule();

} // namespace zopt::runtime

/// What a module exports under the name zoptModule.
#define ZOPT_COMMUNICATOR_MODULE(module)                                                                               \
  extern "C" const void *zoptModule() { return &(module); }

#endif // ZOPT_RUNTIME_COMM_MODULES_H
