//===- OnnxWeights.h - trained weights back into the model ------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The model that was imported, with other weights: every node, name, attribute and constant is as the exporter wrote it. Links libonnx's protobuf classes, so zrun loads it with the compiler, in a child.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_EXPORT_ONNXWEIGHTS_H
#define ZOPT_EXPORT_ONNXWEIGHTS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Writes `modelPath` with the weights of the safetensors file `weightsPath`, which are named as its initializers and as the copies that were tied to them, to `outputPath`. Each is converted to the initializer's type.
 * Weights of more than `inlineBytes` together go into OUTPUT.data beside it, as ONNX external data. Returns 0, or an exit code of zrun (1: the weights are not this model's) and sets *error, which is malloc'ed, to one line a problem. */
int zoptExportOnnx(const char *modelPath, const char *weightsPath, const char *outputPath, long long inlineBytes, char **error);

#ifdef __cplusplus
}
#endif

#endif // ZOPT_EXPORT_ONNXWEIGHTS_H
