//===- ImportLoss.cpp - a loss that is an ONNX graph -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The graph is imported by itself, with the shapes that the model's outputs have, and then put beside the model:
// zopt-add-loss joins them.
//
//===----------------------------------------------------------------------===//

#include "Importer.h"
#include "ModelFile.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace zopt {

using namespace importer;

namespace {

/// What the model offers to its loss, by name.
struct Offer {
  RankedTensorType type;
  bool isOutput;
};

class LossInputs {
public:
  LossInputs(ModuleOp module, func::FuncOp forward, const ImportOptions &options, Problems &problems)
      : options(options), problems(problems) {
    auto add = [&](StringAttr name, Type type, bool isOutput) {
      if (name && !offers.contains(name.getValue()))
        offers[name.getValue()] = {cast<RankedTensorType>(type), isOutput};
    };
    for (unsigned i = 0; i < forward.getNumResults(); ++i) {
      add(forward.getResultAttrOfType<StringAttr>(i, "train.name"), forward.getResultTypes()[i], /*isOutput=*/true);
      if (auto name = forward.getResultAttrOfType<StringAttr>(i, "train.name"))
        outputs.push_back(name.getValue());
    }
    for (unsigned i = 0; i < forward.getNumArguments(); ++i)
      add(forward.getArgAttrOfType<StringAttr>(i, "train.name"), forward.getArgumentTypes()[i], /*isOutput=*/false);
    if (auto micro = module->getAttrOfType<IntegerAttr>("train.micro_batch"))
      microBatch = micro.getInt();
  }

  llvm::StringMap<std::vector<int64_t>> shapes; ///< of every input

  void match(const onnx::GraphProto &graph) {
    llvm::StringSet<> constants;
    for (const onnx::TensorProto &tensor : graph.initializer())
      constants.insert(tensor.name());
    SmallVector<const onnx::ValueInfoProto *> labels;
    SmallVector<StringRef> names;
    bool readsOutput = false;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      if (constants.contains(input.name()))
        continue;
      names.push_back(input.name());
      auto offer = offers.find(input.name());
      if (offer == offers.end()) {
        labels.push_back(&input);
        continue;
      }
      readsOutput |= offer->second.isOutput;
      takeShape(input, offer->second);
    }
    if (!readsOutput)
      problems.error("", "the loss reads no output of the model, which are '" + llvm::join(outputs, "', '") +
                             "'; its inputs are " +
                             (names.empty() ? std::string("none") : "'" + llvm::join(names, "', '") + "'"));
    for (const onnx::ValueInfoProto *label : labels)
      giveShape(*label);
  }

private:
  /// An input that the model has: its shape is the model's, its symbols get sizes from it.
  void takeShape(const onnx::ValueInfoProto &input, const Offer &offer) {
    const std::string what = offer.isOutput ? "output" : "input";
    const onnx::TypeProto_Tensor &declared = input.type().tensor_type();
    MLIRContext *context = offer.type.getContext();
    // Halves are computed with in fp32.
    Type element = convertElementType(declared.elem_type(), context);
    auto computed = [&](Type type) { return type.isF16() || type.isBF16() ? Type(Float32Type::get(context)) : type; };
    if (!element || computed(offer.type.getElementType()) != element) {
      std::string actual;
      llvm::raw_string_ostream(actual) << offer.type.getElementType();
      problems.error(input.name(), "the loss reads this " + what + " of the model as " +
                                       elementTypeName(declared.elem_type()) + ", but it is " + actual);
      return;
    }
    ArrayRef<int64_t> shape = offer.type.getShape();
    shapes[input.name()] = shape.vec();
    if (!declared.has_shape())
      return;
    if (declared.shape().dim_size() != static_cast<int64_t>(shape.size())) {
      problems.error(input.name(), "the loss reads this " + what + " of the model with " +
                                       Twine(declared.shape().dim_size()) + " dimensions, but it is " +
                                       describe(shape));
      return;
    }
    for (auto [axis, size] : llvm::enumerate(shape)) {
      const onnx::TensorShapeProto_Dimension &dimension = declared.shape().dim(static_cast<int>(axis));
      if (dimension.has_dim_value()) {
        if (dimension.dim_value() != size)
          problems.error(input.name(), "the loss reads this " + what + " of the model with a dimension " + Twine(axis) +
                                           " of " + Twine(dimension.dim_value()) + ", but it is " + describe(shape));
        continue;
      }
      // Only a name that is its own symbol says a size.
      StringRef name = dimension.dim_param();
      SmallVector<StringRef, 2> symbols = findSymbols(name);
      if (name.empty() || symbols.size() != 1 || symbols.front() != name)
        continue;
      auto [known, isNew] = sizes.try_emplace(name, size);
      if (!isNew && known->second != size)
        problems.error(input.name(), "the dimension '" + name + "' of the loss is " + Twine(known->second) +
                                         " in another input, but " + Twine(size) + " in this one");
    }
  }

  void giveShape(const onnx::ValueInfoProto &label) {
    if (!label.type().has_tensor_type() || !label.type().tensor_type().has_shape()) {
      problems.error(label.name(), "the label of the loss is no tensor with a shape");
      return;
    }
    std::vector<int64_t> shape;
    for (auto [axis, dimension] : llvm::enumerate(label.type().tensor_type().shape().dim())) {
      std::optional<int64_t> size;
      if (dimension.has_dim_value())
        size = dimension.dim_value();
      else if (!dimension.dim_param().empty())
        size = evaluateDimension(dimension.dim_param(), sizes);
      if (auto bound = options.binds.find(dimension.dim_param()); !size && bound != options.binds.end())
        size = bound->second;
      if (!size && axis == 0)
        size = microBatch;
      if (!size || *size < 1) {
        problems.error(
            label.name(),
            "the dimension " + Twine(axis) +
                (dimension.dim_param().empty() ? "" : " ('" + dimension.dim_param() + "')") +
                " of this label of the loss is not that of an output of the model: give it a size there or by --bind");
        return;
      }
      shape.push_back(*size);
    }
    if (shape.empty() || shape.front() != microBatch) {
      problems.error(label.name(), "this label of the loss is " + describe(shape) +
                                       ", but it must lead with the micro-batch, which is " + Twine(microBatch));
      return;
    }
    shapes[label.name()] = shape;
  }

  const ImportOptions &options;
  Problems &problems;
  llvm::StringMap<Offer> offers;
  SmallVector<StringRef> outputs;
  Dimensions sizes;
  int64_t microBatch = 1;
};

/// Ops that the passes in front of the loss have to see.
void checkBody(func::FuncOp function, Problems &problems) {
  for (Operation &op : function.getBody().front()) {
    StringRef node;
    if (auto name = op.getLoc()->findInstanceOf<NameLoc>())
      node = name.getName().getValue();
    if (isa<train::DropoutOp, train::DropoutMaskOp, train::UniformOp, train::NormalOp>(op))
      problems.error(node, "a loss that draws random numbers is not supported");
    else if (isa<train::BatchStatisticsOp, train::RunningAverageOp>(op))
      problems.error(node, "a loss that normalizes by statistics of the batch is not supported");
  }
}

/// Moves the loss's function, and what its constants are read from, to the model's module.
void merge(ModuleOp loss, ModuleOp module, func::FuncOp forward) {
  auto rename = [&](Operation *symbol, StringRef base) {
    std::string unique = base.str();
    for (int i = 1;
         SymbolTable::lookupSymbolIn(module, unique) || (unique != base && SymbolTable::lookupSymbolIn(loss, unique));
         ++i)
      unique = (base + "." + Twine(i)).str();
    auto name = StringAttr::get(symbol->getContext(), unique);
    if (name == SymbolTable::getSymbolName(symbol))
      return;
    (void)SymbolTable::replaceAllSymbolUses(symbol, name, loss);
    SymbolTable::setSymbolName(symbol, name);
  };
  Operation *first = nullptr;
  for (Operation &op : *module.getBody())
    if (isa<train::StateOp, func::FuncOp>(op)) {
      first = &op;
      break;
    }
  for (Operation &op : llvm::make_early_inc_range(*loss.getBody())) {
    if (isa<train::WeightFileOp>(op)) {
      rename(&op, SymbolTable::getSymbolName(&op));
      op.moveBefore(first);
    } else if (isa<train::StateOp>(op)) {
      rename(&op, ("loss." + SymbolTable::getSymbolName(&op).getValue()).str());
      op.moveBefore(forward);
    }
  }
}

} // namespace

LogicalResult importLoss(StringRef path, const ImportOptions &options, ModuleOp module) {
  MLIRContext *context = module.getContext();
  Problems problems(context, path, /*silent=*/false, options.quiet);
  auto forward = module.lookupSymbol<func::FuncOp>("forward");
  if (!forward) {
    problems.error("", "the model has no @forward that a loss could read outputs of");
    return failure();
  }
  ModelFile file;
  if (std::string error = file.open(path); !error.empty()) {
    problems.error("", error);
    return failure();
  }
  const onnx::GraphProto &graph = file.model().graph();
  if (graph.output_size() != 1) {
    std::string names;
    for (const onnx::ValueInfoProto &output : graph.output())
      names += (names.empty() ? ": '" : ", '") + output.name() + "'";
    problems.error("", "a loss has one output, but this graph has " + Twine(graph.output_size()) + names);
  }
  LossInputs inputs(module, forward, options, problems);
  inputs.match(graph);
  if (problems.errors())
    return failure();

  ImportOptions ownOptions;
  ownOptions.planDirectory = options.planDirectory;
  ownOptions.quiet = true;
  ownOptions.constantsOnly = true;
  ownOptions.inputShapes = inputs.shapes;
  OwningOpRef<ModuleOp> loss = importOnnx(path, ownOptions, context);
  if (!loss)
    return failure();
  auto function = loss->lookupSymbol<func::FuncOp>("forward");
  auto result = cast<RankedTensorType>(function.getResultTypes().front());
  std::string element;
  llvm::raw_string_ostream(element) << result.getElementType();
  if (!isa<FloatType>(result.getElementType()))
    problems.error(graph.output(0).name(), "the loss is " + element + ", expected a float");
  else if (result.getNumElements() != 1)
    problems.error(graph.output(0).name(), "the loss has " + Twine(result.getNumElements()) + " elements, " +
                                               describe(result.getShape()) + ", expected one: reduce it to a scalar");
  checkBody(function, problems);
  if (problems.errors())
    return failure();

  merge(*loss, module, forward);
  function.setName("loss");
  function->moveAfter(forward);
  return success();
}

} // namespace zopt
