//===- GlooModule.cpp - what libZoptGloo.so exports -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Comm/Gloo.h"
#include "zopt/Runtime/Comm/Modules.h"

static const zopt::runtime::GlooModule module{zopt::runtime::makeGlooCommunicator};

ZOPT_COMMUNICATOR_MODULE(module)
