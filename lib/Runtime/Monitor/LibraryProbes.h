//===- LibraryProbes.h - libraries that may be there ------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loads a library under the names that it may have and asks it for its version. Nothing of CUDA is needed to compile this.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_MONITOR_LIBRARYPROBES_H
#define ZOPT_LIB_RUNTIME_MONITOR_LIBRARYPROBES_H

#include <string>
#include <vector>

namespace zopt::runtime {

struct LibraryFacts {
  std::string name;
  bool found = false;
  std::string file, version;
  std::string problem; ///< where it was not found
  std::string advice;
};

LibraryFacts probeMpi();
LibraryFacts probeGloo();
LibraryFacts probeCudaRuntime();
LibraryFacts probeCublasLt();
LibraryFacts probeCudnn();
LibraryFacts probeNccl();
LibraryFacts probeCupti();

struct DriverFacts {
  bool found = false;
  bool devicesSeen = false; ///< on the PCI bus, whether or not the driver is there
  std::string version;      ///< the newest CUDA that it serves
  int versionNumber = 0;    ///< 13000 for CUDA 13.0
  std::vector<std::string> devices;
  std::string problem;
};
DriverFacts probeDriver();

/// The path of a program on PATH, or "".
std::string findProgram(const std::string &name);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_MONITOR_LIBRARYPROBES_H
