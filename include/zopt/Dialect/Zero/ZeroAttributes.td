//===- ZeroAttributes.td - attributes and types of zero ------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_ZERO_ATTRIBUTES_TD
#define ZOPT_DIALECT_ZERO_ATTRIBUTES_TD

include "zopt/Dialect/Zero/ZeroDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Zero_Placement : I32EnumAttr<"Placement", "where a state lives over the ranks of a group", [
    I32EnumAttrCase<"replicated", 0>, I32EnumAttrCase<"sharded", 1>]> {
  let cppNamespace = "::zopt::zero";
}

def Zero_SegmentAttr : AttrDef<Zero_Dialect, "Segment"> {
  let mnemonic = "segment";
  let summary = "a parameter's place in its bucket";
  let description = [{
    `#zero.segment<@w, 0, 65536>`: the state named, at `offset` elements, `elements` long. Offsets are multiples of 128; a segment's group of hyper-parameters is the decay of its train.state.
    `#zero.segment<@w, 0, 38597376, reserved 36096>`: that many elements behind it are zeros in parameters and gradients, so that a library may take the matrix for one with more rows.
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$parameter, "int64_t":$offset, "int64_t":$elements, DefaultValuedParameter<"int64_t", "0">:$reserved);
  let assemblyFormat = "`<` $parameter `,` $offset `,` $elements (`,` `reserved` $reserved^)? `>`";
  let builders = [AttrBuilder<(ins "::mlir::FlatSymbolRefAttr":$parameter, "int64_t":$offset, "int64_t":$elements), [{ return $_get($_ctxt, parameter, offset, elements, 0); }]>];
  let extraClassDeclaration = [{
    /// Behind the last element that belongs to the segment.
    int64_t getEnd() const { return getOffset() + getElements() + getReserved(); }
  }];
}
def Zero_SegmentArrayAttr : TypedArrayAttrBase<Zero_SegmentAttr, "array of segments">;

def Zero_ResidualDecision : I32EnumAttr<"ResidualDecision", "what becomes of a value between forward and backward", [
    I32EnumAttrCase<"keep", 0>]> {
  let cppNamespace = "::zopt::zero";
}

def Zero_GatheredType : TypeDef<Zero_Dialect, "Gathered"> {
  let mnemonic = "gathered";
  let summary = "a bucket of parameters, gathered on every rank";
  let assemblyFormat = "";
}

#endif // ZOPT_DIALECT_ZERO_ATTRIBUTES_TD
