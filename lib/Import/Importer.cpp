//===- Importer.cpp - one graph on its way into the train dialect --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Importer.h"
#include "Operators.h"
#include "Weights.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include <cmath>

using namespace mlir;

namespace zopt::importer {

//===----------------------------------------------------------------------===//
// Problems
//===----------------------------------------------------------------------===//

Location Problems::at(StringRef node) const {
  std::string name = file;
  if (!node.empty())
    name += (":" + node).str();
  return NameLoc::get(StringAttr::get(context, name));
}

bool Problems::isNew(StringRef node, const Twine &message) { return said.insert((node + "\n" + message).str()).second; }

void Problems::error(StringRef node, const Twine &message) {
  ++count;
  if (!silent && isNew(node, message))
    emitError(at(node)) << message;
}

void Problems::warning(StringRef node, const Twine &message) {
  if (!silent && isNew(node, message))
    emitWarning(at(node)) << message;
}

void Problems::remark(const Twine &message) {
  if (!quiet)
    emitRemark(at("")) << message;
}

Type convertElementType(int32_t onnxType, MLIRContext *context) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
    return Float32Type::get(context);
  case onnx::TensorProto::DOUBLE:
    return Float64Type::get(context);
  case onnx::TensorProto::BOOL:
    return IntegerType::get(context, 1);
  case onnx::TensorProto::INT8:
    return IntegerType::get(context, 8);
  case onnx::TensorProto::INT16:
    return IntegerType::get(context, 16);
  case onnx::TensorProto::INT32:
    return IntegerType::get(context, 32);
  case onnx::TensorProto::INT64:
    return IntegerType::get(context, 64);
  case onnx::TensorProto::UINT8:
    return IntegerType::get(context, 8, IntegerType::Unsigned);
  case onnx::TensorProto::UINT16:
    return IntegerType::get(context, 16, IntegerType::Unsigned);
  case onnx::TensorProto::UINT32:
    return IntegerType::get(context, 32, IntegerType::Unsigned);
  case onnx::TensorProto::UINT64:
    return IntegerType::get(context, 64, IntegerType::Unsigned);
  default:
    return nullptr;
  }
}

std::string elementTypeName(int32_t onnxType) {
  const std::string &name = onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(onnxType));
  return std::to_string(onnxType) + (name.empty() ? "" : " (" + name + ")");
}

Type declaredElementType(int32_t onnxType, MLIRContext *context) {
  if (onnxType == onnx::TensorProto::FLOAT16)
    return Float16Type::get(context);
  if (onnxType == onnx::TensorProto::BFLOAT16)
    return BFloat16Type::get(context);
  return convertElementType(onnxType, context);
}

Element convertElement(Type type) {
  if (type.isF64())
    return Element::Double;
  if (isa<FloatType>(type))
    return Element::Float;
  return type.isInteger(1) ? Element::Bool : Element::Integer;
}

std::string describe(ArrayRef<int64_t> shape) {
  std::string text = "[";
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(shape, os);
  return text + "]";
}

//===----------------------------------------------------------------------===//
// Dimensions: expressions of +, -, *, // and parentheses over symbols and numbers
//===----------------------------------------------------------------------===//

namespace {
class DimensionExpression {
public:
  DimensionExpression(StringRef text, const Dimensions *sizes, SmallVectorImpl<StringRef> *symbols) : rest(text), sizes(sizes), symbols(symbols) {}

  std::optional<int64_t> parse() {
    std::optional<int64_t> value = sum();
    rest = rest.ltrim();
    return rest.empty() ? value : std::nullopt;
  }

private:
  bool consume(StringRef token) {
    rest = rest.ltrim();
    return rest.consume_front(token);
  }

  std::optional<int64_t> sum() {
    std::optional<int64_t> value = product();
    while (value) {
      const bool add = consume("+");
      if (!add && !consume("-"))
        break;
      std::optional<int64_t> other = product();
      int64_t result = 0;
      if (!other || (add ? __builtin_add_overflow(*value, *other, &result) : __builtin_sub_overflow(*value, *other, &result)))
        return std::nullopt;
      value = result;
    }
    return value;
  }

  std::optional<int64_t> product() {
    std::optional<int64_t> value = atom();
    while (value) {
      const bool divide = consume("//");
      if (!divide && !consume("*"))
        break;
      std::optional<int64_t> other = atom();
      int64_t result = 0;
      if (!other || (divide ? *other <= 0 || *value < 0 : __builtin_mul_overflow(*value, *other, &result)))
        return std::nullopt;
      value = divide ? *value / *other : result;
    }
    return value;
  }

  std::optional<int64_t> atom() {
    if (++depth > 64)
      return std::nullopt;
    std::optional<int64_t> value;
    if (consume("(")) {
      value = sum();
      if (!consume(")"))
        value = std::nullopt;
    } else {
      rest = rest.ltrim();
      StringRef word = rest.take_while([](char c) { return llvm::isAlnum(c) || c == '_' || c == '.'; });
      rest = rest.drop_front(word.size());
      int64_t number;
      if (word.empty())
        value = std::nullopt;
      else if (!word.getAsInteger(10, number))
        value = number;
      else {
        if (symbols)
          symbols->push_back(word);
        auto size = sizes ? sizes->find(word) : Dimensions::const_iterator();
        if (!sizes)
          value = 1;
        else if (size != sizes->end())
          value = size->second;
      }
    }
    --depth;
    return value;
  }

  StringRef rest;
  const Dimensions *sizes;
  SmallVectorImpl<StringRef> *symbols;
  unsigned depth = 0;
};
} // namespace

std::optional<int64_t> evaluateDimension(StringRef expression, const Dimensions &sizes) {
  // A name that is no expression of ours ("batch-size") is a symbol as it stands.
  if (auto whole = sizes.find(expression); whole != sizes.end())
    return whole->second;
  return DimensionExpression(expression, &sizes, nullptr).parse();
}

SmallVector<StringRef, 2> findSymbols(StringRef expression) {
  SmallVector<StringRef, 2> symbols;
  if (!DimensionExpression(expression, nullptr, &symbols).parse())
    return {expression};
  return symbols;
}

//===----------------------------------------------------------------------===//
// GraphImporter
//===----------------------------------------------------------------------===//

const Operator *findOperator(const onnx::NodeProto &node) {
  const bool standard = node.domain().empty() || node.domain() == "ai.onnx";
  return findOperator(standard ? node.op_type() : node.domain() + "." + node.op_type());
}

const Operator *findOperator(StringRef name) {
  static const llvm::StringMap<const Operator *> table = [] {
    llvm::StringMap<const Operator *> map;
    for (const Operator &op : operators())
      map[op.name] = &op;
    return map;
  }();
  auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

GraphImporter::GraphImporter(const onnx::ModelProto &model, const FlatGraph &flat, MutableArrayRef<Initializer> initializers, const Dimensions &dimensions, const ImportOptions &options,
                             Problems &problems, MLIRContext *context)
    : options(options), problems(problems), builder(context), context(context), model(model), flat(flat), initializers(initializers), dimensions(dimensions) {
  for (const onnx::OperatorSetIdProto &set : model.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx")
      opset = set.version();
}

Tensor *GraphImporter::find(StringRef name) {
  auto it = tensors.find(name);
  return it == tensors.end() ? nullptr : &it->second;
}

Type GraphImporter::declaredType(StringRef name) {
  const Tensor &tensor = *find(name);
  if (!tensor.element.isF32())
    return tensor.element;
  if (tensor.producer && (tensor.producer->op_type() == "Cast" || tensor.producer->op_type() == "BitCast"))
    for (const onnx::AttributeProto &attribute : tensor.producer->attribute())
      if (attribute.name() == "to")
        return declaredElementType(static_cast<int32_t>(attribute.i()), context);
  for (const auto *values : {&model.graph().input(), &model.graph().value_info(), &model.graph().output()})
    for (const onnx::ValueInfoProto &value : *values)
      if (value.name() == name)
        return declaredElementType(value.type().tensor_type().elem_type(), context);
  for (const onnx::TensorProto &initializer : model.graph().initializer())
    if (initializer.name() == name)
      return declaredElementType(initializer.data_type(), context);
  return nullptr;
}

void GraphImporter::loadConstants(WeightFiles &files) {
  constexpr int64_t largestLiteral = 1024, largestSplat = int64_t(1) << 16, largestMask = int64_t(1) << 25;
  for (Initializer &initializer : initializers) {
    Tensor &tensor = tensors[initializer.name];
    tensor.element = initializer.element;
    tensor.shape = initializer.shape;
    tensor.initializer = &initializer;
    if (initializer.parameter)
      continue;
    tensor.constant = files.read(initializer, initializer.isFloat ? largestLiteral : largestMask);
    // One number many times, such as the zeros that exporters give a convolution for a bias.
    if (!tensor.constant && initializer.isFloat)
      if (std::optional<Constant> read = files.read(initializer, largestSplat))
        if (std::optional<Scalar> number = read->asSplat())
          tensor.constant = Constant::splat(read->element(), tensor.shape, *number);
  }
}

void GraphImporter::run(func::FuncOp function) {
  Block *body = function.addEntryBlock();
  builder.setInsertionPointToEnd(body);
  for (const onnx::ValueInfoProto &input : model.graph().input()) {
    if (find(input.name())) // IR below 4 repeats initializers as inputs
      continue;
    Tensor &tensor = tensors[input.name()];
    const onnx::TypeProto_Tensor &type = input.type().tensor_type();
    tensor.element = convertElementType(type.elem_type(), context);
    for (int axis = 0; axis < type.shape().dim_size(); ++axis) {
      const onnx::TensorShapeProto_Dimension &dimension = type.shape().dim(axis);
      tensor.shape.push_back(dimension.has_dim_value() ? dimension.dim_value()
                                                       : evaluateDimension(dimension.has_dim_param() ? dimension.dim_param() : (input.name() + "." + std::to_string(axis)), dimensions).value_or(1));
    }
    Location loc = NameLoc::get(builder.getStringAttr(input.name()));
    if (countElements(tensor.shape) == 0)
      tensor.constant = Constant::splat(convertElement(tensor.element), tensor.shape, {});
    // The data has the declared type; a half is computed with in fp32.
    Type declared = declaredElementType(type.elem_type(), context);
    tensor.value = body->addArgument(RankedTensorType::get(tensor.shape, declared), loc);
    if (declared != tensor.element)
      tensor.value = train::CastOp::create(builder, loc, RankedTensorType::get(tensor.shape, tensor.element), tensor.value);
  }

  // Names that nodes make further down: reading one of them too early is another mistake than reading what nothing makes.
  llvm::StringSet<> made;
  llvm::DenseSet<const onnx::NodeProto *> repeats;
  for (const onnx::NodeProto *node : flat.nodes())
    for (const std::string &output : node->output()) {
      if (output.empty())
        continue;
      const Tensor *given = find(output);
      const bool own = node->op_type() == "Constant" && given && given->initializer; // what a Constant makes stands with the initializers
      if (given && !own)
        problems.error(node->name(), "the value '" + output + "' is made by a node, but it is an input or an initializer");
      else if (!made.insert(output).second)
        problems.error(node->name(), "the value '" + output + "' is made by more than one node");
      else
        continue;
      repeats.insert(node);
    }
  for (const onnx::NodeProto *node : flat.nodes()) {
    bool complete = !repeats.contains(node); // of the two nobody knows which is meant
    for (const std::string &input : node->input()) {
      if (input.empty() || find(input))
        continue;
      complete = false;
      problems.error(node->name(), made.contains(input) ? "reads '" + input + "' before the node that makes it: the graph is cyclic or not in topological order"
                                                         : "reads '" + input + "', which is no input, initializer or node's output");
    }
    if (complete)
      visit(*node);
    for (const std::string &output : node->output())
      if (!output.empty())
        tensors[output].producer = node; // leaves what visit() set
  }

  SmallVector<Value> results;
  SmallVector<Type> resultTypes;
  for (const onnx::ValueInfoProto &output : model.graph().output()) {
    Tensor *tensor = find(output.name());
    if (!tensor) {
      problems.error("", "the graph's output '" + output.name() + "' is made by no node");
      continue;
    }
    if (!tensor->element)
      continue;
    if (tensor->sequence || tensor->none) {
      problems.error("", "the graph's output '" + output.name() + "' is a sequence or an optional, which is not supported");
      continue;
    }
    builder.setInsertionPointToEnd(body);
    if (Value value = materialize(*tensor, /*full=*/true)) {
      if (Type declared = declaredElementType(output.type().tensor_type().elem_type(), context); declared && declared != tensor->element && isa<FloatType>(declared) && tensor->element.isF32())
        value = train::CastOp::create(builder, value.getLoc(), RankedTensorType::get(tensor->shape, declared), value);
      results.push_back(value);
      resultTypes.push_back(value.getType());
    }
  }
  if (problems.errors())
    return;
  func::ReturnOp::create(builder, function.getLoc(), results);
  function.setType(builder.getFunctionType(body->getArgumentTypes(), resultTypes));
}

void GraphImporter::visit(const onnx::NodeProto &node) {
  if (node.op_type() == "Constant" && node.output_size() == 1)
    if (Tensor *tensor = find(node.output(0)); tensor && tensor->initializer)
      return;
  const Operator *op = findOperator(node);
  if (!op)
    return; // reported before, all at once
  for (int i = 0, count = op->operands == kAllOperands ? std::max(1, node.input_size()) : op->operands; i < count; ++i)
    if (i >= node.input_size() || node.input(i).empty()) {
      problems.error(node.name().empty() && node.output_size() ? node.output(0) : node.name(), "operand " + Twine(i) + " of the operator '" + node.op_type() + "' is missing");
      return;
    }
  bool known = true;
  for (const std::string &input : node.input()) {
    if (input.empty())
      continue;
    Tensor *tensor = find(input);
    if (!tensor->element)
      return; // the problem is upstream
    if ((tensor->sequence || tensor->none) && !takesSequences(node.op_type())) {
      problems.error(node.name(), "operator '" + node.op_type() + "' gets a sequence or an empty optional, which it is not defined for");
      return;
    }
    known &= tensor->constant.has_value();
  }
  NodeImporter importer(*this, node);
  if (known && op->fold && op->fold(importer))
    return;
  (void)lower(node);
}

LogicalResult GraphImporter::lower(const onnx::NodeProto &node) {
  NodeImporter importer(*this, node);
  const Operator *op = findOperator(node);
  if (opset < op->since && (node.domain().empty() || node.domain() == "ai.onnx"))
    return importer.error("operator '" + node.op_type() + "' is supported from opset " + Twine(op->since) + " on, but the model imports opset " + Twine(opset));
  return op->lower(importer);
}

//===----------------------------------------------------------------------===//
// Values that become operands
//===----------------------------------------------------------------------===//

static TypedAttr scalarAttribute(Scalar value, Type element) {
  if (isa<FloatType>(element))
    return FloatAttr::get(element, value.real);
  return IntegerAttr::get(element, APInt(64, value.integer, true).sextOrTrunc(element.getIntOrFloatBitWidth()));
}

/// The progression that a constant of integers, or of floats that are integers (positions that were cast), holds.
static std::optional<Constant::Progression> findProgression(const Constant &constant) {
  constexpr double mostExact = 1 << 24; // fp32 holds every integer up to here
  if (constant.asTriangle() || constant.values().size() < 3)
    return std::nullopt;
  if (constant.isInteger())
    return constant.asProgression();
  if (!llvm::all_of(constant.values(), [&](Scalar x) { return std::fabs(x.real) <= mostExact && std::trunc(x.real) == x.real && !(x.real == 0 && std::signbit(x.real)); }))
    return std::nullopt;
  return constant.cast(Element::Integer).asProgression();
}

/// A literal, an iota or a triangle; null where the constant is none of them.
Value GraphImporter::materializeConstant(const Constant &constant, Type element, Location loc, bool full) {
  constexpr int64_t largestLiteral = 1024;
  Value value;
  if (const std::optional<Constant::Triangle> &triangle = constant.asTriangle()) {
    const int64_t rank = constant.rank();
    Shape rows(rank, 1), columns(rank, 1), matrix(rank, 1);
    rows[rank - 2] = matrix[rank - 2] = constant.shape()[rank - 2];
    columns[rank - 1] = matrix[rank - 1] = constant.shape()[rank - 1];
    Type index = builder.getI64Type();
    Value row = train::IotaOp::create(builder, loc, RankedTensorType::get(rows, index), rank - 2, triangle->diagonal, 1);
    Value column = train::IotaOp::create(builder, loc, RankedTensorType::get(columns, index), rank - 1, 0, 1);
    value = train::CompareOp::create(builder, loc, RankedTensorType::get(matrix, builder.getI1Type()), train::ComparePredicate::le, column, row);
    if (!element.isInteger(1)) {
      RankedTensorType scalar = RankedTensorType::get({}, element);
      Value inside = train::ConstantOp::create(builder, loc, scalar, DenseElementsAttr::get(scalar, scalarAttribute(triangle->inside, element)));
      Value outside = train::ConstantOp::create(builder, loc, scalar, DenseElementsAttr::get(scalar, scalarAttribute(triangle->outside, element)));
      value = train::SelectOp::create(builder, loc, RankedTensorType::get(matrix, element), value, inside, outside);
    } else if (!triangle->inside.integer) {
      value = train::NotOp::create(builder, loc, value.getType(), value);
    }
  } else if (std::optional<Constant::Progression> line = findProgression(constant)) {
    Type index = constant.isInteger() ? element : builder.getI64Type();
    value = train::IotaOp::create(builder, loc, RankedTensorType::get(constant.stored(), index), line->axis, line->start, line->step);
    if (index != element)
      value = train::CastOp::create(builder, loc, RankedTensorType::get(constant.stored(), element), value);
  } else {
    const int64_t bits = element.getIntOrFloatBitWidth(), count = constant.values().size();
    if (count != 1 && count * std::max<int64_t>(bits, 8) / 8 > largestLiteral)
      return nullptr;
    // A splat takes its full shape: it is a number in any of them.
    RankedTensorType type = RankedTensorType::get(count == 1 && full ? constant.shape() : constant.stored(), element);
    SmallVector<Attribute> elements;
    for (Scalar scalar : constant.values())
      elements.push_back(scalarAttribute(scalar, element));
    value = train::ConstantOp::create(builder, loc, type, DenseElementsAttr::get(type, elements));
  }
  if (full && cast<RankedTensorType>(value.getType()).getShape() != constant.shape())
    value = train::BroadcastOp::create(builder, loc, RankedTensorType::get(constant.shape(), element), value);
  return value;
}

Value GraphImporter::materialize(Tensor &tensor, bool full) {
  if (tensor.value)
    return tensor.value;
  if (tensor.alias)
    return materialize(*tensor.alias, full);
  Location loc = builder.getUnknownLoc();
  if (tensor.producer)
    loc = NameLoc::get(builder.getStringAttr(tensor.producer->name().empty() ? tensor.producer->output(0) : tensor.producer->name()));
  else if (tensor.initializer)
    loc = NameLoc::get(builder.getStringAttr(tensor.initializer->name));
  if (tensor.constant)
    if (Value value = materializeConstant(*tensor.constant, tensor.element, loc, full)) {
      // The short form serves operands that broadcast only.
      if (cast<RankedTensorType>(value.getType()).getShape() == ArrayRef(tensor.shape))
        tensor.value = value;
      return value;
    }
  if (Initializer *initializer = tensor.initializer) {
    Initializer *state = initializer->tiedTo ? initializer->tiedTo : initializer;
    if (state->file < 0) {
      problems.error(state->name, "the initializer's values are not stored as raw or packed data, so that a plan cannot refer to them: save the model again with a current onnx");
      return nullptr;
    }
    if (Tensor *shared = find(state->name); shared && shared != &tensor) {
      Value value = materialize(*shared, full);
      if (value && initializer->tiedTransposed)
        value = train::TransposeOp::create(builder, loc, RankedTensorType::get(tensor.shape, tensor.element), value, ArrayRef<int64_t>{1, 0});
      return tensor.value = value;
    }
    state->used = true;
    return tensor.value = train::ReadStateOp::create(builder, loc, state->stateType(), FlatSymbolRefAttr::get(context, state->name));
  }
  if (!tensor.producer || !tensor.constant)
    return nullptr; // its error was reported
  // Too large for a literal: computed where it is used. lower() leaves the value in this tensor, or makes it another name of one (x * 1).
  const int64_t before = problems.errors();
  const onnx::NodeProto &producer = *tensor.producer;
  std::optional<Constant> constant = std::move(tensor.constant);
  tensor.constant.reset();
  if (findOperator(producer)->lower != lowerKnownOnly && succeeded(lower(producer)) && !tensor.value && tensor.alias)
    tensor.value = materialize(*tensor.alias, /*full=*/true);
  if (!tensor.value && problems.errors() == before)
    problems.error(producer.name(), "makes a constant of " + Twine(countElements(constant->shape())) + " elements that is neither a progression nor a triangle; literals are limited to 1 KiB");
  tensor.constant = std::move(constant);
  return tensor.value;
}

} // namespace zopt::importer
