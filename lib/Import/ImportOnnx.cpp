//===- ImportOnnx.cpp - from an ONNX file to the forward level -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Import/ImportOnnx.h"
#include "Importer.h"
#include "Limits.h"
#include "Weights.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Format.h"

using namespace mlir;

namespace zopt {

using namespace importer;

namespace {

/// A model that was read, up to where its dimensions are bound.
struct Loaded {
  ModelFile file;
  std::unique_ptr<FlatGraph> flat;
  std::vector<Initializer> initializers; ///< no growth after locate(): others point into it
  std::unique_ptr<WeightFiles> files;
  llvm::DenseMap<const onnx::TensorProto *, std::string> bodyTensors; ///< tensors of bodies: the initializers' names
};

constexpr int oldestOpset = 1, newestOpset = 28; // each operator has an oldest one of its own

bool checkOpset(const onnx::ModelProto &model, Problems &problems) {
  int64_t opset = -1;
  for (const onnx::OperatorSetIdProto &set : model.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx")
      opset = set.version();
  if (opset >= oldestOpset && opset <= newestOpset)
    return true;
  problems.error("", opset < 0 ? Twine("the model imports no opset of ai.onnx") : "opset " + Twine(opset) + " is not supported: " + Twine(oldestOpset) + " to " + Twine(newestOpset) + " are");
  return false;
}

/// One error an operator that is not supported, naming the nodes.
void checkOperators(const FlatGraph &flat, Problems &problems) {
  llvm::MapVector<StringRef, SmallVector<const onnx::NodeProto *>> unsupported;
  std::vector<std::string> names; // "domain.Op" outlives the map's keys
  names.reserve(flat.nodes().size());
  for (const onnx::NodeProto *node : flat.nodes()) {
    const bool standard = node->domain().empty() || node->domain() == "ai.onnx";
    if (findOperator(*node))
      continue;
    names.push_back(standard ? node->op_type() : node->domain() + "." + node->op_type());
    unsupported[names.back()].push_back(node);
  }
  for (auto &[name, nodes] : unsupported) {
    std::string others;
    constexpr size_t most = 8;
    for (size_t i = 1; i < std::min(nodes.size(), most); ++i)
      others += (i == 1 ? "; also " : ", ") + nodes[i]->name();
    if (nodes.size() > most)
      others += " and " + std::to_string(nodes.size() - most) + " more";
    StringRef reason = refusalReason(name);
    problems.error(nodes.front()->name(), "operator '" + name + "' is not supported" + (reason.empty() ? "" : ": ") + reason + others);
  }
}

bool load(StringRef path, const ImportOptions &options, Problems &problems, Loaded &result) {
  if (std::string error = result.file.open(path); !error.empty()) {
    problems.error("", error);
    return false;
  }
  for (const auto &shape : options.inputShapes)
    result.file.setInputShape(shape.first(), shape.second);
  const onnx::ModelProto &model = result.file.model();
  if (!checkOpset(model, problems) || !checkLimits(model, problems))
    return false;
  result.flat = std::make_unique<FlatGraph>(model, problems);
  checkOperators(*result.flat, problems);
  if (model.graph().sparse_initializer_size())
    problems.error("", "sparse initializers are not supported");

  result.files = std::make_unique<WeightFiles>(result.file, path, problems);
  llvm::StringSet<> names;
  auto add = [&](const onnx::TensorProto &tensor, StringRef name) {
    if (name.empty() || !names.insert(name).second) {
      problems.error(name, name.empty() ? Twine("an initializer has no name") : Twine("there are two initializers of this name"));
      return;
    }
    Initializer initializer;
    if (result.files->locate(tensor, initializer, name))
      result.initializers.push_back(std::move(initializer));
  };
  for (const onnx::TensorProto &tensor : model.graph().initializer())
    add(tensor, tensor.name());
  // Constant nodes hold weights in graphs that were not optimized; their names are their outputs'.
  for (const onnx::NodeProto *node : result.flat->nodes())
    if (node->op_type() == "Constant" && node->output_size() == 1 && node->attribute_size() == 1 && node->attribute(0).name() == "value" && node->attribute(0).has_t())
      add(node->attribute(0).t(), node->output(0));
  // Tensors of bodies. Two bodies may use one name.
  auto addOfBody = [&](const onnx::TensorProto &tensor, StringRef name) {
    std::string unique = name.str();
    for (int i = 1; names.contains(unique); ++i)
      unique = (name + "." + Twine(i)).str();
    result.bodyTensors[&tensor] = unique;
    add(tensor, unique);
  };
  for (const onnx::NodeProto *node : result.flat->nodes())
    forEachBody(*node, [&](const onnx::GraphProto &body) {
      for (const onnx::TensorProto &tensor : body.initializer())
        addOfBody(tensor, tensor.name());
      for (const onnx::NodeProto &inner : body.node())
        if (inner.op_type() == "Constant" && inner.output_size() == 1 && inner.attribute_size() == 1 && inner.attribute(0).has_t())
          addOfBody(inner.attribute(0).t(), inner.output(0));
    });
  if (problems.errors())
    return false;
  classifyParameters(model, *result.flat, result.initializers, *result.files, options, problems);
  return problems.errors() == 0;
}

/// The inputs that are no initializers.
SmallVector<const onnx::ValueInfoProto *> dataInputs(const Loaded &loaded) {
  llvm::StringSet<> names;
  for (const Initializer &initializer : loaded.initializers)
    names.insert(initializer.name);
  SmallVector<const onnx::ValueInfoProto *> inputs;
  for (const onnx::ValueInfoProto &input : loaded.file.model().graph().input())
    if (!names.contains(input.name()))
      inputs.push_back(&input);
  return inputs;
}

std::string dimensionName(const onnx::ValueInfoProto &input, int axis) {
  const onnx::TensorShapeProto_Dimension &dimension = input.type().tensor_type().shape().dim(axis);
  return dimension.has_dim_param() && !dimension.dim_param().empty() ? dimension.dim_param() : input.name() + "." + std::to_string(axis);
}

/// Gives every symbolic dimension a size (INTERFACE `--bind`).
class Binder {
public:
  Binder(const Loaded &loaded, const ImportOptions &options, Problems &problems, MLIRContext *context) : loaded(loaded), options(options), problems(problems), context(context), inputs(dataInputs(loaded)) {}

  Dimensions sizes;
  int64_t microBatch = 1;

  void run() {
    for (const onnx::ValueInfoProto *input : inputs)
      checkInput(*input);
    if (problems.errors())
      return;
    for (const onnx::ValueInfoProto *input : inputs)
      for (int axis = 0; axis < input->type().tensor_type().shape().dim_size(); ++axis)
        if (!input->type().tensor_type().shape().dim(axis).has_dim_value()) {
          std::string name = dimensionName(*input, axis); // which the symbols are parts of
          for (StringRef symbol : findSymbols(name))
            if (!llvm::is_contained(symbols, symbol))
              symbols.push_back(symbol.str());
        }
    bindGiven();
    bindBatch();
    bindRest();
    checkSizes();
  }

private:
  void checkInput(const onnx::ValueInfoProto &input) {
    if (!input.type().has_tensor_type() || !input.type().tensor_type().has_shape()) {
      problems.error(input.name(), "the graph's input is no tensor with a shape");
      return;
    }
    if (!convertElementType(input.type().tensor_type().elem_type(), context))
      problems.error(input.name(), "the graph's input has the element type " + elementTypeName(input.type().tensor_type().elem_type()) + ", which is not supported");
    for (const onnx::TensorShapeProto_Dimension &dimension : input.type().tensor_type().shape().dim())
      if (dimension.has_dim_value() && dimension.dim_value() < 0)
        problems.error(input.name(), "the graph's input has a dimension of size " + Twine(dimension.dim_value()));
  }

  void bindGiven() {
    SmallVector<StringRef> given;
    for (const auto &bind : options.binds)
      given.push_back(bind.first());
    llvm::sort(given);
    for (StringRef name : given) {
      const int64_t size = options.binds.lookup(name);
      if (!llvm::is_contained(symbols, name))
        problems.error("", "--bind " + name + "=" + Twine(size) + ": the model has no dimension of that name; it has " + (symbols.empty() ? "none that is open" : llvm::join(symbols, ", ")));
      else if (size < 1)
        problems.error("", "--bind " + name + "=" + Twine(size) + ": a size is at least 1");
      else
        sizes[name] = size;
    }
  }

  void bindBatch() {
    microBatch = options.microBatch;
    if (microBatch < 1) {
      problems.error("", "the micro-batch is " + Twine(microBatch) + ", but it is at least 1");
      return;
    }
    std::string batch = options.batchDim;
    if (!batch.empty() && !llvm::is_contained(symbols, batch)) {
      problems.error("", "--batch-dim " + batch + ": the model has no dimension of that name");
      return;
    }
    std::optional<int64_t> fixed;
    for (const onnx::ValueInfoProto *input : inputs) {
      const onnx::TensorShapeProto &shape = input->type().tensor_type().shape();
      if (shape.dim_size() == 0)
        continue;
      if (shape.dim(0).has_dim_value()) {
        if (!fixed && shape.dim(0).dim_value() > 0)
          fixed = shape.dim(0).dim_value();
        continue;
      }
      if (options.batchDim.empty() && batch.empty())
        batch = dimensionName(*input, 0);
      else if (options.batchDim.empty() && batch != dimensionName(*input, 0))
        problems.error("", "the inputs lead with different dimensions, '" + batch + "' and '" + dimensionName(*input, 0) + "': name the batch with --batch-dim");
    }
    if (batch.empty()) {
      if (!fixed)
        return;
      if (options.microBatchGiven && microBatch != *fixed)
        problems.error("", "the model was exported with a static batch of " + Twine(*fixed) + ", but the micro-batch is " + Twine(microBatch));
      microBatch = *fixed;
      return;
    }
    if (sizes.count(batch)) {
      if (options.microBatchGiven && sizes[batch] != microBatch)
        problems.error("", "--bind " + batch + "=" + Twine(sizes[batch]) + " and a micro-batch of " + Twine(microBatch) + " disagree: '" + batch + "' is the batch dimension");
      microBatch = sizes[batch];
      return;
    }
    sizes[batch] = microBatch;
  }

  /// An open dimension takes the length that a table of the model bounds it to. The graph is imported once, silently, with small prime sizes in the open dimensions: a table
  /// that is read with that many indices in order is bounded by its rows.
  void bindRest() {
    SmallVector<std::string> open;
    for (const std::string &symbol : symbols)
      if (!sizes.count(symbol))
        open.push_back(symbol);
    if (open.empty() || problems.errors())
      return;
    static const int64_t primes[] = {5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
    Dimensions probe = sizes;
    for (auto [i, name] : llvm::enumerate(open))
      probe[name] = primes[i % std::size(primes)];
    Problems silent(context, "", /*silent=*/true);
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
    OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
    auto function = func::FuncOp::create(builder, builder.getUnknownLoc(), "forward", builder.getFunctionType({}, {}));
    std::vector<Initializer> copies = loaded.initializers;
    for (Initializer &copy : copies)
      copy.tiedTo = nullptr;
    GraphImporter importer(loaded.file.model(), *loaded.flat, copies, probe, options, silent, context);
    importer.bodyTensors = &loaded.bodyTensors;
    importer.loadConstants(*loaded.files);
    importer.run(function);
    for (auto [i, name] : llvm::enumerate(open)) {
      int64_t size = -1;
      for (const GraphImporter::TableUse &use : importer.tableUses())
        if (use.count == primes[i % std::size(primes)] && (size < 0 || use.rows < size))
          size = use.rows;
      problems.remark("the dimension '" + name + "' is not bound: it takes " + (size > 0 ? Twine(size) + ", the length of the model's table" : Twine("128")) + " (--bind " + name + "=N)");
      sizes[name] = size > 0 ? size : 128;
    }
  }

  void checkSizes() {
    if (problems.errors())
      return;
    for (const onnx::ValueInfoProto *input : inputs) {
      Shape shape;
      for (int axis = 0; axis < input->type().tensor_type().shape().dim_size(); ++axis) {
        const onnx::TensorShapeProto_Dimension &dimension = input->type().tensor_type().shape().dim(axis);
        shape.push_back(dimension.dim_value());
        if (dimension.has_dim_value())
          continue;
        const std::string name = dimensionName(*input, axis);
        std::optional<int64_t> size = evaluateDimension(name, sizes);
        if (!size || *size < 1)
          problems.error(input->name(), "the dimension '" + name + "' " + (size ? "is " + Twine(*size) : Twine("cannot be evaluated")));
        shape.back() = size.value_or(1);
      }
      if (isTooLarge(shape))
        problems.error(input->name(), "the graph's input has the shape " + describe(shape) + ", which is too large");
    }
  }

  const Loaded &loaded;
  const ImportOptions &options;
  Problems &problems;
  MLIRContext *context;
  SmallVector<const onnx::ValueInfoProto *> inputs;
  std::vector<std::string> symbols; ///< in order of appearance
};

/// The rows of the smallest table that an argument's values index, through ops that keep or move them; 0 where it indexes none.
int64_t indexLimit(Value value, unsigned depth = 0) {
  int64_t limit = 0;
  auto lower = [&](int64_t rows) { limit = rows && (!limit || rows < limit) ? rows : limit; };
  if (depth > 16)
    return 0;
  for (OpOperand &use : value.getUses()) {
    Operation *op = use.getOwner();
    if (auto gather = dyn_cast<train::GatherOp>(op)) {
      if (use.getOperandNumber() == 1)
        lower(cast<RankedTensorType>(gather.getData().getType()).getDimSize(gather.getAxis()));
    } else if (auto loss = dyn_cast<train::CrossEntropyOp>(op)) {
      lower(cast<RankedTensorType>(loss.getLogits().getType()).getShape().back());
    } else if (isa<train::ReshapeOp, train::TransposeOp, train::BroadcastOp, train::SliceOp>(op) ||
               (isa<train::CastOp>(op) && isa<IntegerType>(getElementTypeOrSelf(op->getResult(0).getType()))))
      lower(indexLimit(op->getResult(0), depth + 1));
  }
  return limit;
}

/// The label that a loss ignores, of an argument that holds its labels.
std::optional<int64_t> ignoredLabel(Value value, unsigned depth = 0) {
  for (Operation *op : value.getUsers()) {
    if (auto loss = dyn_cast<train::CrossEntropyOp>(op))
      return static_cast<int64_t>(loss.getIgnoreIndex());
    if (depth < 16 && isa<train::ReshapeOp, train::TransposeOp, train::BroadcastOp, train::SliceOp, train::CastOp>(op))
      if (std::optional<int64_t> label = ignoredLabel(op->getResult(0), depth + 1))
        return label;
  }
  return std::nullopt;
}

std::string withThousands(int64_t value) {
  std::string digits = std::to_string(value);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(at, ",");
  return digits;
}

/// One line on what trains. What the graph's outputs do not depend on is left out where that is known (`usedOnly`).
void summarize(ArrayRef<Initializer> initializers, bool usedOnly, Problems &problems) {
  int64_t trained = 0, elements = 0, frozen = 0, tied = 0, constants = 0;
  for (const Initializer &initializer : initializers) {
    if (!initializer.isFloat || (usedOnly && initializer.parameter && !initializer.used && !initializer.tiedTo))
      continue;
    if (initializer.tiedTo)
      ++tied;
    else if (initializer.trained) {
      ++trained;
      elements += countElements(initializer.shape);
    } else
      ++(initializer.parameter ? frozen : constants);
  }
  problems.remark(Twine(trained) + " parameters train (" + withThousands(elements) + " elements), " + Twine(frozen) + " are frozen, " + Twine(tied) + " are tied copies; " + Twine(constants) +
                  " float initializers are constants (--list-parameters)");
}

} // namespace

OwningOpRef<ModuleOp> importOnnx(StringRef path, const ImportOptions &options, MLIRContext *context) {
  Problems problems(context, path, false, options.quiet);
  Loaded loaded;
  if (!load(path, options, problems, loaded))
    return nullptr;
  Binder binder(loaded, options, problems, context);
  binder.run();
  if (problems.errors())
    return nullptr;

  OwningOpRef<ModuleOp> module = ModuleOp::create(NameLoc::get(StringAttr::get(context, path)));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto function = func::FuncOp::create(builder, module->getLoc(), "forward", builder.getFunctionType({}, {}));
  GraphImporter importer(loaded.file.model(), *loaded.flat, loaded.initializers, binder.sizes, options, problems, context);
  importer.bodyTensors = &loaded.bodyTensors;
  importer.loadConstants(*loaded.files);
  importer.run(function);
  if (problems.errors())
    return nullptr;

  // States and files of what is used, in the file's order, above the function.
  builder.setInsertionPoint(function);
  SmallVector<bool> usedFiles(loaded.files->count(), false);
  for (const Initializer &initializer : loaded.initializers)
    if (initializer.used)
      usedFiles[initializer.file] = true;
  std::vector<FlatSymbolRefAttr> symbols = loaded.files->emit(builder, options.planDirectory, usedFiles);
  for (const Initializer &initializer : loaded.initializers) {
    if (!initializer.used)
      continue;
    auto init = train::WeightAttr::get(context, symbols[initializer.file], initializer.offset, initializer.bytes, initializer.stored);
    SmallVector<StringRef> tied(initializer.tied.begin(), initializer.tied.end());
    train::StateOp::create(builder, builder.getUnknownLoc(), initializer.name, initializer.stateType(), initializer.parameter ? train::Role::parameter : train::Role::buffer, init, initializer.trained,
                           initializer.sourceName.empty() ? StringAttr() : builder.getStringAttr(initializer.sourceName),
                           initializer.sourcePermutation.empty() ? DenseI64ArrayAttr() : builder.getDenseI64ArrayAttr(initializer.sourcePermutation), tied.empty() ? ArrayAttr() : builder.getStrArrayAttr(tied),
                           /*no_decay=*/false);
  }

  (*module)->setAttr("train.level", builder.getStringAttr("forward"));
  (*module)->setAttr("train.model", builder.getStringAttr(loaded.files->modelPath(options.planDirectory)));
  (*module)->setAttr("train.micro_batch", builder.getI64IntegerAttr(binder.microBatch));
  for (auto [i, input] : llvm::enumerate(dataInputs(loaded))) {
    function.setArgAttr(i, "train.name", builder.getStringAttr(input->name()));
    auto type = cast<RankedTensorType>(function.getArgument(i).getType());
    if (!isa<IntegerType>(type.getElementType()) || type.getElementType().isInteger(1))
      continue;
    if (int64_t limit = indexLimit(function.getArgument(i)))
      function.setArgAttr(i, "train.limit", builder.getI64IntegerAttr(limit));
    if (std::optional<int64_t> label = ignoredLabel(function.getArgument(i)))
      function.setArgAttr(i, "train.ignore_index", builder.getI64IntegerAttr(*label));
    // Token models: [batch, length] of integers.
    if (type.getRank() >= 2 && !(*module)->hasAttr("train.sequence_length"))
      (*module)->setAttr("train.sequence_length", builder.getI64IntegerAttr(type.getDimSize(1)));
  }
  for (auto [i, output] : llvm::enumerate(loaded.file.model().graph().output()))
    function.setResultAttr(i, "train.name", builder.getStringAttr(output.name()));
  summarize(loaded.initializers, /*usedOnly=*/true, problems);
  return module;
}

LogicalResult listParameters(StringRef path, const ImportOptions &options, MLIRContext *context, llvm::raw_ostream &os) {
  Problems problems(context, path);
  Loaded loaded;
  if (!load(path, options, problems, loaded))
    return failure();
  size_t width = 0;
  for (const Initializer &initializer : loaded.initializers)
    width = std::max(width, initializer.name.size());
  for (const Initializer &initializer : loaded.initializers) {
    std::string type;
    llvm::raw_string_ostream(type) << initializer.stored;
    os << llvm::left_justify(initializer.name, width) << "  " << llvm::left_justify(type + describe(initializer.shape), 18) << "  "
       << llvm::left_justify(initializer.tiedTo ? "tied" : initializer.trained ? "trained" : initializer.parameter ? "frozen" : "constant", 8) << "  " << initializer.reason;
    if (!initializer.sourceName.empty())
      os << " (source: " << initializer.sourceName << ")";
    os << "\n";
  }
  summarize(loaded.initializers, /*usedOnly=*/false, problems);
  return success();
}

void listOps(llvm::raw_ostream &os) {
  constexpr size_t width = 44;
  os << llvm::left_justify("operator", width) << "  opsets  gradient  becomes train.\n";
  for (const Operator &op : operators()) {
    const bool standard = !StringRef(op.name).contains('.');
    os << llvm::left_justify(op.name, width) << "  " << llvm::left_justify(standard ? (Twine(op.since) + "-" + Twine(newestOpset)).str() : "1-", 6) << "  " << (op.differentiable ? "yes" : "no ") << "       " << op.becomes << "\n";
  }
  for (const Refusal &refusal : refusals())
    os << llvm::left_justify(refusal.name, width) << "  refused: " << refusal.reason << "\n";
}

} // namespace zopt
