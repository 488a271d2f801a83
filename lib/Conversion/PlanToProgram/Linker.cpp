//===- Linker.cpp - links kernels into a shared object --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Linker.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <mutex>
#include <optional>

#ifdef ZOPT_LLD
#include "lld/Common/Driver.h"
LLD_HAS_DRIVER(elf)
#endif

using namespace llvm;

#ifdef ZOPT_LLD

bool zopt::linkSharedObject(const std::vector<std::string> &objects, const std::string &output, std::string &error) {
  SmallVector<const char *> arguments = {"ld.lld", "-shared", "--build-id=none", "--threads=1", "-o", output.c_str()};
  for (const std::string &object : objects)
    arguments.push_back(object.c_str());
  // It keeps state of its own in the process.
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  std::string text;
  raw_string_ostream stream(text);
  lld::Result result = lld::lldMain(arguments, stream, stream, {{lld::Gnu, &lld::elf::link}});
  if (result.retCode == 0)
    return true;
  error = "lld failed with " + std::to_string(result.retCode) + ": " + StringRef(text).trim().str();
  return false;
}

#else

bool zopt::linkSharedObject(const std::vector<std::string> &objects, const std::string &output, std::string &error) {
  std::string linker;
  for (StringRef name : {"ld.lld-22", "ld.lld", "ld"})
    if (linker.empty())
      if (auto found = sys::findProgramByName(name))
        linker = *found;
  if (linker.empty()) {
    error = "no linker: ld.lld-22, ld.lld or ld must be on PATH";
    return false;
  }
  SmallVector<StringRef> arguments = {linker, "-shared", "--build-id=none", "-o", output};
  arguments.append(objects.begin(), objects.end());
  std::string message;
  std::optional<StringRef> redirects[] = {std::nullopt, std::nullopt, std::nullopt};
  int status = sys::ExecuteAndWait(linker, arguments, std::nullopt, redirects, 0, 0, &message);
  if (status == 0)
    return true;
  error = linker + " failed with " + std::to_string(status) + (message.empty() ? "" : ": " + message);
  return false;
}

#endif
