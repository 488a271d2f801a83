//===- Families.h - the kernels of each family of ops ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Private to lib/Conversion/Kernels. Each function writes the kernels of one op; `generateKernels` in KernelGeneration.cpp is the table of them.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_FAMILIES_H
#define ZOPT_LIB_CONVERSION_KERNELS_FAMILIES_H

#include "KernelBuilder.h"
#include <functional>

namespace zopt::kernels {

/// Where finished kernels go: the module, each distinct one once.
using Finish = llvm::function_ref<KernelLaunch(KernelBuilder &)>;

/// What a family writes its kernels with.
struct Context {
  mlir::Operation *op;
  llvm::ArrayRef<TensorLayout> layouts; // operands, then results
  Finish finish;
  KernelTarget target;
  bool totalsApart;
  KernelPlan plan;

  bool isGpu() const { return target == KernelTarget::Gpu; }
  mlir::MLIRContext *context() const { return op->getContext(); }
  const TensorLayout &operand(unsigned index) const { return layouts[index]; }
  const TensorLayout &result(unsigned index) const { return layouts[op->getNumOperands() + index]; }
  unsigned resultArgument(unsigned index) const { return op->getNumOperands() + index; }
  /// Adds a temporary buffer and returns its argument number.
  unsigned addWorkspace(int64_t bytes) {
    plan.workspaces.push_back(bytes);
    return op->getNumOperands() + op->getNumResults() + plan.workspaces.size() - 1;
  }
  /// GPU: an argument with `count` counters, or more, for KernelBuilder::isLast.
  unsigned addCounters(int64_t count) {
    if (plan.counters < 0) {
      addWorkspace(0);
      plan.counters = plan.workspaces.size() - 1;
    }
    int64_t &bytes = plan.workspaces[plan.counters];
    bytes = std::max<int64_t>(bytes, count * sizeof(int32_t));
    return op->getNumOperands() + op->getNumResults() + plan.counters;
  }
  void add(KernelBuilder &kernel) { plan.launches.push_back(finish(kernel)); }
};

//===--- Elementwise.cpp ---===//

/// Writes one kernel over `shape`: loads the lanes of each read access, in order, and stores what `body` returns to the write accesses, in order. Bytes moved: each element of each access once.
using ElementwiseBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(KernelBuilder &kernel, llvm::ArrayRef<mlir::Value> loaded)>;
void generateElementwise(Context &context, llvm::StringRef name, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<Access> accesses, ElementwiseBody body);

mlir::LogicalResult generateElementwiseOp(Context &context); // one elementwise op, train.fused, train.iota, splat train.constant

//===--- ElementwiseMath.cpp ---===//

/// The lanes of an elementwise op's result, rounded to its element type, from those of its operands. Null where the op is not one.
mlir::Value emitElementwise(KernelBuilder &kernel, mlir::Operation *op, llvm::ArrayRef<mlir::Value> operands);

//===--- Movement.cpp ---===//
mlir::LogicalResult generateMovement(Context &context);

//===--- Transpose.cpp ---===//

/// GPU only: a copy whose sides have their neighbouring elements along different, long axes. False where it is not one.
bool generateTransposition(Context &context, llvm::StringRef name, llvm::ArrayRef<int64_t> shape, Access source, Access destination);

//===--- Gather.cpp ---===//
mlir::LogicalResult generateGather(Context &context, train::GatherOp op);
mlir::LogicalResult generateGatherGrad(Context &context, train::GatherGradOp op);

//===--- Scatter.cpp ---===//
mlir::LogicalResult generateScatter(Context &context, train::ScatterOp op);

//===--- TopK.cpp ---===//
mlir::LogicalResult generateTopK(Context &context, train::TopKOp op);

//===--- Reduce.cpp ---===//
mlir::LogicalResult generateReduce(Context &context);

//===--- Softmax.cpp ---===//
mlir::LogicalResult generateSoftmax(Context &context);

//===--- Attention.cpp ---===//
mlir::LogicalResult generateAttentionProbabilities(Context &context, train::AttentionProbabilitiesOp op);
mlir::LogicalResult generateAttentionScoresGrad(Context &context, train::AttentionScoresGradOp op);
mlir::LogicalResult generateRotary(Context &context, train::RotaryOp op);

//===--- BatchNorm.cpp ---===//
mlir::LogicalResult generateBatchStatistics(Context &context, train::BatchStatisticsOp op);
mlir::LogicalResult generateBatchNormSums(Context &context, train::BatchNormSumsOp op);

//===--- Norm.cpp ---===//
mlir::LogicalResult generateNorm(Context &context);
mlir::LogicalResult generateNormParameterGrad(Context &context);

//===--- NormGrad.cpp ---===//
mlir::LogicalResult generateNormGrad(Context &context);

//===--- CrossEntropy.cpp ---===//
mlir::LogicalResult generateCrossEntropy(Context &context, train::CrossEntropyOp op);
mlir::LogicalResult generateCrossEntropyGrad(Context &context, train::CrossEntropyGradOp op);
mlir::LogicalResult generateCrossEntropyStep(Context &context, train::CrossEntropyStepOp op);
mlir::LogicalResult generateCountCorrect(Context &context, train::CountCorrectOp op);

//===--- Matmul.cpp ---===//
mlir::LogicalResult generateMatmul(Context &context, train::MatmulOp op);

//===--- Convolution.cpp ---===//
mlir::LogicalResult generateConvolution(Context &context);

//===--- Pool.cpp ---===//
mlir::LogicalResult generatePool(Context &context);

//===--- Optimizer.cpp ---===//
void writeUpdateKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, mlir::Type computeType, mlir::Type gradientType, bool hasMaster, bool hasRate);
/// Slots and direction of an optimizer with Newton-Schulz iterations; see KernelGenerator::getDirectionKernel.
void writeDirectionKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, mlir::Type gradientType, int64_t count);
void writeParameterNormsKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, mlir::Type computeType, mlir::Type gradientType, bool hasMaster, bool hasRate);
void writeSquaresKernel(KernelBuilder &kernel, mlir::Type gradientType);

//===--- Padding.cpp, GPU only ---===//
void writeZeroKernel(KernelBuilder &kernel, llvm::ArrayRef<ZeroedWords> kinds);

//===--- ExactNorm.cpp, GPU only ---===//
void writeSquareSumsKernel(KernelBuilder &kernel, mlir::Type gradientType, int64_t ranges);
void writeAccumulateKernel(KernelBuilder &kernel);
void writeNormKernel(KernelBuilder &kernel, mlir::Type normType);

//===--- Columns.cpp, ColumnsCpu.cpp ---===//

/// One or more reductions over `rows` rows for each of `outer` x `columns` columns.
struct ColumnReduction {
  llvm::StringRef name;
  llvm::SmallVector<int64_t> outer;
  int64_t rows, columns;
  KernelBuilder::Combine kind;
  unsigned results;
  unsigned mostResults = 0; // that ops with the same order of sums have; 0: `results`
  mlir::Type type;  // that terms have and sums are computed in
  int64_t lanes;    // GPU: columns of a thread: 16 bytes of the operands
  llvm::SmallVector<Access> destinations; // over (outer..., columns), one a result
  std::function<void(KernelBuilder &)> declare; // the operands
  /// The terms of each result in one row, from `column` on.
  std::function<llvm::SmallVector<mlir::Value>(KernelBuilder &, mlir::ValueRange outer, mlir::Value row, mlir::Value column, const Lanes &lanes)> terms;
  std::function<void(KernelBuilder &)> declareFinish; // what `finish` reads, in the kernel that does it; may be null
  /// The results, from the totals of one column; null where they are these.
  std::function<llvm::SmallVector<mlir::Value>(KernelBuilder &, llvm::ArrayRef<mlir::Value> totals, mlir::ValueRange outer, mlir::Value column)> finish;
};
/// Bytes moved: operands once; where there are few columns, a 100th of that for partial sums.
void generateColumnReduction(Context &context, const ColumnReduction &reduction);
void generateColumnReductionOnCpu(Context &context, const ColumnReduction &reduction);
/// The destinations and what `finish` reads; what becomes of the totals of a column.
llvm::SmallVector<View> declareColumnResults(KernelBuilder &kernel, const ColumnReduction &reduction);
void storeColumnResults(KernelBuilder &kernel, const ColumnReduction &reduction, llvm::ArrayRef<View> views,
                        llvm::ArrayRef<mlir::Value> totals, mlir::ValueRange outer, mlir::Value column);

/// Where another kernel makes partial results of `chunks` chunks of rows: a workspace for those of one result, its view (chunk, outer..., column), and the launch that sums them.
unsigned addPartials(Context &context, const ColumnReduction &reduction, int64_t chunks);
View declarePartials(KernelBuilder &kernel, const ColumnReduction &reduction, int64_t chunks, unsigned workspace, bool write);
void generateColumnTotals(Context &context, const ColumnReduction &reduction, llvm::ArrayRef<unsigned> workspaces, int64_t chunks);
/// The same for `count` ops that are alike, each with as many `arguments`.
void writeColumnTotals(KernelBuilder &kernel, const ColumnReduction &reduction, llvm::ArrayRef<unsigned> workspaces, int64_t chunks, int64_t count, unsigned arguments);

//===--- Rows.cpp ---===//

/// The index space of an op that works on rows along the last axis: (outer axes, collapsed..., n). One outer iteration is one row.
struct Rows {
  llvm::SmallVector<int64_t> outer;
  int64_t n;
  llvm::SmallVector<Access> accesses;

  /// `accesses` are over `shape`, whose last axis is the row.
  Rows(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<Access> accesses);
  int64_t count() const { return countElements(outer); }
  llvm::SmallVector<int64_t> shape() const;
  /// Declares the arguments, opens the loop and returns the row's coordinates, with room for the place in the row at the end.
  llvm::SmallVector<mlir::Value> begin(KernelBuilder &kernel, llvm::SmallVectorImpl<View> &views, mlir::Value *outerIndex = nullptr) const;
};

/// A tensor of the rows' shape; one with an element a row; a vector [n] that every row uses.
Access rowAccess(unsigned argument, const TensorLayout &layout, bool write = false);
Access perRowAccess(unsigned argument, const TensorLayout &layout, bool write = false);
Access perColumnAccess(unsigned argument, const TensorLayout &layout, unsigned rank, bool write = false);

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_FAMILIES_H
