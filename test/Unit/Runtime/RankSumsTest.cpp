//===- RankSumsTest.cpp - sums over ranks on the device -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// The PTX of RankSums: that CUDA's assembler takes it, where there is one, and that it gives the bits of sumInRankOrder, where there is a GPU.
#include "../../../lib/Runtime/Device/CUDA/RankSums.h"
#include "TemporaryFolder.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Comm/RankOrderSum.h"
#include "zopt/Runtime/Core/DataType.h"
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;

namespace {

constexpr DataType kFloats[] = {DataType::F32, DataType::BF16, DataType::F16, DataType::F64};

TEST(RankSums, areTakenByTheAssembler) {
  if (std::system("ptxas --version > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "no ptxas on PATH";
  TemporaryFolder folder;
  for (DataType source : kFloats)
    for (DataType destination : kFloats)
      for (int width : {1, 2, 4}) {
        if (width == 4 && (source == DataType::F64 || destination == DataType::F64))
          continue; // more than 16 bytes
        std::string path = folder.path(rankSumSymbol(source, destination, width) + ".ptx");
        std::ofstream(path) << rankSumPtx(source, destination, width);
        for (const char *chip : {"sm_80", "sm_90"})
          EXPECT_EQ(std::system(concat("ptxas -arch=", chip, " ", path, " -o ", folder.path("out.cubin")).c_str()), 0) << path;
      }
}

/// Runs one sum on the device and on the host.
Status compare(DeviceContext &device, RankSums &sums, DataType source, DataType destination, int64_t elements, int world, int rank, bool accumulate, bool &equal) {
  const int64_t partBytes = elements * sizeOf(source), allBytes = partBytes * world, resultBytes = elements * sizeOf(destination);
  Result<void *> pinned = device.pinned(allBytes + resultBytes);
  ZOPT_RETURN_IF_FAILED(pinned.getStatus());
  char *values = static_cast<char *>(*pinned), *result = values + allBytes;
  std::mt19937 random(unsigned(elements * world + rank));
  std::normal_distribution<double> normal(0, 3);
  for (int64_t i = 0; i < elements * world; ++i)
    storeDouble(source, values, i, normal(random));
  for (int64_t i = 0; i < elements; ++i)
    storeDouble(destination, result, i, normal(random));
  std::vector<char> expected(result, result + resultBytes);
  std::vector<const void *> parts;
  for (int q = 0; q < world; ++q)
    parts.push_back(values + q * partBytes);
  sumInRankOrder(parts.data(), world, elements, source, expected.data(), destination, accumulate);

  CUdeviceptr own = 0, others = 0, sum = 0;
  ZOPT_CUDA(device.driver, cuMemAlloc, &own, size_t(allBytes));
  ZOPT_CUDA(device.driver, cuMemAlloc, &others, size_t(allBytes));
  ZOPT_CUDA(device.driver, cuMemAlloc, &sum, size_t(resultBytes));
  // Each part only where it is read: this rank's in the one buffer, those of the others in the other.
  ZOPT_CUDA(device.driver, cuMemsetD8Async, own, 0xff, size_t(allBytes), device.compute);
  ZOPT_CUDA(device.driver, cuMemsetD8Async, others, 0xff, size_t(allBytes), device.compute);
  for (int q = 0; q < world; ++q)
    ZOPT_CUDA(device.driver, cuMemcpyHtoDAsync, (q == rank ? own : others) + uint64_t(q * partBytes), values + q * partBytes, size_t(partBytes), device.compute);
  ZOPT_CUDA(device.driver, cuMemcpyHtoDAsync, sum, result, size_t(resultBytes), device.compute);
  ZOPT_RETURN_IF_FAILED(sums.run(device.compute, own, source, sum, destination, others, elements, world, rank, accumulate));
  ZOPT_CUDA(device.driver, cuMemcpyDtoHAsync, result, sum, size_t(resultBytes), device.compute);
  ZOPT_RETURN_IF_FAILED(device.await(device.compute));
  equal = std::memcmp(result, expected.data(), size_t(resultBytes)) == 0;
  for (CUdeviceptr memory : {own, others, sum})
    ZOPT_CUDA(device.driver, cuMemFree, memory);
  return success();
}

TEST(RankSums, giveTheBitsOfTheHostsSums) {
  if (Driver::load().failed())
    GTEST_SKIP() << Driver::load().getStatus().message();
  auto communicators = makeLocalWorld(1);
  Result<std::unique_ptr<DeviceContext>> device = DeviceContext::create(*communicators[0], 0, 60);
  ASSERT_FALSE(device.failed()) << device.getStatus().message();
  RankSums sums(**device);
  for (DataType source : kFloats)
    for (DataType destination : kFloats)
      for (int64_t elements : {1, 7, 128, 4096, 100000})
        for (int world : {1, 2, 5})
          for (bool accumulate : {false, true}) {
            bool equal = false;
            Status status = compare(**device, sums, source, destination, elements, world, world / 2, accumulate, equal);
            ASSERT_FALSE(status.failed()) << status.message();
            EXPECT_TRUE(equal) << nameOf(source) << " into " << nameOf(destination) << ", " << elements << " elements of " << world << " ranks, accumulate " << accumulate;
          }
}

} // namespace
