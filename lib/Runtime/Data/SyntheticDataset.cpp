//===- SyntheticDataset.cpp - batches of random values --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DatasetKinds.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/SampleOrder.h"
#include <algorithm>
#include <cmath>

namespace zopt::runtime {

namespace {

/// Normal numbers that a sample of floats is a part of.
constexpr int64_t kNormals = int64_t(1) << 16;

/// Every value is a function of seed, input, sample and element, so it does not depend on ranks or accumulation. A sample of floats begins somewhere in a table of normal numbers: images are drawn at the
/// speed of a copy, so that a device does not wait for what measures it.
class SyntheticDataset : public Dataset {
public:
  SyntheticDataset(const Program &program, const DatasetOptions &options) : Dataset(program, options) {
    for (const Input &input : inputs) {
      uint64_t key = scramble(options.seed + 0x632be59bd9b4e019);
      for (unsigned char c : input.name)
        key = scramble(key + c + 1);
      keys.push_back(key);
    }
    auto isDrawn = [](const Input &input) { return isFloat(input.type) && input.kind != InputKind::Label && !isMadeInput(input); };
    if (std::any_of(inputs.begin(), inputs.end(), isDrawn))
      for (int64_t i = 0; i < kNormals; ++i)
        normals.push_back(float(normal(scramble(scramble(options.seed) + uint64_t(i)))));
    noteLines.push_back("no --data: runs synthetic batches of random values");
  }

protected:
  Status fillInput(size_t index, int64_t step, int64_t microStep, int64_t rank, void *destination) const override {
    const Input &input = inputs[index];
    if (isMadeInput(input)) {
      makeInput(input, destination);
      return success();
    }
    const int64_t elements = elementCount(input.shape) / micro;
    for (int64_t row = 0; row < micro; ++row) {
      const uint64_t sampleKey = scramble(keys[index] + uint64_t(placeOf(step, microStep, rank, row).position) * 0x9e3779b97f4a7c15);
      if (input.type == DataType::F32 && input.kind != InputKind::Label) {
        float *sample = static_cast<float *>(destination) + row * elements;
        int64_t from = int64_t(sampleKey % kNormals);
        for (int64_t k = 0; k < elements; from = 0) {
          const int64_t count = std::min(kNormals - from, elements - k);
          std::copy_n(normals.data() + from, count, sample + k);
          k += count;
        }
        continue;
      }
      for (int64_t k = 0; k < elements; ++k) {
        uint64_t bits = scramble(sampleKey + uint64_t(k) * 0xd1b54a32d192ed03);
        int64_t element = row * elements + k;
        if (isFloat(input.type))
          storeDouble(input.type, destination, element, input.kind == InputKind::Label ? uniform(bits) : double(normals[size_t((sampleKey + uint64_t(k)) % kNormals)]));
        else // where there is no limit, nothing but 0 and 1 is safe
          storeInteger(input.type, destination, element, below(bits, input.limit > 0 ? input.limit : 2));
      }
    }
    return success();
  }

private:
  static int64_t below(uint64_t bits, int64_t limit) {
    return int64_t(static_cast<unsigned __int128>(bits) * uint64_t(limit) >> 64);
  }
  /// In (0, 1), which every loss can take for a label.
  static double uniform(uint64_t bits) { return (double(bits >> 11) + 0.5) * 0x1p-53; }
  /// Box and Muller's, from two halves.
  static double normal(uint64_t bits) {
    double radius = (double(bits >> 32) + 0.5) * 0x1p-32, angle = double(bits & 0xffffffff) * 0x1p-32;
    return std::sqrt(-2 * std::log(radius)) * std::cos(6.283185307179586 * angle);
  }

  std::vector<uint64_t> keys; // one an input
  std::vector<float> normals;
};

} // namespace

Result<std::unique_ptr<Dataset>> openSyntheticDataset(const Program &program, const DatasetOptions &options) {
  for (const Input &input : program.inputs)
    if (isMadeInput(input))
      ZOPT_RETURN_IF_FAILED(checkMadeInput(program.model, input));
  return Result<std::unique_ptr<Dataset>>(std::make_unique<SyntheticDataset>(program, options));
}

} // namespace zopt::runtime
