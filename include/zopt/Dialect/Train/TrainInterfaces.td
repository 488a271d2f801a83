//===- TrainInterfaces.td - interfaces of the training graph -*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_INTERFACES_TD
#define ZOPT_DIALECT_TRAIN_INTERFACES_TD

include "mlir/IR/OpBase.td"

def Train_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::zopt::train";
  let description = [{
    A reverse-mode derivative as IR. `zopt-autodiff` walks the forward ops backwards and asks each active one for the cotangents of its
    operands. Ops without this interface have no gradient; a path of active values through one is an error that names it.
  }];
  let methods = [
    InterfaceMethod<[{Whether a cotangent can flow to operand `index` (indices, masks and labels: false).}],
      "bool", "isDifferentiable", (ins "unsigned":$index), "", "return ::llvm::isa<::mlir::FloatType>(::mlir::getElementTypeOrSelf($_op->getOperand(index).getType()));">,
    InterfaceMethod<[{
      Builds the vector-Jacobian product. `cotangents` has one entry a result (null: no cotangent flows in), `needed` one flag an operand. Returns one value an
      operand, null where not needed or where the derivative is zero everywhere; each has its operand's shape and element type. May read operands and results of the
      forward op: what it reads is a residual. An empty vector: an error was emitted.
    }], "::llvm::SmallVector<::mlir::Value>", "buildVJP",
      (ins "::mlir::OpBuilder &":$builder, "::llvm::ArrayRef<::mlir::Value>":$cotangents, "::llvm::ArrayRef<bool>":$needed)>,
    InterfaceMethod<[{
      The sets of values that the VJP can be computed from, best first; the solver of residual decisions chooses among them.
      Each entry indexes operands (>= 0) or results (-1 - index).
    }], "::llvm::SmallVector<::llvm::SmallVector<int>>", "getResidualAlternatives", (ins), "", "return {};">,
  ];
}

def Train_CostOpInterface : OpInterface<"CostOpInterface"> {
  let cppNamespace = "::zopt::train";
  let description = [{What an op costs, for scheduling and reports.}];
  let methods = [
    InterfaceMethod<"Floating-point operations of one execution.", "int64_t", "getFlops">,
  ];
}

#endif // ZOPT_DIALECT_TRAIN_INTERFACES_TD
