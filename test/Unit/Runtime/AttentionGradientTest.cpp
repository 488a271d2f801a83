//===- AttentionGradientTest.cpp - the gradients of attention on Hopper ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// What can be seen without a GPU: that CUDA's assembler takes the kernels, where there is one, with products that stay asynchronous, and what is launched by a driver that computes nothing.
// `zopt-gpu-library-benchmark` compares the values with f64 on a GPU.
#include "../../../lib/Runtime/Device/CUDA/AttentionGradient.h"
#include "TemporaryFolder.h"
#include "Variable.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Device/CUDA/AttentionRules.h"
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;

namespace {

TEST(AttentionGradient, isTakenByTheAssembler) {
  if (std::system("ptxas --version > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "no ptxas on PATH";
  TemporaryFolder folder;
  for (DataType type : {DataType::BF16, DataType::F16})
    for (int64_t width : {64, 128}) {
      const std::string path = folder.path(attentionGradientName(type, width) + ".ptx"), log = folder.path("log");
      std::ofstream(path) << attentionGradientPtx(type, width);
      EXPECT_EQ(std::system(concat("ptxas -v -arch=sm_90a ", path, " -o ", folder.path("out.cubin"), " > ", log, " 2>&1").c_str()), 0) << path;
      std::stringstream said;
      said << std::ifstream(log).rdbuf();
      EXPECT_EQ(said.str().find("serialized"), std::string::npos) << said.str();
    }
}

TEST(AttentionGradient, hasKernelsForPlannedWidthsAlone) {
  for (DataType type : {DataType::BF16, DataType::F16})
    for (int64_t width : {64, 128}) {
      const std::string ptx = attentionGradientPtx(type, width);
      EXPECT_NE(ptx.find(".target sm_90a"), std::string::npos);
      EXPECT_NE(ptx.find("zopt_attention_query_gradient_" + attentionGradientName(type, width) + "("), std::string::npos);
      EXPECT_NE(ptx.find("zopt_attention_key_value_gradient_" + attentionGradientName(type, width) + "("), std::string::npos);
    }
  EXPECT_STREQ(attentionGradientPtx(DataType::BF16, 96), "");
  EXPECT_STREQ(attentionGradientPtx(DataType::F32, 64), "");
}

class OnFakeDevice : public testing::Test {
protected:
  void SetUp() override {
    Result<const Driver *> loaded = Driver::load();
    ASSERT_FALSE(loaded.failed()) << loaded.getStatus().message();
    driver = *loaded;
    CUcontext context = nullptr;
    ASSERT_EQ(driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    ASSERT_EQ(driver->cuCtxSetCurrent(context), CUDA_SUCCESS);
    ASSERT_EQ(driver->cuMemAlloc(&memory, kBytes), CUDA_SUCCESS);
    ASSERT_EQ(driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0), CUDA_SUCCESS);
    command.kind = Command::Kind::AttentionGrad;
    command.ownKernels = command.causal = true;
    const MatmulOperand heads = {DataType::BF16, {2, 4, 100, 64}, {4 * 100 * 64, 100 * 64, 64, 1}}, keys = {DataType::BF16, {2, 2, 100, 64}, {2 * 100 * 64, 100 * 64, 64, 1}};
    command.tensors = {heads, keys, keys, heads, {DataType::F32, {2, 4, 100, 1}, {400, 100, 1, 1}}, heads, heads, keys, keys};
    buffers.assign(command.tensors.size() + 2, memory);
    buffers[AttentionTensors::GradMask] = 0;
  }

  static constexpr int64_t kBytes = 1 << 20, kScratch = 256 + 2 * 4 * 2 * 512;
  Variable library{"ZOPT_CUDA_LIBRARY_PATH", ZOPT_FAKE_CUDA};
  Variable unknown{"FAKE_CUDA_UNKNOWN_KERNELS", "1"};
  const Driver *driver = nullptr;
  CUdeviceptr memory = 0;
  CUstream stream = nullptr;
  Command command;
  std::vector<CUdeviceptr> buffers;
};

TEST_F(OnFakeDevice, runsTwoKernels) {
  AttentionGradientKernels kernels(*driver, 0);
  Result<std::unique_ptr<DeviceAttention>> made = kernels.prepare(command, buffers.data(), kScratch);
  ASSERT_FALSE(made.failed()) << made.getStatus().message();
  EXPECT_EQ((*made)->workspaceBytes(), kScratch);
  Variable third("FAKE_CUDA_FAIL", "cuLaunchKernel:3:700");
  EXPECT_FALSE((*made)->run(stream, buffers.data()).failed());
  EXPECT_TRUE((*made)->run(stream, buffers.data()).failed());
}

TEST_F(OnFakeDevice, refusesLittleWorkspace) {
  AttentionGradientKernels kernels(*driver, 0);
  Result<std::unique_ptr<DeviceAttention>> made = kernels.prepare(command, buffers.data(), kScratch - 1);
  ASSERT_TRUE(made.failed());
  EXPECT_EQ(made.getStatus().message(), concat("the gradient of attention takes ", kScratch, " bytes of workspace, but the plan has ", kScratch - 1));
}

TEST_F(OnFakeDevice, refusesOtherGpus) {
  Variable capability("FAKE_CUDA_CAPABILITY", "10");
  AttentionGradientKernels kernels(*driver, 0);
  Status status = kernels.load(command);
  ASSERT_TRUE(status.failed());
  EXPECT_EQ(status.message(), "this plan's gradients of attention are made by kernels for sm_90, but the GPU is an sm_100; compile the portable plan here, or for the chip sm_80");
}

} // namespace
