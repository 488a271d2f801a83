//===- ConfigFile.h - zopt's flags from a config -----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_COMPILER_CONFIGFILE_H
#define ZOPT_COMPILER_CONFIGFILE_H

#include "zopt/Config/Config.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/CommandLine.h"

namespace zopt {

/// A flag of the command line and its value as text; of one that may be repeated, values by line breaks.
struct FlagValue {
  llvm::cl::Option *option;
  std::string value;
};

/// The file of `--config`: what it says becomes occurrences of flags that the command line does not have.
class ConfigFile {
public:
  /// Reads `path`, prints the report, and sets flags. An exit code: 0, 1 if anything is refused, 3 if the file cannot be read. `ranks`: --nproc, 0 if not given.
  int apply(llvm::StringRef path, llvm::ArrayRef<FlagValue> flags, int64_t ranks, bool strict);

  /// The model of a job; empty where the config names none.
  const std::string &model() const { return resolved.model; }
  /// Flags of zrun, as zopt-record-settings takes them.
  std::string runSettings() const;

  /// Whether an "auto" waits for the model.
  bool needsModel() const { return resolved.needsHiddenSize; }
  /// Resolves such an "auto" from the parameters of a module of the forward level, and sets the flags that this adds.
  void applyModel(mlir::ModuleOp forward, llvm::ArrayRef<FlagValue> flags);

  /// The effective configuration as JSON: settings of the config, and `flags` that it does not speak of.
  void print(llvm::ArrayRef<FlagValue> flags, llvm::raw_ostream &stream) const;

private:
  void set(llvm::ArrayRef<FlagValue> flags, const config::Resolved &before);

  std::string path;
  std::string text;
  config::Request request;
  config::Resolved resolved;
};

/// The model's hidden size as far as its parameters tell: the most frequent dimension of trained matrices, the smaller of equally frequent ones. Nothing where there is no matrix.
std::optional<int64_t> getHiddenSize(mlir::ModuleOp forward);

} // namespace zopt

#endif // ZOPT_COMPILER_CONFIGFILE_H
