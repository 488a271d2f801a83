//===- LossBuilder.cpp - terms of a loss as ops ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossBuilder.h"
#include "mlir/IR/IRMapping.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "llvm/ADT/SmallVectorExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// What a model gives back in a half precision is rounded for whoever reads it, not for the loss.
static Value beforeRounding(Value value) {
  auto cast = value.getDefiningOp<CastOp>();
  auto from = cast ? dyn_cast<FloatType>(getTensorType(cast.getInput()).getElementType()) : FloatType(),
       to = cast ? dyn_cast<FloatType>(getTensorType(value).getElementType()) : FloatType();
  return from && to && from.getWidth() > to.getWidth() ? cast.getInput() : value;
}

static Value sumAll(OpBuilder &builder, Location loc, Value value) {
  return reduceSum(builder, loc, value, llvm::to_vector(llvm::seq<int64_t>(0, getTensorType(value).getRank())));
}

/// A vector of numbers, rounded to the element type: pieces of what a literal may hold, also in f64.
static Value vectorOf(OpBuilder &builder, Location loc, FloatType element, ArrayRef<double> numbers) {
  constexpr size_t most = 128;
  SmallVector<Value> parts;
  for (size_t begin = 0; begin < numbers.size(); begin += most) {
    SmallVector<APFloat> rounded;
    for (double number : numbers.slice(begin, std::min(most, numbers.size() - begin))) {
      bool lost;
      rounded.emplace_back(number);
      rounded.back().convert(element.getFloatSemantics(), APFloat::rmNearestTiesToEven, &lost);
    }
    auto type = RankedTensorType::get({int64_t(rounded.size())}, element);
    parts.push_back(ConstantOp::create(builder, loc, type, DenseElementsAttr::get(type, rounded)));
  }
  return parts.size() == 1
             ? parts.front()
             : ConcatOp::create(builder, loc, RankedTensorType::get({int64_t(numbers.size())}, element), parts, 0)
                   .getResult();
}

LossBuilder::LossBuilder(func::FuncOp forward, const LossSettings &settings)
    : forward(forward), settings(settings), builder(forward.getBody().front().getTerminator()) {}

SmallVector<LossBuilder::Output> LossBuilder::outputs() const {
  SmallVector<Output> all;
  auto results = forward;
  for (auto [index, value] : llvm::enumerate(results.getBody().front().getTerminator()->getOperands())) {
    auto name = results.getResultAttrOfType<StringAttr>(index, kName);
    all.push_back({name ? name.getValue() : StringRef(), value});
  }
  return all;
}

/// The output that a term names, or --logits, or the first float one.
FailureOr<LossBuilder::Output> LossBuilder::selectOutput(const LossTerm &term) {
  std::string names;
  StringRef wanted = !term.output.empty() ? StringRef(term.output) : StringRef(settings.logits);
  for (const Output &output : outputs()) {
    names += (names.empty() ? "'" : ", '") + output.name.str() + "'";
    bool isFloat = isa<FloatType>(getTensorType(output.value).getElementType());
    if (wanted.empty() ? !isFloat : output.name != wanted)
      continue;
    if (isFloat)
      return Output{output.name, beforeRounding(output.value)};
    forward.emitError() << "output '" << wanted << "' feeds the loss but holds "
                        << getTensorType(output.value).getElementType();
    return failure();
  }
  if (wanted.empty())
    forward.emitError() << "no output is a float tensor that could feed the loss; outputs are " << names;
  else
    forward.emitError() << "no output is named '" << wanted << "'; outputs are " << names;
  return failure();
}

FailureOr<Loss> LossBuilder::build(const LossTerm &term) {
  if (term.kind == "onnx")
    return buildGraph(term.output);
  FailureOr<Output> output = selectOutput(term);
  if (failed(output))
    return failure();
  StringRef labels = term.labels.empty() ? StringRef(settings.labels) : StringRef(term.labels);
  if (term.kind == "cross_entropy")
    return buildCrossEntropy(*output, labels);
  if (term.kind == "output")
    return buildOutput(*output);
  return buildElementwise(*output, term.kind, labels);
}

FailureOr<Loss> LossBuilder::buildCrossEntropy(const Output &output, StringRef labels) {
  Location loc = output.value.getLoc();
  RankedTensorType type = getTensorType(output.value);
  int64_t axis = settings.classAxis < 0 ? settings.classAxis + type.getRank() : settings.classAxis;
  if (axis < 0 || axis >= type.getRank()) {
    forward.emitError() << "class axis " << settings.classAxis << " is out of range for output '" << output.name
                        << "' of rank " << type.getRank();
    return failure();
  }
  Value values = output.value;
  if (axis != type.getRank() - 1) {
    SmallVector<int64_t> permutation;
    for (int64_t i = 0; i < type.getRank(); ++i)
      if (i != axis)
        permutation.push_back(i);
    permutation.push_back(axis);
    values = transpose(builder, loc, values, permutation);
    type = getTensorType(values);
  }
  const int64_t classes = type.getShape().back();
  if (!settings.classWeights.empty() && int64_t(settings.classWeights.size()) != classes) {
    forward.emitError() << "there are " << settings.classWeights.size() << " class weights, but output '" << output.name
                        << "' has " << classes << " classes";
    return failure();
  }
  FailureOr<Value> label =
      addLabels(labels, RankedTensorType::get(type.getShape().drop_back(), builder.getI64Type()),
                {{builder.getStringAttr(kLimit), builder.getI64IntegerAttr(classes)},
                 {builder.getStringAttr(kIgnoreIndex), builder.getI64IntegerAttr(settings.ignoreIndex)}});
  if (failed(label))
    return failure();
  if (!settings.classWeights.empty())
    return buildWeightedCrossEntropy(values, *label);
  Type sumType = getComputeType(type.getElementType());
  auto scalarType = RankedTensorType::get({}, sumType);
  auto op = CrossEntropyOp::create(
      builder, loc, TypeRange{scalarType, scalarType, RankedTensorType::get(type.getShape().drop_back(), sumType)},
      values, *label, builder.getI64IntegerAttr(settings.ignoreIndex),
      builder.getF64FloatAttr(settings.labelSmoothing));
  return Loss{op.getLoss(),     op.getCount(),      ShapedType::getNumElements(type.getShape().drop_back()),
              /*ignores=*/true, /*weighted=*/false, *label};
}

/// PyTorch's: sum of w[label] * -log p[label] over the sum of w[label]; of a smoothed label's share e, w[c] * -log p[c]
/// of every class c, over the same. The label is found by comparing it with every class, so that classes of probability
/// 0 do not disturb.
Loss LossBuilder::buildWeightedCrossEntropy(Value logits, Value labels) {
  Location loc = logits.getLoc();
  RankedTensorType type = getTensorType(logits);
  Type element = type.getElementType();
  const int64_t rank = type.getRank(), classes = type.getShape().back();
  SmallVector<int64_t> column(type.getShape()), row(rank, 1);
  column.back() = 1;
  row.back() = classes;
  Value label = train::reshape(builder, loc, labels, column);
  Value numbers = IotaOp::create(builder, loc, RankedTensorType::get(row, builder.getI64Type()), rank - 1, 0, 1);
  Value counted = compare(builder, loc, ComparePredicate::ne, label,
                          scalar(builder, loc, builder.getI64Type(), settings.ignoreIndex));
  Value isLabel = compare(builder, loc, ComparePredicate::eq, numbers, label);
  isLabel = AndOp::create(builder, loc, isLabel.getType(), isLabel, counted);
  Value weights = vectorOf(builder, loc, cast<FloatType>(element), settings.classWeights);
  Value none = scalar(builder, loc, element, 0.0);
  Value negated = NegOp::create(builder, loc, type, LogSoftmaxOp::create(builder, loc, type, logits));
  Value each = mul(builder, loc, negated, weights);
  Value sum = sumAll(builder, loc, select(builder, loc, isLabel, each, none));
  if (settings.labelSmoothing != 0) {
    Value all = sumAll(builder, loc, select(builder, loc, counted, each, none));
    sum = add(builder, loc, mul(builder, loc, sum, scalar(builder, loc, element, 1 - settings.labelSmoothing)),
              mul(builder, loc, all, scalar(builder, loc, element, settings.labelSmoothing / classes)));
  }
  Value count = sumAll(builder, loc, select(builder, loc, isLabel, weights, none));
  return Loss{sum, count, type.getNumElements() / classes, /*ignores=*/true, /*weighted=*/true, labels};
}

FailureOr<Loss> LossBuilder::buildElementwise(const Output &output, StringRef kind, StringRef labels) {
  Location loc = output.value.getLoc();
  RankedTensorType type = getTensorType(output.value);
  const int64_t weights = settings.positiveWeights.size(), columns = type.getRank() ? type.getShape().back() : 1;
  if (kind == "bce_with_logits" && weights > 1 && weights != columns) {
    forward.emitError() << "there are " << weights << " weights of positive labels, but output '" << output.name
                        << "' has " << columns << " columns";
    return failure();
  }
  FailureOr<Value> label = addLabels(labels, type, {});
  if (failed(label))
    return failure();
  Value x = output.value, each;
  if (kind == "bce_with_logits" && weights) {
    // (1 - y) x + (1 + (p - 1) y) log(1 + e^-x), PyTorch's.
    SmallVector<double> excess;
    for (double weight : settings.positiveWeights)
      excess.push_back(weight - 1);
    Value beyond = vectorOf(builder, loc, cast<FloatType>(type.getElementType()), excess);
    if (weights == 1) // of every column, and of a scalar too
      beyond = train::reshape(builder, loc, beyond, {});
    Value one = scalar(builder, loc, type.getElementType(), 1.0);
    Value softplus = SoftplusOp::create(builder, loc, type, NegOp::create(builder, loc, type, x));
    Value factor = add(builder, loc, one, mul(builder, loc, *label, beyond));
    each = add(builder, loc, mul(builder, loc, sub(builder, loc, one, *label), x), mul(builder, loc, factor, softplus));
  } else if (kind == "bce_with_logits") {
    // max(x, 0) - x y + log(1 + e^-|x|), which never overflows.
    Value softplus = SoftplusOp::create(builder, loc, type, x);
    each = sub(builder, loc, softplus, mul(builder, loc, x, *label));
  } else {
    Value difference = sub(builder, loc, x, *label);
    each = kind == "mse" ? mul(builder, loc, difference, difference)
                         : AbsOp::create(builder, loc, type, difference).getResult();
  }
  int64_t positions = type.getNumElements();
  Value sum = sumAll(builder, loc, each);
  return Loss{sum, scalar(builder, loc, type.getElementType(), positions), positions};
}

/// 1 where one of the counts is above 0, else 0.
Value LossBuilder::anyOf(ArrayRef<Value> counts) {
  Location loc = counts.front().getLoc();
  Type type = getTensorType(counts.front()).getElementType();
  Value sum;
  for (Value count : counts)
    sum = sum ? add(builder, loc, sum, count) : count;
  return train::cast(builder, loc, compare(builder, loc, ComparePredicate::gt, sum, scalar(builder, loc, type, 0.0)),
                     type);
}

/// A scalar that is this micro-batch's mean already.
Loss LossBuilder::takeMean(Value value) {
  Location loc = value.getLoc();
  return Loss{train::reshape(builder, loc, value, {}), scalar(builder, loc, getTensorType(value).getElementType(), 1.0),
              1};
}

FailureOr<Loss> LossBuilder::buildOutput(const Output &output) {
  RankedTensorType type = getTensorType(output.value);
  if (type.getNumElements() != 1) {
    forward.emitError() << "output '" << output.name << "' is the loss but has " << type.getNumElements()
                        << " elements, expected 1";
    return failure();
  }
  own.push_back(output.value);
  return takeMean(output.value);
}

/// Puts the body of @loss here.
FailureOr<Loss> LossBuilder::buildGraph(StringRef file) {
  auto module = forward->getParentOfType<ModuleOp>();
  auto graph = module.lookupSymbol<func::FuncOp>(kLossFunction);
  if (!graph || !graph.getBody().hasOneBlock() || graph.getNumResults() != 1) {
    forward.emitError() << "the loss is the graph '" << file << "', but the module has no @" << kLossFunction
                        << " of one result: a loss is imported together with its model";
    return failure();
  }
  IRMapping mapping;
  SmallVector<Value> integers; // labels that can be ignored
  bool canBeEmpty = true;
  Block &body = graph.getBody().front();
  for (BlockArgument argument : body.getArguments()) {
    auto name = graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(), kName);
    if (!name) {
      graph.emitError() << "argument " << argument.getArgNumber() << " of @" << kLossFunction << " has no " << kName;
      return failure();
    }
    Value value;
    for (const Output &output : outputs())
      if (output.name == name.getValue() && !value)
        value = getTensorType(output.value) == argument.getType() ? output.value : beforeRounding(output.value);
    for (BlockArgument input : forward.getArguments())
      if (!value && !forward.getArgAttr(input.getArgNumber(), kLabel) &&
          forward.getArgAttrOfType<StringAttr>(input.getArgNumber(), kName) == name)
        value = input;
    if (!value) {
      SmallVector<NamedAttribute> attributes;
      for (NamedAttribute attribute : graph.getArgAttrDict(argument.getArgNumber()))
        if (attribute.getName() != kName && attribute.getName() != kLabel)
          attributes.push_back(attribute);
      FailureOr<Value> label = addLabels(name.getValue(), cast<RankedTensorType>(argument.getType()), attributes);
      if (failed(label))
        return failure();
      value = *label;
      if (auto ignored = graph.getArgAttrOfType<IntegerAttr>(argument.getArgNumber(), kIgnoreIndex)) {
        auto type = getTensorType(value);
        integers.push_back(compare(builder, graph.getLoc(), ComparePredicate::ne, value,
                                   scalar(builder, graph.getLoc(), type.getElementType(), ignored.getInt())));
      } else {
        canBeEmpty = false;
      }
    }
    if (value.getType() != argument.getType()) {
      graph.emitError() << "input '" << name.getValue() << "' of the loss is " << argument.getType()
                        << ", but the model has " << value.getType();
      return failure();
    }
    mapping.map(argument, value);
  }
  for (Operation &op : body.without_terminator())
    builder.clone(op, mapping);
  Value result = mapping.lookup(body.getTerminator()->getOperand(0));
  graph.erase();
  auto type = getTensorType(result);
  if (type.getNumElements() != 1 || !isa<FloatType>(type.getElementType())) {
    forward.emitError() << "the loss '" << file << "' gives " << type << ", expected one float element";
    return failure();
  }
  Loss loss = takeMean(beforeRounding(result));
  if (integers.empty() || !canBeEmpty)
    return loss;
  // Without a counted label the graph's mean is 0 / 0.
  Location loc = loss.sum.getLoc();
  SmallVector<Value> counts;
  for (Value counted : integers)
    counts.push_back(
        sumAll(builder, loc, train::cast(builder, loc, counted, getTensorType(loss.sum).getElementType())));
  loss.count = anyOf(counts);
  loss.isEmpty = true;
  Value none = scalar(builder, loc, getTensorType(loss.sum).getElementType(), 0.0);
  loss.sum = select(builder, loc, compare(builder, loc, ComparePredicate::gt, loss.count, none), loss.sum, none);
  return loss;
}

FailureOr<Value> LossBuilder::addLabels(StringRef name, RankedTensorType type, ArrayRef<NamedAttribute> attributes) {
  NamedAttrList list(attributes);
  list.set(kName, builder.getStringAttr(name));
  list.set(kLabel, builder.getUnitAttr());
  DictionaryAttr dictionary = list.getDictionary(forward.getContext());
  for (BlockArgument argument : forward.getArguments()) {
    auto other = forward.getArgAttrOfType<StringAttr>(argument.getArgNumber(), kName);
    if (!other || other.getValue() != name)
      continue;
    if (!forward.getArgAttr(argument.getArgNumber(), kLabel)) {
      forward.emitError() << "the graph has an input named '" << name << "' already; name the label tensor otherwise";
      return failure();
    }
    if (argument.getType() == type && forward.getArgAttrDict(argument.getArgNumber()) == dictionary)
      return Value(argument);
    forward.emitError() << "two terms of the loss read the label '" << name << "', as " << argument.getType()
                        << " and as " << type << (argument.getType() == type ? " of another range" : "")
                        << "; KIND:OUTPUT:LABELS names another";
    return failure();
  }
  if (failed(forward.insertArgument(forward.getNumArguments(), type, dictionary, forward.getLoc())))
    return failure();
  return Value(forward.getArguments().back());
}

Value LossBuilder::divisorOf(const Loss &loss) {
  Location loc = loss.sum.getLoc();
  Type type = getTensorType(loss.sum).getElementType();
  if (!loss.ignores)
    return scalar(builder, loc, type, loss.positions);
  Value one = scalar(builder, loc, type, 1.0);
  if (!loss.weighted)
    return MaxOp::create(builder, loc, loss.sum.getType(), loss.count, one);
  return select(builder, loc, compare(builder, loc, ComparePredicate::gt, loss.count, scalar(builder, loc, type, 0.0)),
                loss.count, one);
}

Loss LossBuilder::combine(ArrayRef<LossTerm> terms, ArrayRef<Loss> losses, SmallVectorImpl<Value> &parts) {
  const Loss &first = losses.front();
  Location loc = first.sum.getLoc();
  Type type = getTensorType(first.sum).getElementType();
  const bool together = llvm::all_of(losses, [&](const Loss &loss) {
    return losses.size() == 1 || (loss.labels && loss.labels == first.labels && loss.positions == first.positions);
  });
  Value sum;
  for (auto [term, loss] : llvm::zip_equal(terms, losses)) {
    Loss constant = loss;
    if (!together && loss.ignores &&
        !loss.weighted) // the count is a whole number, through which nothing is differentiated
      constant.count = train::cast(builder, loc, train::cast(builder, loc, loss.count, builder.getI64Type()),
                                   getTensorType(loss.count).getElementType());
    Value part = together ? loss.sum : div(builder, loc, loss.sum, divisorOf(constant));
    part = train::cast(builder, loc, part, type);
    parts.push_back(part);
    if (term.weight != 1)
      part = mul(builder, loc, part, scalar(builder, loc, type, term.weight));
    sum = sum ? add(builder, loc, sum, part) : part;
  }
  Loss result = first;
  if (!together) {
    // Where every term can be empty, so can the sum.
    const bool canBeEmpty = llvm::all_of(losses, [](const Loss &loss) { return loss.ignores || loss.isEmpty; });
    Value count = canBeEmpty ? anyOf(llvm::map_to_vector(losses, [](const Loss &loss) { return loss.count; }))
                             : scalar(builder, loc, type, 1.0);
    result = Loss{sum, count, 1};
    result.isEmpty = canBeEmpty;
  }
  result.sum = sum;
  return result;
}
