//===- Emit.cpp - short forms of train ops for compositions --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"

using namespace mlir;

namespace zopt::importer {

static constexpr int64_t mostTableElements = 8192, literalBytes = 1024;

Shape rowMajorStrides(ArrayRef<int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int64_t axis = static_cast<int64_t>(shape.size()) - 2; axis >= 0; --axis)
    strides[axis] = strides[axis + 1] * shape[axis + 1];
  return strides;
}

LogicalResult Emit::checkSize(ArrayRef<int64_t> shape) {
  if (llvm::any_of(shape, [](int64_t size) { return size < 0; }) || countElements(shape) > mostElementsOfResult)
    return node.error("makes a tensor " + describe(shape) + "; at most 2^40 elements are supported");
  if (llvm::is_contained(shape, 0))
    return node.error("makes a tensor " + describe(shape) + ", which has no element");
  return success();
}

LogicalResult Emit::checkNotEmpty(ArrayRef<int> operands) {
  for (int i : operands)
    if (node.has(i) && llvm::is_contained(node.shape(i), 0))
      return node.error("operand " + Twine(i) + " " + describe(node.shape(i)) + " has no element");
  return success();
}

/// Literals of up to 1 KiB of `attributes`, joined.
static Value joinLiterals(Emit &emit, ArrayRef<Attribute> attributes, Type element) {
  const int64_t count = attributes.size(), perLiteral = literalBytes / (element.getIntOrFloatBitWidth() / 8);
  if (count > mostTableElements) {
    (void)emit.node.error("needs a table of " + Twine(count) + " elements; at most " + Twine(mostTableElements) +
                          " are supported");
    return nullptr;
  }
  SmallVector<Value> parts;
  for (int64_t i = 0; i < count; i += perLiteral) {
    const int64_t n = std::min(perLiteral, count - i);
    auto type = RankedTensorType::get({n}, element);
    parts.push_back(
        train::ConstantOp::create(emit.b, emit.loc, type, DenseElementsAttr::get(type, attributes.slice(i, n))));
  }
  return emit.concat(parts, 0);
}

Value Emit::table(ArrayRef<int64_t> values) {
  const int64_t count = values.size(), step = count > 1 ? values[1] - values[0] : 0;
  bool even = true;
  for (int64_t i = 1; even && i < count; ++i)
    even = values[i] - values[i - 1] == step;
  if (even && step != 0)
    return iota(1, 0, count, values[0], step);
  if (even)
    return broadcast(number(values[0]), {count});
  SmallVector<Attribute> attributes;
  for (int64_t value : values)
    attributes.push_back(b.getI64IntegerAttr(value));
  return joinLiterals(*this, attributes, i64);
}

Value Emit::table(ArrayRef<double> values, Type element) {
  if (llvm::all_of(values, [&](double value) { return value == values[0]; }))
    return broadcast(number(element, values[0]), {static_cast<int64_t>(values.size())});
  SmallVector<Attribute> attributes;
  for (double value : values)
    attributes.push_back(b.getFloatAttr(element, value));
  return joinLiterals(*this, attributes, element);
}

Value Emit::slice(Value x, int64_t axis, int64_t start, int64_t size, int64_t step) {
  Shape shape(shapeOf(x)), starts(shape.size(), 0), steps(shape.size(), 1);
  if (start == 0 && size == shape[axis] && step == 1)
    return x;
  shape[axis] = size;
  starts[axis] = start;
  steps[axis] = size > 1 ? step : 1;
  return train::SliceOp::create(b, loc, RankedTensorType::get(shape, elementOf(x)), x, starts, steps);
}

Value Emit::pick(Value x, int64_t axis, int64_t at) {
  Shape shape(shapeOf(x));
  shape.erase(shape.begin() + axis);
  return reshape(slice(x, axis, at, 1), shape);
}

Value Emit::concat(ArrayRef<Value> parts, int64_t axis) {
  if (parts.size() == 1)
    return parts[0];
  Shape shape(shapeOf(parts[0]));
  shape[axis] = 0;
  for (Value part : parts)
    shape[axis] += shapeOf(part)[axis];
  return train::ConcatOp::create(b, loc, RankedTensorType::get(shape, elementOf(parts[0])), parts, axis);
}

Value Emit::moveAxis(Value x, int64_t from, int64_t to) {
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, rankOf(x)));
  permutation.erase(permutation.begin() + from);
  permutation.insert(permutation.begin() + to, from);
  return transpose(x, permutation);
}

Value Emit::repeatHeads(Value x, int64_t heads) {
  const Shape s(shapeOf(x));
  if (s[1] == heads)
    return x;
  const int64_t group = heads / s[1];
  return reshape(broadcast(reshape(x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], group, s[2], s[3]}),
                 {s[0], heads, s[2], s[3]});
}

Value Emit::argMax(Value x, int64_t axis, bool last) {
  const int64_t size = shapeOf(x)[axis];
  Value isLargest = compare(Predicate::eq, x, largest(x, axis));
  if (isa<FloatType>(elementOf(x)))
    isLargest = logicalOr(isLargest, isNaN(x));
  // Places count from the other end for the first.
  Value places = last ? iota(rankOf(x), axis, size) : iota(rankOf(x), axis, size, size - 1, -1);
  Value none = number(-1);
  Value place = largest(broadcast(select(isLargest, places, none), shapeOf(x)), axis);
  return last ? place : sub(c(place, static_cast<double>(size - 1)), place);
}

Value Emit::gather(Value data, Value indices) {
  Shape shape(shapeOf(indices));
  shape.append(shapeOf(data).begin() + 1, shapeOf(data).end());
  return train::GatherOp::create(b, loc, RankedTensorType::get(shape, elementOf(data)), data, indices, /*axis=*/0);
}

Value Emit::normalize(Value indices, int64_t size) {
  indices = cast(indices, i64);
  Value wrapped = select(compare(train::ComparePredicate::lt, indices, number(0)), add(indices, number(size)), indices);
  return min(max(wrapped, number(0)), number(size - 1));
}

Value Emit::take(ArrayRef<Value> sources, int64_t axis, ArrayRef<int64_t> places) {
  constexpr size_t mostRuns = 8;
  struct Run {
    size_t source;
    int64_t start, step, count;
  };
  // Where each source begins.
  SmallVector<int64_t> begins = {0};
  for (Value source : sources)
    begins.push_back(begins.back() + shapeOf(source)[axis]);
  auto sourceOf = [&](int64_t place) {
    return static_cast<size_t>(llvm::upper_bound(begins, place) - begins.begin() - 1);
  };

  // One source whose elements are each repeated as often: nearest neighbours.
  const int64_t count = places.size();
  if (sources.size() == 1 && count > 1 && places[0] == places[1]) {
    int64_t times = 1;
    while (times < count && places[times] == places[0])
      ++times;
    bool repeats = count % times == 0;
    for (int64_t i = 0; repeats && i < count; ++i)
      repeats = places[i] == places[0] + i / times;
    if (repeats) {
      Value part = slice(sources[0], axis, places[0], count / times);
      Shape split(shapeOf(part)), spread, whole(shapeOf(part));
      split.insert(split.begin() + axis + 1, 1);
      spread = split;
      spread[axis + 1] = times;
      whole[axis] = count;
      return reshape(broadcast(reshape(part, split), spread), whole);
    }
  }

  SmallVector<Run, mostRuns> runs;
  for (int64_t i = 0; i < count && runs.size() <= mostRuns;) {
    const size_t source = sourceOf(places[i]);
    Run run{source, places[i] - begins[source], 1, 1};
    if (i + 1 < count && sourceOf(places[i + 1]) == source) {
      run.step = places[i + 1] - places[i];
      while (i + run.count < count && sourceOf(places[i + run.count]) == source &&
             places[i + run.count] - places[i + run.count - 1] == run.step)
        ++run.count;
    }
    i += run.count;
    runs.push_back(run);
  }
  if (runs.size() <= mostRuns) {
    SmallVector<Value> parts;
    for (const Run &run : runs) {
      if (run.step != 0) {
        parts.push_back(slice(sources[run.source], axis, run.start, run.count, run.step));
        continue;
      }
      Value one = slice(sources[run.source], axis, run.start, 1);
      Shape shape(shapeOf(one));
      shape[axis] = run.count;
      parts.push_back(broadcast(one, shape));
    }
    return concat(parts, axis);
  }
  Value indices = table(places);
  if (!indices)
    return nullptr;
  Value joined = concat(sources, axis);
  Shape shape(shapeOf(joined));
  shape[axis] = count;
  return train::GatherOp::create(b, loc, RankedTensorType::get(shape, elementOf(joined)), joined, indices, axis);
}

} // namespace zopt::importer
