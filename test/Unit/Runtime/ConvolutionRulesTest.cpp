//===- ConvolutionRulesTest.cpp - which convolutions cuDNN takes -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/ConvolutionRules.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

MatmulOperand channelsLast(DataType type, std::vector<int64_t> shape) {
  MatmulOperand tensor{type, shape, std::vector<int64_t>(shape.size())};
  int64_t stride = shape[1];
  tensor.strides[1] = 1;
  for (size_t axis = shape.size(); axis-- > 2; stride *= shape[axis])
    tensor.strides[axis] = stride;
  tensor.strides[0] = stride;
  return tensor;
}

Command line(DataType type) {
  Command command;
  command.kind = Command::Kind::Convolution;
  command.convolution = {Convolution::Kind::Forward, {2}, {1}, {1, 0}, 2};
  command.tensors = {channelsLast(type, {3, 8, 20}), channelsLast(type, {16, 4, 3}), channelsLast(type, {3, 16, 10})};
  return command;
}

std::string problemOf(const Command &command) {
  Result<ConvolutionMapping> mapping = mapConvolution(command);
  EXPECT_EQ(convolutionScratchBytes(command) < 0, mapping.failed());
  return mapping.failed() ? mapping.getStatus().message() : "";
}

TEST(ConvolutionRules, OneAxisOfSpaceIsTakenForTwo) {
  for (DataType type : {DataType::BF16, DataType::F16, DataType::F32}) {
    Result<ConvolutionMapping> mapping = mapConvolution(line(type));
    ASSERT_FALSE(mapping.failed()) << mapping.getStatus().message();
    EXPECT_THAT(mapping->tensors[0].shape, ElementsAre(3, 8, 1, 20));
    EXPECT_THAT(mapping->tensors[0].strides, ElementsAre(160, 1, 160, 8));
    EXPECT_THAT(mapping->tensors[1].shape, ElementsAre(16, 4, 1, 3));
    EXPECT_THAT(mapping->strides, ElementsAre(1, 2));
    EXPECT_THAT(mapping->begins, ElementsAre(0, 1));
    EXPECT_THAT(mapping->ends, ElementsAre(0, 0));
  }
}

TEST(ConvolutionRules, RefusesWhatMustBeCopiedOrLooped) {
  EXPECT_THAT(problemOf(line(DataType::F64)), HasSubstr("a convolution in f64; the library has bf16, f16 and f32"));
  Command command = line(DataType::BF16);
  command.tensors[0].strides = {160, 20, 1};
  EXPECT_THAT(problemOf(command), HasSubstr("not dense with channels last"));
  command = line(DataType::BF16);
  command.convolution.pads = {-1, 2};
  EXPECT_THAT(problemOf(command), HasSubstr("the library takes none below 0"));
  command = line(DataType::BF16);
  command.tensors[1].type = DataType::F32;
  EXPECT_THAT(problemOf(command), HasSubstr("has a tensor of f32"));
  command.convolution.kind = Convolution::Kind::WeightGrad;
  EXPECT_EQ(problemOf(command), "");
  command.byteOffsets = {0, 8, 0};
  EXPECT_THAT(problemOf(command), HasSubstr("starts at byte 8, which is not a multiple of 16"));
  command = line(DataType::BF16);
  command.tensors.push_back({DataType::BF16, {16}, {1}});
  EXPECT_THAT(problemOf(command), HasSubstr("has 4 tensors"));
}

} // namespace
