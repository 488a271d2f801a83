//===- Importer.h - one graph on its way into the train dialect --*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Nodes are visited once, in the file's order. A node whose inputs are known is folded to a Constant and leaves no op; where an op then needs such a value as an operand, it is
// written as a literal, an iota or a triangle, or else the node that made it is lowered after all. So shape arithmetic disappears, masks become three ops, and what is too
// large for a literal (rotary tables) is computed where it is used.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_IMPORTER_H
#define ZOPT_LIB_IMPORT_IMPORTER_H

#include "Constant.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Import/ImportOnnx.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include <deque>
#include <onnx/onnx_pb.h>

namespace zopt::importer {

class GraphImporter;
class NodeImporter;
struct Initializer;
class WeightFiles;

/// Collects what is wrong with a model: one diagnostic a problem, at "<file>:<node>". The same problem of the same node is said once.
class Problems {
public:
  Problems(mlir::MLIRContext *context, llvm::StringRef file, bool silent = false, bool quiet = false) : context(context), file(file), silent(silent), quiet(quiet || silent) {}
  void error(llvm::StringRef node, const llvm::Twine &message);
  void warning(llvm::StringRef node, const llvm::Twine &message);
  void remark(const llvm::Twine &message);
  int64_t errors() const { return count; }
  mlir::MLIRContext *getContext() const { return context; }

private:
  mlir::Location at(llvm::StringRef node) const;
  bool isNew(llvm::StringRef node, const llvm::Twine &message);
  mlir::MLIRContext *context;
  llvm::StringSet<> said;
  std::string file;
  bool silent, quiet; ///< quiet: no remarks
  int64_t count = 0;
};

/// The element type in the training graph. Half precisions import as f32: the compute precision is the user's choice, not the file's. Unsigned integers are ui8 to ui64.
/// Null for strings, complex numbers and what ONNX added for quantization.
mlir::Type convertElementType(int32_t onnxType, mlir::MLIRContext *context);
/// The element type of the graph's inputs and outputs: the same, but halves as they are.
mlir::Type declaredElementType(int32_t onnxType, mlir::MLIRContext *context);
/// For messages: the number, and the name where libonnx knows it.
std::string elementTypeName(int32_t onnxType);
Element convertElement(mlir::Type type);
std::string describe(llvm::ArrayRef<int64_t> shape);

/// A value of the ONNX graph.
struct Tensor {
  mlir::Type element; ///< null: unknown, because of an error that has been reported
  Shape shape;
  std::optional<Constant> constant;
  mlir::Value value;                           ///< null until an op needs it
  const onnx::NodeProto *producer = nullptr;   ///< null for inputs and initializers
  Tensor *alias = nullptr;                     ///< the value that this one is another name of
  Initializer *initializer = nullptr;
  std::shared_ptr<const std::vector<Tensor *>> sequence; ///< of a sequence: its elements; `element` is NoneType
  bool none = false;                                     ///< an optional that holds nothing; `element` is NoneType
};

/// Operator::operands of operators that have no optional ones: all that a node names.
constexpr int kAllOperands = -1;

/// An ONNX operator. `lower` makes ops; `fold`, where there is one, makes constants if all inputs are known and returns whether it could. What `fold` leaves, `lower` reports.
struct Operator {
  const char *name;
  int since; ///< first opset of its meaning here that imports
  llvm::LogicalResult (*lower)(NodeImporter &node);
  bool (*fold)(NodeImporter &node);
  const char *becomes; ///< ops of the training graph, for --list-ops
  bool differentiable;
  int operands = 1; ///< the first so many must be there
};
llvm::ArrayRef<Operator> operators();
/// By name; those of other domains are "domain.Name".
const Operator *findOperator(llvm::StringRef name);
const Operator *findOperator(const onnx::NodeProto &node);
/// Why an operator that is known is not supported; empty for others.
llvm::StringRef refusalReason(llvm::StringRef name);
struct Refusal {
  const char *name, *reason;
};
llvm::ArrayRef<Refusal> refusals();

/// What an operator's `lower` and `fold` see of a node. Getters report problems themselves and return null, nothing or failure.
class NodeImporter {
public:
  NodeImporter(GraphImporter &graph, const onnx::NodeProto &node);

  GraphImporter &graph;
  const onnx::NodeProto &proto;
  mlir::OpBuilder &builder;
  mlir::Location loc;

  llvm::LogicalResult error(const llvm::Twine &message);

  int inputs() const { return proto.input_size(); }
  bool has(int i) const { return i < proto.input_size() && !proto.input(i).empty(); }
  bool wants(int i) const { return i < proto.output_size() && !proto.output(i).empty(); }
  const Tensor &input(int i) const;
  llvm::ArrayRef<int64_t> shape(int i) const { return input(i).shape; }
  int64_t rank(int i) const { return input(i).shape.size(); }
  mlir::Type element(int i) const { return input(i).element; }
  const Constant *constant(int i) const { return has(i) && input(i).constant ? &*input(i).constant : nullptr; }
  /// A small integer operand that must be known: axes, shapes, bounds. Called once for each, so a problem is said once.
  mlir::FailureOr<llvm::SmallVector<int64_t, 8>> integers(int i, const char *what);

  int64_t attribute(llvm::StringRef name, int64_t otherwise);
  double attribute(llvm::StringRef name, double otherwise);
  llvm::StringRef attribute(llvm::StringRef name, llvm::StringRef otherwise);
  std::optional<llvm::SmallVector<int64_t, 8>> attributeInts(llvm::StringRef name);
  const onnx::AttributeProto *find(llvm::StringRef name);
  /// An axis in [-rank, rank) as one in [0, rank).
  mlir::FailureOr<int64_t> axis(int64_t axis, int64_t rank);
  mlir::FailureOr<llvm::SmallVector<int64_t, 8>> axes(llvm::ArrayRef<int64_t> axes, int64_t rank);

  /// Input i as an op's operand, in its full shape.
  mlir::Value operand(int i);
  /// The same for ops that broadcast: a constant may lack axes along which it does not change.
  mlir::Value broadcastingOperand(int i);

  void result(int i, mlir::Value value);
  void result(int i, Constant constant, mlir::Type element);
  /// A result without elements.
  void empty(int i, llvm::ArrayRef<int64_t> shape, mlir::Type element);
  /// Output i is input j.
  void forward(int i, int j);

  mlir::RankedTensorType type(llvm::ArrayRef<int64_t> shape, mlir::Type element) { return mlir::RankedTensorType::get(shape, element); }
  mlir::Value reshape(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  mlir::Value transpose(mlir::Value value, llvm::ArrayRef<int64_t> permutation);
  mlir::Value broadcastTo(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  mlir::Value splat(double value, mlir::Type element);
  template <typename Op> mlir::Value binary(mlir::Value a, mlir::Value b) {
    auto ta = llvm::cast<mlir::RankedTensorType>(a.getType()), tb = llvm::cast<mlir::RankedTensorType>(b.getType());
    return Op::create(builder, loc, type(*broadcast(ta.getShape(), tb.getShape()), ta.getElementType()), a, b);
  }
};

/// The values of a TensorProto that holds them itself, in `shape`; nothing where it does not hold as many. Strings and quantized types are no constants.
std::optional<Constant> constantOf(const onnx::TensorProto &tensor, llvm::ArrayRef<int64_t> shape);
/// The same from raw bytes, little-endian.
std::optional<Constant> constantOf(int32_t onnxType, llvm::StringRef bytes, llvm::ArrayRef<int64_t> shape);
/// Bytes of an element in a file; 0 for types that are not whole bytes.
int64_t elementBytes(int32_t onnxType);

/// Calls `visit` for every node of a node's bodies, and of theirs.
void forEachBodyNode(const onnx::NodeProto &node, llvm::function_ref<void(const onnx::NodeProto &)> visit);
/// Calls `visit` for every body of a node, and theirs.
void forEachBody(const onnx::NodeProto &node, llvm::function_ref<void(const onnx::GraphProto &)> visit);

/// The functions of a model put in place of their calls, and the graph's own nodes, in order. Owns the copies.
class FlatGraph {
public:
  /// Reports cycles of calls and calls with too many inputs.
  FlatGraph(const onnx::ModelProto &model, Problems &problems);
  llvm::ArrayRef<const onnx::NodeProto *> nodes() const { return list; }

private:
  void append(const onnx::NodeProto &node, unsigned depth);
  bool callsInBodies(const onnx::NodeProto &node) const;
  void flattenBodies(onnx::NodeProto &node, unsigned depth);
  llvm::StringMap<const onnx::FunctionProto *> functions;
  llvm::StringMap<unsigned> scopes; ///< of calls so far
  std::vector<const onnx::NodeProto *> list;
  std::vector<std::unique_ptr<onnx::NodeProto>> owned;
  Problems &problems;
};

/// Sizes of symbolic dimensions.
using Dimensions = llvm::StringMap<int64_t>;

class GraphImporter {
public:
  GraphImporter(const onnx::ModelProto &model, const FlatGraph &flat, llvm::MutableArrayRef<Initializer> initializers, const Dimensions &dimensions, const ImportOptions &options, Problems &problems,
                mlir::MLIRContext *context);

  /// Reads the values of the initializers that are not parameters, where they are small enough to fold or to be literals.
  void loadConstants(WeightFiles &files);
  /// Fills `function`, an empty @forward in a module.
  void run(mlir::func::FuncOp function);

  /// Where a table bounds a length: for each Gather of an initializer by a progression that starts at `first` and has `count` indices, the rows behind `first`.
  struct TableUse {
    int64_t count, rows;
  };
  llvm::ArrayRef<TableUse> tableUses() const { return uses; }

  Tensor *find(llvm::StringRef name);
  /// The value of that name, which a node makes.
  Tensor &make(llvm::StringRef name) { return tensors[name]; }
  /// The element type of a value as the model declares it, where halves are what they are; null for one that is f32
  /// here and of which the model says nothing.
  mlir::Type declaredType(llvm::StringRef name);
  /// A value without a name of its own.
  Tensor *hide(Tensor tensor);
  /// ControlFlow.cpp: the nodes of a body (of If, Loop or Scan) as if they stood here. `inputs` are the body's; its own names get `scope` as a prefix, others are looked up around it. False: an error was
  /// reported, one of which is that bodies are nested too deep or make too many nodes.
  bool importBody(const onnx::GraphProto &body, const std::string &scope, llvm::ArrayRef<Tensor *> inputs, llvm::SmallVectorImpl<Tensor *> &outputs);
  /// The attribute of that name that is a graph; null where there is none.
  const onnx::GraphProto *body(const onnx::NodeProto &node, llvm::StringRef name);
  /// The initializers that hold the tensors of bodies.
  const llvm::DenseMap<const onnx::TensorProto *, std::string> *bodyTensors = nullptr;
  mlir::Value materialize(Tensor &tensor, bool full);
  void noteTable(int64_t count, int64_t rows) { uses.push_back({count, rows}); }

  int64_t opset = 0;
  int64_t dropouts = 0; ///< so far: the id of the next
  const ImportOptions &options;
  Problems &problems;
  mlir::OpBuilder builder;
  mlir::MLIRContext *context;

private:
  friend class NodeImporter;
  void visit(const onnx::NodeProto &node);
  llvm::LogicalResult lower(const onnx::NodeProto &node);
  mlir::Value materializeConstant(const Constant &constant, mlir::Type element, mlir::Location loc, bool full);

  const onnx::ModelProto &model;
  const FlatGraph &flat;
  llvm::MutableArrayRef<Initializer> initializers;
  const Dimensions &dimensions;
  llvm::StringMap<Tensor> tensors;
  std::vector<TableUse> uses;

  // Bodies.
  std::string resolve(llvm::StringRef name) const;
  std::deque<Tensor> hidden;
  std::deque<onnx::NodeProto> bodyNodes;                                        ///< with names of this graph, without their bodies
  llvm::DenseMap<const onnx::NodeProto *, const onnx::NodeProto *> bodiesOf;    ///< where those of a node are
  llvm::SmallVector<const llvm::StringMap<std::string> *, 4> scopes;            ///< names in the bodies that are being imported, innermost last
};

/// The size of an input's dimension: its value, or its expression of symbols ("seq + 1", "seq*batch"). Nothing where a symbol has no size or the expression is not one.
std::optional<int64_t> evaluateDimension(llvm::StringRef expression, const Dimensions &sizes);
/// The symbols in an expression, in order.
llvm::SmallVector<llvm::StringRef, 2> findSymbols(llvm::StringRef expression);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_IMPORTER_H
