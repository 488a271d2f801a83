//===- PlanAttributes.td - attributes of plan ----------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_PLAN_ATTRIBUTES_TD
#define ZOPT_DIALECT_PLAN_ATTRIBUTES_TD

include "zopt/Dialect/Plan/PlanDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Plan_Tier : I32EnumAttr<"Tier", "kind of memory", [
    I32EnumAttrCase<"device", 0>, I32EnumAttrCase<"host", 1>, I32EnumAttrCase<"file", 2>]> {
  let cppNamespace = "::zopt::plan";
}

def Plan_MemoryClass : I32EnumAttr<"MemoryClass", "what bytes are for, in reports", [
    I32EnumAttrCase<"parameters", 0>, I32EnumAttrCase<"gradients", 1>, I32EnumAttrCase<"optimizer", 2>,
    I32EnumAttrCase<"gathered", 3>, I32EnumAttrCase<"activations", 4>, I32EnumAttrCase<"workspace", 5>,
    I32EnumAttrCase<"communication", 6>, I32EnumAttrCase<"inputs", 7>, I32EnumAttrCase<"buffers", 8>]> {
  let cppNamespace = "::zopt::plan";
}

def Plan_InputKind : I32EnumAttr<"InputKind", "what the data gives", [
    I32EnumAttrCase<"input", 0>, I32EnumAttrCase<"label", 1>]> {
  let cppNamespace = "::zopt::plan";
}

def Plan_MatmulOperandAttr : AttrDef<Plan_Dialect, "MatmulOperand"> {
  let mnemonic = "operand";
  let summary = "how a matrix product reads or writes a buffer";
  let description = [{
    `#plan.operand<bf16, [8, 4, 128, 32], [49152, 32, 384, 1]>`: element type, logical sizes (batch..., rows, columns; size 1 broadcasts), strides in elements; the buffer's first
    byte is element 0. A transposed matrix has swapped strides.
  }];
  let parameters = (ins "::mlir::Type":$elementType, "::mlir::DenseI64ArrayAttr":$shape, "::mlir::DenseI64ArrayAttr":$strides);
  let assemblyFormat = "`<` $elementType `,` $shape `,` $strides `>`";
}

def Plan_Epilogue : I32EnumAttr<"Epilogue", "what the library does to a product before it stores it", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"gelu", 1>, I32EnumAttrCase<"gelu_grad", 2>]> {
  let cppNamespace = "::zopt::plan";
}

def Plan_BiasGradient : I32EnumAttr<"BiasGradient", "a sum that the library makes beside a product", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"lhs_rows", 1>, I32EnumAttrCase<"rhs_columns", 2>, I32EnumAttrCase<"out_columns", 3>]> {
  let cppNamespace = "::zopt::plan";
}

#endif // ZOPT_DIALECT_PLAN_ATTRIBUTES_TD
