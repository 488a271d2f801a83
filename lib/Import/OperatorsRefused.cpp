//===- OperatorsRefused.cpp - operators that are not supported, and why -----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Importer.h"

namespace zopt::importer {

llvm::ArrayRef<Refusal> refusals() {
  static constexpr const char *strings = "it works on strings", *quantized = "it works on quantized types",
                              *shapes = "the shape of its result depends on the data",
                              *optimizer = "it is an optimizer, which --optimizer chooses";
  static const Refusal table[] = {
      {"ConvInteger", quantized},
      {"DequantizeLinear", quantized},
      {"DynamicQuantizeLinear", quantized},
      {"ImageDecoder", "the shape of its result depends on the data: the data set decodes files"},
      {"MatMulInteger", quantized},
      {"NonMaxSuppression", shapes},
      {"QLinearConv", quantized},
      {"QLinearMatMul", quantized},
      {"QuantizeLinear", quantized},
      {"RegexFullMatch", strings},
      {"StringConcat", strings},
      {"StringNormalizer", strings},
      {"StringSplit", strings},
      {"TfIdfVectorizer", strings},
      {"ai.onnx.preview.training.Adagrad", optimizer},
      {"ai.onnx.preview.training.Adam", optimizer},
      {"ai.onnx.preview.training.Momentum", optimizer},
  };
  return table;
}

llvm::StringRef refusalReason(llvm::StringRef name) {
  for (const Refusal &refusal : refusals())
    if (name == refusal.name)
      return refusal.reason;
  return "";
}

} // namespace zopt::importer
