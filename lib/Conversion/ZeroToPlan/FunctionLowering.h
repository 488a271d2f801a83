//===- FunctionLowering.h - one function into commands -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_FUNCTIONLOWERING_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_FUNCTIONLOWERING_H

#include "Lowering.h"
#include "zopt/Runtime/Core/Program.h"

namespace zopt {

struct Product;

/// Turns the ops of a function into commands, in program order. Values become views of storages; a collective is a start and a wait right behind it.
class FunctionLowering {
public:
  FunctionLowering(mlir::func::FuncOp function, plan::SequenceOp sequence, mlir::OpBuilder &declarations, LoweringContext &context, llvm::SmallVectorImpl<Collective> &collectives)
      : function(function), builder(mlir::OpBuilder::atBlockBegin(&sequence.getBody().front())), declarations(declarations), context(context), collectives(collectives) {}

  mlir::LogicalResult run();

private:
  //===--- Destinations.cpp: results that are born where they are needed ---===//

  /// Decides which values are written straight into a bucket's gradient, a concatenation, a state or an output.
  void assignDestinations();
  /// Lets `value` be written to `destination`, through the movement between; false where its producer cannot.
  bool assignDestination(mlir::Value value, const View &destination, bool mayHaveOtherUses = false);
  void assignGradients(zero::ReduceGradientsOp op);
  /// Lets what a sum at `destination` adds up be written there too: the sum so far, from its first term on.
  void assignTerms(mlir::Value sum, const View &destination);
  bool assignJoined(mlir::Value gradient, const llvm::DenseMap<mlir::Value, View> &places);
  void assignConcat(train::ConcatOp op);

  //===--- DirectionLowering.cpp ---===//

  mlir::LogicalResult lowerDirection(zero::DirectionOp op);
  void assignDirections(zero::UpdateOp op);
  /// One buffer of the bucket's flat layout with the results of Newton-Schulz iterations, where they are not already.
  mlir::FailureOr<mlir::FlatSymbolRefAttr> collectDirections(zero::UpdateOp op);

  //===--- FunctionLowering.cpp ---===//

  mlir::LogicalResult lowerArguments();
  /// A symbol that is free in the module for a tensor of the graph, and the tensor's name where that is not the symbol.
  std::pair<mlir::StringAttr, mlir::StringAttr> getSymbol(mlir::StringAttr name, llvm::StringRef kind);
  mlir::LogicalResult lower(mlir::Operation *op);
  mlir::LogicalResult lowerReturn(mlir::func::ReturnOp op);
  mlir::LogicalResult lowerReadState(train::ReadStateOp op);
  mlir::LogicalResult lowerWriteState(train::WriteStateOp op);
  mlir::LogicalResult lowerAccumulate(train::AccumulateOp op);
  mlir::LogicalResult lowerMovement(mlir::Operation *op);
  mlir::LogicalResult lowerConcat(train::ConcatOp op);
  mlir::LogicalResult lowerToKernel(mlir::Operation *op);

  //===--- CollectiveLowering.cpp ---===//

  void lowerAllGather(zero::AllGatherOp op);
  void lowerView(zero::ViewOp op);
  mlir::LogicalResult lowerReduceGradients(zero::ReduceGradientsOp op);
  /// Whether nothing reads what the last launch of `op` writes before the gradients of its bucket are reduced, so that one launch may sum for several ops.
  bool mayJoin(mlir::Operation *op, const KernelPlan &kernels);
  void launchJoined();
  void emitLaunch(mlir::Location loc, const KernelLaunch &launch, llvm::ArrayRef<std::pair<mlir::FlatSymbolRefAttr, int64_t>> buffers);
  /// Zeroes what gradients leave free in their buckets: on a CPU before the first of them is written, on a GPU here.
  void zeroGaps();
  void zeroTogether();
  mlir::LogicalResult lowerAllReduce(zero::AllReduceOp op);
  void lowerGradientNorm(zero::GradientNormOp op);
  mlir::LogicalResult lowerUpdate(zero::UpdateOp op);
  void lowerPublish(zero::PublishOp op);
  /// Starts an all-gather and waits for it.
  void gather(mlir::Location loc, Collective::Kind kind, BucketHome &home, StorageId source, StorageId destination, int64_t bytesPerRank, llvm::StringRef what);
  /// The storage of a scalar, at its start.
  mlir::FailureOr<mlir::FlatSymbolRefAttr> getScalar(mlir::Value value);

  //===--- MatmulLowering.cpp ---===//

  mlir::LogicalResult lowerMatmul(train::MatmulOp op);
  mlir::LogicalResult lowerFusedMatmul(train::FusedMatmulOp op);
  mlir::LogicalResult emitMatmul(const Product &product, const runtime::Command &command);

  //===--- AttentionLowering.cpp ---===//

  mlir::LogicalResult lowerAttention(train::AttentionOp op);
  mlir::LogicalResult lowerAttentionGrad(train::AttentionGradOp op);
  /// `value` with a unit stride on its last axis: its view, or a copy.
  mlir::FailureOr<View> getUnitWidth(mlir::Value value);
  /// Where the library writes a result of attention; finishAttentionResult copies it to a destination that it could not write.
  View getAttentionResult(mlir::Value result);
  mlir::LogicalResult finishAttentionResult(mlir::Value result);
  template <typename Command>
  void emitAttention(mlir::Location loc, llvm::ArrayRef<View> tensors, runtime::Command description, double scale, bool causal);

  //===--- ConvolutionLowering.cpp ---===//

  mlir::LogicalResult lowerConvolution(mlir::Operation *op);
  /// `value` [batch, channels, space...] with channels, space and batch in the order of growing strides, without gaps: its view, or a copy that all who ask for it share.
  mlir::FailureOr<View> getChannelsLast(mlir::Value value);
  static bool isPool(mlir::Operation *op);
  static llvm::SmallVector<int64_t> getChannelsLastOrder(int64_t rank);

  //===--- common ---===//

  View getView(mlir::Value value) { return views.lookup(value); }
  /// `value` in row-major order: its view, or a copy that all who ask for it share.
  mlir::FailureOr<View> getContiguous(mlir::Value value);
  /// Where `value` is to be written: its destination, or a storage of its own.
  View getResultView(mlir::Value value);
  /// Where an operand that nothing reads afterwards lies, if the result may take its place; see InPlace.cpp.
  std::optional<View> getInPlaceView(mlir::Value result);
  void computeLastReads();
  /// Whether everything that reads the state's value stands before `writer`.
  bool isReadBefore(train::ReadStateOp read, mlir::Operation *writer);
  /// Whether the op that computes what `write` sets may put it into the state, in the place of the value that was there.
  bool mayOverwrite(train::WriteStateOp write);
  /// Storage for a product's result, with padding where that makes the library faster.
  View createProductResult(train::MatmulOp op);
  /// Storage for `type` laid out as `order` lists its axes, outermost first.
  View createPermuted(mlir::RankedTensorType type, llvm::ArrayRef<int64_t> order);
  View createTemporary(mlir::RankedTensorType type, plan::MemoryClass memoryClass = plan::MemoryClass::activations);
  mlir::LogicalResult copy(mlir::Location loc, const View &source, const View &destination);
  mlir::LogicalResult launchKernels(mlir::Operation *op, llvm::ArrayRef<View> views, mlir::Location loc);
  mlir::FlatSymbolRefAttr getRef(StorageId storage) { return context.storages.getRef(storage); }

  mlir::func::FuncOp function;
  mlir::OpBuilder builder;       // at the end of the sequence
  mlir::OpBuilder &declarations; // among plan.input and plan.output
  LoweringContext &context;
  llvm::SmallVectorImpl<Collective> &collectives;

  llvm::DenseMap<mlir::Value, View> views;
  llvm::DenseMap<mlir::Value, View> destinations;
  llvm::DenseMap<mlir::Operation *, View> movedTo; // movement that is a copy of its operand into here
  llvm::DenseMap<mlir::Value, View> copies, channelsLastCopies;
  llvm::DenseMap<mlir::Value, StorageId> gathered;
  std::pair<const BucketHome *, StorageId> lastGather{nullptr, -1};
  struct Gap {
    mlir::Location loc;
    StorageId storage;
    int64_t begin, end; // bytes
  };
  llvm::SmallVector<Gap> gaps;
  struct Waiting {
    mlir::Location loc;
    KernelPlan kernels; // of which the last launch is left
    llvm::SmallVector<std::pair<mlir::FlatSymbolRefAttr, int64_t>> buffers;
  };
  std::vector<Waiting> waiting;
  llvm::DenseMap<mlir::Operation *, StorageId> bucketGradients; // where zero.reduce_gradients, or zero.update its directions, takes them from
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<bool>> written; // an op that collects operands: those that are there already
  llvm::DenseMap<mlir::Value, mlir::Operation *> lastReads; // by the value that is no movement
  llvm::DenseMap<StorageId, mlir::Value> owners;              // of temporaries: the value that fills them
  llvm::DenseMap<mlir::StringAttr, llvm::SmallVector<mlir::Operation *>> readers, writers; // of a state
  llvm::SmallVector<StorageId> outputs;
};

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_FUNCTIONLOWERING_H
