//===- Functions.cpp - function bodies in place of their calls ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Functions are the model's own. The bodies that ONNX's schemas have are not expanded here: every operator with one
// (but for those of quantization) is in the table of operators, which makes fewer ops of it, in any opset. The test
// "nodes/every operator of ONNX" holds the table against the newest opset. libonnx's schemas end at opset 17, and a
// copy of newer bodies would be dead.
//
//===----------------------------------------------------------------------===//

#include "Importer.h"

using namespace mlir;

namespace zopt::importer {

/// Calls that double at every level would otherwise fill the memory.
constexpr size_t mostNodes = size_t(1) << 17;

static std::string key(StringRef domain, StringRef name) { return ((domain == "ai.onnx" ? "" : domain) + "::" + name).str(); }

FlatGraph::FlatGraph(const onnx::ModelProto &model, Problems &problems) : problems(problems) {
  for (const onnx::FunctionProto &function : model.functions())
    functions[key(function.domain(), function.name())] = &function;
  for (const onnx::NodeProto &node : model.graph().node())
    append(node, 0);
}

/// Renames what a body reads from around it: every name that neither it nor a body around it within the function makes.
static void renameCaptures(onnx::GraphProto &body, llvm::function_ref<void(std::string &)> rename, llvm::StringMap<unsigned> &own) {
  SmallVector<std::string> made;
  auto make = [&](const std::string &name) {
    made.push_back(name);
    ++own[name];
  };
  for (const onnx::ValueInfoProto &input : body.input())
    make(input.name());
  for (const onnx::TensorProto &initializer : body.initializer())
    make(initializer.name());
  for (const onnx::NodeProto &node : body.node())
    for (const std::string &output : node.output())
      make(output);
  auto captured = [&](std::string &name) {
    if (!own.lookup(name))
      rename(name);
  };
  for (onnx::NodeProto &node : *body.mutable_node()) {
    for (std::string &input : *node.mutable_input())
      captured(input);
    for (onnx::AttributeProto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        renameCaptures(*attribute.mutable_g(), rename, own);
  }
  for (onnx::ValueInfoProto &output : *body.mutable_output())
    captured(*output.mutable_name());
  for (const std::string &name : made)
    --own[name];
}

/// Puts the functions that bodies call in place of the calls.
void FlatGraph::flattenBodies(onnx::NodeProto &node, unsigned depth) {
  for (onnx::AttributeProto &attribute : *node.mutable_attribute()) {
    if (!attribute.has_g())
      continue;
    onnx::GraphProto &body = *attribute.mutable_g();
    std::vector<const onnx::NodeProto *> around;
    std::swap(around, list);
    for (const onnx::NodeProto &inner : body.node())
      append(inner, depth + 1);
    std::swap(around, list);
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    for (const onnx::NodeProto *inner : around)
      *nodes.Add() = *inner;
    body.mutable_node()->Swap(&nodes);
  }
}

bool FlatGraph::callsInBodies(const onnx::NodeProto &node) const {
  bool calls = false;
  if (!functions.empty())
    forEachBodyNode(node, [&](const onnx::NodeProto &inner) { calls |= functions.contains(key(inner.domain(), inner.op_type())); });
  return calls;
}

void FlatGraph::append(const onnx::NodeProto &node, unsigned depth) {
  auto found = functions.find(key(node.domain(), node.op_type()));
  if (found == functions.end()) {
    if (!callsInBodies(node)) {
      list.push_back(&node);
      return;
    }
    auto copy = std::make_unique<onnx::NodeProto>(node);
    flattenBodies(*copy, depth);
    list.push_back(copy.get());
    owned.push_back(std::move(copy));
    return;
  }
  const onnx::FunctionProto &function = *found->second;
  constexpr unsigned deepestCall = 32;
  if (depth > deepestCall) {
    problems.error(node.name(), "calls of the function '" + function.name() + "' are nested more than " + Twine(deepestCall) + " deep, or call themselves");
    return;
  }
  if (node.input_size() > function.input_size() || node.output_size() > function.output_size()) {
    problems.error(node.name(), "calls the function '" + function.name() + "', which has " + Twine(function.input_size()) + " inputs and " + Twine(function.output_size()) + " outputs, with " +
                                    Twine(node.input_size()) + " and " + Twine(node.output_size()));
    return;
  }

  // Formal names become the caller's; every other name in the body is prefixed by the call's. Calls need not have names of their own.
  std::string scope = (node.name().empty() ? function.name() : node.name()) + "/";
  if (unsigned before = scopes[scope]++)
    scope.insert(scope.size() - 1, "." + std::to_string(before));
  llvm::StringMap<std::string> names;
  for (int i = 0; i < function.input_size(); ++i)
    names[function.input(i)] = i < node.input_size() ? node.input(i) : "";
  for (int i = 0; i < function.output_size(); ++i)
    if (i < node.output_size() && !node.output(i).empty())
      names[function.output(i)] = node.output(i);
  auto rename = [&](std::string &name) {
    if (name.empty())
      return;
    auto it = names.find(name);
    name = it != names.end() ? it->second : scope + name;
  };
  for (const onnx::NodeProto &inner : function.node()) {
    if (owned.size() >= mostNodes) {
      problems.error("", "function bodies make more than " + Twine(mostNodes) + " nodes");
      return;
    }
    auto copy = std::make_unique<onnx::NodeProto>(inner);
    copy->set_name(scope + (inner.name().empty() ? inner.op_type() : inner.name()));
    for (std::string &name : *copy->mutable_input())
      rename(name);
    for (std::string &name : *copy->mutable_output())
      rename(name);
    // Attributes that refer to the call's; one that the call lacks is absent.
    google::protobuf::RepeatedPtrField<onnx::AttributeProto> attributes;
    for (const onnx::AttributeProto &attribute : inner.attribute()) {
      if (attribute.ref_attr_name().empty()) {
        *attributes.Add() = attribute;
        continue;
      }
      for (const onnx::AttributeProto &actual : node.attribute())
        if (actual.name() == attribute.ref_attr_name()) {
          onnx::AttributeProto *bound = attributes.Add();
          *bound = actual;
          bound->set_name(attribute.name());
        }
    }
    copy->mutable_attribute()->Swap(&attributes);
    for (onnx::AttributeProto &attribute : *copy->mutable_attribute())
      if (attribute.has_g()) {
        llvm::StringMap<unsigned> own;
        renameCaptures(*attribute.mutable_g(), rename, own);
      }
    owned.push_back(std::move(copy));
    append(*owned.back(), depth + 1);
  }
}

} // namespace zopt::importer
