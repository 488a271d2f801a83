//===- RankSums.h - sums over ranks on the device ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// sumInRankOrder (Comm/RankOrderSum.h) as a kernel: the same additions in the same order, so the same bits. Its PTX is written here, one module for each pair of types, because it belongs to no plan.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_CUDA_RANKSUMS_H
#define ZOPT_LIB_RUNTIME_DEVICE_CUDA_RANKSUMS_H

#include "DeviceContext.h"
#include "zopt/Runtime/Core/Program.h"
#include <map>
#include <string>
#include <tuple>

namespace zopt::runtime::cuda {

/// "zopt_sum_bf16_f32_4": the entry that takes `width` neighbouring elements a thread. Parameters: source, workspace, destination (pointers), elements a rank (u64), world, rank, accumulate (u32).
std::string rankSumSymbol(DataType source, DataType destination, int width);
/// A module with that entry. Float types only.
std::string rankSumPtx(DataType source, DataType destination, int width);

class RankSums {
public:
  explicit RankSums(DeviceContext &device) : device(device) {}
  ~RankSums();

  /// Loads what sums of these types need, outside of any capture.
  Status prepare(DataType source, DataType destination);

  /// destination = sum of part q of rank q, q = 0 .. world - 1, each of `elements`: this rank's own part lies in `source` [world * elements], those of the others in `workspace`, in their places.
  Status run(CUstream stream, CUdeviceptr source, DataType sourceType, CUdeviceptr destination, DataType destinationType, CUdeviceptr workspace, int64_t elements, int world, int rank, bool accumulate);

private:
  struct Entry {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
  };
  Status load(DataType source, DataType destination, int width);

  DeviceContext &device;
  std::map<std::tuple<DataType, DataType, int>, Entry> entries;
};

} // namespace zopt::runtime::cuda

#endif // ZOPT_LIB_RUNTIME_DEVICE_CUDA_RANKSUMS_H
