//===- KernelGeneration.h - kernels for train ops ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Writes the `plan.kernel`s of one train op for operands at given layouts. Everything that is not a contraction or pure movement that became a view is a generated kernel.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONVERSION_KERNELGENERATION_H
#define ZOPT_CONVERSION_KERNELGENERATION_H

#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include <functional>

namespace zopt {

/// How a tensor lies in its buffer: element (i, j, ...) is at i * strides[0] + j * strides[1] + ... elements from the view's first element.
struct TensorLayout {
  mlir::Type elementType;
  llvm::SmallVector<int64_t> shape;
  llvm::SmallVector<int64_t> strides;
  /// The view's first element lies at a multiple of this many bytes. Only kernels for GPUs look at it: their wide accesses need it.
  int64_t alignment = 16;

  static TensorLayout contiguous(mlir::RankedTensorType type);
  bool isContiguous() const;
};

/// One launch of a kernel. `arguments` index the list operands ++ results ++ workspaces of the op that it implements.
struct KernelLaunch {
  mlir::FlatSymbolRefAttr kernel;
  llvm::SmallVector<unsigned> arguments;
  llvm::SmallVector<int64_t> writes; // indices in `arguments`
  int64_t extent = 1;
  int64_t grain = 1;
};

namespace kernels {
class KernelBuilder;
}

struct KernelPlan {
  llvm::SmallVector<KernelLaunch> launches; // in order
  llvm::SmallVector<int64_t> workspaces;    // bytes of each temporary buffer that the launches share
  int64_t counters = -1;                    // the workspace, if any, that is no temporary: counters of i32 that are 0 before and after each launch, so that all launches of a stream may share one
  /// Null, or writes the last launch of `count` ops at once, each of which has the launch's arguments behind those of the one before: an op none of whose results in it is needed yet may wait for others with the same last kernel.
  std::function<void(kernels::KernelBuilder &kernel, int64_t count)> joined;
};

/// Stretches of 16-bit words, [first, second), in each of `count` buffers.
struct ZeroedWords {
  int64_t count = 0;
  llvm::SmallVector<std::pair<int64_t, int64_t>> stretches; // in order
};

/// What kernels are written for: loops over vectors of 16 lanes, or blocks of threads in the gpu dialect.
enum class KernelTarget { Cpu, Gpu };

/// Generates and deduplicates kernels. Each distinct kernel stands once in `module`.
class KernelGenerator {
public:
  explicit KernelGenerator(mlir::ModuleOp module, KernelTarget target = KernelTarget::Cpu);
  /// GPU only: sums of columns whose partial results a launch of its own adds up, which gives the same bits: for comparisons.
  void setTotalsApart(bool apart) { totalsApart = apart; }

  /// Whether operand (or result, counted after them) `index` of `op` may have any strides of at least 0; otherwise it must be contiguous. A unit stride on the last axis is fastest.
  static bool acceptsStrides(mlir::Operation *op, unsigned index);

  /// Kernels for `op`. `layouts` has one entry an operand, then one a result (contiguous unless acceptsStrides). Null operands are skipped. Emits an error on ops that have no kernel.
  mlir::FailureOr<KernelPlan> generate(mlir::Operation *op, llvm::ArrayRef<TensorLayout> layouts);

  /// The kernel of plan.update for an optimizer and a bucket's types; see PlanOps.td for its arguments.
  mlir::FlatSymbolRefAttr getUpdateKernel(train::OptimizerOp optimizer, mlir::Type computeType, mlir::Type gradientType, bool hasMaster, bool hasRate = false);
  /// The kernel of plan.parameter_norms for an optimizer with a trust ratio.
  mlir::FlatSymbolRefAttr getParameterNormsKernel(train::OptimizerOp optimizer, mlir::Type computeType, mlir::Type gradientType, bool hasMaster, bool hasRate);

  /// The first half of an update with Newton-Schulz iterations, over `blocks` blocks of 128 elements: (gradient, slots but an average, direction, scale, finite). Changes the slots and writes the direction,
  /// in the type of the masters, where `finite` is not 0.
  KernelLaunch getDirectionKernel(train::OptimizerOp optimizer, mlir::Type gradientType, int64_t blocks);

  /// GPU only: the last launch of `count` ops with this plan; see KernelPlan::joined.
  KernelLaunch getJoined(const KernelPlan &plan, int64_t count);
  /// GPU only: sets words of many buffers to 0, those of the first kind, then those of the next, ...
  KernelLaunch getZeroKernel(llvm::ArrayRef<ZeroedWords> kinds);

  /// CPU only: sum of squares of every 128-element block in f64: (gradient, workspace of f64), one outer iteration a block.
  mlir::FlatSymbolRefAttr getSquaresKernel(mlir::Type gradientType);

  /// GPU only: adds the sums of squares of 128-element blocks, each in f64, to the words of a runtime::ExactSum: (gradients, list of `ranges` ranges, words of i64), one outer iteration a block; see plan.gradient_norm.
  /// A launch may have any number of blocks of threads up to one for blockIterations.
  mlir::FlatSymbolRefAttr getSquareSumsKernel(mlir::Type gradientType, int64_t ranges);
  /// GPU only: adds f64 block sums to the words of a runtime::ExactSum: (block sums, words of i64), one outer iteration a block sum.
  mlir::FlatSymbolRefAttr getAccumulateKernel();
  /// GPU only: the root of the sum of two ExactSums, rounded once: (words of i64 of both, norm), one outer iteration. Sets the words to 0.
  mlir::FlatSymbolRefAttr getNormKernel(mlir::Type normType);

private:
  /// Puts a finished kernel into the module, or finds the one that is equal to it.
  KernelLaunch finish(kernels::KernelBuilder &kernel);

  mlir::ModuleOp module;
  KernelTarget target;
  bool totalsApart = false;
  size_t firstNumber; // kernels that the module had before
  llvm::StringMap<KernelPlan> plans;                // by what an op's kernels depend on
  llvm::StringMap<mlir::FlatSymbolRefAttr> kernels; // by the text of the kernel, under its family's name
};

} // namespace zopt

#endif // ZOPT_CONVERSION_KERNELGENERATION_H
