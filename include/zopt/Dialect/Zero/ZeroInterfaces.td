//===- ZeroInterfaces.td - interfaces of zero ----------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_ZERO_INTERFACES_TD
#define ZOPT_DIALECT_ZERO_INTERFACES_TD

include "mlir/IR/OpBase.td"

def Zero_CollectiveOpInterface : OpInterface<"CollectiveOpInterface"> {
  let cppNamespace = "::zopt::zero";
  let description = [{An op in which all ranks of a group take part, in program order. Scheduling, reports and checks use this interface, never a list of ops.}];
  let methods = [
    InterfaceMethod<"The bucket that is communicated, null for scalars.", "::mlir::FlatSymbolRefAttr", "getCollectiveBucket">,
  ];
}

#endif // ZOPT_DIALECT_ZERO_INTERFACES_TD
