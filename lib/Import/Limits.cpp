//===- Limits.cpp - models that are larger than any that trains ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A file of a few bytes can ask for more memory than there is. What is counted here is far above what exporters write (the largest model in use has some ten thousand nodes), so that what goes beyond is
// a mistake, and is said in one line before anything is made of it.
//
//===----------------------------------------------------------------------===//

#include "Limits.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace zopt::importer {

namespace {

constexpr int64_t mostNodes = 1 << 20, mostTensors = 1 << 20, mostPorts = 1 << 16, mostAxes = 32;
constexpr size_t longestName = 4096;

class Checker {
public:
  explicit Checker(Problems &problems) : problems(problems) {}

  void check(const onnx::ModelProto &model) {
    llvm::StringSet<> inputs;
    for (const onnx::ValueInfoProto &input : model.graph().input())
      if (!inputs.insert(input.name()).second)
        problems.error(input.name(), "there are two inputs of this name");
    check(model.graph());
    for (const onnx::FunctionProto &function : model.functions()) {
      ports(function.name(), "the function", function.input_size(), function.output_size());
      for (const onnx::NodeProto &node : function.node())
        check(node);
    }
    if (nodes > mostNodes)
      problems.error("", "the model has " + Twine(nodes) + " nodes, but at most " + Twine(mostNodes) + " are imported");
    if (tensors > mostTensors)
      problems.error("", "the model has " + Twine(tensors) + " initializers, but at most " + Twine(mostTensors) + " are imported");
  }

private:
  void check(const onnx::GraphProto &graph) {
    ports("", "the graph", graph.input_size(), graph.output_size());
    tensors += graph.initializer_size();
    for (const onnx::TensorProto &tensor : graph.initializer()) {
      name(tensor.name(), "an initializer");
      axes(tensor.name(), "the initializer", tensor.dims_size());
    }
    for (const onnx::ValueInfoProto &input : graph.input()) {
      name(input.name(), "an input");
      axes(input.name(), "the graph's input", input.type().tensor_type().shape().dim_size());
    }
    for (const onnx::NodeProto &node : graph.node())
      check(node);
  }

  void check(const onnx::NodeProto &node) {
    ++nodes;
    name(node.name(), "a node");
    for (const std::string &output : node.output())
      name(output, "a value");
    ports(node.name(), "the node", node.input_size(), node.output_size());
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (attribute.has_t())
        axes(node.name(), "the tensor of an attribute", attribute.t().dims_size());
      if (attribute.has_g())
        check(attribute.g()); // how deep is known: the file's reader has counted it
    }
  }

  void name(const std::string &text, const char *what) {
    if (text.size() > longestName)
      problems.error(StringRef(text).take_front(32), Twine(what) + " has a name of " + Twine(text.size()) + " bytes, but at most " + Twine(longestName) + " are read");
  }

  void ports(StringRef at, const char *what, int64_t inputs, int64_t outputs) {
    if (inputs > mostPorts || outputs > mostPorts)
      problems.error(at, Twine(what) + " has " + Twine(inputs) + " inputs and " + Twine(outputs) + " outputs, but at most " + Twine(mostPorts) + " are imported");
  }

  void axes(StringRef at, const char *what, int64_t count) {
    if (count > mostAxes)
      problems.error(at, Twine(what) + " has " + Twine(count) + " axes, but at most " + Twine(mostAxes) + " are imported");
  }

  Problems &problems;
  int64_t nodes = 0, tensors = 0;
};

} // namespace

bool checkLimits(const onnx::ModelProto &model, Problems &problems) {
  const int64_t before = problems.errors();
  Checker(problems).check(model);
  return problems.errors() == before;
}

bool isTooLarge(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    if (size > 0 && (__builtin_mul_overflow(count, size, &count) || count > int64_t(1) << 48))
      return true;
  return false;
}

} // namespace zopt::importer
