//===- NewtonSchulz.cpp - Muon's matrices ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), as DeepSpeed's
// zeropower_via_newtonschulz5 has it: X <- a X + (b A + c A A) X with A = X X^T, over the smaller of both sides, from X
// = M / (|M| + 1e-7). Where rows are more than columns it is the same of X^T: X <- a X + X (b A + c A A) with A = X^T
// X.
//
//===----------------------------------------------------------------------===//

#include "NewtonSchulz.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

static constexpr double kLinear = 3.4445, kCubic = -4.7750, kQuintic = 2.0315;

Value zopt::orthogonalize(OpBuilder &builder, Location loc, StateOp parameter, Value direction, int64_t iterations) {
  RankedTensorType type = getTensorType(direction);
  Type elementType = type.getElementType();
  auto number = [&](double value) { return scalar(builder, loc, elementType, value); };
  auto product = [&](Value lhs, Value rhs, bool transposeLhs, bool transposeRhs) -> Value {
    const int64_t rows = getTensorType(lhs).getDimSize(transposeLhs ? 1 : 0),
                  columns = getTensorType(rhs).getDimSize(transposeRhs ? 0 : 1);
    auto flag = [&](bool set) { return set ? builder.getUnitAttr() : UnitAttr(); };
    return MatmulOp::create(builder, loc, RankedTensorType::get({rows, columns}, elementType), lhs, rhs,
                            /*bias=*/Value(), flag(transposeLhs), flag(transposeRhs), builder.getF64FloatAttr(1.0));
  };

  // Conv filters are matrices of one row a filter; the ratio is that of the parameter's own last two axes, as DeepSpeed
  // takes it.
  ArrayRef<int64_t> shape = type.getShape();
  const int64_t first = shape[0], second = type.getNumElements() / std::max<int64_t>(1, first);
  SmallVector<int64_t> source(shape);
  if (std::optional<ArrayRef<int64_t>> permutation = parameter.getSourcePermutation())
    for (auto [axis, from] : llvm::enumerate(*permutation))
      source[axis] = shape[from];
  const double rows = source[source.size() - 2], columns = source.back();

  Value matrix = reshape(builder, loc, direction, {first, second});
  Value squares = reduceSum(builder, loc, mul(builder, loc, matrix, matrix), {0, 1});
  Value norm = SqrtOp::create(builder, loc, squares.getType(), squares);
  Value x = div(builder, loc, matrix, add(builder, loc, norm, number(1e-7)));
  const bool isTall = first > second;
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
    Value gram = product(x, x, isTall, !isTall), square = product(gram, gram, false, false);
    Value factor =
        add(builder, loc, mul(builder, loc, gram, number(kCubic)), mul(builder, loc, square, number(kQuintic)));
    Value change = isTall ? product(x, factor, false, false) : product(factor, x, false, false);
    x = add(builder, loc, mul(builder, loc, x, number(kLinear)), change);
  }
  if (rows > columns)
    x = mul(builder, loc, x, number(std::sqrt(rows / columns)));
  return reshape(builder, loc, x, shape);
}
