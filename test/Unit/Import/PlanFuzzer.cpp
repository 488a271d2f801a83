//===- PlanFuzzer.cpp - libFuzzer's entry to the reader of plans ----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The first byte chooses. Bit 0: the rest is the text of a plan, which is parsed, verified and converted to a Program as
// zrun does it; a Program that comes out of a verified plan must read as it was written. Otherwise the rest is the body of
// a compiled program (CBOR), to which the header is made. Kernels are not compiled: they are MLIR's own.
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <xxhash.h>

using namespace mlir;
using namespace zopt;

namespace {

[[noreturn]] void fail(const char *what, const std::string &message) {
  std::fprintf(stderr, "PlanFuzzer: %s: %s\n", what, message.c_str());
  std::abort();
}

const DialectRegistry &dialects() {
  static const DialectRegistry *registry = [] {
    auto *made = new DialectRegistry;
    registerAllDialects(*made);
    registerAllPasses();
    return made;
  }();
  return *registry;
}

void readText(const std::string &text) { // which ends in a zero, as a file's buffer does
  MLIRContext context(dialects(), MLIRContext::Threading::DISABLED);
  int errors = 0;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    errors += diagnostic.getSeverity() == DiagnosticSeverity::Error;
    return success();
  });
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, ParserConfig(&context), "plan.mlir");
  if (!module) {
    if (!errors)
      fail("a plan was refused without an error", "");
    return;
  }
  StringRef level = getLevel(*module);
  if (level != "explicit" && level != "final")
    return;
  FinalPlanOptions options;
  options.worldSize = 2;
  options.threads = 1;
  if (failed(runPipeline(*module, level == "final" ? "zopt-verify-plan" : buildSpecializePipeline(options)))) {
    if (!errors)
      fail("a plan was refused without an error", "");
    return;
  }
  runtime::Program program;
  if (failed(convertPlanToProgram(*module, program))) {
    if (!errors)
      fail("a plan was not converted, without an error", "");
    return;
  }
  const std::vector<uint8_t> bytes = runtime::serializeProgram(program);
  runtime::Result<runtime::Program> again = runtime::deserializeProgram(bytes, "plan");
  if (!again.failed() && runtime::serializeProgram(*again) != bytes)
    fail("a program does not read as it was written", "");
}

void readProgram(const uint8_t *data, size_t size) {
  // An empty program's header says what this build writes.
  static const std::vector<uint8_t> empty = runtime::serializeProgram(runtime::Program());
  constexpr size_t headerBytes = 32;
  std::vector<uint8_t> bytes(headerBytes + size);
  std::memcpy(bytes.data(), empty.data(), headerBytes - 16);
  const uint64_t length = size, checksum = XXH3_64bits(data, size);
  std::memcpy(bytes.data() + headerBytes - 16, &length, 8);
  std::memcpy(bytes.data() + headerBytes - 8, &checksum, 8);
  std::memcpy(bytes.data() + headerBytes, data, size);
  runtime::Result<runtime::Program> program = runtime::deserializeProgram(bytes, "program");
  if (program.failed() && program.getStatus().message().empty())
    fail("a program was refused without a message", "");
  if (!program.failed())
    runtime::programToText(*program);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  if (data[0] & 1)
    readText(std::string(reinterpret_cast<const char *>(data + 1), size - 1));
  else
    readProgram(data + 1, size - 1);
  return 0;
}
