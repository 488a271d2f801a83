//===- TrainIndexingOps.td - scattering and selection --------*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by TrainOps.td.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_INDEXING_OPS_TD
#define ZOPT_DIALECT_TRAIN_INDEXING_OPS_TD

def Train_ScatterOp : Train_Op<"scatter", [Pure, Differentiable, AllTypesMatch<["data", "result"]>]> {
  let summary = "data with rows replaced by, or combined with, updates";
  let description = [{
    For each position p in order: row indices[p] of the result becomes update p (`none`: so the last one wins), or its sum, product, maximum or minimum with update p. Rows lie along axis 0. Floats combine in
    fp32 (f64 for f64), rounded once; a NaN stays one. Negative indices count from the end; what is still out of range is clamped to the nearest row, as `gather` does it.
    Gradients of max and min are shared evenly among ties, the data's own element included.

    ```mlir
    %1 = train.scatter add %data, %indices, %updates : tensor<5x3xf32>, tensor<4xi64>, tensor<4x3xf32>
    ```

    Constraints:
    - (C1) data has at least one axis, and at least one row where there are indices; indices are a vector.
    - (C2) updates have the data's element type and the shape [indices] + data's without axis 0.
    - (C3) i1 has no reduction but `none`.
  }];
  let arguments = (ins Train_ScatterReduction:$reduction, Train_Tensor:$data, Train_IntTensor:$indices, Train_Tensor:$updates);
  let results = (outs Train_Tensor:$result);
  let assemblyFormat = "$reduction $data `,` $indices `,` $updates attr-dict `:` type($data) `,` type($indices) `,` type($updates)";
  let hasVerifier = 1;
}

def Train_TopKOp : Train_Op<"top_k", [Pure, Differentiable]> {
  let summary = "the k largest (`smallest`: smallest) elements of the last axis, in order, and their places";
  let description = [{
    k is the results' last axis; with all of them this is a stable sort. Equal elements are ordered by place; a NaN is larger than every number, as in PyTorch. Rows of up to 512 are sorted by
    counting, n^2 comparisons; longer ones in chunks of 256 whose first k are merged, of the order of n (256 + log k) where k is small, n log^2 n where it is n. Only values have a gradient.
    (C1) the results agree in shape: the input's, but for a last axis of 1 to n; (C2) values have the input's element type, indices are i64; (C3) n is at most 2^24.
  }];
  let arguments = (ins Train_Tensor:$input, UnitAttr:$smallest);
  let results = (outs Train_Tensor:$values, Train_IntTensor:$indices);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($values) `,` type($indices)";
  let hasVerifier = 1;
}

#endif // ZOPT_DIALECT_TRAIN_INDEXING_OPS_TD
