//===- ExporterTables.h - what an exporter computed --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_EXPORTERTABLES_H
#define ZOPT_LIB_IMPORT_EXPORTERTABLES_H

#include "Weights.h"

namespace zopt::importer {

/// What the graph does with an initializer.
enum class Slot {
  None,
  Contraction,
  Table,
  NormScale,
  NormBias,
  Bias,
  Scale,
  Elementwise,
  Statistics,
  Frequencies,
  Mask,
  Join
};

/// "['model.norm.weight', 'val_3']" -> its names.
llvm::SmallVector<std::string> parseNames(llvm::StringRef text);

/// Fills `source` and `sourceName` from what PyTorch's exporter wrote beside the values.
void readProvenance(const onnx::ModelProto &model, llvm::MutableArrayRef<Initializer> initializers);

/// Fills `computed` of float initializers of two or more axes that are only added, multiplied or read by index, and
/// whose values are those of a rotary or sinusoidal embedding or of ALiBi. `slots`: all uses of each. What lies in
/// files that are missing, or is larger than 32 MiB, is not looked at.
void findTables(llvm::MutableArrayRef<Initializer> initializers, llvm::ArrayRef<llvm::SmallVector<Slot>> slots,
                WeightFiles &files);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_EXPORTERTABLES_H
