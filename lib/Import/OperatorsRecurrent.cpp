//===- OperatorsRecurrent.cpp - RNN, LSTM and GRU ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Written out over time: one product projects the inputs of all steps, then each step has one product with the state and elementwise ops. Sequences that end early keep their state
// behind their end, and give zeros there.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

namespace {

struct Activation {
  std::string name;
  double alpha, beta;
};

/// What one direction computes with; all values have the element type of X.
struct Direction {
  Value projected;           ///< [T, B, gates * H]: X W^T and the biases that may be added before the state is known
  Value recurrent;           ///< [gates * H, H]
  Value candidateBias;       ///< GRU with linear_before_reset: [H]
  Value peepholes;           ///< LSTM: [3 * H], of the gates i, o and f
  SmallVector<Activation, 3> activations;
  Value hidden, cell;        ///< [B, H]
};

class Recurrent {
public:
  explicit Recurrent(NodeImporter &node) : node(node), emit(node), op(node.proto.op_type()) {}
  LogicalResult run();

private:
  LogicalResult check();
  LogicalResult readActivations();
  FailureOr<Direction> direction(int64_t d);
  /// One step from the projected inputs [B, gates * H]; changes the state.
  void step(Direction &d, Value inputs);
  Value activate(const Activation &activation, Value x);
  Value one(Value like) { return emit.number(Emit::elementOf(like), 1); }
  Value gate(Value gates, int64_t index) { return emit.slice(gates, 1, index * hidden, hidden); }
  Value product(Value state, Value weights) {
    return train::MatmulOp::create(node.builder, node.loc, node.type({batch, Emit::shapeOf(weights)[0]}, element), state, weights, /*bias=*/Value(), false, true, APFloat(1.0));
  }

  NodeImporter &node;
  Emit emit;
  StringRef op;
  Type element;
  int64_t gates = 1, hidden = 0, length = 0, batch = 0, directions = 1;
  bool backwards = false, batchFirst = false, linearBeforeReset = false, inputForget = false;
  double limit = 0; ///< of what goes into an activation; 0: none
  SmallVector<Activation, 6> activations;
  Value input; ///< [T * B, I]
};

} // namespace

LogicalResult Recurrent::check() {
  gates = op == "RNN" ? 1 : op == "GRU" ? 3 : 4;
  batchFirst = node.attribute("layout", int64_t(0)) != 0;
  linearBeforeReset = node.attribute("linear_before_reset", int64_t(0)) != 0;
  inputForget = node.attribute("input_forget", int64_t(0)) != 0;
  limit = node.attribute("clip", 0.0);
  StringRef name = node.attribute("direction", StringRef("forward"));
  if (name != "forward" && name != "reverse" && name != "bidirectional")
    return node.error("direction is '" + name + "', but it must be forward, reverse or bidirectional");
  directions = name == "bidirectional" ? 2 : 1;
  backwards = name == "reverse";
  if (!node.has(0) || !node.has(1) || !node.has(2) || node.rank(0) != 3 || node.rank(1) != 3 || node.rank(2) != 3)
    return node.error("needs X, W and R of three axes each");
  element = node.element(0);
  length = node.shape(0)[batchFirst];
  batch = node.shape(0)[!batchFirst];
  hidden = node.shape(2)[2];
  const int64_t d = directions;
  auto expect = [&](int i, const char *what, Shape shape) -> LogicalResult {
    if (!node.has(i) || (node.shape(i) == ArrayRef(shape) && node.element(i) == element))
      return success();
    return node.error(Twine(what) + " is " + describe(node.shape(i)) + ", expected " + describe(shape) + " of the element type of X");
  };
  const Shape state = batchFirst ? Shape{batch, d, hidden} : Shape{d, batch, hidden};
  if (!isa<FloatType>(element))
    return node.error("needs floats");
  if (failed(expect(1, "W", {d, gates * hidden, node.shape(0)[2]})) || failed(expect(2, "R", {d, gates * hidden, hidden})) || failed(expect(3, "B", {d, 2 * gates * hidden})) ||
      failed(expect(5, "initial_h", state)) || failed(expect(6, "initial_c", state)) || failed(expect(7, "P", {d, 3 * hidden})))
    return failure();
  if (node.has(4) && (!isa<IntegerType>(node.element(4)) || node.shape(4) != ArrayRef<int64_t>({batch})))
    return node.error("sequence_lens is " + describe(node.shape(4)) + ", expected an integer for each of " + Twine(batch) + " sequences");
  if (node.find("hidden_size") && node.attribute("hidden_size", int64_t(0)) != hidden)
    return node.error("hidden_size is " + Twine(node.attribute("hidden_size", int64_t(0))) + ", but R is " + describe(node.shape(2)));
  constexpr int64_t mostSteps = 1024;
  if (length > mostSteps)
    return node.error("runs " + Twine(length) + " steps; at most " + Twine(mostSteps) + " are unrolled");
  return readActivations();
}

LogicalResult Recurrent::readActivations() {
  SmallVector<StringRef, 3> defaults = op == "RNN" ? SmallVector<StringRef, 3>{"Tanh"} : op == "GRU" ? SmallVector<StringRef, 3>{"Sigmoid", "Tanh"} : SmallVector<StringRef, 3>{"Sigmoid", "Tanh", "Tanh"};
  SmallVector<std::string> names;
  if (const onnx::AttributeProto *given = node.find("activations"); given && given->strings_size()) {
    for (const std::string &name : given->strings())
      names.push_back(name);
  } else {
    for (int64_t d = 0; d < directions; ++d)
      for (StringRef name : defaults)
        names.push_back(name.str());
  }
  if (names.size() != defaults.size() * directions)
    return node.error("has " + Twine(names.size()) + " activations, expected " + Twine(defaults.size() * directions));
  auto numbers = [&](const char *name) {
    SmallVector<double> list;
    if (const onnx::AttributeProto *given = node.find(name))
      list.assign(given->floats().begin(), given->floats().end());
    return list;
  };
  // Each activation that has a number takes the next one.
  SmallVector<double> alphas = numbers("activation_alpha"), betas = numbers("activation_beta");
  size_t nextAlpha = 0, nextBeta = 0;
  for (std::string &name : names) {
    std::string lower = StringRef(name).lower();
    const double none = -1e300;
    const double alpha = llvm::StringSwitch<double>(lower).Case("affine", 1).Case("leakyrelu", 0.01).Case("thresholdedrelu", 1).Case("scaledtanh", 1).Case("hardsigmoid", 0.2).Case("elu", 1).Default(none);
    const double beta = llvm::StringSwitch<double>(lower).Case("affine", 0).Case("scaledtanh", 1).Case("hardsigmoid", 0.5).Default(none);
    if (alpha == none && !llvm::is_contained({"relu", "tanh", "sigmoid", "softsign", "softplus"}, lower))
      return node.error("has the activation '" + name + "', which is not supported");
    activations.push_back({lower, alpha != none && nextAlpha < alphas.size() ? alphas[nextAlpha++] : alpha, beta != none && nextBeta < betas.size() ? betas[nextBeta++] : beta});
  }
  return success();
}

Value Recurrent::activate(const Activation &activation, Value x) {
  StringRef name = activation.name;
  auto number = [&](double value) { return emit.number(element, value); };
  auto positive = [&](Value y) { return emit.compare(ComparePredicate::gt, y, number(0)); };
  if (limit > 0)
    x = emit.min(emit.max(x, -limit), limit);
  if (name == "tanh")
    return emit.unary<train::TanhOp>(x);
  if (name == "sigmoid")
    return emit.unary<train::SigmoidOp>(x);
  if (name == "relu")
    return emit.unary<train::ReluOp>(x);
  if (name == "softplus")
    return emit.unary<train::SoftplusOp>(x);
  if (name == "softsign")
    return emit.div(x, emit.add(emit.unary<train::AbsOp>(x), 1.0));
  if (name == "affine")
    return emit.add(emit.mul(x, activation.alpha), activation.beta);
  if (name == "scaledtanh")
    return emit.mul(emit.unary<train::TanhOp>(emit.mul(x, activation.beta)), activation.alpha);
  if (name == "hardsigmoid")
    return emit.min(emit.max(emit.add(emit.mul(x, activation.alpha), activation.beta), 0.0), 1.0);
  if (name == "leakyrelu")
    return emit.select(positive(x), x, emit.mul(x, activation.alpha));
  if (name == "thresholdedrelu")
    return emit.select(emit.compare(ComparePredicate::gt, x, number(activation.alpha)), x, number(0));
  // Elu; the exponential of what is positive must not overflow.
  Value negative = emit.select(positive(x), number(0), x);
  return emit.select(positive(x), x, emit.mul(emit.sub(emit.unary<train::ExpOp>(negative), 1.0), activation.alpha));
}

FailureOr<Direction> Recurrent::direction(int64_t d) {
  Direction result;
  auto part = [&](int i) {
    Value value = node.operand(i);
    return value ? emit.pick(value, 0, d) : value;
  };
  Value weights = part(1);
  result.recurrent = weights ? part(2) : Value();
  if (!result.recurrent)
    return failure();
  Value bias;
  if (node.has(3)) {
    Value both = part(3);
    if (!both)
      return failure();
    Value ofInput = emit.slice(both, 0, 0, gates * hidden), ofState = emit.slice(both, 0, gates * hidden, gates * hidden);
    if (op == "GRU" && linearBeforeReset) {
      result.candidateBias = emit.slice(ofState, 0, 2 * hidden, hidden);
      ofState = emit.concat({emit.slice(ofState, 0, 0, 2 * hidden), emit.broadcast(emit.number(element, 0), {hidden})}, 0);
    }
    bias = emit.add(ofInput, ofState);
  }
  Value projected = train::MatmulOp::create(node.builder, node.loc, node.type({length * batch, gates * hidden}, element), input, weights, bias, false, true, APFloat(1.0));
  result.projected = emit.reshape(projected, {length, batch, gates * hidden});
  if (node.has(7) && op == "LSTM" && !(result.peepholes = part(7)))
    return failure();
  const size_t each = activations.size() / directions;
  result.activations.assign(activations.begin() + d * each, activations.begin() + (d + 1) * each);
  auto state = [&](int i) -> Value {
    if (!node.has(i))
      return emit.broadcast(emit.number(element, 0), {batch, hidden});
    Value value = node.operand(i);
    return value ? emit.pick(value, batchFirst ? 1 : 0, d) : value;
  };
  result.hidden = state(5);
  result.cell = result.hidden && op == "LSTM" ? state(6) : result.hidden;
  if (!result.cell)
    return failure();
  return result;
}

void Recurrent::step(Direction &d, Value inputs) {
  if (op == "RNN") {
    d.hidden = activate(d.activations[0], emit.add(inputs, product(d.hidden, d.recurrent)));
    return;
  }
  if (op == "LSTM") {
    Value sums = emit.add(inputs, product(d.hidden, d.recurrent)), i = gate(sums, 0), o = gate(sums, 1), f = gate(sums, 2), c = gate(sums, 3);
    auto peep = [&](Value gate, int64_t index, Value cell) { return d.peepholes ? emit.add(gate, emit.mul(cell, emit.slice(d.peepholes, 0, index * hidden, hidden))) : gate; };
    i = activate(d.activations[0], peep(i, 0, d.cell));
    f = inputForget ? emit.sub(one(i), i) : activate(d.activations[0], peep(f, 2, d.cell));
    d.cell = emit.add(emit.mul(f, d.cell), emit.mul(i, activate(d.activations[1], c)));
    d.hidden = emit.mul(activate(d.activations[0], peep(o, 1, d.cell)), activate(d.activations[2], d.cell));
    return;
  }
  // GRU: gates z, r and the candidate.
  Value candidate = gate(inputs, 2), update, reset;
  if (linearBeforeReset) {
    Value state = product(d.hidden, d.recurrent), ofState = gate(state, 2);
    Value both = activate(d.activations[0], emit.add(emit.slice(inputs, 1, 0, 2 * hidden), emit.slice(state, 1, 0, 2 * hidden)));
    update = gate(both, 0);
    reset = gate(both, 1);
    if (d.candidateBias)
      ofState = emit.add(ofState, d.candidateBias);
    candidate = emit.add(candidate, emit.mul(reset, ofState));
  } else {
    Value both = activate(d.activations[0], emit.add(emit.slice(inputs, 1, 0, 2 * hidden), product(d.hidden, emit.slice(d.recurrent, 0, 0, 2 * hidden))));
    update = gate(both, 0);
    reset = gate(both, 1);
    candidate = emit.add(candidate, product(emit.mul(reset, d.hidden), emit.slice(d.recurrent, 0, 2 * hidden, hidden)));
  }
  candidate = activate(d.activations[1], candidate);
  d.hidden = emit.add(emit.mul(emit.sub(one(update), update), candidate), emit.mul(update, d.hidden));
}

LogicalResult Recurrent::run() {
  if (failed(check()))
    return failure();
  Value x = node.operand(0), lengths;
  if (!x)
    return failure();
  if (batchFirst)
    x = emit.transpose(x, {1, 0, 2});
  input = emit.reshape(x, {length * batch, node.shape(0)[2]});
  if (node.has(4)) {
    // Lengths that are all whole sequences mask nothing.
    std::optional<SmallVector<int64_t, 8>> known = node.constant(4) ? node.constant(4)->asIntegers() : std::nullopt;
    if (!known || llvm::any_of(*known, [&](int64_t n) { return n < length; })) {
      if (!(lengths = node.operand(4)))
        return failure();
      lengths = emit.reshape(emit.cast(lengths, emit.i64), {batch, 1});
    }
  }
  SmallVector<Value> outputs, hiddens, cells;
  for (int64_t d = 0; d < directions; ++d) {
    FailureOr<Direction> direction = this->direction(d);
    if (failed(direction))
      return failure();
    SmallVector<Value> steps(length);
    const bool reverse = backwards || d == 1;
    for (int64_t i = 0; i < length; ++i) {
      const int64_t t = reverse ? length - 1 - i : i;
      Value hidden = direction->hidden, cell = direction->cell;
      step(*direction, emit.pick(direction->projected, 0, t));
      steps[t] = direction->hidden;
      if (lengths) {
        Value runs = emit.compare(ComparePredicate::gt, lengths, emit.number(t));
        steps[t] = emit.select(runs, direction->hidden, emit.number(element, 0));
        direction->hidden = emit.select(runs, direction->hidden, hidden);
        direction->cell = emit.select(runs, direction->cell, cell);
      }
    }
    if (node.wants(0)) {
      for (Value &value : steps)
        value = emit.reshape(value, {1, batch, this->hidden});
      outputs.push_back(emit.reshape(emit.concat(steps, 0), {length, 1, batch, this->hidden}));
    }
    hiddens.push_back(emit.reshape(direction->hidden, {1, batch, this->hidden}));
    cells.push_back(emit.reshape(direction->cell, {1, batch, this->hidden}));
  }
  if (node.wants(0)) { // [T, D, B, H]
    Value all = emit.concat(outputs, 1);
    node.result(0, batchFirst ? emit.transpose(all, {2, 0, 1, 3}) : all);
  }
  auto state = [&](int i, ArrayRef<Value> parts) {
    if (!node.wants(i))
      return;
    Value all = emit.concat(parts, 0);
    node.result(i, batchFirst ? emit.transpose(all, {1, 0, 2}) : all);
  };
  state(1, hiddens);
  if (op == "LSTM")
    state(2, cells);
  return success();
}

LogicalResult lowerRecurrent(NodeImporter &node) { return Recurrent(node).run(); }

} // namespace zopt::importer
