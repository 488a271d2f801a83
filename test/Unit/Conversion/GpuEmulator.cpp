//===- GpuEmulator.cpp - runs GPU kernels on a CPU -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GpuEmulator.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>
#include <gtest/gtest.h>
#include <ucontext.h>

using namespace mlir;
using namespace zopt;
using namespace zopt::test;

//===----------------------------------------------------------------------===//
// A block's threads
//===----------------------------------------------------------------------===//

namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr int64_t kWarp = 32;

enum class State { Ready, AtBarrier, AtShuffle, Done };

struct Fiber {
  ucontext_t context;
  State state;
  int32_t word, distance;
};

struct RunningBlock {
  int64_t id = 0, blocks = 0;
  size_t running = 0;
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  void (*function)(char *const *, int64_t, int64_t);
  char *const *arguments;
  int64_t begin, end;

  void wait(State state) {
    fibers[running].state = state;
    swapcontext(&fibers[running].context, &scheduler);
  }
};

RunningBlock *block; // the one that runs

int64_t threadId() { return block->running; }
int64_t blockId() { return block->id; }
int64_t gridSize() { return block->blocks; }
void barrier() { block->wait(State::AtBarrier); }
int32_t shuffleXor(int32_t word, int32_t distance) {
  Fiber &fiber = block->fibers[block->running];
  fiber.word = word;
  fiber.distance = distance;
  block->wait(State::AtShuffle);
  return fiber.word;
}

void runFiber() {
  block->function(block->arguments, block->begin, block->end);
  block->fibers[block->running].state = State::Done;
}

std::vector<char> &stacks() {
  static std::vector<char> memory(kStackBytes * 1024);
  return memory;
}

/// Lets each thread that can run do so until it waits; then releases whoever waits for one another. False where nobody can go on.
bool step(RunningBlock &block, bool reversed) {
  const size_t threads = block.fibers.size();
  for (size_t i = 0; i < threads; ++i) {
    size_t thread = reversed ? threads - 1 - i : i;
    if (block.fibers[thread].state != State::Ready)
      continue;
    block.running = thread;
    swapcontext(&block.scheduler, &block.fibers[thread].context);
  }
  bool released = false;
  for (size_t first = 0; first < threads; first += kWarp) {
    MutableArrayRef<Fiber> warp = MutableArrayRef(block.fibers).slice(first, kWarp);
    if (!llvm::all_of(warp, [&](const Fiber &fiber) { return fiber.state == State::AtShuffle && fiber.distance == warp[0].distance; }))
      continue;
    int32_t words[kWarp];
    for (int64_t lane = 0; lane < kWarp; ++lane)
      words[lane] = warp[lane].word;
    for (int64_t lane = 0; lane < kWarp; ++lane) {
      warp[lane].word = words[lane ^ warp[lane].distance];
      warp[lane].state = State::Ready;
    }
    released = true;
  }
  if (llvm::all_of(block.fibers, [](const Fiber &fiber) { return fiber.state == State::AtBarrier; })) {
    for (Fiber &fiber : block.fibers)
      fiber.state = State::Ready;
    released = true;
  }
  return released;
}

} // namespace

void test::launchEmulated(void (*function)(char *const *, int64_t, int64_t), const EmulatedKernel &kernel, ArrayRef<char *> given, int64_t begin, int64_t end, bool reversed, int64_t blocks) {
  std::vector<std::vector<uint64_t>> workgroup;
  SmallVector<char *> arguments(given);
  for (size_t bytes : kernel.workgroupBytes) {
    workgroup.emplace_back(bytes / 8 + 9);
    arguments.push_back(reinterpret_cast<char *>(llvm::alignTo(reinterpret_cast<uintptr_t>(workgroup.back().data()), 64)));
  }
  RunningBlock running;
  running.function = function;
  running.arguments = arguments.data();
  running.begin = begin;
  running.end = end;
  running.fibers.resize(kernel.blockThreads);
  block = &running;
  if (!blocks)
    blocks = llvm::divideCeil(end - begin, kernel.blockIterations);
  running.blocks = blocks;
  for (int64_t id = 0; id < blocks; ++id) {
    running.id = reversed ? blocks - 1 - id : id;
    for (auto &memory : workgroup)
      std::memset(memory.data(), 0xA5, memory.size() * 8);
    for (auto [thread, fiber] : llvm::enumerate(running.fibers)) {
      fiber.state = State::Ready;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = stacks().data() + thread * kStackBytes;
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &running.scheduler;
      makecontext(&fiber.context, runFiber, 0);
    }
    while (step(running, reversed)) {
    }
    bool done = llvm::all_of(running.fibers, [](const Fiber &fiber) { return fiber.state == State::Done; });
    EXPECT_TRUE(done) << "threads of a block wait at different places";
    if (!done)
      break;
  }
  block = nullptr;
}

//===----------------------------------------------------------------------===//
// The kernels
//===----------------------------------------------------------------------===//

/// A call of a function of this process.
static Value call(OpBuilder &b, Location loc, const void *function, Type result, ValueRange arguments) {
  MLIRContext *context = b.getContext();
  auto type = LLVM::LLVMFunctionType::get(result ? result : LLVM::LLVMVoidType::get(context), SmallVector<Type>(arguments.getTypes()));
  Value address = LLVM::ConstantOp::create(b, loc, b.getI64IntegerAttr(reinterpret_cast<int64_t>(function)));
  SmallVector<Value> operands = {LLVM::IntToPtrOp::create(b, loc, LLVM::LLVMPointerType::get(context), address)};
  llvm::append_range(operands, arguments);
  auto op = LLVM::CallOp::create(b, loc, type, operands);
  return result ? op.getResult() : Value();
}

static void replaceGpuOp(Operation *op) {
  OpBuilder b(op);
  Location loc = op->getLoc();
  auto id = [&](int64_t (*function)()) -> Value {
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), call(b, loc, reinterpret_cast<const void *>(function), b.getI64Type(), {}));
  };
  if (isa<gpu::ThreadIdOp>(op)) {
    op->getResult(0).replaceAllUsesWith(id(threadId));
  } else if (isa<gpu::BlockIdOp>(op)) {
    op->getResult(0).replaceAllUsesWith(id(blockId));
  } else if (isa<gpu::GridDimOp>(op)) {
    op->getResult(0).replaceAllUsesWith(id(gridSize));
  } else if (isa<gpu::BarrierOp>(op)) {
    call(b, loc, reinterpret_cast<const void *>(barrier), Type(), {});
  } else if (auto shuffle = dyn_cast<gpu::ShuffleOp>(op)) {
    Type type = shuffle.getValue().getType();
    Value word = type.isF32() ? Value(arith::BitcastOp::create(b, loc, b.getI32Type(), shuffle.getValue())) : shuffle.getValue();
    word = call(b, loc, reinterpret_cast<const void *>(shuffleXor), b.getI32Type(), {word, shuffle.getOffset()});
    op->getResult(0).replaceAllUsesWith(type.isF32() ? Value(arith::BitcastOp::create(b, loc, type, word)) : word);
  } else {
    ADD_FAILURE() << "no emulation of " << op->getName().getStringRef().str();
    return;
  }
  op->erase();
}

llvm::StringMap<EmulatedKernel> test::emulateKernels(ModuleOp module) {
  module.getContext()->loadDialect<LLVM::LLVMDialect>();
  llvm::StringMap<EmulatedKernel> kernels;
  for (auto kernel : module.getOps<plan::KernelOp>()) {
    if (!kernel.getBlockThreads())
      continue;
    EmulatedKernel &emulated = kernels[kernel.getSymName()];
    emulated.blockThreads = *kernel.getBlockThreads();
    emulated.blockIterations = kernel.getBlockIterations().value_or(1);
    kernel.removeBlockThreadsAttr();
    kernel.removeBlockIterationsAttr();

    mlir::Block &body = kernel.getBody().front();
    OpBuilder b = OpBuilder::atBlockBegin(&body);
    for (BlockArgument argument : body.getArguments()) {
      if (!isa<FloatType>(argument.getType()))
        continue;
      Type type = argument.getType();
      Value zero = arith::ConstantIndexOp::create(b, kernel.getLoc(), 0);
      argument.setType(MemRefType::get({1}, type));
      auto load = memref::LoadOp::create(b, kernel.getLoc(), argument, ValueRange{zero});
      argument.replaceAllUsesExcept(load, load);
    }
    for (auto alloca : llvm::make_early_inc_range(body.getOps<memref::AllocaOp>())) {
      MemRefType type = alloca.getType();
      emulated.workgroupBytes.push_back(type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8));
      Value memory = body.insertArgument(body.getNumArguments() - 2, MemRefType::get(type.getShape(), type.getElementType()), alloca.getLoc());
      alloca.replaceAllUsesWith(memory);
      alloca->erase();
    }
    kernel.setFunctionType(b.getFunctionType(body.getArgumentTypes(), {}));
    SmallVector<Operation *> gpuOps;
    kernel->walk([&](Operation *op) {
      if (isa_and_nonnull<gpu::GPUDialect>(op->getDialect()))
        gpuOps.push_back(op);
    });
    for (Operation *op : gpuOps)
      replaceGpuOp(op);
  }
  return kernels;
}
