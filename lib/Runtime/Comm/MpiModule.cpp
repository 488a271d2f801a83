//===- MpiModule.cpp - what libZoptMpi.so exports -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Modules.h"
#include "zopt/Runtime/Comm/Mpi.h"

static const zopt::runtime::MpiModule module{zopt::runtime::makeMpiCommunicator, zopt::runtime::finalizeMpi};

ZOPT_COMMUNICATOR_MODULE(module)
