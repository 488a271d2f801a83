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
#include "zopt/Runtime/Device/Matmul.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace zopt;

namespace {

/// Operands of a product, as views of matrices with batch axes in front, all of one rank.
struct Product {
  View lhs, rhs, out;
  std::optional<View> bias;
  double scale = 1;
};

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

Product makeProduct(train::MatmulOp op, View lhs, View rhs, std::optional<View> bias, View out) {
  if (op.getTransposeLhs())
    swapLastAxes(lhs);
  if (op.getTransposeRhs())
    swapLastAxes(rhs);
  size_t rank = out.layout.shape.size();
  padRank(lhs, rank);
  padRank(rhs, rank);
  bool oneRhs = llvm::all_of(ArrayRef(rhs.layout.shape).drop_back(2), [](int64_t size) { return size == 1; });
  bool wholeLhs = ArrayRef(lhs.layout.shape).drop_back(2) == ArrayRef(out.layout.shape).drop_back(2);
  if (rank > 2 && oneRhs && wholeLhs) {
    std::optional<View> lhsRows = foldRows(lhs), outRows = foldRows(out);
    if (lhsRows && outRows) {
      lhs = *lhsRows;
      out = *outRows;
      rhs.layout.shape.erase(rhs.layout.shape.begin(), rhs.layout.shape.end() - 2);
      rhs.layout.strides.erase(rhs.layout.strides.begin(), rhs.layout.strides.end() - 2);
      rank = 2;
    }
  }
  if (bias) {
    int64_t columns = bias->layout.shape.back();
    bias->layout.shape.assign(rank, 1);
    bias->layout.shape.back() = columns;
    bias->layout.strides.assign(rank, columns);
    bias->layout.strides.back() = 1;
  }
  return {lhs, rhs, out, bias, op.getScale().convertToDouble()};
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
std::optional<runtime::Command> getCommand(const Product &product) {
  runtime::Command command;
  command.kind = runtime::Command::Kind::Matmul;
  command.scale = product.scale;
  if (product.bias && product.scale != 1)
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
  return runtime::matmulSupports(command) ? std::optional(command) : std::nullopt;
}

plan::MatmulOperandAttr getAttr(const View &view) {
  MLIRContext *context = view.layout.elementType.getContext();
  return plan::MatmulOperandAttr::get(context, view.layout.elementType, DenseI64ArrayAttr::get(context, view.layout.shape), DenseI64ArrayAttr::get(context, view.layout.strides));
}

} // namespace

LogicalResult FunctionLowering::lowerMatmul(train::MatmulOp op) {
  std::optional<View> bias;
  if (op.getBias()) {
    FailureOr<View> contiguous = getContiguous(op.getBias());
    if (failed(contiguous))
      return failure();
    bias = *contiguous;
  }
  View result = getResultView(op.getResult());
  views[op.getResult()] = result;

  // In place as far as the library can: first all operands, then the result, then nothing.
  View lhs = getView(op.getLhs()), rhs = getView(op.getRhs()), out = result;
  Product product = makeProduct(op, lhs, rhs, bias, out);
  std::optional<runtime::Command> command = getCommand(product);
  for (bool copyResult : {false, true}) {
    if (command || (copyResult && result.isContiguous()))
      break;
    if (copyResult) {
      out = createTemporary(op.getType());
    } else {
      FailureOr<View> denseLhs = getContiguous(op.getLhs()), denseRhs = getContiguous(op.getRhs());
      if (failed(denseLhs) || failed(denseRhs))
        return failure();
      lhs = *denseLhs;
      rhs = *denseRhs;
    }
    product = makeProduct(op, lhs, rhs, bias, out);
    command = getCommand(product);
  }
  if (!command) {
    SmallVector<View> arguments = {lhs, rhs};
    if (bias)
      arguments.push_back(*bias);
    arguments.push_back(out);
    if (failed(launchKernels(op, arguments, op.getLoc())))
      return failure();
    return out.storage == result.storage ? success() : copy(op.getLoc(), out, result);
  }

  int64_t scratchBytes = runtime::matmulScratchBytes(*command, context.threads);
  if (scratchBytes < 0)
    return op.emitOpError("has no implementation in ") << runtime::matmulLibrary() << " for " << getAttr(product.lhs) << " x " << getAttr(product.rhs) << " -> " << getAttr(product.out);
  FlatSymbolRefAttr scratch;
  if (scratchBytes > 0)
    scratch = getRef(context.storages.createTemporary(scratchBytes, plan::MemoryClass::workspace));
  SmallVector<int64_t> offsets = {product.lhs.getByteOffset(), product.rhs.getByteOffset(), product.out.getByteOffset(), product.bias ? product.bias->getByteOffset() : 0};
  plan::MatmulOp::create(builder, op.getLoc(), getRef(product.lhs.storage), getRef(product.rhs.storage), getRef(product.out.storage), product.bias ? getRef(product.bias->storage) : nullptr, scratch,
                         /*aux=*/nullptr, /*bias_gradient=*/nullptr, getAttr(product.lhs), getAttr(product.rhs), getAttr(product.out), product.bias ? getAttr(*product.bias) : nullptr, /*aux_operand=*/nullptr,
                         op.getScaleAttr(), builder.getDenseI64ArrayAttr(offsets), plan::EpilogueAttr::get(op.getContext(), plan::Epilogue::none), plan::BiasGradientAttr::get(op.getContext(), plan::BiasGradient::none),
                         /*algorithm=*/nullptr);
  return out.storage == result.storage ? success() : copy(op.getLoc(), out, result);
}
