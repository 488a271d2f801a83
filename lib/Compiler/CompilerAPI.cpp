//===- CompilerAPI.cpp - the compiler as a library ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/CompilerAPI.h"
#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"
#include "llvm/TargetParser/Host.h"
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>

using namespace mlir;
using namespace zopt;

namespace {
/// How a target's record of what its algorithms were chosen for begins.
constexpr llvm::StringRef kTunedLibrary = "cublasLt ";

/// What ends a compilation: the exit code that zrun gives and the lines that it prints.
struct Failure {
  int code = 1;
  std::string text;
};

/// The build ID of the object that holds `address`, in hexadecimal; empty where it has none.
std::string buildIdOf(const void *address) {
  struct Search {
    uintptr_t address;
    std::string id;
  } search = {reinterpret_cast<uintptr_t>(address), ""};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        auto &search = *static_cast<Search *>(data);
        llvm::ArrayRef<ElfW(Phdr)> headers(info->dlpi_phdr, info->dlpi_phnum);
        if (llvm::none_of(headers, [&](const ElfW(Phdr) & header) { return header.p_type == PT_LOAD && search.address - info->dlpi_addr - header.p_vaddr < header.p_memsz; }))
          return 0;
        for (const ElfW(Phdr) & header : headers) {
          if (header.p_type != PT_NOTE)
            continue;
          const char *note = reinterpret_cast<const char *>(info->dlpi_addr + header.p_vaddr), *end = note + header.p_memsz;
          while (note + sizeof(ElfW(Nhdr)) <= end) {
            const auto *head = reinterpret_cast<const ElfW(Nhdr) *>(note);
            const char *name = note + sizeof *head, *content = name + llvm::alignTo(head->n_namesz, 4);
            if (head->n_type == NT_GNU_BUILD_ID && llvm::StringRef(name, head->n_namesz) == llvm::StringRef("GNU\0", 4))
              search.id = llvm::toHex(llvm::StringRef(content, head->n_descsz), /*LowerCase=*/true);
            note = content + llvm::alignTo(head->n_descsz, 4);
          }
        }
        return 1;
      },
      &search);
  return search.id;
}

/// Identifies the compiler in the cache: a new build never reads what an old one wrote. By the library's build ID it is the same compiler in every place and on every machine.
std::string compilerFingerprint() {
  const void *self = reinterpret_cast<const void *>(&zoptCompile);
  if (std::string id = buildIdOf(self); !id.empty())
    return id;
  Dl_info library;
  llvm::sys::fs::file_status status;
  if (!dladdr(self, &library) || llvm::sys::fs::status(library.dli_fname, status))
    return "unknown";
  return llvm::formatv("{0}:{1}:{2}", library.dli_fname, status.getSize(), llvm::sys::toTimeT(status.getLastModificationTime()));
}

/// Writes `text` to `path` whole or not at all.
std::optional<Failure> writeWhole(llvm::StringRef path, llvm::function_ref<void(llvm::raw_ostream &)> write) {
  llvm::SmallString<256> temporary(path);
  temporary += llvm::formatv(".{0}.tmp", llvm::sys::Process::getProcessId()).str();
  std::error_code error;
  {
    llvm::raw_fd_ostream stream(temporary, error);
    if (!error) {
      write(stream);
      stream.close();
      error = stream.error();
      stream.clear_error();
    }
  }
  if (!error)
    error = llvm::sys::fs::rename(temporary, path);
  if (!error)
    return std::nullopt;
  llvm::sys::fs::remove(temporary);
  return Failure{3, llvm::formatv("{0}: error: cannot write: {1}", path, error.message())};
}

class Compilation {
public:
  Compilation(llvm::StringRef planPath, llvm::StringRef cacheDirectory) : planPath(planPath), cacheDirectory(cacheDirectory) {}

  std::optional<Failure> run(llvm::StringRef optionsJson);
  std::string programPath;

private:
  std::optional<Failure> readOptions(llvm::StringRef json);
  std::optional<Failure> specialize(ModuleOp module);
  std::optional<Failure> checkFinal(ModuleOp module);
  std::optional<Failure> emit(ModuleOp module, llvm::StringRef stem);

  std::optional<Failure> chooseAlgorithms(ModuleOp module);

  std::string planPath, cacheDirectory, savePlan;
  llvm::SmallVector<int64_t> algorithms; // of the products, in the plan's order
  llvm::SmallVector<std::string> tunedFor; // library and GPU
  FinalPlanOptions options;
  bool threadsNamed = false;
  std::string diagnostics;
};
} // namespace

std::optional<Failure> Compilation::readOptions(llvm::StringRef json) {
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(json);
  if (!value) {
    llvm::consumeError(value.takeError());
    return Failure{2, "compiler options are not JSON"};
  }
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return Failure{2, "compiler options are not a JSON object"};
  options.worldSize = object->getInteger("world_size").value_or(1);
  options.threads = object->getInteger("threads").value_or(0);
  threadsNamed = options.threads > 0;
  if (!threadsNamed)
    options.threads = defaultThreads(options.worldSize);
  options.target = object->getString("target").value_or("cpu").str();
  options.chip = object->getString("chip").value_or("sm_90").str();
  options.keepCollectives = object->getBoolean("keep_collectives").value_or(false);
  savePlan = object->getString("save_plan").value_or("").str();
  if (const llvm::json::Array *list = object->getArray("algorithms"))
    for (const llvm::json::Value &item : *list)
      algorithms.push_back(item.getAsInteger().value_or(-1));
  if (const llvm::json::Array *list = object->getArray("tuned_for"))
    for (const llvm::json::Value &item : *list)
      tunedFor.push_back(item.getAsString().value_or("").str());
  if (llvm::any_of(algorithms, [](int64_t algorithm) { return algorithm < 0; }))
    return Failure{2, "compiler option 'algorithms' expects integers of at least 0"};
  if (!algorithms.empty() && (tunedFor.size() != 2 || !llvm::StringRef(tunedFor[0]).starts_with(kTunedLibrary)))
    return Failure{2, "compiler option 'algorithms' expects 'tuned_for', a cublasLt and a GPU"};
  return std::nullopt;
}

std::optional<Failure> Compilation::specialize(ModuleOp module) {
  options.fuse = !module->hasAttr(kNoFuseAttribute);
  if (failed(runPipeline(module, buildSpecializePipeline(options))))
    return Failure{1, diagnostics};
  return std::nullopt;
}

/// A final plan runs as it stands, or is refused with both values and the remedy.
std::optional<Failure> Compilation::checkFinal(ModuleOp module) {
  auto targets = module.getOps<plan::TargetOp>();
  if (targets.empty())
    return Failure{1, planPath + ": error: a final plan has a plan.target, but this one has none"};
  plan::TargetOp target = *targets.begin();
  if ((int64_t)target.getWorldSize() != options.worldSize)
    return Failure{1, llvm::formatv("{0}: error: this final plan is for {1} ranks, but {2} were started; run it with --nproc {1}, or specialize the portable plan anew", planPath,
                                    (int64_t)target.getWorldSize(), options.worldSize)};
  if (target.getTarget() != options.target)
    return Failure{1, llvm::formatv("{0}: error: this final plan is for target {1}, but {2} was asked for", planPath, target.getTarget(), options.target)};
  if (threadsNamed && (int64_t)target.getThreads() != options.threads)
    return Failure{1, llvm::formatv("{0}: error: this final plan is for {1} threads a rank, but {2} were asked for; its library workspaces depend on them", planPath, (int64_t)target.getThreads(),
                                    options.threads)};
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  const bool onCpu = target.getTarget() == "cpu"; // a GPU is asked by the ranks that have it
  llvm::SmallVector<llvm::StringRef> wanted, missing;
  if (onCpu)
    target.getFeatures().split(wanted, ',', -1, false);
  for (llvm::StringRef feature : wanted)
    if (feature.consume_front("+") && !host.lookup(feature))
      missing.push_back(feature);
  if (!missing.empty())
    return Failure{1, llvm::formatv("{0}: error: this final plan needs CPU features that this machine lacks: {1}; specialize the portable plan here", planPath, llvm::join(missing, ", "))};
  if (failed(runPipeline(module, "zopt-verify-plan")))
    return Failure{1, diagnostics};
  return std::nullopt;
}

/// Writes the algorithms of the products into the plan, and for what they were chosen behind the libraries of its target.
std::optional<Failure> Compilation::chooseAlgorithms(ModuleOp module) {
  if (algorithms.empty())
    return std::nullopt;
  llvm::SmallVector<plan::MatmulOp> products;
  for (auto sequence : module.getOps<plan::SequenceOp>())
    sequence.walk([&](plan::MatmulOp product) { products.push_back(product); });
  if (products.size() != algorithms.size())
    return Failure{1, llvm::formatv("{0}: error: this plan has {1} products, but algorithms for {2} were given", planPath, products.size(), algorithms.size())};
  Builder builder(module.getContext());
  for (auto [product, algorithm] : llvm::zip(products, algorithms))
    product.setAlgorithmAttr(builder.getI64IntegerAttr(algorithm));
  plan::TargetOp target = *module.getOps<plan::TargetOp>().begin();
  llvm::SmallVector<llvm::StringRef> libraries;
  for (auto library : target.getLibraries().getAsRange<StringAttr>()) {
    if (library.getValue().starts_with(kTunedLibrary))
      break;
    libraries.push_back(library.getValue());
  }
  libraries.append(tunedFor.begin(), tunedFor.end());
  target.setLibrariesAttr(builder.getStrArrayAttr(libraries));
  return std::nullopt;
}

/// The name of an object file: what it was made of, and the hash of its bytes; without that where it cannot be read.
static std::string objectName(llvm::StringRef stem, llvm::StringRef path, llvm::StringRef suffix) {
  auto bytes = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  return bytes ? llvm::formatv("{0}-{1:x-16}{2}", stem, llvm::xxh3_64bits((*bytes)->getBuffer()), suffix).str()
               : (stem + suffix).str();
}

/// Whether a program is in the cache, and its object as it was written: a machine that lost its power may have kept one
/// without the other.
static bool isWhole(llvm::StringRef programPath, llvm::StringRef stem) {
  runtime::Result<runtime::Program> program = runtime::readProgram(programPath.str());
  if (program.failed())
    return false;
  llvm::SmallString<256> object(llvm::sys::path::parent_path(programPath));
  llvm::sys::path::append(object, program->sharedObject);
  return objectName(stem, object, llvm::sys::path::extension(object)) == program->sharedObject;
}

std::optional<Failure> Compilation::emit(ModuleOp module, llvm::StringRef stem) {
  runtime::Program program;
  if (failed(convertPlanToProgram(module, program)))
    return Failure{1, diagnostics};
  std::string text;
  {
    llvm::raw_string_ostream stream(text);
    module.print(stream);
  }
  program.planHash = llvm::formatv("{0:x-16}", llvm::xxh3_64bits(text));
  const llvm::StringRef suffix = program.target == "cuda" ? ".ptx" : ".so";
  llvm::SmallString<256> object(cacheDirectory), named(cacheDirectory), file(cacheDirectory);
  llvm::sys::path::append(object, llvm::formatv("{0}.{1}{2}", stem, llvm::sys::Process::getProcessId(), suffix).str());
  llvm::sys::path::append(file, stem + ".program");
  if (failed(compileKernels(module, object)))
    return Failure{3, diagnostics};
  // Its name tells its bytes, so that who finds it knows whether it is whole.
  program.sharedObject = objectName(stem, object, suffix);
  llvm::sys::path::append(named, program.sharedObject);
  if (std::error_code error = llvm::sys::fs::rename(object, named))
    return Failure{3, llvm::formatv("{0}: error: cannot write: {1}", named, error.message())};
  // The Program is written last: where it is, its shared object is too.
  runtime::Status status = runtime::writeProgram(program, file.str().str());
  if (status.failed())
    return Failure{3, status.message()};
  programPath = file.str().str();
  return std::nullopt;
}

std::optional<Failure> Compilation::run(llvm::StringRef optionsJson) {
  if (std::optional<Failure> failure = readOptions(optionsJson))
    return failure;
  llvm::ErrorOr<std::unique_ptr<llvm::MemoryBuffer>> buffer = llvm::MemoryBuffer::getFile(planPath);
  if (!buffer)
    return Failure{1, llvm::formatv("{0}: error: cannot read: {1}", planPath, buffer.getError().message())};
  if (std::error_code error = llvm::sys::fs::create_directories(cacheDirectory))
    return Failure{3, llvm::formatv("{0}: error: cannot create: {1}", cacheDirectory, error.message())};

  std::string chosen = llvm::join(tunedFor, "|");
  for (int64_t algorithm : algorithms)
    chosen += llvm::formatv(" {0}", algorithm).str();
  std::string key = llvm::formatv("{0}|{1}|{2}|{3}|{4}|{5}|{6}|{7}|{8}", (*buffer)->getBuffer(), options.worldSize, options.threads, threadsNamed, options.target,
                                  options.target == "cpu" ? llvm::sys::getHostCPUName() : llvm::StringRef(options.chip), compilerFingerprint(), chosen, options.keepCollectives);
  std::string stem = llvm::formatv("{0:x-16}", llvm::xxh3_64bits(key));
  llvm::SmallString<256> cached(cacheDirectory);
  llvm::sys::path::append(cached, stem + ".program");
  if (savePlan.empty() && isWhole(cached, stem)) {
    programPath = cached.str().str();
    return std::nullopt;
  }

  DialectRegistry registry;
  registerAllDialects(registry);
  registerAllPasses();
  MLIRContext context(registry);
  context.printOpOnDiagnostic(false);
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
      return success();
    llvm::raw_string_ostream stream(diagnostics);
    if (!diagnostics.empty())
      stream << '\n';
    if (auto location = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
      stream << location.getFilename().getValue() << ':' << location.getLine() << ':' << location.getColumn();
    else
      stream << planPath;
    stream << ": error: " << diagnostic.str();
    return success();
  });
  ParserConfig config(&context);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>((*buffer)->getBuffer(), config, planPath);
  if (!module)
    return Failure{1, diagnostics};
  std::optional<Failure> failure;
  llvm::StringRef level = getLevel(*module);
  if (level == "explicit")
    failure = specialize(*module);
  else if (level == "final")
    failure = checkFinal(*module);
  else
    failure = Failure{1, llvm::formatv("{0}: error: a plan is expected (train.level explicit or final), but this module's level is '{1}'; compile it with zopt first", planPath, level)};
  if (!failure)
    failure = chooseAlgorithms(*module);
  if (failure)
    return failure;
  if (!savePlan.empty())
    if (std::optional<Failure> failed = writeWhole(savePlan, [&](llvm::raw_ostream &stream) { module->print(stream); }))
      return failed;
  return emit(*module, stem);
}

int zoptCompile(const char *planPath, const char *optionsJson, const char *cacheDirectory, char **programPath, char **error) {
  Compilation compilation(planPath, cacheDirectory);
  std::optional<Failure> failure = compilation.run(optionsJson);
  if (!failure) {
    *programPath = strdup(compilation.programPath.c_str());
    return 0;
  }
  *error = strdup(failure->text.c_str());
  return failure->code;
}
