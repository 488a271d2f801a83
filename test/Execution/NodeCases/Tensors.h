//===- Tensors.h - the tensors of ONNX's node tests ---------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_EXECUTION_NODECASES_TENSORS_H
#define ZOPT_TEST_EXECUTION_NODECASES_TENSORS_H

#include "zopt/Runtime/Core/Program.h"
#include <onnx/onnx_pb.h>
#include <optional>
#include <string>
#include <vector>

namespace zopt::test {

/// A tensor of a type that a Program can hold; row-major bytes.
struct HostTensor {
  runtime::DataType type = runtime::DataType::F32;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

/// The type of a Program that holds elements of an ONNX type as they are; nothing for strings, quantized and complex types.
std::optional<runtime::DataType> dataTypeOf(int32_t onnxType);

/// The values of a TensorProto however it stores them; nothing where its type is none of a Program's or it has too few.
std::optional<HostTensor> readTensor(const onnx::TensorProto &proto);

/// Tolerances as those of numpy.testing.assert_allclose: |actual - expected| <= absolute + relative * |expected|, NaN equal to NaN; integers and bools are equal.
struct Tolerance {
  double relative = 1e-3, absolute = 1e-7;
};

/// What differs, with the first element that does; empty where nothing does.
std::string compare(const HostTensor &actual, const HostTensor &expected, const Tolerance &tolerance);

} // namespace zopt::test

#endif // ZOPT_TEST_EXECUTION_NODECASES_TENSORS_H
