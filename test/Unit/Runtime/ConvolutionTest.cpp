//===- ConvolutionTest.cpp - convolutions by the library -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/Convolution.h"
#include "zopt/Runtime/Core/DataType.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace zopt::runtime;

namespace {

using Kind = Convolution::Kind;

MatmulOperand dense(DataType type, std::vector<int64_t> shape, bool channelsLast) {
  MatmulOperand tensor{type, shape, std::vector<int64_t>(shape.size())};
  int64_t stride = 1;
  auto place = [&](size_t axis) {
    tensor.strides[axis] = stride;
    stride *= shape[axis];
  };
  if (channelsLast)
    place(1);
  for (size_t axis = shape.size(); axis-- > 0;)
    if (!channelsLast || axis != 1)
      place(axis);
  return tensor;
}

/// Two axes of space, a window of 3 x 3.
Command commandOf(Kind kind, DataType type, int64_t batch, int64_t channels, int64_t outputs, int64_t size, int64_t stride, int64_t groups, bool bias, DataType weightType) {
  Command command;
  command.kind = Command::Kind::Convolution;
  command.convolution = {kind, {stride, stride}, {1, 1}, {1, 0, 1, 2}, groups};
  const int64_t high = (size + 2 - 3) / stride + 1, wide = (size + 2 - 3) / stride + 1;
  command.tensors = {dense(type, {batch, channels, size, size}, true), dense(weightType, {outputs, channels / groups, 3, 3}, false), dense(type, {batch, outputs, high, wide}, true)};
  if (bias)
    command.tensors.push_back(dense(type, {outputs}, false));
  command.buffers.assign(5, 0);
  return command;
}

int64_t at(const MatmulOperand &tensor, std::initializer_list<int64_t> index) {
  int64_t offset = 0;
  size_t axis = 0;
  for (int64_t i : index)
    offset += i * tensor.strides[axis++];
  return offset;
}

struct Buffers {
  std::vector<std::vector<char>> bytes;
  explicit Buffers(const Command &command) {
    std::mt19937 generator(1);
    std::uniform_int_distribution<int> draw(-8, 8);
    for (const MatmulOperand &tensor : command.tensors) {
      bytes.emplace_back(size_t(elementCount(tensor.shape) * sizeOf(tensor.type)));
      for (int64_t i = 0; i < elementCount(tensor.shape); ++i)
        storeDouble(tensor.type, bytes.back().data(), i, draw(generator) / 8.0);
    }
  }
};

/// What the command should write, by its definition.
std::vector<double> expectedOf(const Command &command, const Buffers &buffers) {
  const MatmulOperand &x = command.tensors[0], &w = command.tensors[1], &y = command.tensors[2];
  const int written = command.convolution.kind == Kind::Forward ? 2 : command.convolution.kind == Kind::InputGrad ? 0 : 1;
  std::vector<double> result(size_t(elementCount(command.tensors[size_t(written)].shape)));
  auto value = [&](int i, int64_t offset) { return loadAsDouble(command.tensors[size_t(i)].type, buffers.bytes[size_t(i)].data(), offset); };
  const int64_t groups = command.convolution.groups, inputs = w.shape[1], outputs = w.shape[0] / groups, stride = command.convolution.strides[0];
  if (written == 2 && command.tensors.size() > 3)
    for (int64_t n = 0; n < y.shape[0]; ++n)
      for (int64_t m = 0; m < y.shape[1]; ++m)
        for (int64_t i = 0; i < y.shape[2]; ++i)
          for (int64_t j = 0; j < y.shape[3]; ++j)
            result[size_t(at(y, {n, m, i, j}))] = value(3, m);
  for (int64_t n = 0; n < y.shape[0]; ++n)
    for (int64_t m = 0; m < y.shape[1]; ++m)
      for (int64_t i = 0; i < y.shape[2]; ++i)
        for (int64_t j = 0; j < y.shape[3]; ++j)
          for (int64_t c = 0; c < inputs; ++c)
            for (int64_t k = 0; k < 3; ++k)
              for (int64_t l = 0; l < 3; ++l) {
                const int64_t row = i * stride + k - command.convolution.pads[0], column = j * stride + l - command.convolution.pads[1];
                if (row < 0 || column < 0 || row >= x.shape[2] || column >= x.shape[3])
                  continue;
                const int64_t ofX = at(x, {n, m / outputs * inputs + c, row, column}), ofW = at(w, {m, c, k, l}), ofY = at(y, {n, m, i, j});
                if (written == 2)
                  result[size_t(ofY)] += value(0, ofX) * value(1, ofW);
                else if (written == 0)
                  result[size_t(ofX)] += value(1, ofW) * value(2, ofY);
                else
                  result[size_t(ofW)] += value(0, ofX) * value(2, ofY);
              }
  return result;
}

void check(const Command &command, int threads) {
  const int64_t planned = convolutionScratchBytes(command, threads);
  ASSERT_GE(planned, 0);
  Result<std::unique_ptr<ConvolutionPrimitive>> made = ConvolutionPrimitive::create(command, threads);
  ASSERT_FALSE(made.failed()) << made.getStatus().message();
  EXPECT_EQ((*made)->scratchBytes(), planned);
  Buffers buffers(command);
  std::vector<double> expected = expectedOf(command, buffers);
  const size_t written = command.convolution.kind == Kind::Forward ? 2 : command.convolution.kind == Kind::InputGrad ? 0 : 1;
  // Twice: the second run writes over the first's bits and gives the same.
  std::vector<char> scratch(size_t(planned) + 64), first;
  char *aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  for (int run = 0; run < 2; ++run) {
    Status status = (*made)->run(buffers.bytes[0].data(), buffers.bytes[1].data(), buffers.bytes[2].data(), command.tensors.size() > 3 ? buffers.bytes[3].data() : nullptr, aligned);
    ASSERT_FALSE(status.failed()) << status.message();
    if (run == 0)
      first = buffers.bytes[written];
  }
  EXPECT_EQ(first, buffers.bytes[written]);
  const DataType type = command.tensors[written].type;
  double largest = 1;
  for (double value : expected)
    largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(loadAsDouble(type, first.data(), int64_t(i)), expected[i], largest * (type == DataType::BF16 ? 1.0 / 256 : 1e-6)) << "element " << i;
}

TEST(Convolution, IsWhatItsDefinitionSays) {
  for (Kind kind : {Kind::Forward, Kind::InputGrad, Kind::WeightGrad})
    for (DataType type : {DataType::F32, DataType::BF16})
      for (int64_t stride : {1, 2})
        for (int64_t groups : {1, 2, 8})
          for (int threads : {1, 2}) {
            SCOPED_TRACE(testing::Message() << "kind " << int(kind) << " type " << int(type) << " stride " << stride << " groups " << groups << " threads " << threads);
            check(commandOf(kind, type, 2, 8, 16, 9, stride, groups, false, type), threads);
          }
}

TEST(Convolution, AddsABias) {
  check(commandOf(Kind::Forward, DataType::F32, 2, 3, 5, 8, 1, 1, true, DataType::F32), 2);
  check(commandOf(Kind::Forward, DataType::BF16, 2, 3, 5, 8, 1, 1, true, DataType::BF16), 2);
}

TEST(Convolution, GivesAWideGradientOfANarrowWeight) { check(commandOf(Kind::WeightGrad, DataType::BF16, 3, 16, 16, 8, 1, 1, false, DataType::F32), 2); }

TEST(Convolution, RefusesWhatIsNotPlanned) {
  Command wide = commandOf(Kind::Forward, DataType::F32, 1, 4, 4, 8, 1, 1, false, DataType::F32);
  wide.tensors[0] = dense(DataType::F32, {1, 4, 8, 8}, false);
  EXPECT_EQ(convolutionScratchBytes(wide, 1), -1) << "channels are not last";
  EXPECT_TRUE(ConvolutionPrimitive::create(wide, 1).failed());
  EXPECT_EQ(convolutionScratchBytes(commandOf(Kind::Forward, DataType::F64, 1, 4, 4, 8, 1, 1, false, DataType::F64), 1), -1);
  EXPECT_EQ(convolutionScratchBytes(commandOf(Kind::Forward, DataType::F32, 1, 4, 4, 8, 1, 1, false, DataType::BF16), 1), -1);
}

} // namespace
