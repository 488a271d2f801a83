//===- KernelHarness.cpp - runs the kernels of one op on data --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include "GpuEmulator.h"
#include "zopt/Conversion/KernelGeneration.h"
#include "zopt/Conversion/PlanToProgram.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/TargetParser/Host.h"
#include <gtest/gtest.h>
#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <random>

using namespace mlir;
using namespace zopt;
using namespace zopt::test;

std::string zopt::test::nameOf(Type type) {
  switch (type) {
  case Type::F64:
    return "f64";
  case Type::I64:
    return "i64";
  case Type::F32:
    return "f32";
  case Type::I32:
    return "i32";
  case Type::BF16:
    return "bf16";
  case Type::I8:
    return "i8";
  case Type::I1:
    return "i1";
  }
  return "";
}

namespace {

#ifdef ZOPT_TEST_EMULATED_GPU
constexpr bool kEmulatesGpu = true;
#else
constexpr bool kEmulatesGpu = false;
#endif

size_t bytesOf(test::Type type) {
  switch (type) {
  case test::Type::F64:
  case test::Type::I64:
    return 8;
  case test::Type::F32:
  case test::Type::I32:
    return 4;
  case test::Type::BF16:
    return 2;
  case test::Type::I8:
  case test::Type::I1:
    return 1;
  }
  return 0;
}

uint16_t toBf16(double value) {
  float single = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &single, 4);
  if (std::isnan(single))
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

double fromBf16(uint16_t half) {
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  float single;
  std::memcpy(&single, &bits, 4);
  return single;
}

template <typename T>
void put(char *to, double value) {
  T typed = static_cast<T>(value);
  std::memcpy(to, &typed, sizeof(T));
}
template <typename T>
double get(const char *from) {
  T typed;
  std::memcpy(&typed, from, sizeof(T));
  return static_cast<double>(typed);
}

void write(test::Type type, char *to, double value) {
  switch (type) {
  case test::Type::F64:
    return put<double>(to, value);
  case test::Type::F32:
    return put<float>(to, value);
  case test::Type::I64:
    return put<int64_t>(to, value);
  case test::Type::I32:
    return put<int32_t>(to, value);
  case test::Type::I8:
  case test::Type::I1:
    return put<uint8_t>(to, value);
  case test::Type::BF16: {
    uint16_t bits = toBf16(value);
    std::memcpy(to, &bits, 2);
    return;
  }
  }
}

double read(test::Type type, const char *from) {
  switch (type) {
  case test::Type::F64:
    return get<double>(from);
  case test::Type::F32:
    return get<float>(from);
  case test::Type::I64:
    return get<int64_t>(from);
  case test::Type::I32:
    return get<int32_t>(from);
  case test::Type::I8:
  case test::Type::I1:
    return get<uint8_t>(from);
  case test::Type::BF16: {
    uint16_t bits;
    std::memcpy(&bits, from, 2);
    return fromBf16(bits);
  }
  }
  return 0;
}

std::vector<int64_t> stridesOf(const Tensor &tensor) {
  if (!tensor.strides.empty())
    return tensor.strides;
  std::vector<int64_t> strides(tensor.shape.size());
  int64_t stride = 1;
  for (size_t axis = tensor.shape.size(); axis-- > 0; stride *= tensor.shape[axis])
    strides[axis] = stride;
  return strides;
}

constexpr unsigned char kPoison = 0xA5;
constexpr int64_t kGuard = 64;

/// The bytes of a tensor with its strides, guarded by poison. Element 0 is at an address aligned to 64, or one element after it.
struct Placed {
  Placed(const Tensor &tensor, bool filled, bool aligned = false) : type(tensor.type), strides(stridesOf(tensor)), shape(tensor.shape) {
    int64_t lowest = 0, highest = 0;
    for (size_t axis = 0; axis < shape.size(); ++axis)
      (strides[axis] < 0 ? lowest : highest) += (shape[axis] - 1) * strides[axis];
    size_t size = bytesOf(type);
    storage.assign((highest - lowest + 2) * size + 3 * kGuard, kPoison);
    auto address = reinterpret_cast<uintptr_t>(storage.data()) + kGuard;
    address = (address + 63) / 64 * 64;
    start = reinterpret_cast<char *>(address) + ((aligned ? 0 : 1) - lowest) * size;
    if (filled)
      forEach([&](char *element, int64_t index) { write(type, element, tensor.values[index]); });
  }

  void forEach(llvm::function_ref<void(char *, int64_t)> body) {
    int64_t count = 1;
    for (int64_t size : shape)
      count *= size;
    for (int64_t index = 0; index < count; ++index) {
      int64_t offset = 0, rest = index;
      for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis])
        offset += rest % shape[axis] * strides[axis];
      body(start + offset * static_cast<int64_t>(bytesOf(type)), index);
    }
  }

  /// Whether anything but the elements has changed from poison.
  bool guardsHold() {
    std::vector<unsigned char> copy = storage;
    forEach([&](char *element, int64_t) { std::memset(copy.data() + (reinterpret_cast<unsigned char *>(element) - storage.data()), kPoison, bytesOf(type)); });
    return llvm::all_of(copy, [](unsigned char byte) { return byte == kPoison; });
  }

  std::vector<double> values() {
    std::vector<double> result;
    forEach([&](char *element, int64_t) { result.push_back(read(type, element)); });
    return result;
  }

  test::Type type;
  std::vector<int64_t> strides, shape;
  std::vector<unsigned char> storage;
  char *start;
};

struct Compiler {
  Compiler() {
    context.loadDialect<train::TrainDialect, plan::PlanDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect, vector::VectorDialect, memref::MemRefDialect, scf::SCFDialect, gpu::GPUDialect>();
  }
  MLIRContext context;

  OwningOpRef<ModuleOp> parse(const std::string &text) {
    auto module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return module;
  }

  std::string processor; // empty: this machine's

  /// A module with a target and no kernels yet.
  OwningOpRef<ModuleOp> makePlan() {
    SmallVector<std::string> features;
    if (processor.empty())
      for (const auto &feature : llvm::sys::getHostCPUFeatures())
        features.push_back((feature.second ? "+" : "-") + feature.first().str());
    return parse("module {\n  plan.target \"cpu\" {world_size = 1, threads = 1, micro_batch = 1, accum_steps = 1, triple = \"" + llvm::sys::getDefaultTargetTriple() + "\", cpu = \"" +
                 (processor.empty() ? llvm::sys::getHostCPUName().str() : processor) + "\", features = \"" + llvm::join(features, ",") + "\", libraries = []}\n}");
  }

  /// PTX of the kernels, which the emulator does not need: whatever runs must compile, without a device library.
  std::string emitPtx(ModuleOp plan, StringRef chip) {
    OwningOpRef<ModuleOp> clone(plan.clone());
    plan::TargetOp target = *clone->getOps<plan::TargetOp>().begin();
    target.setTriple("nvptx64-nvidia-cuda");
    target.setCpu(chip);
    target.setFeatures("+ptx80");
    llvm::SmallString<128> path;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("zopt-kernels", "ptx", path));
    EXPECT_TRUE(succeeded(compileKernels(*clone, path)));
    auto text = llvm::MemoryBuffer::getFile(path);
    EXPECT_TRUE(text && (*text)->getBuffer().contains(".entry zopt_"));
    if (const char *folder = std::getenv("ZOPT_TEST_PTX_FOLDER")) {
      static int number = 0;
      llvm::sys::fs::copy_file(path, std::string(folder) + "/" + std::to_string(number++) + ".ptx");
    }
    llvm::sys::fs::remove(path);
    std::string ptx = text ? (*text)->getBuffer().str() : "";
    EXPECT_EQ(ptx.find("__nv_"), std::string::npos);
    EXPECT_EQ(ptx.find(".local"), std::string::npos) << "a kernel keeps an array in memory";
    return ptx;
  }

  /// Kernels for the GPU that the next library holds; empty on a CPU.
  llvm::StringMap<EmulatedKernel> emulated;

  std::unique_ptr<Library> compile(ModuleOp plan) {
    EXPECT_TRUE(succeeded(verify(plan)));
    if (kEmulatesGpu) {
      emitPtx(plan, "sm_90");
      emulated = emulateKernels(plan);
      EXPECT_TRUE(succeeded(verify(plan)));
    }
    llvm::SmallString<128> path;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("zopt-kernels", "so", path));
    EXPECT_TRUE(succeeded(compileKernels(plan, path)));
    auto library = std::make_unique<Library>(path.str().str());
    llvm::sys::fs::remove(path);
    return library;
  }
};

Compiler &compiler() {
  static Compiler instance;
  return instance;
}

constexpr KernelTarget kTarget = kEmulatesGpu ? KernelTarget::Gpu : KernelTarget::Cpu;

void launch(Library &library, StringRef kernel, ArrayRef<char *> arguments, int64_t begin, int64_t end, bool reversed, int64_t blocks = 0) {
  Library::Kernel function = library.get(kernel.str());
  if (!function)
    return;
  if (kEmulatesGpu)
    launchEmulated(function, compiler().emulated[kernel], arguments, begin, end, reversed, blocks);
  else
    function(arguments.data(), begin, end);
}

mlir::Type convert(test::Type type) { return parseType(nameOf(type), &compiler().context); }

std::string typeText(const Tensor &tensor) {
  std::string text = "tensor<";
  for (int64_t size : tensor.shape)
    text += std::to_string(size) + "x";
  return text + nameOf(tensor.type) + ">";
}

} // namespace

static bool totalsApart = false;
void test::setTotalsApart(bool apart) { totalsApart = apart; }

void test::setProcessor(const std::string &name) { compiler().processor = name; }

int64_t Tensor::count() const {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

double Tensor::at(const std::vector<int64_t> &index) const {
  int64_t linear = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis)
    linear = linear * shape[axis] + index[axis];
  return values[linear];
}

double test::roundTo(test::Type type, double value) {
  char bytes[8];
  write(type, bytes, value);
  return read(type, bytes);
}

Tensor test::random(test::Type type, std::vector<int64_t> shape, double low, double high, unsigned seed) {
  Tensor tensor{type, std::move(shape), {}, {}};
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> distribution(low, high);
  for (int64_t i = 0, count = tensor.count(); i < count; ++i)
    tensor.values.push_back(roundTo(type, type == test::Type::I64 || type == test::Type::I32 || type == test::Type::I1 ? std::floor(distribution(engine)) : distribution(engine)));
  return tensor;
}

Tensor test::full(test::Type type, std::vector<int64_t> shape, double value) {
  Tensor tensor{type, std::move(shape), {}, {}};
  tensor.values.assign(tensor.count(), roundTo(type, value));
  return tensor;
}

Library::Library(const std::string &path) : handle(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) { EXPECT_TRUE(handle) << dlerror(); }
Library::~Library() {
  if (handle)
    dlclose(handle);
}
Library::Kernel Library::get(const std::string &kernel) const {
  void *symbol = handle ? dlsym(handle, getKernelSymbol(kernel).c_str()) : nullptr;
  EXPECT_TRUE(symbol) << kernel;
  return reinterpret_cast<Kernel>(symbol);
}

/// The kernels of an op for buffers that are aligned to 64 bytes, or to their elements only.
static FailureOr<KernelPlan> generateInto(ModuleOp planModule, const std::string &text, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, bool aligned) {
  std::string function = "func.func private @f(";
  for (size_t i = 0; i < inputs.size(); ++i)
    function += (i ? ", %" : "%") + std::to_string(i) + ": " + typeText(inputs[i]);
  function += ") {\n  " + text + "\n  return\n}\n";
  OwningOpRef<ModuleOp> source = compiler().parse(function);
  if (!source)
    return failure();
  Operation *op = &(*source->getOps<func::FuncOp>().begin()).getBody().front().front();
  SmallVector<TensorLayout> layouts;
  for (const Tensor &tensor : llvm::concat<const Tensor>(inputs, outputs)) {
    std::vector<int64_t> strides = stridesOf(tensor);
    layouts.push_back(TensorLayout{convert(tensor.type), SmallVector<int64_t>(tensor.shape.begin(), tensor.shape.end()), SmallVector<int64_t>(strides.begin(), strides.end()),
                                   aligned ? 64 : static_cast<int64_t>(bytesOf(tensor.type))});
  }
  KernelGenerator generator(planModule, kTarget);
  generator.setTotalsApart(totalsApart);
  FailureOr<KernelPlan> kernels = generator.generate(op, layouts);
  EXPECT_TRUE(succeeded(kernels)) << text;
  if (succeeded(kernels) && kernels->joined)
    kernels->launches.push_back(generator.getJoined(*kernels, 2)); // what runPlaced runs beside the last
  return kernels;
}

/// Result 0 is in the buffer of operand `inPlaceOf` where that is not negative.
static std::vector<Tensor> runPlaced(const std::string &text, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, bool aligned, int inPlaceOf = -1) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  FailureOr<KernelPlan> kernels = generateInto(*planModule, text, inputs, outputs, aligned);
  if (failed(kernels))
    return {};
  std::unique_ptr<Library> library = compiler().compile(*planModule);

  std::vector<Tensor> results = outputs;
  for (bool inParts : {false, true}) {
    std::vector<std::unique_ptr<Placed>> buffers;
    for (const Tensor &input : inputs)
      buffers.push_back(std::make_unique<Placed>(input, true, aligned));
    for (const Tensor &output : outputs)
      buffers.push_back(std::make_unique<Placed>(output, false, aligned));
    for (auto [index, bytes] : llvm::enumerate(kernels->workspaces)) {
      const bool counts = int64_t(index) == kernels->counters;
      buffers.push_back(std::make_unique<Placed>(counts ? full(test::Type::F64, {(bytes + 7) / 8}, 0) : Tensor{test::Type::F64, {(bytes + 7) / 8}, {}, {}}, counts, kEmulatesGpu));
    }
    std::vector<std::vector<unsigned char>> before;
    for (size_t i = 0; i < inputs.size(); ++i)
      before.push_back(buffers[i]->storage);
    // Two ops at once where they may be joined: the first with results of its own, the second with those of the last launch, which it writes again.
    std::vector<std::unique_ptr<Placed>> others(outputs.size());
    for (const KernelLaunch &step : kernels->launches) {
      SmallVector<char *> arguments;
      const bool joins = kernels->joined && &step == &kernels->launches.back();
      for (unsigned argument : step.arguments) {
        if (joins) {
          ArrayRef<unsigned> single = kernels->launches[kernels->launches.size() - 2].arguments;
          const bool isFirst = argument < single.size();
          argument = single[argument % single.size()];
          if (const size_t output = argument - inputs.size(); isFirst && argument >= inputs.size() && output < outputs.size()) {
            others[output] = std::make_unique<Placed>(outputs[output], false, aligned);
            arguments.push_back(others[output]->start);
            continue;
          }
        }
        arguments.push_back(buffers[inPlaceOf >= 0 && argument == inputs.size() ? inPlaceOf : argument]->start);
      }
      StringRef kernel = step.kernel.getValue();
      int64_t third = step.extent / 3;
      if (inParts) {
        launch(*library, kernel, arguments, 2 * third, step.extent, true);
        launch(*library, kernel, arguments, third, 2 * third, true);
        launch(*library, kernel, arguments, 0, third, true);
      } else {
        launch(*library, kernel, arguments, 0, step.extent, false);
      }
    }
    for (size_t i = 0; i < others.size(); ++i)
      if (others[i])
        EXPECT_EQ(others[i]->values(), buffers[inputs.size() + i]->values()) << "result " << i << " of the first of two ops: " << text;
    for (size_t i = 0; i < inputs.size(); ++i)
      if (static_cast<int>(i) != inPlaceOf)
        EXPECT_EQ(before[i], buffers[i]->storage) << "operand " << i << " was written: " << text;
    for (size_t i = inputs.size() + outputs.size(); i < buffers.size(); ++i)
      EXPECT_TRUE(buffers[i]->guardsHold()) << "bytes around workspace " << i - inputs.size() - outputs.size() << " were written: " << text;
    if (kernels->counters >= 0)
      for (double counter : buffers[inputs.size() + outputs.size() + kernels->counters]->values())
        EXPECT_EQ(counter, 0) << "a counter is left: " << text;
    for (size_t i = 0; i < outputs.size(); ++i) {
      Placed &placed = *buffers[i == 0 && inPlaceOf >= 0 ? inPlaceOf : inputs.size() + i];
      EXPECT_TRUE(placed.guardsHold()) << "bytes around result " << i << " were written: " << text;
      std::vector<double> values = placed.values();
      if (inParts)
        EXPECT_EQ(0, std::memcmp(values.data(), results[i].values.data(), values.size() * 8)) << "the split changes result " << i << ": " << text;
      results[i].values = values;
    }
  }
  return results;
}

std::vector<Tensor> test::run(const std::string &text, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs) {
  std::vector<Tensor> results = runPlaced(text, inputs, outputs, /*aligned=*/false);
  if (!kEmulatesGpu)
    return results;
  std::vector<Tensor> wide = runPlaced(text, inputs, outputs, /*aligned=*/true);
  for (size_t i = 0; i < wide.size(); ++i)
    EXPECT_EQ(0, std::memcmp(wide[i].values.data(), results[i].values.data(), wide[i].values.size() * 8)) << "the alignment changes result " << i << ": " << text;
  return results;
}

void test::checkInPlace(const std::string &text, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, int operand) {
  for (bool aligned : {false, true}) {
    std::vector<Tensor> apart = runPlaced(text, inputs, outputs, aligned), inPlace = runPlaced(text, inputs, outputs, aligned, operand);
    for (size_t i = 0; i < apart.size(); ++i)
      EXPECT_EQ(0, std::memcmp(apart[i].values.data(), inPlace[i].values.data(), apart[i].values.size() * 8)) << "result " << i << " in place: " << text;
  }
}

std::string test::ptxOf(const std::string &text, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, const std::string &chip) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  if (failed(generateInto(*planModule, text, inputs, outputs, /*aligned=*/true)))
    return "";
  return compiler().emitPtx(*planModule, chip);
}

/// Runs a kernel of an optimizer, which `generate` makes.
static void runOptimizer(const std::string &optimizer, llvm::function_ref<FlatSymbolRefAttr(KernelGenerator &, train::OptimizerOp)> generate, std::vector<Tensor> &tensors, int64_t beginBlock, int64_t endBlock) {
  OwningOpRef<ModuleOp> source = compiler().parse(optimizer);
  if (!source)
    return;
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  FlatSymbolRefAttr symbol = generate(generator, *source->getOps<train::OptimizerOp>().begin());
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  std::vector<std::unique_ptr<Placed>> buffers;
  SmallVector<char *> arguments;
  for (const Tensor &tensor : tensors) {
    buffers.push_back(std::make_unique<Placed>(tensor, true, kEmulatesGpu));
    arguments.push_back(buffers.back()->start);
  }
  launch(*library, symbol.getValue(), arguments, beginBlock, endBlock, false);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(buffers[i]->guardsHold()) << "bytes around buffer " << i << " were written";
    tensors[i].values = buffers[i]->values();
  }
}

void test::runUpdate(const std::string &optimizer, test::Type computeType, test::Type gradientType, bool hasMaster, std::vector<Tensor> &tensors, int64_t beginBlock, int64_t endBlock, bool hasRate) {
  auto generate = [&](KernelGenerator &generator, train::OptimizerOp op) { return generator.getUpdateKernel(op, convert(computeType), convert(gradientType), hasMaster, hasRate); };
  runOptimizer(optimizer, generate, tensors, beginBlock, endBlock);
}

void test::runParameterNorms(const std::string &optimizer, test::Type computeType, test::Type gradientType, bool hasMaster, std::vector<Tensor> &tensors, int64_t beginBlock, int64_t endBlock, bool hasRate) {
  auto generate = [&](KernelGenerator &generator, train::OptimizerOp op) { return generator.getParameterNormsKernel(op, convert(computeType), convert(gradientType), hasMaster, hasRate); };
  runOptimizer(optimizer, generate, tensors, beginBlock, endBlock);
}

std::vector<double> test::runSquares(const Tensor &gradient) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  FlatSymbolRefAttr symbol = generator.getSquaresKernel(convert(gradient.type));
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  int64_t blocks = gradient.count() / 128;
  Placed input(gradient, true, kEmulatesGpu), output(Tensor{test::Type::F64, {blocks}, {}, {}}, false);
  launch(*library, symbol.getValue(), {input.start, output.start}, 0, blocks, false);
  EXPECT_TRUE(output.guardsHold());
  return output.values();
}

std::vector<int64_t> test::runSquareSums(const std::vector<Tensor> &gradients, int64_t begin, int64_t end, int64_t blocks) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  FlatSymbolRefAttr symbol = generator.getSquareSumsKernel(convert(gradients[0].type), gradients.size());
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  // The gradients in one array from the last to the first, 192 elements of NaN apart.
  constexpr int64_t kApart = 192;
  Tensor all{gradients[0].type, {}, {}, {}};
  std::vector<int64_t> list(3 * gradients.size()), words(kSumWords, 0);
  for (size_t i = gradients.size(); i-- > 0;) {
    list[3 * i] = all.values.size();
    all.values.insert(all.values.end(), gradients[i].values.begin(), gradients[i].values.end());
    all.values.insert(all.values.end(), kApart, std::nan(""));
  }
  for (size_t i = 0, block = 0; i < gradients.size(); ++i) {
    list[3 * i + 1] = block;
    list[3 * i + 2] = block += gradients[i].count() / 128;
  }
  all.shape = {static_cast<int64_t>(all.values.size())};
  Placed input(all, true, kEmulatesGpu);
  launch(*library, symbol.getValue(), {input.start, reinterpret_cast<char *>(list.data()), reinterpret_cast<char *>(words.data())}, begin, end, true, blocks);
  return words;
}

std::vector<int64_t> test::runAccumulate(const std::vector<double> &values) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  FlatSymbolRefAttr symbol = generator.getAccumulateKernel();
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  std::vector<double> sums = values;
  std::vector<int64_t> words(kSumWords, 0);
  char *input = reinterpret_cast<char *>(sums.data()), *output = reinterpret_cast<char *>(words.data());
  int64_t count = values.size(), half = count / 2;
  launch(*library, symbol.getValue(), {input, output}, half, count, true);
  launch(*library, symbol.getValue(), {input, output}, 0, half, false);
  return words;
}

std::vector<Tensor> test::runZeros(const std::vector<ZeroedKind> &kinds, const std::vector<Tensor> &buffers) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  SmallVector<ZeroedWords> words;
  for (const ZeroedKind &kind : kinds)
    words.push_back({kind.count, SmallVector<std::pair<int64_t, int64_t>>(kind.stretches.begin(), kind.stretches.end())});
  KernelLaunch made = generator.getZeroKernel(words);
  EXPECT_EQ(made.writes.size(), buffers.size());
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  std::vector<std::unique_ptr<Placed>> placed;
  SmallVector<char *> arguments;
  for (const Tensor &buffer : buffers) {
    placed.push_back(std::make_unique<Placed>(buffer, true));
    arguments.push_back(placed.back()->start);
  }
  launch(*library, made.kernel.getValue(), arguments, 0, made.extent, true);
  std::vector<Tensor> results = buffers;
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_TRUE(placed[i]->guardsHold());
    results[i].values = placed[i]->values();
  }
  return results;
}

double test::runNorm(test::Type normType, const std::vector<int64_t> &sliced, const std::vector<int64_t> &whole) {
  OwningOpRef<ModuleOp> planModule = compiler().makePlan();
  KernelGenerator generator(*planModule, kTarget);
  FlatSymbolRefAttr symbol = generator.getNormKernel(convert(normType));
  std::unique_ptr<Library> library = compiler().compile(*planModule);
  std::vector<int64_t> words = sliced;
  words.insert(words.end(), whole.begin(), whole.end());
  char norm[8];
  launch(*library, symbol.getValue(), {reinterpret_cast<char *>(words.data()), norm}, 0, 1, false);
  EXPECT_EQ(words, std::vector<int64_t>(words.size(), 0)) << "words are left";
  return read(normType, norm);
}

void test::expectNear(const Tensor &actual, const std::vector<double> &expected, double relative, double absolute) {
  ASSERT_EQ(actual.values.size(), expected.size());
  int shown = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double a = actual.values[i], e = expected[i];
    bool equal = std::isnan(e) ? std::isnan(a) : a == e || std::abs(a - e) <= absolute + relative * std::abs(e);
    if (!equal && ++shown <= 5)
      ADD_FAILURE() << "element " << i << " is " << a << ", expected " << e;
  }
}
