//===- MatmulRules.cpp - products that cuBLASLt takes ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>

namespace zopt::runtime::cuda {

namespace {

/// The last two axes of an operand.
struct Matrix {
  int64_t rows = 0, columns = 0;
  int64_t rowStride = 0, columnStride = 0;

  /// Reads it with unit stride on columns (row-major) or on rows; an axis of size 1 has no stride of its own.
  bool layout(bool &rowMajor, int64_t &pitch) const {
    if ((columnStride == 1 || columns == 1) && (rows == 1 || rowStride >= columns)) {
      rowMajor = true;
      pitch = rows == 1 ? columns : rowStride;
      return true;
    }
    if ((rowStride == 1 || rows == 1) && (columns == 1 || columnStride >= rows)) {
      rowMajor = false;
      pitch = columns == 1 ? rows : columnStride;
      return true;
    }
    return false;
  }
};

struct BatchAxis {
  int64_t size = 1;
  int64_t lhs = 0, rhs = 0, out = 0, aux = 0; // 0: broadcast, or no such operand
};

Matrix matrixOf(const MatmulOperand &operand) {
  size_t rank = operand.shape.size();
  return {operand.shape[rank - 2], operand.shape[rank - 1], operand.strides[rank - 2], operand.strides[rank - 1]};
}

/// The stride of an operand along out's batch axis `axis`, counted from the left; false where its size is neither out's nor 1.
bool batchStride(const MatmulOperand &operand, const MatmulOperand &out, size_t axis, int64_t &stride) {
  stride = 0;
  size_t fromRight = out.shape.size() - axis; // 3 is the last batch axis
  if (operand.shape.size() < fromRight)
    return true;
  size_t own = operand.shape.size() - fromRight;
  if (operand.shape[own] == 1)
    return true;
  stride = operand.strides[own];
  return operand.shape[own] == out.shape[axis];
}

bool wellFormed(const MatmulOperand &operand) {
  return operand.shape.size() >= 2 && operand.strides.size() == operand.shape.size() && std::all_of(operand.shape.begin(), operand.shape.end(), [](int64_t size) { return size > 0; }) &&
         std::all_of(operand.strides.begin(), operand.strides.end(), [](int64_t stride) { return stride >= 0; });
}

bool supportsTypes(DataType in, DataType out) {
  switch (in) {
  case DataType::BF16:
  case DataType::F16:
    return out == in || out == DataType::F32;
  case DataType::F32:
  case DataType::F64:
    return out == in;
  default:
    return false;
  }
}

/// Turns batch axes that continue `rows` of lhs and out, where rhs broadcasts, into rows.
void foldIntoRows(std::vector<BatchAxis> &axes, Matrix &lhs, Matrix &out, Matrix *aux) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = axes.size(); i-- > 0 && !changed;) {
      const BatchAxis &axis = axes[i];
      auto continues = [&](const Matrix &matrix, int64_t stride) { return stride > 0 && (matrix.rows == 1 || stride == matrix.rowStride * matrix.rows); };
      if (axis.rhs != 0 || !continues(lhs, axis.lhs) || !continues(out, axis.out) || (aux && !continues(*aux, axis.aux)))
        continue;
      auto grow = [&](Matrix &matrix, int64_t stride) {
        if (matrix.rows == 1)
          matrix.rowStride = stride;
        matrix.rows *= axis.size;
      };
      if (aux)
        grow(*aux, axis.aux);
      grow(out, axis.out);
      grow(lhs, axis.lhs);
      axes.erase(axes.begin() + long(i));
      changed = true;
    }
  }
}

/// The same of the transposed product: columns of rhs and out, where lhs broadcasts.
void foldIntoColumns(std::vector<BatchAxis> &axes, Matrix &rhs, Matrix &out) {
  auto transpose = [&] {
    for (Matrix *matrix : {&rhs, &out}) {
      std::swap(matrix->rows, matrix->columns);
      std::swap(matrix->rowStride, matrix->columnStride);
    }
    for (BatchAxis &axis : axes)
      std::swap(axis.lhs, axis.rhs);
  };
  transpose();
  foldIntoRows(axes, rhs, out, nullptr);
  transpose();
}

/// Joins neighbours that every operand walks with one stride.
void collapse(std::vector<BatchAxis> &axes) {
  for (size_t i = 0; i + 1 < axes.size();) {
    BatchAxis &outer = axes[i], &inner = axes[i + 1];
    if (outer.lhs == inner.lhs * inner.size && outer.rhs == inner.rhs * inner.size && outer.out == inner.out * inner.size && outer.aux == inner.aux * inner.size) {
      inner.size *= outer.size;
      axes.erase(axes.begin() + long(i));
      i = 0;
    } else {
      ++i;
    }
  }
}

/// A matrix as stored. `rowMajor` ones are stored as their transpose.
LibraryMatrix stored(const Matrix &matrix, DataType type, bool rowMajor, int64_t pitch) {
  LibraryMatrix result;
  result.type = type;
  result.rows = rowMajor ? matrix.columns : matrix.rows;
  result.columns = rowMajor ? matrix.rows : matrix.columns;
  result.pitch = pitch;
  return result;
}

/// The rules of epilogues that do not depend on layouts.
Status checkEpilogue(const Command &command, bool hasBias, bool hasAux) {
  const bool gradientOfGelu = command.epilogue == Epilogue::GeluGrad;
  if (command.out.type == DataType::F64 && (hasBias || command.epilogue != Epilogue::None || command.biasGradient != BiasGradient::None))
    return inputError("a product in f64 has no epilogue or bias");
  if (gradientOfGelu && !hasAux)
    return inputError("the GeluGrad epilogue has no aux");
  if (gradientOfGelu && hasBias)
    return inputError("the GeluGrad epilogue has a bias");
  if (hasAux && command.epilogue == Epilogue::None)
    return inputError("aux without an epilogue");
  if (hasAddend(command) && (command.epilogue != Epilogue::None || command.biasGradient != BiasGradient::None))
    return inputError("an addend together with an epilogue or a bias gradient");
  switch (command.biasGradient) {
  case BiasGradient::None:
    break;
  case BiasGradient::OutColumns:
    if (!gradientOfGelu)
      return inputError("a bias gradient over out's rows without the GeluGrad epilogue");
    break;
  case BiasGradient::LhsRows:
  case BiasGradient::RhsColumns:
    if (hasBias || command.epilogue != Epilogue::None)
      return inputError("a bias gradient over k together with a bias or an epilogue");
    break;
  }
  return success();
}

Status checkBias(const Command &command) {
  const MatmulOperand &bias = command.bias;
  int64_t columns = command.out.shape.back();
  if (bias.shape.back() != columns || elementCount(bias.shape) != columns)
    return inputError("bias ", shapeText(bias.shape), " is not one element for each of ", columns, " columns");
  if (columns > 1 && (bias.strides.size() != bias.shape.size() || bias.strides.back() != 1))
    return inputError("the bias has no unit stride");
  if (bias.type != command.out.type)
    return inputError("the bias is ", nameOf(bias.type), ", but out is ", nameOf(command.out.type));
  return success();
}

LibraryEpilogue epilogueOf(const Command &command, bool hasBias, bool hasAux, bool direct) {
  switch (command.epilogue) {
  case Epilogue::Gelu:
    if (hasAux)
      return hasBias ? LibraryEpilogue::GeluAuxBias : LibraryEpilogue::GeluAux;
    return hasBias ? LibraryEpilogue::GeluBias : LibraryEpilogue::Gelu;
  case Epilogue::GeluGrad:
    return command.biasGradient == BiasGradient::OutColumns ? LibraryEpilogue::GeluGradBiasGradient : LibraryEpilogue::GeluGrad;
  case Epilogue::None:
    break;
  }
  if (hasBias)
    return LibraryEpilogue::Bias;
  if (command.biasGradient == BiasGradient::None)
    return LibraryEpilogue::None;
  return (command.biasGradient == BiasGradient::LhsRows) == direct ? LibraryEpilogue::BiasGradientA : LibraryEpilogue::BiasGradientB;
}

} // namespace

bool hasAddend(const Command &command) { return command.buffers.size() > size_t(kAddendBuffer) && command.buffers[kAddendBuffer] >= 0; }

int64_t MatmulMapping::calls() const {
  int64_t count = 1;
  for (const Loop &loop : loops)
    count *= loop.size;
  return count;
}

Result<MatmulMapping> mapMatmul(const Command &command) {
  const MatmulOperand &lhsOperand = command.lhs, &rhsOperand = command.rhs, &outOperand = command.out;
  const bool hasBias = !command.bias.shape.empty(), hasAux = !command.aux.shape.empty();
  if (!wellFormed(lhsOperand) || !wellFormed(rhsOperand) || !wellFormed(outOperand) || (hasAux && !wellFormed(command.aux)))
    return inputError("an operand has fewer than two axes, an empty one or a negative stride");
  if (lhsOperand.type != rhsOperand.type || !supportsTypes(lhsOperand.type, outOperand.type))
    return inputError("no product of ", nameOf(lhsOperand.type), " and ", nameOf(rhsOperand.type), " into ", nameOf(outOperand.type));
  if (lhsOperand.shape.size() > outOperand.shape.size() || rhsOperand.shape.size() > outOperand.shape.size())
    return inputError("an operand has more axes than out");
  ZOPT_RETURN_IF_FAILED(checkEpilogue(command, hasBias, hasAux));
  if (hasBias)
    ZOPT_RETURN_IF_FAILED(checkBias(command));
  if (hasAux && (command.aux.shape != outOperand.shape || command.aux.type != outOperand.type))
    return inputError("aux has not out's shape and type");

  Matrix lhs = matrixOf(lhsOperand), rhs = matrixOf(rhsOperand), out = matrixOf(outOperand), aux;
  if (hasAux)
    aux = matrixOf(command.aux);
  if (lhs.columns != rhs.rows || lhs.rows != out.rows || rhs.columns != out.columns)
    return inputError(shapeText(lhsOperand.shape), " x ", shapeText(rhsOperand.shape), " is not ", shapeText(outOperand.shape));

  std::vector<BatchAxis> axes;
  for (size_t i = 0; i + 2 < outOperand.shape.size(); ++i) {
    BatchAxis axis;
    axis.size = outOperand.shape[i];
    axis.out = outOperand.strides[i];
    if (!batchStride(lhsOperand, outOperand, i, axis.lhs) || !batchStride(rhsOperand, outOperand, i, axis.rhs) || (hasAux && !batchStride(command.aux, outOperand, i, axis.aux)))
      return inputError("the batches of ", shapeText(lhsOperand.shape), " x ", shapeText(rhsOperand.shape), " do not broadcast to ", shapeText(outOperand.shape));
    if (axis.size == 1)
      continue;
    if (axis.out == 0)
      return inputError("out has stride 0");
    axes.push_back(axis);
  }
  foldIntoRows(axes, lhs, out, hasAux ? &aux : nullptr);
  // A bias, and sums of rhs or out, have an element a column: those must stay columns.
  if (!hasBias && !hasAux && command.biasGradient == BiasGradient::None)
    foldIntoColumns(axes, rhs, out);
  collapse(axes);

  bool lhsRowMajor = false, rhsRowMajor = false, outRowMajor = false, auxRowMajor = false;
  int64_t lhsPitch = 0, rhsPitch = 0, outPitch = 0, auxPitch = 0;
  if (!lhs.layout(lhsRowMajor, lhsPitch))
    return inputError("lhs has no unit stride on its rows or columns");
  if (!rhs.layout(rhsRowMajor, rhsPitch))
    return inputError("rhs has no unit stride on its rows or columns");
  if (!out.layout(outRowMajor, outPitch))
    return inputError("out has no unit stride on its rows or columns");
  if (hasAux) {
    if (!aux.layout(auxRowMajor, auxPitch) || auxRowMajor != outRowMajor)
      return inputError("aux has not out's orientation");
    if (auxPitch % 8 != 0)
      return inputError("the pitch of aux, ", auxPitch, ", is not a multiple of 8");
  }
  const bool direct = !outRowMajor;
  if (direct && (hasBias || command.biasGradient == BiasGradient::OutColumns))
    return inputError("a bias or its gradient needs unit stride on out's columns");
  if (command.biasGradient != BiasGradient::None && !axes.empty())
    return inputError("a bias gradient of a batch of products");

  MatmulMapping mapping;
  mapping.direct = direct;
  mapping.epilogue = epilogueOf(command, hasBias, hasAux, direct);
  mapping.k = lhs.columns;
  mapping.m = direct ? out.rows : out.columns;
  mapping.n = direct ? out.columns : out.rows;
  LibraryMatrix storedLhs = stored(lhs, lhsOperand.type, lhsRowMajor, lhsPitch), storedRhs = stored(rhs, rhsOperand.type, rhsRowMajor, rhsPitch);
  mapping.a = direct ? storedLhs : storedRhs;
  mapping.b = direct ? storedRhs : storedLhs;
  mapping.d = stored(out, outOperand.type, outRowMajor, outPitch);
  if (hasAux)
    mapping.aux = stored(aux, command.aux.type, auxRowMajor, auxPitch);
  mapping.transposeA = direct ? lhsRowMajor : !rhsRowMajor;
  mapping.transposeB = direct ? rhsRowMajor : !lhsRowMajor;

  if (!axes.empty()) {
    size_t widest = 0;
    for (size_t i = 1; i < axes.size(); ++i)
      if (axes[i].size >= axes[widest].size)
        widest = i;
    for (size_t i = 0; i < axes.size(); ++i) {
      const BatchAxis &axis = axes[i];
      MatmulMapping::Loop loop{axis.size, direct ? axis.lhs : axis.rhs, direct ? axis.rhs : axis.lhs, axis.out, axis.aux};
      if (i != widest) {
        mapping.loops.push_back(loop);
        continue;
      }
      mapping.batch = loop.size;
      mapping.a.batchStride = loop.a;
      mapping.b.batchStride = loop.b;
      mapping.d.batchStride = loop.d;
      mapping.aux.batchStride = loop.aux;
    }
  }
  return mapping;
}

bool supportsMatmul(const Command &command) { return !mapMatmul(command).failed(); }

int64_t matmulScratchBytes(const Command &) { return (int64_t(32) << 20) + kWorkspaceAlignment; }

} // namespace zopt::runtime::cuda
