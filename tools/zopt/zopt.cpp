//===- zopt.cpp - the compiler driver -------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/Driver.h"

int main(int argc, char **argv) { return zopt::zoptMain(argc, argv); }
