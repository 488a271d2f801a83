//===- MatmulLowering.cpp - train.matmul into plan.matmul ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Transposition is strides. Batch axes that run through memory as one with the rows become rows, so that a linear layer is one product of matrices. What the library cannot read in place is copied; what it has
// no implementation for (f64 above all) is a generated kernel.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"
#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include "zopt/Runtime/Device/Matmul.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;

namespace zopt {

/// A train.matmul or train.fused_matmul, and where its tensors lie: as matrices with batch axes in front, all of one rank.
struct Product {
  Operation *op;
  bool transposeLhs, transposeRhs;
  llvm::APFloat scale;
  View lhs = {}, rhs = {}, out = {};
  std::optional<View> bias = {}, aux = {}, addend = {}, biasGradient = {};
  plan::Epilogue epilogue = plan::Epilogue::none;
  plan::BiasGradient biasGradientKind = plan::BiasGradient::none;
};

} // namespace zopt

namespace {

void swapLastAxes(View &view) {
  size_t rank = view.layout.shape.size();
  std::swap(view.layout.shape[rank - 2], view.layout.shape[rank - 1]);
  std::swap(view.layout.strides[rank - 2], view.layout.strides[rank - 1]);
}

void padRank(View &view, size_t rank) {
  while (view.layout.shape.size() < rank) {
    view.layout.shape.insert(view.layout.shape.begin(), 1);
    view.layout.strides.insert(view.layout.strides.begin(), 0);
  }
}

/// The view with all axes but the last as one; nothing where strides cannot express that.
std::optional<View> foldRows(const View &view) {
  int64_t rows = 1;
  for (int64_t size : ArrayRef(view.layout.shape).drop_back())
    rows *= size;
  std::optional<View> folded = reshapeView(view, {rows, view.layout.shape.back()});
  return folded;
}

/// The size that an axis of a matrix may be taken for, or 0.
int64_t getPaddedSize(const View &view, size_t axis) {
  const ZeroPadding &padding = view.padding;
  return padding.to > 0 && view.layout.shape[axis] == padding.from && view.layout.strides[axis] == padding.stride ? padding.to : 0;
}

/// Takes an axis that two matrices share for longer where both have zeros behind it: rows or columns of zeros make no difference to a sum, and give zeros.
void padAxis(View &a, size_t axisOfA, View &b, size_t axisOfB) {
  int64_t size = std::min(getPaddedSize(a, axisOfA), getPaddedSize(b, axisOfB));
  if (size > 0)
    a.layout.shape[axisOfA] = b.layout.shape[axisOfB] = size;
}

/// Brings the views of a product, which are those of the tensors, into the form of matrices.
void makeMatrices(Product &product) {
  if (product.transposeLhs)
    swapLastAxes(product.lhs);
  if (product.transposeRhs)
    swapLastAxes(product.rhs);
  View &lhs = product.lhs, &rhs = product.rhs, &out = product.out;
  size_t rank = out.layout.shape.size();
  padRank(lhs, rank);
  padRank(rhs, rank);
  bool oneRhs = llvm::all_of(ArrayRef(rhs.layout.shape).drop_back(2), [](int64_t size) { return size == 1; });
  bool wholeLhs = ArrayRef(lhs.layout.shape).drop_back(2) == ArrayRef(out.layout.shape).drop_back(2);
  if (rank > 2 && oneRhs && wholeLhs) {
    std::optional<View> lhsRows = foldRows(lhs), outRows = foldRows(out), auxRows = product.aux ? foldRows(*product.aux) : std::nullopt;
    if (lhsRows && outRows && (auxRows || !product.aux)) { // an addend lies as the result does
      lhs = *lhsRows;
      out = *outRows;
      product.aux = auxRows;
      rhs.layout.shape.erase(rhs.layout.shape.begin(), rhs.layout.shape.end() - 2);
      rhs.layout.strides.erase(rhs.layout.strides.begin(), rhs.layout.strides.end() - 2);
      rank = 2;
    }
  }
  if (!product.bias && !product.aux && !product.addend && !product.biasGradient) {
    padAxis(lhs, rank - 2, out, rank - 2);
    padAxis(rhs, rank - 1, out, rank - 1);
    padAxis(lhs, rank - 1, rhs, rank - 2);
  }
  if (std::optional<View> &bias = product.bias) {
    int64_t columns = bias->layout.shape.back();
    bias->layout.shape.assign(rank, 1);
    bias->layout.shape.back() = columns;
    bias->layout.strides.assign(rank, columns);
    bias->layout.strides.back() = 1;
  }
}

std::optional<runtime::DataType> getDataType(Type type) {
  return llvm::TypeSwitch<Type, std::optional<runtime::DataType>>(type)
      .Case([](Float32Type) { return runtime::DataType::F32; })
      .Case([](BFloat16Type) { return runtime::DataType::BF16; })
      .Case([](Float16Type) { return runtime::DataType::F16; })
      .Case([](Float64Type) { return runtime::DataType::F64; })
      .Default([](Type) { return std::nullopt; });
}

std::optional<runtime::MatmulOperand> getOperand(const View &view) {
  std::optional<runtime::DataType> type = getDataType(view.layout.elementType);
  if (!type)
    return std::nullopt;
  return runtime::MatmulOperand{*type, {view.layout.shape.begin(), view.layout.shape.end()}, {view.layout.strides.begin(), view.layout.strides.end()}};
}

/// The command, as the library is asked about it; nothing where it has no implementation.
std::optional<runtime::Command> getCommand(const Product &product, bool onGpu) {
  runtime::Command command;
  command.kind = runtime::Command::Kind::Matmul;
  command.scale = product.scale.convertToDouble();
  if (product.bias && command.scale != 1)
    return std::nullopt; // the library scales the sum
  std::optional<runtime::MatmulOperand> lhs = getOperand(product.lhs), rhs = getOperand(product.rhs), out = getOperand(product.out);
  if (!lhs || !rhs || !out)
    return std::nullopt;
  command.lhs = *lhs;
  command.rhs = *rhs;
  command.out = *out;
  if (product.bias) {
    std::optional<runtime::MatmulOperand> bias = getOperand(*product.bias);
    if (!bias)
      return std::nullopt;
    command.bias = *bias;
  }
  command.epilogue = runtime::Epilogue(product.epilogue);
  command.biasGradient = runtime::BiasGradient(product.biasGradientKind);
  if (product.aux) {
    std::optional<runtime::MatmulOperand> aux = getOperand(*product.aux);
    if (!aux)
      return std::nullopt;
    command.aux = *aux;
  }
  bool supported = onGpu ? runtime::cuda::supportsMatmul(command) : runtime::matmulSupports(command);
  return supported ? std::optional(command) : std::nullopt;
}

plan::MatmulOperandAttr getAttr(const View &view) {
  MLIRContext *context = view.layout.elementType.getContext();
  return plan::MatmulOperandAttr::get(context, view.layout.elementType, DenseI64ArrayAttr::get(context, view.layout.shape), DenseI64ArrayAttr::get(context, view.layout.strides));
}

} // namespace

LogicalResult FunctionLowering::lowerMatmul(train::MatmulOp op) {
  Product product{op, op.getTransposeLhs(), op.getTransposeRhs(), op.getScale()};
  View result = getResultView(op.getResult());
  views[op.getResult()] = result;
  if (op.getBias()) {
    FailureOr<View> contiguous = getContiguous(op.getBias());
    if (failed(contiguous))
      return failure();
    product.bias = *contiguous;
  }

  // In place as far as the library can: first all operands, then the result, then nothing.
  Product tensors = product;
  tensors.lhs = getView(op.getLhs());
  tensors.rhs = getView(op.getRhs());
  // Rows of zeros of a weight give columns of zeros, where the result has room for them: what reads the result may count on those then.
  if (View rhs = tensors.rhs; context.isGpu() && !op.getBias() && rhs.padding.to > 0 && rhs.layout.shape.size() == 2) {
    size_t columns = op.getTransposeRhs() ? 0 : 1, last = result.layout.shape.size() - 1;
    int64_t padded = getPaddedSize(rhs, columns);
    if (padded > 0 && result.layout.strides[last] == 1 && last > 0 && result.layout.strides[last - 1] >= padded)
      result.padding = views[op.getResult()].padding = {result.layout.shape[last], padded, 1};
  }
  tensors.out = result;
  product = tensors;
  makeMatrices(product);
  std::optional<runtime::Command> command = getCommand(product, context.isGpu());
  for (bool copyResult : {false, true}) {
    if (command || (copyResult && result.isContiguous()))
      break;
    if (copyResult) {
      tensors.out = createTemporary(op.getType());
    } else {
      FailureOr<View> lhs = getContiguous(op.getLhs()), rhs = getContiguous(op.getRhs());
      if (failed(lhs) || failed(rhs))
        return failure();
      tensors.lhs = *lhs;
      tensors.rhs = *rhs;
    }
    product = tensors;
    makeMatrices(product);
    command = getCommand(product, context.isGpu());
  }
  // Where the columns of zeros were not made after all, nothing may count on them.
  if (result.padding.to > 0 && product.out.layout.shape.back() != result.padding.to && destinations.count(op.getResult()) == 0)
    views[op.getResult()].padding = {};
  if (command) {
    if (failed(emitMatmul(product, *command)))
      return failure();
  } else {
    SmallVector<View> arguments = {tensors.lhs, tensors.rhs};
    if (tensors.bias)
      arguments.push_back(*tensors.bias);
    arguments.push_back(tensors.out);
    if (failed(launchKernels(op, arguments, op.getLoc())))
      return failure();
  }
  return tensors.out.storage == result.storage ? success() : copy(op.getLoc(), tensors.out, result);
}

LogicalResult FunctionLowering::lowerFusedMatmul(train::FusedMatmulOp op) {
  Product product{op, op.getTransposeLhs(), op.getTransposeRhs(), op.getScale()};
  product.epilogue = static_cast<plan::Epilogue>(op.getEpilogue());
  product.biasGradientKind = static_cast<plan::BiasGradient>(op.getBiasGradientKind());
  for (Value result : op.getResults())
    views[result] = getResultView(result);
  if (op.getBias()) {
    FailureOr<View> contiguous = getContiguous(op.getBias());
    if (failed(contiguous))
      return failure();
    product.bias = *contiguous;
  }
  // Operands as they lie where the library reads that, copies otherwise; results are always where it can write them, because nothing but a bucket is a destination of theirs.
  Product tensors = product;
  tensors.lhs = getView(op.getLhs());
  tensors.rhs = getView(op.getRhs());
  tensors.out = views[op.getResult()];
  if (op.getPreActivation())
    tensors.aux = views[op.getPreActivation()];
  else if (op.getAux())
    tensors.aux = getView(op.getAux());
  if (op.getBiasGradient())
    tensors.biasGradient = views[op.getBiasGradient()];
  if (op.getAddend()) {
    tensors.addend = getView(op.getAddend());
    if (tensors.addend->layout.strides != tensors.out.layout.strides) {
      FailureOr<View> contiguous = getContiguous(op.getAddend());
      if (failed(contiguous))
        return failure();
      tensors.addend = *contiguous;
    }
    if (!tensors.out.isContiguous() && tensors.addend->layout.strides != tensors.out.layout.strides)
      return op.emitOpError("has a result that does not lie as its addend does");
  }
  product = tensors;
  makeMatrices(product);
  std::optional<runtime::Command> command = getCommand(product, context.isGpu());
  if (!command) {
    FailureOr<View> lhs = getContiguous(op.getLhs()), rhs = getContiguous(op.getRhs());
    if (failed(lhs) || failed(rhs))
      return failure();
    product = tensors;
    product.lhs = *lhs;
    product.rhs = *rhs;
    makeMatrices(product);
    command = getCommand(product, context.isGpu());
  }
  if (!command)
    return op.emitOpError("has no implementation in the target's library for ") << getAttr(product.lhs) << " x " << getAttr(product.rhs) << " -> " << getAttr(product.out);
  return emitMatmul(product, *command);
}

LogicalResult FunctionLowering::emitMatmul(const Product &product, const runtime::Command &command) {
  int64_t scratchBytes = context.isGpu() ? runtime::cuda::matmulScratchBytes(command) : runtime::matmulScratchBytes(command, context.threads);
  if (scratchBytes < 0)
    return product.op->emitOpError("has no implementation in ") << runtime::matmulLibrary() << " for " << getAttr(product.lhs) << " x " << getAttr(product.rhs) << " -> " << getAttr(product.out);
  FlatSymbolRefAttr scratch;
  if (scratchBytes > 0)
    scratch = getRef(context.storages.createTemporary(scratchBytes, plan::MemoryClass::workspace));
  auto refOf = [&](const std::optional<View> &view) { return view ? getRef(view->storage) : FlatSymbolRefAttr(); };
  auto layoutOf = [&](const std::optional<View> &view) { return view ? getAttr(*view) : plan::MatmulOperandAttr(); };
  auto offsetOf = [&](const std::optional<View> &view) { return view ? view->getByteOffset() : 0; };
  SmallVector<int64_t> offsets = {product.lhs.getByteOffset(), product.rhs.getByteOffset(), product.out.getByteOffset(), offsetOf(product.bias)};
  if (product.aux || product.biasGradient || product.addend)
    offsets.append({offsetOf(product.aux), offsetOf(product.biasGradient), offsetOf(product.addend)});
  MLIRContext *mlirContext = builder.getContext();
  plan::MatmulOp::create(builder, product.op->getLoc(), getRef(product.lhs.storage), getRef(product.rhs.storage), getRef(product.out.storage), refOf(product.bias), scratch, refOf(product.aux),
                         refOf(product.biasGradient), refOf(product.addend), getAttr(product.lhs), getAttr(product.rhs), getAttr(product.out), layoutOf(product.bias), layoutOf(product.aux), builder.getF64FloatAttr(product.scale.convertToDouble()),
                         builder.getDenseI64ArrayAttr(offsets), plan::EpilogueAttr::get(mlirContext, product.epilogue), plan::BiasGradientAttr::get(mlirContext, product.biasGradientKind), /*algorithm=*/nullptr);
  return success();
}
