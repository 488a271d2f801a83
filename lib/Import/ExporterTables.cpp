//===- ExporterTables.cpp - what an exporter computed, told from parameters ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exporters fold what does not depend on the data: the cosines and sines of a rotary embedding, sinusoidal positions,
// ALiBi's distances. Folded, they are float initializers that activations are multiplied with or added to, as biases
// and scales are; trained, they would go astray in silence. PyTorch's newer exporter says of what it did not fold
// whether it is a parameter or a buffer; the rest is told by its values: no weight has rows on a circle, or rows that
// are straight lines.
//
//===----------------------------------------------------------------------===//

#include "ExporterTables.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>

using namespace mlir;

namespace zopt::importer {

namespace {

/// Larger ones are not looked at: 128 wide, a table of 64 Ki positions in fp32.
constexpr int64_t mostBytes = int64_t(1) << 25;

/// All elements row-major, without axes along which nothing changes.
struct Table {
  Initializer *initializer;
  std::vector<double> values;
  int64_t width; ///< of the last axis; 1 where nothing changes along it
};

std::optional<Table> read(Initializer &initializer, WeightFiles &files) {
  std::optional<Constant> values = initializer.bytes <= mostBytes ? files.read(initializer, mostBytes) : std::nullopt;
  if (!values || values->asTriangle() || values->stored().empty())
    return std::nullopt;
  Table table{&initializer, {}, values->stored().back()};
  for (const Scalar &value : values->values())
    table.values.push_back(value.real);
  return table;
}

/// What storage has rounded away.
double tolerance(const Initializer &initializer) {
  return initializer.stored.isF32() || initializer.stored.isF64() ? 1e-5 : 1e-2;
}

/// Whether a(i)^2 + b(i)^2 is the same number, not zero, for all i, while a is not.
template <typename A, typename B>
bool isCircle(int64_t count, A a, B b, double tolerance) {
  const double radius = a(0) * a(0) + b(0) * b(0);
  bool moves = false;
  for (int64_t i = 0; i < count; ++i) {
    if (!(std::abs(a(i) * a(i) + b(i) * b(i) - radius) <= tolerance * radius))
      return false;
    moves |= std::abs(a(i) - a(0)) > 0.01 * std::sqrt(radius);
  }
  return radius > 0 && moves;
}

/// Sines and cosines in one table: in the halves of each row, or in turn; 4 pairs at least.
bool isSinusoidal(const Table &table) {
  const int64_t width = table.width, half = width / 2, pairs = table.values.size() / 2;
  if (width % 2 || pairs < 4)
    return false;
  const double *v = table.values.data();
  auto inHalves = [&](int64_t shift) { return [=](int64_t i) { return v[i / half * width + i % half + shift]; }; };
  return isCircle(pairs, inHalves(0), inHalves(half), tolerance(*table.initializer)) ||
         isCircle(
             pairs, [=](int64_t i) { return v[2 * i]; }, [=](int64_t i) { return v[2 * i + 1]; },
             tolerance(*table.initializer));
}

/// Whether all rows are straight lines that are not level and hold a zero, where a position meets itself.
bool isLinear(const Table &table) {
  const int64_t width = table.width;
  if (width < 4)
    return false;
  for (size_t row = 0; row < table.values.size(); row += width) {
    const double *v = &table.values[row];
    const double step = (v[width - 1] - v[0]) / (width - 1);
    // A row's rounding is of the size of its largest element.
    const double error = tolerance(*table.initializer) * std::max(std::abs(v[0]), std::abs(v[width - 1]));
    if (!std::isfinite(step) || std::abs(step) <= error)
      return false;
    if (!llvm::is_contained(ArrayRef(v, width), 0.0))
      return false;
    for (int64_t i = 1; i < width; ++i)
      if (!(std::abs(v[i] - v[0] - step * i) <= error))
        return false;
  }
  return true;
}

bool isScaleOrBias(Slot slot) {
  return slot == Slot::Scale || slot == Slot::Bias || slot == Slot::Elementwise || slot == Slot::Table;
}

} // namespace

SmallVector<std::string> parseNames(StringRef text) {
  SmallVector<std::string> names;
  while (true) {
    auto [before, rest] = text.split('\'');
    auto [name, after] = rest.split('\'');
    if (name.empty())
      return names;
    names.push_back(name.str());
    text = after;
  }
}

void readProvenance(const onnx::ModelProto &model, MutableArrayRef<Initializer> initializers) {
  llvm::StringMap<Initializer *> byName;
  for (Initializer &initializer : initializers)
    if (initializer.isFloat)
      byName[initializer.name] = &initializer;
  for (const onnx::ValueInfoProto &info : model.graph().value_info()) {
    auto it = byName.find(info.name());
    if (it == byName.end())
      continue;
    Initializer &initializer = *it->second;
    const std::string kind = ModelFile::metadata(info, "InputSpec.kind");
    initializer.source = kind == "PARAMETER"                             ? Source::Parameter
                         : kind == "BUFFER" || kind == "CONSTANT_TENSOR" ? Source::Buffer
                                                                         : Source::Unknown;
    // Values that the exporter made on the way have plain names; a parameter's is a path of modules.
    SmallVector<std::string> folded = parseNames(ModelFile::metadata(info, "folded_from")), sources;
    for (const std::string &name : folded)
      if (StringRef(name).contains('.'))
        sources.push_back(name);
    // A table is read at positions that are a buffer, or computed.
    if (sources.size() > 1 && llvm::count_if(sources, [](StringRef name) { return name.ends_with(".weight"); }) == 1)
      llvm::erase_if(sources, [](StringRef name) { return !name.ends_with(".weight"); });
    if (sources.size() == 1)
      initializer.sourceName = sources.front();
    else if (sources.empty() && llvm::any_of(folded, [](StringRef name) { return name.starts_with("arange"); }))
      initializer.source = Source::Computed;
  }
}

void findTables(MutableArrayRef<Initializer> initializers, ArrayRef<SmallVector<Slot>> slots, WeightFiles &files) {
  std::vector<Table> candidates;
  for (auto [initializer, uses] : llvm::zip_equal(initializers, slots)) {
    if (!initializer.isFloat || initializer.shape.size() < 2 || uses.empty() || !llvm::all_of(uses, isScaleOrBias))
      continue;
    std::optional<Table> table = read(initializer, files);
    if (!table)
      continue;
    if (isSinusoidal(*table))
      initializer.computed = "sines and cosines";
    else if (initializer.shape.size() >= 3 && llvm::is_contained(uses, Slot::Bias) && isLinear(*table))
      initializer.computed = "distances of positions, as ALiBi adds them";
    else if (table->values.size() >= 8 && llvm::is_contained(uses, Slot::Scale))
      candidates.push_back(std::move(*table));
  }
  // The cosines of a rotary embedding are one table, its sines another, in whatever order.
  for (size_t i = 0; i < candidates.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      Table &a = candidates[i], &b = candidates[j];
      if (a.initializer->shape != b.initializer->shape || a.values.size() != b.values.size())
        continue;
      if (isCircle(
              a.values.size(), [&](int64_t k) { return a.values[k]; }, [&](int64_t k) { return b.values[k]; },
              std::max(tolerance(*a.initializer), tolerance(*b.initializer))))
        a.initializer->computed = b.initializer->computed = "sines and cosines";
    }
}

} // namespace zopt::importer
