//===- NodeCases.cpp - runs ONNX's node tests -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   zopt-node-cases WORK < folders
//
// Each folder holds model.onnx and test_data_set_0/{input,output}_N.pb, and perhaps tolerance.txt ("relative
// absolute"). What `zopt --mode=forward` and `zrun` do to a case is done here in one process, without their files:
// import, both pipelines, kernels, an executor of one rank. Every case runs in a child of its own, so that a crash or a
// hang is that case's failure and nothing is shared but the loaded dialects. Prints one JSON object a case: {"case",
// "operator", "outcome", "known", "message", "seconds"}; "operator" is that of the graph's only node, or empty.
//
//   pass      every output has the type, shape and values of the suite
//   refused   the compiler said why not, by errors alone
//   failed    anything else: other values, a crash, an error of the run
//
// A case that is refused is tried again with inputs that hold shapes, axes and the like as initializers, where the
// compiler sees their values: first all of at most one axis but the first input of the graph, then the first one too,
// then those of more axes. "known" says how many inputs were made initializers. In a real model such values come from
// initializers or from shapes.
//
//===----------------------------------------------------------------------===//

#include "Tensors.h"
#include "zopt/Compiler/Compile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "zopt/Import/ImportOnnx.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Core/States.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sys/wait.h>
#include <unistd.h>

using namespace zopt;
using namespace zopt::test;
namespace fs = std::filesystem;

namespace {

/// Seconds after which a case is said to hang.
constexpr unsigned kPatience = 60;
/// Inputs that may become initializers have no more elements.
constexpr int64_t kMostKnownElements = 64;

struct Outcome {
  std::string kind, message;
  int known = 0;
  std::string op = {};
};

template <typename Proto>
bool parse(const fs::path &path, Proto &proto) {
  std::ifstream stream(path, std::ios::binary);
  return stream && proto.ParseFromIstream(&stream);
}

class Case {
public:
  Case(const fs::path &folder, const fs::path &work, mlir::MLIRContext &context) : folder(folder), work(work), context(context) {}

  Outcome run() {
    if (!parse(folder / "model.onnx", model))
      return {"failed", "model.onnx cannot be read"};
    Outcome outcome = attempt();
    outcome.op = model.graph().node_size() == 1 ? (model.graph().node(0).domain().empty() ? "" : model.graph().node(0).domain() + ".") + model.graph().node(0).op_type() : "";
    return outcome;
  }

private:
  Outcome attempt() {
    Outcome outcome = attempt({});
    for (auto [first, axes] : {std::pair(false, 1), std::pair(true, 1), std::pair(true, 3)}) {
      if (outcome.kind != "refused")
        break;
      std::vector<int> known = knowable(first, axes);
      if (known.empty())
        continue;
      Outcome again = attempt(known);
      if (again.kind != "refused")
        outcome = again;
    }
    return outcome;
  }

  /// Inputs that are initializers in a second try.
  std::vector<int> knowable(bool first, int axes) const {
    std::vector<int> result;
    for (int i = first ? 0 : 1; i < model.graph().input_size(); ++i) {
      onnx::TensorProto proto;
      if (parse(dataFile("input", i), proto) && proto.dims_size() <= axes && readTensor(proto) &&
          elements(proto) <= kMostKnownElements)
        result.push_back(i);
    }
    return result;
  }

  static int64_t elements(const onnx::TensorProto &proto) {
    int64_t count = 1;
    for (int64_t size : proto.dims())
      count *= size;
    return count;
  }

  fs::path dataFile(const char *kind, int i) const { return folder / "test_data_set_0" / (std::string(kind) + "_" + std::to_string(i) + ".pb"); }

  Outcome attempt(const std::vector<int> &known) {
    Outcome outcome = attemptOnce(known);
    outcome.known = int(known.size());
    return outcome;
  }

  Outcome attemptOnce(const std::vector<int> &known) {
    fs::path path = folder / "model.onnx";
    if (!known.empty()) {
      onnx::ModelProto changed = model;
      for (int i : known) {
        onnx::TensorProto proto;
        parse(dataFile("input", i), proto);
        proto.set_name(model.graph().input(i).name());
        *changed.mutable_graph()->add_initializer() = proto;
      }
      changed.mutable_graph()->clear_input();
      for (int i = 0; i < model.graph().input_size(); ++i)
        if (!llvm::is_contained(known, i))
          *changed.mutable_graph()->add_input() = model.graph().input(i);
      path = work / "model.onnx";
      std::ofstream stream(path, std::ios::binary);
      if (!changed.SerializeToOstream(&stream))
        return {"failed", "a model with known inputs cannot be written"};
    }

    std::string errors;
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
        errors += (errors.empty() ? "" : "; ") + diagnostic.str();
      return mlir::success();
    });
    ImportOptions options;
    options.planDirectory = work.string();
    options.quiet = true;
    mlir::OwningOpRef<mlir::ModuleOp> module = importOnnx(path.string(), options, &context);
    if (!module)
      return errors.empty() ? Outcome{"failed", "the import failed without an error"} : Outcome{"refused", errors};
    // A refusal is the importer's: what passes say of a graph that was imported is a mistake of ours.
    if (mlir::failed(mlir::verify(*module)))
      return {"failed", "imported: " + errors};
    StepOptions step;
    step.mode = Mode::Forward;
    BatchOptions batch;
    batch.accum = 1;
    FinalPlanOptions final;
    final.threads = 1;
    if (mlir::failed(runPipeline(*module, buildStepPipeline(step, batch))) || mlir::failed(runPipeline(*module, buildSpecializePipeline(final))))
      return {"failed", "compiled: " + errors};
    runtime::Program program;
    if (mlir::failed(convertPlanToProgram(*module, program)))
      return {"failed", "compiled: " + errors};
    const std::string object = (work / "kernels.so").string();
    if (!program.kernels.empty() && mlir::failed(compileKernels(*module, object)))
      return {"failed", "compiled: " + errors};
    runtime::Status status = execute(program, object);
    return status.failed() ? Outcome{"failed", status.message()} : Outcome{"pass", ""};
  }

  runtime::Status execute(const runtime::Program &program, const std::string &object) {
    using namespace runtime;
    Result<std::shared_ptr<KernelLibrary>> kernels = KernelLibrary::load(object, program);
    if (kernels.failed())
      return kernels.getStatus();
    std::vector<std::unique_ptr<Communicator>> world = makeLocalWorld(1);
    Result<std::unique_ptr<Executor>> executor = Executor::create(program, *kernels, *world[0], {});
    if (executor.failed())
      return executor.getStatus();
    InitializationOptions initialization;
    initialization.planDirectory = work.string();
    ZOPT_RETURN_IF_FAILED(initializeStates(**executor, initialization));
    Result<void *const *> destinations = (*executor)->inputs();
    if (destinations.failed())
      return destinations.getStatus();
    for (size_t i = 0; i < program.inputs.size(); ++i)
      ZOPT_RETURN_IF_FAILED(fill(program.inputs[i], (*destinations)[i]));
    ZOPT_RETURN_IF_FAILED((*executor)->run("forward"));
    Tolerance tolerance;
    if (std::ifstream stream(folder / "tolerance.txt"); stream)
      stream >> tolerance.relative >> tolerance.absolute;
    if (size_t(model.graph().output_size()) != program.outputs.size())
      return runtimeError("the program has ", program.outputs.size(), " outputs, expected ", model.graph().output_size());
    for (size_t i = 0; i < program.outputs.size(); ++i) {
      const Output &output = program.outputs[i];
      onnx::TensorProto proto;
      if (!parse(dataFile("output", int(i)), proto))
        return runtimeError("output_", i, ".pb cannot be read");
      std::optional<HostTensor> expected = readTensor(proto);
      if (!expected)
        return runtimeError("output_", i, ".pb has a type that no program has: ", proto.data_type());
      if (expected->type == DataType::U16 && model.graph().output(int(i)).type().tensor_type().elem_type() == onnx::TensorProto::BFLOAT16)
        expected->type = DataType::BF16;
      HostTensor actual{output.type, output.shape, std::vector<char>(size_t(elementCount(output.shape) * sizeOf(output.type)))};
      ZOPT_RETURN_IF_FAILED((*executor)->download(output.buffer, 0, actual.bytes.data(), int64_t(actual.bytes.size())));
      if (std::string difference = compare(actual, *expected, tolerance); !difference.empty())
        return runtimeError("output ", output.name, " ", difference);
    }
    return success();
  }

  runtime::Status fill(const runtime::Input &input, void *destination) const {
    using namespace runtime;
    for (int i = 0; i < model.graph().input_size(); ++i) {
      if (model.graph().input(i).name() != input.name)
        continue;
      onnx::TensorProto proto;
      if (!parse(dataFile("input", i), proto))
        return runtimeError("input_", i, ".pb cannot be read");
      std::optional<HostTensor> tensor = readTensor(proto);
      if (!tensor)
        return runtimeError("input_", i, ".pb has a type that no program has: ", proto.data_type());
      // The suite of onnx 1.12 stores bfloat16 as the bits of unsigned integers.
      if (tensor->type == DataType::U16 && input.type == DataType::BF16)
        tensor->type = DataType::BF16;
      if (tensor->shape != input.shape)
        return runtimeError("input ", input.name, " has shape ", shapeText(input.shape), ", but its data ", shapeText(tensor->shape));
      if (tensor->type != input.type)
        return runtimeError("input ", input.name, " has type ", nameOf(input.type), ", but its data ", nameOf(tensor->type));
      std::copy_n(reinterpret_cast<const char *>(tensor->bytes.data()), tensor->bytes.size(), static_cast<char *>(destination));
      return success();
    }
    return runtimeError("no input of the graph is named ", input.name);
  }

  fs::path folder, work;
  mlir::MLIRContext &context;
  onnx::ModelProto model;
};

std::string toJson(const fs::path &folder, const Outcome &outcome, double seconds) {
  llvm::json::Object object{{"case", folder.filename().string()}, {"operator", outcome.op}, {"outcome", outcome.kind}, {"known", outcome.known}, {"message", llvm::json::fixUTF8(outcome.message)}, {"seconds", seconds}};
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(object));
  return text;
}

/// Runs a case in a child and gives what it wrote, or what became of it.
std::string runApart(const fs::path &folder, const fs::path &work, mlir::MLIRContext &context) {
  const auto begin = std::chrono::steady_clock::now();
  auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  int pipeEnds[2];
  if (pipe(pipeEnds) != 0)
    return toJson(folder, {"failed", "pipe fails"}, 0);
  const pid_t child = fork();
  if (child == 0) {
    close(pipeEnds[0]);
    alarm(kPatience);
    const std::string text = toJson(folder, Case(folder, work, context).run(), seconds());
    for (size_t done = 0; done < text.size();) {
      const ssize_t written = write(pipeEnds[1], text.data() + done, text.size() - done);
      if (written <= 0)
        _exit(1);
      done += size_t(written);
    }
    _exit(0);
  }
  close(pipeEnds[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(pipeEnds[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, size_t(got));
  close(pipeEnds[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return text;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    return toJson(folder, {"failed", "hangs: still runs after " + std::to_string(kPatience) + " s"}, seconds());
  return toJson(folder, {"failed", WIFSIGNALED(status) ? std::string("crashes: ") + strsignal(WTERMSIG(status)) : "exits with " + std::to_string(WEXITSTATUS(status))}, seconds());
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::cerr << "usage: zopt-node-cases WORK < folders\n";
    return 2;
  }
  const fs::path work = argv[1];
  fs::create_directories(work);
  mlir::DialectRegistry registry;
  registerAllDialects(registry);
  registerAllPasses();
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  context.printOpOnDiagnostic(false);
  for (std::string folder; std::getline(std::cin, folder);)
    std::cout << runApart(folder, work, context) << std::endl;
  return 0;
}
