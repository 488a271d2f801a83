// RUN: zopt %s --split-input-file --verify-diagnostics --pass-pipeline="builtin.module(zopt-convert-zero-to-plan{world-size=1 target=cuda})" | FileCheck %s

// An element counts those of its row that come before it, with the threads of its group.
// CHECK-LABEL: plan.kernel @top_k_0
// CHECK: arith.cmpf ogt
// CHECK: scf.if
// CHECK: memref.store
module attributes {train.level = "forward", train.mode = "forward", train.micro_batch = 1 : i64, train.world_size = 1 : i64, train.accum_steps = 1 : i64} {
  func.func @forward(%x: tensor<5x48xf32> {train.name = "x"}) -> (tensor<5x3xf32> {train.name = "values"}, tensor<5x3xi64> {train.name = "indices"}) {
    %0, %1 = train.top_k %x : tensor<5x48xf32> -> tensor<5x3xf32>, tensor<5x3xi64>
    return %0, %1 : tensor<5x3xf32>, tensor<5x3xi64>
  }
}

// -----

// A long row is sorted in chunks of 256, each of which keeps its first k; runs are merged until one is left, which is the result.
// CHECK-LABEL: plan.sequence @forward
// CHECK-NEXT: plan.launch @top_k_chunks_0 [@x.value, @[[A:.*]]] offsets
// CHECK-NEXT: plan.launch @top_k_merge_1 [@x.value, @[[A]], @[[B:.*]]] offsets
// CHECK-NEXT: plan.launch @top_k_merge_2 [@x.value, @[[B]], @values.value, @indices.value] offsets
// CHECK-NEXT: }
module attributes {train.level = "forward", train.mode = "forward", train.micro_batch = 1 : i64, train.world_size = 1 : i64, train.accum_steps = 1 : i64} {
  func.func @forward(%x: tensor<5x900xf32> {train.name = "x"}) -> (tensor<5x3xf32> {train.name = "values"}, tensor<5x3xi64> {train.name = "indices"}) {
    %0, %1 = train.top_k %x : tensor<5x900xf32> -> tensor<5x3xf32>, tensor<5x3xi64>
    return %0, %1 : tensor<5x3xf32>, tensor<5x3xi64>
  }
}

// -----

// Positions are sorted by row with atomics of integers alone; each row then combines its own in order.
// CHECK-LABEL: plan.kernel @sort_indices_clear_0
// CHECK: plan.kernel @sort_indices_rank_
// CHECK-LABEL: plan.kernel @scatter_
// CHECK-NOT: atomic
// CHECK: scf.for
// CHECK: arith.maximumf
// CHECK: vector.store
module attributes {train.level = "forward", train.mode = "forward", train.micro_batch = 1 : i64, train.world_size = 1 : i64, train.accum_steps = 1 : i64} {
  func.func @forward(%x: tensor<5x4xf32> {train.name = "x"}, %i: tensor<5xi64> {train.name = "i"}) -> (tensor<5x4xf32> {train.name = "y"}) {
    %0 = train.scatter max %x, %i, %x : tensor<5x4xf32>, tensor<5xi64>, tensor<5x4xf32>
    return %0 : tensor<5x4xf32>
  }
}
