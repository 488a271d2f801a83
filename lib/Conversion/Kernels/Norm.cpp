//===- Norm.cpp - kernels of layer_norm, rms_norm and their gradients ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rows as in Softmax.cpp. The mean and the variance are two passes over the row in the cache, so that a large mean costs no digits. Bytes moved: tensors of the input's shape once.
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

namespace {

/// One row of a kernel: its views, and loads at a place in the row.
struct Row {
  KernelBuilder &kernel;
  Type type;
  SmallVector<View> views;
  SmallVector<Value> at;
  int64_t n;

  Value load(unsigned view, Value i, Lanes lanes) {
    at.back() = i;
    return kernel.loadCompute(views[view], at, lanes);
  }
  Value loadScalar(unsigned view) {
    at.back() = kernel.index(0);
    return kernel.convert(kernel.loadScalar(views[view], at), type);
  }
  void store(Value value, unsigned view, Value i, Lanes lanes) {
    at.back() = i;
    kernel.storeRounded(value, views[view], at, lanes);
  }
  void storeScalar(Value value, unsigned view) {
    at.back() = kernel.index(0);
    kernel.storeRoundedScalar(value, views[view], at);
  }
  SmallVector<Value> sums(unsigned count, function_ref<SmallVector<Value>(Value, Lanes)> terms) {
    return kernel.reduceRow(n, SmallVector<Combine>(count, Combine::Sum), type, terms);
  }
  Value mean(Value sum) { return kernel.divF(sum, kernel.scalar(n, type)); }
  /// 1 / sqrt(x + epsilon).
  Value rsqrt(Value x, double epsilon) {
    Value shifted = kernel.addF(x, kernel.scalar(epsilon, type));
    return kernel.divF(kernel.scalar(1, type), math::SqrtOp::create(kernel.builder, kernel.loc, shifted));
  }
};

} // namespace

static void generateLayerNorm(Context &context, train::LayerNormOp op) {
  const TensorLayout &input = context.operand(0);
  unsigned rank = input.shape.size(), next = 1;
  SmallVector<Access> accesses = {rowAccess(0, input), rowAccess(context.resultArgument(0), context.result(0), true),
                                  perRowAccess(context.resultArgument(1), context.result(1), true), perRowAccess(context.resultArgument(2), context.result(2), true)};
  unsigned gamma = 0, beta = 0;
  for (auto [value, view] : {std::pair(op.getGamma(), &gamma), std::pair(op.getBeta(), &beta)})
    if (value) {
      *view = accesses.size();
      accesses.push_back(perColumnAccess(next, context.operand(next), rank));
      ++next;
    }
  Rows rows(input.shape, accesses);
  KernelBuilder kernel(context.context(), "layer_norm", context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  row.at = rows.begin(kernel, row.views);

  Value mean = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {row.load(0, i, lanes)}; })[0]);
  Value means = kernel.broadcast(mean);
  Value variance = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value centered = kernel.subF(row.load(0, i, lanes), means);
    return {kernel.mulF(centered, centered)};
  })[0]);
  Value rstd = row.rsqrt(variance, op.getEpsilon().convertToDouble()), rstds = kernel.broadcast(rstd);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value y = kernel.mulF(kernel.subF(row.load(0, i, lanes), means), rstds);
    if (gamma)
      y = kernel.mulF(y, row.load(gamma, i, lanes));
    if (beta)
      y = kernel.addF(y, row.load(beta, i, lanes));
    row.store(y, 1, i, lanes);
  });
  row.storeScalar(mean, 2);
  row.storeScalar(rstd, 3);
  context.add(kernel);
}

static void generateRMSNorm(Context &context, train::RMSNormOp op) {
  const TensorLayout &input = context.operand(0);
  SmallVector<Access> accesses = {rowAccess(0, input), rowAccess(context.resultArgument(0), context.result(0), true),
                                  perRowAccess(context.resultArgument(1), context.result(1), true)};
  if (op.getGamma())
    accesses.push_back(perColumnAccess(1, context.operand(1), input.shape.size()));
  Rows rows(input.shape, accesses);
  KernelBuilder kernel(context.context(), "rms_norm", context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  row.at = rows.begin(kernel, row.views);

  Value square = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value x = row.load(0, i, lanes);
    return {kernel.mulF(x, x)};
  })[0]);
  Value rstd = row.rsqrt(square, op.getEpsilon().convertToDouble()), rstds = kernel.broadcast(rstd);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value y = kernel.mulF(row.load(0, i, lanes), rstds);
    if (op.getGamma())
      y = kernel.mulF(y, row.load(3, i, lanes));
    row.store(y, 1, i, lanes);
  });
  row.storeScalar(rstd, 2);
  context.add(kernel);
}

/// With g = dy * gamma and xhat the normalized row: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)); without the mean's term for rms_norm.
static void generateInputGrad(Context &context, bool centered, bool hasGamma, bool hasAddend) {
  unsigned next = 1;
  unsigned gammaOperand = hasGamma ? next++ : 0, meanOperand = centered ? next++ : 0, rstdOperand = next++, cotangentOperand = next;
  const TensorLayout &input = context.operand(0);
  SmallVector<Access> accesses = {rowAccess(0, input), rowAccess(cotangentOperand, context.operand(cotangentOperand)),
                                  rowAccess(context.resultArgument(0), context.result(0), true), perRowAccess(rstdOperand, context.operand(rstdOperand))};
  unsigned gamma = 0, mean = 0;
  if (hasGamma) {
    gamma = accesses.size();
    accesses.push_back(perColumnAccess(gammaOperand, context.operand(gammaOperand), input.shape.size()));
  }
  if (centered) {
    mean = accesses.size();
    accesses.push_back(perRowAccess(meanOperand, context.operand(meanOperand)));
  }
  unsigned addend = accesses.size();
  if (hasAddend)
    accesses.push_back(rowAccess(cotangentOperand + 1, context.operand(cotangentOperand + 1)));
  Rows rows(input.shape, accesses);
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  row.at = rows.begin(kernel, row.views);

  Value rstd = kernel.broadcast(row.loadScalar(3)), meanValue = centered ? kernel.broadcast(row.loadScalar(mean)) : Value();
  auto normalized = [&](Value i, Lanes lanes) {
    Value x = row.load(0, i, lanes);
    return kernel.mulF(centered ? kernel.subF(x, meanValue) : x, rstd);
  };
  auto weighted = [&](Value i, Lanes lanes) {
    Value dy = row.load(1, i, lanes);
    return hasGamma ? kernel.mulF(dy, row.load(gamma, i, lanes)) : dy;
  };
  SmallVector<Value> sums = row.sums(centered ? 2 : 1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value g = weighted(i, lanes), product = kernel.mulF(g, normalized(i, lanes));
    return centered ? SmallVector<Value>{product, g} : SmallVector<Value>{product};
  });
  Value productMean = kernel.broadcast(row.mean(sums[0])), gradMean = centered ? kernel.broadcast(row.mean(sums[1])) : Value();
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value g = weighted(i, lanes);
    if (centered)
      g = kernel.subF(g, gradMean);
    Value dx = kernel.mulF(rstd, kernel.subF(g, kernel.mulF(normalized(i, lanes), productMean)));
    row.store(hasAddend ? kernel.addF(dx, row.load(addend, i, lanes)) : dx, 2, i, lanes);
  });
  context.add(kernel);
}

LogicalResult kernels::generateNorm(Context &context) {
  if (auto op = dyn_cast<train::LayerNormOp>(context.op))
    generateLayerNorm(context, op);
  else if (auto op = dyn_cast<train::RMSNormOp>(context.op))
    generateRMSNorm(context, op);
  else if (auto op = dyn_cast<train::LayerNormGradOp>(context.op))
    generateInputGrad(context, /*centered=*/true, static_cast<bool>(op.getGamma()), static_cast<bool>(op.getAddend()));
  else if (auto op = dyn_cast<train::RMSNormGradOp>(context.op))
    generateInputGrad(context, /*centered=*/false, static_cast<bool>(op.getGamma()), static_cast<bool>(op.getAddend()));
  return success();
}

/// The same on a GPU. Bytes moved: input and cotangent once.
static void generateParameterGradOnGpu(Context &context, bool centered) {
  const TensorLayout &input = context.operand(0);
  unsigned rank = input.shape.size(), rstdOperand = centered ? 2 : 1, cotangentOperand = rstdOperand + 1;
  Rows rows(input.shape, {rowAccess(0, input), rowAccess(cotangentOperand, context.operand(cotangentOperand)), perRowAccess(rstdOperand, context.operand(rstdOperand)),
                          perRowAccess(centered ? 1 : rstdOperand, context.operand(centered ? 1 : rstdOperand))});
  Type type = train::getComputeType(input.elementType);
  SmallVector<View> views;
  ColumnReduction reduction;
  reduction.name = context.op->getName().stripDialect();
  reduction.rows = rows.count();
  reduction.columns = rows.n;
  reduction.kind = Combine::Sum;
  reduction.results = centered ? 2 : 1;
  reduction.type = type;
  reduction.lanes = std::max<int64_t>(1, 16 / (input.elementType.getIntOrFloatBitWidth() / 8));
  for (unsigned result = 0; result < reduction.results; ++result) {
    Access access = perColumnAccess(context.resultArgument(result), context.result(result), rank, /*write=*/true);
    access.strides = {access.strides.back()};
    reduction.destinations.push_back(access);
  }
  reduction.declare = [&](KernelBuilder &kernel) {
    for (const Access &access : ArrayRef(rows.accesses).take_front(centered ? 4 : 3))
      views.push_back(kernel.argument(access, rows.shape()));
  };
  reduction.terms = [&](KernelBuilder &kernel, ValueRange, Value row, Value column, const Lanes &lanes) -> SmallVector<Value> {
    SmallVector<Value> at = kernel.delinearize(row, rows.outer);
    at.push_back(column);
    Value value = kernel.loadCompute(views[0], at, lanes), cotangent = kernel.loadCompute(views[1], at, lanes);
    Value rstd = kernel.broadcast(kernel.convert(kernel.loadScalar(views[2], at), type));
    if (centered)
      value = kernel.subF(value, kernel.broadcast(kernel.convert(kernel.loadScalar(views[3], at), type)));
    Value product = kernel.mulF(cotangent, kernel.mulF(value, rstd));
    return centered ? SmallVector<Value>{product, cotangent} : SmallVector<Value>{product};
  };
  generateColumnReduction(context, reduction);
}

/// dgamma and dbeta: one outer iteration sums 64 columns over all rows. Bytes moved: input and cotangent once.
LogicalResult kernels::generateNormParameterGrad(Context &context) {
  bool centered = isa<train::LayerNormParameterGradOp>(context.op);
  if (context.isGpu()) {
    generateParameterGradOnGpu(context, centered);
    return success();
  }
  constexpr int64_t kColumns = 4 * kCpuLanes;
  const TensorLayout &input = context.operand(0);
  unsigned rank = input.shape.size(), rstdOperand = centered ? 2 : 1, cotangentOperand = rstdOperand + 1;
  ArrayRef<int64_t> rows = ArrayRef(input.shape).drop_back();
  int64_t columns = input.shape.back(), chunks = (columns + kColumns - 1) / kColumns;
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  Type type = train::getComputeType(input.elementType);
  View x = kernel.argument(rowAccess(0, input), input.shape);
  View rstd = kernel.argument(perRowAccess(rstdOperand, context.operand(rstdOperand)), input.shape);
  View dy = kernel.argument(rowAccess(cotangentOperand, context.operand(cotangentOperand)), input.shape);
  View dgamma = kernel.argument(perColumnAccess(context.resultArgument(0), context.result(0), rank, true), input.shape);
  View mean, dbeta;
  if (centered) {
    mean = kernel.argument(perRowAccess(1, context.operand(1)), input.shape);
    dbeta = kernel.argument(perColumnAccess(context.resultArgument(1), context.result(1), rank, true), input.shape);
  }
  Value chunk = kernel.begin(chunks, grainFor(countElements(rows) * std::min(columns, kColumns)));
  kernel.forColumnChunks(chunk, columns, kColumns, [&](Value first, ArrayRef<Lanes> blocks) {
    SmallVector<Value> coordinates;
    SmallVector<Value> zeros(blocks.size() * (centered ? 2 : 1), kernel.splat(0, type));
    SmallVector<Value> sums = kernel.reduceNested(Combine::Sum, rows, coordinates, zeros, [&] {
      SmallVector<Value> at = coordinates;
      at.push_back(first);
      Value rstds = kernel.broadcast(kernel.convert(kernel.loadScalar(rstd, at), type));
      Value means = centered ? kernel.broadcast(kernel.convert(kernel.loadScalar(mean, at), type)) : Value();
      SmallVector<Value> terms, cotangents;
      for (auto [index, lanes] : llvm::enumerate(blocks)) {
        at.back() = kernel.add(first, index * kCpuLanes);
        Value value = kernel.loadCompute(x, at, lanes), cotangent = kernel.loadCompute(dy, at, lanes);
        Value normalized = kernel.mulF(centered ? kernel.subF(value, means) : value, rstds);
        terms.push_back(kernel.mulF(cotangent, normalized));
        cotangents.push_back(cotangent);
      }
      if (centered)
        terms.append(cotangents);
      return terms;
    });
    SmallVector<Value> at(rank, kernel.index(0));
    for (auto [index, lanes] : llvm::enumerate(blocks)) {
      at.back() = kernel.add(first, index * kCpuLanes);
      kernel.storeRounded(sums[index], dgamma, at, lanes);
      if (centered)
        kernel.storeRounded(sums[blocks.size() + index], dbeta, at, lanes);
    }
  });
  context.add(kernel);
  return success();
}
