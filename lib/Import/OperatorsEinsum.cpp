//===- OperatorsEinsum.cpp - Einsum and the Fourier transforms --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Operators.h"

#include <cmath>
#include <map>

using namespace mlir;

namespace zopt::importer {

//===----------------------------------------------------------------------===//
// Einsum
//===----------------------------------------------------------------------===//

namespace {
/// A value with a label for each axis. Letters are themselves; the axes of an ellipsis are numbered from the last one
/// on: -1, -2, ...
struct Labelled {
  Value value;
  SmallVector<int> labels;
};
using Sizes = std::map<int, int64_t>;
} // namespace

/// Labels of one term; nothing where it is no list of letters with at most one ellipsis.
static std::optional<SmallVector<int>> parseTerm(StringRef term, int64_t ellipsis) {
  SmallVector<int> labels;
  bool seen = false;
  while (!term.empty()) {
    if (term.consume_front("...")) {
      if (seen)
        return std::nullopt;
      seen = true;
      for (int64_t i = ellipsis; i > 0; --i)
        labels.push_back(-i);
    } else if (isalpha(static_cast<unsigned char>(term.front()))) {
      labels.push_back(term.front());
      term = term.drop_front();
    } else {
      return std::nullopt;
    }
  }
  return labels;
}

static Value permuteTo(Emit &emit, const Labelled &x, ArrayRef<int> labels) {
  SmallVector<int64_t> permutation;
  for (int label : labels)
    permutation.push_back(llvm::find(x.labels, label) - x.labels.begin());
  return emit.transpose(x.value, permutation);
}

/// A label that stands twice selects the diagonal.
static void takeDiagonals(Emit &emit, Labelled &x) {
  for (size_t i = 0; i < x.labels.size(); ++i)
    for (size_t j = x.labels.size() - 1; j > i; --j) {
      if (x.labels[j] != x.labels[i])
        continue;
      // Both axes to the end, where they are one axis of n * n whose every (n + 1)th element is kept.
      const int64_t last = x.labels.size() - 1;
      Value value = emit.moveAxis(emit.moveAxis(x.value, j, last), i, last);
      Shape shape(Emit::shapeOf(value));
      const int64_t n = shape.pop_back_val();
      shape.back() = n * n;
      value = emit.slice(emit.reshape(value, shape), last - 1, 0, n, n + 1);
      x.value = emit.moveAxis(value, last - 1, i);
      x.labels.erase(x.labels.begin() + j);
    }
}

static void sumOut(Emit &emit, Labelled &x, llvm::function_ref<bool(int)> keeps) {
  SmallVector<int64_t> axes;
  SmallVector<int> kept;
  for (auto [axis, label] : llvm::enumerate(x.labels)) {
    if (keeps(label))
      kept.push_back(label);
    else
      axes.push_back(axis);
  }
  x.value = emit.sumAway(x.value, axes);
  x.labels = kept;
}

/// a and b joined: labels that nothing else `keeps` are summed over. Without a value (and an error) where that is too
/// large.
static Labelled join(Emit &emit, Labelled a, Labelled b, const Sizes &sizes, llvm::function_ref<bool(int)> keeps) {
  auto in = [](const Labelled &x, int label) { return llvm::is_contained(x.labels, label); };
  sumOut(emit, a, [&](int label) { return keeps(label) || in(b, label); });
  sumOut(emit, b, [&](int label) { return keeps(label) || in(a, label); });
  SmallVector<int> batch, left, right, inner;
  for (int label : a.labels)
    (in(b, label) ? keeps(label) ? batch : inner : left).push_back(label);
  for (int label : b.labels)
    if (!in(a, label))
      right.push_back(label);
  auto shapeOf = [&](std::initializer_list<ArrayRef<int>> lists) {
    Shape shape;
    for (ArrayRef<int> list : lists)
      for (int label : list)
        shape.push_back(sizes.at(label));
    return shape;
  };
  auto arrange = [&](const Labelled &x, std::initializer_list<ArrayRef<int>> lists) {
    SmallVector<int> order;
    for (ArrayRef<int> list : lists)
      order.append(list.begin(), list.end());
    return emit.broadcast(permuteTo(emit, x, order), shapeOf(lists)); // an axis of an ellipsis may have been 1
  };
  Labelled result;
  for (ArrayRef<int> list : {ArrayRef<int>(batch), ArrayRef<int>(left), ArrayRef<int>(right)})
    result.labels.append(list.begin(), list.end());
  const Shape shape = shapeOf({batch, left, right});
  if (failed(emit.checkSize(shapeOf({batch, left, right, inner}))))
    return Labelled();
  const int64_t b0 = countElements(shapeOf({batch})), m = countElements(shapeOf({left})),
                n = countElements(shapeOf({right})), k = countElements(shapeOf({inner}));
  Value lhs = arrange(a, {batch, left, inner}), rhs = arrange(b, {batch, inner, right});
  const Type element = Emit::elementOf(lhs);
  if (isa<FloatType>(element) && !inner.empty()) {
    SmallVector<int64_t> l = {m, k}, r = {k, n}, o = {m, n};
    if (!batch.empty())
      for (SmallVector<int64_t> *s : {&l, &r, &o})
        s->insert(s->begin(), b0);
    Value product = train::MatmulOp::create(emit.b, emit.loc, RankedTensorType::get(o, element), emit.reshape(lhs, l),
                                            emit.reshape(rhs, r), /*bias=*/Value(), false, false, APFloat(1.0));
    result.value = emit.reshape(product, shape);
    return result;
  }
  Value product = emit.mul(emit.reshape(lhs, {b0, m, 1, k}),
                           emit.reshape(emit.transpose(emit.reshape(rhs, {b0, k, n}), {0, 2, 1}), {b0, 1, n, k}));
  result.value = emit.reshape(emit.sumAway(product, {3}), shape);
  return result;
}

LogicalResult lowerEinsum(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1, 2})))
    return failure();
  std::string equation = node.attribute("equation", StringRef("")).str();
  llvm::erase(equation, ' ');
  auto malformed = [&] {
    return node.error("the equation '" + equation + "' is not one of terms of letters for " + Twine(node.inputs()) +
                      " operands");
  };
  auto [left, right] = StringRef(equation).split("->");
  const bool isExplicit = StringRef(equation).contains("->");
  SmallVector<StringRef> terms;
  left.split(terms, ',');
  if (node.inputs() < 1 || static_cast<int>(terms.size()) != node.inputs())
    return malformed();
  Emit emit(node);
  SmallVector<Labelled> operands;
  Sizes sizes;
  std::map<int, int> uses;
  int64_t widest = 0;
  for (int i = 0; i < node.inputs(); ++i) {
    if (!node.has(i) || node.element(i) != node.element(0) || node.element(i).isInteger(1))
      return node.error("needs operands of one type of numbers");
    const int64_t letters = llvm::count_if(terms[i], [](char c) { return c != '.'; }),
                  ellipsis = terms[i].contains("...") ? node.rank(i) - letters : 0;
    std::optional<SmallVector<int>> labels = ellipsis < 0 ? std::nullopt : parseTerm(terms[i], ellipsis);
    if (!labels || static_cast<int64_t>(labels->size()) != node.rank(i))
      return malformed();
    widest = std::max(widest, ellipsis);
    for (auto [label, size] : llvm::zip(*labels, node.shape(i))) {
      int64_t &known = sizes.try_emplace(label, size).first->second;
      if (known != size && !(label < 0 && (known == 1 || size == 1)))
        return node.error("operand " + Twine(i) + " " + describe(node.shape(i)) + " does not fit the equation '" +
                          equation + "': an axis has " + Twine(known) + " and " + Twine(size) + " elements");
      known = std::max(known, size);
      ++uses[label];
    }
    operands.push_back({Value(), *labels});
  }
  SmallVector<int> output;
  if (isExplicit) {
    std::optional<SmallVector<int>> labels = parseTerm(right, widest);
    if (!labels)
      return malformed();
    output = *labels;
  } else { // the ellipsis, then letters that stand once, in order
    for (auto [label, count] : uses)
      if (label < 0 || count == 1)
        output.push_back(label);
  }
  for (size_t i = 0; i < output.size(); ++i)
    if (!sizes.count(output[i]) || llvm::is_contained(ArrayRef(output).take_front(i), output[i]))
      return malformed();
  for (int i = 0; i < node.inputs(); ++i) {
    if (!(operands[i].value = node.operand(i)))
      return failure();
    takeDiagonals(emit, operands[i]);
  }
  Labelled result = operands[0];
  for (size_t i = 1; i < operands.size(); ++i) {
    result = join(emit, result, operands[i], sizes, [&](int label) {
      return llvm::is_contained(output, label) ||
             llvm::any_of(ArrayRef(operands).drop_front(i + 1),
                          [&](const Labelled &other) { return llvm::is_contained(other.labels, label); });
    });
    if (!result.value)
      return failure();
  }
  sumOut(emit, result, [&](int label) { return llvm::is_contained(output, label); });
  node.result(0, permuteTo(emit, result, output));
  return success();
}

//===----------------------------------------------------------------------===//
// Fourier transforms: products with a matrix of cosines and sines
//===----------------------------------------------------------------------===//

/// cos and sin of 2 pi j k / n for j < rows and k < columns, [rows, columns].
static std::pair<Value, Value> circle(Emit &emit, int64_t rows, int64_t columns, int64_t n, Type element) {
  // j k modulo n, so that angles stay small.
  Value product = emit.mul(emit.iota(2, 0, rows), emit.iota(2, 1, columns));
  product = emit.sub(product, emit.mul(emit.div(product, emit.number(n)), emit.number(n)));
  Value angle = emit.mul(emit.cast(product, emit.b.getF64Type()), 2 * M_PI / n);
  return {emit.cast(emit.unary<train::CosOp>(angle), element), emit.cast(emit.unary<train::SinOp>(angle), element)};
}

static Value product(Emit &emit, Value x, Value matrix) {
  Shape shape(Emit::shapeOf(x));
  shape.back() = Emit::shapeOf(matrix).back();
  return train::MatmulOp::create(emit.b, emit.loc, RankedTensorType::get(shape, Emit::elementOf(x)), x, matrix,
                                 /*bias=*/Value(), false, false, APFloat(1.0));
}

/// The transform of rows [..., used] (imaginary: null for real ones), taken as n long, at `kept` frequencies: [...,
/// kept, 2], or its inverse.
static Value transform(Emit &emit, Value real, Value imaginary, int64_t n, int64_t kept, bool inverse) {
  auto [cosine, sine] = circle(emit, Emit::shapeOf(real).back(), kept, n, Emit::elementOf(real));
  // e^(-i a) = cos a - i sin a, conjugate for the inverse.
  Value re = product(emit, real, cosine), im = product(emit, real, inverse ? sine : emit.unary<train::NegOp>(sine));
  if (imaginary) {
    Value crossed = product(emit, imaginary, sine);
    re = inverse ? emit.sub(re, crossed) : emit.add(re, crossed);
    im = emit.add(im, product(emit, imaginary, cosine));
  }
  Shape shape(Emit::shapeOf(re));
  shape.push_back(1);
  Value joined = emit.concat({emit.reshape(re, shape), emit.reshape(im, shape)}, shape.size() - 1);
  return inverse ? emit.mul(joined, 1.0 / n) : joined;
}

/// The real rows [..., n, 1] whose transform at frequencies 0 to n / 2 is given.
static Value inverseOfHalf(Emit &emit, Value real, Value imaginary, int64_t n) {
  const int64_t kept = n / 2 + 1;
  const Type element = Emit::elementOf(real);
  auto [cosine, sine] = circle(emit, kept, n, n, element);
  // Each frequency stands for its conjugate too, but for 0 and half of n.
  Value k = emit.iota(2, 0, kept), single = emit.compare(train::ComparePredicate::eq, k, emit.number(0));
  if (n % 2 == 0)
    single = emit.logicalOr(single, emit.compare(train::ComparePredicate::eq, k, emit.number(n / 2)));
  Value weight = emit.select(single, emit.number(element, 1.0 / n), emit.number(element, 2.0 / n));
  Value result =
      emit.sub(product(emit, real, emit.mul(cosine, weight)), product(emit, imaginary, emit.mul(sine, weight)));
  Shape shape(Emit::shapeOf(result));
  shape.push_back(1);
  return emit.reshape(result, shape);
}

static constexpr int64_t longestTransform = 4096;

LogicalResult lowerDFT(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1, 2})))
    return failure();
  const int64_t rank = node.rank(0);
  const bool inverse = node.attribute("inverse", int64_t(0)) != 0,
             onesided = node.attribute("onesided", int64_t(0)) != 0;
  int64_t axis = node.attribute("axis", int64_t(node.graph.opset >= 20 ? -2 : 1));
  if (node.has(2)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(2, "the axis");
    if (failed(named))
      return failure();
    if (named->size() != 1)
      return node.error("the axis must be one number");
    axis = named->front();
  }
  if (axis < 0)
    axis += rank;
  if (rank < 2 || axis < 0 || axis >= rank - 1 || node.shape(0).back() > 2 || node.shape(0).back() < 1 ||
      !isa<FloatType>(node.element(0)))
    return node.error("cannot transform axis " + Twine(axis) + " of " + describe(node.shape(0)) +
                      ": the last axis must hold one or two floats");
  const bool half = inverse && onesided;
  int64_t n = half ? 2 * (node.shape(0)[axis] - 1) : node.shape(0)[axis];
  if (node.has(1)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "the length");
    if (failed(named))
      return failure();
    if (named->size() != 1 || named->front() < 1)
      return node.error("the length must be one number of at least 1");
    n = named->front();
  }
  const bool complexInput = node.shape(0).back() == 2;
  if (half && (!complexInput || n < 1))
    return node.error("a one-sided inverse needs complex numbers and a length of at least 1");
  if (n > longestTransform)
    return node.error("transforms " + Twine(n) + " elements; at most " + Twine(longestTransform) + " are supported");
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  input = emit.moveAxis(input, axis, rank - 2);
  if (half) {
    const int64_t kept = n / 2 + 1, given = node.shape(0)[axis];
    if (given < kept)
      return node.error("has " + Twine(given) + " frequencies, but a one-sided inverse of length " + Twine(n) +
                        " needs " + Twine(kept));
    input = emit.slice(input, rank - 2, 0, kept);
    node.result(0, emit.moveAxis(inverseOfHalf(emit, emit.pick(input, rank - 1, 0), emit.pick(input, rank - 1, 1), n),
                                 rank - 2, axis));
    return success();
  }
  input = emit.slice(input, rank - 2, 0, std::min(n, node.shape(0)[axis])); // what is missing is 0
  Value result = transform(emit, emit.pick(input, rank - 1, 0), complexInput ? emit.pick(input, rank - 1, 1) : Value(),
                           n, onesided ? n / 2 + 1 : n, inverse);
  node.result(0, emit.moveAxis(result, rank - 2, axis));
  return success();
}

LogicalResult lowerSTFT(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1, 2})))
    return failure();
  FailureOr<SmallVector<int64_t, 8>> step = node.integers(1, "the step");
  if (failed(step))
    return failure();
  int64_t length = node.has(2) && node.rank(2) == 1 ? node.shape(2)[0] : 0;
  if (node.has(3)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(3, "the length");
    if (failed(named))
      return failure();
    length = named->size() == 1 ? named->front() : 0;
  }
  const int64_t rank = node.rank(0), samples = rank >= 2 ? node.shape(0)[1] : 0;
  if ((rank != 2 && rank != 3) || !isa<FloatType>(node.element(0)) || step->size() != 1 || step->front() < 1 ||
      length < 1 || length > samples || length > longestTransform || (rank == 3 && node.shape(0)[2] > 2) ||
      (node.has(2) && (node.shape(2) != ArrayRef<int64_t>({length}) || node.element(2) != node.element(0))))
    return node.error("cannot transform frames of " + Twine(length) + " elements, at most " + Twine(longestTransform) +
                      ", every " + describe(*step) + " of a signal " + describe(node.shape(0)));
  const bool complexInput = rank == 3 && node.shape(0)[2] == 2, onesided = node.attribute("onesided", int64_t(1)) != 0;
  Value signal = node.operand(0), window = signal && node.has(2) ? node.operand(2) : Value();
  if (!signal || (node.has(2) && !window))
    return failure();
  Emit emit(node);
  const int64_t batch = node.shape(0)[0], frames = (samples - length) / step->front() + 1;
  if (failed(emit.checkSize({batch, frames, length, 2})))
    return failure();
  signal = emit.reshape(signal, {batch, samples, complexInput ? 2 : 1});
  Value places = emit.add(emit.iota(2, 0, frames, 0, step->front()), emit.iota(2, 1, length));
  auto framesOf = [&](int64_t part) {
    Value one = emit.pick(signal, 2, part);
    Value framed = train::GatherOp::create(node.builder, node.loc, node.type({batch, frames, length}, node.element(0)),
                                           one, places, /*axis=*/1);
    return window ? emit.mul(framed, window) : framed;
  };
  Value real = framesOf(0);
  node.result(0, transform(emit, real, complexInput ? framesOf(1) : Value(), length, onesided ? length / 2 + 1 : length,
                           /*inverse=*/false));
  return success();
}

} // namespace zopt::importer
