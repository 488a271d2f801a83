//===- ControlFlow.cpp - If, Loop and Scan in place of themselves ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A training graph has no branches: the branch of an If that a known condition chooses, and every iteration of a Loop
// or Scan, are imported where the node stands, so that what folds in an iteration folds, and the gradient is that of
// what was written out.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

using namespace mlir;

namespace zopt::importer {

static constexpr int64_t mostIterations = 1024;
static constexpr size_t mostBodyNodes = size_t(1) << 17, deepestBody = 32;

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

void forEachBody(const onnx::NodeProto &node, llvm::function_ref<void(const onnx::GraphProto &)> visit) {
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (!attribute.has_g())
      continue;
    visit(attribute.g());
    for (const onnx::NodeProto &inner : attribute.g().node())
      forEachBody(inner, visit);
  }
}

void forEachBodyNode(const onnx::NodeProto &node, llvm::function_ref<void(const onnx::NodeProto &)> visit) {
  forEachBody(node, [&](const onnx::GraphProto &body) {
    for (const onnx::NodeProto &inner : body.node())
      visit(inner);
  });
}

std::string GraphImporter::resolve(StringRef name) const {
  for (const llvm::StringMap<std::string> *scope : llvm::reverse(scopes))
    if (auto it = scope->find(name); it != scope->end())
      return it->second;
  return name.str();
}

Tensor *GraphImporter::hide(Tensor tensor) {
  hidden.push_back(std::move(tensor));
  return &hidden.back();
}

const onnx::GraphProto *GraphImporter::body(const onnx::NodeProto &node, StringRef name) {
  const onnx::NodeProto *original = bodiesOf.lookup(&node);
  for (const onnx::AttributeProto &attribute : (original ? *original : node).attribute())
    if (attribute.name() == name && attribute.has_g())
      return &attribute.g();
  return nullptr;
}

/// Makes `to` another name of a value.
static void rename(Tensor &from, Tensor &to) {
  if (&from == &to)
    return;
  to = from;
  to.alias = from.alias ? from.alias : &from;
  to.producer = nullptr;
  to.initializer = nullptr;
}

bool GraphImporter::importBody(const onnx::GraphProto &body, const std::string &scope, ArrayRef<Tensor *> inputs,
                               SmallVectorImpl<Tensor *> &outputs) {
  const int64_t before = problems.errors();
  if (scopes.size() >= deepestBody) {
    problems.error(scope, "bodies of If, Loop and Scan are nested more than " + Twine(deepestBody) + " deep");
    return false;
  }
  if (static_cast<size_t>(body.input_size()) != inputs.size()) {
    problems.error(scope,
                   "the body has " + Twine(body.input_size()) + " inputs, but " + Twine(inputs.size()) + " are given");
    return false;
  }
  if (body.sparse_initializer_size()) {
    problems.error(scope, "sparse initializers are not supported");
    return false;
  }
  llvm::StringMap<std::string> names;
  auto define = [&](StringRef name) -> Tensor & { return tensors[names[name] = scope + "/" + name.str()]; };
  auto defineTensor = [&](const onnx::TensorProto &proto, StringRef name) {
    auto known = bodyTensors ? bodyTensors->find(&proto)
                             : llvm::DenseMap<const onnx::TensorProto *, std::string>::const_iterator();
    Tensor *tensor = bodyTensors && known != bodyTensors->end() ? find(known->second) : nullptr;
    Tensor &own = define(name);
    if (tensor)
      rename(*tensor, own);
  };
  for (auto [input, tensor] : llvm::zip(body.input(), inputs))
    rename(*tensor, define(input.name()));
  for (const onnx::TensorProto &initializer : body.initializer())
    defineTensor(initializer, initializer.name());
  scopes.push_back(&names);
  for (const onnx::NodeProto &node : body.node()) {
    if (node.op_type() == "Constant" && node.output_size() == 1 && node.attribute_size() == 1 &&
        node.attribute(0).has_t()) {
      defineTensor(node.attribute(0).t(), node.output(0));
      continue;
    }
    if (bodyNodes.size() >= mostBodyNodes) {
      problems.error("", "bodies of If, Loop and Scan make more than " + Twine(mostBodyNodes) + " nodes");
      break;
    }
    onnx::NodeProto &copy = bodyNodes.emplace_back();
    copy.set_name(scope + "/" + (node.name().empty() ? node.op_type() : node.name()));
    copy.set_op_type(node.op_type());
    copy.set_domain(node.domain());
    bool hasBodies = false;
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (attribute.has_g())
        hasBodies = true;
      else
        *copy.add_attribute() = attribute;
    }
    if (hasBodies)
      bodiesOf[&copy] = &node;
    bool complete = true;
    for (const std::string &input : node.input()) {
      copy.add_input(input.empty() ? "" : resolve(input));
      if (input.empty() || find(copy.input(copy.input_size() - 1)))
        continue;
      complete = false;
      problems.error(copy.name(), "reads '" + input + "', which is no input, initializer or node's output");
    }
    for (const std::string &output : node.output()) {
      if (output.empty()) {
        copy.add_output("");
        continue;
      }
      define(output) = Tensor();
      copy.add_output(names[output]);
    }
    const bool standard = copy.domain().empty() || copy.domain() == "ai.onnx";
    if (!standard || !findOperator(copy.op_type())) {
      problems.error(copy.name(),
                     "operator '" + (standard ? "" : copy.domain() + ".") + copy.op_type() + "' is not supported");
      complete = false;
    }
    if (complete)
      visit(copy);
    for (const std::string &output : copy.output())
      if (!output.empty())
        tensors[output].producer = &copy;
  }
  for (const onnx::ValueInfoProto &output : body.output()) {
    Tensor *tensor = find(resolve(output.name()));
    if (!tensor)
      problems.error(scope, "the body's output '" + output.name() + "' is made by no node");
    else if (!tensor->element && problems.errors() == before)
      problems.error(scope, "the body's output '" + output.name() + "' has no value");
    outputs.push_back(tensor);
  }
  scopes.pop_back();
  return problems.errors() == before;
}

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

std::string scopeOf(NodeImporter &node) {
  return node.proto.name().empty() && node.proto.output_size() ? node.proto.output(0) : node.proto.name();
}

static void setOutput(NodeImporter &node, int i, Tensor &from) {
  if (node.wants(i))
    rename(from, node.graph.make(node.proto.output(i)));
}

LogicalResult lowerIf(NodeImporter &node) {
  std::optional<Scalar> condition = node.constant(0) ? node.constant(0)->asSplat() : std::nullopt;
  if (!condition)
    return node.error("the condition depends on the data, but it must be known when the model is imported: a training "
                      "graph has no branches");
  const char *name = condition->integer ? "then_branch" : "else_branch";
  const onnx::GraphProto *branch = node.graph.body(node.proto, name);
  if (!branch)
    return node.error(Twine("has no ") + name);
  SmallVector<Tensor *> outputs;
  if (!node.graph.importBody(*branch, scopeOf(node) + (condition->integer ? "/then" : "/else"), {}, outputs))
    return failure();
  if (static_cast<int>(outputs.size()) < node.proto.output_size())
    return node.error(Twine("has ") + Twine(node.proto.output_size()) + " outputs, but its branch has " +
                      Twine(outputs.size()));
  for (int i = 0; i < node.proto.output_size(); ++i)
    setOutput(node, i, *outputs[i]);
  return success();
}

/// What an iteration gave, joined along a new axis.
static LogicalResult stack(NodeImporter &node, int i, ArrayRef<Tensor *> parts, int64_t axis) {
  if (!node.wants(i))
    return success();
  if (parts.empty())
    return node.error("makes an output of no iteration, which has no element");
  const Shape shape = parts[0]->shape;
  const int64_t rank = shape.size(), count = parts.size();
  FailureOr<int64_t> at = node.axis(axis, rank + 1);
  if (failed(at))
    return failure();
  for (Tensor *part : parts)
    if (part->sequence || part->none || part->shape != shape || part->element != parts[0]->element)
      return node.error("joins values of shapes " + describe(shape) + " and " + describe(part->shape) +
                        " from its iterations");
  // Known scalars are a known vector.
  if (rank == 0 && llvm::all_of(parts, [](Tensor *part) { return part->constant && !part->constant->asTriangle(); })) {
    std::vector<Scalar> values;
    for (Tensor *part : parts)
      values.push_back(part->constant->values()[0]);
    if (count <= 128) {
      node.result(i, Constant(parts[0]->constant->element(), {count}, {count}, std::move(values)), parts[0]->element);
      return success();
    }
  }
  Emit emit(node);
  Shape split(shape);
  split.insert(split.begin() + *at, 1);
  SmallVector<Value> values;
  for (Tensor *part : parts) {
    Value value = node.graph.materialize(*part, /*full=*/true);
    if (!value)
      return failure();
    values.push_back(emit.reshape(value, split));
  }
  node.result(i, emit.concat(values, *at));
  return success();
}

LogicalResult lowerLoop(NodeImporter &node) {
  const onnx::GraphProto *body = node.graph.body(node.proto, "body");
  if (!body)
    return node.error("has no body");
  std::optional<int64_t> trips;
  if (node.has(0)) {
    std::optional<Scalar> value = node.constant(0) ? node.constant(0)->asSplat() : std::nullopt;
    if (!value)
      return node.error("the trip count depends on the data, but it must be known when the model is imported");
    trips = value->integer;
  }
  Type i1 = node.builder.getI1Type(), i64 = node.builder.getI64Type();
  auto known = [&](Constant constant, Type element) {
    Tensor tensor;
    tensor.element = element;
    tensor.shape.assign(constant.shape().begin(), constant.shape().end());
    tensor.constant = std::move(constant);
    return node.graph.hide(std::move(tensor));
  };
  Tensor *condition =
      node.has(1) ? node.graph.find(node.proto.input(1)) : known(Constant::splat(Element::Bool, {}, {1, 0}), i1);
  const int states = std::max(0, node.inputs() - 2);
  const int scans = body->output_size() - 1 - states;
  if (scans < 0 || node.proto.output_size() > states + scans)
    return node.error("has " + Twine(states) + " states and " + Twine(node.proto.output_size()) +
                      " outputs, but its body has " + Twine(body->output_size()) + " outputs");
  SmallVector<Tensor *> state;
  for (int i = 0; i < states; ++i) {
    if (!node.has(2 + i))
      return node.error("state " + Twine(i) + " has no first value");
    state.push_back(node.graph.find(node.proto.input(2 + i)));
  }
  std::vector<SmallVector<Tensor *>> parts(scans);
  const std::string scope = scopeOf(node);
  for (int64_t trip = 0; !trips || trip < *trips; ++trip) {
    std::optional<Scalar> goesOn = condition->constant ? condition->constant->asSplat() : std::nullopt;
    if (!goesOn)
      return node.error("the condition of iteration " + Twine(trip) +
                        " depends on the data, but it must be known when the model is imported");
    if (!goesOn->integer)
      break;
    if (trip == mostIterations)
      return node.error((trips ? "runs " + Twine(*trips) : "runs more than " + Twine(mostIterations)) +
                        " iterations; at most " + Twine(mostIterations) + " are unrolled");
    SmallVector<Tensor *> inputs = {known(Constant::splat(Element::Integer, {}, {trip, 0}), i64), condition};
    llvm::append_range(inputs, state);
    if (body->input_size() < static_cast<int>(inputs.size()))
      inputs.resize(body->input_size());
    SmallVector<Tensor *> outputs;
    if (!node.graph.importBody(*body, scope + "/" + std::to_string(trip), inputs, outputs))
      return failure();
    condition = outputs[0];
    for (int i = 0; i < states; ++i)
      state[i] = outputs[1 + i];
    for (int i = 0; i < scans; ++i)
      parts[i].push_back(outputs[1 + states + i]);
  }
  for (int i = 0; i < states; ++i)
    setOutput(node, i, *state[i]);
  for (int i = 0; i < scans; ++i)
    if (failed(stack(node, states + i, parts[i], 0)))
      return failure();
  return success();
}

LogicalResult lowerScan(NodeImporter &node) {
  const onnx::GraphProto *body = node.graph.body(node.proto, "body");
  const int64_t scanned = node.attribute("num_scan_inputs", int64_t(0));
  const int64_t states = node.inputs() - scanned;
  if (!body || scanned < 1 || states < 0 || body->input_size() != node.inputs() || body->output_size() < states ||
      node.proto.output_size() > body->output_size())
    return node.error("has " + Twine(node.inputs()) + " operands of which " + Twine(scanned) +
                      " are scanned, which its body does not fit");
  const int64_t scans = body->output_size() - states;
  auto list = [&](const char *name, int64_t count) -> FailureOr<SmallVector<int64_t, 8>> {
    SmallVector<int64_t, 8> values = node.attributeInts(name).value_or(SmallVector<int64_t, 8>(count, 0));
    if (static_cast<int64_t>(values.size()) != count)
      return node.error(Twine("attribute '") + name + "' has " + Twine(values.size()) + " values, expected " +
                        Twine(count));
    return values;
  };
  auto axes = list("scan_input_axes", scanned), directions = list("scan_input_directions", scanned),
       outputAxes = list("scan_output_axes", scans), outputDirections = list("scan_output_directions", scans);
  if (failed(axes) || failed(directions) || failed(outputAxes) || failed(outputDirections))
    return failure();
  for (int i = 0; i < node.inputs(); ++i)
    if (!node.has(i) || (i >= states && (node.input(i).sequence || node.input(i).none)))
      return node.error("operand " + Twine(i) + " is missing, or a sequence that is scanned");
  SmallVector<Tensor *> state;
  for (int64_t i = 0; i < states; ++i)
    state.push_back(node.graph.find(node.proto.input(i)));
  SmallVector<Value> inputs;
  int64_t trips = -1;
  for (int64_t i = 0; i < scanned; ++i) {
    FailureOr<int64_t> axis = node.axis((*axes)[i], node.rank(states + i));
    if (failed(axis))
      return failure();
    (*axes)[i] = *axis;
    const int64_t length = node.shape(states + i)[*axis];
    if (trips >= 0 && trips != length)
      return node.error("scans axes of " + Twine(trips) + " and " + Twine(length) + " elements");
    trips = length;
  }
  if (trips > mostIterations)
    return node.error("runs " + Twine(trips) + " iterations; at most " + Twine(mostIterations) + " are unrolled");
  for (int64_t i = 0; i < scanned; ++i)
    if (!inputs.emplace_back(node.operand(states + i)))
      return failure();
  Emit emit(node);
  std::vector<SmallVector<Tensor *>> parts(scans);
  const std::string scope = scopeOf(node);
  for (int64_t trip = 0; trip < trips; ++trip) {
    SmallVector<Tensor *> given = state;
    for (int64_t i = 0; i < scanned; ++i) {
      Tensor part;
      part.value = emit.pick(inputs[i], (*axes)[i], (*directions)[i] ? trips - 1 - trip : trip);
      part.element = Emit::elementOf(part.value);
      part.shape.assign(Emit::shapeOf(part.value).begin(), Emit::shapeOf(part.value).end());
      given.push_back(node.graph.hide(std::move(part)));
    }
    SmallVector<Tensor *> outputs;
    if (!node.graph.importBody(*body, scope + "/" + std::to_string(trip), given, outputs))
      return failure();
    state.assign(outputs.begin(), outputs.begin() + states);
    for (int64_t i = 0; i < scans; ++i)
      parts[i].push_back(outputs[states + i]);
  }
  for (int64_t i = 0; i < states; ++i)
    setOutput(node, i, *state[i]);
  for (int64_t i = 0; i < scans; ++i) {
    if ((*outputDirections)[i])
      std::reverse(parts[i].begin(), parts[i].end());
    if (failed(stack(node, states + i, parts[i], (*outputAxes)[i])))
      return failure();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Sequences and optionals: lists of values at import
//===----------------------------------------------------------------------===//

bool takesSequences(StringRef op) {
  static const llvm::StringSet<> names = {"If",
                                          "Loop",
                                          "Scan",
                                          "Identity",
                                          "SequenceInsert",
                                          "SequenceMap",
                                          "SequenceErase",
                                          "SequenceAt",
                                          "SequenceLength",
                                          "ConcatFromSequence",
                                          "Optional",
                                          "OptionalGetElement",
                                          "OptionalHasElement"};
  return names.contains(op);
}

using Elements = std::vector<Tensor *>;

static LogicalResult setSequence(NodeImporter &node, int i, Elements elements) {
  constexpr size_t mostElements = 1 << 16;
  if (elements.size() > mostElements)
    return node.error("makes a sequence of " + Twine(elements.size()) + " elements; at most " + Twine(mostElements) +
                      " are supported");
  if (!node.wants(i))
    return success();
  Tensor &tensor = node.graph.make(node.proto.output(i));
  tensor = Tensor();
  tensor.element = node.builder.getNoneType();
  tensor.sequence = std::make_shared<const Elements>(std::move(elements));
  return success();
}

static FailureOr<const Elements *> sequence(NodeImporter &node, int i) {
  if (node.has(i) && node.input(i).sequence)
    return node.input(i).sequence.get();
  return node.error("operand " + Twine(i) + " is no sequence");
}

/// A position in a sequence of `count` elements, or behind it where `end`.
static FailureOr<int64_t> position(NodeImporter &node, int i, int64_t count, bool end) {
  FailureOr<SmallVector<int64_t, 8>> named = node.integers(i, "the position");
  if (failed(named))
    return failure();
  const int64_t at = named->size() == 1 ? named->front() : count + 1, place = at < 0 ? at + count : at;
  if (place < 0 || place >= count + (end ? 1 : 0))
    return node.error("the position " + describe(*named) + " is out of range for a sequence of " + Twine(count) +
                      " elements");
  return place;
}

LogicalResult lowerSequence(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  if (op == "SequenceEmpty")
    return setSequence(node, 0, {});
  if (op == "SequenceConstruct") {
    Elements elements;
    for (int i = 0; i < node.inputs(); ++i) {
      if (!node.has(i))
        return node.error("element " + Twine(i) + " is missing");
      elements.push_back(node.graph.find(node.proto.input(i)));
    }
    return setSequence(node, 0, std::move(elements));
  }
  FailureOr<const Elements *> from = sequence(node, 0);
  if (failed(from))
    return failure();
  const int64_t count = (*from)->size();
  if (op == "SequenceLength") {
    node.result(0, Constant::integers({}, {count}), node.builder.getI64Type());
    return success();
  }
  if (op == "SequenceAt") {
    FailureOr<int64_t> at = position(node, 1, count, false);
    if (failed(at))
      return failure();
    setOutput(node, 0, *(**from)[*at]);
    return success();
  }
  if (op == "SequenceErase" || op == "SequenceInsert") {
    const bool inserts = op == "SequenceInsert";
    Elements elements = **from;
    FailureOr<int64_t> at = inserts ? count : count - 1;
    if (node.has(inserts ? 2 : 1))
      at = position(node, inserts ? 2 : 1, count, inserts);
    else if (!inserts && count == 0)
      return node.error("erases an element of an empty sequence");
    if (failed(at))
      return failure();
    if (inserts)
      elements.insert(elements.begin() + *at, node.graph.find(node.proto.input(1)));
    else
      elements.erase(elements.begin() + *at);
    return setSequence(node, 0, std::move(elements));
  }
  // ConcatFromSequence
  const bool isNew = node.attribute("new_axis", int64_t(0)) != 0;
  if (count == 0)
    return node.error("joins an empty sequence");
  Emit emit(node);
  const Shape first = (**from)[0]->shape;
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), first.size() + isNew);
  if (failed(axis))
    return failure();
  SmallVector<Value> values;
  for (Tensor *part : **from) {
    bool fits =
        !part->sequence && !part->none && part->shape.size() == first.size() && part->element == (**from)[0]->element;
    for (size_t a = 0; fits && a < first.size(); ++a)
      fits = part->shape[a] == first[a] || (!isNew && static_cast<int64_t>(a) == *axis);
    if (!fits)
      return node.error("joins values of shapes " + describe(first) + " and " + describe(part->shape) + " along axis " +
                        Twine(*axis));
    Value value = node.graph.materialize(*part, /*full=*/true);
    if (!value)
      return failure();
    Shape shape = part->shape;
    if (isNew)
      shape.insert(shape.begin() + *axis, 1);
    values.push_back(emit.reshape(value, shape));
  }
  node.result(0, emit.concat(values, *axis));
  return success();
}

LogicalResult lowerSequenceMap(NodeImporter &node) {
  const onnx::GraphProto *body = node.graph.body(node.proto, "body");
  FailureOr<const Elements *> first = sequence(node, 0);
  if (failed(first))
    return failure();
  const size_t count = (*first)->size();
  if (!body || node.proto.output_size() > body->output_size())
    return node.error("has no body, or more outputs than it");
  if (count > static_cast<size_t>(mostIterations))
    return node.error("maps " + Twine(count) + " elements; at most " + Twine(mostIterations) + " are written out");
  std::vector<Elements> results(node.proto.output_size());
  for (size_t i = 0; i < count; ++i) {
    SmallVector<Tensor *> inputs;
    for (int j = 0; j < node.inputs(); ++j) {
      if (!node.has(j))
        return node.error("operand " + Twine(j) + " is missing");
      Tensor *given = node.graph.find(node.proto.input(j));
      if (given->sequence && given->sequence->size() != count)
        return node.error("maps sequences of " + Twine(count) + " and " + Twine(given->sequence->size()) + " elements");
      inputs.push_back(given->sequence ? (*given->sequence)[i] : given);
    }
    SmallVector<Tensor *> outputs;
    if (!node.graph.importBody(*body, scopeOf(node) + "/" + std::to_string(i), inputs, outputs))
      return failure();
    for (size_t j = 0; j < results.size(); ++j)
      results[j].push_back(outputs[j]);
  }
  for (size_t j = 0; j < results.size(); ++j)
    if (failed(setSequence(node, j, std::move(results[j]))))
      return failure();
  return success();
}

LogicalResult lowerSplitToSequence(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return failure();
  const int64_t size = node.shape(0)[*axis];
  SmallVector<int64_t, 8> sizes(size, 1);
  bool drops = !node.has(1) && node.attribute("keepdims", int64_t(1)) == 0;
  if (node.has(1)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "the sizes");
    if (failed(named))
      return failure();
    sizes = *named;
    if (node.rank(1) == 0 && sizes[0] > 0) { // chunks of one size, the last perhaps smaller
      const int64_t chunk = sizes[0];
      sizes.clear();
      for (int64_t at = 0; at < size; at += chunk)
        sizes.push_back(std::min(chunk, size - at));
    }
  }
  int64_t sum = 0;
  for (int64_t part : sizes)
    sum += part < 1 || part > size ? size + 1 : part;
  if (sum != size)
    return node.error("splits axis " + Twine(*axis) + " of " + describe(node.shape(0)) + " into parts of " +
                      describe(sizes));
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  Elements elements;
  int64_t start = 0;
  for (int64_t part : sizes) {
    Tensor tensor;
    tensor.value = drops ? emit.pick(input, *axis, start) : emit.slice(input, *axis, start, part);
    tensor.element = node.element(0);
    tensor.shape.assign(Emit::shapeOf(tensor.value).begin(), Emit::shapeOf(tensor.value).end());
    elements.push_back(node.graph.hide(std::move(tensor)));
    start += part;
  }
  return setSequence(node, 0, std::move(elements));
}

LogicalResult lowerOptional(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  if (op == "OptionalHasElement") {
    node.result(0, Constant::splat(Element::Bool, {}, {node.has(0) && !node.input(0).none, 0}),
                node.builder.getI1Type());
    return success();
  }
  if (node.has(0)) {
    if (op == "OptionalGetElement" && node.input(0).none)
      return node.error("takes the element of an empty optional");
    node.forward(0, 0);
    return success();
  }
  if (node.wants(0)) {
    Tensor &tensor = node.graph.make(node.proto.output(0));
    tensor.element = node.builder.getNoneType();
    tensor.none = true;
  }
  return success();
}

} // namespace zopt::importer
