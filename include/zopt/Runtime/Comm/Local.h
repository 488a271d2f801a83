//===- Local.h - ranks as threads of one process ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The communicator for ranks that are threads of one process: they read each other's buffers directly, under one mutex. Nothing is copied through a workspace, but the same sums are made in the
// same order as by any other communicator.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_COMM_LOCAL_H
#define ZOPT_RUNTIME_COMM_LOCAL_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <memory>
#include <vector>

namespace zopt::runtime {

/// One communicator a rank. They share a world that lives as long as any of them. A rank that leaves (its communicator is destroyed) while others wait for it fails their waits.
std::vector<std::unique_ptr<Communicator>> makeLocalWorld(int size);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_COMM_LOCAL_H
