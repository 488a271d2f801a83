//===- Parameters.cpp - which initializers train ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ONNX does not say which initializers are parameters, and "every float one" is wrong: rotary frequencies, scalars, masks and states of zeros are floats too. An initializer is
// a parameter by how the graph uses it: as an operand of a contraction, a norm or a table, or added to or multiplied with values that depend on the data.
//
//===----------------------------------------------------------------------===//

#include "ExporterTables.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/xxhash.h"
#include <limits>

using namespace mlir;

namespace zopt::importer {

namespace {

struct Use {
  const onnx::NodeProto *node;
  int operand;
};

/// Producer-to-consumer edges of a flat graph, and what depends on the data.
class Uses {
public:
  Uses(const onnx::ModelProto &model, const FlatGraph &flat, ArrayRef<Initializer> initializers) {
    llvm::StringSet<> constants;
    for (const Initializer &initializer : initializers)
      constants.insert(initializer.name);
    for (const onnx::ValueInfoProto &input : model.graph().input())
      if (!constants.contains(input.name()))
        data.insert(input.name());
    for (const onnx::NodeProto *node : flat.nodes()) {
      forEachBody(*node, [&](const onnx::GraphProto &body) {
        for (const onnx::ValueInfoProto &input : body.input())
          data.insert(input.name());
        for (const std::string &output : node->output()) // what a body makes of what it reads around it
          data.insert(output);
      });
      forEachBodyNode(*node, [&](const onnx::NodeProto &inner) { addNode(&inner); });
      addNode(node);
    }
  }

  ArrayRef<Use> of(StringRef name) const {
    auto it = uses.find(name);
    return it == uses.end() ? ArrayRef<Use>() : ArrayRef<Use>(it->second);
  }
  bool dependsOnData(StringRef name) const { return data.contains(name); }

private:
  void addNode(const onnx::NodeProto *node) {
      // A shape depends on no data.
      bool depends = false;
      for (auto [i, input] : llvm::enumerate(node->input())) {
        uses[input].push_back({node, static_cast<int>(i)});
        depends |= data.contains(input);
      }
      if (depends && node->op_type() != "Shape" && node->op_type() != "Size")
        for (const std::string &output : node->output())
          data.insert(output);
  }

  llvm::StringMap<SmallVector<Use, 2>> uses;
  llvm::StringSet<> data;
};

/// Ops that pass elements of operand 0 on.
bool isView(StringRef op) {
  return llvm::StringSwitch<bool>(op)
      .Cases({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Expand", "Slice", "Split", "Concat", "Tile", "Dropout"}, true)
      .Default(false);
}

/// Ops through which models reparametrize: what trains is what goes in (the log of Mamba's A, DeBERTa's distances under a norm, the standardized weights of BiT, a vision transformer's positions for another size).
bool isReparametrization(StringRef op) {
  return llvm::StringSwitch<bool>(op).Cases({"Exp", "Neg", "Softplus", "Sigmoid", "Tanh", "BatchNormalization", "LayerNormalization", "RMSNormalization", "Resize"}, true).Default(false);
}

const char *describeSlot(Slot slot) {
  switch (slot) {
  case Slot::Contraction:
    return "operand of a contraction";
  case Slot::Table:
    return "table that is read by index";
  case Slot::NormScale:
    return "scale of a norm";
  case Slot::NormBias:
    return "bias of a norm";
  case Slot::Bias:
    return "bias";
  case Slot::Scale:
    return "scale of activations";
  case Slot::Elementwise:
    return "operand beside activations";
  case Slot::Statistics:
    return "running statistics";
  case Slot::Frequencies:
    return "frequencies of a rotary or sinusoidal embedding";
  case Slot::Mask:
    return "mask";
  case Slot::Join:
    return "joined with activations";
  case Slot::None:
    break;
  }
  return "not used by activations";
}

bool isWeight(Slot slot) { return slot == Slot::Contraction || slot == Slot::Table || slot == Slot::NormScale || slot == Slot::NormBias || slot == Slot::Bias || slot == Slot::Scale || slot == Slot::Elementwise; }

class Classifier {
public:
  Classifier(const Uses &uses, const FlatGraph &flat) : uses(uses) {
    for (const onnx::NodeProto *node : flat.nodes())
      if ((node->op_type() == "MatMul" || node->op_type() == "Gemm") && node->output_size() && !uses.dependsOnData(node->output(0)))
        products.insert(node->output(0));
  }

  /// All the slots that a value reaches, through views and what models make of parameters alone. `product`: it is a product of parameters.
  void collect(StringRef name, SmallVectorImpl<std::pair<Slot, const onnx::NodeProto *>> &slots, unsigned depth = 0, bool product = false) {
    if (depth > 16)
      return;
    for (const Use &use : uses.of(name)) {
      StringRef op = use.node->op_type();
      if (isView(op) && (use.operand == 0 || op == "Concat")) {
        if (op == "Concat" && llvm::any_of(use.node->input(), [&](const std::string &input) { return uses.dependsOnData(input); })) {
          slots.push_back({Slot::Join, use.node});
          continue;
        }
        for (const std::string &output : use.node->output())
          collect(output, slots, depth + 1, product);
        continue;
      }
      if (use.node->output_size() && !uses.dependsOnData(use.node->output(0))) {
        const bool multiplies = op == "MatMul" || op == "Gemm";
        const bool beside = op == "Add" && llvm::any_of(use.node->input(), [&](const std::string &input) { return input != name && products.contains(input); });
        // A query that is learned is projected, shifted, and scaled by a constant.
        const bool scales = product && (op == "Mul" || (op == "Div" && use.operand == 0));
        if (multiplies || scales || ((product || beside) && op == "Add") ||
            (isReparametrization(op) && use.operand == 0)) {
          collect(use.node->output(0), slots, depth + 1, product || multiplies || beside);
          continue;
        }
      }
      slots.push_back({classify(use), use.node});
    }
  }

private:
  Slot classify(const Use &use) {
    const onnx::NodeProto &node = *use.node;
    StringRef op = node.op_type();
    const int i = use.operand;
    if (op == "MatMul" || op == "Conv" || op == "ConvTranspose" || op == "Einsum") {
      const bool other = llvm::any_of(llvm::enumerate(node.input()), [&](auto input) { return static_cast<int>(input.index()) != i && uses.dependsOnData(input.value()); });
      if (!other)
        return Slot::None;
      if ((op == "MatMul" || op == "Einsum") && reachesTrigonometry(node, 0))
        return Slot::Frequencies;
      return op != "MatMul" && op != "Einsum" && i == 2 ? Slot::Bias : Slot::Contraction;
    }
    if (op == "Gemm") // of data: products of parameters were followed
      return i == 2 ? Slot::Bias : Slot::Contraction;
    if (op == "RNN" || op == "LSTM" || op == "GRU")
      return i == 1 || i == 2 || i == 7 ? Slot::Contraction : i == 3 ? Slot::Bias : Slot::None;
    if (op == "Gather" || op == "GatherElements" || op == "GatherND")
      return i == 0 ? Slot::Table : Slot::None;
    if (op == "LayerNormalization" || op == "InstanceNormalization" || op == "GroupNormalization" || op == "RMSNormalization")
      return i == 1 ? Slot::NormScale : i == 2 ? Slot::NormBias : Slot::None;
    if (op == "BatchNormalization")
      return i == 1 ? Slot::NormScale : i == 2 ? Slot::NormBias : Slot::Statistics;
    if (op == "Where")
      return Slot::Mask;
    if (op == "RotaryEmbedding" || op == "Sin" || op == "Cos")
      return Slot::Frequencies;
    if (op == "PRelu")
      return i == 1 ? Slot::Scale : Slot::None;
    if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div" || op == "Sum") {
      const bool other = llvm::any_of(llvm::enumerate(node.input()), [&](auto input) { return static_cast<int>(input.index()) != i && uses.dependsOnData(input.value()); });
      if (!other)
        return reachesTrigonometry(node, 0) ? Slot::Frequencies : Slot::None;
      if (reachesTrigonometry(node, 0))
        return Slot::Frequencies;
      return op == "Add" || op == "Sub" || op == "Sum" ? Slot::Bias : op == "Mul" ? Slot::Scale : Slot::Elementwise;
    }
    return Slot::None;
  }

  /// Whether a node's result goes to Sin or Cos and, but for more arithmetic on the way there, nowhere else.
  bool reachesTrigonometry(const onnx::NodeProto &node, unsigned depth) {
    if (depth > 6 || node.output_size() == 0)
      return false;
    ArrayRef<Use> consumers = uses.of(node.output(0));
    return !consumers.empty() && llvm::all_of(consumers, [&](const Use &use) {
      StringRef op = use.node->op_type();
      return op == "Sin" || op == "Cos" || ((isView(op) || op == "Mul" || op == "Add") && reachesTrigonometry(*use.node, depth + 1));
    });
  }

  const Uses &uses;
  llvm::StringSet<> products; ///< of parameters alone
};

/// `--train-only`, `--freeze`: what a list of regular expressions and @FILEs names.
class NameFilter {
public:
  NameFilter(ArrayRef<std::string> entries, const char *flag, Problems &problems) {
    for (const std::string &entry : entries) {
      Entry &e = list.emplace_back();
      e.text = entry;
      e.flag = flag;
      if (StringRef(entry).starts_with("@")) {
        llvm::ErrorOr<std::unique_ptr<llvm::MemoryBuffer>> file = llvm::MemoryBuffer::getFile(entry.substr(1), /*IsText=*/true);
        if (!file) {
          problems.error("", Twine(flag) + ": '" + entry.substr(1) + "' cannot be read: " + file.getError().message());
          continue;
        }
        SmallVector<StringRef> lines;
        (*file)->getBuffer().split(lines, '\n');
        for (StringRef line : lines)
          if (!line.trim().empty())
            e.names[line.trim()] = false;
        e.isFile = true;
        continue;
      }
      // The whole name must match, as in a list of names.
      e.regex = std::make_unique<llvm::Regex>("^(" + entry + ")$");
      std::string error;
      if (!e.regex->isValid(error)) {
        problems.error("", Twine(flag) + ": '" + entry + "' is not a regular expression: " + error);
        e.regex = nullptr;
      }
    }
  }

  bool empty() const { return list.empty(); }

  bool matches(const Initializer &initializer) {
    bool any = false;
    for (Entry &e : list)
      for (StringRef name : {StringRef(initializer.name), StringRef(initializer.sourceName)}) {
        if (name.empty())
          continue;
        bool hit = e.regex && e.regex->match(name);
        if (auto it = e.names.find(name); it != e.names.end())
          hit = it->second = true;
        any |= hit;
        e.matched |= hit;
      }
    return any;
  }

  void reportUnmatched(Problems &problems) {
    for (const Entry &e : list) {
      if (!e.isFile && e.regex && !e.matched)
        problems.error("", Twine(e.flag) + ": '" + e.text + "' matches no parameter");
      for (const auto &name : e.names)
        if (!name.second)
          problems.error("", Twine(e.flag) + ": '" + name.first() + "' of '" + e.text.substr(1) + "' is no parameter");
    }
  }

private:
  struct Entry {
    std::string text;
    const char *flag;
    std::unique_ptr<llvm::Regex> regex;
    llvm::StringMap<bool> names;
    bool isFile = false, matched = false;
  };
  std::vector<Entry> list;
};

/// A norm without parameters is written with ones and zeros. PyTorch's exporter gives them numbers for names, and tells the source of everything else; TorchScript makes them Constant nodes
/// behind a path. A GroupNorm below opset 21 is an InstanceNormalization of groups with such a fill, multiplied by the weights behind it.
static bool isFill(const Initializer &initializer, double value, bool isInstanceNorm, bool tellsSources, WeightFiles &files) {
  StringRef number = initializer.name;
  const bool numbered = initializer.source == Source::Unknown && initializer.sourceName.empty() && number.consume_front("val_") && !number.empty() && llvm::all_of(number, llvm::isDigit);
  const bool isNode = initializer.name.front() == '/' && StringRef(initializer.name).contains("/Constant");
  if (!(numbered && (tellsSources || isInstanceNorm)) && !isNode)
    return false;
  std::optional<Constant> values = files.read(initializer, int64_t(1) << 22);
  return values && llvm::all_of(values->values(), [&](Scalar s) { return s.real == value; });
}

} // namespace

/// A scalar that is a parameter all the same: one under an exponential (a temperature's logarithm), which exporters
/// fold where it is a constant, or one that TorchScript's exporter, whose constants have no axes, gave a name of its
/// own: `onnx::Add_864` of one axis. (A parameter without axes cannot be told from a constant.)
static bool isLearnedScalar(const Initializer &initializer, Slot slot, const Uses &uses) {
  if (slot != Slot::Bias && slot != Slot::Scale)
    return false;
  if (llvm::any_of(uses.of(initializer.name), [](const Use &use) { return use.node->op_type() == "Exp"; }))
    return true;
  return !initializer.shape.empty() && StringRef(initializer.name).starts_with("onnx::");
}

/// Float buffers that transformers' models add, by the names that TorchScript's exporter keeps.
static bool isKnownBuffer(StringRef name) {
  return name == "final_logits_bias" || name.ends_with(".final_logits_bias");
}

/// The names that the exporter itself gives as parameters (zopt-export does, in the model's metadata), and whether they are frozen. Empty where it says nothing.
static llvm::StringMap<bool> readDeclared(const onnx::ModelProto &model) {
  llvm::StringMap<bool> declared;
  for (const onnx::StringStringEntryProto &entry : model.metadata_props()) {
    const bool frozen = entry.key() == "zopt.frozen";
    if (!frozen && entry.key() != "zopt.parameters")
      continue;
    SmallVector<StringRef> names;
    StringRef(entry.value()).split(names, '\n', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
    for (StringRef name : names)
      declared[name] = frozen;
  }
  return declared;
}

/// A parameter that is neither the source's shape nor its transposition was computed from it.
static void finishSourceName(Initializer &initializer, ArrayRef<std::pair<Slot, const onnx::NodeProto *>> slots, Problems &problems) {
  if (initializer.sourceName.empty())
    return;
  const bool matrix = initializer.shape.size() == 2 && llvm::any_of(slots, [](auto slot) { return slot.first == Slot::Contraction && slot.second->op_type() == "MatMul"; });
  if (matrix)
    initializer.sourcePermutation = {1, 0}; // the exporter folds Transpose(weight) in front of MatMul
  else if (llvm::any_of(slots, [](auto slot) { return slot.first == Slot::Bias || slot.first == Slot::Join; }) && initializer.shape.size() >= 3)
    problems.warning(initializer.name, "the exporter folded '" + initializer.sourceName + "' into this initializer " + describe(initializer.shape) +
                                           ", perhaps only a part of it: export with dynamic dimensions to keep the parameter itself");
}

/// Equal initializers are merged by the exporter: one norm scale that stands for many.
static void warnOfMerged(const Initializer &initializer, ArrayRef<std::pair<Slot, const onnx::NodeProto *>> slots, Problems &problems) {
  const int64_t uses = llvm::count_if(slots, [](auto slot) { return slot.first == Slot::NormScale || slot.first == Slot::NormBias || slot.first == Slot::Bias; });
  if (uses > 1 && initializer.shape.size() == 1)
    problems.warning(initializer.name, "this initializer is the scale or bias of " + Twine(uses) +
                                           " nodes: the exporter merged parameters with equal values, which will train as one (zero biases may have been dropped altogether); perturb them before the export");
}

/// One minus a parameter, say, which the exporter folded although the parameter is there, too.
static void warnOfComputed(ArrayRef<Initializer> initializers, Problems &problems) {
  llvm::StringMap<const Initializer *> trained;
  for (const Initializer &initializer : initializers)
    if (initializer.trained)
      trained[initializer.name] = &initializer;
  for (const Initializer &initializer : initializers) {
    const Initializer *source = initializer.trained ? trained.lookup(initializer.sourceName) : nullptr;
    if (source && source != &initializer && source->shape == initializer.shape && initializer.sourcePermutation.empty())
      problems.warning(initializer.name, "the exporter computed this initializer from '" + initializer.sourceName +
                                             "', which trains too, and apart from it: zopt-export keeps the one");
  }
}

/// What each scalar was folded from, where that is one value which the exporter did not number itself: a parameter may
/// have been behind it (a temperature's logarithm).
static llvm::StringMap<std::string> findFoldedScalars(const onnx::ModelProto &model) {
  llvm::StringMap<std::string> sources;
  for (const onnx::ValueInfoProto &info : model.graph().value_info()) {
    SmallVector<std::string> names = parseNames(ModelFile::metadata(info, "folded_from"));
    if (names.size() == 1 && !llvm::isDigit(names[0].back()))
      sources[info.name()] = names[0];
  }
  return sources;
}

//===----------------------------------------------------------------------===//
// Ties
//===----------------------------------------------------------------------===//

/// Whether two initializers hold the same bytes, or (matrices) b is a transposed. Looks at the corners first, so that pairs that differ cost nothing.
static std::optional<bool> equalContent(const Initializer &a, StringRef bytesA, const Initializer &b, StringRef bytesB) {
  const size_t size = a.bytes / std::max<int64_t>(1, countElements(a.shape));
  if (a.stored != b.stored || bytesA.size() != bytesB.size() || bytesA.empty() || bytesA.take_front(size) != bytesB.take_front(size) || bytesA.take_back(size) != bytesB.take_back(size))
    return std::nullopt;
  if (a.shape == b.shape && bytesA == bytesB)
    return false;
  if (a.shape.size() != 2 || b.shape.size() != 2 || a.shape[0] != b.shape[1] || a.shape[1] != b.shape[0])
    return std::nullopt;
  const size_t rows = a.shape[0], columns = a.shape[1];
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c)
      if (bytesA.substr((r * columns + c) * size, size) != bytesB.substr((c * rows + r) * size, size))
        return std::nullopt;
  return true;
}

static bool holdsOneValue(const Initializer &initializer, StringRef bytes) {
  const size_t size = initializer.bytes / std::max<int64_t>(1, countElements(initializer.shape));
  return bytes.drop_front(size) == bytes.drop_back(size);
}

static void findTies(MutableArrayRef<Initializer> initializers, WeightFiles &files, const ImportOptions &options, Problems &problems) {
  // What holds one value (fresh norms, biases, second factors of adapters) is equal without being tied: only matrices, and what is not one value, count.
  llvm::MapVector<std::pair<int64_t, uint64_t>, SmallVector<Initializer *, 2>> groups;
  for (Initializer &initializer : initializers) {
    if (!initializer.parameter || initializer.shape.size() < 2)
      continue;
    StringRef bytes = files.bytes(initializer);
    if (bytes.empty()) {
      if (options.tieWeights)
        problems.error(initializer.name, "--tie-weights compares the weights' content, but the weight file is missing");
      continue;
    }
    const size_t size = initializer.bytes / std::max<int64_t>(1, countElements(initializer.shape));
    groups[{initializer.bytes, llvm::xxh3_64bits((bytes.take_front(size) + bytes.take_back(size)).str())}].push_back(&initializer);
  }
  for (auto &group : groups) {
    SmallVector<Initializer *, 2> &members = group.second;
    if (members.size() > 1)
      llvm::erase_if(members, [&](Initializer *member) { return holdsOneValue(*member, files.bytes(*member)); });
    for (size_t i = 1; i < members.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        Initializer &kept = *members[j], &copy = *members[i];
        if (kept.tiedTo)
          continue;
        std::optional<bool> transposed = equalContent(kept, files.bytes(kept), copy, files.bytes(copy));
        if (!transposed)
          continue;
        if (!options.tieWeights) {
          problems.warning(copy.name, "holds the same values as '" + kept.name + "'" + (*transposed ? ", transposed," : "") + " and will train apart from it; --tie-weights trains them as one parameter");
          break;
        }
        copy.tiedTo = &kept;
        copy.tiedTransposed = *transposed;
        copy.reason = "tied to '" + kept.name + "'" + (*transposed ? ", transposed" : "");
        kept.tied.push_back(copy.name);
        break;
      }
  }
}

void classifyParameters(const onnx::ModelProto &model, const FlatGraph &flat, MutableArrayRef<Initializer> initializers, WeightFiles &files, const ImportOptions &options, Problems &problems) {
  if (options.constantsOnly) {
    for (Initializer &initializer : initializers)
      initializer.reason = "a constant";
    return;
  }
  const Uses uses(model, flat, initializers);
  Classifier classifier(uses, flat);
  NameFilter only(options.trainOnly, "--train-only", problems), freeze(options.freeze, "--freeze", problems);
  readProvenance(model, initializers);
  const bool tellsSources = llvm::any_of(initializers, [](const Initializer &initializer) { return initializer.source == Source::Parameter; });
  llvm::StringMap<bool> declared = readDeclared(model);
  const llvm::StringMap<std::string> foldedScalars = findFoldedScalars(model);

  std::vector<SmallVector<std::pair<Slot, const onnx::NodeProto *>>> allSlots(initializers.size());
  for (auto [initializer, slots] : llvm::zip_equal(initializers, allSlots))
    classifier.collect(initializer.name, slots);
  if (declared.empty())
    findTables(initializers, llvm::map_to_vector(allSlots, [](const auto &slots) { return SmallVector<Slot>(llvm::make_first_range(slots)); }), files);

  for (auto [initializer, slots] : llvm::zip_equal(initializers, allSlots)) {
    if (!initializer.isFloat) {
      initializer.reason = "not a float";
      continue;
    }
    auto weight = llvm::find_if(slots, [](auto slot) { return isWeight(slot.first); });
    const Slot slot = weight != slots.end() ? weight->first : slots.empty() ? Slot::None : slots.front().first;
    const int64_t count = countElements(initializer.shape);
    bool byRule = weight != slots.end();
    initializer.reason = describeSlot(slot);
    // A contraction's bias is one, with one channel too; a scalar that is expanded to one is the zero of a contraction without bias.
    const bool ofContraction = byRule && !initializer.shape.empty() && slot == Slot::Bias && !llvm::StringSwitch<bool>(weight->second->op_type()).Cases({"Add", "Sub", "Mul", "Div", "Sum"}, true).Default(false);
    if (byRule && initializer.source == Source::Unknown && isKnownBuffer(initializer.name)) {
      byRule = false;
      initializer.reason = "a buffer of transformers, by its name";
    } else if (count <= 1 && byRule && isLearnedScalar(initializer, slot, uses)) {
      initializer.reason = "a scalar that is learned";
    } else if (count <= 1 && slot != Slot::NormScale && slot != Slot::NormBias && !ofContraction) {
      byRule = false;
      initializer.reason = "a scalar";
    } else if ((slot == Slot::NormScale || slot == Slot::NormBias) &&
               isFill(initializer, slot == Slot::NormScale ? 1 : 0,
                      weight->second->op_type() == "InstanceNormalization", tellsSources, files)) {
      byRule = false;
      initializer.reason = "ones or zeros that the exporter wrote a norm with that has no parameters";
    } else if (slot == Slot::Bias || slot == Slot::Join) {
      // A mask that is added to scores, or a state of zeros that is joined to activations, is told by its values.
      std::optional<Constant> values = initializer.shape.size() >= 2 ? files.read(initializer, int64_t(1) << 22) : std::nullopt;
      auto allOf = [&](auto predicate) { return values && !values->asTriangle() && llvm::all_of(values->values(), [&](Scalar s) { return predicate(s.real); }); };
      // No weight is as low as what hides a score, whatever is added beside it (ALiBi).
      const bool hides = values && !values->asTriangle() && llvm::any_of(values->values(), [](Scalar s) { return s.real <= -1e30; });
      if (slot == Slot::Bias && (hides || (allOf([](double x) { return x == 0 || x <= -1e4; }) && !allOf([](double x) { return x == 0; })))) {
        byRule = false;
        initializer.reason = "a mask";
      } else if (slot == Slot::Join) {
        byRule = !allOf([](double x) { return x == 0; });
        initializer.reason = byRule ? describeSlot(slot) : "a state of zeros";
      }
    }
    // Buffers have parameters of the same values merged into them.
    const bool merged = slots.size() > 1 && llvm::any_of(slots, [](auto slot) { return slot.first == Slot::NormScale || slot.first == Slot::NormBias; });
    if (initializer.computed || initializer.source == Source::Computed || (initializer.source == Source::Buffer && !merged)) {
      byRule = false;
      initializer.reason = initializer.computed ? initializer.computed : initializer.source == Source::Buffer ? "a buffer, as the exporter says" : "computed by the exporter, from no parameter";
    } else if (initializer.source == Source::Parameter && !byRule && !slots.empty()) {
      byRule = true;
      initializer.reason = "a parameter, as the exporter says";
    }
    bool declaredFrozen = false;
    if (!declared.empty()) {
      auto it = declared.find(initializer.name);
      declaredFrozen = it != declared.end() && it->second;
      byRule = it != declared.end() && !slots.empty();
      initializer.reason = it == declared.end() ? "no parameter, as the exporter says" : slots.empty() ? "not used" : "a parameter, as the exporter says";
    }
    finishSourceName(initializer, slots, problems);
    const bool named = !only.empty() && only.matches(initializer), frozen = !freeze.empty() && freeze.matches(initializer);
    initializer.parameter = byRule || named;
    initializer.trained = (only.empty() ? byRule && !declaredFrozen : named) && !frozen;
    if (initializer.parameter && !initializer.trained)
      initializer.reason += frozen ? "; frozen by --freeze" : only.empty() ? "; frozen in the exported module" : "; not in --train-only";
    else if (named && !byRule)
      initializer.reason += "; in --train-only";
    if (initializer.parameter && initializer.file < 0)
      problems.error(initializer.name, "the parameter's values are not stored as raw or packed data, so that a plan cannot refer to them: save the model again with a current onnx");
    if (auto folded = foldedScalars.find(initializer.name);
        count <= 1 && !initializer.parameter && isWeight(slot) && declared.empty() && folded != foldedScalars.end())
      problems.warning(initializer.name,
                       "the exporter folded '" + folded->second +
                           "', perhaps a parameter, into this scalar, which does not train: zopt-export keeps it");
    if (initializer.trained && declared.empty())
      warnOfMerged(initializer, slots, problems);
  }
  only.reportUnmatched(problems);
  freeze.reportUnmatched(problems);
  if (declared.empty())
    warnOfComputed(initializers, problems);
  if (declared.empty() || options.tieWeights)
    findTies(initializers, files, options, problems);
}

} // namespace zopt::importer
