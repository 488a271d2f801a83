//===- LossTerms.h - what --loss says ----------------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TRANSFORMS_LOSSTERMS_H
#define ZOPT_TRANSFORMS_LOSSTERMS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include <optional>
#include <string>

namespace zopt {

/// What messages say of a loss that is not one.
constexpr llvm::StringLiteral kLossKinds =
    "cross_entropy, mse, bce_with_logits, l1, output, output:NAME or onnx:FILE, or a sum of such terms";

/// A part of a loss, `[WEIGHT*]KIND[:OUTPUT[:LABELS]]`, `[WEIGHT*]output[:NAME]` or `[WEIGHT*]onnx:FILE`.
struct LossTerm {
  double weight = 1;
  std::string kind;   ///< cross_entropy, mse, bce_with_logits, l1, output or onnx
  std::string output; ///< of the model; empty: as --logits says. Of onnx: the file
  std::string labels; ///< name in the data; empty: as --labels says
};

/// The terms of a loss, separated by '+', at least one. A '\' takes '+', ':', '*' and '\' into a name; the name of
/// `output` and the file of `onnx` have their ':' and '*' without it. Nothing where `text` is no loss: `error` says
/// why, "expected ..." behind the loss itself.
std::optional<llvm::SmallVector<LossTerm, 1>> parseLoss(llvm::StringRef text, std::string &error);

/// What the terms of a sum are called in metrics: each as it is written, without its weight and a file's folders; a
/// later one of the same name gets "#2", "#3", ... behind it.
llvm::SmallVector<std::string> nameTerms(llvm::ArrayRef<LossTerm> terms);

/// The numbers of a list, separated by ',', all finite and at least 0. Nothing, and `error`, otherwise.
std::optional<llvm::SmallVector<double>> parseWeights(llvm::StringRef text, std::string &error);

} // namespace zopt

#endif // ZOPT_TRANSFORMS_LOSSTERMS_H
