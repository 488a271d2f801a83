//===- TrainAttributes.td - attributes of the training graph -*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_ATTRIBUTES_TD
#define ZOPT_DIALECT_TRAIN_ATTRIBUTES_TD

include "zopt/Dialect/Train/TrainDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class Train_Attr<string name, string attrMnemonic> : AttrDef<Train_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Train_Role : I32EnumAttr<"Role", "what a state is to the training step; placement goes by it", [
    I32EnumAttrCase<"parameter", 0>,
    I32EnumAttrCase<"buffer", 1>,
    I32EnumAttrCase<"optimizer", 2>,
    I32EnumAttrCase<"gradient", 3>,
    I32EnumAttrCase<"scalar", 4>]> {
  let cppNamespace = "::zopt::train";
  let genSpecializedAttr = 0;
}
def Train_RoleAttr : EnumAttr<Train_Dialect, Train_Role, "role"> {
  let assemblyFormat = "`<` $value `>`";
}

def Train_ComparePredicate : I32EnumAttr<"ComparePredicate", "elementwise comparison", [
    I32EnumAttrCase<"eq", 0>, I32EnumAttrCase<"ne", 1>, I32EnumAttrCase<"lt", 2>,
    I32EnumAttrCase<"le", 3>, I32EnumAttrCase<"gt", 4>, I32EnumAttrCase<"ge", 5>]> {
  let cppNamespace = "::zopt::train";
}

def Train_GeluApproximation : I32EnumAttr<"GeluApproximation", "form of GELU", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"tanh", 1>]> {
  let cppNamespace = "::zopt::train";
}

def Train_MatmulEpilogue : I32EnumAttr<"MatmulEpilogue", "what is done to a product in one op with it", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"gelu", 1>, I32EnumAttrCase<"gelu_grad", 2>]> {
  let cppNamespace = "::zopt::train";
}

def Train_BiasGradient : I32EnumAttr<"BiasGradient", "a sum that is made beside a product", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"lhs_rows", 1>, I32EnumAttrCase<"rhs_columns", 2>, I32EnumAttrCase<"out_columns", 3>]> {
  let cppNamespace = "::zopt::train";
}

def Train_ScatterReduction : I32EnumAttr<"ScatterReduction", "how an update meets what is there", [
    I32EnumAttrCase<"none", 0>, I32EnumAttrCase<"add", 1>, I32EnumAttrCase<"mul", 2>, I32EnumAttrCase<"max", 3>, I32EnumAttrCase<"min", 4>]> {
  let cppNamespace = "::zopt::train";
}

def Train_WeightAttr : Train_Attr<"Weight", "weight"> {
  let summary = "the bytes of a tensor in a weight file";
  let description = [{
    `#train.weight<@file, offset, bytes, f32>`: `bytes` bytes at `offset` of the `train.weight_file` named, little-endian, row-major, of the given
    element type. Weights are never literals: a plan references their bytes.
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$file, "int64_t":$offset, "int64_t":$bytes, "::mlir::Type":$elementType);
  let assemblyFormat = "`<` $file `,` $offset `,` $bytes `,` $elementType `>`";
}

#endif // ZOPT_DIALECT_TRAIN_ATTRIBUTES_TD
