//===- Functions.cpp - function bodies in place of their calls ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
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

void FlatGraph::append(const onnx::NodeProto &node, unsigned depth) {
  auto found = functions.find(key(node.domain(), node.op_type()));
  if (found == functions.end()) {
    list.push_back(&node);
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
    owned.push_back(std::move(copy));
    append(*owned.back(), depth + 1);
  }
}

} // namespace zopt::importer
