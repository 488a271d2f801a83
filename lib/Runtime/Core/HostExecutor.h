//===- HostExecutor.h - runs a Program on the CPU ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Commands run one after the other on the rank's threads, in arenas of the host's memory: run() returns when the sequence has come to its end, and a step's results are there at once.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_CORE_HOSTEXECUTOR_H
#define ZOPT_LIB_RUNTIME_CORE_HOSTEXECUTOR_H

#include "zopt/Runtime/Core/Executor.h"

namespace zopt::runtime {

Result<std::unique_ptr<Executor>> createHostExecutor(const Program &program, std::shared_ptr<KernelLibrary> kernels, Communicator &communicator, const ExecutorOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_CORE_HOSTEXECUTOR_H
