//===- NormGrad.cpp - kernels of the gradients of norms --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// With g = dy * gamma and xhat the normalized row: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), without the
// mean's term for rms_norm; dgamma and dbeta are the sums of dy * xhat and dy over all rows. On a GPU blocks walk
// over the rows, which have the columns of a thread in common: its sums stay in registers, go to a workspace at
// the end, and a second launch adds those of all blocks. The order of a sum depends on the rows' number, length and
// type alone, and is the same with and without dx beside it. Bytes moved: tensors of the input's shape once.
//
//===----------------------------------------------------------------------===//

#include "NormRow.h"
#include "llvm/Support/MathExtras.h"
#include <optional>

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

/// Blocks that share the rows: three for each multiprocessor of an H100, all there at once. Each leaves a row of partial
/// sums.
static constexpr int64_t kBlocks = 3 * 132;
/// The same where a block has several rows at a time, one a warp.
static constexpr int64_t kBlocksOfGroups = 256, kGroups = 4;
/// Threads of a row at most that keep sums: these take most of the registers.
static constexpr int64_t kRowThreads = 256;

namespace {

/// The op's operands and results by number, where they are there; operand 0 is the input.
struct NormGrad {
  bool centered; // layer_norm
  std::optional<unsigned> gamma, mean, addend;
  unsigned rstd, cotangent;
  std::optional<unsigned> inputGrad, gammaGrad, betaGrad, sum;

  explicit NormGrad(Operation *op) : centered(isa<train::LayerNormGradOp, train::LayerNormParameterGradOp>(op)) {
    auto grad = dyn_cast<train::LayerNormGradOp>(op);
    auto rmsGrad = dyn_cast<train::RMSNormGradOp>(op);
    unsigned operand = 1, result = 0;
    if ((grad && grad.getGamma()) || (rmsGrad && rmsGrad.getGamma()))
      gamma = operand++;
    if (centered)
      mean = operand++;
    rstd = operand++;
    cotangent = operand++;
    if (operand < op->getNumOperands())
      addend = operand;
    if (grad || rmsGrad)
      inputGrad = result++;
    if (!(grad && !grad.getGammaGrad()) && !(rmsGrad && !rmsGrad.getGammaGrad())) {
      gammaGrad = result++;
      if (centered)
        betaGrad = result++;
    }
    if (result < op->getNumResults())
      sum = result;
  }
  /// The results that are sums over rows.
  SmallVector<unsigned> sums() const {
    SmallVector<unsigned> present;
    for (std::optional<unsigned> result : {gammaGrad, betaGrad, sum})
      if (result)
        present.push_back(*result);
    return present;
  }
};

/// The views of a kernel for `norm`, and the arithmetic in a row.
struct GradRow {
  const NormGrad &norm;
  SmallVector<Access> accesses;
  unsigned x = 0, dy = 1, dx = 0, rstd = 0, gamma = 0, mean = 0, addend = 0; // views
  Value rstds, means, productMean, gradMean;                                 // of the row, in all lanes

  GradRow(Context &context, const NormGrad &norm) : norm(norm) {
    const unsigned rank = context.operand(0).shape.size();
    auto view = [&](const Access &access) {
      accesses.push_back(access);
      return accesses.size() - 1;
    };
    x = view(rowAccess(0, context.operand(0)));
    dy = view(rowAccess(norm.cotangent, context.operand(norm.cotangent)));
    if (norm.inputGrad)
      dx = view(rowAccess(context.resultArgument(*norm.inputGrad), context.result(*norm.inputGrad), /*write=*/true));
    rstd = view(perRowAccess(norm.rstd, context.operand(norm.rstd)));
    if (norm.gamma)
      gamma = view(perColumnAccess(*norm.gamma, context.operand(*norm.gamma), rank));
    if (norm.mean)
      mean = view(perRowAccess(*norm.mean, context.operand(*norm.mean)));
    if (norm.addend)
      addend = view(rowAccess(*norm.addend, context.operand(*norm.addend)));
  }

  void loadStatistics(Row &row) {
    rstds = row.kernel.broadcast(row.loadScalar(rstd));
    means = norm.centered ? row.kernel.broadcast(row.loadScalar(mean)) : Value();
  }
  Value normalized(Row &row, Value i, Lanes lanes) {
    Value value = row.load(x, i, lanes);
    return row.kernel.mulF(norm.centered ? row.kernel.subF(value, means) : value, rstds);
  }
  Value weighted(Row &row, Value i, Lanes lanes) {
    Value cotangent = row.load(dy, i, lanes);
    return norm.gamma ? row.kernel.mulF(cotangent, row.load(gamma, i, lanes)) : cotangent;
  }
  void reduce(Row &row) {
    KernelBuilder &kernel = row.kernel;
    SmallVector<Value> sums = row.sums(norm.centered ? 2 : 1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      Value g = weighted(row, i, lanes), product = kernel.mulF(g, normalized(row, i, lanes));
      return norm.centered ? SmallVector<Value>{product, g} : SmallVector<Value>{product};
    });
    productMean = kernel.broadcast(row.mean(sums[0]));
    gradMean = norm.centered ? kernel.broadcast(row.mean(sums[1])) : Value();
  }
  /// Behind `reduce`: dx, not rounded yet.
  Value gradient(Row &row, Value i, Lanes lanes) {
    KernelBuilder &kernel = row.kernel;
    Value g = weighted(row, i, lanes);
    if (norm.centered)
      g = kernel.subF(g, gradMean);
    Value value = kernel.mulF(rstds, kernel.subF(g, kernel.mulF(normalized(row, i, lanes), productMean)));
    return norm.addend ? kernel.addF(value, row.load(addend, i, lanes)) : value;
  }
};

} // namespace

/// Twice the threads for a row of several warps: its vectors and sums are half as many registers of each.
static void spreadRows(KernelBuilder &kernel, int64_t n) {
  kernel.spreadRow(n);
  Spread spread = kernel.getSpread();
  if (!kernel.isGpu() || spread.groups > 1 || 2 * spread.threads > kRowThreads)
    return;
  spread.threads *= 2;
  kernel.setSpread(spread);
}

static void generateInputGrad(Context &context, const NormGrad &norm) {
  const TensorLayout &input = context.operand(0);
  GradRow grad(context, norm);
  Rows rows(input.shape, grad.accesses);
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  for (const Access &access : rows.accesses)
    row.views.push_back(kernel.argument(access, rows.shape()));
  spreadRows(kernel, rows.n);
  row.at = kernel.delinearize(kernel.begin(rows.count(), grainFor(rows.n)), rows.outer);
  row.at.push_back(Value());
  grad.loadStatistics(row);
  grad.reduce(row);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) { row.store(grad.gradient(row, i, lanes), grad.dx, i, lanes); });
  context.add(kernel);
}

/// What the launches that sum over rows have in common.
static ColumnReduction describeSums(Context &context, const NormGrad &norm) {
  const TensorLayout &input = context.operand(0);
  ColumnReduction reduction;
  reduction.name = context.op->getName().stripDialect();
  reduction.rows = countElements(ArrayRef(input.shape).drop_back());
  reduction.columns = input.shape.back();
  reduction.kind = Combine::Sum;
  reduction.type = train::getComputeType(input.elementType);
  reduction.lanes = std::max<int64_t>(1, 16 / (input.elementType.getIntOrFloatBitWidth() / 8));
  for (unsigned result : norm.sums()) {
    Access access =
        perColumnAccess(context.resultArgument(result), context.result(result), input.shape.size(), /*write=*/true);
    access.strides = {access.strides.back()};
    reduction.destinations.push_back(access);
  }
  reduction.results = reduction.destinations.size();
  reduction.mostResults = 3;
  return reduction;
}

/// Rows that are too long for registers: dx first, then all sums over what it reads and writes.
static void generateSumsOfLongRows(Context &context, const NormGrad &norm) {
  if (norm.inputGrad)
    generateInputGrad(context, norm);
  GradRow grad(context, norm);
  for (Access &access : grad.accesses)
    access.write = false;
  Rows rows(context.operand(0).shape, grad.accesses);
  ColumnReduction reduction = describeSums(context, norm);
  SmallVector<View> views;
  reduction.declare = [&](KernelBuilder &kernel) {
    for (const Access &access : rows.accesses)
      views.push_back(kernel.argument(access, rows.shape()));
  };
  reduction.terms = [&](KernelBuilder &kernel, ValueRange, Value number, Value column, const Lanes &lanes) {
    Row row{kernel, reduction.type, views, kernel.delinearize(number, rows.outer), rows.n};
    row.at.push_back(Value());
    SmallVector<Value> terms;
    grad.loadStatistics(row);
    Value cotangent = row.load(grad.dy, column, lanes);
    if (norm.gammaGrad)
      terms.push_back(kernel.mulF(cotangent, grad.normalized(row, column, lanes)));
    if (norm.betaGrad)
      terms.push_back(cotangent);
    if (norm.sum)
      terms.push_back(row.load(grad.dx, column, lanes));
    return terms;
  };
  generateColumnReduction(context, reduction);
}

/// Each group's sums to the block's row of the workspaces: where a block has several groups, they are added in
/// workgroup memory, in order.
static void storePartials(KernelBuilder &kernel, const KernelBuilder::Walk &walk, const ColumnReduction &reduction,
                          ArrayRef<View> partials) {
  OpBuilder &b = kernel.builder;
  const Spread &spread = kernel.getSpread();
  auto vectors = kernel.vectorsOfRow(reduction.columns);
  const int64_t width = vectors.size(), threads = spread.threads * spread.groups;
  Value memory;
  if (spread.groups > 1)
    memory = kernel.workgroupMemory({spread.groups, width * spread.step()}, reduction.type);
  for (size_t k = 0; k < partials.size(); ++k) {
    ArrayRef<Value> sums = ArrayRef(walk.carried).slice(k * width, width);
    if (spread.groups == 1) {
      for (auto [sum, vector] : llvm::zip(sums, vectors))
        kernel.store(sum, partials[k], {walk.block, vector.first}, vector.second);
      continue;
    }
    if (k > 0)
      kernel.barrier();
    for (auto [sum, vector] : llvm::zip(sums, vectors)) {
      auto store = vector::StoreOp::create(b, kernel.loc, sum, memory, ValueRange{walk.group, vector.first});
      store->setAttr("alignment", b.getI64IntegerAttr(std::min<int64_t>(
                                      16, spread.lanes * reduction.type.getIntOrFloatBitWidth() / 8)));
    }
    kernel.barrier();
    kernel.forRange(walk.number, kernel.index(reduction.columns), threads, [&](Value column) {
      Value total;
      for (int64_t group = 0; group < spread.groups; ++group) {
        Value part = memref::LoadOp::create(b, kernel.loc, memory, ValueRange{kernel.index(group), column});
        total = total ? kernel.addF(total, part) : part;
      }
      kernel.storeHere(total, partials[k], {walk.block, column});
    });
  }
}

namespace {

/// Reads rows ahead: while a group reduces one, the loads of its next are in flight.
struct ReadAhead {
  GradRow &grad;
  Row &row;
  const Rows &rows;
  SmallVector<unsigned> streams; // the views that are read along a row

  ReadAhead(GradRow &grad, Row &row, const Rows &rows) : grad(grad), row(row), rows(rows), streams({grad.x, grad.dy}) {
    if (grad.norm.addend)
      streams.push_back(grad.addend);
  }
  SmallVector<Value> load(Value number) {
    place(number);
    SmallVector<Value> values;
    for (unsigned view : streams)
      for (auto &[i, lanes] : row.kernel.vectorsOfRow(rows.n)) {
        row.at.back() = i;
        values.push_back(row.kernel.load(row.views[view], row.at, lanes));
      }
    values.push_back(row.loadScalar(grad.rstd));
    if (grad.norm.centered)
      values.push_back(row.loadScalar(grad.mean));
    return values;
  }
  /// From now on, `row` is this one, for which `load` has given `values`.
  void use(Value number, ValueRange values) {
    place(number);
    row.known.clear();
    size_t next = 0;
    for (unsigned view : streams)
      for (auto &[i, lanes] : row.kernel.vectorsOfRow(rows.n))
        row.known[{view, i}] = values[next++];
    grad.rstds = row.kernel.broadcast(values[next++]);
    grad.means = grad.norm.centered ? row.kernel.broadcast(values[next]) : Value();
  }

private:
  void place(Value number) {
    row.at = row.kernel.delinearize(number, rows.outer);
    row.at.push_back(Value());
  }
};

} // namespace

static void generateSums(Context &context, const NormGrad &norm) {
  const TensorLayout &input = context.operand(0);
  GradRow grad(context, norm);
  Rows rows(input.shape, grad.accesses);
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  ColumnReduction reduction = describeSums(context, norm);
  Row row{kernel, reduction.type, {}, {}, rows.n};
  for (const Access &access : rows.accesses)
    row.views.push_back(kernel.argument(access, rows.shape()));
  spreadRows(kernel, rows.n);
  Spread spread = kernel.getSpread();
  if (!kernel.fitsRegisters(rows.n) || spread.threads > kRowThreads)
    return generateSumsOfLongRows(context, norm);
  spread.groups = std::min(spread.groups, kGroups);
  kernel.setSpread(spread);
  const int64_t share = llvm::divideCeil(rows.count(), spread.groups > 1 ? kBlocksOfGroups : kBlocks);
  const int64_t perBlock = llvm::alignTo(share, spread.groups), blocks = llvm::divideCeil(rows.count(), perBlock);
  SmallVector<unsigned> workspaces;
  SmallVector<View> partials;
  for (unsigned k = 0; k < reduction.results; ++k) {
    workspaces.push_back(addPartials(context, reduction, blocks));
    partials.push_back(declarePartials(kernel, reduction, blocks, workspaces.back(), /*write=*/true));
  }

  const size_t width = llvm::divideCeil(rows.n, spread.step()), sums = width * reduction.results;
  ReadAhead ahead(grad, row, rows);
  auto begin = [&](Value first) {
    SmallVector<Value> carried(sums, kernel.splat(0, reduction.type));
    llvm::append_range(carried, ahead.load(first));
    return carried;
  };
  KernelBuilder::Walk walk =
      kernel.walk(rows.count(), perBlock, begin, [&](Value iteration, Value following, ValueRange carried) {
        SmallVector<Value> loaded = ahead.load(following);
        ahead.use(iteration, carried.drop_front(sums));
        auto vectors = kernel.vectorsOfRow(rows.n);
        SmallVector<Value> rounded;
        if (norm.inputGrad) {
          grad.reduce(row);
          for (auto &[i, lanes] : vectors)
            rounded.push_back(kernel.convert(grad.gradient(row, i, lanes), input.elementType));
        }
        SmallVector<Value> next(carried.take_front(sums));
        for (auto [number, vector] : llvm::enumerate(vectors)) {
          auto [i, lanes] = vector;
          Value cotangent = row.load(grad.dy, i, lanes);
          size_t k = number;
          auto add = [&](Value term) {
            next[k] = kernel.addF(next[k], term);
            k += width;
          };
          if (norm.gammaGrad)
            add(kernel.mulF(cotangent, grad.normalized(row, i, lanes)));
          if (norm.betaGrad)
            add(cotangent);
          if (norm.sum)
            add(kernel.convert(rounded[number], reduction.type));
        }
        for (auto [value, vector] : llvm::zip(rounded, vectors)) {
          row.at.back() = vector.first;
          kernel.store(value, row.views[grad.dx], row.at, vector.second);
        }
        llvm::append_range(next, loaded);
        return next;
      });
  storePartials(kernel, walk, reduction, partials);
  context.add(kernel);
  generateColumnTotals(context, reduction, workspaces, blocks);
  // What the last block does for other sums would be too much for one: 396 rows of 1600 sums are 2.5 MB, for each of gamma and beta.
  SmallVector<unsigned> own;
  for (unsigned k = 0; k < reduction.results; ++k) {
    own.push_back(k);
    reduction.destinations[k].argument = reduction.results + k;
  }
  context.plan.joined = [=](KernelBuilder &joined, int64_t count) { writeColumnTotals(joined, reduction, own, blocks, count, /*arguments=*/2 * reduction.results); };
}

LogicalResult kernels::generateNormGrad(Context &context) {
  NormGrad norm(context.op);
  if (norm.sums().empty()) {
    generateInputGrad(context, norm);
    return success();
  }
  if (!context.isGpu())
    return context.op->emitOpError(
        "with sums beside the input's gradient is for GPUs: elsewhere they are ops of their own");
  generateSums(context, norm);
  return success();
}
