//===- CommunicatorConformance.h - what every communicator must do -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The tests in CommunicatorConformance.cpp are written once; each backend's program says how to run a function on every rank.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_RUNTIME_COMMUNICATORCONFORMANCE_H
#define ZOPT_TEST_UNIT_RUNTIME_COMMUNICATORCONFORMANCE_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <functional>

/// Runs `body` once on every rank of every world that the backend is tested with, concurrently within a world, and returns when all have.
void forEachWorld(const std::function<void(zopt::runtime::Communicator &)> &body);

#endif // ZOPT_TEST_UNIT_RUNTIME_COMMUNICATORCONFORMANCE_H
