// RUN: zopt %s --pass-pipeline="builtin.module(zopt-convert-zero-to-plan{world-size=1 threads=1 target=cpu})" | FileCheck %s

// Rows: 16 partial sums, combined by halves. Columns: one iteration sums up to 128 neighbouring columns over all rows, in registers.

// CHECK-LABEL: plan.kernel @reduce_sum_0
// CHECK-SAME: (%[[X:.*]]: memref<5x48xf32>, %[[R:.*]]: memref<5xf32>,
// CHECK: scf.for %[[ROW:.*]] =
// CHECK: %[[SUMS:.*]] = scf.for %[[I:.*]] = %c0 to %c48 step %c16 iter_args(%[[CARRIED:.*]] = %{{.*}}) -> (vector<16xf32>)
// CHECK: %[[BLOCK:.*]] = vector.load %[[X]][%[[ROW]], %[[I]]]
// CHECK: arith.addf %[[CARRIED]], %[[BLOCK]] : vector<16xf32>
// CHECK: vector.shuffle %[[SUMS]], %[[SUMS]] [0, 1, 2, 3, 4, 5, 6, 7]
// CHECK: vector.shuffle %[[SUMS]], %[[SUMS]] [8, 9, 10, 11, 12, 13, 14, 15]
// CHECK: arith.addf {{.*}} : vector<8xf32>
// CHECK: arith.addf {{.*}} : vector<4xf32>
// CHECK: arith.addf {{.*}} : vector<2xf32>
// CHECK: arith.addf {{.*}} : vector<1xf32>
// CHECK: memref.store %{{.*}}, %[[R]][%[[ROW]]]

// CHECK-LABEL: plan.kernel @reduce_sum_1
// CHECK-SAME: (%[[X:.*]]: memref<5x48xf32>, %[[R:.*]]: memref<48xf32>,
// CHECK: scf.for %{{.*}} = %c0 to %c5 step %c1 iter_args({{.*}}) -> (vector<16xf32>, vector<16xf32>, vector<16xf32>)
// CHECK-COUNT-3: vector.store %{{.*}}, %[[R]]
module attributes {train.level = "forward", train.mode = "forward", train.micro_batch = 1 : i64, train.world_size = 1 : i64, train.accum_steps = 1 : i64} {
  func.func @forward(%x: tensor<5x48xf32> {train.name = "x"}) -> (tensor<5xf32> {train.name = "rows"}, tensor<48xf32> {train.name = "columns"}) {
    %0 = train.reduce_sum %x [1] : tensor<5x48xf32> -> tensor<5xf32>
    %1 = train.reduce_sum %x [0] : tensor<5x48xf32> -> tensor<48xf32>
    return %0, %1 : tensor<5xf32>, tensor<48xf32>
  }
}
