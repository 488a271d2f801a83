// RUN: zopt %s --zopt-specialize="world-size=4" -split-input-file | FileCheck %s

// Micro-batch and accumulation are given: the global batch follows.
// CHECK: train.accum_steps = 3 : i64, train.global_batch = 24 : i64, train.micro_batch = 2 : i64, train.world_size = 4 : i64
module attributes {train.micro_batch = 2 : i64, train.accum_steps = 3 : i64} {
  // CHECK-LABEL: func.func @micro_step
  func.func @micro_step() -> (tensor<f32>, tensor<f64>) {
    // CHECK: train.constant dense<4.000000e+00> : tensor<f32>
    %world = zero.world_size : tensor<f32>
    // CHECK: train.constant dense<3.000000e+00> : tensor<f64>
    %steps = zero.accum_steps : tensor<f64>
    // CHECK-NOT: zero.
    return %world, %steps : tensor<f32>, tensor<f64>
  }
}

// -----

// The global batch is given: accumulation follows.
// CHECK: train.accum_steps = 6 : i64, train.global_batch = 48 : i64, train.micro_batch = 2 : i64, train.world_size = 4 : i64
module attributes {train.micro_batch = 2 : i64, train.global_batch = 48 : i64} {
}

// -----

// Nothing is given but the micro-batch.
// CHECK: train.accum_steps = 1 : i64, train.global_batch = 8 : i64
module attributes {train.micro_batch = 2 : i64} {
}
