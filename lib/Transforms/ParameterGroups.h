//===- ParameterGroups.h - rates and decays by name --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Groups of parameters with a learning rate or a weight decay of their own, as text `REGEX:lr=X,weight-decay=Y`,
// several separated by ';'. The first group whose expression matches a parameter's name or source name is the
// parameter's.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_PARAMETERGROUPS_H
#define ZOPT_LIB_TRANSFORMS_PARAMETERGROUPS_H

#include "zopt/Dialect/Train/Train.h"
#include "llvm/Support/Regex.h"
#include <optional>
#include <string>

namespace zopt {

/// Whether an expression matches a state's name or its source name.
bool matches(const llvm::Regex &expression, train::StateOp state);

struct ParameterGroup {
  std::string text; ///< of the expression
  llvm::Regex expression;
  std::optional<double> learningRate, weightDecay;
  bool matched = false;
};

/// Reads groups; every problem of the text is told at `loc`.
mlir::FailureOr<llvm::SmallVector<ParameterGroup>> parseParameterGroups(mlir::Location loc, llvm::StringRef text);

/// The group of a state, which is marked as matched; null where it has none.
ParameterGroup *groupOf(llvm::MutableArrayRef<ParameterGroup> groups, train::StateOp state);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_PARAMETERGROUPS_H
