//===- TrainDialect.td - the training graph ------------------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Include order: TrainDialect.td <- TrainAttributes.td, TrainInterfaces.td <- TrainOps.td.

#ifndef ZOPT_DIALECT_TRAIN_DIALECT_TD
#define ZOPT_DIALECT_TRAIN_DIALECT_TD

include "mlir/IR/OpBase.td"

def Train_Dialect : Dialect {
  let name = "train";
  let cppNamespace = "::zopt::train";
  let summary = "A training step as a graph of tensors with value semantics";
  let description = [{
    `train` holds a model's forward graph as it was imported and, after the training passes, the whole optimizer step on
    one logical device: forward, loss, backward, accumulation, clipping and update.

    A module has *states* (`train.state`: parameters, buffers, optimizer state, scalars) and functions over them. Compute ops
    are pure functions of static, ranked tensors. Elementwise ops broadcast as NumPy does. The value of an element is defined
    by the op's result type: arithmetic inside one op is fp32 (f64 where an operand is f64), the result is rounded once to
    its type, and nothing is contracted or reassociated across ops.

    Two levels use this dialect:

    - **forward** (`train.level = "forward"`): one `func.func @forward` from the model's inputs to its outputs.
    - **step** (`train.level = "step"`): `@micro_step` (forward, loss, backward, accumulate) and `@apply_step` (norm, clip,
      finite check, update).
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 0;
}

#endif // ZOPT_DIALECT_TRAIN_DIALECT_TD
