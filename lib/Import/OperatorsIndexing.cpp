//===- OperatorsIndexing.cpp - ONNX operators that read or write by index -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Indices that depend on the data become linear indices into rows, for train.gather and train.scatter; known ones
// become slices where they can.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"
#include "Operators.h"

using namespace mlir;

namespace zopt::importer {

using train::ComparePredicate;

static bool isIndex(NodeImporter &node, int i) {
  return node.has(i) && isa<IntegerType>(node.element(i)) && !node.element(i).isInteger(1);
}

/// The values of a known integer operand, as many as it has; nothing where it is not known or larger than `most`.
static std::optional<SmallVector<int64_t>> knownIntegers(NodeImporter &node, int i, int64_t most = int64_t(1) << 22) {
  const Constant *constant = node.constant(i);
  if (!constant || !constant->isInteger() || countElements(constant->shape()) > most)
    return std::nullopt;
  std::optional<std::vector<Scalar>> values = constant->expanded();
  if (!values)
    return std::nullopt;
  return llvm::map_to_vector<6>(*values, [](Scalar s) { return s.integer; });
}

static LogicalResult checkRange(NodeImporter &node, int64_t index, int64_t size) {
  if (index >= -size && index < size)
    return success();
  return node.error("index " + Twine(index) + " is out of range for an axis of " + Twine(size));
}

//===----------------------------------------------------------------------===//
// Elements by index along one axis
//===----------------------------------------------------------------------===//

/// Operands 0 and 1 of GatherElements and ScatterElements: one rank, indices no larger than data along the other axes.
static LogicalResult checkElementIndices(NodeImporter &node, int64_t axis) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  bool fits = isIndex(node, 1) && node.rank(1) == node.rank(0);
  for (int64_t a = 0; fits && a < node.rank(0); ++a)
    fits = a == axis || node.shape(1)[a] <= node.shape(0)[a];
  if (fits)
    return success();
  return node.error("indices " + (node.has(1) ? describe(node.shape(1)) : std::string("that are missing")) +
                    " do not select elements of " + describe(node.shape(0)) + " along axis " + Twine(axis) +
                    (isIndex(node, 1) ? "" : ": they must be integers"));
}

/// The place of each selected element in the flat data.
static Value linearElements(Emit &emit, Value indices, ArrayRef<int64_t> data, int64_t axis) {
  const Shape strides = rowMajorStrides(data);
  const int64_t rank = data.size();
  Value linear = emit.mul(emit.normalize(indices, data[axis]), emit.number(strides[axis]));
  for (int64_t a = 0; a < rank; ++a)
    if (a != axis && Emit::shapeOf(indices)[a] != 1)
      linear = emit.add(linear, emit.iota(rank, a, Emit::shapeOf(indices)[a], 0, strides[a]));
  return linear;
}

/// The same for known indices.
static FailureOr<SmallVector<int64_t>> linearElements(NodeImporter &node, ArrayRef<int64_t> indices,
                                                      ArrayRef<int64_t> shape, ArrayRef<int64_t> data, int64_t axis) {
  const Shape strides = rowMajorStrides(data);
  SmallVector<int64_t> linear;
  Shape at(shape.size(), 0);
  for (int64_t index : indices) {
    if (failed(checkRange(node, index, data[axis])))
      return failure();
    int64_t place = 0;
    for (size_t a = 0; a < shape.size(); ++a)
      place += strides[a] * (static_cast<int64_t>(a) != axis ? at[a] : index < 0 ? index + data[axis] : index);
    linear.push_back(place);
    for (int64_t a = static_cast<int64_t>(shape.size()) - 1; a >= 0 && ++at[a] == shape[a]; --a)
      at[a] = 0;
  }
  return linear;
}

LogicalResult lowerGatherElements(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis) || failed(checkElementIndices(node, *axis)))
    return failure();
  Emit emit(node);
  if (failed(emit.checkSize(node.shape(1))))
    return failure();
  if (std::optional<SmallVector<int64_t>> known = knownIntegers(node, 1))
    for (int64_t index : *known)
      if (failed(checkRange(node, index, node.shape(0)[*axis])))
        return failure();
  Value data = node.operand(0), indices = data ? node.operand(1) : Value();
  if (!indices)
    return failure();
  node.result(0, emit.gather(emit.reshape(data, {countElements(node.shape(0))}),
                             linearElements(emit, indices, node.shape(0), *axis)));
  return success();
}

//===----------------------------------------------------------------------===//
// Scattering
//===----------------------------------------------------------------------===//

static FailureOr<train::ScatterReduction> reductionOf(NodeImporter &node) {
  StringRef name = node.attribute("reduction", StringRef("none"));
  std::optional<train::ScatterReduction> reduction = train::symbolizeScatterReduction(name);
  if (!reduction)
    return node.error("reduction is '" + name + "', but it must be none, add, mul, max or min");
  return *reduction;
}

/// Rows of `data` [N, ...] at `indices` [P] meet `updates` [P, ...]. `known`: the indices, normalized, where they are
/// known.
static Value scatterRows(Emit &emit, train::ScatterReduction reduction, Value data,
                         const std::optional<SmallVector<int64_t>> &known, llvm::function_ref<Value()> indices,
                         Value updates) {
  const int64_t rows = Emit::shapeOf(data)[0];
  // A sum of bools is whether one holds, their product whether all do.
  if (Type element = Emit::elementOf(data); element.isInteger(1) && reduction != train::ScatterReduction::none) {
    using train::ScatterReduction;
    reduction = reduction == ScatterReduction::add || reduction == ScatterReduction::max ? ScatterReduction::max
                                                                                         : ScatterReduction::min;
    Type byte = emit.b.getIntegerType(8);
    return emit.cast(train::ScatterOp::create(emit.b, emit.loc, reduction, emit.cast(data, byte), indices(),
                                              emit.cast(updates, byte)),
                     element);
  }
  if (known && reduction == train::ScatterReduction::none) {
    // Row v of the result is row v of the data, or the last update that goes there.
    constexpr int64_t mostRows = int64_t(1) << 20;
    if (rows <= mostRows) {
      SmallVector<int64_t> places = llvm::to_vector<6>(llvm::seq<int64_t>(0, rows));
      for (auto [p, index] : llvm::enumerate(*known))
        places[index] = rows + p;
      size_t runs = 1;
      for (int64_t v = 1; v < rows; ++v)
        runs += places[v] != places[v - 1] + 1;
      if (runs <= 8 || rows <= 256)
        return emit.take({data, updates}, 0, places);
    }
  }
  if (reduction == train::ScatterReduction::add && isa<FloatType>(Emit::elementOf(data)))
    return emit.add(data,
                    train::GatherGradOp::create(emit.b, emit.loc, data.getType(), updates, indices(), /*axis=*/0));
  return train::ScatterOp::create(emit.b, emit.loc, reduction, data, indices(), updates);
}

LogicalResult lowerScatterElements(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  FailureOr<train::ScatterReduction> reduction = reductionOf(node);
  if (failed(axis) || failed(reduction) || failed(checkElementIndices(node, *axis)))
    return failure();
  if (!node.has(2) || node.shape(2) != node.shape(1) || node.element(2) != node.element(0))
    return node.error("updates " + (node.has(2) ? describe(node.shape(2)) : std::string("that are missing")) +
                      " do not fit indices " + describe(node.shape(1)) + " and the data's element type");
  std::optional<SmallVector<int64_t>> known = knownIntegers(node, 1);
  if (known) {
    FailureOr<SmallVector<int64_t>> linear = linearElements(node, *known, node.shape(1), node.shape(0), *axis);
    if (failed(linear))
      return failure();
    known = *linear;
  }
  Emit emit(node);
  Value data = node.operand(0), updates = data ? node.operand(2) : Value(),
        indices = updates ? node.operand(1) : Value();
  if (!indices || failed(emit.checkSize(node.shape(1))))
    return failure();
  const int64_t count = countElements(node.shape(1));
  Value result = scatterRows(
      emit, *reduction, emit.reshape(data, {countElements(node.shape(0))}), known,
      [&] {
        return emit.reshape(emit.broadcast(linearElements(emit, indices, node.shape(0), *axis), node.shape(1)),
                            {count});
      },
      emit.reshape(updates, {count}));
  if (!result)
    return failure();
  node.result(0, emit.reshape(result, node.shape(0)));
  return success();
}

//===----------------------------------------------------------------------===//
// Rows by index tuples
//===----------------------------------------------------------------------===//

namespace {
/// Indices [..., r] that select along axes [batch, batch + r) of data.
struct Tuples {
  int64_t batch = 0, size = 0;
  Shape selected; ///< of the indices, without their last axis
  Shape inner;    ///< of data, behind the selected axes
  int64_t rows = 1;
};
} // namespace

static FailureOr<Tuples> tuplesOf(NodeImporter &node, int64_t batch) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  const int64_t rank = node.rank(0);
  Tuples t;
  t.batch = batch;
  bool fits = isIndex(node, 1) && node.rank(1) >= 1 && batch >= 0 && batch < node.rank(1) && batch <= rank;
  if (fits) {
    t.size = node.shape(1).back();
    fits = t.size >= 1 && batch + t.size <= rank && node.shape(1).take_front(batch) == node.shape(0).take_front(batch);
  }
  if (!fits)
    return node.error("indices " + (node.has(1) ? describe(node.shape(1)) : std::string("that are missing")) +
                      " with batch_dims " + Twine(batch) + " do not select from " + describe(node.shape(0)));
  t.selected.append(node.shape(1).begin(), node.shape(1).end() - 1);
  t.inner.append(node.shape(0).begin() + batch + t.size, node.shape(0).end());
  t.rows = countElements(node.shape(0).take_front(batch + t.size));
  return t;
}

/// The row that each tuple selects.
static Value linearRows(Emit &emit, Value indices, ArrayRef<int64_t> data, const Tuples &t) {
  const Shape strides = rowMajorStrides(data.take_front(t.batch + t.size));
  const int64_t rank = t.selected.size();
  Value linear;
  auto add = [&](Value term) { linear = linear ? emit.add(linear, term) : term; };
  for (int64_t j = 0; j < t.size; ++j)
    add(emit.mul(emit.normalize(emit.pick(indices, rank, j), data[t.batch + j]), emit.number(strides[t.batch + j])));
  for (int64_t a = 0; a < t.batch; ++a)
    add(emit.iota(rank, a, data[a], 0, strides[a]));
  return emit.broadcast(linear, t.selected);
}

static FailureOr<SmallVector<int64_t>> linearRows(NodeImporter &node, ArrayRef<int64_t> indices, ArrayRef<int64_t> data,
                                                  const Tuples &t) {
  const Shape strides = rowMajorStrides(data.take_front(t.size));
  SmallVector<int64_t> linear;
  for (size_t i = 0; i < indices.size(); i += t.size) {
    int64_t place = 0;
    for (int64_t j = 0; j < t.size; ++j) {
      const int64_t index = indices[i + j];
      if (failed(checkRange(node, index, data[j])))
        return failure();
      place += (index < 0 ? index + data[j] : index) * strides[j];
    }
    linear.push_back(place);
  }
  return linear;
}

static Shape joined(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  Shape shape(a);
  shape.append(b.begin(), b.end());
  return shape;
}

LogicalResult lowerGatherND(NodeImporter &node) {
  if (Value moved = gatherGrid(node)) {
    node.result(0, moved);
    return success();
  }
  FailureOr<Tuples> t = tuplesOf(node, node.attribute("batch_dims", int64_t(0)));
  if (failed(t))
    return failure();
  Emit emit(node);
  const Shape shape = joined(t->selected, t->inner);
  if (failed(emit.checkSize(shape)))
    return failure();
  std::optional<SmallVector<int64_t>> known = t->batch == 0 ? knownIntegers(node, 1) : std::nullopt;
  FailureOr<SmallVector<int64_t>> linear = SmallVector<int64_t>();
  if (known && failed(linear = linearRows(node, *known, node.shape(0), *t)))
    return failure();
  Value data = node.operand(0), indices = data ? node.operand(1) : Value();
  if (!indices)
    return failure();
  data = emit.reshape(data, joined({t->rows}, t->inner));
  Value result = known && linear->size() <= 256 ? emit.take({data}, 0, *linear)
                                                : emit.gather(data, linearRows(emit, indices, node.shape(0), *t));
  if (!result)
    return failure();
  node.result(0, emit.reshape(result, shape));
  return success();
}

LogicalResult lowerScatterND(NodeImporter &node) {
  FailureOr<Tuples> t = tuplesOf(node, 0);
  FailureOr<train::ScatterReduction> reduction = reductionOf(node);
  if (failed(t) || failed(reduction))
    return failure();
  const Shape expected = joined(t->selected, t->inner);
  if (!node.has(2) || node.shape(2) != ArrayRef(expected) || node.element(2) != node.element(0))
    return node.error("updates " + (node.has(2) ? describe(node.shape(2)) : std::string("that are missing")) +
                      " are not " + describe(expected) + " of the data's element type");
  std::optional<SmallVector<int64_t>> known = knownIntegers(node, 1);
  if (known) {
    FailureOr<SmallVector<int64_t>> linear = linearRows(node, *known, node.shape(0), *t);
    if (failed(linear))
      return failure();
    known = *linear;
  }
  Emit emit(node);
  Value data = node.operand(0), updates = data ? node.operand(2) : Value(),
        indices = updates ? node.operand(1) : Value();
  if (!indices || failed(emit.checkSize(expected)))
    return failure();
  const int64_t count = countElements(t->selected);
  Value result = scatterRows(
      emit, *reduction, emit.reshape(data, joined({t->rows}, t->inner)), known,
      [&] { return emit.reshape(linearRows(emit, indices, node.shape(0), *t), {count}); },
      emit.reshape(updates, joined({count}, t->inner)));
  if (!result)
    return failure();
  node.result(0, emit.reshape(result, node.shape(0)));
  return success();
}

LogicalResult lowerTensorScatter(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(-2)), node.rank(0));
  if (failed(axis))
    return failure();
  StringRef mode = node.attribute("mode", StringRef("linear"));
  if (*axis == 0 || (mode != "linear" && mode != "circular"))
    return node.error("has axis " + Twine(*axis) + " and mode '" + mode +
                      "', expected an axis behind the batch and the mode linear or circular");
  bool fits = node.has(1) && node.rank(1) == node.rank(0) && node.element(1) == node.element(0) &&
              (!node.has(2) || (isIndex(node, 2) && node.shape(2) == node.shape(0).take_front(1)));
  for (int64_t a = 0; fits && a < node.rank(0); ++a)
    fits = a == *axis ? node.shape(1)[a] <= node.shape(0)[a] : node.shape(1)[a] == node.shape(0)[a];
  if (!fits)
    return node.error("an update and its indices do not fit a cache " + describe(node.shape(0)));
  Value cache = node.operand(0), update = cache ? node.operand(1) : Value();
  if (!update)
    return failure();
  Emit emit(node);
  const int64_t batch = node.shape(0)[0], length = node.shape(0)[*axis], steps = node.shape(1)[*axis];
  if (!node.has(2)) { // rows [0, steps) of the cache
    SmallVector<Value> parts = {update};
    if (steps < length)
      parts.push_back(emit.slice(cache, *axis, steps, length - steps));
    node.result(0, emit.concat(parts, *axis));
    return success();
  }
  Value first = node.operand(2);
  if (!first)
    return failure();
  Value at = emit.add(emit.reshape(emit.cast(first, emit.i64), {batch, 1}), emit.iota(2, 1, steps));
  if (mode == "circular")
    at = emit.sub(at, emit.mul(emit.div(at, emit.number(length)), emit.number(length)));
  at = emit.add(emit.min(emit.max(at, emit.number(0)), emit.number(length - 1)), emit.iota(2, 0, batch, 0, length));
  Value rows = emit.moveAxis(cache, *axis, 1), updates = emit.moveAxis(update, *axis, 1);
  const Shape moved(Emit::shapeOf(rows));
  const ArrayRef<int64_t> inner = ArrayRef(moved).drop_front(2);
  Value result = train::ScatterOp::create(
      emit.b, emit.loc, train::ScatterReduction::none, emit.reshape(rows, joined({batch * length}, inner)),
      emit.reshape(at, {batch * steps}), emit.reshape(updates, joined({batch * steps}, inner)));
  node.result(0, emit.moveAxis(emit.reshape(result, moved), 1, *axis));
  return success();
}

LogicalResult lowerMaxUnpool(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  const int64_t spatial = node.rank(0) - 2;
  auto list = [&](const char *name, size_t count, int64_t otherwise) {
    return node.attributeInts(name).value_or(SmallVector<int64_t, 8>(count, otherwise));
  };
  const size_t axes = std::max<int64_t>(spatial, 0);
  SmallVector<int64_t, 8> kernel = list("kernel_shape", 0, 1), pads = list("pads", 2 * axes, 0),
                          strides = list("strides", axes, 1);
  if (spatial < 1 || !isIndex(node, 1) || node.shape(1) != node.shape(0) || kernel.size() != axes ||
      pads.size() != 2 * axes || strides.size() != axes)
    return node.error("pooled values " + describe(node.shape(0)) + ", their indices, a kernel " + describe(kernel) +
                      ", strides and pads do not fit");
  // Indices are into the tensor that was pooled; `output_shape` adds zeros behind it.
  Shape inferred(node.shape(0)), shape;
  constexpr int64_t most = int64_t(1) << 31;
  for (ArrayRef<int64_t> list : {ArrayRef<int64_t>(kernel), ArrayRef<int64_t>(pads), ArrayRef<int64_t>(strides)})
    for (int64_t number : list)
      if (number < 0 || number > most)
        return node.error("has a kernel, stride or pad of " + Twine(number));
  for (size_t i = 0; i < axes; ++i)
    inferred[2 + i] = (inferred[2 + i] - 1) * strides[i] - pads[i] - pads[axes + i] + kernel[i];
  shape = inferred;
  if (node.has(2)) {
    FailureOr<SmallVector<int64_t, 8>> named = node.integers(2, "the shape");
    if (failed(named))
      return failure();
    shape.assign(named->begin(), named->end());
  }
  bool fits = shape.size() == inferred.size();
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] >= inferred[i];
  Emit emit(node);
  if (failed(emit.checkSize(inferred)) || (fits && failed(emit.checkSize(shape))))
    return failure();
  if (!fits)
    return node.error("unpools to " + describe(inferred) + ", which " + describe(shape) + " does not hold");
  Value values = node.operand(0), indices = values ? node.operand(1) : Value();
  if (!indices)
    return failure();
  const int64_t count = countElements(node.shape(0)), places = countElements(inferred);
  Value empty = emit.broadcast(emit.number(node.element(0), 0), {places});
  Value result = train::ScatterOp::create(emit.b, emit.loc, train::ScatterReduction::none, empty,
                                          emit.reshape(indices, {count}), emit.reshape(values, {count}));
  result = emit.reshape(result, inferred);
  if (shape != inferred)
    result = train::SliceGradOp::create(emit.b, emit.loc, node.type(shape, node.element(0)), result,
                                        Shape(shape.size(), 0), Shape(shape.size(), 1));
  node.result(0, result);
  return success();
}

//===----------------------------------------------------------------------===//
// OneHot, TopK, ReverseSequence, Compress
//===----------------------------------------------------------------------===//

LogicalResult lowerOneHot(NodeImporter &node) {
  std::optional<Scalar> scalar = node.constant(1) ? node.constant(1)->asSplat() : std::nullopt;
  if (node.inputs() != 3 || !scalar)
    return node.error("needs indices, a depth that is known when the model is imported, and two values");
  const int64_t depth = node.constant(1)->isInteger() ? scalar->integer : static_cast<int64_t>(scalar->real),
                rank = node.rank(0);
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(-1)), rank + 1);
  if (failed(axis))
    return failure();
  if (depth < 1 || node.rank(2) != 1 || node.shape(2)[0] != 2 || node.element(0).isInteger(1))
    return node.error("has depth " + Twine(depth) + " and values " + describe(node.shape(2)) +
                      ", expected at least 1 and [2]");
  Shape split(node.shape(0)), shape(node.shape(0));
  split.insert(split.begin() + *axis, 1);
  shape.insert(shape.begin() + *axis, depth);
  Emit emit(node);
  Value indices = node.operand(0), values = indices ? node.operand(2) : Value();
  if (!values || failed(emit.checkSize(shape)))
    return failure();
  indices = emit.cast(emit.reshape(indices, split), emit.i64);
  indices = emit.select(emit.compare(ComparePredicate::lt, indices, emit.number(0)),
                        emit.add(indices, emit.number(depth)), indices);
  Value hot = emit.compare(ComparePredicate::eq, indices, emit.iota(rank + 1, *axis, depth));
  node.result(0, emit.select(hot, emit.pick(values, 0, 1), emit.pick(values, 0, 0)));
  return success();
}

LogicalResult lowerTopK(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(-1)), node.rank(0));
  if (failed(axis))
    return failure();
  FailureOr<SmallVector<int64_t, 8>> k = node.integers(1, "k");
  if (failed(k))
    return failure();
  const int64_t n = node.shape(0)[*axis];
  if (k->size() != 1 || k->front() < 1 || k->front() > n)
    return node.error("k is " + describe(*k) + ", but it must be one number between 1 and the " + Twine(n) +
                      " elements of axis " + Twine(*axis));
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  const int64_t last = node.rank(0) - 1;
  input = emit.moveAxis(input, *axis, last);
  Shape shape(Emit::shapeOf(input));
  shape.back() = k->front();
  auto top = train::TopKOp::create(node.builder, node.loc, node.type(shape, node.element(0)),
                                   node.type(shape, emit.i64), input, node.attribute("largest", int64_t(1)) == 0);
  node.result(0, emit.moveAxis(top.getValues(), last, *axis));
  node.result(1, emit.moveAxis(top.getIndices(), last, *axis));
  return success();
}

LogicalResult lowerReverseSequence(NodeImporter &node) {
  if (failed(Emit(node).checkNotEmpty({0, 1})))
    return failure();
  const int64_t batchAxis = node.attribute("batch_axis", int64_t(1)),
                timeAxis = node.attribute("time_axis", int64_t(0));
  if (node.rank(0) < 2 || batchAxis + timeAxis != 1 || batchAxis * timeAxis != 0 || !isIndex(node, 1) ||
      node.rank(1) != 1 || node.shape(1)[0] != node.shape(0)[batchAxis])
    return node.error("batch_axis " + Twine(batchAxis) + " and time_axis " + Twine(timeAxis) +
                      " must be 0 and 1, with a length for each sequence of " + describe(node.shape(0)));
  Value input = node.operand(0), lengths = input ? node.operand(1) : Value();
  if (!lengths)
    return failure();
  Emit emit(node);
  const int64_t batch = node.shape(0)[batchAxis], time = node.shape(0)[timeAxis];
  input = emit.moveAxis(input, batchAxis, 0);
  Value length = emit.min(emit.reshape(emit.cast(lengths, emit.i64), {batch, 1}), emit.number(time)),
        step = emit.iota(2, 1, time);
  Value source = emit.select(emit.compare(ComparePredicate::lt, step, length),
                             emit.sub(emit.sub(length, emit.number(1)), step), step);
  const Shape moved(Emit::shapeOf(input));
  const ArrayRef<int64_t> inner = ArrayRef(moved).drop_front(2);
  Value rows = emit.gather(emit.reshape(input, joined({batch * time}, inner)),
                           emit.add(source, emit.iota(2, 0, batch, 0, time)));
  node.result(0, emit.moveAxis(rows, 0, batchAxis));
  return success();
}

LogicalResult lowerCompress(NodeImporter &node) {
  std::optional<SmallVector<int64_t>> condition = knownIntegers(node, 1);
  if (!condition)
    return node.error("the result's shape depends on the data: operator 'Compress' is supported with a condition that "
                      "is known when the model is imported");
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit emit(node);
  int64_t axis = 0;
  if (node.find("axis")) {
    FailureOr<int64_t> named = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
    if (failed(named))
      return failure();
    axis = *named;
  } else {
    input = emit.reshape(input, {countElements(node.shape(0))});
  }
  SmallVector<int64_t> places;
  for (auto [place, keep] : llvm::enumerate(*condition))
    if (keep && static_cast<int64_t>(place) < Emit::shapeOf(input)[axis])
      places.push_back(place);
  if (places.empty())
    return node.error("keeps nothing of an input " + describe(node.shape(0)));
  Value result = emit.take({input}, axis, places);
  if (!result)
    return failure();
  node.result(0, result);
  return success();
}

LogicalResult lowerDataDependent(NodeImporter &node) {
  if (node.proto.op_type() == "NonMaxSuppression")
    return node.error("the result's shape depends on the data: operator 'NonMaxSuppression' is not supported");
  return node.error("the result's shape depends on the data: operator '" + node.proto.op_type() +
                    "' is supported on values that are known when the model is imported");
}

} // namespace zopt::importer
