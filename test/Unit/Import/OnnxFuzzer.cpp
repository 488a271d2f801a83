//===- OnnxFuzzer.cpp - libFuzzer's entry to the importer of ONNX ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is a model file. It is imported, and what imports is verified, compiled forward and, with a loss, to a
// gradient. Nothing of this may crash, leak, hang, fail without an error message or write a file: the process stands in
// an empty folder of its own, which must stay empty.
//
//===----------------------------------------------------------------------===//

#include "OnnxMutator.h"
#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Import/ImportOnnx.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

using namespace mlir;

namespace {

[[noreturn]] void fail(const char *what) {
  std::fprintf(stderr, "OnnxFuzzer: %s\n", what);
  std::abort();
}

/// The folder that must stay empty.
DIR *emptyFolder() {
  static DIR *folder = [] {
    char name[] = "/tmp/zopt-fuzz-XXXXXX";
    if (!mkdtemp(name) || chdir(name) != 0)
      fail("cannot make a folder");
    DIR *opened = opendir(".");
    rmdir(name); // what is written there fails, and what is written elsewhere is not ours to find
    return opened;
  }();
  return folder;
}

/// Bytes as a file that is nowhere.
int memoryFile(const uint8_t *data, size_t size) {
  int file = memfd_create("model", MFD_CLOEXEC);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size))
    fail("cannot make a file in memory");
  return file;
}

const DialectRegistry &dialects() {
  static const DialectRegistry *registry = [] {
    auto *made = new DialectRegistry;
    zopt::registerAllDialects(*made);
    zopt::registerAllPasses();
    return made;
  }();
  return *registry;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  emptyFolder();
  const int file = memoryFile(data, size);
  {
    MLIRContext context(dialects(), MLIRContext::Threading::DISABLED);
    context.loadAllAvailableDialects();
    int errors = 0;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      errors += diagnostic.getSeverity() == DiagnosticSeverity::Error;
      return success();
    });
    zopt::ImportOptions options;
    options.microBatch = 2;
    options.tieWeights = size % 2;
    options.planDirectory = ".";
    OwningOpRef<ModuleOp> module = zopt::importOnnx("/proc/self/fd/" + std::to_string(file), options, &context);
    if (!module && !errors)
      fail("a model was refused without an error");
    if (module && errors)
      fail("a model was imported with an error");
    // A model of a thousand ops is as good as one of more, and ten times as fast.
    size_t ops = 0;
    if (module)
      module->walk([&](Operation *) { ++ops; });
    if (module && ops < 1000 && succeeded(verify(*module))) {
      for (zopt::Mode mode : {zopt::Mode::Forward, zopt::Mode::Gradient}) {
        zopt::StepOptions step;
        step.mode = mode;
        step.loss = "mse";
        step.precision = size % 3 ? "f32" : "bf16";
        OwningOpRef<ModuleOp> clone = module->clone();
        errors = 0;
        if (failed(zopt::runPipeline(*clone, zopt::buildStepPipeline(step, {}))) && !errors)
          fail("a model was not compiled, without an error");
      }
    }
  }
  close(file);
  return 0;
}

/// Half of the mutations are of bytes; the others keep a model a model.
extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
  if (seed % 4 != 0)
    if (size_t mutated = zopt::mutateModel(data, size, capacity, seed / 4))
      return mutated;
  return LLVMFuzzerMutate(data, size, capacity);
}
