//===- StepWithoutAllocationTest.cpp - data and metrics in a step ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What runs in every step promises to allocate nothing. This program counts its own allocations.
//
//===----------------------------------------------------------------------===//

#include "TemporaryFolder.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/Dataset.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include "zopt/Runtime/Monitor/Metrics.h"
#include "zopt/Runtime/Monitor/Trace.h"
#include <cstdlib>
#include <new>

namespace {
thread_local long allocations = 0;
} // namespace

void *operator new(size_t bytes) {
  ++allocations;
  if (void *memory = std::malloc(bytes ? bytes : 1))
    return memory;
  std::abort();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

using namespace zopt::runtime;

namespace {

constexpr int64_t kMicro = 4, kSequence = 3000; // more than one chunk of a conversion

Program someProgram() {
  Program program;
  program.mode = "train";
  program.microBatch = kMicro;
  for (auto [name, kind, type] : {std::tuple("input_ids", InputKind::Input, DataType::I64), std::tuple("image", InputKind::Input, DataType::F32),
                                  std::tuple("same", InputKind::Input, DataType::F32), std::tuple("labels", InputKind::Label, DataType::I64)}) {
    Input input;
    input.name = name;
    input.kind = kind;
    input.type = type;
    input.shape = {kMicro, kSequence};
    input.limit = isFloat(type) ? 0 : 100;
    program.inputs.push_back(input);
  }
  return program;
}

void fillWithoutAllocation(const Program &program, const DatasetOptions &options) {
  Result<std::unique_ptr<Dataset>> dataset = Dataset::open(program, options);
  ASSERT_FALSE(dataset.failed()) << dataset.getStatus().message();
  std::vector<std::vector<char>> buffers(program.inputs.size(), std::vector<char>(size_t(kMicro * kSequence * 8)));
  std::vector<void *> destinations;
  for (auto &buffer : buffers)
    destinations.push_back(buffer.data());
  long before = allocations;
  bool filled = true;
  for (int64_t step = 0; step < 5; ++step)
    filled &= (*dataset)->fill(step, 0, 0, destinations.data()).succeeded();
  long made = allocations - before;
  EXPECT_TRUE(filled);
  EXPECT_EQ(made, 0);
}

TEST(StepWithoutAllocation, CountsAllocations) {
  long before = allocations;
  // Seen from outside, so that it cannot be optimized away.
  static std::vector<int> *volatile vector;
  vector = new std::vector<int>(10);
  long made = allocations - before;
  delete vector;
  EXPECT_EQ(made, 2);
}

TEST(StepWithoutAllocation, Samples) {
  TemporaryFolder folder;
  constexpr int64_t samples = 10;
  std::string path = folder.path("data.safetensors");
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(
      path, {{"input_ids", DataType::I32, {samples, kSequence}, 0, 0}, {"image", DataType::U8, {samples, kSequence}, 0, 0}, {"same", DataType::F32, {samples, kSequence}, 0, 0}, {"labels", DataType::I64, {samples, kSequence}, 0, 0}});
  ASSERT_FALSE(writer.failed());
  std::vector<char> zeros(size_t(samples * kSequence * 8));
  for (auto [index, size] : {std::pair(0, 4), std::pair(1, 1), std::pair(2, 4), std::pair(3, 8)})
    ASSERT_TRUE(writer->write(size_t(index), 0, zeros.data(), samples * kSequence * size).succeeded());
  ASSERT_TRUE(writer->commit().succeeded());
  DatasetOptions options;
  fillWithoutAllocation(someProgram(), options); // synthetic
  options.files = {path};
  fillWithoutAllocation(someProgram(), options);
  options.shuffle = true;
  fillWithoutAllocation(someProgram(), options);
}

TEST(StepWithoutAllocation, MetricsAndTraces) {
  TemporaryFolder folder;
  Result<MetricsFile> file = MetricsFile::open(folder.path("run.jsonl"));
  ASSERT_FALSE(file.failed());
  StepEvent event;
  event.tokens = 1;
  event.loss = 1.0 / 3;
  event.lossScale = 65536;
  Command command;
  TraceBuffer buffer(100);
  bool wrote = true;
  long before = allocations;
  for (int i = 0; i < 200; ++i) {
    wrote &= file->write(event).succeeded();
    buffer.add(command, i, i + 1);
  }
  long made = allocations - before;
  EXPECT_TRUE(wrote);
  EXPECT_EQ(made, 0);
  EXPECT_EQ(buffer.dropped, 100);
}

} // namespace
