//===- Weights.h - where a model's weights lie -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_WEIGHTS_H
#define ZOPT_LIB_IMPORT_WEIGHTS_H

#include "Importer.h"
#include "ModelFile.h"
#include "llvm/ADT/MapVector.h"
#include <memory>

namespace zopt::importer {

/// What PyTorch's exporter says of a value: a parameter or a buffer of the module (it names both), or computed from no data and neither of them.
enum class Source { Unknown, Parameter, Buffer, Computed };

/// A tensor of graph.initializer, or a large one of a Constant node.
struct Initializer {
  std::string name;
  const onnx::TensorProto *proto = nullptr;
  mlir::Type element; ///< in the graph
  mlir::Type stored;  ///< in the file
  Shape shape;
  int64_t bytes = 0; ///< in the file

  int file = -1; ///< index into WeightFiles; -1: the values are in the proto
  int64_t offset = 0;

  bool isFloat = false;
  bool parameter = false; ///< a parameter of the model, trained or frozen
  bool trained = false;
  bool used = false;  ///< by an op of the graph
  std::string reason; ///< why (not) trained, for --list-parameters
  Source source = Source::Unknown;
  const char *computed = nullptr; ///< what its values show it to be, if no parameter
  std::string sourceName;
  llvm::SmallVector<int64_t, 2> sourcePermutation;
  Initializer *tiedTo = nullptr; ///< the parameter that this is a copy of
  bool tiedTransposed = false;
  std::vector<std::string> tied; ///< names of copies of this one

  mlir::RankedTensorType stateType() const { return mlir::RankedTensorType::get(shape, element); }
};

/// The files that initializers lie in: the model itself and its external data.
class WeightFiles {
public:
  /// `path` is the model's, `model` is open.
  WeightFiles(const ModelFile &model, llvm::StringRef path, Problems &problems) : model(model), path(path), problems(problems) {}

  /// Finds a tensor's bytes. Reports types and sizes that are wrong, paths that leave the model's folder, files that are too short (errors) and absent (a warning each).
  bool locate(const onnx::TensorProto &proto, Initializer &result, llvm::StringRef name);

  /// The values of an initializer, where they are at hand and at most `limit` bytes.
  std::optional<Constant> read(const Initializer &initializer, int64_t limit);
  /// All its bytes, from the mapped file; empty where the file is missing.
  llvm::StringRef bytes(const Initializer &initializer);

  /// Makes the train.weight_file ops of the files that are referred to, at the builder's place; returns their symbols by index.
  std::vector<mlir::FlatSymbolRefAttr> emit(mlir::OpBuilder &builder, llvm::StringRef planDirectory, llvm::ArrayRef<bool> used);
  size_t count() const { return files.size(); }
  /// The name of the model's file, relative to the plan's folder.
  std::string modelPath(llvm::StringRef planDirectory) const;

private:
  struct File {
    std::string path, location;
    int64_t size = -1; ///< -1: missing
    std::unique_ptr<llvm::MemoryBuffer> buffer;
  };
  int addFile(llvm::StringRef path, llvm::StringRef location, int64_t size);
  std::optional<int> external(llvm::StringRef location, llvm::StringRef name);

  const ModelFile &model;
  std::string path;
  Problems &problems;
  std::vector<File> files;
  llvm::StringMap<std::optional<int>> known; ///< by location
};

/// Decides which initializers are parameters and which of them train; fills reasons, source names and ties. Warns of what the exporter merged or folded away.
void classifyParameters(const onnx::ModelProto &model, const FlatGraph &flat, llvm::MutableArrayRef<Initializer> initializers, WeightFiles &files, const ImportOptions &options, Problems &problems);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_WEIGHTS_H
