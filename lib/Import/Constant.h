//===- Constant.h - tensors known at import ----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The values of shape arithmetic and of masks. A mask [B, 1, T, T] made by fifty nodes must cost nothing to fold, so a constant keeps only the axes along which its values
// differ, and a triangle (the causal mask) is a diagonal and two numbers, whatever T is.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_IMPORT_CONSTANT_H
#define ZOPT_LIB_IMPORT_CONSTANT_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace zopt::importer {

using Shape = llvm::SmallVector<int64_t, 6>;

/// What an element is, to the folder: all integers compute in 64 bits, fp32 in f64 rounded after every op.
enum class Element { Bool, Integer, Float, Double };

/// An element of a constant.
struct Scalar {
  int64_t integer = 0; ///< Bool and Integer
  double real = 0;     ///< Float and Double
  bool operator==(const Scalar &other) const { return integer == other.integer && (real == other.real || (real != real && other.real != other.real)); }
};

int64_t countElements(llvm::ArrayRef<int64_t> shape);

/// A tensor of known values. Immutable; copies share the values.
class Constant {
public:
  /// More elements than this (after dropping the axes along which nothing changes) are not folded; floats are only needed where they are few.
  static constexpr int64_t mostIntegers = int64_t(1) << 22, mostFloats = int64_t(1) << 12;
  static int64_t mostElements(Element element) { return element == Element::Bool || element == Element::Integer ? mostIntegers : mostFloats; }

  /// values: row-major over `stored`, whose axes are those of `shape` or 1. Axes along which nothing changes are dropped (made 1).
  Constant(Element element, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> stored, std::vector<Scalar> values);
  /// One value everywhere.
  static Constant splat(Element element, llvm::ArrayRef<int64_t> shape, Scalar value);
  /// Of a matrix in the last two axes: `inside` where column <= row + diagonal.
  static Constant triangle(Element element, llvm::ArrayRef<int64_t> shape, int64_t diagonal, Scalar inside, Scalar outside);
  static Constant integers(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> values);

  Element element() const { return type; }
  llvm::ArrayRef<int64_t> shape() const { return logical; }
  int64_t rank() const { return logical.size(); }
  bool isInteger() const { return type == Element::Bool || type == Element::Integer; }

  struct Triangle {
    int64_t diagonal;
    Scalar inside, outside;
  };
  const std::optional<Triangle> &asTriangle() const { return triangular; }

  /// Row-major values over stored(), not for triangles.
  llvm::ArrayRef<Scalar> values() const { return *data; }
  llvm::ArrayRef<int64_t> stored() const { return kept; }
  std::optional<Scalar> asSplat() const;
  /// start + step * (index along one axis) where that is what an integer constant holds (step not 0).
  struct Progression {
    int64_t axis, start, step;
  };
  std::optional<Progression> asProgression() const;

  /// All elements, row-major; nothing where they are more than mostElements.
  std::optional<std::vector<Scalar>> expanded() const;
  /// All elements as integers, of a small integer tensor (shapes, axes, bounds).
  std::optional<llvm::SmallVector<int64_t, 8>> asIntegers() const;

  /// The same values in another shape to which this one's broadcasts (NumPy).
  Constant broadcast(llvm::ArrayRef<int64_t> shape) const;
  /// The same values as another element type, as ONNX Cast has it.
  Constant cast(Element to) const;

  /// The element at `index` of the logical shape, for dense constants.
  Scalar at(llvm::ArrayRef<int64_t> index) const;

private:
  Constant() = default;
  void dropAxes();

  Element type = Element::Integer;
  Shape logical, kept;
  std::shared_ptr<const std::vector<Scalar>> data;
  std::optional<Triangle> triangular;
};

/// NumPy broadcast; nothing where the shapes do not agree.
std::optional<Shape> broadcast(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);

/// Applies `function` to every element. `result` is the element type of what it returns, which is rounded to it.
std::optional<Constant> mapElements(const Constant &a, Element result, llvm::function_ref<Scalar(Scalar)> function);
/// The same for two operands, with broadcasting; nothing where the result has too many elements. Functions of two integers that give a Bool must depend on their
/// difference alone (they are comparisons).
std::optional<Constant> mapElements(const Constant &a, const Constant &b, Element result, llvm::function_ref<Scalar(Scalar, Scalar)> function);

} // namespace zopt::importer

#endif // ZOPT_LIB_IMPORT_CONSTANT_H
